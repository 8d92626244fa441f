"""One store for many replicas: what the keeper lets them say. Without Ray; the clock is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from emo_rt.integrations.ray_bundles import Bundles
from emo_rt.integrations.ray_keeper import SILENT_S, Keeper, SharedStore
from emo_rt.serve.records import Job, new_id
from emo_rt.serve.store import MOST_ATTEMPTS, VIDEO


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(tmp_path: Path, clock: Clock) -> Iterator[Keeper]:
    found = Keeper(str(tmp_path), 3_600, clock)
    yield found
    found.close()


def replica(keeper: Keeper, name: str, folder: Path) -> SharedStore:
    return SharedStore(folder, partial(keeper.call, name))


def submit(store: SharedStore) -> Job:
    job = Job(new_id("video"), "anna", "tiny", 0)
    with store.incoming(job.id) as incoming:
        store.add(job, incoming)
    return job


def test_any_replica_sees_a_job_and_one_makes_it(keeper: Keeper, tmp_path: Path) -> None:
    a, b = replica(keeper, "a", tmp_path), replica(keeper, "b", tmp_path)
    job = submit(a)
    assert b.job(job.id, "anna") is not None
    assert b.job(job.id, "other") is None
    claimed = b.claim()
    assert claimed is not None
    assert (claimed.id, a.claim()) == (job.id, None)
    assert not a.complete(claimed, seconds="1", stats="{}"), "it is not a's"
    assert b.complete(claimed, seconds="1", stats="{}")
    found = a.job(job.id, "anna")
    assert found is not None
    assert found.status == "completed"


def test_a_silent_replica_loses_its_job_and_can_spoil_nothing(keeper: Keeper, tmp_path: Path, clock: Clock) -> None:
    a, b = replica(keeper, "a", tmp_path), replica(keeper, "b", tmp_path)
    submit(a)
    first = a.claim()
    assert first is not None
    clock.now = SILENT_S + 1
    second = b.claim()
    assert second is not None
    assert (second.id, second.attempts) == (first.id, 2)
    (b.place(second) / VIDEO).write_bytes(b"whole")
    assert b.complete(second, seconds="1", stats="{}")
    assert not a.fail(first, "late", "it comes back"), "what it says counts nothing"
    a.remove_files(first)
    assert (b.place(second) / VIDEO).read_bytes() == b"whole"


def test_one_that_speaks_keeps_its_job(keeper: Keeper, tmp_path: Path, clock: Clock) -> None:
    a, b = replica(keeper, "a", tmp_path), replica(keeper, "b", tmp_path)
    submit(a)
    assert a.claim() is not None
    for _ in range(5):
        clock.now += SILENT_S / 2
        assert keeper.beat("a") == []
        assert b.claim() is None


def test_a_job_that_ends_its_replicas_is_given_up(keeper: Keeper, tmp_path: Path, clock: Clock) -> None:
    job = submit(replica(keeper, "a", tmp_path))
    for number in range(MOST_ATTEMPTS):
        assert replica(keeper, f"{number}", tmp_path).claim() is not None
        clock.now += SILENT_S + 1
    last = replica(keeper, "last", tmp_path)
    assert last.claim() is None
    found = last.job(job.id, "anna")
    assert found is not None
    assert (found.status, found.error_code) == ("failed", "server_ended")


def test_a_replica_hears_that_its_job_was_deleted(keeper: Keeper, tmp_path: Path) -> None:
    a, b = replica(keeper, "a", tmp_path), replica(keeper, "b", tmp_path)
    job = submit(a)
    claimed = a.claim()
    assert keeper.beat("a") == []
    assert b.delete(job)
    assert keeper.beat("a") == [claimed]
    assert not a.complete(job, seconds="1", stats="{}")
    assert keeper.beat("a") == []


def test_a_few_bundles_stay_loaded() -> None:
    loaded: list[str] = []

    def load(path: str) -> str:
        loaded.append(path)
        return path.upper()

    bundles = Bundles({"a": "pa", "b": "pb", "c": "pc"}, 2, load)
    assert (list(bundles), "c" in bundles, "d" in bundles) == (["a"], True, False)
    assert [bundles["b"], bundles["b"], bundles["a"], bundles["c"], bundles["b"]] == ["PB", "PB", "PA", "PC", "PB"]
    assert loaded == ["pa", "pb", "pc", "pb"], "the first stays, of the others the last one used"
    assert list(bundles) == ["a", "b"]
    with pytest.raises(KeyError):
        bundles["d"]
