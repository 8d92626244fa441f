"""Results on disk: every file is decoded back. Real encoders, small pictures."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emo_rt.errors import AudioError, Cancelled, ClosedError, ConfigError, InputError, OutputError
from emo_rt.media.audio import AudioSource, open_audio
from emo_rt.media.video_file import VideoOptions, VideoWriter, open_encoder_works, probe, write_frames_png

FRAGMENTED = VideoOptions(fragmented=True)
SOFTWARE = VideoOptions(codec="libx264")
MEDIA = Path(__file__).resolve().parents[3] / "shared" / "media"


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A gradient that moves, (n, H, W, 3) uint8."""
    rows, columns, index = np.arange(height), np.arange(width), np.arange(frames)
    pictures = np.zeros((frames, height, width, 3), np.uint8)
    pictures[..., 0] = (columns * 3) % 256
    pictures[..., 1] = (rows[:, None] * 4) % 256
    pictures[..., 2] = (index[:, None, None] * 7) % 256
    return pictures


def sound(seconds: float, rate: int = 16_000, channels: int = 1) -> AudioSource:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, (max(1, round(seconds * rate)), channels))
    return open_audio(noise.astype(np.float32), rate)


def write(target: Any, frames: np.ndarray, fps: int = 25, **settings: Any) -> None:
    with VideoWriter(target, width=frames.shape[2], height=frames.shape[1], fps=fps, **settings) as writer:
        writer.write(frames)


def break_off(target: Any, error: BaseException, check: Callable[[], None] = lambda: None, **settings: Any) -> None:
    """Write some seconds, then fail with ``error`` inside the with-block. ``check`` runs just before."""
    with VideoWriter(target, width=64, height=48, fps=25, **settings) as writer:
        writer.write(moving(60))
        check()
        raise error


def decode(file: Any) -> np.ndarray:
    """All frames as RGB, by way of the file's own colour flags."""
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def times(file: Any) -> list[float]:
    with av.open(file) as container:
        return [float(frame.time) for frame in container.decode(video=0)]


class FailingSound(AudioSource):
    """Reads well for a second, then does not."""

    sample_rate, channels, samples = 16_000, 1, 160_000

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    def blocks(self) -> Iterator[np.ndarray]:
        try:
            yield np.zeros((16_000, 1), np.float32)
            raise self.error
        finally:
            self.closed = True


# --- lengths and sync -----------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(
    fps=st.sampled_from([12, 24, 25, 30, 60]),
    seconds=st.floats(0.01, 2.5),
    rate=st.sampled_from([8_000, 16_000, 22_050, 37_000, 44_100, 48_000, 96_000, 192_000]),
    channels=st.sampled_from([1, 2, 3, 6, 8, 9]),
    fragmented=st.booleans(),
)
def test_picture_and_sound_are_equally_long(
    fps: int, seconds: float, rate: int, channels: int, fragmented: bool
) -> None:
    audio = sound(seconds, rate, channels)
    frames = max(1, round(audio.duration_s * fps))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.mp4"
        write(path, moving(frames, 32, 32), fps, audio=audio, options=VideoOptions(fragmented=fragmented))
        info = probe(path)
        assert os.listdir(folder) == ["out.mp4"]
        decoded = open_audio(path)
    assert info.codecs == ("h264", "aac")
    assert (info.frames, info.video_duration_s) == (frames, pytest.approx(frames / fps, abs=1e-6))
    assert info.fps == pytest.approx(fps, abs=1e-6)
    assert info.audio_duration_s is not None
    assert abs(info.audio_duration_s - info.video_duration_s) <= 0.5 / fps + 2 / rate or seconds < 0.5 / fps
    assert info.audio_duration_s == pytest.approx(min(audio.duration_s, frames / fps), abs=1.5 / min(rate, 48_000))
    assert decoded.sample_rate == (rate if rate <= 96_000 and rate != 37_000 else 48_000)
    assert decoded.channels == (channels if channels <= 8 else 2)


def test_the_edit_list_says_the_sound_to_the_sample(tmp_path: Path) -> None:
    # Other players trim by it; in milliseconds, libav's default, it would cut into the last sample or packet.
    write(tmp_path / "out.mp4", moving(26), audio=open_audio(np.zeros(45_077), 44_100))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].duration == 45_077


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize("fps", [24, 25, 30])
def test_frames_come_at_a_constant_rate_from_zero(tmp_path: Path, fps: int, fragmented: bool) -> None:
    options = VideoOptions(fragmented=fragmented)
    write(tmp_path / "out.mp4", moving(3 * fps), fps, audio=sound(3, 44_100), options=options)
    assert times(str(tmp_path / "out.mp4")) == pytest.approx([k / fps for k in range(3 * fps)], abs=1e-6)


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize(
    ("rate", "channels"), [(8_000, 1), (16_000, 1), (44_100, 2), (48_000, 6), (192_000, 2), (44_100, 12)]
)
def test_a_click_stays_where_it_was(tmp_path: Path, rate: int, channels: int, fragmented: bool) -> None:
    samples = np.zeros((2 * rate, channels), np.float32)
    clicks_s = (0.25, 1.0, 1.75)
    for click_s in clicks_s:
        samples[int(click_s * rate) : int(click_s * rate) + rate // 4000] = 0.8
    options = VideoOptions(fragmented=fragmented)
    write(tmp_path / "out.mp4", moving(50), audio=open_audio(samples, rate), options=options)
    source = open_audio(tmp_path / "out.mp4")
    decoded = np.abs(np.concatenate(list(source.blocks()))[:, 0])
    for click_s in clicks_s:
        near = slice(int((click_s - 0.1) * source.sample_rate), int((click_s + 0.1) * source.sample_rate))
        found_s = (near.start + int(decoded[near].argmax())) / source.sample_rate
        assert abs(found_s - click_s) < 0.002


def test_channels_keep_their_order(tmp_path: Path) -> None:
    seconds = np.arange(48_000) / 48_000
    hertz = [300, 500, 700, 80, 1100, 1300, 1700, 1900]
    for channels in (2, 3, 4, 5, 6, 7, 8):
        tones = np.stack([0.3 * np.sin(2 * np.pi * hertz[k] * seconds) for k in range(channels)], axis=1)
        write(tmp_path / "out.mp4", moving(25, 32, 32), audio=open_audio(tones, 48_000))
        decoded = np.concatenate(list(open_audio(tmp_path / "out.mp4").blocks()))
        found = np.abs(np.fft.rfft(decoded, axis=0)).argmax(axis=0)
        assert found.tolist() == hertz[:channels]


def test_sound_is_cut_to_the_video_and_may_end_earlier(tmp_path: Path) -> None:
    write(tmp_path / "cut.mp4", moving(25), audio=sound(3))
    assert probe(tmp_path / "cut.mp4").audio_duration_s == 1.0
    write(tmp_path / "short.mp4", moving(75), audio=sound(1))
    info = probe(tmp_path / "short.mp4")
    assert (info.audio_duration_s, info.video_duration_s) == (1.0, 3.0)


def test_without_sound_there_is_no_sound_track(tmp_path: Path) -> None:
    write(tmp_path / "out.mov", moving(5))
    info = probe(tmp_path / "out.mov")
    assert (info.codecs, info.audio_duration_s, info.frames) == (("h264",), None, 5)


# --- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255), (200, 150, 120), (17, 80, 240)]
)
def test_colours_survive(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    frames = np.full((3, 64, 64, 3), colour, np.uint8)
    write(tmp_path / "out.mp4", frames)
    error = np.abs(decode(str(tmp_path / "out.mp4")).astype(int) - frames).mean(axis=(0, 1, 2))
    assert error.max() <= 2.5
    with av.open(str(tmp_path / "out.mp4")) as container:
        context = container.streams.video[0].codec_context
        # BT.709 matrix, primaries and transfer; limited range.
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)
        assert context.pix_fmt == "yuv420p"


def test_a_picture_is_recognisable_after_encoding(tmp_path: Path) -> None:
    frames = moving(10)
    write(tmp_path / "out.mp4", frames, options=VideoOptions(crf=10))
    assert np.abs(decode(str(tmp_path / "out.mp4")).astype(int) - frames).mean() < 6


@pytest.mark.parametrize(("width", "height"), [(65, 48), (64, 49), (33, 31), (1, 1)])
def test_odd_sizes_are_padded_by_their_edge(tmp_path: Path, width: int, height: int) -> None:
    frames = np.zeros((3, height, width, 3), np.uint8)
    frames[:, :, -1] = 200
    write(tmp_path / "out.mp4", frames)
    decoded = decode(str(tmp_path / "out.mp4"))
    assert decoded.shape[1:3] == (height + height % 2, width + width % 2)
    assert decoded[:, :, -1].min() > 180


@pytest.mark.parametrize("fragmented", [False, True])
def test_one_by_one_or_in_batches_gives_the_same_bytes(tmp_path: Path, fragmented: bool) -> None:
    frames, options = moving(60), VideoOptions(fragmented=fragmented)
    hashes = set()
    for batch in (1, 7, 60):
        with VideoWriter(
            tmp_path / "out.mp4", width=64, height=48, fps=25, audio=sound(2.4, 44_100, 2), options=options
        ) as writer:
            for start in range(0, 60, batch):
                writer.write(frames[start : start + batch])
            writer.write(frames[:0])
            assert writer.frame_count == 60
        hashes.add(hashlib.sha256((tmp_path / "out.mp4").read_bytes()).hexdigest())
    assert len(hashes) == 1


# --- the mark -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fragmented", [False, True])
def test_the_file_says_that_it_is_generated_unless_told_not_to(tmp_path: Path, fragmented: bool) -> None:
    path = tmp_path / "out.mp4"
    write(path, moving(5), options=VideoOptions(fragmented=fragmented, generator="emo_rt 9.8.7"))
    for key in ("comment", "description"):
        assert "AI-generated" in probe(path).metadata[key]
        assert "emo_rt 9.8.7" in probe(path).metadata[key]
    write(path, moving(5), options=VideoOptions(fragmented=fragmented, mark_generated=False))
    assert not {"comment", "description"} & set(probe(path).metadata)


# --- streams --------------------------------------------------------------------------------------------------------


class Pipe(io.RawIOBase):
    """Forward only, and takes at most 1000 bytes at a time, as a socket may."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data)[:1000]
        self.data += taken
        return len(taken)


@pytest.mark.parametrize("make", [io.BytesIO, Pipe])
def test_a_stream_can_be_decoded_and_stays_open(make: Callable[[], Any]) -> None:
    target = make()
    write(target, moving(50), audio=sound(2, 44_100, 2), options=FRAGMENTED)
    assert not target.closed
    data = target.getvalue() if isinstance(target, io.BytesIO) else bytes(target.data)
    assert decode(io.BytesIO(data)).shape == (50, 48, 64, 3)
    with av.open(io.BytesIO(data)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 88_200


def test_a_stream_plays_while_it_is_being_written() -> None:
    target = io.BytesIO()
    with VideoWriter(target, width=64, height=48, fps=25, audio=sound(10), options=FRAGMENTED) as writer:
        writer.write(moving(80))
        # Fragments are a second long, so at 3.2 s at least two are out.
        assert len(decode(io.BytesIO(target.getvalue()))) >= 50
        with av.open(io.BytesIO(target.getvalue())) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) > 1.8 * 16_000


def test_a_failed_stream_gets_no_orderly_end() -> None:
    target, before = io.BytesIO(), []
    with pytest.raises(Cancelled):
        break_off(target, Cancelled(), lambda: before.append(target.getvalue()), options=FRAGMENTED)
    assert before == [target.getvalue()]


def test_a_file_object_takes_fragmented_bytes_only() -> None:
    for target, options, message in [
        (io.BytesIO(), VideoOptions(), "fragmented=True"),
        (io.StringIO(), FRAGMENTED, "StringIO"),
        (7, FRAGMENTED, "int"),
    ]:
        with pytest.raises(OutputError, match=message):
            VideoWriter(target, width=64, height=48, fps=25, options=options)


# --- failures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fragmented", [False, True])
@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), Cancelled("stop")])
def test_an_exception_leaves_nothing_and_the_next_write_works(
    tmp_path: Path, error: BaseException, fragmented: bool
) -> None:
    path, options = tmp_path / "out.mp4", VideoOptions(fragmented=fragmented)
    seen = []
    with pytest.raises(type(error)):
        break_off(path, error, lambda: seen.extend(os.listdir(tmp_path)), audio=sound(3), options=options)
    assert len(seen) == 1
    assert seen[0].endswith(".part")
    assert os.listdir(tmp_path) == []
    write(path, moving(5), options=options)
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_a_failure_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    write(path, moving(5))
    before = path.read_bytes()
    with pytest.raises(Cancelled):
        break_off(path, Cancelled())
    assert path.read_bytes() == before


@pytest.mark.parametrize(("error", "expected"), [(AudioError("gone"), AudioError), (RuntimeError("odd"), RuntimeError)])
def test_a_sound_that_fails_midway_leaves_nothing(tmp_path: Path, error: Exception, expected: type[Exception]) -> None:
    audio = FailingSound(error)
    writer = VideoWriter(tmp_path / "out.mp4", width=64, height=48, fps=25, audio=audio)
    writer.write(moving(20))
    with pytest.raises(expected):
        writer.write(moving(20))
    with pytest.raises(ClosedError):
        writer.write(moving(20))
    writer.close()
    assert os.listdir(tmp_path) == []
    assert audio.closed


def test_the_sound_is_let_go_when_the_video_is_shorter(tmp_path: Path) -> None:
    audio = FailingSound(RuntimeError("never reached"))
    write(tmp_path / "out.mp4", moving(5), audio=audio)
    assert audio.closed


def test_a_full_disc_is_an_output_error_and_leaves_nothing(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="file size limits are POSIX only")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    frames = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OutputError) as raised:
            write(tmp_path / "out.mp4", frames)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.__cause__ is not None
    assert os.listdir(tmp_path) == []


def test_a_stream_that_breaks_is_an_output_error() -> None:
    class Broken(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            raise BrokenPipeError("the viewer left")

    with pytest.raises(OutputError, match="the viewer left") as raised:
        write(Broken(), moving(60), options=FRAGMENTED)
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere/out.mp4", "cannot be written"),
        ("file/out.mp4", "cannot be written"),
        ("out.avi", r"\.avi.*\.mp4, \.m4v, \.mov"),
        ("out", r"\.mp4, \.m4v, \.mov"),
        ("folder.mp4", "is a folder"),
    ],
)
def test_targets_that_cannot_be_written_fail_at_once(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(OutputError, match=message):
        VideoWriter(tmp_path / name, width=64, height=48, fps=25)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError):
        VideoWriter(tmp_path / "out.mp4", width=64, height=48, fps=25)
    tmp_path.chmod(0o700)


def test_a_video_without_frames_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no frame"), VideoWriter(tmp_path / "a.mp4", width=64, height=48, fps=25):
        pass
    assert os.listdir(tmp_path) == []


def test_close_is_safe_twice(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.m4v", width=64, height=48, fps=25)
    writer.write(moving(3))
    writer.close()
    writer.close()
    writer.discard()
    assert probe(tmp_path / "out.m4v").frames == 3
    with pytest.raises(ClosedError):
        writer.write(moving(1))


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 48, 64, 3), np.float32), np.zeros((48, 64, 3), np.uint8), np.zeros((1, 64, 48, 3), np.uint8), [1]],
)
def test_wrong_frames_are_refused_and_the_writer_goes_on(tmp_path: Path, frames: Any) -> None:
    with VideoWriter(tmp_path / "out.mp4", width=64, height=48, fps=25) as writer:
        with pytest.raises(InputError, match=r"\(n, 48, 64, 3\), uint8"):
            writer.write(frames)
        writer.write(moving(2))
    assert probe(tmp_path / "out.mp4").frames == 2


# --- options and encoders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"codec": "vp9"},
        {"crf": 52},
        {"crf": -1},
        {"crf": 1.5},
        {"preset": "p9"},
        {"audio_bitrate": 1},
        {"generator": ""},
    ],
)
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        VideoOptions(**wrong)


def test_options_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        VideoOptions().crf = 3  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [{"width": 0}, {"height": 9000}, {"fps": 0}, {"fps": 29.97}])
def test_sizes_and_rates_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        VideoWriter(tmp_path / "out.mp4", **{"width": 64, "height": 48, "fps": 25, **wrong})
    assert os.listdir(tmp_path) == []


def test_encoders_are_tried_for_real(capfd: pytest.CaptureFixture[str]) -> None:
    assert open_encoder_works("libx264")
    assert not open_encoder_works("no_such_encoder")
    assert not open_encoder_works("aac")
    assert not open_encoder_works("libx264", 0, 0)
    assert open_encoder_works("h264_nvenc") in (True, False)
    assert capfd.readouterr() == ("", "")


def test_a_forced_encoder_is_never_replaced(tmp_path: Path) -> None:
    options = VideoOptions(codec="h264_nvenc")
    if open_encoder_works("h264_nvenc", 256, 256):
        write(tmp_path / "out.mp4", moving(30, 256, 256), options=options)
        assert probe(tmp_path / "out.mp4").frames == 30
        return
    with pytest.raises(OutputError, match=r"h264_nvenc does not work here.*codec='auto'"):
        write(tmp_path / "out.mp4", moving(3, 256, 256), options=options)
    assert os.listdir(tmp_path) == []
    write(tmp_path / "out.mp4", moving(3, 256, 256))
    assert probe(tmp_path / "out.mp4").codecs == ("h264",)


def test_quality_and_preset_reach_the_encoder(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (10, 64, 64, 3), dtype=np.uint8)
    sizes = []
    for options in (VideoOptions(codec="libx264", crf=10), VideoOptions(codec="libx264", crf=40, preset="best")):
        write(tmp_path / "out.mp4", frames, options=options)
        sizes.append((tmp_path / "out.mp4").stat().st_size)
    assert sizes[0] > 3 * sizes[1]


def test_nothing_is_printed_and_no_thread_stays(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def native_threads() -> int:
        tasks = Path("/proc/self/task")
        return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()

    write(tmp_path / "out.mp4", moving(5), audio=sound(0.2))
    before = native_threads()
    for _ in range(3):
        write(tmp_path / "out.mp4", moving(30), audio=sound(1.2), options=SOFTWARE)
        with pytest.raises(Cancelled):
            break_off(tmp_path / "broken.mp4", Cancelled(), options=SOFTWARE)
    deadline = time.monotonic() + 5
    while native_threads() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel may list a thread that was joined for a moment longer
    assert native_threads() <= before
    assert capfd.readouterr() == ("", "")


# --- pictures as files ----------------------------------------------------------------------------------------------


def test_png_pictures_are_lossless(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (7, 21, 33, 3), dtype=np.uint8)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "new", tmp_path / "empty"):
        assert write_frames_png([frames[:3], frames[3:3], frames[3:]], folder) == 7
        assert sorted(os.listdir(folder)) == [f"{k:06d}.png" for k in range(7)]
        for k, frame in enumerate(frames):
            np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{k:06d}.png")), frame)
    assert sorted(os.listdir(tmp_path)) == ["empty", "new"]


def test_png_pictures_never_overwrite_and_leave_nothing_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[np.ndarray]:
        yield moving(2)
        raise Cancelled("stop")

    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    cases: list[tuple[Any, str, type[Exception]]] = [
        ([moving(1)], "full", OutputError),
        ([moving(1)], "full/mine.txt", OutputError),
        ([moving(1)], "nowhere/new", OutputError),
        ([], "new", OutputError),
        ([moving(1).astype(np.float32)], "new", InputError),
        (failing(), "new", Cancelled),
    ]
    for frames, name, error in cases:
        with pytest.raises(error):
            write_frames_png(frames, tmp_path / name)
    assert os.listdir(tmp_path) == ["full"]
    assert os.listdir(tmp_path / "full") == ["mine.txt"]


# --- probing --------------------------------------------------------------------------------------------------------


def test_probe_refuses_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4_000), np.float32), "flt", "mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    for name, message in [
        ("none.mp4", "no video file"),
        ("text.mp4", "cannot be read"),
        ("sound.m4a", "no video track"),
    ]:
        with pytest.raises(InputError, match=message):
            probe(tmp_path / name)


def test_a_real_voice(tmp_path: Path) -> None:
    voice = MEDIA / "speech_english_44k_stereo.wav"
    if not voice.exists():
        pytest.skip("the shared sample voices are not on this machine")
    source = open_audio(voice)
    frames = round(source.duration_s * 25)
    write(tmp_path / "out.mp4", moving(frames), audio=source)
    info = probe(tmp_path / "out.mp4")
    assert info.audio_duration_s is not None
    assert abs(info.video_duration_s - info.audio_duration_s) <= 0.5 / 25
    heard = np.concatenate(list(open_audio(tmp_path / "out.mp4").blocks()))
    given_sound = np.concatenate(list(source.blocks()))[: len(heard)]
    assert heard.shape == given_sound.shape
    assert np.corrcoef(heard[:, 0], given_sound[:, 0])[0, 1] > 0.98
