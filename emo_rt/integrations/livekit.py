"""A live session as the video of a LiveKit agent. Extra ``livekit``.

:class:`EmoVideoGenerator` goes into LiveKit's ``AvatarRunner``, which publishes its pictures and its sound in a room.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarOptions, VideoGenerator
from numpy.typing import NDArray

from emo_rt.errors import ClosedError
from emo_rt.integrations.sound import VoiceInput, int16_bytes
from emo_rt.media.marking.frame_marks import FrameMarker
from emo_rt.media.marking.options import MarkOptions
from emo_rt.runtime.live.pair import LivePair
from emo_rt.runtime.live.session import LiveSession

Output: TypeAlias = rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd


class EmoVideoGenerator(VideoGenerator):
    """LiveKit's interface on a :class:`emo_rt.LiveSession`, which stays yours: close it when the runner is closed.

    Open the session with ``pace="asap"``: the runner plays what it gets at the right speed. Pictures never stop. While
    something is said each comes with its 1/fps of sound; in between there is no sound, because the runner counts sound
    as speech.
    """

    def __init__(self, session: LiveSession, *, marks: MarkOptions | None = None) -> None:
        """``marks``: of the pictures; by default the watermark that everybody can find."""
        self._session, self._voice = session, VoiceInput(session)
        self._marker = FrameMarker(marks or MarkOptions(), session.fps)
        self._clears = 0

    @property
    def options(self) -> AvatarOptions:
        """What ``AvatarRunner`` must know: size, frame rate and sample rate of the session, one channel."""
        width, height = self._session.size
        return AvatarOptions(
            video_width=width,
            video_height=height,
            video_fps=self._session.fps,
            audio_sample_rate=self._session.settings.sample_rate,
            audio_channels=1,
        )

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """Sound at any rate and with any number of channels, or the end of what is said.

        Waits while the session's queue is full. Raises what :meth:`emo_rt.LiveSession.push` raises.
        """
        if isinstance(frame, AudioSegmentEnd):
            await self._voice.end()
        else:
            await self._voice.push(bytes(frame.data), frame.sample_rate, frame.num_channels)

    def clear_buffer(self) -> None:
        """Interrupt: no sound that was pushed before comes out any more. Nothing where the session was closed."""
        self._clears += 1
        try:
            self._voice.clear()
        except ClosedError:
            return

    def __aiter__(self) -> AsyncIterator[Output]:
        return self._outputs()

    async def _outputs(self) -> AsyncIterator[Output]:
        """Until the session is closed."""
        index = 0
        async for pair in self._session:
            clears = self._clears
            yield _picture(self._marker(pair.frame[np.newaxis], index)[0])
            index += 1
            # The runner waits while it plays, and may have been interrupted before it asks for the sound.
            if pair.utterance is not None and clears == self._clears:
                yield _sound(pair, self._session.settings.sample_rate)
            if pair.is_last and clears == self._clears:
                yield AudioSegmentEnd()


def _picture(frame: NDArray[np.uint8]) -> rtc.VideoFrame:
    height, width = frame.shape[:2]
    return rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, frame.tobytes())


def _sound(pair: LivePair, rate: int) -> rtc.AudioFrame:
    return rtc.AudioFrame(int16_bytes(pair.audio), rate, 1, len(pair.audio))
