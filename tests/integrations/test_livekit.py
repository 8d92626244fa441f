"""The adapter for LiveKit, with LiveKit's own runner and audio queue; only the room is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("livekit.agents", reason="needs the extra livekit: `make integrations` has it")

from livekit import rtc
from livekit.agents import Agent, AgentSession
from livekit.agents.voice.avatar import AudioSegmentEnd, AvatarRunner, QueueAudioOutput
from livekit.agents.voice.io import PlaybackFinishedEvent

from emo_rt import LiveSession
from emo_rt.integrations.livekit import EmoVideoGenerator
from tests.doc_agents import example

RATE, FPS = 16_000, 25
PATIENCE_S = 120


class Publication:
    async def wait_for_subscription(self) -> None:
        return


class NoRoom(rtc.EventEmitter):
    """Takes tracks, and publishes them nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = self
        self.tracks = list[rtc.Track]()

    def isconnected(self) -> bool:
        return True

    async def publish_track(self, track: rtc.Track, _: Any) -> Publication:
        self.tracks.append(track)
        return Publication()


def blocks(said: np.ndarray, rate: int = RATE) -> list[rtc.AudioFrame]:
    """As a voice synthesiser gives it."""
    return [rtc.AudioFrame(part.tobytes(), rate, 1, len(part)) for part in np.array_split(said, 9)]


def pcm(frames: list[Any]) -> np.ndarray:
    return np.concatenate([np.asarray(frame.data, np.int16) for frame in frames if isinstance(frame, rtc.AudioFrame)])


async def up_to_the_end(outputs: AsyncIterator[Any]) -> list[Any]:
    """What comes, with the end of the utterance."""
    taken = list[Any]()
    async for one in outputs:
        taken.append(one)
        if isinstance(one, AudioSegmentEnd):
            return taken
    raise AssertionError("the session has ended")


def run(test: Any) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE_S))


def test_the_sound_comes_back_with_a_picture_for_each_of_its_frames(session: LiveSession, said: np.ndarray) -> None:
    async def talk() -> None:
        generator = EmoVideoGenerator(session)
        for frame in (*blocks(said), AudioSegmentEnd()):
            await generator.push_audio(frame)
        taken = await up_to_the_end(aiter(generator))
        heard = pcm(taken)
        np.testing.assert_array_equal(heard[: len(said)], said)
        assert not heard[len(said) :].any()
        assert len(heard) - len(said) < RATE / FPS
        pictures = [one for one in taken if isinstance(one, rtc.VideoFrame)]
        assert {(one.width, one.height, one.type) for one in pictures} == {(32, 32, rtc.VideoBufferType.RGB24)}
        first = next(index for index, one in enumerate(taken) if isinstance(one, rtc.AudioFrame))
        assert [type(one) for one in taken[first - 1 : -1]] == [rtc.VideoFrame, rtc.AudioFrame] * (len(heard) // 640)
        assert {(one.sample_rate, one.num_channels) for one in taken if isinstance(one, rtc.AudioFrame)} == {(RATE, 1)}

    run(talk())


def test_between_a_picture_and_its_sound_an_interruption_takes_the_sound(
    session: LiveSession, said: np.ndarray
) -> None:
    async def talk() -> None:
        generator = EmoVideoGenerator(session)
        for frame in blocks(said):
            await generator.push_audio(frame)
        outputs = aiter(generator)
        while not isinstance(await anext(outputs), rtc.AudioFrame):
            pass
        assert isinstance(await anext(outputs), rtc.VideoFrame)
        generator.clear_buffer()
        for _ in range(15):
            assert isinstance(await anext(outputs), rtc.VideoFrame)
        answer = said[:5_000]
        for frame in (*blocks(answer), AudioSegmentEnd()):
            await generator.push_audio(frame)
        np.testing.assert_array_equal(pcm(await up_to_the_end(outputs))[: len(answer)], answer)

    run(talk())


def test_nothing_is_wrong_with_an_interruption_after_the_end(session: LiveSession) -> None:
    generator = EmoVideoGenerator(session)
    session.close()
    generator.clear_buffer()
    run(_takes_nothing(generator))


async def _takes_nothing(generator: EmoVideoGenerator) -> None:
    assert [one async for one in generator] == []


@asynccontextmanager
async def running(session: LiveSession) -> AsyncIterator[tuple[QueueAudioOutput, list[PlaybackFinishedEvent], NoRoom]]:
    """LiveKit's runner with its queue; what was told of playing."""
    audio, room, events = QueueAudioOutput(sample_rate=24_000), NoRoom(), list[PlaybackFinishedEvent]()
    audio.on("playback_finished", events.append)
    generator = EmoVideoGenerator(session)
    runner = AvatarRunner(room, audio_recv=audio, video_gen=generator, options=generator.options)
    await runner.start()
    try:
        yield audio, events, room
    finally:
        await runner.aclose()


def test_the_runner_says_what_was_played(session: LiveSession, said: np.ndarray) -> None:
    """Sound at 24 kHz; it was played to its end."""

    async def talk() -> None:
        async with running(session) as (audio, events, room):
            for _ in range(2):
                for frame in blocks(said, 24_000):
                    await audio.capture_frame(frame)
                audio.flush()
                await audio.wait_for_playout()
            assert [event.interrupted for event in events] == [False, False]
            for event in events:
                assert 0 <= event.playback_position - len(said) / 24_000 < 1 / FPS + 1e-3
            assert [track.kind for track in room.tracks] == [rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO]

    run(talk())


def test_the_runner_is_interrupted(session: LiveSession, said: np.ndarray) -> None:
    async def talk() -> None:
        async with running(session) as (audio, events, _):
            for frame in blocks(np.tile(said, 20), 24_000):
                await audio.capture_frame(frame)
            audio.flush()
            while session.stats.pairs < 20 or not session.stats.latency:
                await asyncio.sleep(0.02)
            audio.clear_buffer()
            await audio.wait_for_playout()
            for frame in blocks(said, 24_000):
                await audio.capture_frame(frame)
            audio.flush()
            await audio.wait_for_playout()
            assert [event.interrupted for event in events] == [True, False]
            assert events[0].playback_position < 20 * len(said) / 24_000 - 1
            # The runner may count the frame that it was about to play when it was interrupted to the next segment.
            assert 0 <= events[1].playback_position - len(said) / 24_000 < 2 / FPS + 1e-3

    run(talk())


def test_the_agent_of_the_docs_talks(session: LiveSession, said: np.ndarray) -> None:
    """A real agent without ears and mind; it is given what to say as sound."""

    async def voice() -> AsyncIterator[rtc.AudioFrame]:
        for frame in blocks(said):
            yield frame

    async def talk() -> None:
        agent, room = AgentSession(), NoRoom()
        runner = await example("livekit").show(agent, room, session)
        events = list[PlaybackFinishedEvent]()
        agent.output.audio.on("playback_finished", events.append)
        try:
            await agent.start(Agent(instructions=""), record=False)
            await agent.say("Hello", audio=voice())
        finally:
            await agent.aclose()
            await runner.aclose()
        (event,) = events
        assert not event.interrupted
        assert 0 <= event.playback_position - len(said) / RATE < 1 / FPS + 1e-3

    run(talk())
