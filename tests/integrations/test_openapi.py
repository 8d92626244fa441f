"""What OpenAPI says of the server is true: Schemathesis makes requests of it, and looks at the answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis", reason="needs schemathesis: `make integrations` has it")

import httpx2
import schemathesis

from emo_rt import Bundle
from tests.serve.conftest import wait_until
from tests.serve.inputs import PORTRAIT, QUICK, files
from tests.serve.process import ServerProcess

UPLOADS = r"^/v1/(videos|avatars|faces|realtime/webrtc|audio/speech)$"
"""Their bodies hold what cannot be made up: pictures, sounds, offers, names of voices. So is an id in ``after``."""
SYNC = "^/v1/videos/sync$"
"""Where GET and DELETE mean a video of that name, which there never is."""
NO_KEYS = ["ignored_auth"]
"""Without keys there is nothing to ignore."""


@pytest.fixture(scope="module")
def server(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    with ServerProcess(Path(tiny_bundle.path), folder / "data") as found:
        wait_until(lambda: bool(found.events("ready")))
        yield found
        assert found.terminate() == 0
        assert not found.events("a request failed in an unexpected way")


@pytest.fixture(scope="module")
def api(server: ServerProcess) -> Any:
    found = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    found.config.update(base_url=server.url)
    return found


@pytest.mark.parametrize(
    ("paths", "left_out"),
    [
        (["--exclude-path-regex", f"{UPLOADS}|{SYNC}"], []),
        (["--include-path-regex", UPLOADS], ["positive_data_acceptance"]),
        (
            ["--include-path-regex", SYNC],
            ["positive_data_acceptance", "allow_header_conformance", "unsupported_method"],
        ),
    ],
    ids=["others", "uploads", "sync"],
)
def test_whatever_comes_is_answered_as_it_says(
    server: ServerProcess, tmp_path: Path, paths: list[str], left_out: list[str]
) -> None:
    """Wrong and right requests: status, type and form of the answers, and the methods of each path. As a command, since
    Schemathesis' own fixtures want another pytest."""
    options = ["--phases", "coverage,fuzzing", "--max-examples", "12", "--seed", "1", "--max-failures", "20"]
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json", "--no-color"]
    checks = ["--exclude-checks", ",".join([*NO_KEYS, *left_out])]
    done = subprocess.run(
        [*command, *options, *paths, *checks], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_what_is_there_is_answered_as_it_says(api: Any, server: ServerProcess) -> None:
    """Those answers that made-up requests do not get: of a real job and a real avatar."""
    with httpx2.Client(base_url=server.url, timeout=60) as client:
        sent = {"input_reference": ("face.png", PORTRAIT.read_bytes())}
        avatar = client.post("/v1/avatars", files=sent, data={"options": '{"face_box": "full"}'}).json()["id"]
        video = client.post("/v1/videos", files=files(), data=QUICK).json()["id"]
        seen = [validated(api, client, "/v1/videos/{video_id}", "GET", video_id=video)]
        wait_until(lambda: client.get(f"/v1/videos/{video}").json()["status"] == "completed")
        ids = {"video_id": video, "avatar_id": avatar}
        for path in api:
            names = [name for name in ids if f"{{{name}}}" in path]
            for method in ("GET", "DELETE") if names else ("GET",):
                if method in {one.upper() for one in api[path]}:
                    seen.append(validated(api, client, path, method, **{name: ids[name] for name in names}))
        for path, body in (("/v1/videos/sync", {"files": files(), "data": QUICK}), ("/v1/faces", {"files": sent})):
            seen.append(validated_answer(api[path]["POST"], client.post(path, **body)))
    assert len(seen) >= 15
    assert {status for status in seen if status >= 400} <= {404}, "only what was deleted is not there"


def validated(api: Any, client: httpx2.Client, path: str, method: str, **ids: str) -> int:
    return validated_answer(api[path][method], client.request(method, path.format(**ids)))


def validated_answer(operation: Any, answer: httpx2.Response) -> int:
    answer.request.read()  # Schemathesis wants to have it
    operation.validate_response(answer)
    return answer.status_code
