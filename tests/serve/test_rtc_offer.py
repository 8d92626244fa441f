"""What comes with an offer of WebRTC, where aiortc is not needed: tests/integrations/test_webrtc.py has the rest."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from emo_rt.serve import routes_rtc
from emo_rt.serve.app import make_app
from emo_rt.serve.service import Service

PATH = "/v1/realtime/webrtc"
SDP = {"content-type": "application/sdp"}


@pytest.mark.parametrize(
    ("sent", "status", "code", "param"),
    [
        ({"content": "v=0", "headers": {"content-type": "text/plain"}}, 400, "invalid_body", None),
        ({"content": "v=0"}, 400, "invalid_body", None),
        ({"content": "", "headers": SDP}, 400, "missing_field", "sdp"),
        ({"json": {"sdp": 7}}, 400, "missing_field", "sdp"),
        ({"json": ["v=0"]}, 400, "invalid_json", None),
        ({"content": "x" * (64 << 10) + "y", "headers": SDP}, 413, "too_large", None),
        ({"json": {"sdp": "x" * (64 << 10) + "y"}}, 413, "too_large", "sdp"),
        ({"json": {"sdp": "v=0", "image_reference": {"image_url": "x" * (4 << 20)}}}, 413, "too_large", None),
        ({"json": {"sdp": "v=0", "seed": 1, "extra_params": {"seed": 2}}}, 400, "invalid_option", "seed"),
        ({"content": "v=0", "headers": SDP, "params": {"sedd": "1"}}, 400, "unknown_field", "sedd"),
        ({"content": "v=0", "headers": SDP, "params": {"format": "m4s"}}, 400, "unknown_field", "format"),
        ({"content": "v=0", "headers": SDP, "params": {"seed": "many"}}, 400, "invalid_value", "seed"),
        ({"content": "v=0", "headers": SDP, "params": {"sample_rate": "22051"}}, 400, "invalid_value", "sample_rate"),
        ({"json": {"sdp": "v=0", "extra_params": "{"}}, 400, "invalid_json", "extra_params"),
    ],
)
def test_refused(client: TestClient, sent: dict[str, Any], status: int, code: str, param: str | None) -> None:
    answer = client.post(PATH, **sent)
    assert answer.status_code == status, answer.text
    assert (answer.json()["error"]["code"], answer.json()["error"]["param"]) == (code, param)


def test_without_the_package_it_is_told(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_rtc, "find_spec", lambda name: None)
    answer = client.post(PATH, content="v=0", headers=SDP)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "webrtc_unavailable")
    assert "emo_rt[webrtc]" in answer.json()["error"]["message"]


def test_a_session_that_is_not_there(client: TestClient) -> None:
    assert client.delete(f"{PATH}/call_0").json()["error"]["code"] == "call_not_found"
    assert client.patch(f"{PATH}/call_0").headers["allow"] == "DELETE"


def test_where_no_peer_comes_through_there_is_none(service: Service) -> None:
    """As on Ray Serve."""
    paths = make_app(service, has_webrtc=False)._app.openapi()["paths"]  # type: ignore[attr-defined]
    assert "/v1/videos" in paths
    assert PATH not in paths
