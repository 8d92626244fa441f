"""The driver on a cluster: the same rows, journal and results by Ray Data.

Ray Data gives blocks of rows to a pool of actors, and starts both again where they die, a bounded number of times.
What it has forgotten or given up, the next pass brings: passes go on until every row has ended in the journal. Ray's
own checkpoints are not used: they count by block after the fact and know nothing of ``--retry-failed``; the journal
does both by row. Rows that nothing may run beside have passes of their own, with one actor.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emo_rt.batch.journal import MOST_DEATHS
from emo_rt.batch.ledger import Summary
from emo_rt.batch.manifest import Row, rows_of
from emo_rt.batch.ray_ledger import RayLedger, State
from emo_rt.batch.ray_share import Share, measured, threads_for
from emo_rt.batch.ray_worker import RowActor, packed
from emo_rt.batch.remote import is_url
from emo_rt.batch.runner import LOOK_S, Progress
from emo_rt.batch.task import Model, Task
from emo_rt.checks import check
from emo_rt.errors import BackendError, ConfigError, EmoRtError, MissingDependencyError
from emo_rt.model.bundle import Bundle

BLOCK_ROWS = 8
"""Most rows of a block: all of one portrait, and so many are begun again where a worker dies; those that ended are
only asked for."""
MOST_RESTARTS = MOST_DEATHS * BLOCK_ROWS
"""How often Ray starts one actor, and one block, again in a pass."""
STORE_BYTES = 200_000_000
"""Shared memory of a cluster that is started here: what goes through it are names of files."""
FEWEST_CPUS = 4
"""With fewer logical CPUs Ray Data may wait for ever."""


@dataclass(frozen=True)
class Cluster:
    """Where the workers run, and how much each takes."""

    address: str | None = None
    """As of ``ray.init``; ``None`` = the cluster of this process, of ``RAY_ADDRESS`` or of this machine; else one is
    started here for the time of the run."""
    share: Share | None = None
    """What a worker asks of Ray; ``None`` = measured by loading the model once."""


def run_batch_on_ray(
    manifest: str | Path | Sequence[Row],
    folder: str | Path,
    *,
    cluster: Cluster | None = None,
    model: Model | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    parquet: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """:func:`emo_rt.batch.run_batch` on a Ray cluster: the same rows give the same files and results.

    Runs on a machine of the cluster. ``workers``: most of them; fewer run where there is no room. Model, inputs and
    ``folder`` must have the same paths on all machines. Raises as :func:`run_batch`, and
    :class:`MissingDependencyError` without the extra ``ray``.
    """
    check(isinstance(workers, int) and workers >= 1, "workers", workers, "an integer, 1 or more")
    start, model = time.monotonic(), model or Model()
    rows = rows_of(manifest)
    bundle = Bundle.open(model.bundle).sha256
    cluster = cluster or Cluster()
    with _cluster(cluster.address) as ray:
        nodes = [node for node in ray.nodes() if node["Alive"]]
        has_gpu = model.device != "cpu" and any(node["Resources"].get("GPU") for node in nodes)
        cpus = [node["Resources"].get("CPU", 0.0) for node in nodes]
        model = replace(model, threads=threads_for(model, workers, [n for n in cpus if n], has_gpu))
        ledger = _ledger(ray)
        settings = {"retry_failed": retry_failed, "parquet": parquet}
        run = _Run(ray, ledger, model, bundle, progress, stop or threading.Event())
        try:
            _ask(ray, ledger.open, folder if is_url(folder) else str(Path(folder).absolute()), rows, bundle, **settings)
            run.go(workers, cluster.share, has_gpu)
            summary: Summary = _ask(ray, ledger.close)
        except BaseException:
            with suppress(Exception):
                _ask(ray, ledger.abandon)
            raise
        finally:
            ray.kill(ledger)
    return replace(summary, wall_s=time.monotonic() - start)


def blocks(tasks: Sequence[Task], size: int = BLOCK_ROWS) -> list[list[Task]]:
    """Rows of one portrait behind each other, in blocks of at most ``size`` that never mix two."""
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.portrait, []).append(task)
    return [group[at : at + size] for group in groups.values() for at in range(0, len(group), size)]


class _Run:
    """Passes until every row has ended, or a stop."""

    def __init__(
        self, ray: Any, ledger: Any, model: Model, bundle: str, progress: Callable[[Progress], None] | None,
        stop: threading.Event,
    ) -> None:  # fmt: skip
        self._ray, self._ledger, self._model, self._bundle = ray, ledger, model, bundle
        self._progress, self._stop = progress, stop

    def go(self, workers: int, share: Share | None, has_gpu: bool) -> None:
        """Raises what ends the run."""
        before = self._look().steps
        while (left := _ask(self._ray, self._ledger.left)) and not self._stop.is_set():
            share = share or self._measured(has_gpu)
            together = [task for task, alone in left if not alone]
            alone = [task for task, alone in left if alone]
            error = self._pass(together, workers, share, alone=False) if together else None
            error = self._pass(alone, 1, share, alone=True) if alone and not self._stop.is_set() else error
            state = self._look()
            if state.failure is not None:
                raise state.failure
            now = state.steps
            if now == before and not self._stop.is_set():
                raise BackendError(f"Ray made no row of {len(left)}: {error or 'it says nothing'}") from error
            before = now

    def _measured(self, has_gpu: bool) -> Share:
        ray, cpus = self._ray, float(self._model.threads or 1)
        measure = ray.remote(num_cpus=cpus, num_gpus=int(has_gpu), max_retries=1, max_calls=1)(measured)
        share: Share = _got(ray, measure.remote(self._model, cpus))
        return share

    def _pass(self, tasks: Sequence[Task], workers: int, share: Share, *, alone: bool) -> BaseException | None:
        """Give rows to Ray Data and wait. What it says where it fails: the next pass may go on."""
        failures: list[BaseException] = []

        def consume() -> None:
            try:
                for _ in self._dataset(tasks, workers, share, alone).iter_batches(batch_size=None):
                    pass
            except BaseException as exc:  # noqa: BLE001 - judged by what the ledger says
                failures.append(exc)

        thread = threading.Thread(target=consume, name="emo_rt batch: Ray Data", daemon=True)
        thread.start()
        is_told = False
        while thread.is_alive():
            if self._stop.is_set() and not is_told:
                _ask(self._ray, self._ledger.stop)
                is_told = True
            self._look()
            thread.join(LOOK_S)
        self._look()
        return failures[0] if failures else None

    def _dataset(self, tasks: Sequence[Task], workers: int, share: Share, alone: bool) -> Any:
        data, pyarrow = importlib.import_module("ray.data"), importlib.import_module("pyarrow")
        size = 1 if alone else BLOCK_ROWS
        tables = [pyarrow.Table.from_pylist([packed(task) for task in block]) for block in blocks(tasks, size)]
        most = min(workers, len(tables))
        with warnings.catch_warnings():  # no named parameter bounds restarts, and unbounded is Ray Data's default
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            found = self._mapped(data, data.from_arrow(tables), most, share, alone)
        found.context.enable_progress_bars = False
        found.context.max_errored_blocks = -1  # the next pass brings what they had
        return found

    def _mapped(self, data: Any, rows: Any, most: int, share: Share, alone: bool) -> Any:
        return rows.map(
            RowActor,
            fn_constructor_args=(self._ledger, self._model, self._bundle),
            fn_constructor_kwargs={"alone": alone},
            compute=data.ActorPoolStrategy(
                min_size=1, max_size=most, initial_size=most, max_tasks_in_flight_per_actor=2
            ),
            num_cpus=None if share.gpus else share.cpus,  # both at once is experimental in Ray Data
            num_gpus=share.gpus,
            memory=share.memory or None,
            max_restarts=MOST_RESTARTS,
            max_task_retries=MOST_RESTARTS,
        )

    def _look(self) -> State:
        state: State = _ask(self._ray, self._ledger.state)
        if state.failure is not None and not state.running:
            raise state.failure
        if self._progress is not None:
            self._progress(Progress(state.done, state.total, state.failed, state.running))
        return state


def require_ray() -> Any:
    """The package. Raises :class:`MissingDependencyError`."""
    try:
        importlib.import_module("ray.data")
        return importlib.import_module("ray")
    except ImportError as exc:
        raise MissingDependencyError("a cluster needs Ray; install it with: pip install 'emo_rt[ray]'") from exc


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, connected. What was connected before stays so."""
    if address is not None and address.startswith("ray://"):
        raise ConfigError(f"address is {address}; expected a machine of the cluster itself: run the command there")
    ray = require_ray()
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if ray.is_initialized():
        yield ray
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        _connect(ray, address, quiet)
        yield ray
    finally:
        ray.shutdown()


def _connect(ray: Any, address: str | None, quiet: dict[str, Any]) -> None:
    try:
        ray.init(address or "auto", **quiet)
    except (ConnectionError, ValueError) as exc:
        if address not in (None, "local"):
            raise BackendError(f"there is no Ray cluster at {address}: {exc}") from exc
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anybody
        cpus = max(FEWEST_CPUS, os.cpu_count() or 1)
        ray.init("local", num_cpus=cpus, object_store_memory=STORE_BYTES, include_dashboard=False, **quiet)


def _ledger(ray: Any) -> Any:
    """An actor on this machine: the folder is its own."""
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    here = strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(RayLedger).options(num_cpus=0, scheduling_strategy=here).remote(is_node_alive)


def is_node_alive(node: str) -> bool:
    """Whether Ray counts on a machine."""
    ray = importlib.import_module("ray")
    return any(one["NodeID"] == node and one["Alive"] for one in ray.nodes())


def _ask(ray: Any, method: Any, *args: object, **more: object) -> Any:
    return _got(ray, method.remote(*args, **more))


def _got(ray: Any, reference: Any) -> Any:
    """What a call gave; our own errors as they were raised."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as exc:
        if isinstance(exc.cause, EmoRtError):
            raise exc.cause from None
        raise BackendError(f"a process of the cluster failed: {exc}") from exc
    except ray.exceptions.RayError as exc:
        raise BackendError(f"the cluster failed: {exc}") from exc
