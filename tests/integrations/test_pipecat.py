"""The adapter for Pipecat, in a pipeline of Pipecat's own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pipecat", reason="needs the extra pipecat: `make integrations` has it")

from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputImageRawFrame,
    StartFrame,
    TextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from emo_rt import LiveSession
from emo_rt.integrations.pipecat import EmoVideoService
from tests.doc_agents import example

RATE, FPS = 16_000, 25
PATIENCE_S = 120


def utterance(said: np.ndarray, rate: int = RATE, context: str = "one") -> list[Frame]:
    """As a voice synthesiser gives it."""
    blocks = [TTSAudioRawFrame(part.tobytes(), rate, 1) for part in np.array_split(said, 9)]
    return [TTSStartedFrame(context_id=context), *blocks, TTSStoppedFrame(context_id=context)]


def through(session: LiveSession, frames: Sequence[Frame], **options: Any) -> tuple[list[Frame], list[Frame]]:
    """What a pipeline with the service gives of these frames, downstream and upstream."""

    async def run() -> Any:
        service = EmoVideoService(session, **options)
        test = run_test(service, frames_to_send=frames, start_timeout=PATIENCE_S)
        return await asyncio.wait_for(test, PATIENCE_S)

    down, up = asyncio.run(run())
    return list(down), list(up)


def pcm(frames: Sequence[Frame]) -> np.ndarray:
    sounds = [frame.audio for frame in frames if isinstance(frame, TTSAudioRawFrame)]
    return np.frombuffer(b"".join(sounds), np.int16)


def own(frames: Sequence[Frame]) -> list[str]:
    """Kinds of frames, without pictures of idling."""
    kinds = [type(frame).__name__ for frame in frames]
    return [
        kind for kind, after in zip(kinds, [*kinds[1:], ""], strict=True)
        if kind != "OutputImageRawFrame" or after == "TTSAudioRawFrame"
    ]  # fmt: skip


@pytest.mark.parametrize("sync_with_audio", [True, False])
def test_the_sound_comes_back_with_a_picture_for_each_of_its_frames(
    session: LiveSession, said: np.ndarray, sync_with_audio: bool
) -> None:
    """And what else is in the pipeline goes on; the end of the pipeline waits for the end of what is said."""
    down, up = through(session, [TextFrame("x"), *utterance(said)], sync_with_audio=sync_with_audio)
    heard = pcm(down)
    np.testing.assert_array_equal(heard[: len(said)], said)
    assert not heard[len(said) :].any()
    assert len(heard) - len(said) < RATE / FPS
    pairs = ["OutputImageRawFrame", "TTSAudioRawFrame"] * (len(heard) // 640)
    assert own(down) == ["TextFrame", "TTSStartedFrame", *pairs, "TTSStoppedFrame"]
    pictures = [frame for frame in down if isinstance(frame, OutputImageRawFrame)]
    assert {(one.size, one.format, len(one.image), one.sync_with_audio) for one in pictures} == {
        ((32, 32), "RGB", 32 * 32 * 3, sync_with_audio)
    }
    assert up == []


def test_two_utterances_end_one_after_the_other(session: LiveSession, said: np.ndarray) -> None:
    """The second at another rate, and the pipeline ends before anybody has said that it is complete."""
    down, _ = through(session, [*utterance(said), *utterance(said, 24_000, "two")[:-1]])
    ends = [index for index, frame in enumerate(down) if isinstance(frame, TTSStoppedFrame)]
    assert [frame.context_id for frame in down if isinstance(frame, TTSStoppedFrame)] == ["one"]
    assert 0 <= len(pcm(down[: ends[0]])) - len(said) < RATE / FPS
    assert 0 <= len(pcm(down[ends[0] :])) - len(said) * 2 / 3 < RATE / FPS + 1


def test_an_end_without_sound_is_forwarded(session: LiveSession) -> None:
    down, _ = through(session, [TTSStoppedFrame(context_id="none")])
    assert own(down) == ["TTSStoppedFrame"]


def test_after_an_interruption_nothing_old_comes_out(session: LiveSession, said: np.ndarray) -> None:
    old, new = np.full(200 * RATE, 3, np.int16), said[:5_000]
    frames = [*utterance(old), SleepFrame(0.5), InterruptionFrame(), SleepFrame(0.1), *utterance(new, RATE, "new")]
    down, _ = through(session, frames)
    (at,) = (index for index, frame in enumerate(down) if isinstance(frame, InterruptionFrame))
    assert set(pcm(down[:at])) <= {3}
    assert len(pcm(down[:at])) < len(old)
    np.testing.assert_array_equal(pcm(down[at:])[: len(new)], new)
    assert [frame.context_id for frame in down if isinstance(frame, TTSStoppedFrame)] == ["new"]


def test_an_end_that_is_interrupted_while_it_waits_for_room_is_waited_for_by_nobody(session: LiveSession) -> None:
    """Otherwise the pipeline could never stop: no pair is the last of what was forgotten."""

    async def run() -> None:
        service = EmoVideoService(session)
        end = service._voice.end

        async def interrupted() -> None:
            service._interrupt()
            await end()

        service._voice.end = interrupted  # type: ignore[method-assign]
        await service._end_utterance(None)
        assert not service._ends

    asyncio.run(run())


def test_an_error_of_the_session_goes_upstream_and_the_pipeline_ends(session: LiveSession, said: np.ndarray) -> None:
    session._maker._fail(ZeroDivisionError("mine"))
    _, up = through(session, utterance(said))
    assert any(isinstance(frame, ErrorFrame) and "mine" in frame.error for frame in up)


def test_a_session_that_was_closed_ends_nothing_else(session: LiveSession) -> None:
    session.close()
    down, _ = through(session, [InterruptionFrame(), SleepFrame(0.1), TextFrame("x")])
    assert [type(frame).__name__ for frame in down if not isinstance(frame, SleepFrame)] == [
        "InterruptionFrame",
        "TextFrame",
    ]


class Screen(BaseOutputTransport):
    """Pipecat's output; notes what it plays and shows."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self.played = bytearray()
        self.shown = list[bytes]()

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        self.played += frame.audio
        await asyncio.sleep(frame.num_frames / frame.sample_rate)
        return True

    async def write_video_frame(self, frame: OutputImageRawFrame) -> bool:
        assert frame.size == (32, 32)
        self.shown.append(frame.image)
        return True


class Nowhere(BaseTransport):
    """Hears nothing."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__()
        self.screen = Screen(params)

    def input(self) -> FrameProcessor:
        return Pipeline([])

    def output(self) -> FrameProcessor:
        return self.screen


def test_the_agent_of_the_docs_talks(session: LiveSession, said: np.ndarray) -> None:
    """Through the output that all of Pipecat's transports are made of."""
    agent = example("pipecat")

    async def run() -> Screen:
        transport = Nowhere(agent.output_of(session))
        pipeline = agent.pipeline(transport, [], session)
        test = run_test(
            pipeline, frames_to_send=utterance(said), start_timeout=PATIENCE_S,
            pipeline_params=PipelineParams(audio_out_sample_rate=RATE),
        )  # fmt: skip
        await asyncio.wait_for(test, PATIENCE_S)
        return transport.screen

    screen = asyncio.run(run())
    played = np.frombuffer(bytes(screen.played), np.int16)
    np.testing.assert_array_equal(played[: len(said)], said)
    assert not played[len(said) :].any()
    assert len(set(screen.shown)) > 2
