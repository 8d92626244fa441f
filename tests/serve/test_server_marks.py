"""Marks of what a server sends: its own, whatever a caller wants."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from emo_rt import AnimateOptions, Animator, MarkOptions, verify
from emo_rt.errors import ConfigError
from emo_rt.serve.app import make_app
from emo_rt.serve.live_stream import LiveStream
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions
from tests.serve.conftest import wait_until
from tests.serve.inputs import PORTRAIT, URL, files


def options(folder: Path, marks: MarkOptions) -> ServeOptions:
    return ServeOptions(data=str(folder), limits=Limits(min_free_mb=0), marks=marks)


def test_a_job_has_the_marks_of_the_server(tiny_animator: Animator, tmp_path: Path) -> None:
    """Its number, and a label that the caller has asked for; the thumbnail has them, too."""
    fields = {
        "num_inference_steps": "1",
        "extra_params": '{"guidance": 1, "face_box": "full", "paste_back": true, "visible_label": true}',
    }
    with (
        Service(options(tmp_path, MarkOptions(watermark_payload=99)), {"tiny": tiny_animator}) as service,
        TestClient(make_app(service), base_url=URL) as client,
    ):
        wait_until(lambda: service.is_warm)
        job = client.post("/v1/videos", files=files(), data=fields).json()
        wait_until(lambda: client.get(f"/v1/videos/{job['id']}").json()["status"] in ("completed", "failed"))
        (tmp_path / "made.mp4").write_bytes(client.get(f"/v1/videos/{job['id']}/content").content)
        thumbnail = client.get(f"/v1/videos/{job['id']}/content?variant=thumbnail").content
    found = verify(tmp_path / "made.mp4")
    assert found.metadata is not None
    assert found.watermark.payload == 99
    with Image.open(io.BytesIO(thumbnail)) as image:
        corner = np.asarray(image.convert("L"))[-40:, :160]
    with Image.open(PORTRAIT) as image:
        plain = np.asarray(image.convert("L"))[-40:, :160]
    assert np.abs(corner.astype(int) - plain).mean() > 20


def test_a_live_stream_has_them_too(tiny_animator: Animator, tmp_path: Path) -> None:
    """All but the signature, which only a finished file can have."""
    marks = MarkOptions(watermark_payload=77, c2pa_cert="not.pem", c2pa_key="read.pem")

    async def taken() -> bytes:
        avatar = tiny_animator.prepare(PORTRAIT, face_box="full")
        session = tiny_animator.live(avatar, pace="asap", options=AnimateOptions(steps=1, guidance=1, paste_back=True))
        stream = LiveStream(session, fragment_frames=4, close=lambda _: session.close(), marks=marks)
        data = b""
        async for piece in stream:
            data += piece.fragment.data
            if stream.frames >= 12:
                break
        await stream.close()
        return data

    (tmp_path / "seen.mp4").write_bytes(asyncio.run(taken()))
    found = verify(tmp_path / "seen.mp4")
    assert (found.watermark.payload, found.metadata is not None) == (77, True)


def test_a_certificate_that_cannot_be_used_is_told_at_the_start(tiny_animator: Animator, tmp_path: Path) -> None:
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    marks = MarkOptions(c2pa_cert=tmp_path / "none.pem", c2pa_key=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match="c2pa_cert"):
        Service(options(tmp_path, marks), {"tiny": tiny_animator})


def test_a_certificate_that_expires_while_the_server_runs_is_not_the_callers_fault(
    tiny_animator: Animator, tmp_path: Path
) -> None:
    """Nor is the caller told where on the server it is."""
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    from tests.media.certificates import make_chain

    cert, key = make_chain(tmp_path)
    marks = MarkOptions(c2pa_cert=cert, c2pa_key=key)
    with (
        Service(options(tmp_path / "data", marks), {"tiny": tiny_animator}) as service,
        TestClient(make_app(service), base_url=URL) as client,
    ):
        wait_until(lambda: service.is_warm)
        make_chain(tmp_path, days=1)
        fields = {"num_inference_steps": "1", "extra_params": '{"guidance": 1, "face_box": "full"}'}
        job = client.post("/v1/videos", files=files(), data=fields).json()
        wait_until(lambda: client.get(f"/v1/videos/{job['id']}").json()["status"] in ("completed", "failed"))
        told = client.get(f"/v1/videos/{job['id']}").json()
    assert (told["status"], told["error"]["code"]) == ("failed", "output_error")
    assert str(tmp_path) not in told["error"]["message"]
