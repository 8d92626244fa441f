"""``python -m training.larger STAGE``: see :mod:`training.larger`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from training.larger.bundle import keep_all, write_bundle
from training.larger.coder import train_decoder, train_encoder
from training.larger.hearing import train_hearing
from training.larger.locator import train_locator
from training.larger.pictures import draw
from training.larger.student import fill_pool, train_student

STAGES = {
    "decoder": train_decoder,
    "encoder": train_encoder,
    "locator": train_locator,
    "hearing": train_hearing,
    "pool": fill_pool,
    "student": train_student,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m training.larger", description="The demo model at 256×256.")
    parser.add_argument("stage", choices=("draw", *STAGES, "keep", "bundle"))
    parser.add_argument("--folder", type=Path, default=Path("runs/larger"), help="has the model for 128×128 in base/")
    parser.add_argument("--clips", type=int, default=1800, help="people to draw; 24 unseen ones besides")
    parser.add_argument("--minutes", type=float, default=150.0, help="of a stage that trains, in all sittings together")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    if given.stage == "draw":
        draw(given.folder, "unseen", "test", range(5_000, 5_024))
        draw(given.folder, "train", "train", range(500_000, 500_000 + given.clips))
    elif given.stage == "keep":
        keep_all(given.folder)
    elif given.stage == "bundle":
        write_bundle(given.folder)
    else:
        STAGES[given.stage](given.folder, 60 * given.minutes)


if __name__ == "__main__":
    main()
