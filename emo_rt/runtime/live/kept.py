"""Finished latents that a later clip may continue, at any frame of them."""

from __future__ import annotations

import weakref
from typing import NamedTuple

from emo_rt.device.base import Backend
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.model.contract import TensorSpec

NAME = "kept_latents"


class Kept:
    """Latents of one clip, (F, 4, S, S). Dropping it gives its place to another clip."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer


class Latent(NamedTuple):
    """One frame's latents."""

    kept: Kept
    """Its clip."""
    row: int
    """Number of the frame in the clip."""

    @property
    def buffer(self) -> Buffer:
        """(4, S, S)."""
        return self.kept.buffer.row(self.row)


class KeptLatents:
    """Owns the places. One is used again once nobody holds its :class:`Kept`. Made on demand, closed by the owner."""

    def __init__(self, backend: Backend, shape: tuple[int, ...]) -> None:
        """``shape``: (F, 4, S, S) of a clip's latents."""
        self._backend, self._spec = backend, TensorSpec(NAME, "float32", shape)
        self._places = list[tuple[Buffers, weakref.ref[Kept]]]()

    @property
    def nbytes(self) -> int:
        """Memory of all places."""
        return len(self._places) * self._spec.nbytes

    @property
    def place_nbytes(self) -> int:
        """Memory of one place."""
        return self._spec.nbytes

    def take(self) -> Kept:
        """A place for another clip."""
        for index, (buffers, user) in enumerate(self._places):
            if user() is None:
                kept = Kept(buffers[NAME])
                self._places[index] = buffers, weakref.ref(kept)
                return kept
        buffers = Buffers(self._backend, [self._spec])
        kept = Kept(buffers[NAME])
        self._places.append((buffers, weakref.ref(kept)))
        return kept

    def close(self) -> None:
        """Give all places back. Safe twice."""
        for buffers, _ in self._places:
            buffers.close()
        self._places.clear()
