"""The page's files, and what the server gives to it: spoken texts, what models heed, figures of a live session."""

from __future__ import annotations

import io
import re
import threading
import wave
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra serve")

from starlette.testclient import TestClient

from emo_rt.serve import speech
from emo_rt.serve.page_files import FILES, TYPES
from tests.serve.conftest import PATIENCE_S
from tests.serve.inputs import PORTRAIT, data_url

NAMES = sorted(path.name for path in FILES.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_files_have_their_types(client: TestClient, name: str) -> None:
    answer = client.get(f"/{name}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == TYPES[Path(name).suffix]
    assert answer.headers["cache-control"] == "no-cache"
    assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_the_page_names_only_its_own_files(client: TestClient) -> None:
    html = client.get("/").text
    named = re.findall(r'(?:src|href|data-portrait)="([^"#]+)"', html)
    assert {"app.js", "base.css", "mara.webp"} <= set(named)
    scripts = "".join((FILES / name).read_text(encoding="utf-8") for name in NAMES if name.endswith(".js"))
    named += re.findall(r'from "\./([^"]+)"', scripts)
    assert set(named) <= set(NAMES)
    assert "https://" not in html + scripts
    assert sum((FILES / name).stat().st_size for name in NAMES if name.endswith(".webp")) < 100_000


def test_the_sample_voice(client: TestClient) -> None:
    assert client.get("/samples/voice.flac").content.startswith(b"fLaC")


def test_models_say_what_they_heed(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert {"speed", "head_room", "steps"} <= set(model["heeds"])
    assert "motion_scale" not in model["heeds"]
    assert model["preset"] in model["presets"]


def test_live_figures_on_request(client: TestClient) -> None:
    start = {"type": "session.start", "image_reference": {"image_url": data_url(PORTRAIT.read_bytes(), "image/png")}}
    with client.websocket_connect("ws://localhost/v1/realtime/video") as socket:
        socket.send_json({**start, "num_inference_steps": 1, "extra_params": {"guidance": 1, "face_box": "full"}})
        assert socket.receive_json()["type"] == "video.start"
        socket.send_json({"type": "session.stats"})
        while True:
            found = socket.receive_json()
            if found["type"] == "session.stats":
                break
            socket.receive_bytes()
        assert {"rung", "late_frames", "queued_s", "latency"} <= set(found)
        socket.send_json({"type": "session.stop"})


class TestSpeech:
    """With the real program."""

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        if not speech.voices():
            pytest.skip("needs espeak-ng: apt-get install espeak-ng")

    def test_voices(self, client: TestClient) -> None:
        found = client.get("/v1/audio/voices").json()["data"]
        assert {"id": "en-gb", "object": "voice", "name": "English (Great Britain)"} in found
        assert len({one["id"] for one in found}) == len(found)

    def test_a_text_becomes_sound(self, client: TestClient) -> None:
        def seconds(speed: float) -> float:
            answer = client.post("/v1/audio/speech", json={"input": "Good morning to you all.", "speed": speed})
            assert answer.headers["content-type"] == "audio/wav"
            with wave.open(io.BytesIO(answer.content)) as file:
                assert file.getnframes() * file.getsampwidth() == len(answer.content) - speech.HEADER
                return file.getnframes() / file.getframerate()

        assert 0.5 < seconds(2) < 0.8 * seconds(1)

    def test_a_text_is_no_option(self, client: TestClient) -> None:
        answer = client.post("/v1/audio/speech", json={"input": "--version -w /tmp/file"})
        assert answer.content.startswith(b"RIFF")

    @pytest.mark.parametrize(
        ("body", "param"),
        [
            ({"input": ""}, "input"),
            ({"input": "x" * (speech.LONGEST_TEXT + 1)}, "input"),
            ({"input": "Hello", "voice": "-w"}, "voice"),
            ({"input": "Hello", "speed": 9}, "speed"),
            ({"input": "Hello", "response_format": "mp3"}, "response_format"),
            ({"input": "Hello", "unknown": 1}, "unknown"),
            ({}, "input"),
        ],
    )
    def test_what_cannot_be_spoken(self, client: TestClient, body: dict[str, object], param: str) -> None:
        answer = client.post("/v1/audio/speech", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == param


def test_waiting_texts_do_not_keep_others_waiting(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are 40 threads for all quick requests; a program that takes seconds must not take them."""
    is_over = threading.Event()
    monkeypatch.setattr("emo_rt.serve.routes_speech.speak", lambda *_: bytes(is_over.wait(PATIENCE_S)))
    with ThreadPoolExecutor(51) as pool:
        texts = [pool.submit(client.post, "/v1/audio/speech", json={"input": "Hello"}) for _ in range(50)]
        try:
            for path in ("/v1/videos", "/health"):
                assert pool.submit(client.get, path).result(PATIENCE_S / 4).status_code == 200
        finally:
            is_over.set()
        assert {text.result().status_code for text in texts} == {200}


@pytest.fixture
def without_espeak(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PATH", str(tmp_path))
    speech.voices.cache_clear()
    yield
    speech.voices.cache_clear()


@pytest.mark.usefixtures("without_espeak")
def test_without_the_program(client: TestClient) -> None:
    assert client.get("/v1/audio/voices").json()["data"] == []
    answer = client.post("/v1/audio/speech", json={"input": "Hello"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "speech_unavailable"


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/", "POST", "GET, HEAD"),
        ("/app.js", "DELETE", "GET, HEAD"),
        ("/v1/videos", "PUT", "GET, POST"),
        ("/v1/videos/video_0", "POST", "DELETE, GET"),
        ("/v1/faces", "GET", "POST"),
        ("/health", "DELETE", "GET"),
    ],
)
def test_a_wrong_method_is_told_with_the_right_ones(client: TestClient, path: str, method: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.json()["error"]["code"] == "method_not_allowed"
