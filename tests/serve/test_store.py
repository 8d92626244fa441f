"""What survives a server, and what becomes of what does not."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from emo_rt.errors import ConfigError
from emo_rt.serve.errors import ApiError
from emo_rt.serve.records import COMPLETED, FAILED, IN_PROGRESS, QUEUED, AvatarRecord, Job, new_id
from emo_rt.serve.store import MOST_ATTEMPTS, PICTURE, SOUND, THUMBNAIL, VIDEO, Store

Open = Callable[..., Store]


class Time:
    """What time it is."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Opens the store; what was open before is dropped as a killed server drops it: nothing is tidied up."""
    opened: list[Store] = []

    def open_(**settings: Any) -> Store:
        if opened:
            opened[-1].close()
        opened.append(Store(tmp_path / "data", **settings))
        return opened[-1]

    yield open_
    opened[-1].close()


def add(store: Store, **changes: Any) -> Job:
    job = Job(id=new_id("video"), owner="anna", model="tiny", created_at=store.time(), bytes=2)
    job = replace(job, options={"seed": 7}, **changes)
    with store.incoming(job.id) as incoming:
        for name in (PICTURE, SOUND):
            (incoming / name).write_bytes(b"x")
        store.add(job, incoming)
    return job


def get(store: Store, job: Job) -> Job:
    found = store.job(job.id, job.owner)
    assert found is not None
    return found


def finish(store: Store, job: Job) -> bool:
    (store.place(job) / VIDEO).write_bytes(b"video")
    (store.place(job) / THUMBNAIL).write_bytes(b"jpg")
    return store.complete(job, seconds="1.00", stats='{"inference_time_s": 2}')


def claimed(store: Store) -> Job:
    job = store.claim()
    assert job is not None
    return job


def test_way_of_a_job(reopen: Open) -> None:
    store = reopen(keep_s=3600, now=Time())
    first, second = add(store), add(store)
    running = claimed(store)
    assert (running.id, running.status, running.attempts, running.options) == (first.id, IN_PROGRESS, 1, {"seed": 7})
    assert finish(store, running)
    done = get(store, first)
    assert (done.status, done.completed_at, done.expires_at, done.bytes) == (COMPLETED, 1_000_000, 1_003_600, 8)
    assert done.public(0)["progress"] == 100
    assert done.public(0)["inference_time_s"] == 2
    assert sorted(os.listdir(store.place(first))) == [THUMBNAIL, VIDEO], "its inputs are gone"
    assert claimed(store).id == second.id
    assert store.claim() is None
    assert store.fail(get(store, second), "face_not_found", "no face")
    assert get(store, second).public(0)["error"] == {"code": "face_not_found", "message": "no face"}
    assert os.listdir(store.place(second)) == []
    assert store.counts() == {QUEUED: 0, IN_PROGRESS: 0, COMPLETED: 1, FAILED: 1}
    assert store.used_bytes() == 8


def test_restart(reopen: Open) -> None:
    """Queued stays queued, what ran starts again, what is finished is served."""
    store = reopen()
    jobs = [add(store) for _ in range(3)]
    finish(store, claimed(store))
    running = claimed(store)
    (store.place(running) / ".emo_rt-1.part").write_bytes(b"half a video")
    store = reopen()
    assert [get(store, job).status for job in jobs] == [COMPLETED, QUEUED, QUEUED]
    assert (store.place(jobs[0]) / VIDEO).read_bytes() == b"video"
    assert sorted(os.listdir(store.place(running))) == [PICTURE, SOUND]
    assert claimed(store).id == running.id, "it comes first again"


def test_a_job_that_always_ends_the_server_fails(reopen: Open) -> None:
    store = reopen()
    job, other = add(store), add(store)
    for attempt in range(MOST_ATTEMPTS):
        assert (claimed(store).id, get(store, job).attempts) == (job.id, attempt + 1)
        store = reopen()
    failed = get(store, job)
    assert (failed.status, failed.error_code) == (FAILED, "server_ended")
    assert "3 times" in str(failed.error_message)
    assert claimed(store).id == other.id


def test_an_orderly_end_does_not_count(reopen: Open) -> None:
    store = reopen()
    job = add(store)
    for _ in range(5):
        store.requeue(claimed(store))
        store = reopen()
    assert get(store, job).status == QUEUED
    assert get(store, job).attempts == 0


def test_nobody_waits_for_a_sync_job_after_a_restart(reopen: Open) -> None:
    store = reopen()
    job = add(store, is_sync=True)
    store = reopen()
    assert store.job(job.id, job.owner) is None
    assert os.listdir(store.folder / "jobs") == []


def test_a_sync_video_that_was_never_taken_goes(reopen: Open) -> None:
    store = reopen()
    job = add(store, is_sync=True)
    finish(store, claimed(store))
    store = reopen()
    assert store.job(job.id, job.owner) is None
    assert os.listdir(store.folder / "jobs") == []


def test_others_on_the_machine_read_nothing(tmp_path: Path) -> None:
    """Prompts and owners are in the rows, also where the folder was there before and all can enter it."""
    for folder in (tmp_path / "new" / "data", tmp_path / "old"):
        if folder.name == "old":
            folder.mkdir(mode=0o755)
        with Store(folder):
            for name in ("store.sqlite", "store.sqlite-wal", "jobs", "avatars", "incoming"):
                assert (folder / name).stat().st_mode & 0o077 == 0, name
    assert (tmp_path / "new" / "data").stat().st_mode & 0o077 == 0


def test_files_without_a_row_go(reopen: Open) -> None:
    store = reopen()
    kept = add(store)
    (store.folder / "jobs" / "video_0").mkdir()
    (store.folder / "incoming" / "video_1").mkdir()
    (store.folder / "avatars" / "avatar_2").mkdir()
    store = reopen()
    found = {name: os.listdir(store.folder / name) for name in ("jobs", "incoming", "avatars")}
    assert found == {"jobs": [kept.id], "incoming": [], "avatars": []}


def test_a_job_that_is_deleted_while_it_runs_stays_away(reopen: Open) -> None:
    store = reopen()
    job = add(store)
    running = claimed(store)
    assert store.delete(job)
    assert not store.delete(job)
    assert not finish(store, running)
    assert not store.requeue(running)
    assert store.job(job.id, job.owner) is None


def test_expiry(reopen: Open) -> None:
    time = Time()
    store = reopen(keep_s=60, now=time)
    old, queued = add(store), add(store)
    finish(store, claimed(store))
    time.now += 59
    assert store.expire() == 0
    time.now += 1
    assert store.expire() == 1
    assert store.job(old.id, old.owner) is None
    assert not store.place(old).exists()
    assert get(store, queued).status == QUEUED


def test_owners_do_not_see_each_other(reopen: Open) -> None:
    store = reopen()
    job = add(store)
    avatar = AvatarRecord(new_id("avatar"), "anna", "tiny", 0, face_box=(1, 2, 3, 4))
    store.add(avatar, None)
    assert store.job(job.id, "berta") is None
    assert store.avatar(avatar.id, "berta") is None
    assert store.jobs("berta", after=None, limit=9, newest_first=True) == []
    assert store.avatars("berta") == []
    assert [one.public()["face_box"] for one in store.avatars("anna")] == [[1, 2, 3, 4]]
    assert store.waiting("berta") == 0
    assert store.waiting() == 1


def test_pages(reopen: Open) -> None:
    store = reopen()
    names = [add(store).id for _ in range(5)]

    def page(**settings: Any) -> list[str]:
        found = store.jobs("anna", **{"after": None, "limit": 2, "newest_first": False, **settings})
        assert found is not None
        return [job.id for job in found]

    assert page() == names[:2]
    assert page(after=names[1]) == names[2:4]
    assert page(after=names[4]) == []
    assert page(newest_first=True) == [names[4], names[3]]
    assert page(newest_first=True, after=names[3]) == [names[2], names[1]]
    assert store.jobs("anna", after="video_0", limit=2, newest_first=True) is None


def test_a_full_disk_keeps_nothing(reopen: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = reopen()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ApiError, match="disk is full") as caught:
        add(store)
    monkeypatch.undo()
    assert (caught.value.status, caught.value.code) == (503, "disk_full")
    assert store.counts()[QUEUED] == 0
    assert [os.listdir(store.folder / name) for name in ("jobs", "incoming")] == [[], []]
    add(store)


def test_a_full_database_keeps_nothing(reopen: Open) -> None:
    """SQLite's own limit of pages: the same error as from a full disk."""
    store = reopen()
    first = add(store)
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    large = partial(add, store, prompt="x" * 300_000)  # more than what is left of the last pages
    with pytest.raises(ApiError, match="disk is full"):
        large()
    kept = store.counts()[QUEUED]
    assert len(os.listdir(store.folder / "jobs")) == kept
    store._database.execute("PRAGMA max_page_count = 100000")
    add(store)
    assert claimed(store).id == first.id


def test_one_server_for_a_folder(reopen: Open) -> None:
    store = reopen()
    with pytest.raises(ConfigError, match="another server uses"):
        Store(store.folder)


def test_a_newer_format_is_refused(reopen: Open) -> None:
    store = reopen()
    store.close()
    with sqlite3.connect(store.folder / "store.sqlite") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(ConfigError, match="newer emo_rt"):
        Store(store.folder)
    with sqlite3.connect(store.folder / "store.sqlite") as database:
        database.execute("PRAGMA user_version = 1")
    database.close()
    reopen()
