"""``python -m training STAGE``, in order: vae, hearing, encode, image, video, speed, joint, bundle.

Every stage goes on where it stopped, reads what the stages before it left in the folder, and ends by itself. ``unpack``
puts the weights of the package's model where ``vae``, ``hearing`` and ``speed`` leave theirs, to train on from there.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from training import stages
from training.bundle import unpack_bundle, write_bundle
from training.encoded import encode_corpus

Work = Callable[[Path, str, float], object]
"""Folder of the training, device, seconds after which a stage stops until it is started again."""

STAGES: dict[str, Work] = {
    "vae": stages.train_vae,
    "hearing": stages.train_hearing,
    "encode": lambda folder, device, _: encode_corpus(folder, device),
    **{name: partial(stages.train_diffusion, name) for name in stages.DIFFUSION},
    "bundle": lambda folder, *_: write_bundle(folder),
    "unpack": lambda folder, *_: unpack_bundle(folder),
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
    STAGES[given.stage](given.folder, given.device, 60 * given.minutes)


if __name__ == "__main__":
    main()
