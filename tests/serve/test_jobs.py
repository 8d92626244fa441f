"""``/v1/videos`` over plain HTTP."""

from __future__ import annotations

import errno
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from emo_rt import Animator
from emo_rt.errors import DeviceLostError
from emo_rt.media.probe import probe
from emo_rt.media.video_file import VideoWriter
from emo_rt.serve import decoding
from emo_rt.serve.app import make_app
from emo_rt.serve.service import Service
from tests.serve.conftest import MakeService, wait_until
from tests.serve.inputs import ENDLESS, PORTRAIT, QUICK, URL, data_url, files, voice

FIELDS = {
    *("id", "object", "model", "status", "progress", "created_at", "completed_at", "expires_at", "prompt", "size"),
    *("seconds", "remixed_from_video_id", "error", "avatar", "inference_time_s", "stage_durations", "peak_memory_mb"),
}


def create(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/videos", files=files(), data={**QUICK, **fields})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def create_endless(client: TestClient) -> dict[str, Any]:
    answer = client.post("/v1/videos", files=files(20), data=ENDLESS)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended(client: TestClient, job: dict[str, Any]) -> dict[str, Any]:
    """The job when it is over."""
    found = job

    def is_over() -> bool:
        nonlocal found
        found = client.get(f"/v1/videos/{job['id']}").json()
        return found["status"] in ("completed", "failed")

    wait_until(is_over)
    return found


def refused(answer: Any, status: int, code: str, param: str | None = None) -> str:
    """The message of an error, whose form is checked."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param), error
    return str(error["message"])


def test_from_upload_to_video(client: TestClient, tmp_path: Path) -> None:
    job = create(client, prompt="a face", model="tiny", user="u1", seed="3")
    assert set(job) == FIELDS
    assert (job["object"], job["status"], job["progress"], job["prompt"]) == ("video", "queued", 0, "a face")
    done = ended(client, job)
    assert (done["status"], done["progress"], done["error"]) == ("completed", 100, None)
    assert done["stage_durations"]["step"] > 0
    assert done["expires_at"] - done["completed_at"] == 24 * 3600
    answer = client.get(f"/v1/videos/{job['id']}/content")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "video.mp4").write_bytes(answer.content)
    info = probe(tmp_path / "video.mp4")
    assert f"{info.width}x{info.height}" == done["size"]
    assert f"{info.video_duration_s:.2f}" == done["seconds"] == job["seconds"]
    assert "AI-generated" in info.metadata["comment"]
    part = client.get(f"/v1/videos/{job['id']}/content", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, answer.content[10:20])
    thumbnail = client.get(f"/v1/videos/{job['id']}/content?variant=thumbnail")
    assert thumbnail.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(thumbnail.content)) as image:
        assert image.size == (info.width, info.height)
    refused(client.get(f"/v1/videos/{job['id']}/content?variant=spritesheet"), 400, "invalid_value", "variant")


def test_as_json(client: TestClient, tiny_animator: Animator, tmp_path: Path) -> None:
    """The same video as by the SDK, bit for bit."""
    body = {
        "image_reference": {"image_url": data_url(PORTRAIT.read_bytes(), "image/png")},
        "audio_reference": {"audio_url": data_url(voice(), "audio/wav")},
        "num_inference_steps": 2,
        "seed": 5,
        "extra_params": {"face_box": "full", "crf": 20},
    }
    answer = client.post("/v1/videos", json=body)
    assert answer.status_code == 200, answer.text
    done = ended(client, answer.json())
    (tmp_path / "voice.wav").write_bytes(voice())
    avatar = tiny_animator.prepare(PORTRAIT, face_box="full")
    video = tiny_animator.animate(avatar, tmp_path / "voice.wav", steps=2, seed=5)
    assert (video.width, video.height) == tuple(map(int, done["size"].split("x")))
    made = tmp_path / "made.mp4"
    made.write_bytes(client.get(f"/v1/videos/{done['id']}/content").content)
    ours, theirs = (decoded(path) for path in (saved(video, tmp_path / "own.mp4"), made))
    assert np.array_equal(ours, theirs)


def saved(video: Any, path: Path) -> Path:
    from emo_rt import VideoOptions

    video.save(path, VideoOptions(crf=20))
    return path


def decoded(path: Path) -> np.ndarray:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_poll_header(client: TestClient) -> None:
    job = create_endless(client)
    for _ in range(2):
        answer = client.get(f"/v1/videos/{job['id']}")
        assert int(answer.headers["openai-poll-after-ms"]) in (500, 1000)
    client.delete(f"/v1/videos/{job['id']}")
    done = ended(client, create(client))
    assert "openai-poll-after-ms" not in client.get(f"/v1/videos/{done['id']}").headers


def test_list(client: TestClient) -> None:
    names = [create(client)["id"] for _ in range(3)]
    whole = client.get("/v1/videos").json()
    assert [one["id"] for one in whole["data"]] == names[::-1]
    assert (whole["object"], whole["first_id"], whole["last_id"]) == ("list", names[2], names[0])
    assert whole["has_more"] is False
    first = client.get("/v1/videos?limit=2&order=asc").json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (names[:2], True)
    rest = client.get(f"/v1/videos?limit=2&order=asc&after={names[1]}").json()
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (names[2:], False)
    refused(client.get("/v1/videos?limit=0"), 400, "invalid_value", "limit")
    refused(client.get("/v1/videos?limit=101"), 400, "invalid_value", "limit")
    refused(client.get("/v1/videos?order=up"), 400, "invalid_value", "order")
    refused(client.get("/v1/videos?after=video_0"), 400, "invalid_value", "after")


def test_delete_stops_a_running_job(client: TestClient, service: Service) -> None:
    running, waiting = create_endless(client), create_endless(client)
    wait_until(lambda: client.get(f"/v1/videos/{running['id']}").json()["status"] == "in_progress")
    refused(client.get(f"/v1/videos/{running['id']}/content"), 404, "not_ready")
    for job in (waiting, running):
        answer = client.delete(f"/v1/videos/{job['id']}")
        assert answer.json() == {"id": job["id"], "object": "video.deleted", "deleted": True}
        refused(client.get(f"/v1/videos/{job['id']}"), 404, "video_not_found")
        refused(client.delete(f"/v1/videos/{job['id']}"), 404, "video_not_found")
    wait_until(lambda: list((service.store.folder / "jobs").iterdir()) == [])
    assert ended(client, create(client))["status"] == "completed", "the next job works"


def test_a_failed_job_says_why(client: TestClient) -> None:
    """No face: found out when the job runs. The answer is 200, so that clients that poll can read it."""
    target = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(target, "PNG")
    sent = {**files(), "input_reference": ("green.png", target.getvalue())}
    job = ended(client, client.post("/v1/videos", files=sent, data={"num_inference_steps": "1"}).json())
    assert job["status"] == "failed"
    assert job["error"]["code"] == "face_not_found"
    assert "/" not in job["error"]["message"].split("face")[0], "no path of the server"
    refused(client.get(f"/v1/videos/{job['id']}/content"), 422, "face_not_found")


def test_sizes(client: TestClient) -> None:
    assert ended(client, create(client, size="32x32"))["size"] == "32x32"
    assert ended(client, create(client, size="128x128"))["size"] == "128x128"
    message = refused(client.post("/v1/videos", files=files(), data={**QUICK, "size": "640x480"}), 400,
                      "invalid_size", "size")  # fmt: skip
    assert "expected 32x32" in message


def test_seconds_cut_the_sound(client: TestClient) -> None:
    assert ended(client, create(client, seconds="0.2"))["seconds"] == "0.20"


@pytest.mark.parametrize(
    ("changes", "code", "param"),
    [
        ({"model": "sora-2"}, "model_not_found", "model"),
        ({"seconds": "-1"}, "invalid_value", "seconds"),
        ({"seconds": "nan"}, "invalid_value", "seconds"),
        ({"size": "big"}, "invalid_value", "size"),
        ({"fps": "7"}, "invalid_value", "fps"),
        ({"num_inference_steps": "many"}, "invalid_value", "num_inference_steps"),
        ({"num_inference_steps": "0"}, "invalid_option", "extra_params"),
        ({"guidance_scale": "2"}, "invalid_option", "guidance_scale"),
        ({"negative_prompt": "ugly"}, "unknown_field", "negative_prompt"),
        ({"extra_params": "[]"}, "invalid_json", "extra_params"),
        ({"extra_params": '{"sovler": "ddim"}'}, "invalid_option", "extra_params"),
        ({"extra_params": '{"masks": "/etc/passwd,a,b"}'}, "invalid_option", "extra_params"),
        ({"extra_params": '{"embedding_model": "/x.onnx"}'}, "invalid_option", "extra_params"),
        ({"extra_params": '{"generated_mark": false}'}, "invalid_option", "extra_params"),
        ({"extra_params": '{"watermark": false}'}, "invalid_option", "extra_params"),
        ({"extra_params": '{"watermark_payload": 1}'}, "invalid_option", "extra_params"),
        ({"extra_params": '{"c2pa_key": "/etc/passwd"}'}, "invalid_option", "extra_params"),
        ({"extra_params": '{"motion_scale": [1, 1, 1]}'}, "invalid_option", "extra_params"),
        ({"avatar": "avatar_0"}, "missing_field", "input_reference"),
        ({"image_reference": '{"image_url": "data:,x"}'}, "invalid_value", "image_reference"),
    ],
)
def test_wrong_fields(client: TestClient, changes: dict[str, str], code: str, param: str) -> None:
    refused(client.post("/v1/videos", files=files(), data={**QUICK, **changes}), 400, code, param)
    assert client.get("/v1/videos").json()["data"] == []


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"image_reference": {"image_url": "http://127.0.0.1/x.png"}}, "url_not_allowed", "image_reference"),
        ({"image_reference": {"image_url": "file:///etc/passwd"}}, "url_not_allowed", "image_reference"),
        ({"image_reference": {"image_url": "data:image/png;base64,%%%"}}, "invalid_reference", "image_reference"),
        ({"image_reference": {"file_id": "x"}}, "invalid_reference", "image_reference"),
        ({"image_reference": {"image_url": "data:,x"}}, "missing_field", "audio"),
        ({}, "missing_field", "audio"),
        ({"input_reference": "x"}, "invalid_value", "input_reference"),
        ({"prompt": 5}, "invalid_value", "prompt"),
        ({"seed": True}, "invalid_value", "seed"),
    ],
)
def test_wrong_json(client: TestClient, body: dict[str, Any], code: str, param: str) -> None:
    refused(client.post("/v1/videos", json=body), 400, code, param)


@pytest.mark.parametrize("body", ['{"prompt": "\\ud800"}', '{"\\ud800": 1}', '{"model": "\\ud800"}'])
def test_half_a_character(client: TestClient, body: str) -> None:
    """JSON can hold half of a surrogate pair; UTF-8, and so the database and every answer, cannot."""
    answer = client.post("/v1/videos", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"]


def test_wrong_bodies(client: TestClient) -> None:
    refused(client.post("/v1/videos", content=b"{", headers={"content-type": "application/json"}), 400, "invalid_json")
    refused(client.post("/v1/videos", content=b"[" * 100_000, headers={"content-type": "application/json"}), 400,
            "invalid_json")  # fmt: skip
    refused(client.post("/v1/videos", content=b"x", headers={"content-type": "text/plain"}), 400, "invalid_body")
    broken = {"content-type": "multipart/form-data; boundary=a"}
    assert client.post("/v1/videos", content=b"x", headers=broken).status_code == 400
    assert client.post("/v1/videos", content=b"x", headers={"content-type": "multipart/form-data"}).status_code == 400
    refused(client.put("/v1/videos"), 405, "method_not_allowed")
    refused(client.get("/v1/nothing"), 404, "not_found")


@pytest.mark.parametrize(("name", "code"), [("input_reference", "invalid_image"), ("audio", "invalid_audio")])
def test_bad_uploads(client: TestClient, name: str, code: str) -> None:
    sent = {**files(), name: ("bad", b"this is neither picture nor sound")}
    message = refused(client.post("/v1/videos", files=sent, data=QUICK), 400, code, name)
    assert message.startswith(f"{name} cannot be read"), "a name that the caller knows, and no path"


def test_sync(client: TestClient, service: Service) -> None:
    answer = client.post("/v1/videos/sync", files=files(), data=QUICK)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
    assert answer.content[4:8] == b"ftyp"
    assert client.get("/v1/videos").json()["data"] == [], "nothing is kept"
    target = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(target, "PNG")
    sent = {**files(), "input_reference": ("green.png", target.getvalue())}
    refused(client.post("/v1/videos/sync", files=sent), 422, "face_not_found")
    assert list((service.store.folder / "jobs").iterdir()) == []


def test_a_full_disk_while_a_video_is_made(client: TestClient, service: Service, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(VideoWriter, "_checked_frames", full)
    job = ended(client, create(client))
    monkeypatch.undo()
    assert (job["status"], job["error"]["code"]) == ("failed", "disk_full")
    assert list((service.store.folder / "jobs" / job["id"]).iterdir()) == []
    assert ended(client, create(client))["status"] == "completed"


def test_a_full_disk_while_files_come_in(client: TestClient, monkeypatch: Any) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    answer = client.post("/v1/videos", files=files(), data=QUICK)
    monkeypatch.undo()
    refused(answer, 503, "disk_full")
    assert answer.headers["retry-after"]
    assert ended(client, create(client))["status"] == "completed"


def test_queue_limits(make_service: MakeService) -> None:
    service = make_service(max_queue=3, max_queue_per_key=2)
    client = TestClient(make_app(service), base_url=URL)
    for _ in range(2):
        create(client)
    answer = client.post("/v1/videos", files=files(), data=QUICK)
    assert "2 jobs of yours" in refused(answer, 429, "queue_full")
    assert int(answer.headers["retry-after"]) > 0


def test_storage_limits(make_service: MakeService, monkeypatch: Any) -> None:
    service = make_service(max_storage_mb=1)
    client = TestClient(make_app(service), base_url=URL)
    create(client)
    create(client)
    refused(client.post("/v1/videos", files=files(), data=QUICK), 503, "storage_full")
    for job in client.get("/v1/videos").json()["data"]:
        client.delete(f"/v1/videos/{job['id']}")
    create(client)
    monkeypatch.setattr(type(service.store), "free_bytes", lambda _: -1)
    refused(client.post("/v1/videos", files=files(), data=QUICK), 503, "disk_full")


def test_storage_limits_of_a_key(make_service: MakeService) -> None:
    service = make_service(max_storage_mb_per_key=1)
    client = TestClient(make_app(service), base_url=URL)
    create(client)
    create(client)
    assert "you keep 1 MB" in refused(client.post("/v1/videos", files=files(), data=QUICK), 429, "storage_full")
    service.quotas.check_storage("berta")


def test_upload_limits(make_service: MakeService) -> None:
    service = make_service(max_upload_mb=1, max_pixels=10_000, max_seconds=0.3)
    client = TestClient(make_app(service), base_url=URL)
    assert "1 MB" in refused(client.post("/v1/videos", content=b"x" * (1 << 20) + b"y"), 413, "too_large")

    def endless() -> Any:
        for _ in range(40):
            yield b"x" * 65536

    headers = {"content-type": "application/json"}
    refused(client.post("/v1/videos", content=endless(), headers=headers), 413, "too_large")
    message = refused(client.post("/v1/videos", files=files(), data=QUICK), 400, "invalid_image", "input_reference")
    assert "512x512 pixels); expected 10,000" in message
    small = io.BytesIO()
    Image.open(PORTRAIT).resize((64, 64)).save(small, "PNG")
    sent = {**files(1), "input_reference": ("small.png", small.getvalue())}
    refused(client.post("/v1/videos", files=sent, data=QUICK), 400, "invalid_audio", "audio")


def test_requests_per_minute(make_service: MakeService) -> None:
    client = TestClient(make_app(make_service(max_requests_per_minute=1)), base_url=URL)
    create(client)
    answer = client.post("/v1/videos", files=files(), data=QUICK)
    refused(answer, 429, "too_many_requests")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert client.get("/v1/videos").status_code == 200


def test_a_lost_device(make_service: MakeService, monkeypatch: Any) -> None:
    """The job waits for another process, which an orchestrator starts because of ``/health``."""
    service = make_service()

    def lost(*_: object, **__: object) -> None:
        raise DeviceLostError("an illegal address")

    monkeypatch.setattr(Animator, "warmup", lambda *_: None)
    monkeypatch.setattr(Animator, "animate", lost)
    with TestClient(make_app(service), base_url=URL) as client:
        assert client.get("/health").json() == {"status": "ok", "reason": None}
        job = create(client)
        wait_until(lambda: client.get("/health").status_code == 503)
        assert client.get("/ready").status_code == 503
        wait_until(lambda: service.runner.is_idle)
        assert client.get(f"/v1/videos/{job['id']}").json()["status"] == "queued"
        refused(client.post("/v1/videos", files=files(), data=QUICK), 503, "device_lost")


def test_draining(make_service: MakeService) -> None:
    """The running job goes back to the queue, and its attempt does not count."""
    service = make_service(drain_seconds=0)
    with TestClient(make_app(service), base_url=URL) as client:
        wait_until(lambda: client.get("/ready").status_code == 200)
        job = create_endless(client)
        wait_until(lambda: not service.runner.is_idle)
        assert client.portal is not None
        client.portal.call(service.drain)
        wait_until(lambda: service.runner.is_idle)
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        refused(client.post("/v1/videos", files=files(), data=QUICK), 503, "server_restarting")
        found = service.store.job(job["id"], "")
        assert found is not None
        assert (found.status, found.attempts) == ("queued", 0)


def test_models_and_metrics(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"], model["size"]) == ("tiny", "model", 32)
    ended(client, create(client))
    text = client.get("/metrics").text
    for line in (
        'emo_rt_jobs_total{status="completed"}',
        'emo_rt_stage_seconds_count{stage="step"}',
        'emo_rt_queue_jobs{status="queued"} 0.0',
        "emo_rt_live_sessions 0.0",
        "emo_rt_live_late_frames_total 0.0",
        'emo_rt_model_memory_bytes{model="tiny"}',
        'emo_rt_http_requests_total{method="GET",route="/v1/videos/{video_id}",status="200"}',
    ):
        assert line in text, f"{line}\n{text}"


def test_openapi(client: TestClient) -> None:
    found = client.get("/openapi.json").json()
    assert {"/v1/videos", "/v1/videos/sync", "/v1/videos/{video_id}/content", "/v1/avatars"} <= set(found["paths"])
    form = found["paths"]["/v1/videos"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"input_reference", "audio", "size", "extra_params"} <= set(form["properties"])
    assert json.dumps(found)


def test_the_page(client: TestClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_decoders_are_killed_when_they_take_too_long(service: Service, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "audio").write_bytes(voice())
    order = service.decoders.order(tmp_path, has_picture=False, has_sound=True)
    monkeypatch.setattr(decoding.Decoders, "_answer", lambda *_: None)
    with pytest.raises(decoding.ApiError, match="took longer than 30 s"):
        service.decoders.run(order)
