"""One live session on its way out: a thread takes its pairs and makes fragments of them for the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emo_rt.media.audio import Resampler
from emo_rt.media.marking.options import MarkOptions
from emo_rt.media.video_file import VideoOptions, VideoWriter
from emo_rt.runtime.live.pair import LivePair
from emo_rt.runtime.live.session import LiveSession
from emo_rt.serve.fragments import Fragment, FragmentSink
from emo_rt.version import __version__

EndSession = Callable[[BaseException | None], None]
"""Closes a session, and is told what has ended it."""
QUEUED = 8
"""Fragments that wait for a slow viewer; then nothing more is computed for it."""
LEAST_RATE, BETTER_RATE = 44_100, 48_000
"""Slower sound is sent at the better rate. AAC codes 1024 samples at a time, and is one such block late: at 16 kHz each
fragment would leave three frames of 25 per second later (measured)."""
LOOK_S = 0.2
"""Seconds after which a thread that waits for a viewer looks whether that has gone."""


@dataclass(frozen=True)
class Piece:
    """A fragment and what is known of it."""

    fragment: Fragment
    start_s: float
    """Time of its first picture, in seconds."""
    is_speaking: bool
    """Whether somebody speaks in it."""
    utterance: int | None
    """Number of the last utterance in it."""


class LiveStream:
    """Owns a thread, and the session from now on. Iterate with ``async for``; :meth:`close` ends it.

    The thread closes the session, as the task that called may be cancelled at any ``await``.
    """

    def __init__(self, session: LiveSession, *, fragment_frames: int, close: EndSession, marks: MarkOptions) -> None:
        """``marks``: in the pictures. Starts at once; call it in an event loop."""
        self.session, self._close = session, close
        self.frames = 0
        """Pictures that were given."""
        encoding = VideoOptions(
            fragmented=True,
            fragment_frames=fragment_frames,
            profile="baseline",
            preset="fast",
            crf=23,
            generator=f"emo_rt {__version__}",
        )
        self._options = encoding.with_marks(replace(marks, c2pa_cert=None, c2pa_key=None))  # streams cannot be signed
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Piece | BaseException | None] = asyncio.Queue(QUEUED)
        self._is_gone = threading.Event()
        self._thread = threading.Thread(target=self._work, name="emo_rt serve: live", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    def __aiter__(self) -> LiveStream:
        return self

    async def __anext__(self) -> Piece:
        """The next piece. Raises what has ended the session."""
        found = await self._queue.get()
        if found is None:
            raise StopAsyncIteration
        if isinstance(found, BaseException):
            raise found
        return found

    async def close(self) -> None:
        """Drop what is under way, and wait until the session is closed. Safe twice, and when it is cancelled."""
        self._is_gone.set()
        await asyncio.shield(asyncio.to_thread(self._thread.join))

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            self._write(FragmentSink())
        except BaseException as exc:
            logging.getLogger(__name__).debug("a live session ended", exc_info=exc)
            end = exc
        finally:
            self._close(end)
        self._put(end)

    def _write(self, sink: Any) -> None:
        session = self.session
        width, height = session.size
        given = session.settings.sample_rate
        rate = given if given >= LEAST_RATE else BETTER_RATE
        resampler = None if rate == given else Resampler(given, rate)
        writer = VideoWriter(sink, width=width, height=height, fps=session.fps, sample_rate=rate, options=self._options)
        waiting: list[LivePair] = []
        try:
            for pair in session:
                if self._is_gone.is_set():
                    break
                writer.write(pair.frame[np.newaxis], pair.audio if resampler is None else resampler.push(pair.audio))
                waiting.append(pair)
                for fragment in sink.take():
                    self._give(fragment, waiting)
            if self.frames or waiting:
                if resampler is not None:
                    writer.write(None, resampler.flush())
                writer.close()
        finally:
            writer.discard()
        for fragment in sink.take():
            self._give(fragment, waiting)
        rest = sink.rest()
        if rest is not None:
            self._give(rest, waiting)

    def _give(self, fragment: Fragment, waiting: list[LivePair]) -> None:
        pairs = waiting[: fragment.frames]
        del waiting[: fragment.frames]
        spoken = [pair.utterance for pair in pairs if pair.speaking]
        start = pairs[0].time_s if pairs else self.frames / self.session.fps
        self.frames += fragment.frames
        self._put(Piece(fragment, start, bool(spoken), spoken[-1] if spoken else None))

    def _put(self, item: Piece | BaseException | None) -> None:
        """Wait for room, as long as somebody is there."""
        if self._is_gone.is_set() or self._loop.is_closed():
            return
        future = asyncio.run_coroutine_threadsafe(self._queue.put(item), self._loop)
        while not self._is_gone.is_set():
            try:
                future.result(LOOK_S)
                return
            except NotYet:
                continue
        future.cancel()
