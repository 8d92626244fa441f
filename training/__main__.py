"""``python -m training STAGE``: the stages in order are vae, polish, hearing, encode, image, video, speed, bundle.

Every stage goes on where it stopped, reads what the stages before it left in the folder, and ends by itself.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Job:
    """What the command line asked for."""

    stage: str
    """A key of :data:`STAGES`."""
    folder: Path
    """Everything of one training: corpus, encoded corpus, checkpoints, journals."""
    device: str
    """cpu or cuda."""
    budget_s: float
    """Seconds after which a stage stops until it is started again."""


def _vae(job: Job) -> None:
    from training.stages import train_vae

    train_vae(job.folder, job.device, job.budget_s)


def _polish(job: Job) -> None:
    from training.stages import train_polish

    train_polish(job.folder, job.device, job.budget_s)


def _hearing(job: Job) -> None:
    from training.stages import train_hearing

    train_hearing(job.folder, job.device, job.budget_s)


def _encode(job: Job) -> None:
    from training.encoded import encode_corpus

    encode_corpus(job.folder, job.device)


def _diffusion(job: Job) -> None:
    from training.stages import train_diffusion

    train_diffusion(job.stage, job.folder, job.device, job.budget_s)


def _bundle(job: Job) -> None:
    from training.bundle import write_bundle

    write_bundle(job.folder)


STAGES: dict[str, Callable[[Job], None]] = {
    "vae": _vae,
    "polish": _polish,
    "hearing": _hearing,
    "encode": _encode,
    "image": _diffusion,
    "video": _diffusion,
    "speed": _diffusion,
    "bundle": _bundle,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--folder", type=Path, default=Path("runs/demo"))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long; start again to go on")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    STAGES[given.stage](Job(given.stage, given.folder, given.device, 60 * given.minutes))


if __name__ == "__main__":
    main()
