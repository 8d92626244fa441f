"""Ranges for NVIDIA's profilers."""

from __future__ import annotations

import functools
import importlib
from contextlib import AbstractContextManager, nullcontext
from typing import Any


def marked(name: str) -> AbstractContextManager[object]:
    """A range of that name in NVIDIA's profilers where the package ``nvtx`` is installed; nothing elsewhere."""
    annotate = _nvtx_annotate()
    return nullcontext() if annotate is None else annotate(name, domain="emo_rt")


@functools.cache
def _nvtx_annotate() -> Any:
    try:
        return importlib.import_module("nvtx").annotate
    except ImportError:
        return None
