"""What becomes of jobs when something comes in between, and of several devices in one server."""

from __future__ import annotations

import errno
import io
import os
import sqlite3
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from emo_rt import Animator
from emo_rt.errors import BackendError
from emo_rt.serve import runner
from emo_rt.serve.app import make_app
from emo_rt.serve.records import Job
from emo_rt.serve.store import Store
from tests.serve.conftest import MakeService, wait_until
from tests.serve.inputs import URL, files
from tests.serve.test_jobs import create, ended


def full(*_: object) -> Any:
    raise sqlite3.OperationalError("database or disk is full")


def faceless() -> dict[str, Any]:
    """Files of a job that fails when it runs."""
    target = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(target, "PNG")
    return {**files(), "input_reference": ("green.png", target.getvalue())}


def test_deleted_at_the_moment_when_it_finishes(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row says completed, and the runner has not let go of it yet: its files must not stay."""
    service = make_service()
    deleted = list[str]()

    def delete(*_: object) -> None:
        (job,) = service.store.jobs("", after=None, limit=9, newest_first=True) or []
        assert job.status == "completed"
        service.delete(job)
        deleted.append(job.id)

    monkeypatch.setattr(service.metrics, "note_job", delete)
    with TestClient(make_app(service), base_url=URL) as client:
        create(client)
        wait_until(lambda: bool(deleted) and service.runner.is_idle)
        wait_until(lambda: os.listdir(service.store.folder / "jobs") == [])


def test_a_queue_that_cannot_be_read_for_a_while(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking a job writes to the database. A full disk must not end the thread."""
    monkeypatch.setattr(runner, "POLL_S", 0.02)
    service, seen, claim = make_service(), list[str](), Store.claim

    def first_full(store: Store) -> Job | None:
        seen.append("")
        return full() if len(seen) == 1 else claim(store)

    monkeypatch.setattr(Store, "claim", first_full)
    with TestClient(make_app(service), base_url=URL) as client:
        assert ended(client, create(client))["status"] == "completed"


def test_an_end_that_cannot_be_written_is_written_later(
    make_service: MakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "POLL_S", 0.02)
    service, seen, fail = make_service(), list[str](), Store.fail

    def twice_full(store: Store, job: Job, *told: str) -> bool:
        seen.append(job.id)
        if len(seen) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return fail(store, job, *told)

    monkeypatch.setattr(Store, "fail", twice_full)
    with TestClient(make_app(service), base_url=URL) as client:
        job = client.post("/v1/videos", files=faceless(), data={"num_inference_steps": "1"}).json()
        assert ended(client, job)["error"]["code"] == "face_not_found"


def test_old_videos_go_while_there_is_much_to_do(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "POLL_S", 0)
    service = make_service()
    waiting, expire = list[int](), service.store.expire
    monkeypatch.setattr(service.store, "expire", lambda: (waiting.append(service.store.waiting()), expire())[1])
    client = TestClient(make_app(service), base_url=URL)
    jobs = [create(client) for _ in range(3)]
    with client:
        for job in jobs:
            assert ended(client, job)["status"] == "completed"
    assert {1, 2, 3} <= set(waiting)


def test_a_model_that_does_not_warm_is_told(make_service: MakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would ever be made: an orchestrator must know, and nobody must wait."""

    def fails(*_: object) -> None:
        raise BackendError("there is no memory left")

    monkeypatch.setattr(Animator, "warmup", fails)
    with TestClient(make_app(make_service()), base_url=URL) as client:
        wait_until(lambda: client.get("/health").status_code == 503)
        assert client.get("/health").json()["reason"] == "tiny cannot run on cpu: there is no memory left"
        assert client.post("/v1/videos", files=files()).status_code == 503
