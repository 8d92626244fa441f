"""A real server on a real port: killed, started again, told to end."""

from __future__ import annotations

import contextlib
import json
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from emo_rt import Bundle
from tests.serve.conftest import PATIENCE_S, wait_until
from tests.serve.inputs import ENDLESS, PORTRAIT, QUICK, files
from tests.serve.process import ServerProcess, wait_until_gone
from tests.serve.test_live_socket import START

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


def post(client: Any, seconds: float, fields: dict[str, str]) -> str:
    answer = client.post("/v1/videos", files=files(seconds), data=fields)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def status(client: Any, job: str) -> str:
    return str(client.get(f"/v1/videos/{job}").json()["status"])


def rows(data: Path) -> list[tuple[str, int]]:
    with sqlite3.connect(data / "store.sqlite") as database:
        found = database.execute("SELECT status, attempts FROM jobs ORDER BY seq").fetchall()
    database.close()
    return found


def test_a_life(tiny_bundle: Bundle, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with ServerProcess(tiny_bundle.path, data) as server, httpx2.Client(base_url=server.url, timeout=120) as client:
        port = server.port
        done = post(client, 0.4, QUICK)
        wait_until(lambda: status(client, done) == "completed")
        running, waiting = post(client, 20, ENDLESS), post(client, 0.4, QUICK)
        wait_until(lambda: status(client, running) == "in_progress")
        children = server.children()
        assert children, "decoders come from a helper process"
        server.kill()
    wait_until_gone(children)
    assert rows(data) == [("completed", 1), ("in_progress", 1), ("queued", 0)]
    with (
        ServerProcess(tiny_bundle.path, data, "--drain-seconds", "0", port=port) as server,
        httpx2.Client(base_url=server.url, timeout=120) as client,
    ):
        assert client.get(f"/v1/videos/{done}/content").content[4:8] == b"ftyp"
        wait_until(lambda: status(client, running) == "in_progress")
        assert rows(data) == [("completed", 1), ("in_progress", 2), ("queued", 0)]
        assert client.delete(f"/v1/videos/{running}").status_code == 200
        wait_until(lambda: status(client, waiting) == "completed")
        leave_while_waiting(client, server.port)
        last = post(client, 20, ENDLESS)
        wait_until(lambda: status(client, last) == "in_progress")
        children = server.children()
        assert end_with_a_viewer(server) == 0
    wait_until_gone(children)
    assert rows(data) == [("completed", 1), ("completed", 1), ("queued", 0)], "it goes back, and that does not count"
    with socket.create_server(("127.0.0.1", port)):
        pass


def leave_while_waiting(client: Any, port: int) -> None:
    """A client of ``/sync`` that goes away: its job goes, too."""
    request = client.build_request("POST", "/v1/videos/sync", files=files(20), data=ENDLESS)
    head = f"POST /v1/videos/sync HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    head += "".join(f"{name}: {request.headers[name]}\r\n" for name in ("content-type", "content-length")) + "\r\n"

    def jobs() -> list[str]:
        return [job["status"] for job in client.get("/v1/videos").json()["data"]]

    before = jobs()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head.encode() + request.read())
        wait_until(lambda: jobs() == ["in_progress", *before])
    wait_until(lambda: jobs() == before)


def end_with_a_viewer(server: ServerProcess) -> int:
    """SIGTERM while somebody watches: the viewer is told, and gets the end of the file. Returns the exit code."""
    with connect(f"ws://127.0.0.1:{server.port}/v1/realtime/video", max_size=None) as viewer:
        viewer.send(json.dumps(START))
        messages: list[Any] = [json.loads(viewer.recv(timeout=120))]
        while messages[-1]["type"] != "video.chunk_metadata":
            messages.append(json.loads(viewer.recv(timeout=120)))
        server.process.terminate()
        with contextlib.suppress(ConnectionClosed):  # any code but 1000 and 1001 is raised
            for message in viewer:
                if isinstance(message, str):
                    messages.append(json.loads(message))
        assert viewer.close_code == 1012
    kinds = [message["type"] for message in messages]
    assert {"error", "session.done"} <= set(kinds)
    assert messages[kinds.index("error")]["code"] == "server_restarting"
    return server.process.wait(PATIENCE_S)


def test_a_port_that_is_taken(tiny_bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from emo_rt.cli import main

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = main(["serve", str(tiny_bundle.path), "--data", str(tmp_path), "--port", str(port), "--device", "cpu"])
    assert code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in capfd.readouterr().err


def test_a_key_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from emo_rt.cli import main

    assert main(["serve", "--data", str(tmp_path), "--new-key", "anna"]) == 0
    assert capsys.readouterr().out.startswith("emo-")
    assert main(["serve", "--data", str(tmp_path), "--new-key", "anna"]) == 2
    assert PORTRAIT.exists()
