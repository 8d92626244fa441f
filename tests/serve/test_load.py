"""Many callers at a time who do everything wrong: every job ends in a defined state, and nothing is left over.

``make load`` runs it; minutes.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from emo_rt import Bundle
from tests.serve.conftest import wait_until
from tests.serve.inputs import ENDLESS, QUICK, files
from tests.serve.process import ServerProcess, wait_until_gone

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")]

JOBS, CONNECTIONS = 200, 20
DEEDS = ("make",) * 8 + ("cancel", "cancel_running", "bad_picture", "bad_sound", "leave_upload", "leave_sync", "sync")
"""What a caller does; most just want a video."""


class Crowd:
    """Callers of one server, and what they saw."""

    def __init__(self, url: str) -> None:
        self.url, self.port = url, int(url.rpartition(":")[2])
        self.seen: Counter[str] = Counter()
        self.expected: dict[str, bool] = {}
        """Job → whether its caller has deleted it."""
        self._lock = threading.Lock()

    def run(self, jobs: int, *, seed: int) -> None:
        deeds = [random.Random(seed + number).choice(DEEDS) for number in range(jobs)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            list(pool.map(self._caller, deeds))

    def _caller(self, deed: str) -> None:
        try:
            with httpx2.Client(base_url=self.url, timeout=600) as client:
                outcome = getattr(self, f"_{deed}")(client)
        except (httpx2.TransportError, ConnectionError):
            outcome = "no connection"  # the server was killed
        with self._lock:
            self.seen[f"{deed}: {outcome}"] += 1

    def _post(self, client: Any, seconds: float, fields: dict[str, str], **changes: Any) -> Any:
        answer = client.post("/v1/videos", files={**files(seconds), **changes}, data=fields)
        if answer.status_code == 200:
            with self._lock:
                self.expected[answer.json()["id"]] = False
        return answer

    def _make(self, client: Any) -> str:
        answer = self._post(client, 0.3, QUICK)
        return str(answer.status_code)

    def _cancel(self, client: Any) -> str:
        answer = self._post(client, 0.3, QUICK)
        return self._delete(client, answer.json()["id"])

    def _cancel_running(self, client: Any) -> str:
        name = self._post(client, 10, ENDLESS).json()["id"]
        wait_until_started(client, name)
        return self._delete(client, name)

    def _delete(self, client: Any, name: str) -> str:
        answer = client.delete(f"/v1/videos/{name}")
        if answer.status_code == 200:
            with self._lock:
                self.expected[name] = True
        return str(answer.status_code)

    def _bad_picture(self, client: Any) -> str:
        return str(self._post(client, 0.3, QUICK, input_reference=("x.png", os.urandom(3000))).status_code)

    def _bad_sound(self, client: Any) -> str:
        return str(self._post(client, 0.3, QUICK, audio=("x.wav", b"RIFF" + os.urandom(3000))).status_code)

    def _leave_upload(self, client: Any) -> str:
        """In the middle of a body."""
        request = client.build_request("POST", "/v1/videos", files=files(1), data=QUICK)
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(self._head(request, "/v1/videos") + request.read()[:5000])
        return "left"

    def _leave_sync(self, client: Any) -> str:
        """While the video is made."""
        request = client.build_request("POST", "/v1/videos/sync", files=files(10), data=ENDLESS)
        with socket.create_connection(("127.0.0.1", self.port), timeout=600) as connection:
            connection.sendall(self._head(request, "/v1/videos/sync") + request.read())
            connection.settimeout(random.Random(0).uniform(0.5, 2))
            try:
                answer = connection.recv(100)
            except TimeoutError:
                return "left"
        assert not answer, answer
        return "no connection"  # the server was killed meanwhile

    def _sync(self, client: Any) -> str:
        answer = client.post("/v1/videos/sync", files=files(0.3), data=QUICK)
        assert answer.status_code != 200 or answer.content[4:8] == b"ftyp"
        return str(answer.status_code)

    def _head(self, request: Any, path: str) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {request.headers[name]}" for name in ("content-type", "content-length")]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def wait_until_started(client: Any, name: str) -> None:
    """Or not: a full queue may keep it from that for long; then it is cancelled while it waits."""
    for _ in range(40):
        if client.get(f"/v1/videos/{name}").json()["status"] == "in_progress":
            return
        threading.Event().wait(0.1)


def all_jobs(client: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        after = f"&after={found[-1]['id']}" if found else ""
        page = client.get(f"/v1/videos?limit=100{after}").json()
        found += page["data"]
        if not page["has_more"]:
            return found


def check_everything_ended(client: Any, crowd: Crowd, data: Path, *, may_be_lost: bool) -> None:
    """Each job that was accepted and not deleted is finished, its files are there, and no others are."""
    wait_until(lambda: not [job for job in all_jobs(client) if job["status"] in ("queued", "in_progress")], 1200)
    jobs = {job["id"]: job for job in all_jobs(client)}
    kept = {name for name, is_deleted in crowd.expected.items() if not is_deleted}
    assert kept <= set(jobs), "an accepted job is lost"
    if not may_be_lost:  # a killed server may have accepted a job, and not have said so; or deleted one
        assert kept == set(jobs)
    assert {job["status"] for job in jobs.values()} == {"completed"}
    wait_until(lambda: {path.name for path in (data / "jobs").iterdir()} == set(jobs))
    for name in jobs:
        assert sorted(os.listdir(data / "jobs" / name)) == ["thumbnail.jpg", "video.mp4"]
    assert os.listdir(data / "incoming") == []


def test_a_crowd(tiny_bundle: Bundle, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with (
        ServerProcess(tiny_bundle.path, data, "--max-queue-per-key", "200") as server,
        httpx2.Client(base_url=server.url, timeout=600) as client,
    ):
        Crowd(server.url).run(20, seed=1)  # what is made once: threads, caches
        wait_until(lambda: not [job for job in all_jobs(client) if job["status"] != "completed"], 600)
        for job in all_jobs(client):
            client.delete(f"/v1/videos/{job['id']}")
        before = server.open_files()
        crowd = Crowd(server.url)
        crowd.run(JOBS, seed=2)
        check_everything_ended(client, crowd, data, may_be_lost=False)
        wait_until(lambda: server.open_files() <= before + 2)
        wait_until(lambda: len(server.children()) <= 2)
        assert sum(crowd.seen.values()) == JOBS
        assert crowd.seen["make: 200"] > 50
        assert {key.split(": ")[1] for key in crowd.seen} <= {"200", "400", "left"}, crowd.seen
        children = server.children()
        assert server.terminate() == 0
    wait_until_gone(children)


def test_a_crowd_and_a_kill(tiny_bundle: Bundle, tmp_path: Path) -> None:
    data = tmp_path / "data"
    more = ("--max-queue-per-key", "200")
    with ServerProcess(tiny_bundle.path, data, *more) as server:
        crowd, port = Crowd(server.url), server.port
        callers = threading.Thread(target=crowd.run, args=(JOBS,), kwargs={"seed": 3})
        callers.start()
        wait_until(lambda: len(crowd.expected) >= JOBS // 4, 1200)
        children = server.children()
        server.kill()
        callers.join()
    wait_until_gone(children)
    assert any("no connection" in key for key in crowd.seen), "the kill came in the middle"
    with (
        ServerProcess(tiny_bundle.path, data, *more, port=port) as server,
        httpx2.Client(base_url=server.url, timeout=600) as client,
    ):
        for job in all_jobs(client):  # whoever wanted to cancel it has gone with the first server
            if float(job["seconds"]) > 1:
                client.delete(f"/v1/videos/{job['id']}")
                crowd.expected[job["id"]] = True
        check_everything_ended(client, crowd, data, may_be_lost=True)
        assert server.terminate() == 0
