"""``WS /v1/realtime/video``: what comes out is a video that plays, and what goes wrong is said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from emo_rt.media.probe import probe
from emo_rt.serve import live
from emo_rt.serve.app import make_app
from emo_rt.serve.service import LIVE_PRIORITY, Service
from tests.serve.conftest import MakeService, wait_until
from tests.serve.inputs import ENDLESS, PORTRAIT, URL, data_url, files

PATH = "ws://localhost/v1/realtime/video"
"""With its host: the test client calls it testserver otherwise."""
START = {
    "type": "session.start",
    "image_reference": {"image_url": data_url(PORTRAIT.read_bytes(), "image/png")},
    "num_inference_steps": 1,
    "idle": "loop",
    "extra_params": {"guidance": 1, "face_box": "full"},
    "fragment_frames": 4,
}
RATE = 16_000


class Viewer:
    """Takes what the server sends."""

    def __init__(self, socket: WebSocketTestSession) -> None:
        self.socket = socket
        self.video = b""
        self.metadata: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []

    def next(self) -> dict[str, Any]:
        """One message; a video's binary is taken with it."""
        message = dict(self.socket.receive_json())
        self.messages.append(message)
        if message["type"] == "video.chunk_metadata":
            data = self.socket.receive_bytes()
            assert len(data) == message["byte_length"]
            self.metadata.append(message)
            self.video += data
        return message

    def until(self, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        while True:
            message = self.next()
            if holds(message):
                return message

    def until_type(self, kind: str) -> dict[str, Any]:
        return self.until(lambda message: message["type"] == kind)

    def closed(self) -> int:
        """The code that the server closes with."""
        try:
            while True:
                self.next()
        except WebSocketDisconnect as exc:
            return exc.code


def sound(seconds: float) -> bytes:
    return np.random.default_rng(1).integers(-3000, 3000, round(seconds * RATE)).astype("<i2").tobytes()


def test_a_conversation(client: TestClient, service: Service, tmp_path: Path) -> None:
    with client.websocket_connect(PATH) as socket:
        viewer = Viewer(socket)
        socket.send_json(START)
        start = viewer.next()
        assert (start["type"], start["format"]) == ("video.start", "m4s")
        assert start["request_id"].startswith("req_")
        config = start["config"]
        assert config == {"width": 32, "height": 32, "fps": 25, "sample_rate": RATE, "fragment_frames": 4}
        viewer.until_type("video.chunk_metadata")
        assert client.get("/metrics").text.count("emo_rt_live_sessions 1.0") == 1
        socket.send_bytes(sound(0.5))
        socket.send_json({"type": "input_audio.end"})
        viewer.until(lambda message: message.get("speaking") is True)
        socket.send_json({"type": "session.ping"})
        viewer.until_type("session.pong")
        figures = client.get("/metrics").text
        assert re.search(r'^emo_rt_live_rung_sessions\{rung="\w+"\} 1.0$', figures, re.MULTILINE)
        assert re.search(r'^emo_rt_live_latency_seconds\{part="total",quantile="0.9"\} \d', figures, re.MULTILINE)
        socket.send_json({"type": "session.stop"})
        done = viewer.until_type("session.done")
        assert viewer.closed() == 1000
    media = [one for one in viewer.metadata if one["kind"] == "media"]
    assert [one["transport_chunk_index"] for one in viewer.metadata] == list(range(len(viewer.metadata)))
    assert {one["num_frames"] for one in media[:-1]} == {4}
    frames = sum(one["num_frames"] for one in viewer.metadata)
    assert viewer.metadata[-1]["kind"] == "trailer"
    (tmp_path / "seen.mp4").write_bytes(viewer.video)
    info = probe(tmp_path / "seen.mp4")
    assert info.frames == frames == done["num_frames"]
    assert info.codecs == ("h264", "aac")
    assert info.audio_duration_s == pytest.approx(info.video_duration_s, abs=1 / 25)
    assert "AI-generated" in info.metadata["comment"]
    wait_until(lambda: service.quotas.sessions == 0)


def test_interrupted(client: TestClient) -> None:
    with client.websocket_connect(PATH) as socket:
        viewer = Viewer(socket)
        socket.send_json(START)
        socket.send_bytes(sound(30))
        viewer.until(lambda message: message.get("speaking") is True)
        socket.send_json({"type": "input_audio.clear"})
        assert viewer.until_type("input_audio.cleared")["played_s"] < 30
        viewer.until(lambda message: message.get("speaking") is False)
        socket.send_json({"type": "session.stop"})
        assert viewer.closed() == 1000


def test_before_jobs(client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The device serves the higher priority first; jobs have 0. A viewer does not wait for the end of a job's clip."""
    job = client.post("/v1/videos", files=files(10), data=ENDLESS).json()
    wait_until(lambda: client.get(f"/v1/videos/{job['id']}").json()["status"] == "in_progress")
    seen = []
    animator = service.models["tiny"]
    real = type(animator).live
    monkeypatch.setattr(type(animator), "live", lambda *a, **k: (seen.append(k["priority"]), real(*a, **k))[1])
    with client.websocket_connect(PATH) as socket:
        socket.send_json(START)
        Viewer(socket).until_type("video.chunk_metadata")
        assert client.get(f"/v1/videos/{job['id']}").json()["progress"] < 4, "25 clips: it is in its first"
    assert seen == [LIVE_PRIORITY]
    assert LIVE_PRIORITY > 0
    wait_until(lambda: service.quotas.sessions == 0)


def test_a_viewer_that_leaves(client: TestClient, service: Service) -> None:
    with client.websocket_connect(PATH) as socket:
        socket.send_json(START)
        Viewer(socket).until_type("video.chunk_metadata")
        assert service.quotas.sessions == 1
    wait_until(lambda: service.quotas.sessions == 0 and not service.live)


def test_with_an_avatar(client: TestClient, service: Service) -> None:
    sent = {"input_reference": ("face.png", PORTRAIT.read_bytes())}
    avatar = client.post("/v1/avatars", files=sent, data={"options": '{"face_box": "full"}'}).json()
    with client.websocket_connect(PATH) as socket:
        viewer = Viewer(socket)
        start = {name: value for name, value in START.items() if name != "image_reference"}
        socket.send_json({**start, "avatar": avatar["id"], "extra_params": {"guidance": 1, "paste_back": False}})
        assert viewer.next()["config"]["width"] == 32
        socket.send_json({"type": "session.stop"})
        assert viewer.closed() == 1000
    client.delete(f"/v1/avatars/{avatar['id']}")
    wait_until(lambda: service.quotas.sessions == 0)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("[]", "invalid_json"),
        ('{"type": "session.ping"}', "not_started"),
        (json.dumps({**START, "model": "x"}), "model_not_found"),
        (json.dumps({**START, "formt": "x"}), "unknown_field"),
        (json.dumps({**START, "format": "webm"}), "invalid_value"),
        (json.dumps({**START, "sample_rate": 1}), "invalid_option"),
        (json.dumps({**START, "fragment_frames": 0}), "invalid_value"),
        (json.dumps({**START, "image_reference": {"image_url": "http://10.0.0.1/"}}), "url_not_allowed"),
        (json.dumps({**START, "image_reference": {"image_url": "data:,x"}}), "invalid_image"),
        (json.dumps({**START, "image_reference": None}), "missing_field"),
        (json.dumps({"type": "session.start", "avatar": "avatar_0"}), "avatar_not_found"),
        (json.dumps({**START, "extra_params": {"seeed": 1}}), "invalid_option"),
        (json.dumps({**START, "extra_params": {"crf": 1}}), "invalid_option"),
        ("x" * (4 << 20) + "y", "message_too_large"),
    ],
)
def test_refused_at_the_start(client: TestClient, service: Service, message: str, code: str) -> None:
    with client.websocket_connect(PATH) as socket:
        socket.send_text(message)
        viewer = Viewer(socket)
        error = viewer.next()
        assert (error["type"], error["code"]) == ("error", code), error
        assert viewer.closed() == 1008
    assert service.quotas.sessions == 0


@pytest.mark.parametrize(
    ("send", "code", "ends"),
    [
        (lambda socket: socket.send_json({"type": "session.sotp"}), "unknown_type", False),
        (lambda socket: socket.send_text("{"), "invalid_json", True),
        (lambda socket: socket.send_text(json.dumps({"type": "x" * (128 << 10)})), "message_too_large", True),
        (lambda socket: socket.send_bytes(b"123"), "invalid_audio", True),
        (lambda socket: socket.send_bytes(bytes((1 << 20) + 2)), "message_too_large", True),
        (lambda socket: [socket.send_bytes(bytes(1 << 20)) for _ in range(5)], "input_audio_full", False),
    ],
)
def test_wrong_messages(client: TestClient, send: Any, code: str, ends: bool) -> None:
    with client.websocket_connect(PATH) as socket:
        viewer = Viewer(socket)
        socket.send_json(START)
        viewer.until_type("video.start")
        send(socket)
        assert viewer.until_type("error")["code"] == code
        if not ends:
            socket.send_json({"type": "session.stop"})
        assert viewer.closed() == (1008 if ends else 1000)


def test_nothing_said(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "START_S", 0.01)
    with client.websocket_connect(PATH) as socket:
        viewer = Viewer(socket)
        assert viewer.next()["code"] == "start_timeout"
        assert viewer.closed() == 1008


def test_too_many(make_service: MakeService) -> None:
    service = make_service(max_sessions=1)
    with (
        TestClient(make_app(service), base_url=URL) as client,
        client.websocket_connect(PATH) as first,
        client.websocket_connect(PATH) as second,
    ):
        first.send_json(START)
        Viewer(first).until_type("video.start")
        second.send_json(START)
        assert Viewer(second).next()["code"] == "too_many_sessions"


def test_the_server_ends(make_service: MakeService) -> None:
    service = make_service(drain_seconds=0)
    with TestClient(make_app(service), base_url=URL) as client, client.websocket_connect(PATH) as socket:
        viewer = Viewer(socket)
        socket.send_json(START)
        viewer.until_type("video.chunk_metadata")
        assert client.portal is not None
        draining = client.portal.start_task_soon(service.drain)
        assert viewer.until_type("error")["code"] == "server_restarting"
        viewer.until_type("session.done")
        assert viewer.closed() == 1012
        draining.result()
    assert not service.live
