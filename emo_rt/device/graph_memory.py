"""Device memory of one graph."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphMemory:
    """Device memory of one graph, in bytes."""

    weights: int
    """From opening on."""
    running: int
    """From the first runs on, besides its inputs and outputs."""
