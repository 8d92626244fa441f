"""``/v1/avatars`` and ``/v1/faces``."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient

from emo_rt import Animator
from emo_rt.serve.app import make_app
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions
from tests.serve.conftest import MakeService, wait_until
from tests.serve.inputs import PORTRAIT, QUICK, URL, data_url, voice
from tests.serve.test_jobs import ended, refused

STEP = {"num_inference_steps": "1"}


def portrait() -> dict[str, Any]:
    return {"input_reference": ("face.png", PORTRAIT.read_bytes(), "image/png")}


def add(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/v1/avatars", files=portrait(), data=fields)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_uploaded_once_and_used(client: TestClient, service: Service) -> None:
    avatar = add(client, name="Mona")
    assert (avatar["object"], avatar["name"], avatar["model"]) == ("avatar", "Mona", "tiny")
    assert (avatar["width"], avatar["height"], avatar["warning"]) == (512, 512, None)
    assert avatar["face_box"] == pytest.approx([127, 182, 372, 414], abs=4)
    job = client.post("/v1/videos", files={"audio": ("v.wav", voice())},
                      data={"avatar": avatar["id"], "num_inference_steps": "1"}).json()  # fmt: skip
    assert ended(client, job)["status"] == "completed"
    assert ended(client, job)["avatar"] == avatar["id"]
    sent = {"audio": ("v.wav", voice())}
    for wrong, code, param in (
        ({"extra_params": '{"face_box": "full"}'}, "invalid_option", "extra_params"),
        ({"size": "128x128"}, "invalid_size", "size"),
    ):
        refused(client.post("/v1/videos", files=sent, data={"avatar": avatar["id"], **wrong}), 400, code, param)
    sized = client.post("/v1/videos", files=sent, data={"avatar": avatar["id"], "size": "512x512", **STEP}).json()
    assert ended(client, sized)["size"] == "512x512"
    assert client.get(f"/v1/avatars/{avatar['id']}").json() == avatar
    assert client.get("/v1/avatars").json()["data"] == [avatar]
    picture = client.get(f"/v1/avatars/{avatar['id']}/picture")
    with Image.open(io.BytesIO(picture.content)) as image:
        assert image.size == (512, 512)
    assert client.delete(f"/v1/avatars/{avatar['id']}").json()["deleted"] is True
    refused(client.get(f"/v1/avatars/{avatar['id']}"), 404, "avatar_not_found", "avatar")
    assert list((service.store.folder / "avatars").iterdir()) == []


def test_a_corrected_face(client: TestClient) -> None:
    avatar = add(client, options='{"face_box": [100, 100, 400, 420]}')
    assert avatar["face_box"] == pytest.approx([100, 100, 400, 420], abs=1)
    client.delete(f"/v1/avatars/{avatar['id']}")


def test_kept_over_restarts(tiny_animator: Animator, tmp_path: Path) -> None:
    options = ServeOptions(data=str(tmp_path), limits=Limits(min_free_mb=0))
    with Service(options, {"tiny": tiny_animator}) as first, TestClient(make_app(first), base_url=URL) as client:
        avatar = add(client)
        wait_until(lambda: first.is_warm)
    with Service(options, {"tiny": tiny_animator}) as second, TestClient(make_app(second), base_url=URL) as client:
        sent = {"audio": ("v.wav", voice())}
        fields = {"avatar": avatar["id"], **QUICK, "extra_params": '{"guidance": 1}'}
        assert ended(client, client.post("/v1/videos", files=sent, data=fields).json())["status"] == "completed"
        record = second.avatar_record(avatar["id"], "")
        (second.store.place(record) / "avatar.npz").write_bytes(b"of another model")
        second.avatars.forget(record)
        again = client.post("/v1/videos", files=sent, data=fields).json()
        assert ended(client, again)["status"] == "completed", "the picture is prepared again"
        unknown = {**fields, "avatar": "avatar_0"}
        refused(client.post("/v1/videos", files=sent, data=unknown), 404, "avatar_not_found", "avatar")


def test_refused(client: TestClient, service: Service) -> None:
    refused(client.post("/v1/avatars", data={"name": "x"}), 400, "missing_field", "input_reference")
    refused(client.post("/v1/avatars", files=portrait(), data={"nmae": "x"}), 400, "unknown_field", "nmae")
    refused(client.post("/v1/avatars", files=portrait(), data={"model": "x"}), 400, "model_not_found", "model")
    refused(client.post("/v1/avatars", files={"input_reference": ("x", b"x")}), 400, "invalid_image", "input_reference")
    refused(client.post("/v1/avatars", files=portrait(), data={"options": '{"face_index": 7}'}), 400,
            "face_not_found", "input_reference")  # fmt: skip
    refused(
        client.post("/v1/avatars", files=portrait(), data={"options": '{"seed": 7}'}), 400, "invalid_option", "options"
    )
    assert list((service.store.folder / "avatars").iterdir()) == []


def test_faces(client: TestClient) -> None:
    found = client.post("/v1/faces", files=portrait()).json()
    assert (found["width"], found["height"], len(found["faces"])) == (512, 512, 1)
    assert found["faces"][0]["box"] == pytest.approx([127, 182, 372, 414], abs=4)
    green = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(green, "PNG")
    body = {"image_reference": {"image_url": data_url(green.getvalue())}}
    assert client.post("/v1/faces", json=body).json()["faces"] == []
    refused(client.post("/v1/faces", json={}), 400, "missing_field", "input_reference")


def test_a_large_jpeg(make_service: MakeService) -> None:
    """It is decoded at half its size; callers give and get places in what they sent."""
    service = make_service(max_pixels=256 * 256)
    client = TestClient(make_app(service), base_url=URL)
    target = io.BytesIO()
    Image.open(PORTRAIT).convert("RGB").save(target, "JPEG", quality=95)
    sent = {"input_reference": ("face.jpg", target.getvalue(), "image/jpeg")}
    found = client.post("/v1/faces", files=sent).json()
    assert (found["width"], found["height"]) == (512, 512)
    assert found["faces"][0]["box"] == pytest.approx([127, 182, 372, 414], abs=6)
    made = client.post("/v1/avatars", files=sent, data={"options": '{"face_box": [100, 100, 400, 420]}'}).json()
    assert (made["width"], made["height"]) == (256, 256)
    assert made["face_box"] == pytest.approx([50, 50, 200, 210], abs=1)
    refused(client.post("/v1/avatars", files=portrait()), 400, "invalid_image", "input_reference")
