"""Several devices in one server: two runtimes on the one processor stand for two cards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from emo_rt import Animator, Bundle
from emo_rt.errors import OverloadedError
from emo_rt.runtime.runtime import Runtime
from emo_rt.serve.app import make_app
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions
from tests.serve.conftest import wait_until
from tests.serve.inputs import PORTRAIT, URL
from tests.serve.test_jobs import create_endless
from tests.serve.test_live_socket import PATH, START, Viewer


@pytest.fixture(scope="module")
def pair(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    options = ServeOptions(data=str(tmp_path_factory.mktemp("data")), devices="cpu,cpu", limits=Limits(min_free_mb=0))
    with Runtime("cpu") as one, Runtime("cpu") as two:
        animators = [Animator.load(tiny_bundle.path, device="cpu", threads=1, runtime=each) for each in (one, two)]
        with Service(options, *({"tiny": animator} for animator in animators)) as service:
            yield service
        for animator in animators:
            animator.close()


@pytest.fixture(scope="module")
def of_pair(pair: Service) -> Iterator[TestClient]:
    with TestClient(make_app(pair), base_url=URL) as found:
        wait_until(lambda: pair.is_warm)
        yield found


def test_two_jobs_run_at_a_time(pair: Service, of_pair: TestClient) -> None:
    jobs = [create_endless(of_pair) for _ in range(3)]
    states = [("in_progress"), ("in_progress"), ("queued")]
    wait_until(lambda: [of_pair.get(f"/v1/videos/{job['id']}").json()["status"] for job in jobs] == states)
    of_pair.delete(f"/v1/videos/{jobs[0]['id']}")
    wait_until(lambda: of_pair.get(f"/v1/videos/{jobs[2]['id']}").json()["status"] == "in_progress")
    for job in jobs[1:]:
        of_pair.delete(f"/v1/videos/{job['id']}")
    wait_until(lambda: pair.runner.is_idle)
    wait_until(lambda: os.listdir(pair.store.folder / "jobs") == [])


def test_sessions_go_where_there_are_few(pair: Service, of_pair: TestClient) -> None:
    def talkers() -> list[int]:
        return [place.talkers for place in pair.places]

    sent = {"input_reference": ("face.png", PORTRAIT.read_bytes())}
    avatar = of_pair.post("/v1/avatars", files=sent, data={"options": '{"face_box": "full"}'}).json()
    start = {**START, "image_reference": None, "avatar": avatar["id"], "extra_params": {"guidance": 1}}
    with of_pair.websocket_connect(PATH) as first, of_pair.websocket_connect(PATH) as second:
        for socket in (first, second):
            socket.send_json(start)
            Viewer(socket).until_type("video.start")
        assert talkers() == [1, 1]
    wait_until(lambda: talkers() == [0, 0])
    of_pair.delete(f"/v1/avatars/{avatar['id']}")


def test_a_full_device_sends_a_session_on(pair: Service, of_pair: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pair.places
    real = Animator.live

    def live(animator: Animator, *args: Any, **settings: Any) -> Any:
        if animator is first.models["tiny"]:
            raise OverloadedError("no room")
        return real(animator, *args, **settings)

    monkeypatch.setattr(Animator, "live", live)
    with of_pair.websocket_connect(PATH) as socket:
        socket.send_json(START)
        Viewer(socket).until_type("video.start")
        assert (first.talkers, second.talkers) == (0, 1)
    wait_until(lambda: second.talkers == 0)


def test_names(pair: Service, of_pair: TestClient) -> None:
    assert [place.name for place in pair.places] == ["cpu#1", "cpu#2"]
    assert 'emo_rt_model_memory_bytes{model="tiny"}' in of_pair.get("/metrics").text


def test_devices_on_the_command_line(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from emo_rt.cli import main

    command = ["serve", str(tiny_bundle.path), "--data", str(tmp_path)]
    assert main([*command, "--devices", "cpu,cpu", "--device", "cpu"]) == 2
    assert "give one of them" in capsys.readouterr().err
    assert main([*command, "--devices", "cpu,auto"]) == 2
    assert "device is 'auto'" in capsys.readouterr().err
