"""What the ledger of a cluster lets workers do, and how a machine is shared. Without Ray: no process is started."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from emo_rt import Bundle, ConfigError, MissingDependencyError, OutputError
from emo_rt.batch import Cluster, Model, Share, read_manifest, run_batch_on_ray
from emo_rt.batch.crew import MOST_STILLBORN
from emo_rt.batch.ray_ledger import RayLedger
from emo_rt.batch.ray_runner import blocks
from emo_rt.batch.ray_share import gpu_part, measured, threads_for
from emo_rt.batch.ray_worker import RowActor
from emo_rt.batch.task import Done, Task
from tests.batch.conftest import Manifest, events, results, row


class Cloud:
    """Machines by name, and a ledger with the rows a, b and one that cannot be read."""

    def __init__(self, path: Path, out: Path) -> None:
        self.gone: set[str] = set()
        self.ledger = RayLedger(lambda node: node not in self.gone)
        self.ledger.open(str(out), read_manifest(path), "m", retry_failed=False, parquet=False)
        self.keys = [task.key for task, _ in self.ledger.left()]

    def done(self, key: str, attempt: int) -> float | None:
        return self.ledger.finish(key, attempt, Done(key, 1.0, "5" * 64, 5, 0.2, True), "cpu")


@pytest.fixture
def cloud(manifest: Manifest, tmp_path: Path) -> Cloud:
    return Cloud(manifest(row("a"), row("b"), "{oops"), tmp_path / "out")


def test_a_row_that_is_asked_for_twice_ended_with_its_worker(cloud: Cloud, tmp_path: Path) -> None:
    """Three times is enough; the last time it must be alone."""
    key, ledger = cloud.keys[0], cloud.ledger
    assert [ledger.begin(key, "n", 1, alone=False) for _ in range(2)] == [1, 2]
    assert ledger.begin(key, "n", 1, alone=False) is None
    assert [(task.key, alone) for task, alone in ledger.left()] == [(key, True), (cloud.keys[1], False)]
    assert ledger.begin(key, "n", 1, alone=True) == 3
    assert ledger.begin(key, "n", 1, alone=True) is None
    assert ledger.state().failed == 2
    ledger.stop()
    assert ledger.begin(cloud.keys[1], "n", 1, alone=False) is None
    summary = ledger.close()
    assert (summary.poisoned, summary.failed, summary.left) == (1, 1, 1)
    assert results(tmp_path / "out")["a"]["attempts"] == 3


def test_a_row_whose_machine_is_gone_is_lost_and_runs_alone(cloud: Cloud, tmp_path: Path) -> None:
    key, ledger = cloud.keys[0], cloud.ledger
    assert ledger.begin(key, "spot", 1, alone=False) == 1
    cloud.gone.add("spot")
    assert ledger.begin(key, "other", 1, alone=False) is None
    assert ledger.begin(key, "other", 1, alone=True) == 2
    assert cloud.done(key, 2) is None
    ledger.close()
    kinds = [event["event"] for event in events(tmp_path / "out") if event.get("key") == key]
    assert kinds == ["attempt", "lost", "attempt", "result"]


def test_who_was_taken_for_dead_is_not_heard(cloud: Cloud, tmp_path: Path) -> None:
    key, ledger = cloud.keys[0], cloud.ledger
    assert ledger.begin(key, "far", 1, alone=False) == 1
    assert ledger.begin(key, "near", 2, alone=False) == 2
    assert cloud.done(key, 1) is None
    assert ledger.state().running == 1
    assert cloud.done(key, 2) is None
    assert cloud.done(key, 1) is None
    ledger.close()
    assert results(tmp_path / "out")["a"]["attempts"] == 2


def test_an_error_that_passes_waits(cloud: Cloud) -> None:
    key, ledger = cloud.keys[0], cloud.ledger
    error = Done(key, 1.0, error_type="BackendError", error="busy", is_transient=True)
    pauses = []
    for attempt in (1, 2, 3):
        assert ledger.begin(key, "n", 1, alone=False) == attempt
        pauses.append(ledger.finish(key, attempt, error, "cpu"))
    assert pauses == [1.0, 4.0, None]
    ledger.close()


def test_a_full_disk_ends_the_run(cloud: Cloud) -> None:
    a, b = cloud.keys
    assert (cloud.ledger.begin(a, "n", 1, alone=False), cloud.ledger.begin(b, "n", 2, alone=False)) == (1, 1)
    full = Done(a, 1.0, error_type="OutputError", error="no room", is_storage_full=True)
    assert cloud.ledger.finish(a, 1, full, "cpu") is None
    assert isinstance(cloud.ledger.state().failure, OutputError)
    assert cloud.done(b, 1) is None, "what runs may end"
    assert cloud.ledger.begin(a, "n", 1, alone=False) is None
    assert [task.key for task, _ in cloud.ledger.left()] == [a]
    cloud.ledger.close()


def test_actors_that_die_as_they_load(cloud: Cloud) -> None:
    """The same one again and again; many that begin together are no sign."""
    assert all(cloud.ledger.loading(f"actor {n}") for n in range(10))
    assert [cloud.ledger.loading("actor 0") for _ in range(MOST_STILLBORN)] == [True, True, False]
    cloud.ledger.loaded("actor 0")
    assert cloud.ledger.loading("actor 1")
    cloud.ledger.close()


def test_blocks_never_mix_portraits() -> None:
    tasks = [Task(f"{n}", {}, "ab"[n % 2], "") for n in range(7)]
    assert [[task.key for task in block] for block in blocks(tasks, 3)] == [["0", "2", "4"], ["6"], ["1", "3", "5"]]


def test_a_gpu_is_divided_by_the_memory_that_was_measured() -> None:
    assert [gpu_part(used, 80) for used in (10, 20, 33, 34, 80, 200)] == [1 / 6, 1 / 3, 1 / 2, 1, 1, 1]


def test_workers_share_the_cores_of_the_machines() -> None:
    assert threads_for(Model(threads=3), 9, [4.0], False) == 3
    assert threads_for(Model(), 9, [64.0], True) == 1
    assert [threads_for(Model(), workers, [4.0, 8.0], False) for workers in (1, 3, 4, 100)] == [4, 4, 3, 1]


@pytest.mark.parametrize("wrong", [{"gpus": -1}, {"cpus": 0}, {"memory": -1}])
def test_a_share_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="share is"):
        Share(**wrong)  # type: ignore[arg-type]


def test_without_ray(manifest: Manifest, tmp_path: Path) -> None:
    path = manifest(row("a"))
    with pytest.raises(ConfigError, match="run the command there"):
        run_batch_on_ray(path, tmp_path / "out", cluster=Cluster("ray://far:10001"))
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(MissingDependencyError, match=r"emo_rt\[ray\]"):
            run_batch_on_ray(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_a_driver_that_was_killed_is_waited_for(
    cloud: Cloud, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ledger goes a moment later."""
    monkeypatch.setattr("emo_rt.batch.ray_ledger.time.sleep", lambda _: cloud.ledger.close())
    other = Cloud(manifest(row("a"), name="again.jsonl"), tmp_path / "out")
    assert len(other.keys) == 1
    other.ledger.close()


def test_a_worker_on_a_cluster_has_the_limit_of_memory(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot be is refused, and so it has arrived; the ledger hears of it."""
    model = Model(str(tiny_bundle.path), device="cpu", threads=1, memory_limit=-1.0)
    with pytest.raises(ConfigError, match="memory_limit"):
        measured(model, 1.0)
    context = SimpleNamespace(get_node_id=lambda: "node", get_actor_id=lambda: "actor")
    ray = SimpleNamespace(get_runtime_context=lambda: context, get=lambda found: found)
    monkeypatch.setitem(sys.modules, "ray", ray)
    heard: list[Exception] = []
    ledger = SimpleNamespace(loading=SimpleNamespace(remote=lambda _: True), fail=SimpleNamespace(remote=heard.append))
    with pytest.raises(ConfigError, match="memory_limit"):
        RowActor(ledger, model, tiny_bundle.sha256, alone=False)
    assert [type(error) for error in heard] == [ConfigError]
