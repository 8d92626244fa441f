"""Blocks of 16 bits into a session and out of it. Needs no framework."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from emo_rt import Animator
from emo_rt.integrations.sound import VoiceInput, int16_bytes
from emo_rt.media.audio import Resampler
from tests.live_sessions import noise_picture, sound, staged, until_last

SAID = (9000 * np.sin(np.arange(9_000) * 0.05)).astype(np.int16)


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (16_000, 2), (24_000, 1), (48_000, 2)])
def test_blocks_of_any_rate_become_one_utterance(tiny_animator: Animator, rate: int, channels: int) -> None:
    """The rest that a filter holds back comes, too, and only the mean of the channels is heard."""
    avatar = tiny_animator.prepare(noise_picture(), face_box="full")
    blocks = np.array_split(np.repeat(SAID[:, None], channels, axis=1), 7)
    with staged(tiny_animator, avatar) as stage:
        session = stage.open(steps=1)
        voice = VoiceInput(session)

        async def say() -> None:
            for block in blocks:
                await voice.push(block.tobytes(), rate, channels)
            assert voice.is_speaking
            await voice.end()

        asyncio.run(say())
        assert not voice.is_speaking
        heard = sound([pair for pair in until_last(session, 0) if pair.speaking])
    resampler = Resampler(rate)
    expected = np.concatenate([resampler.push(SAID), resampler.flush()])
    np.testing.assert_array_equal(heard[: len(expected)], expected)
    assert not heard[len(expected) :].any()
    assert len(heard) - len(expected) < 16_000 / 25


def test_16_bits_come_back_as_they_were() -> None:
    every = np.arange(-32_768, 32_768).astype(np.int16)
    assert int16_bytes(every / np.float32(32_768)) == every.tobytes()
    assert (
        int16_bytes(np.array([1.0, 1.5, -1.5], np.float32)) == np.array([32_767, 32_767, -32_768], np.int16).tobytes()
    )
