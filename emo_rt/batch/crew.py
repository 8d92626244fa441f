"""The workers of a run: as many as there is work for, started anew when one dies, gone at the end."""

from __future__ import annotations

from contextlib import ExitStack

from emo_rt.batch.process import WorkerProcess
from emo_rt.batch.task import Model, Ready, Unusable
from emo_rt.errors import BackendError

MOST_STILLBORN = 3
"""So many workers in a row that die as they load the model end the run."""


class Crew:
    """A context manager; at its end every process is gone."""

    def __init__(self, model: Model, size: int) -> None:
        """``size``: most workers at a time."""
        self._model, self._size = model, size
        self._stillborn = 0
        self.workers: list[WorkerProcess] = []
        """All processes."""

    @property
    def busy(self) -> int:
        """Rows that workers have."""
        return sum(worker.task is not None for worker in self.workers)

    @property
    def idle(self) -> list[WorkerProcess]:
        """Those that can take a row."""
        return [worker for worker in self.workers if worker.is_idle]

    @property
    def is_one_alone(self) -> bool:
        """Whether a row runs that nothing may run beside."""
        return any(worker.task is not None and worker.is_alone for worker in self.workers)

    def fill(self, rows: int) -> None:
        """Start workers that are missing, not more than there are rows."""
        while len(self.workers) < min(self._size, rows):
            self.workers.append(WorkerProcess(self._model))

    def greet(self, worker: WorkerProcess, message: object) -> None:
        """What a new worker says. Raises why it cannot load the model."""
        if isinstance(message, Unusable):
            raise message.error
        assert isinstance(message, Ready), message
        worker.device = message.device
        self._stillborn = 0

    def bury(self, worker: WorkerProcess) -> int | None:
        """A worker is gone; its exit code. Raises :class:`BackendError` if none lives until its model is loaded."""
        was_loaded = bool(worker.device)
        self.workers.remove(worker)
        worker.task, code = None, worker.exit_code
        worker.close()
        if not was_loaded:
            self._stillborn += 1
        if self._stillborn >= MOST_STILLBORN:
            raise BackendError(
                f"{MOST_STILLBORN} workers in a row ended while they loaded the model (exit code {code}); "
                "memory may not suffice for so many workers"
            )
        return code

    def dismiss(self) -> None:
        """Tell all to end; those that still load need not be waited for."""
        for worker in self.workers:
            if worker.device:
                worker.dismiss()

    def close(self) -> None:
        """End all, at once unless they were dismissed. Safe twice."""
        with ExitStack() as closing:  # one that fails, or a Ctrl-C, leaves none out
            for worker in self.workers:
                closing.callback(worker.close)
        self.workers.clear()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
