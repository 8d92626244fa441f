"""A worker on a cluster: what Ray Data's pool runs, one per loaded model."""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from emo_rt.batch.task import Model, Task
from emo_rt.batch.worker import RowMaker, load
from emo_rt.errors import BackendError, BundleError, EmoRtError

LOST = 1
"""Exit code of a worker whose device is lost."""


def packed(task: Task) -> dict[str, Any]:
    """A row of the dataset."""
    return {"key": task.key, "task": json.dumps(asdict(task))}


class RowActor:
    """Makes rows. Ray starts it again where it dies, and gives it the same rows again: the ledger knows which ended."""

    def __init__(self, ledger: Any, model: Model, bundle: str, *, alone: bool) -> None:
        """``ledger``: handle of the :class:`RayLedger`; ``bundle``: hash that the model must have here, too.

        What goes wrong is told to the ledger before it is raised.
        """
        self._ray = importlib.import_module("ray")
        context = self._ray.get_runtime_context()
        self._ledger, self._alone, self._node = ledger, alone, context.get_node_id()
        actor = context.get_actor_id()
        try:
            if not self._ask(ledger.loading, actor):
                raise BackendError("workers in a row ended while they loaded the model; memory may not suffice")
            animator = load(model)
            if animator.bundle.sha256 != bundle:
                raise BundleError(f"{model.bundle} on this machine is another model than on the driver's")
        except EmoRtError as exc:
            self._ask(ledger.fail, exc)
            raise
        self._ask(ledger.loaded, actor)
        self._maker = RowMaker(animator)
        self._device = f"{animator.backend} on {animator.device}"

    def __call__(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make a row unless it has ended, or must wait; what became of it is in the ledger."""
        task = Task(**json.loads(row["task"]))
        while True:
            attempt = self._ask(self._ledger.begin, task.key, self._node, os.getpid(), alone=self._alone)
            if attempt is None:
                return {"key": task.key}
            done = self._maker.make(task)
            pause = self._ask(self._ledger.finish, task.key, attempt, done, self._device)
            if done.is_last:
                os._exit(LOST)  # a lost device takes a new process; Ray starts it, with the same row
            if pause is None:
                return {"key": task.key}
            time.sleep(pause)

    def _ask(self, method: Any, *args: object, **more: object) -> Any:
        return self._ray.get(method.remote(*args, **more))
