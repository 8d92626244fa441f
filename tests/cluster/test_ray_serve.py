"""The server as replicas on a real cluster: any replica answers for any job, live sessions start replicas."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from emo_rt import Bundle, ConfigError
from emo_rt.integrations.ray_serve import JOBS, LIVE, ServeOnRay, deploy
from emo_rt.media.video_file import probe
from emo_rt.serve.keys import add_key
from tests.serve.inputs import PORTRAIT, data_url, voice

PATIENCE_S = 120
SESSION = {
    "type": "session.start",
    "image_reference": {"image_url": data_url(PORTRAIT.read_bytes(), "image/png")},
    "num_inference_steps": 1,
    "idle": "loop",
    "extra_params": {"guidance": 1, "face_box": "full"},
}


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class Caller:
    """Who has a key, and who has none."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self._key = port, key

    def ask(self, path: str, body: dict[str, Any] | None = None, *, key: str | None = None, **headers: str) -> bytes:
        """What is answered. Raises :class:`urllib.error.HTTPError`."""
        headers |= {"Authorization": f"Bearer {self._key if key is None else key}"}
        data = None if body is None else json.dumps(body).encode()
        headers |= {} if data is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                    return bytes(answer.read())
            except urllib.error.HTTPError as exc:  # what a replica says that is to be replaced: try again in a moment
                if exc.code != 503 or time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def json(self, path: str, body: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        return dict(json.loads(self.ask(path, body, **more)))

    def job(self, **more: Any) -> str:
        picture, sound = data_url(PORTRAIT.read_bytes(), "image/png"), data_url(voice(), "audio/wav")
        body = {"image_reference": {"image_url": picture}, "audio_reference": {"audio_url": sound}}
        options = {"num_inference_steps": 1, "extra_params": {"guidance": 1, "face_box": "full"}}
        return str(self.json("/v1/videos", body | options | more)["id"])

    def status(self, job: str) -> str:
        return str(self.json(f"/v1/videos/{job}")["status"])

    def live(self) -> Any:
        """A session that has begun: its socket."""
        from websockets.sync.client import connect

        url = f"ws://127.0.0.1:{self.port}/v1/realtime/video"
        session = connect(url, additional_headers={"Authorization": f"Bearer {self._key}"}, open_timeout=PATIENCE_S)
        session.send(json.dumps(SESSION))
        started = json.loads(session.recv(PATIENCE_S))
        assert started["type"] == "video.start", started
        return session


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def caller(cluster: Any, tiny_bundle: Bundle, data: Path) -> Iterator[Caller]:
    """Two replicas for jobs, one or two for live sessions of which each holds one."""
    from ray import serve

    port = free_port()
    serve.start(http_options={"port": port})
    options = ServeOnRay(
        data=str(data),
        bundles={"tiny": str(tiny_bundle.path), "second": str(tiny_bundle.path)},
        host="talk.example.com",
        sessions=1,
        most_replicas=2,
        job_replicas=2,
        cpus=0.5,
        device="cpu",
        backend="moody",
        threads=1,
        upscale_delay_s=0.5,
    )
    with pytest.raises(ConfigError, match="there is no key"):
        deploy(options)
    key = add_key(data, "anna")
    assert set(deploy(options)) == {JOBS, LIVE}
    yield Caller(port, key)
    serve.shutdown()


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def replicas(app: str) -> int:
    """How many run."""
    from ray import serve

    (deployment,) = serve.status().applications[app].deployments.values()
    return int(deployment.replica_states.get("RUNNING", 0))


def test_a_caller_without_a_key_is_refused(caller: Caller) -> None:
    for key in ("", "emo-wrong"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            caller.ask("/v1/videos", key=key)
    assert caller.json("/health", key="")["status"] == "ok"


def test_any_replica_answers_for_any_job(caller: Caller, tmp_path: Path) -> None:
    jobs = [caller.job(seed=1) for _ in range(4)]
    wait_until(lambda: all(caller.status(job) == "completed" for job in jobs))
    videos = {caller.ask(f"/v1/videos/{job}/content") for job in jobs for _ in range(4)}
    assert len(videos) == 1, "the same inputs gave the same video, wherever it was made and asked for"
    (tmp_path / "video.mp4").write_bytes(videos.pop())
    assert probe(tmp_path / "video.mp4").frames == 10
    assert {job["id"] for job in caller.json("/v1/videos")["data"]} == set(jobs)


def test_another_bundle_is_loaded_when_it_is_asked_for(caller: Caller) -> None:
    job = caller.job(model="second")
    wait_until(lambda: caller.status(job) == "completed")
    assert caller.json(f"/v1/videos/{job}")["model"] == "second"
    wait_until(lambda: {one["id"] for one in caller.json("/v1/models")["data"]} == {"tiny", "second"})
    caller.json("/v1/videos", serve_multiplexed_model_id="second")


def test_live_sessions_start_another_replica(caller: Caller) -> None:
    assert replicas(LIVE) == 1
    with closing(caller.live()) as first, closing(caller.live()) as second:
        assert replicas(LIVE) == 2
        for session in (first, second):
            while not isinstance(session.recv(PATIENCE_S), bytes):
                pass
            session.send(json.dumps({"type": "session.stop"}))


def leave_politely(session: Any) -> None:
    session.close()


def leave_at_once(session: Any) -> None:
    """As a process that is killed: no closing handshake."""
    session.socket.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("leave", [leave_politely, leave_at_once])
def test_who_leaves_without_a_word_frees_the_place(caller: Caller, leave: Callable[[Any], None]) -> None:
    """Three sessions one after the other, and two places at most: one that was left is needed again."""
    for _ in range(3):
        with closing(caller.live()) as session:
            while not isinstance(session.recv(PATIENCE_S), bytes):
                pass
            leave(session)


def test_a_replica_whose_device_is_lost_is_replaced(caller: Caller, script: Path, data: Path) -> None:
    """And the job that ran then is made by another process."""
    script.write_text("DeviceLostError")
    job = caller.job(seed=2)
    wait_until(lambda: caller.status(job) == "completed")
    assert script.read_text() == ""
    wait_until(lambda: replicas(JOBS) == 2)
    again = caller.job(seed=2)
    wait_until(lambda: caller.status(again) == "completed")
    assert caller.ask(f"/v1/videos/{job}/content") == caller.ask(f"/v1/videos/{again}/content")
