"""What ``verify`` makes of files of others: any container, odd manifests, metadata that others wrote, size and time."""

from __future__ import annotations

import dataclasses
import io
import re
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import emo_rt
from emo_rt.errors import Cancelled, ConfigError, InputError
from emo_rt.media import untrusted
from emo_rt.media.marking import provenance, reading
from emo_rt.media.marking.manifest_parts import MANIFEST_UUID, manifest_bytes
from emo_rt.media.marking.provenance import MADE_BY_A_MODEL, ProvenanceReading, _reading
from tests.media.encoded import encode_video

ASSET = Path(emo_rt.__file__).parent / "assets" / "portrait.png"
MARK = "AI-generated video (synthetic media), made by emo_rt"
PLAIN = [("mp4", "a.mp4", "libx264"), ("mov", "a.mov", "prores_ks"), ("avi", "a.avi", "mpeg4")]
PLACELESS = [("matroska", "a.mkv", "libx264"), ("webm", "a.webm", "libvpx"), ("mpegts", "a.ts", "libx264")]


def video(path: Path, metadata: dict[str, str], side: int = 64, muxer: str = "mp4", frames: int = 3) -> Path:
    """The portrait, without a watermark, with metadata as given."""
    picture = np.asarray(Image.open(ASSET).convert("RGB").resize((side, side)))
    with av.open(str(path), "w", format=muxer) as container:
        container.metadata.update(metadata)
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for _ in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


# C2PA


@pytest.mark.parametrize(("muxer", "name", "encoder"), PLAIN)
def test_no_manifest_is_absent(muxer: str, name: str, encoder: str, tmp_path: Path) -> None:
    encode_video(tmp_path / name, muxer, encoder)
    assert emo_rt.verify(tmp_path / name).c2pa.state in ("absent", "unchecked")


@pytest.mark.parametrize(("muxer", "name", "encoder"), PLACELESS)
def test_containers_without_a_place_for_a_manifest_are_not_invalid(
    muxer: str, name: str, encoder: str, tmp_path: Path
) -> None:
    encode_video(tmp_path / name, muxer, encoder)
    assert emo_rt.verify(tmp_path / name).c2pa == ProvenanceReading("unsupported")


def test_an_unsigned_file_that_c2pa_cannot_parse_is_not_invalid(tmp_path: Path) -> None:
    path = video(tmp_path / "a.mp4", {})
    path.write_bytes(path.read_bytes() + b"\xff" * 20)
    assert emo_rt.verify(path).c2pa.state in ("absent", "unchecked")


def test_a_signed_file_that_c2pa_cannot_parse_is_invalid(tmp_path: Path) -> None:
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    path = video(tmp_path / "a.mp4", {})
    box = (24).to_bytes(4, "big") + b"uuid" + MANIFEST_UUID
    path.write_bytes(path.read_bytes() + box + b"\xff" * 20)
    assert emo_rt.verify(path).c2pa.state == "invalid"


def test_a_sign_across_two_pieces_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "SEARCHED", 7)
    (tmp_path / "a").write_bytes(b"." * 12 + b"0123456789abcdef" + b"." * 5)
    with (tmp_path / "a").open("rb") as file:
        assert provenance._has(file, re.compile(b"0123456789abcdef"))
        assert not provenance._has(file, re.compile(b"0123456789abcdeg"))


def test_four_bytes_of_a_picture_are_no_manifest(tmp_path: Path) -> None:
    _, sign = provenance.READABLE["avi"]
    for content, is_one in ((b"C2PA" * 20, False), (b"..C2PA" + b"\n" * 8 + b"jumb", True)):
        (tmp_path / "a").write_bytes(content)
        with (tmp_path / "a").open("rb") as file:
            assert provenance._has(file, sign) == is_one


MB = 1_000_000


def mp4_box(size: int, *, is_long: bool) -> bytes:
    """A manifest's, of ``size`` bytes in all, without what is in it."""
    head = (1).to_bytes(4, "big") if is_long else size.to_bytes(4, "big")
    return head + b"uuid" + (size.to_bytes(8, "big") if is_long else b"") + MANIFEST_UUID


@pytest.mark.parametrize("is_long", [False, True])
def test_a_manifest_that_would_fill_the_memory_is_not_read(is_long: bool, tmp_path: Path) -> None:
    """The library takes twice its size, and a file may have 16 GiB."""
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    path = video(tmp_path / "a.mp4", {})
    box = mp4_box(40 * MB, is_long=is_long)
    with path.open("ab") as file:
        start = file.tell()
        file.write(box)
        file.truncate(start + 40 * MB)
    found = emo_rt.verify(path).c2pa
    assert (found.state, found.problems) == ("invalid", ("too large: 40,000,000 bytes; at most 33,554,432 are read",))


def test_nor_is_that_of_an_avi(tmp_path: Path) -> None:
    pytest.importorskip("c2pa", reason="needs the extra provenance")
    path = tmp_path / "a.avi"
    encode_video(path, "avi", "mpeg4")
    with path.open("r+b") as file:
        start = 8 + int.from_bytes(file.read(8)[4:], "little")
        file.seek(start)
        file.write(b"C2PA" + (40 * MB).to_bytes(4, "little"))
        file.truncate(start + 8 + 40 * MB)
    assert emo_rt.verify(path).c2pa.problems == ("too large: 40,000,000 bytes; at most 33,554,432 are read",)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", 0),
        (b"1234567", 0),
        (mp4_box(24, is_long=False) * 3, 72),
        (mp4_box(24, is_long=False) + (16).to_bytes(4, "big") + b"free" + b"." * 8 + mp4_box(32, is_long=True), 56),
        (mp4_box(9_999, is_long=False), 24),  # it says that it has more than the file
        ((0).to_bytes(4, "big") + b"uuid" + MANIFEST_UUID + b"." * 6, 30),  # up to the end
        ((4).to_bytes(4, "big") + b"free" + mp4_box(24, is_long=False), 0),
        ((1).to_bytes(4, "big") + b"free", 0),
    ],
)
def test_sizes_of_manifests(content: bytes, expected: int) -> None:
    assert manifest_bytes(io.BytesIO(content), "mov,mp4,m4a,3gp,3g2,mj2") == expected


def test_chunks_of_manifests() -> None:
    chunk = b"C2PA" + (3).to_bytes(4, "little") + b"123."
    riff = b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"AVI " + chunk
    assert manifest_bytes(io.BytesIO(riff + riff), "avi") == 6


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
MANIFEST: dict[str, Any] = {
    "claim_generator_info": [{"name": "emo_rt", "version": "1"}],
    "assertions": [{"label": "c2pa.actions.v2", "data": {"actions": [{"digitalSourceType": MADE_BY_A_MODEL}]}}],
    "signature_info": {"issuer": "somebody"},
}


def edited(value: Any, data: st.DataObject) -> Any:
    """With one or more of its parts, at any depth, replaced."""
    if data.draw(st.integers(0, 3)) == 0:
        return data.draw(JSON)
    if isinstance(value, dict):
        return {key: edited(part, data) for key, part in value.items()}
    return [edited(part, data) for part in value] if isinstance(value, list) else value


@given(data=st.data())
@settings(max_examples=80, deadline=None, database=None, derandomize=True)
def test_manifests_may_say_anything(data: st.DataObject) -> None:
    report = {"active_manifest": "a", "manifests": {"a": MANIFEST}, "validation_status": [{"code": "x"}]}
    found = _reading(data.draw(st.sampled_from(["Valid", "Invalid", "Trusted", "None", ""])), edited(report, data))
    assert found.state in ("valid", "trusted", "invalid")
    texts = (found.issuer, found.generator, *found.problems)
    assert all(text is None or (isinstance(text, str) and "\n" not in text) for text in texts)


def test_what_a_manifest_says_is_kept_short() -> None:
    long = {**MANIFEST, "signature_info": {"issuer": "a\nb" * 10_000}}
    found = _reading("Valid", {"active_manifest": "a", "manifests": {"a": long}, "validation_status": [{}] * 99})
    assert (found.issuer or "").startswith("a ba b")
    assert len(found.issuer or "") <= 200
    assert (found.generator, found.says_generated, found.problems) == ("emo_rt 1", True, ())


# Metadata


@pytest.mark.parametrize(
    "metadata", [{"comment": "holiday", "description": MARK}, {"comment": MARK, "description": "holiday"}]
)
@pytest.mark.parametrize(("muxer", "name"), [("mp4", "a.mp4"), ("matroska", "a.mkv")])
def test_one_of_two_places_is_enough(metadata: dict[str, str], muxer: str, name: str, tmp_path: Path) -> None:
    assert emo_rt.verify(video(tmp_path / name, metadata, muxer=muxer)).metadata == MARK


def test_metadata_of_others_is_no_mark(tmp_path: Path) -> None:
    assert emo_rt.verify(video(tmp_path / "a.mp4", {"comment": "holiday", "title": MARK})).metadata is None


# Size and time


def limited(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(reading, "VIDEO", dataclasses.replace(untrusted.VIDEO, max_pixels=most))


def test_pictures_that_are_too_large_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert untrusted.VIDEO.max_pixels == 50_000_000
    path = video(tmp_path / "a.mp4", {})
    limited(monkeypatch, 64 * 64)
    emo_rt.verify(path)
    limited(monkeypatch, 64 * 64 - 1)
    with pytest.raises(InputError, match="has pictures of 64x64 pixels; expected 4,095 pixels at most"):
        emo_rt.verify(path)


def test_pictures_that_become_too_large_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where the header, and what is looked at first, do not say so."""
    sizes = {64: 300, 256: 3}
    parts = [video(tmp_path / f"{k}.ts", {}, side=k, muxer="mpegts", frames=n) for k, n in sizes.items()]
    (tmp_path / "a.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert emo_rt.verify(tmp_path / "a.ts").watermark.frames > 100
    limited(monkeypatch, 100 * 100)
    with pytest.raises(InputError, match="cannot be read as a video"):
        emo_rt.verify(tmp_path / "a.ts")


def test_only_so_many_pixels_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MOST_PIXELS", 2 * 64 * 64)
    assert emo_rt.verify(video(tmp_path / "a.ts", {}, muxer="mpegts", frames=60)).watermark.frames < 60


def test_a_file_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = video(tmp_path / "a.mp4", {})
    monkeypatch.setattr(reading, "MOST_S", 0.0)
    with pytest.raises(InputError, match="could not be read through within 0 s"):
        emo_rt.verify(path)


def test_a_signature_that_takes_too_long_to_check_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library swallows what its reader raises; the answer would be that the file is invalid."""
    path = video(tmp_path / "a.mp4", {})
    real = reading.read_provenance

    def late(file: untrusted.UntrustedFile, demuxer: str) -> ProvenanceReading:
        file.allow(0, "read through")
        return real(file, demuxer)

    monkeypatch.setattr(reading, "read_provenance", late)
    with pytest.raises(InputError, match="could not be read through within 0 s"):
        emo_rt.verify(path)


def test_a_cancel_is_heard(tmp_path: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        emo_rt.verify(video(tmp_path / "a.mp4", {}), cancel=cancel)


# Wrong arguments


@pytest.mark.parametrize("key", [3, "", "half a character: \ud800", b"bytes"])
def test_keys_that_are_no_text(key: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="key is "):
        emo_rt.verify(tmp_path / "a.mp4", key=key)
    with pytest.raises(ConfigError, match="watermark_key is "):
        emo_rt.MarkOptions(watermark_key=key)


def test_what_is_no_path() -> None:
    with pytest.raises(InputError, match="a video cannot be a int; expected a path"):
        emo_rt.verify(3)  # type: ignore[arg-type]
