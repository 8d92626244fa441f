"""What the CPU can do."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path

BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
"""Linux's names of instructions that multiply in bfloat16."""


@lru_cache(maxsize=1)
def features() -> frozenset[str]:
    """Instruction sets of the first core, by Linux's names; none are known on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    words = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return frozenset(words.split())


def bfloat16_problem() -> str | None:
    """Why graphs cannot be computed in bfloat16; quick, loads nothing."""
    if not features() & BFLOAT16:
        return "this processor is not known to compute in bfloat16"
    return openvino_problem()


def openvino_problem() -> str | None:
    """Why OpenVINO cannot be used; quick, loads nothing."""
    try:
        is_there = importlib.util.find_spec("openvino") is not None
    except ValueError:  # it was imported by other means
        is_there = False
    return None if is_there else "OpenVINO is not installed"
