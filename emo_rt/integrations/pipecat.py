"""A live session as a service of a Pipecat pipeline. Extra ``pipecat``.

:class:`EmoVideoService` stands behind the speech synthesiser and in front of the transport's output: it takes the
synthesiser's sound, and gives pictures and the sound that belongs to them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from emo_rt.errors import ClosedError
from emo_rt.integrations.sound import VoiceInput, int16_bytes
from emo_rt.media.marking.frame_marks import FrameMarker
from emo_rt.media.marking.options import MarkOptions
from emo_rt.runtime.live.pair import LivePair
from emo_rt.runtime.live.session import LiveSession


class EmoVideoService(AIService):
    """Pipecat's interface on a :class:`emo_rt.LiveSession`, which stays yours: close it after the pipeline.

    Open the session with ``pace="asap"``: the transport plays. ``TTSAudioRawFrame`` goes no further; the same sound
    comes out again with its pictures, and ``TTSStoppedFrame`` behind the last of it. In between there are pictures
    alone. An ``InterruptionFrame`` is forwarded when all older sound is forgotten, an ``EndFrame`` when everything was
    said. An error of the session goes upstream as an ``ErrorFrame``.
    """

    def __init__(
        self,
        session: LiveSession,
        *,
        sync_with_audio: bool = True,
        marks: MarkOptions | None = None,
        **arguments: Any,
    ) -> None:
        """``sync_with_audio``: the transport shows a picture once the sound before it was played. Turn it off for a
        transport with ``video_out_is_live=True``, which plays pictures by their own clock. ``marks``: of the pictures;
        by default the watermark that everybody can find. ``arguments``: of Pipecat's ``AIService``.
        """
        super().__init__(settings=ServiceSettings(model=None), **arguments)
        self._session, self._voice = session, VoiceInput(session)
        self._sync_with_audio = sync_with_audio
        self._marker = FrameMarker(marks or MarkOptions(), session.fps)
        self._pictures = 0
        self._giving = asyncio.Lock()
        """Held while a pair is given, so that no interruption comes between its parts."""
        self._clears = 0
        self._ends: deque[Frame | None] = deque()
        """What follows the last pair of each utterance that has ended, in order."""
        self._has_given = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Take the synthesiser's frames, forward all others."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InterruptionFrame):
            async with self._giving:
                self._interrupt()
                await self.push_frame(frame, direction)
        elif isinstance(frame, TTSAudioRawFrame):
            await self._voice.push(frame.audio, frame.sample_rate, frame.num_channels)
        elif isinstance(frame, TTSStoppedFrame) and self._voice.is_speaking:
            await self._end_utterance(frame)
        else:
            await self.push_frame(frame, direction)
            if isinstance(frame, StartFrame):
                self._task = self.create_task(self._give_pairs())

    async def stop(self, frame: EndFrame) -> None:
        """Let what is said come out, and stop."""
        await super().stop(frame)
        if self._voice.is_speaking:
            await self._end_utterance(None)
        while self._ends:
            self._has_given.clear()
            await self._has_given.wait()
        await self._stop_giving()

    async def cancel(self, frame: CancelFrame) -> None:
        """Stop at once."""
        await super().cancel(frame)
        await self._stop_giving()

    async def cleanup(self) -> None:
        """Stop, if nothing else has."""
        await self._stop_giving()
        await super().cleanup()

    async def _end_utterance(self, end: Frame | None) -> None:
        clears = self._clears
        await self._voice.end()
        if clears == self._clears:  # otherwise it was interrupted while the queue was full, and has no last pair
            self._ends.append(end)

    def _interrupt(self) -> None:
        self._clears += 1
        self._ends.clear()
        self._has_given.set()
        try:
            self._voice.clear()
        except ClosedError:
            return

    async def _stop_giving(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await self.cancel_task(task)

    # What comes out

    async def _give_pairs(self) -> None:
        try:
            async for pair in self._session:
                clears = self._clears
                async with self._giving:
                    await self._give(pair, is_old=clears != self._clears)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the pipeline is told
            await self.push_error(f"the live session has ended: {exc}", exception=exc)
        finally:
            self._ends.clear()
            self._has_given.set()

    async def _give(self, pair: LivePair, *, is_old: bool) -> None:
        """``is_old``: it was interrupted on its way; then its picture comes alone."""
        height, width = pair.frame.shape[:2]
        (marked,) = self._marker(pair.frame[np.newaxis], self._pictures)
        self._pictures += 1
        picture = OutputImageRawFrame(marked.tobytes(), (width, height), "RGB")
        picture.sync_with_audio = self._sync_with_audio
        await self.push_frame(picture)
        if is_old or pair.utterance is None:
            return
        rate = self._session.settings.sample_rate
        await self.push_frame(TTSAudioRawFrame(int16_bytes(pair.audio), rate, 1))
        if pair.is_last:
            end = self._ends.popleft()
            self._has_given.set()
            if end is not None:
                await self.push_frame(end)
