"""Marks of files: metadata, label, C2PA, watermark, and what ``verify`` tells of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import emo_rt
from emo_rt.errors import ConfigError, InputError, OutputError
from emo_rt.media.marking import signing
from emo_rt.media.marking.label import EVERY_S, SHOWN_S
from emo_rt.media.video_file import probe

ASSET = Path(emo_rt.__file__).parent / "assets" / "portrait.png"
FPS = 25

Frames = NDArray[np.uint8]


@pytest.fixture(scope="module")
def frames() -> Frames:
    """(12, 256, 256, 3)."""
    picture = Image.open(ASSET).convert("RGB").resize((256, 256), Image.Resampling.LANCZOS)
    return np.repeat(np.asarray(picture)[None], 12, axis=0)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    from tests.media.certificates import make_chain

    return make_chain(tmp_path_factory.mktemp("certificates"))


def write(target: Path | io.BytesIO, frames: Frames, **options: object) -> None:
    height, width = frames.shape[1:3]
    chosen = emo_rt.VideoOptions(**options)  # type: ignore[arg-type]
    with emo_rt.VideoWriter(target, width=width, height=height, fps=FPS, options=chosen) as writer:
        writer.write(frames)


def test_a_file_has_both_marks_by_default(frames: Frames, tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", frames)
    found = emo_rt.verify(tmp_path / "a.mp4")
    assert found.is_generated
    assert found.metadata == "AI-generated video (synthetic media), made by emo_rt"
    assert (found.watermark.found, found.watermark.payload, found.watermark.frames) == (True, 0, 12)
    assert found.watermark.score > found.watermark.threshold
    assert found.c2pa.state in ("absent", "unchecked")


def test_marks_can_be_turned_off(frames: Frames, tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", frames, watermark=False, mark_generated=False)
    found = emo_rt.verify(tmp_path / "a.mp4")
    assert not found.is_generated
    assert (found.metadata, found.watermark.found, found.watermark.payload) == (None, False, None)


def test_a_stream_is_marked_as_a_file(frames: Frames, tmp_path: Path) -> None:
    stream = io.BytesIO()
    write(stream, frames, fragmented=True, watermark_payload=7)
    (tmp_path / "a.mp4").write_bytes(stream.getvalue())
    assert emo_rt.verify(tmp_path / "a.mp4").watermark.payload == 7


def test_a_key_of_ones_own(frames: Frames, tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", frames, watermark_key="ours", watermark_payload=2**48 - 1)
    assert not emo_rt.verify(tmp_path / "a.mp4").watermark.found
    assert emo_rt.verify(tmp_path / "a.mp4", key="ours").watermark.payload == 2**48 - 1
    assert "ours" not in repr(emo_rt.VideoOptions(watermark_key="ours"))


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(InputError):
        emo_rt.verify(tmp_path / "a.mp4")
    with pytest.raises(InputError):
        emo_rt.verify(tmp_path / "missing.mp4")


# The label


def test_label_comes_and_goes() -> None:
    options = emo_rt.MarkOptions(watermark=False, visible_label=True)
    grey = np.full((1, 120, 200, 3), 100, np.uint8)
    shown = [
        index for index in range(0, (EVERY_S + SHOWN_S + 1) * FPS, 5)
        if (emo_rt.mark(grey, index, fps=FPS, options=options) != grey).any()
    ]  # fmt: skip
    first, again = range(0, SHOWN_S * FPS, 5), range(EVERY_S * FPS, (EVERY_S + SHOWN_S) * FPS, 5)
    assert shown == [*first, *again]


@pytest.mark.parametrize("size", [(16, 16), (64, 48), (128, 128), (720, 1280)])
def test_label_lies_at_the_lower_left(size: tuple[int, int]) -> None:
    grey = np.full((2, *size, 3), 100, np.uint8)
    labelled = emo_rt.mark(grey, options=emo_rt.MarkOptions(watermark=False, visible_label=True))
    rows, columns = np.nonzero((labelled[0] != grey[0]).any(axis=2))
    assert rows.min() >= min(size[0] // 2, size[0] - 16)
    assert columns.min() <= size[1] // 8
    assert min(size) < 48 or labelled.max() > 200  # smaller letters are grey
    assert (grey == 100).all()


def test_label_is_in_the_file(frames: Frames, tmp_path: Path) -> None:
    dark = np.zeros_like(frames)
    write(tmp_path / "a.mp4", dark, visible_label=True, watermark=False)
    import av

    with av.open(tmp_path / "a.mp4") as container:
        seen = next(container.decode(video=0)).to_ndarray(format="gray")
    assert seen[128:].max() > 150
    assert seen[:128].max() < 20


# C2PA


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize("fragmented", [False, True])
def test_a_signed_file(frames: Frames, tmp_path: Path, chain: tuple[Path, Path], name: str, fragmented: bool) -> None:
    write(tmp_path / name, frames, c2pa_cert=chain[0], c2pa_key=chain[1], fragmented=fragmented, generator="emo_rt 9")
    found = emo_rt.verify(tmp_path / name)
    assert (found.c2pa.state, found.c2pa.issuer, found.c2pa.generator) == ("valid", "emo_rt tests", "emo_rt 9")
    assert found.c2pa.says_generated
    assert found.c2pa.problems == ("signingCredential.untrusted",)
    assert found.watermark.found
    assert probe(tmp_path / name).frames == len(frames)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_changed_byte_is_noticed(frames: Frames, tmp_path: Path, chain: tuple[Path, Path]) -> None:
    path = tmp_path / "a.mp4"
    write(path, frames, c2pa_cert=chain[0], c2pa_key=chain[1])
    data = bytearray(path.read_bytes())
    place = data.rindex(b"mdat") + 200
    data[place] ^= 1
    path.write_bytes(data)
    found = emo_rt.verify(path).c2pa
    assert found.state == "invalid"
    assert "assertion.bmffHash.mismatch" in found.problems


def test_a_certificate_that_cannot_be_used_costs_nothing(
    frames: Frames, tmp_path: Path, chain: tuple[Path, Path]
) -> None:
    """It is refused before the first frame, and no file is left."""
    from tests.media.certificates import make_chain

    other = tmp_path / "other"
    other.mkdir()
    foreign = make_chain(other)
    for cert, key, words in (
        (chain[0], foreign[1], "the key of the first certificate"),
        (chain[1], chain[1], "certificates as PEM"),
        (chain[0], chain[0], "a private key as PEM"),
        (chain[0], tmp_path / "missing.pem", "expected a PEM file"),
        (tmp_path, chain[1], "expected a PEM file"),
    ):
        with pytest.raises(ConfigError, match=words):
            write(tmp_path / "a.mp4", frames, c2pa_cert=cert, c2pa_key=key)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_failed_signature_leaves_no_file(
    frames: Frames, tmp_path: Path, chain: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OutputError("the video cannot be signed")

    monkeypatch.setattr(signing.FileSigner, "sign", fail)
    with pytest.raises(OutputError, match="cannot be signed"):
        write(tmp_path / "a.mp4", frames, c2pa_cert=chain[0], c2pa_key=chain[1])
    assert list(tmp_path.iterdir()) == []


def test_a_stream_cannot_be_signed(frames: Frames, chain: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="a stream cannot be signed"):
        write(io.BytesIO(), frames, c2pa_cert=chain[0], c2pa_key=chain[1], fragmented=True)


def test_without_the_extra_files_are_unchecked(frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "c2pa", None)
    write(tmp_path / "a.mp4", frames[:2])
    assert emo_rt.verify(tmp_path / "a.mp4").c2pa.state == "unchecked"
    with pytest.raises(emo_rt.MissingDependencyError, match=r"emo_rt\[provenance\]"):
        write(tmp_path / "b.mp4", frames[:2], c2pa_cert="a.pem", c2pa_key="b.pem")
