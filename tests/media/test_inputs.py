"""What docs/inputs.md promises: every container and codec that is accepted is read, and others are refused by name."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from emo_rt.errors import AudioError, InputError, PortraitError
from emo_rt.media import untrusted
from emo_rt.media.audio import open_audio
from emo_rt.media.picture import load_picture
from emo_rt.media.untrusted import SOUND, VIDEO
from emo_rt.media.video_file import probe
from tests.media.encoded import SOUNDS, VIDEO_FRAMES, VIDEOS, encode_sound, encode_video

INPUTS = Path(__file__).resolve().parents[2] / "docs" / "inputs.md"


def canonical(encoder: str) -> str:
    return av.Codec(encoder, "w").canonical_name


@pytest.mark.parametrize(("muxer", "name", "encoder"), SOUNDS)
def test_every_accepted_sound_is_read(tmp_path: Path, muxer: str, name: str, encoder: str) -> None:
    samples = encode_sound(tmp_path / name, muxer, encoder)
    source = open_audio(tmp_path / name)
    heard = np.concatenate(list(source.blocks()))[:, 0]
    lost = 2_048 if encoder.startswith("wma") else 0  # FFmpeg's decoder keeps the last frame to itself
    assert samples - lost <= len(heard) <= samples + 2 * 2_048 + 0.05 * source.sample_rate
    spectrum = np.abs(np.fft.rfft(heard))
    assert abs(int(spectrum.argmax()) * source.sample_rate / len(heard) - 440) < 3


@pytest.mark.parametrize(("muxer", "name", "encoder"), VIDEOS)
def test_every_accepted_video_is_read(tmp_path: Path, muxer: str, name: str, encoder: str) -> None:
    encode_video(tmp_path / name, muxer, encoder)
    found = probe(tmp_path / name)
    assert (found.frames, found.width, found.codecs) == (VIDEO_FRAMES, 64, (canonical(encoder),))
    with pytest.raises(AudioError, match="no sound track"):
        open_audio(tmp_path / name)


def test_the_tests_above_leave_nothing_out(tmp_path: Path) -> None:
    assert {canonical(encoder) for _, _, encoder in SOUNDS} == set(untrusted.SOUND_CODECS)
    assert {canonical(encoder) for _, _, encoder in VIDEOS} == set(untrusted.VIDEO_CODECS)
    for made, containers in ((SOUNDS, SOUND.containers), (VIDEOS, VIDEO.containers)):
        read = set()
        for muxer, name, encoder in made:
            (encode_sound if made is SOUNDS else encode_video)(tmp_path / name, muxer, encoder)
            with av.open(str(tmp_path / name)) as container:
                read.add(container.format.name)
        assert read == set(containers)


def test_the_docs_list_what_is_accepted() -> None:
    text = INPUTS.read_text(encoding="utf-8")
    for name in (*SOUND.containers.values(), *SOUND.codecs, *VIDEO.codecs):
        assert name in text, f"docs/inputs.md does not name {name}"


def test_other_codecs_are_named_and_refused(tmp_path: Path) -> None:
    encode_sound(tmp_path / "a.mka", "matroska", "tta")
    with pytest.raises(AudioError, match="encoded as tta; expected one of pcm_u8"):
        open_audio(tmp_path / "a.mka")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="encoded as ffv1; expected one of h264"):
        probe(tmp_path / "a.mkv")


def test_the_sound_beside_other_pictures_is_read(tmp_path: Path) -> None:
    sound = (0.1 * np.ones((1, 8_000))).astype(np.float32)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        pictures = container.add_stream("ffv1", rate=25)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
        voice = container.add_stream("pcm_s16le", rate=8_000, layout="mono")
        container.mux([*pictures.encode(av.VideoFrame(64, 64, "yuv420p")), *pictures.encode(None)])
        frame = av.AudioFrame.from_ndarray(sound, "flt", "mono")
        frame.sample_rate = 8_000
        container.mux([*voice.encode(frame), *voice.encode(None)])
    assert open_audio(tmp_path / "a.mkv").samples == 8_000


def test_other_containers_are_refused(tmp_path: Path) -> None:
    encode_sound(tmp_path / "a.tta", "tta", "tta")
    with pytest.raises(AudioError, match=r"read as sound \(its format is not accepted\); expected WAV, "):
        open_audio(tmp_path / "a.tta")


def test_an_unknown_codec_tag_is_a_typed_error(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    encode_sound(path, "wav", "pcm_s16le")
    data = bytearray(path.read_bytes())
    data[20:22] = struct.pack("<H", 0x1234)
    path.write_bytes(data)
    with pytest.raises(AudioError, match="something that FFmpeg does not know"):
        open_audio(path)


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_pictures_that_run_programs_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(PortraitError, match="cannot be read as a picture"):
        load_picture(tmp_path / "a.png")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM"])
def test_every_accepted_picture_is_read(tmp_path: Path, form: str) -> None:
    Image.init()
    if form == "AVIF" and form not in Image.OPEN:
        pytest.skip("Pillow reads AVIF from release 11.3 on")
    data = io.BytesIO()
    Image.new("RGB", (64, 48), (200, 100, 50)).save(data, form)
    (tmp_path / "a").write_bytes(data.getvalue())
    picture = load_picture(tmp_path / "a")
    assert picture.shape == (48, 64, 3)
    assert np.abs(picture.astype(int) - [200, 100, 50]).max() < 12
    assert form in INPUTS.read_text(encoding="utf-8")
