"""How far a build is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from emo_rt.device.tensorrt.package import TensorRT

Progress = Callable[[int, int], None]
"""Steps done (from 1) and steps in all."""

STEPS = 1000
"""Steps in which progress is reported. TensorRT itself reports phases within phases, each with its own steps."""


class BuildProgress:
    """The share of a build that is done, from TensorRT's nested phases. It never falls."""

    def __init__(self, progress: Progress | None) -> None:
        """``progress``: told about every step."""
        self._progress = progress
        self._phases: list[list[int]] = []  # [steps done, steps in all], the outermost first
        self._names: list[str] = []
        self._told = 0

    def start(self, name: str, steps: int) -> None:
        """A phase begins inside the one that began last."""
        self._names.append(name)
        self._phases.append([0, max(steps, 1)])

    def step(self, name: str, index: int) -> None:
        """Step ``index`` of a phase is done."""
        if name in self._names:
            self._phases[self._last(name)][0] = index + 1
            self._tell()

    def finish(self, name: str) -> None:
        """A phase ended, and with it all inside it."""
        if name in self._names:
            place = self._last(name)
            del self._names[place:], self._phases[place:]

    def _last(self, name: str) -> int:
        return len(self._names) - 1 - self._names[::-1].index(name)

    def _tell(self) -> None:
        share, width = 0.0, 1.0
        for done, steps in self._phases:
            share += width * min(done, steps) / steps
            width /= steps
        told = max(self._told, min(int(share * STEPS), STEPS), 1)
        if told > self._told and self._progress is not None:
            self._progress(told, STEPS)
        self._told = told


def make_monitor(package: TensorRT, progress: BuildProgress) -> Any:
    """An ``IProgressMonitor`` that hands on to ``progress``. The class exists only once the package is loaded."""
    base: Any = package.module.IProgressMonitor

    class Monitor(base):  # type: ignore[misc]
        def __init__(self) -> None:
            base.__init__(self)  # pybind insists on this form

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            progress.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            progress.step(phase_name, step)
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            progress.finish(phase_name)

    return Monitor()
