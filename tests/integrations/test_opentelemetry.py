"""Spans of jobs and live sessions, with the real SDK; FastAPI's own are around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk: `make integrations` has it")

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.testclient import TestClient

from emo_rt import Animator
from emo_rt.errors import DeviceLostError
from emo_rt.serve.app import make_app
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions
from tests.serve.conftest import wait_until
from tests.serve.inputs import PORTRAIT, QUICK, URL, data_url, files

EXPORTER = InMemorySpanExporter()
START = {
    "type": "session.start",
    "image_reference": {"image_url": data_url(PORTRAIT.read_bytes(), "image/png")},
    "num_inference_steps": 1,
    "extra_params": {"guidance": 1, "face_box": "full"},
}
SECRET = "what nobody else shall read"


@pytest.fixture(scope="module", autouse=True)
def provider() -> None:
    """One for the process: OpenTelemetry lets nobody take it back."""
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(made)


@pytest.fixture
def client(tiny_animator: Animator, tmp_path: Path) -> Iterator[TestClient]:
    options = ServeOptions(data=str(tmp_path), limits=Limits(min_free_mb=0, max_sessions=1))
    with Service(options, {"tiny": tiny_animator}) as service, TestClient(make_app(service), base_url=URL) as found:
        found.service = service  # type: ignore[attr-defined]
        wait_until(lambda: service.is_warm)
        EXPORTER.clear()
        yield found


def spans(name: str) -> list[ReadableSpan]:
    return [span for span in EXPORTER.get_finished_spans() if span.name == name]


def traces(name: str) -> set[int]:
    """Those of FastAPI's spans of requests."""
    return {span.context.trace_id for span in spans(name) if span.kind is trace.SpanKind.SERVER}


def one(name: str) -> ReadableSpan:
    wait_until(lambda: bool(spans(name)))
    (found,) = spans(name)
    return found


def test_a_job(client: TestClient) -> None:
    sent = client.post("/v1/videos", files=files(), data={**QUICK, "prompt": SECRET})
    made = sent.json()["id"]
    span = one("job")
    assert span.attributes is not None
    assert span.attributes["emo_rt.job.id"] == made
    assert span.attributes["emo_rt.job.status"] == "completed"
    assert (span.attributes["emo_rt.model"], span.attributes["emo_rt.job.attempt"]) == ("tiny", 1)
    stages = {name for name in span.attributes if name.startswith("emo_rt.stage.")}
    assert {"emo_rt.stage.step_s", "emo_rt.stage.decode_s"} <= stages
    for part in (one("portrait"), one("video")):
        assert part.parent is not None
        assert part.parent.span_id == span.context.span_id
        assert span.start_time <= part.start_time <= part.end_time <= span.end_time
    others = [found for found in EXPORTER.get_finished_spans() if found.name != "job"]
    (queued,) = [found for found in others if (found.attributes or {}).get("emo_rt.job.id") == made]
    assert queued.context.trace_id in traces("POST /v1/videos")
    assert not any(SECRET in found.to_json() for found in EXPORTER.get_finished_spans())


def test_a_job_that_fails(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DeviceLostError("an illegal address")

    monkeypatch.setattr(Animator, "animate", fail)
    client.post("/v1/videos", files=files(), data=QUICK)
    span = one("job")
    assert span.attributes is not None
    assert span.attributes["emo_rt.job.status"] == "queued", "it is tried again by the next process"
    monkeypatch.setattr(Animator, "animate", lambda *_, **__: 1 / 0)
    client.service.runner.lost = None  # type: ignore[attr-defined]
    EXPORTER.clear()
    client.service.runner.wake()  # type: ignore[attr-defined]
    span = one("job")
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "division by zero")


def test_a_live_session(client: TestClient) -> None:
    with client.websocket_connect(f"{URL.replace('http', 'ws')}/v1/realtime/video") as socket:
        socket.send_json(START)
        while socket.receive_json()["type"] != "video.chunk_metadata":
            pass
        socket.receive_bytes()
        assert spans("live session") == []
        with client.websocket_connect(f"{URL.replace('http', 'ws')}/v1/realtime/video") as other:
            other.send_json(START)
            assert other.receive_json()["code"] == "too_many_sessions"
    span = one("live session")
    assert span.attributes is not None
    assert span.attributes["emo_rt.live.pairs"] >= 5
    assert span.attributes["emo_rt.live.rung"]
    assert span.attributes["emo_rt.live.late_frames"] >= 0
    assert [event.name for event in span.events] == ["open"]
    assert span.status.status_code is StatusCode.UNSET
    wait_until(lambda: len(spans("WS /v1/realtime/video")) == 2)
    assert span.parent is not None
    assert span.context.trace_id in traces("WS /v1/realtime/video")


def test_a_live_session_that_cannot_begin(client: TestClient) -> None:
    with client.websocket_connect(f"{URL.replace('http', 'ws')}/v1/realtime/video") as socket:
        socket.send_json({**START, "model": "none"})
        assert socket.receive_json()["code"] == "model_not_found"
    span = one("live session")
    assert span.status.status_code is StatusCode.ERROR
