"""Sound as frameworks have it, in blocks of 16 bits: into a session, whatever its rate, and out of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import Resampler
from emo_rt.runtime.live.session import LiveSession


class VoiceInput:
    """Pushes blocks of one utterance after the other into a session. For one task; :meth:`clear` from any."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session
        self._resampler: Resampler | None = None

    @property
    def is_speaking(self) -> bool:
        """Whether an utterance was begun and not ended."""
        return self._resampler is not None

    async def push(self, pcm: bytes | memoryview, sample_rate: int, channels: int) -> None:
        """Interleaved samples of 16 bits; waits while the session's queue is full. Raises as ``LiveSession.push``."""
        rate = self._session.settings.sample_rate
        if self._resampler is None or self._resampler.sample_rate != sample_rate:
            await self._push_rest()
            self._resampler = Resampler(sample_rate, rate)
        block = np.frombuffer(pcm, np.int16).reshape(-1, channels)
        await self._session.push_async(self._resampler.push(block))

    async def end(self) -> None:
        """The utterance is complete."""
        await self._push_rest()
        self._session.flush()

    def clear(self) -> None:
        """Forget the utterance, and interrupt the session."""
        self._resampler = None
        self._session.clear()

    async def _push_rest(self) -> None:
        """What the resampler holds back."""
        resampler, self._resampler = self._resampler, None
        if resampler is not None:
            rest = resampler.flush()
            if len(rest):
                await self._session.push_async(rest)


def int16_bytes(audio: NDArray[np.float32]) -> bytes:
    """(n,) in −1 … 1 → n samples of 16 bits. What was pushed as 16 bits comes out as it was."""
    return np.clip(np.rint(audio * 32_768), -32_768, 32_767).astype(np.int16).tobytes()
