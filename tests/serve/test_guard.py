"""Who may talk to the server, and from where."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from emo_rt import Animator
from emo_rt.errors import ConfigError
from emo_rt.serve.app import make_app
from emo_rt.serve.keys import KeyRing, add_key
from emo_rt.serve.logs import REQUEST_ID, JsonFormatter, event
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions
from tests.serve.inputs import QUICK, URL, files
from tests.serve.test_jobs import refused
from tests.serve.test_live_socket import PATH, START, Viewer


@pytest.fixture(scope="module")
def keyed(tiny_animator: Animator, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A client of a server with two keys, and the keys."""
    folder = tmp_path_factory.mktemp("data")
    keys = {name: add_key(folder, name) for name in ("anna", "berta")}
    options = ServeOptions(host="0.0.0.0", data=str(folder), allow_host="talk.example.com",
                           allow_origin="https://app.example.com", limits=Limits(min_free_mb=0))  # fmt: skip
    with Service(options, {"tiny": tiny_animator}) as service:
        yield TestClient(make_app(service), base_url=URL), keys  # it is not started: jobs stay queued


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_keys_are_hashed(tmp_path: Path) -> None:
    key = add_key(tmp_path, "anna")
    text = (tmp_path / "keys.json").read_text()
    assert key not in text
    assert json.loads(text) == {"anna": hashlib.sha256(key.encode()).hexdigest()}
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    ring = KeyRing.load(tmp_path)
    assert [ring.owner(one) for one in (key, key + "x", "", None)] == ["anna", None, None, None]
    with pytest.raises(ConfigError, match="there is a key 'anna'"):
        add_key(tmp_path, "anna")
    with pytest.raises(ConfigError, match="expected 1 to 64 letters"):
        add_key(tmp_path, "a b")
    (tmp_path / "keys.json").write_text('{"anna": "secret"}')
    with pytest.raises(ConfigError, match="damaged"):
        KeyRing.load(tmp_path)


def test_a_key_is_needed(keyed: Any) -> None:
    client, keys = keyed
    for path in ("/v1/videos", "/v1/models", "/metrics"):
        assert "missing" in refused(client.get(path), 401, "invalid_api_key")
        assert "wrong" in refused(client.get(path, headers=bearer("emo-x")), 401, "invalid_api_key")
        assert client.get(path, headers=bearer(keys["anna"])).status_code == 200
    for path in ("/health", "/"):
        assert client.get(path).status_code == 200


def test_one_key_does_not_see_the_jobs_of_another(keyed: Any) -> None:
    client, keys = keyed
    anna, berta = bearer(keys["anna"]), bearer(keys["berta"])
    job = client.post("/v1/videos", files=files(), data=QUICK, headers=anna).json()
    assert len(client.get("/v1/videos", headers=anna).json()["data"]) == 1
    assert client.get("/v1/videos", headers=berta).json()["data"] == []
    refused(client.get(f"/v1/videos/{job['id']}", headers=berta), 404, "video_not_found")
    refused(client.delete(f"/v1/videos/{job['id']}", headers=berta), 404, "video_not_found")
    assert client.delete(f"/v1/videos/{job['id']}", headers=anna).status_code == 200


def test_keys_of_sockets(keyed: Any) -> None:
    client, keys = keyed
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(PATH):
        pass
    for how in ({"headers": bearer(keys["anna"])}, {"subprotocols": ["emo-rt", f"emo-rt-key.{keys['anna']}"]}):
        with client.websocket_connect(PATH, **how) as socket:
            socket.send_json({**START, "model": "x"})
            assert Viewer(socket).next()["code"] == "model_not_found"
            assert socket.accepted_subprotocol in (None, "emo-rt"), "the key is not sent back"


def test_without_keys_any_authorization_is_ignored(client: TestClient) -> None:
    assert client.get("/v1/videos", headers=bearer("anything")).status_code == 200


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.com", "", "127.0.0.1.evil.com"])
def test_dns_rebinding(client: TestClient, host: str) -> None:
    """A page of a stranger, whose name leads to 127.0.0.1 by now."""
    refused(client.get("/v1/videos", headers={"Host": host}), 400, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "[::1]:8000", "192.168.1.7:80", "LOCALHOST"])
def test_names_that_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/v1/videos", headers={"Host": host}).status_code == 200


def test_a_name_of_its_own(keyed: Any) -> None:
    client, keys = keyed
    for host, status in (("talk.example.com:443", 200), ("other.example.com", 400)):
        assert client.get("/v1/videos", headers={"Host": host, **bearer(keys["anna"])}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Origin": "ftp://localhost"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_forms_and_sockets_of_other_pages(client: TestClient, headers: dict[str, str]) -> None:
    refused(client.post("/v1/videos", files=files(), data=QUICK, headers=headers), 400, "origin_not_allowed")
    refused(client.delete("/v1/videos/video_0", headers=headers), 400, "origin_not_allowed")
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(PATH, headers=headers):
        pass
    assert client.get("/v1/videos", headers=headers).status_code == 200, "its answer cannot be read there"


def test_origins_that_may(client: TestClient, keyed: Any) -> None:
    own = {"Origin": "http://localhost"}
    refused(client.delete("/v1/videos/video_0", headers=own), 404, "video_not_found")
    other, keys = keyed
    allowed = {"Origin": "https://app.example.com", **bearer(keys["anna"])}
    answer = other.delete("/v1/videos/video_0", headers=allowed)
    refused(answer, 404, "video_not_found")
    assert answer.headers["access-control-allow-origin"] == "https://app.example.com", "so that the page can read it"
    ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    assert other.options("/v1/videos", headers={"Origin": "https://app.example.com", **ask}).status_code == 200
    assert client.options("/v1/videos", headers={"Origin": "https://evil.example.com", **ask}).status_code == 405


def test_every_answer_has_its_headers(client: TestClient) -> None:
    for answer in (client.get("/"), client.get("/v1/videos"), client.get("/x"), client.get("/", headers={"Host": "x"})):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in answer.headers
        assert "server" not in answer.headers


def test_invented_methods_are_one_figure(client: TestClient) -> None:
    """Each figure of Prometheus stays in memory, and nobody needs a key to send a request."""
    for number in range(3):
        assert client.request(f"INVENTED{number}", "/").status_code == 405
    text = client.get("/metrics").text
    assert "INVENTED" not in text
    assert 'method="other"' in text


def test_request_ids(client: TestClient) -> None:
    assert client.get("/health", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for odd in ("a b", "x" * 200, "{}"):
        assert client.get("/health", headers={"X-Request-Id": odd}).headers["x-request-id"].startswith("req_")


def test_log_lines(caplog: pytest.LogCaptureFixture, client: TestClient) -> None:
    with caplog.at_level(logging.INFO, "emo_rt.serve"):
        client.get("/v1/videos?after=secret", headers=bearer("secret"))
        token = REQUEST_ID.set("req_1")
        event("something", count=3)
        line = json.loads(JsonFormatter().format(caplog.records[-1]))
        REQUEST_ID.reset(token)
    assert (line["event"], line["request_id"], line["count"], line["level"]) == ("something", "req_1", 3, "info")
    request = json.loads(JsonFormatter().format(next(one for one in caplog.records if one.getMessage() == "request")))
    assert (request["method"], request["path"], request["status"]) == ("GET", "/v1/videos", 400)
    assert "secret" not in json.dumps(request)


def test_other_addresses_need_a_key(tmp_path: Path, tiny_animator: Animator) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.com"):
        with pytest.raises(ConfigError, match="there is no key"):
            Service(ServeOptions(host=host, data=str(tmp_path)), {"tiny": tiny_animator})
    assert not (tmp_path / "lock").exists()


@pytest.mark.parametrize("wrong", [{"allow_host": "http://x"}, {"allow_origin": "example.com"}, {"port": 70_000}])
def test_wrong_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ServeOptions(**wrong)
