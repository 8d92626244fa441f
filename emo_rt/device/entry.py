"""What the registry knows of a backend before it is opened."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from emo_rt.device.base import Backend
from emo_rt.model.bundle import Bundle


class BackendEntry(Protocol):
    """One backend on one device. A module, a class or an object with these four names will do.

    A package of its own offers one by an entry point of the group ``emo_rt.backends``, whose name is ``NAME``.
    """

    @property
    def NAME(self) -> str:
        """As :meth:`emo_rt.Animator.load` names it."""

    @property
    def DEVICE(self) -> str:
        """``cpu`` or ``cuda``."""

    def auto(self, bundle: Bundle | None) -> str | None:
        """Why ``auto`` should not take it for this bundle; ``None`` if it should try. Quick: nothing is opened."""

    def open(self, threads: int | None) -> Backend:
        """Open it. ``threads``: of the CPU per graph, ``None`` = one per core. Raises :class:`BackendError`."""


@runtime_checkable
class PlacedEntry(BackendEntry, Protocol):
    """One that runs on whichever of several GPUs. One without :meth:`on` runs on the first only."""

    def on(self, index: int) -> BackendEntry:
        """The same backend on the GPU with that number."""
