"""Videos whose sound comes beside the frames, and fragments on the way to a viewer. Every file is decoded back."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emo_rt import Animator, VideoWriter
from emo_rt.errors import AudioError, ClosedError, ConfigError, InputError
from emo_rt.media.audio import open_audio
from emo_rt.media.probe import probe
from emo_rt.media.video_file import VideoOptions
from emo_rt.serve.fragments import FragmentSink
from tests.media.test_video_file import decode, moving

LIVE = VideoOptions(codec="libx264", fragmented=True, keyframe_interval=5, profile="baseline")
"""What a browser's MediaSource takes."""
CONTAINERS = {"moov", "trak", "mdia", "minf", "stbl", "moof", "traf", "mvex"}


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.1, 0.1, samples).astype(np.float32)


def new_writer(target: Any, **changes: Any) -> VideoWriter:
    return VideoWriter(target, **{"width": 64, "height": 48, "fps": 25, "sample_rate": 16_000, **changes})


def boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of the boxes of an MP4, one after another. The last one must be whole."""
    place = 0
    while place < len(data):
        size, name = struct.unpack_from(">I4s", data, place)
        assert size >= 8, "64-bit sizes are not for fragments"
        assert place + size <= len(data), f"the box {name!r} is not whole"
        yield name.decode(), data[place + 8 : place + size]
        place += size


def find(data: bytes, *path: str) -> list[bytes]:
    """Contents of all boxes at a place in the tree."""
    found = [content for name, content in boxes(data) if name == path[0]]
    return found if len(path) == 1 else [inner for content in found for inner in find(content, *path[1:])]


# --- lengths and sync -----------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(
    fps=st.sampled_from([12, 24, 25, 30]),
    frames=st.integers(1, 50),
    off=st.integers(-3_000, 3_000),
    rate=st.sampled_from([8_000, 16_000, 24_000, 37_000, 48_000]),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    fragmented=st.booleans(),
)
def test_picture_and_sound_are_equally_long(
    fps: int, frames: int, off: int, rate: int, cuts: list[int], fragmented: bool
) -> None:
    """However long the sound was, and however it and the frames were cut."""
    pictures, pcm = moving(frames, 32, 32), noise(max(0, frames * rate // fps + off))
    edges = sorted({0, 200, *cuts})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.mp4"
        options = VideoOptions(fragmented=fragmented)
        with new_writer(path, width=32, height=32, fps=fps, sample_rate=rate, options=options) as writer:
            for start, stop in itertools.pairwise(edges):
                # Sound is ahead at first and late in the end, by up to half of everything.
                ahead = [len(pcm) * min(2 * edge, 200) // 200 for edge in (start, stop)]
                shown = [frames * edge // 200 for edge in (start, stop)]
                writer.write(pictures[slice(*shown)], pcm[slice(*ahead)])
        info = probe(path)
        assert os.listdir(folder) == ["out.mp4"]
    assert info.codecs == ("h264", "aac")
    assert (info.frames, info.video_duration_s) == (frames, pytest.approx(frames / fps, abs=1e-6))
    assert info.audio_duration_s == pytest.approx(frames / fps, abs=1.5 / min(rate, 48_000))


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_a_click_stays_where_it_was(tmp_path: Path, fragmented: bool, late: bool) -> None:
    pcm = np.zeros(32_000, np.float32)
    pcm[8_000:8_004] = pcm[24_000:24_004] = 0.8
    options = VideoOptions(fragmented=fragmented)
    with new_writer(tmp_path / "out.mp4", options=options) as writer:
        if late:
            writer.write(moving(50))
            for piece in np.split(pcm, 20):
                writer.write(None, piece)
        else:
            writer.write(None, pcm)
            writer.write(moving(50))
    heard = np.abs(np.concatenate(list(open_audio(tmp_path / "out.mp4").blocks()))[:, 0])
    assert abs(int(heard[:16_000].argmax()) - 8_000) < 32
    assert abs(16_000 + int(heard[16_000:].argmax()) - 24_000) < 32


def test_missing_sound_is_silence(tmp_path: Path) -> None:
    with new_writer(tmp_path / "out.mp4") as writer:
        writer.write(moving(75), noise(16_000))
    heard = np.concatenate(list(open_audio(tmp_path / "out.mp4").blocks()))[:, 0]
    assert len(heard) == 48_000
    assert np.abs(heard[:15_000]).max() > 0.05
    assert np.abs(heard[18_000:]).max() < 0.001


def test_chunks_do_not_change_the_file(tmp_path: Path) -> None:
    """With the sound beside its frames. The whole sound of a file gives the same bytes, too."""
    frames, pcm, hashes = moving(60), noise(38_400), set()
    for batch in (1, 7, 60):
        with new_writer(tmp_path / "out.mp4") as writer:
            for start in range(0, 60, batch):
                stop = start + batch
                writer.write(frames[start:stop], pcm[640 * start : 640 * stop])
        hashes.add(hashlib.sha256((tmp_path / "out.mp4").read_bytes()).hexdigest())
    audio = open_audio(pcm, 16_000)
    with new_writer(tmp_path / "out.mp4", sample_rate=None, audio=audio) as writer:
        writer.write(frames)
    hashes.add(hashlib.sha256((tmp_path / "out.mp4").read_bytes()).hexdigest())
    assert len(hashes) == 1


@pytest.mark.parametrize("kind", [np.float64, np.int16, np.int32])
def test_sound_may_be_of_any_kind(tmp_path: Path, kind: type) -> None:
    scale = 1 if kind is np.float64 else np.iinfo(kind).max
    with new_writer(tmp_path / "out.mp4") as writer:
        writer.write(moving(25), (scale * noise(16_000)).astype(kind))
    heard = np.concatenate(list(open_audio(tmp_path / "out.mp4").blocks()))[:, 0]
    assert np.corrcoef(heard, noise(16_000))[0, 1] > 0.9


def test_a_stream_is_saved_while_it_runs(tiny_animator: Animator, tmp_path: Path) -> None:
    """As the docstring of the writer shows it; the file is that of the whole sound."""
    config, pcm = tiny_animator.config, noise(24_000)
    square = {"width": config.size, "height": config.size, "fps": config.fps}
    with (
        tiny_animator.prepare(np.full((32, 32, 3), 90, np.uint8), face_box="full") as avatar,
        new_writer(tmp_path / "stream.mp4", **square) as writer,
    ):

        def heard() -> Iterator[np.ndarray]:
            for piece in np.array_split(pcm, 23):
                writer.write(None, piece)
                yield piece

        for chunk in tiny_animator.stream(avatar, heard(), steps=1):
            writer.write(chunk.frames)
        tiny_animator.animate(avatar, pcm, sample_rate=16_000, steps=1).save(tmp_path / "whole.mp4")
    frames = [decode(str(tmp_path / name)) for name in ("stream.mp4", "whole.mp4")]
    np.testing.assert_array_equal(*frames)
    lengths = [probe(tmp_path / name).audio_duration_s for name in ("stream.mp4", "whole.mp4")]
    assert lengths == [pytest.approx(1.5, abs=0.5 / config.fps + 1e-6)] * 2


# --- fragments ------------------------------------------------------------------------------------------------------


def test_each_fragment_is_out_when_the_next_one_starts() -> None:
    target = io.BytesIO()
    with new_writer(target, options=LIVE) as writer:
        for shown in range(1, 41):
            writer.write(moving(shown)[-1:], noise(640))
            data = target.getvalue()
            fragments = [name for name, _ in boxes(data)].count("moof")  # what is there is whole
            # Key frames are 0, 5, 10 …; libav waits for the sound beside the key frame: 2 packets of 64 ms.
            assert (shown - 5) // 5 - 1 <= fragments <= (shown - 1) // 5
        assert len(decode(io.BytesIO(target.getvalue()))) >= 30
    names = [name for name, _ in boxes(target.getvalue())]
    assert names[:2] == ["ftyp", "moov"]
    assert names.count("moof") == names.count("mdat") == 8
    assert len(decode(io.BytesIO(target.getvalue()))) == 40


def test_fragments_are_what_a_browser_takes(tmp_path: Path) -> None:
    with new_writer(tmp_path / "out.mp4", options=LIVE) as writer:
        writer.write(moving(40), noise(25_600))
    data = (tmp_path / "out.mp4").read_bytes()
    (stsd,) = (stsd for stsd in find(data, "moov", "trak", "mdia", "minf", "stbl", "stsd") if b"avc1" in stsd)
    profile = stsd[stsd.index(b"avcC") + 5]
    assert profile == 66, "baseline; MediaSource is told avc1.42…"
    assert any(b"mp4a" in stsd for stsd in find(data, "moov", "trak", "mdia", "minf", "stbl", "stsd"))
    assert len(find(data, "moov", "mvex", "trex")) == 2
    for stts in find(data, "moov", "trak", "mdia", "minf", "stbl", "stts"):
        assert struct.unpack_from(">I", stts, 4) == (0,), "an empty moov: all samples are in fragments"
    for moof in find(data, "moof"):
        tracks = [struct.unpack_from(">II", tfhd) for tfhd in find(moof, "traf", "tfhd")]
        assert {track for _, track in tracks} == {1, 2}, "each fragment has picture and sound"
        assert all(flags & 0x020000 for flags, _ in tracks), "default-base-is-moof"


def test_key_frames_come_as_often_as_asked(tmp_path: Path) -> None:
    for fragmented in (False, True):
        options = VideoOptions(codec="libx264", keyframe_interval=4, fragmented=fragmented)
        with new_writer(tmp_path / "out.mp4", options=options) as writer:
            writer.write(moving(20), noise(12_800))
        with av.open(str(tmp_path / "out.mp4")) as container:
            shown = [frame.key_frame for frame in container.decode(video=0)]
        places = [place for place, is_key in enumerate([*shown, True]) if is_key]
        assert places[0] == 0
        assert set(np.diff(places)) <= ({4} if fragmented else {1, 2, 3, 4})


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_fragments_go_out_early(frames: int) -> None:
    """AAC is two blocks late, and a fragment goes out when the next begins. The pictures stay what they are."""
    options = replace(LIVE, keyframe_interval=25)
    whole, sink, pictures = io.BytesIO(), FragmentSink(), moving(60)
    with new_writer(whole, sample_rate=48_000, options=options) as writer:
        writer.write(pictures, noise(60 * 1920))
    lateness: list[int] = []
    given, data = 0, b""
    with new_writer(sink, sample_rate=48_000, options=replace(options, fragment_frames=frames)) as writer:
        for index in range(60):
            writer.write(pictures[index : index + 1], noise(1920))
            for fragment in sink.take():
                assert fragment.frames == frames
                lateness.append(index - given)
                given += fragment.frames
                data += fragment.data
    assert max(lateness) <= frames + 2
    assert 50 < given < 60
    last = [*sink.take(), sink.rest()]
    got = decode(io.BytesIO(data + b"".join(one.data for one in last if one is not None)))
    np.testing.assert_array_equal(got, decode(io.BytesIO(whole.getvalue())))


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pcm",
    [np.zeros((4, 65)), np.zeros(4, np.uint8), np.array([np.nan]), np.array([99.0]), np.zeros((1, 1, 1)), "sound"],
)
def test_wrong_sound_is_refused_and_the_writer_goes_on(tmp_path: Path, pcm: Any) -> None:
    with new_writer(tmp_path / "out.mp4") as writer:
        writer.write(moving(10), noise(6_400))
        with pytest.raises(AudioError):
            writer.write(moving(10), pcm)
        assert writer.frame_count == 10
        with pytest.raises(InputError):
            writer.write(moving(10)[:, :4], noise(6_400))
        writer.write(moving(15), noise(9_600))
    info = probe(tmp_path / "out.mp4")
    assert (info.frames, info.audio_duration_s) == (25, 1.0)


def test_sound_needs_a_rate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave one of them out"):
        new_writer(tmp_path / "out.mp4", audio=open_audio(noise(100), 16_000))
    with pytest.raises(AudioError, match="sample_rate is 5"):
        new_writer(tmp_path / "out.mp4", sample_rate=5)
    with new_writer(tmp_path / "out.mp4", sample_rate=None) as writer:
        with pytest.raises(InputError, match="make it with sample_rate"):
            writer.write(moving(1), noise(640))
        writer.write(moving(1))
    assert probe(tmp_path / "out.mp4").audio_duration_s is None
    assert os.listdir(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("fragmented", [False, True])
def test_an_error_leaves_nothing(tmp_path: Path, fragmented: bool) -> None:
    writer = new_writer(tmp_path / "out.mp4", options=VideoOptions(fragmented=fragmented))

    def fail() -> None:
        with writer:
            writer.write(moving(30), noise(100_000))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert os.listdir(tmp_path) == []
    with pytest.raises(ClosedError):
        writer.write(moving(1), noise(1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"keyframe_interval": 0},
        {"keyframe_interval": 2.5},
        {"fragment_frames": 0},
        {"fragment_frames": 5, "fragmented": False},
        {"profile": "extended"},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        VideoOptions(**{"fragmented": True, **wrong})
