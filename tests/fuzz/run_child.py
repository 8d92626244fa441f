"""The process that libFuzzer runs in: ``python -m tests.fuzz.run_child LOADER libFuzzer's options``."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import atheris

INSTRUMENTED = ["emo_rt", "PIL"]
CHECK_EVERY = 1_000
"""Inputs after which descriptors are counted."""

with atheris.instrument_imports(include=INSTRUMENTED):
    from tests.fuzz.loaders import LOADERS


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0


def main() -> None:
    loader, *options = sys.argv[1:]
    chosen = LOADERS[loader]
    warnings.simplefilter("error")
    corpus = Path(options[-1])
    for number, seed in enumerate(chosen.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
        chosen(seed)
    state = {"runs": 0, "open": descriptors()}

    def one_input(data: bytes) -> None:
        chosen(data)
        state["runs"] += 1
        if state["runs"] % CHECK_EVERY == 0:
            assert descriptors() <= state["open"] + 2, "descriptors stay open"

    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
