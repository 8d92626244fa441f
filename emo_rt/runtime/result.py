"""What :meth:`emo_rt.Animator.animate` gives: a video that is made while it is saved or looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import IO

import numpy as np

from emo_rt.media import video_file as video
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, AudioSource, mono_16k
from emo_rt.model.contract import Array
from emo_rt.runtime.clips import frame_count
from emo_rt.runtime.session import Session
from emo_rt.runtime.stages import Chunk, RunStats
from emo_rt.runtime.stream import spoken
from emo_rt.schema.option import read_options
from emo_rt.version import __version__


class Video:
    """A talking video. Each pass over it is one session with the same result; nothing is kept in memory."""

    def __init__(self, start: Callable[[], Session], audio: AudioSource, fps: int, size: tuple[int, int]) -> None:
        """Made by :meth:`emo_rt.Animator.animate`."""
        self._start = start
        self.audio = audio
        """The sound as it was given: ``sample_rate``, ``channels``, ``samples``, and ``blocks()`` that read it."""
        self.fps = fps
        """Frames per second."""
        self.width, self.height = size
        self.frame_count = audio_frames(audio, fps)
        """Frames of the whole video: the audio's length to within half a frame."""
        self.stats: RunStats | None = None
        """Timings of the last pass that ran to its end."""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frame_count / self.fps

    def chunks(self) -> Generator[Chunk]:
        """Make the video, clip by clip. Closing the iterator early stops it."""
        start = time.perf_counter()
        with self._start() as session:
            yield from spoken(session, mono_16k(self.audio))
        session.stats.wall_s = time.perf_counter() - start
        self.stats = session.stats

    def frames(self) -> Generator[Array]:
        """Frame by frame, (H, W, 3) uint8 RGB."""
        with closing(self.chunks()) as chunks:
            for chunk in chunks:
                yield from chunk.frames

    def numpy(self) -> Array:
        """All frames, (n, H, W, 3) uint8 RGB. For short videos: an hour at 512 pixels is 70 GB."""
        return np.concatenate([chunk.frames for chunk in self.chunks()])

    def save(
        self,
        target: str | os.PathLike[str] | IO[bytes],
        options: video.VideoOptions | None = None,
        *,
        overwrite: bool = True,
    ) -> RunStats:
        """Make the video and write it as MP4 with the voice; see :class:`emo_rt.VideoOptions`.

        ``target``: a path ending in .mp4, .m4v or .mov, or a binary file object (fragmented MP4). On any failure no
        file is left. Without ``overwrite`` a file that exists is kept, also one that appears meanwhile. Raises
        :class:`OutputError`, also where the target is the file that the voice is read from, and what the run raises.
        """
        options = read_options(options, {"generator": f"emo_rt {__version__}"}, video.VideoOptions)
        with writer_of(self, target, options, overwrite=overwrite) as writer, closing(self.chunks()) as chunks:
            for chunk in chunks:
                writer.write(chunk.frames)
        assert self.stats is not None
        return self.stats

    def save_frames(self, folder: str | os.PathLike[str]) -> RunStats:
        """Make the video and write its frames as ``000000.png`` … into a new or empty folder."""
        with closing(self.chunks()) as chunks:
            video.write_frames_png((chunk.frames for chunk in chunks), folder)
        assert self.stats is not None
        return self.stats


def writer_of(
    made: Video, target: str | os.PathLike[str] | IO[bytes], options: video.VideoOptions, *, overwrite: bool = True
) -> video.VideoWriter:
    """What takes the frames of a video, with its size, rate and sound. Raises :class:`OutputError`."""
    return video.VideoWriter(
        target,
        width=made.width,
        height=made.height,
        fps=made.fps,
        audio=made.audio,
        options=options,
        overwrite=overwrite,
    )


def audio_frames(audio: AudioSource, fps: int) -> int:
    """Video frames for a sound: counted after resampling to 16 kHz, as a stream counts them."""
    samples = (2 * audio.samples * AUDIO_SAMPLE_RATE + audio.sample_rate) // (2 * audio.sample_rate)
    return frame_count(samples, fps)
