"""The client that people have: OpenAI's own, on our server."""

from __future__ import annotations

import io
from typing import Any

import openai
import pytest
from PIL import Image
from starlette.testclient import TestClient

from emo_rt.serve.service import Service
from tests.serve.conftest import wait_until
from tests.serve.inputs import ENDLESS, PORTRAIT, QUICK, URL, data_url, files, voice

pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@pytest.fixture
def api(client: TestClient, service: Service) -> Any:
    """Not closed: the HTTP client under it belongs to the module."""
    return openai.OpenAI(base_url=f"{URL}/v1", api_key="anything", http_client=client, max_retries=0)


def test_models(api: Any) -> None:
    assert [model.id for model in api.models.list()] == ["tiny"]


def test_create_and_poll(api: Any) -> None:
    """A voice as a ``data:`` URL: the client has no second file."""
    video = api.videos.create_and_poll(
        prompt="somebody talks",
        model="tiny",
        input_reference=("face.png", PORTRAIT.read_bytes()),
        size="32x32",
        extra_body={"audio_reference": {"audio_url": data_url(voice(), "audio/wav")}, **QUICK},
    )
    assert (video.status, video.progress, video.model, video.size) == ("completed", 100, "tiny", "32x32")
    assert api.videos.download_content(video.id).read()[4:8] == b"ftyp"
    with Image.open(io.BytesIO(api.videos.download_content(video.id, variant="thumbnail").read())) as image:
        assert image.size == (32, 32)
    assert api.videos.retrieve(video.id).seconds == "0.40"


def test_portrait_as_a_reference(api: Any) -> None:
    video = api.videos.create_and_poll(
        prompt="-",
        extra_body={
            "image_reference": {"image_url": data_url(PORTRAIT.read_bytes(), "image/png")},
            "audio_reference": {"audio_url": data_url(voice(), "audio/wav")},
            **QUICK,
        },
    )
    assert video.status == "completed"


def test_a_failure_ends_the_polling(api: Any) -> None:
    target = io.BytesIO()
    Image.new("RGB", (64, 64), "green").save(target, "PNG")
    video = api.videos.create_and_poll(
        prompt="-",
        input_reference=("green.png", target.getvalue()),
        extra_body={"audio_reference": {"audio_url": data_url(voice())}},
    )
    assert video.status == "failed"
    assert video.error.code == "face_not_found"


def test_two_files(api: Any) -> None:
    """As SERVING says: a second file needs ``post``."""
    sent = [(name, value) for name, value in files().items()]
    video = api.post("/videos", body=QUICK, files=sent, cast_to=openai.types.Video,
                     options={"headers": {"Content-Type": "multipart/form-data"}})  # fmt: skip
    assert video.status == "queued"
    wait_until(lambda: api.videos.retrieve(video.id).status == "completed")


def test_pages_and_delete(api: Any) -> None:
    sent = [(name, value) for name, value in files(20).items()]
    names = [
        api.post("/videos", body=ENDLESS, files=sent, cast_to=openai.types.Video,
                 options={"headers": {"Content-Type": "multipart/form-data"}}).id
        for _ in range(3)
    ]  # fmt: skip
    assert [video.id for video in api.videos.list(limit=1, order="asc")] == names, "it pages by itself"
    for name in names:
        assert api.videos.delete(name).deleted
    assert list(api.videos.list()) == []


def test_errors(api: Any) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        api.videos.retrieve("video_0")
    assert caught.value.code == "video_not_found"
    with pytest.raises(openai.BadRequestError, match="expected one of tiny") as wrong:
        api.videos.create(prompt="-", model="sora-2", input_reference=("f.png", PORTRAIT.read_bytes()),
                          extra_body={"audio_reference": {"audio_url": data_url(voice())}})  # fmt: skip
    assert wrong.value.param == "model"
