"""Videos as the measures see them: frames in order, the sound at 16 kHz, and how long both are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from emo_rt.errors import InputError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, AudioSource, mono_16k, open_audio
from emo_rt.media.untrusted import VIDEO, open_media
from emo_rt.media.video_file import probe

Frame = NDArray[np.uint8]
"""(H, W, 3) uint8 RGB."""
SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts")
"""How names of videos in a folder end."""


@dataclass(frozen=True, eq=False)
class Footage:
    """One video. It can be read as often as needed; nothing of a file is kept in memory."""

    name: str
    """What reports call it."""
    fps: float
    """Frames per second."""
    frames: Callable[[], Iterator[Frame]]
    """Starts a new pass over the frames."""
    sound: NDArray[np.float32] | None
    """(n,) mono at 16 kHz, from the first frame on; ``None`` without sound."""
    video_s: float
    """Length of the picture in seconds."""
    audio_s: float | None
    """Length of the sound track in seconds; ``None`` where there is none."""
    path: Path | None = None
    """The file, if it is one."""

    def with_voice(self, voice: str | os.PathLike[str]) -> Footage:
        """The same frames, held against another sound. Raises :class:`AudioError`."""
        heard = waveform(open_audio(voice))
        return Footage(self.name, self.fps, self.frames, heard, self.video_s, self.audio_s, self.path)


def waveform(source: AudioSource) -> NDArray[np.float32]:
    """A whole sound as (n,) float32, mono at 16 kHz."""
    blocks = list(mono_16k(source))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def open_video(path: str | os.PathLike[str]) -> Footage:
    """A video file. Raises :class:`InputError` where it cannot be read, :class:`AudioError` for its sound."""
    path = Path(path)
    info = probe(path)
    sound = None
    if info.audio_duration_s is not None:
        late = min(_sound_late_by(path), info.video_duration_s)
        sound = _from_first_frame(waveform(open_audio(path)), late)
    name, fps = path.name, info.fps
    return Footage(name, fps, lambda: decoded(path), sound, info.video_duration_s, info.audio_duration_s, path)


def _sound_late_by(path: Path) -> float:
    """Seconds from the first frame to the first sample: not 0 in files that were cut without being encoded again."""
    with open_media(path, VIDEO) as media:
        return float(_start_s(media.best("audio")) - _start_s(media.best("video")))


def _start_s(track: Stream | None) -> Fraction:
    if track is None or track.start_time is None or track.time_base is None:
        return Fraction(0)
    return track.start_time * track.time_base


def _from_first_frame(sound: NDArray[np.float32], late_s: float) -> NDArray[np.float32]:
    samples = round(late_s * AUDIO_SAMPLE_RATE)
    return np.concatenate([np.zeros(samples, np.float32), sound]) if samples > 0 else sound[-samples:]


def of_frames(name: str, frames: NDArray[np.uint8], fps: float, sound: NDArray[np.float32] | None = None) -> Footage:
    """Frames in memory, (T, H, W, 3) uint8, with a sound (n,) at 16 kHz. Raises :class:`InputError`."""
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or 0 in frames.shape:
        raise InputError(f"frames are {frames.dtype} of shape {frames.shape}; expected uint8 (T, H, W, 3), T ≥ 1")
    audio_s = None if sound is None else len(sound) / AUDIO_SAMPLE_RATE
    return Footage(name, fps, lambda: iter(frames), sound, len(frames) / fps, audio_s)


def decoded(path: Path) -> Iterator[Frame]:
    """The frames of a file in the order in which they are shown. Raises :class:`InputError`."""
    with open_media(path, VIDEO) as media:
        stream = media.best("video")
        if not isinstance(stream, VideoStream):
            raise InputError(f"{path} has no video track; expected one")
        for packet in media.packets(stream):
            for frame in packet.decode():
                if isinstance(frame, VideoFrame):
                    yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def videos_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The videos of a folder by name. Raises :class:`InputError` if there is none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected one with videos")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"{folder} has no video; expected files that end in {', '.join(SUFFIXES)}")
    return found


def expanded(sources: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are, folders as the videos in them."""
    paths = [Path(source) for source in sources]
    return [video for path in paths for video in (videos_in(path) if path.is_dir() else [path])]
