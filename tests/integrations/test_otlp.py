"""What the guide says about a collector: a real server sends its spans there, with the real exporter."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the exporter: `make integrations` has it")

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from emo_rt import Bundle
from tests.serve.conftest import wait_until
from tests.serve.inputs import QUICK, files
from tests.serve.process import ServerProcess


class Collector:
    """OTLP over HTTP (opentelemetry.io/docs/specs/otlp): takes spans, and keeps them."""

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[Span] = []
        self.services = set[str]()

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.services.add(named["service.name"])
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            is_right = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if is_right:
                found.take(gzip.decompress(body) if packed else body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200 if is_right else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Not on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def facts(span: Span) -> dict[str, str]:
    return {one.key: one.value.string_value for one in span.attributes}


def test_spans_reach_a_collector(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        for name, value in {
            "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_SERVICE_NAME": "faces",
        }.items():
            monkeypatch.setenv(name, value)
        with ServerProcess(Path(tiny_bundle.path), tmp_path / "data") as server:
            wait_until(lambda: bool(server.events("ready")))
            with httpx2.Client(base_url=server.url, timeout=60) as client:
                made = client.post("/v1/videos", files=files(), data=QUICK).json()["id"]
                wait_until(lambda: client.get(f"/v1/videos/{made}").json()["status"] == "completed")
            assert server.terminate() == 0  # what waits is sent now
        (job,) = collector.named("job")
        (request,) = collector.named("POST /v1/videos")
    assert (facts(job)["emo_rt.job.id"], facts(job)["emo_rt.job.status"]) == (made, "completed")
    assert {span.name for span in collector.spans if span.parent_span_id == job.span_id} == {"portrait", "video"}
    queued = [span for span in collector.spans if span != job and facts(span).get("emo_rt.job.id") == made]
    assert [span.trace_id for span in queued] == [request.trace_id]
    assert collector.services == {"faces"}
