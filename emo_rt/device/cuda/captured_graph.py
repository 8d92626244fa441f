"""Captured work that is launched as a whole."""

from __future__ import annotations

from typing import Any


class CapturedGraph:
    """An executable CUDA graph. It refers to memory that it does not own: whoever made it keeps that alive."""

    def __init__(self, inner: Any) -> None:
        self.inner: Any = inner

    def close(self) -> None:
        """Give the graph back. It must not be running. Safe twice."""
        inner, self.inner = self.inner, None
        if inner is not None:
            inner.close()
