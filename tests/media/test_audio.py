"""The voice: decoding with exact lengths, resampling without time shift. Real codecs, small sounds."""

from __future__ import annotations

import struct
import subprocess
import sys
import threading
import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emo_rt.errors import AudioError, Cancelled, ClosedError
from emo_rt.media import audio
from emo_rt.media.audio import AudioSource, Resampler, mono_16k, open_audio
from emo_rt.media.samples import MAX_CHANNELS

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 6: "5.1", 8: "7.1"}
PCM_STEP = {
    "pcm_u8": 2**-7,
    "pcm_s16le": 2**-15,
    "pcm_s24le": 2**-23,
    "pcm_s32le": 2**-24,
    "pcm_f32le": 0,
    "pcm_f64le": 0,
}
FAST = settings(max_examples=25, deadline=None)


def write_sound(path: Path, codec: str, rate: int, samples: np.ndarray, **container_options: str) -> None:
    """Encode (n, channels) float32 with libav."""
    layout = LAYOUTS.get(samples.shape[1], f"{samples.shape[1]} channels")
    with av.open(str(path), "w", container_options=container_options) as container:
        stream = container.add_stream(
            codec, rate=rate, options={"strict": "experimental"} if codec == "vorbis" else None
        )
        stream.layout = layout
        for start in range(0, len(samples), 5000):
            packed = np.ascontiguousarray(samples[start : start + 5000], np.float32).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(packed, "flt", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def speech_like(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise with most of its energy below 1 kHz, which every codec keeps."""
    noise = np.random.default_rng(seed).standard_normal((samples + 40, channels))
    smooth = sum(noise[k : k + samples] for k in range(40)) / 40
    return (0.8 * smooth).clip(-1, 1).astype(np.float32)


def read(source: AudioSource) -> np.ndarray:
    return np.concatenate(list(source.blocks()))


def lag(decoded: np.ndarray, original: np.ndarray) -> int:
    """By how many samples ``decoded`` is late."""
    size = 1 << (len(decoded) + len(original)).bit_length()
    product = np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(original, size))
    peak = int(np.fft.irfft(product, size).argmax())
    return peak if peak < size // 2 else peak - size


def resample(resampler: Resampler, samples: np.ndarray, cuts: list[int] | None = None) -> np.ndarray:
    pieces = [resampler.push(piece) for piece in np.split(samples, cuts or [])]
    return np.concatenate([*pieces, resampler.flush()])


# --- arrays ---------------------------------------------------------------------------------------------------------


@FAST
@given(
    samples=hnp.arrays(np.int16, st.tuples(st.integers(1, 300), st.integers(1, 8))),
    rate=st.integers(8_000, 192_000),
    kind=st.sampled_from(["int16", ">i2", "int32", "float32", "float64"]),
)
def test_an_array_of_any_kind_gives_the_same_samples(samples: np.ndarray, rate: int, kind: str) -> None:
    as_float = (samples / 32768).astype(np.float32)
    given_array = {"int32": samples.astype(np.int32) << 16}.get(
        kind, samples.astype(kind) if kind in ("int16", ">i2") else as_float.astype(kind)
    )
    source = open_audio(given_array, rate)
    assert (source.sample_rate, source.channels, source.samples) == (rate, samples.shape[1], len(samples))
    assert source.duration_s == len(samples) / rate
    blocks = list(source.blocks())
    assert all(block.dtype == np.float32 for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), as_float)


def test_a_flat_array_is_one_channel_and_every_pass_starts_again() -> None:
    source = open_audio(np.linspace(-1, 1, 200_000, dtype=np.float32), 16_000)
    first, second = source.blocks(), source.blocks()
    next(first)
    assert len(next(second)) < source.samples
    assert read(source).shape == (200_000, 1)


@pytest.mark.parametrize(
    ("array", "rate", "message"),
    [
        (np.zeros(100, np.float32), None, "pass sample_rate"),
        (np.zeros(100, np.float32), 100, "100 Hz"),
        (np.zeros(100, np.float32), 10_000_000, "10000000 Hz"),
        (np.zeros(100, np.float32), 44_100.5, "whole number"),
        (np.zeros((0, 2), np.float32), 16_000, "empty"),
        (np.zeros((2, 16_000), np.float32), 16_000, "Transpose"),
        (np.zeros((10, 2, 2), np.float32), 16_000, "shape"),
        (np.zeros(100, np.uint8), 16_000, "uint8"),
        (np.zeros(100, np.complex64), 16_000, "complex64"),
        (np.array([0, np.nan]), 16_000, "not finite"),
        (np.array([0, -np.inf]), 16_000, "not finite"),
        (np.array([0, 1e300]), 16_000, "not finite"),
        (np.array([0.0, 12_000.0]), 16_000, "peaks at 12000"),
    ],
)
def test_arrays_that_cannot_be_sound_are_refused_with_the_fix(array: np.ndarray, rate: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        open_audio(array, rate)


# --- files ----------------------------------------------------------------------------------------------------------


@FAST
@given(
    codec=st.sampled_from(sorted(PCM_STEP)),
    rate=st.sampled_from([8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000]),
    channels=st.sampled_from([1, 2, 3, 6, 8, 9, 24]),
    samples=st.integers(1, 12_000),
)
def test_wav_of_any_kind_is_exact(
    tmp_path_factory: pytest.TempPathFactory, codec: str, rate: int, channels: int, samples: int
) -> None:
    path = tmp_path_factory.mktemp("wav") / "sound.wav"
    original = speech_like(samples, channels)
    write_sound(path, codec, rate, original)
    source = open_audio(path)
    assert (source.sample_rate, source.channels, source.samples) == (rate, channels, samples)
    np.testing.assert_allclose(read(source), original, atol=PCM_STEP[codec], rtol=0)


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels", "late_end"),
    [
        ("sound.flac", "flac", 96_000, 2, (0, 0)),
        ("sound.mp3", "libmp3lame", 44_100, 1, (0, 0)),
        ("low.mp3", "libmp3lame", 16_000, 2, (0, 0)),
        ("sound.opus", "libopus", 48_000, 2, (0, 0)),
        ("sound.webm", "libopus", 48_000, 1, (0, 0)),
        ("lossless.m4a", "alac", 44_100, 2, (0, 0)),
        ("sound.m4a", "aac", 44_100, 2, (-45, 45)),
        ("surround.mp4", "aac", 48_000, 6, (-48, 48)),
        ("sound.mka", "aac", 44_100, 1, (0, 1023)),
        ("sound.ogg", "vorbis", 44_100, 2, (0, 64)),
    ],
)
@pytest.mark.parametrize("samples", [30_011, 44_100, 2_049])
def test_compressed_sound_has_its_length_back_and_no_shift(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int, late_end: tuple[int, int], samples: int
) -> None:
    original = speech_like(samples, channels)
    write_sound(tmp_path / name, codec, rate, original)
    source = open_audio(tmp_path / name)
    assert (source.sample_rate, source.channels) == (rate, channels)
    assert late_end[0] <= source.samples - samples <= late_end[1]
    decoded = read(source)
    assert decoded.shape == (source.samples, channels)
    assert lag(decoded[:, 0], original[:, 0]) == 0


@pytest.mark.parametrize("samples", [1, 20, 1_023, 2_049, 30_011])
def test_m4a_with_a_fine_edit_list_is_exact(tmp_path: Path, samples: int) -> None:
    write_sound(tmp_path / "sound.m4a", "aac", 44_100, speech_like(samples), movie_timescale="44100")
    assert open_audio(tmp_path / "sound.m4a").samples == samples


def test_raw_aac_keeps_its_undeclared_priming(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.aac", "aac", 44_100, speech_like(30_011))
    assert 0 <= open_audio(tmp_path / "sound.aac").samples - 30_011 <= 2 * 1024


def test_the_sound_track_of_a_video_and_the_picture_in_an_mp3_do_no_harm(tmp_path: Path) -> None:
    original = speech_like(48_000)
    with av.open(str(tmp_path / "clip.mov"), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=48_000, layout="mono")
        container.mux([packet for _ in range(25) for packet in video.encode(av.VideoFrame(32, 32, "yuv420p"))])
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(original.reshape(1, -1), "flt", "mono")
        frame.sample_rate = 48_000
        container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    source = open_audio(str(tmp_path / "clip.mov"))
    assert source.samples == 48_000
    np.testing.assert_allclose(read(source), original, atol=2**-15)


def test_headers_that_lie_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    write_sound(path, "pcm_s16le", 16_000, speech_like(10_000))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4_000])
    assert open_audio(path).samples == 8_000
    at = whole.index(b"data") + 4
    path.write_bytes(whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :])
    assert open_audio(path).samples == 10_000


def test_a_tag_at_the_end_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp3"
    write_sound(path, "libmp3lame", 44_100, speech_like(44_100))
    path.write_bytes(path.read_bytes() + b"TAG" + b"song".ljust(125, b"\0"))
    assert open_audio(path).samples == 44_100


def test_a_tag_in_another_encoding_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    write_sound(path, "pcm_s16le", 16_000, speech_like(10_000))
    tag = b"INFOINAM" + struct.pack("<I", 6) + "Café\0\0".encode("latin-1")
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", len(tag)) + tag)
    assert open_audio(path).samples == 10_000


def test_channels_in_an_odd_order_do_not_end_the_process(tmp_path: Path) -> None:
    # Right, left, centre: a layout that libav keeps as a list, which PyAV 18 frees twice. In a process of its own.
    speakers = b"".join(struct.pack(">II3f", label, 0, 0, 0, 0) for label in (2, 1, 3))
    chunks = {
        b"desc": struct.pack(">d4s5I", 16_000, b"lpcm", 0, 6, 1, 3, 16),
        b"chan": struct.pack(">3I", 0, 0, 3) + speakers,
        b"data": bytes(4) + bytes(6 * 16_000),
    }
    path = tmp_path / "odd.caf"
    path.write_bytes(b"caff\0\1\0\0" + b"".join(k + struct.pack(">q", len(v)) + v for k, v in chunks.items()))
    read_it = "from emo_rt.media.audio import open_audio; import sys; s = open_audio(sys.argv[1]); list(s.blocks())"
    command = [sys.executable, "-c", f"{read_it}; sys.exit(s.samples != 16_000 or s.channels != 3)", str(path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, check=False, cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_file_may_not_change_between_passes(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    write_sound(path, "pcm_s16le", 16_000, speech_like(10_000))
    source = open_audio(path)
    write_sound(path, "pcm_s16le", 16_000, speech_like(9_000))
    with pytest.raises(AudioError, match="1000 samples early"):
        read(source)
    write_sound(path, "pcm_s16le", 16_000, speech_like(10_000, 2))
    with pytest.raises(AudioError, match="part-way"):
        read(source)
    path.unlink()
    with pytest.raises(AudioError, match="there is no sound file"):
        read(source)


def _no_sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        container.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(video.encode(None))


def _no_samples(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))


def _many_channels(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((65, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(65 * 2 * 100))


def _noisy_packets(path: Path) -> None:
    write_sound(path.with_suffix(".flac"), "flac", 44_100, speech_like(200_000))
    data = bytearray(path.with_suffix(".flac").read_bytes())
    data[9_000:] = np.random.default_rng(0).bytes(len(data) - 9_000)
    path.write_bytes(data)


BAD_FILES = {
    "a text": (lambda path: path.write_text("hello\n" * 1000), "cannot be read|no sound"),
    "nothing": (lambda path: path.write_bytes(b""), "cannot be read"),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "no file": (lambda path: None, "there is no sound file"),
    "a silent video": (_no_sound, "no sound track"),
    "no samples": (_no_samples, "single sample|no sound|cannot be read"),
    "NaN": (lambda path: write_sound(path, "pcm_f32le", 16_000, np.full((99, 1), np.nan)), "not finite"),
    "integers as floats": (lambda path: write_sound(path, "pcm_f32le", 16_000, np.full((99, 1), 9e3)), "peaks at 9000"),
    "65 channels": (_many_channels, "65 channels"),
    "a playlist": (lambda path: path.write_text("#EXTM3U\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n"), "cannot be|no sound"),
}


@pytest.mark.parametrize("what", sorted(BAD_FILES))
def test_files_that_are_no_sound_are_refused(tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, message = BAD_FILES[what]
    path = tmp_path / "bad.wav"
    make(path)
    with pytest.raises(AudioError, match=message) as raised:
        open_audio(path)
    assert "bad.wav" in str(raised.value)
    assert capfd.readouterr() == ("", "")


def test_a_damaged_file_is_refused_or_ends_early_but_never_crashes(tmp_path: Path) -> None:
    _noisy_packets(tmp_path / "bad.flac")
    with pytest.raises(AudioError):
        open_audio(tmp_path / "bad.flac")


def test_packets_that_cannot_be_decoded_are_counted(tmp_path: Path) -> None:
    """Damage in the middle of a file whose end is sound."""
    path = tmp_path / "middle.m4a"
    write_sound(path, "aac", 16_000, speech_like(64_000))
    data, noise = bytearray(path.read_bytes()), np.random.default_rng(0)
    for place in noise.integers(len(data) // 5, len(data) * 9 // 10, len(data) // 3):
        data[place] = noise.integers(256)
    path.write_bytes(data)
    with pytest.raises(AudioError, match=r"is damaged: \d+ of \d+ packets cannot be decoded; export it again"):
        open_audio(path)


def test_a_file_that_changes_its_channels_is_refused(tmp_path: Path) -> None:
    parts = []
    for name, rate, channels in (("one.mp3", 16_000, 1), ("two.mp3", 44_100, 2)):
        write_sound(tmp_path / name, "libmp3lame", rate, speech_like(20_000, channels))
        parts.append((tmp_path / name).read_bytes())
    (tmp_path / "both.mp3").write_bytes(b"".join(parts))
    with pytest.raises(AudioError, match="changes its rate or channels part-way; convert it to WAV"):
        open_audio(tmp_path / "both.mp3")


def test_a_file_brings_its_own_rate(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="leave it out"):
        open_audio(tmp_path / "sound.wav", 16_000)


def test_too_many_channels_in_a_block_are_refused() -> None:
    with pytest.raises(AudioError, match="Transpose"):
        Resampler(44_100).push(np.zeros((1, MAX_CHANNELS + 1)))


# --- limits -----------------------------------------------------------------------------------------------------------


def long_header(path: Path, seconds: int) -> None:
    """A second of FLAC at 8 kHz that says of itself that it has many."""
    write_sound(path, "flac", 8_000, speech_like(8_000))
    data = bytearray(path.read_bytes())
    (field,) = struct.unpack(">Q", data[18:26])  # rate, channels, bits; then 36 bits: how many samples
    data[18:26] = struct.pack(">Q", field >> 36 << 36 | seconds * 8_000)
    path.write_bytes(data)


def test_a_sound_that_says_it_is_too_long_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_header(tmp_path / "long.flac", 4 * 3600 + 2)
    wav = tmp_path / "long.wav"
    write_sound(wav, "pcm_s16le", 8_000, speech_like(8_000))
    start = wav.read_bytes().index(b"data") + 4
    with wav.open("r+b") as file:
        file.truncate(44 + 2 * 8_000 * 4 * 3600 + 64_000)  # zeros that take no room on the disk
        file.seek(start)
        file.write(struct.pack("<I", 2 * 8_000 * 4 * 3600 + 50_000))
    monkeypatch.setattr(audio, "_decode", lambda *_: pytest.fail("it was decoded"))
    for path in (tmp_path / "long.flac", wav):
        with pytest.raises(AudioError, match=r"longer than 14400 s \(it has 1440\d\.\d s or more\).*--max-audio"):
            open_audio(path)


def test_the_limit_can_be_raised_or_lifted(tmp_path: Path) -> None:
    long_header(tmp_path / "long.flac", 5 * 3600)
    for limit in (6 * 3600, float("inf")):
        assert open_audio(tmp_path / "long.flac", max_duration_s=limit).samples == 8_000


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFFFFF - 36])
def test_a_wav_from_a_pipe_is_not_taken_for_a_long_one(tmp_path: Path, size: int) -> None:
    path = tmp_path / "piped.wav"
    write_sound(path, "pcm_s16le", 16_000, speech_like(10_000))
    data = path.read_bytes()
    at = data.index(b"data") + 4
    path.write_bytes(data[:at] + struct.pack("<I", size) + data[at + 4 :])
    assert open_audio(path).samples == 10_000


@pytest.mark.parametrize(("name", "codec"), [("a.aac", "aac"), ("a.wav", "pcm_s16le"), ("a.flac", "flac")])
def test_a_sound_that_hides_its_length_is_refused_when_the_limit_is_passed(
    tmp_path: Path, name: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sound(tmp_path / name, codec, 16_000, speech_like(40_000))
    monkeypatch.setattr(audio, "_declared_s", lambda *_: 0.0)
    checked: list[int] = []
    check = audio.check_level
    monkeypatch.setattr(audio, "check_level", lambda block, name: checked.append(len(block)) or check(block, name))
    with pytest.raises(AudioError, match="longer than 1 s"):
        open_audio(tmp_path / name, max_duration_s=1)
    assert 16_000 < sum(checked) <= 16_000 + 4_608  # and not a block more


def test_an_array_has_the_same_limit() -> None:
    with pytest.raises(AudioError, match="the audio array is longer than 2 s"):
        open_audio(np.zeros(32_001, np.float32), 16_000, max_duration_s=2)
    assert open_audio(np.zeros(32_000, np.float32), 16_000, max_duration_s=2).duration_s == 2


def test_checking_an_array_hears_a_cancel() -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Cancelled):
        open_audio(np.zeros(100, np.float32), 16_000, cancel=cancel)


def test_a_pass_over_a_file_hears_a_cancel(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.flac", "flac", 16_000, speech_like(100_000))
    cancel = threading.Event()
    blocks = open_audio(tmp_path / "a.flac", cancel=cancel).blocks()
    next(blocks)
    cancel.set()
    with pytest.raises(Cancelled):
        next(blocks)


@pytest.mark.parametrize("value", [16.5, 1e6, np.inf, np.nan])
def test_files_arrays_and_streams_have_one_rule_for_levels(tmp_path: Path, value: float) -> None:
    samples = np.full((2_000, 1), value, np.float32)
    write_sound(tmp_path / "loud.wav", "pcm_f32le", 16_000, samples)
    for read in (
        lambda: open_audio(tmp_path / "loud.wav"),
        lambda: open_audio(samples, 16_000),
        lambda: Resampler(16_000).push(samples),
        lambda: Resampler(44_100).push(samples),
    ):
        with pytest.raises(AudioError, match=r"peaks at|not finite"):
            read()
    fine = np.full((2_000, 1), -16, np.float32)
    assert open_audio(fine, 16_000).samples == len(Resampler(16_000).push(fine)) == 2_000


# --- resampling -----------------------------------------------------------------------------------------------------

RATES = st.one_of(
    st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000, 96_000, 192_000]), st.integers(8_000, 192_000)
)


@settings(max_examples=60, deadline=None)
@given(rate=RATES, samples=st.integers(0, 9_000), channels=st.integers(1, 9), data=st.data())
def test_resampling_has_the_exact_length_and_does_not_see_the_chunks(
    rate: int, samples: int, channels: int, data: st.DataObject
) -> None:
    sound = speech_like(samples, channels)
    whole = resample(Resampler(rate), sound)
    assert whole.dtype == np.float32
    assert len(whole) == (2 * samples * 16_000 + rate) // (2 * rate)
    cuts = sorted(data.draw(st.lists(st.integers(0, samples), max_size=12)))
    # Another memory layout, too: the mean over channels must not depend on it.
    np.testing.assert_array_equal(resample(Resampler(rate), np.asfortranarray(sound), cuts), whole)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("target", [16_000, 48_000])
def test_resampling_shifts_nothing(rate: int, target: int) -> None:
    time = np.arange(rate) / rate
    resampled = resample(Resampler(rate, target), np.sin(2 * np.pi * 440 * time))
    expected = np.sin(2 * np.pi * 440 * np.arange(target) / target)
    middle = slice(target // 10, -target // 10)
    assert np.abs(resampled - expected)[middle].max() < 1e-4
    assert np.abs(resampled - expected).max() < 0.1  # the ends, where the filter sees silence
    impulse = np.zeros(rate)
    impulse[rate // 3] = 1
    resampled = resample(Resampler(rate, target), impulse).astype(np.float64)
    centre_s = (resampled * np.arange(target)).sum() / resampled.sum() / target
    assert abs(centre_s - (rate // 3) / rate) < 1e-6


def test_what_16_khz_cannot_carry_is_filtered_out() -> None:
    def level(hertz: int) -> float:
        tone = resample(Resampler(44_100), np.sin(2 * np.pi * hertz * np.arange(44_100) / 44_100))
        return float(np.sqrt(2 * np.mean(tone[1000:-1000] ** 2)))

    assert abs(level(7_000) - 1) < 0.01
    assert level(9_000) < 1e-4


def test_the_same_rate_passes_through_and_channels_are_averaged() -> None:
    sound = speech_like(1_000, 3)
    resampled = resample(Resampler(16_000), sound, [1, 500])
    np.testing.assert_allclose(resampled, sound.mean(axis=1), atol=1e-7)
    np.testing.assert_array_equal(resample(Resampler(16_000), sound[:, 0]), sound[:, 0])


def test_a_resampler_ends_with_its_flush() -> None:
    for rate in (16_000, 44_100):
        resampler = Resampler(rate)
        resampler.push(np.zeros(10))
        resampler.flush()
        assert len(resampler.flush()) == 0
        with pytest.raises(ClosedError):
            resampler.push(np.zeros(1))


@pytest.mark.parametrize("bad", [np.array([np.nan]), np.array([np.inf]), np.zeros(3, np.uint8), np.zeros((1, 2, 3))])
def test_a_resampler_refuses_what_is_no_sound(bad: np.ndarray) -> None:
    with pytest.raises(AudioError):
        Resampler(44_100).push(bad)


def test_mono_16k_of_a_file(tmp_path: Path) -> None:
    tone = np.sin(2 * np.pi * 300 * np.arange(44_100) / 44_100)[:, None]
    write_sound(tmp_path / "sound.flac", "flac", 44_100, tone * [[0.6, 0.2]])
    blocks = list(mono_16k(open_audio(tmp_path / "sound.flac")))
    assert all(block.ndim == 1 and len(block) for block in blocks)
    expected = 0.4 * np.sin(2 * np.pi * 300 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(np.concatenate(blocks)[200:-200], expected[200:-200], atol=1e-3)


def test_memory_does_not_grow_with_the_sound(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        write_sound(tmp_path / "sound.flac", "flac", 48_000, np.zeros((seconds * 48_000, 1), np.float32))
        tracemalloc.start()
        total = sum(len(block) for block in mono_16k(open_audio(tmp_path / "sound.flac")))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total == seconds * 16_000
        return used

    peak(1)
    assert peak(40) < peak(4) + 200_000  # the sound itself, as floats, would take 7 MB more
