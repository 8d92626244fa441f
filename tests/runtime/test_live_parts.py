"""Pictures in parts: a clip's first are given while its last are decoded. Here decoding alone takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import Animator, Avatar, BackendError, LiveSession
from emo_rt.device.buffers import Buffer, Buffers
from emo_rt.device.onnxruntime_cpu import OrtBoundGraph
from emo_rt.model.contract import TensorSpec
from emo_rt.runtime.decoder import Decoder
from emo_rt.runtime.live.maker import LiveClip
from tests import small_bundles
from tests.live_sessions import (
    CLIP,
    CLIP_S,
    Stage,
    forget_costs,
    noise_picture,
    sound,
    staged,
    take,
    until_last,
    voice,
)

PART = 2
"""Frames that the decoder of the small model takes."""


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(noise_picture(), face_box="full")


@pytest.fixture
def parts() -> list[int]:
    """Numbers of the parts that were decoded."""
    return []


@pytest.fixture
def stage(tiny_animator: Animator, avatar: Avatar, parts: list[int]) -> Iterator[Stage]:
    forget_costs(tiny_animator)
    with staged(tiny_animator, avatar, 0.0) as opened, timed_parts(opened, parts):
        opened.clock.parts_s = 0.06, 0.06
        yield opened


@contextmanager
def timed_parts(stage: Stage, parts: list[int]) -> Iterator[None]:
    """Decoding takes as long as the clock says, part by part, and is noted."""
    enqueue = Decoder._enqueue

    def timed(decoder: Decoder, latents: Buffer, start: int) -> None:
        parts.append(start // decoder._batch)
        stage.clock.part(start // decoder._batch)
        enqueue(decoder, latents, start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decoder, "_enqueue", timed)
        yield


def test_a_session_begins_with_a_whole_clip(stage: Stage) -> None:
    """Its last pictures would come late otherwise."""
    stage.clock.parts_s = 0.02, 0.1
    session = stage.open(steps=1)
    assert session.stats.buffered_s == pytest.approx(CLIP_S)
    take(session, 20)
    assert session.stats.late_frames == 0


def begins_to_be_decoded(making: list[LiveClip]) -> bool:
    """Whether the first part of a clip is under way."""
    return any(clip.is_denoised and not clip.made for clip in making)


def take_until(session: LiveSession, until: Callable[[list[LiveClip]], bool]) -> None:
    """Until the clips that are under way are as wanted."""
    for _ in range(100):
        if until(list(session._maker.making.values())):
            return
        next(session)
    raise AssertionError("it does not come to that")


def test_an_interruption_between_two_parts_makes_no_frame_late(stage: Stage) -> None:
    """The rest of the clip bridges the gap until the next one is there."""
    stage.clock.parts_s = 0.02, 0.1
    session = stage.open(steps=1)
    take(session, 20)
    take_until(session, lambda making: not making)
    session.push(voice(2))
    session.flush()
    take_until(session, lambda making: any(clip.made == PART for clip in making) and not session.stats.buffered_s)
    session.clear()
    take(session, 20)
    assert session.stats.late_frames == session.stats.repeated_frames == 0


def test_an_interruption_of_a_clip_of_one_step_makes_no_frame_late(stage: Stage) -> None:
    """It cannot be broken off, so its frames bridge the gap: more than a clip's, with those in front of it."""
    stage.clock.parts_s, stage.clock.step_s = (), 0.45 * CLIP_S
    session = stage.open(steps=1)
    take(session, 20)
    take_until(session, lambda making: not making)
    session.push(voice(2))
    session.flush()
    take_until(session, lambda making: any(not clip.is_denoised for clip in making))
    session.clear()
    take(session, 20)
    assert session.stats.late_frames == session.stats.repeated_frames == 0


def test_each_session_knows_its_own_lead(stage: Stage) -> None:
    """One's first pictures come late in its clips; the other begins its own as long before they are due as ever."""
    stage.clock.parts_s = 0.02, 0.02
    slow, other = stage.open(steps=1), stage.open(steps=1)
    before = other._ladder.lead
    stage.clock.parts_s = 0.035, 0.005
    take(slow, 30)
    assert other._ladder.lead == pytest.approx(before)
    assert slow._ladder.behind_s == pytest.approx(0.005)
    stage.clock.parts_s = 0.02, 0.02
    assert stage.open(steps=1)._ladder.behind_s == pytest.approx(0.02)


def test_after_an_interruption_no_part_is_decoded_for_nobody(stage: Stage, parts: list[int]) -> None:
    session = stage.open(steps=1)
    session.push(voice(100))
    take_until(session, begins_to_be_decoded)
    session.clear()
    assert not begins_to_be_decoded(list(session._maker.making.values()))
    take(session, 20)
    take_until(session, lambda making: not making)
    assert parts.count(0) - parts.count(1) == 1


def test_after_closing_no_part_is_decoded_for_nobody(stage: Stage, parts: list[int]) -> None:
    session = stage.open(steps=1)
    session.push(voice(100))
    take_until(session, begins_to_be_decoded)
    stage.clock.end()
    session.close()
    assert parts.count(0) - parts.count(1) == 1


@pytest.mark.parametrize("wanted", range(1, CLIP + 1))
def test_the_last_part_of_a_clip_may_be_a_piece_of_one(tiny_animator: Animator, wanted: int) -> None:
    model = tiny_animator._model
    latents = Buffers(model.backend, [TensorSpec("latents", "float32", (CLIP, 4, 8, 8))])
    latents["latents"].write(np.random.default_rng(1).standard_normal((CLIP, 4, 8, 8), np.float32))
    decoder = Decoder(model.backend, model.serving("vae_decoder"), latents["latents"], CLIP)
    with closing(latents), closing(decoder):
        whole = np.concatenate(list(decoder.parts(latents["latents"], CLIP)))
        found = list(decoder.parts(latents["latents"], wanted))
    assert [len(part) for part in found] == [PART] * (wanted // PART) + [1] * (wanted % PART)
    np.testing.assert_array_equal(np.concatenate(found), whole[:wanted])


def test_parts_of_one_frame_and_frames_that_were_decoded_before(bundle_cache: Path, parts: list[int]) -> None:
    """A clip of three, the last of which is decoded while it becomes the motion frame."""
    path = small_bundles.unpack("golden", bundle_cache)
    with Animator.load(path, device="cpu", threads=1, verify=False) as animator:
        avatar = animator.prepare(noise_picture(), face_box="full", face=animator._model.family.anonymous)
        with staged(animator, avatar, 0.0) as stage, timed_parts(stage, parts):
            stage.clock.parts_s = 0.03, 0.04
            session = stage.open(steps=1)
            take(session, 5)
            said = voice(20)
            session.push(said)
            session.flush()
            pairs = until_last(session, 0)
            take(session, 20)
    np.testing.assert_array_equal(sound([pair for pair in pairs if pair.speaking]), said)
    assert set(parts) == {0, 1}
    assert session.stats.late_frames == 0
    assert session._ladder.behind_s == pytest.approx(0.07 - 0.03)


@pytest.mark.parametrize("part", [0, 1])
def test_a_part_that_cannot_be_decoded_ends_its_session_alone(
    stage: Stage, parts: list[int], monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    stage.clock.parts_s = 0.01, 0.01
    failing, other = stage.open(steps=1), stage.open(steps=1)
    take(failing, 10)
    run, wanted = OrtBoundGraph._run, len(parts) // 2 * 2 + 2 + part

    def broken(graph: OrtBoundGraph, inner: Any) -> None:
        if "decoder" in graph._graph.spec.name and len(parts) == wanted + 1:
            raise RuntimeError("out of memory")
        run(graph, inner)

    with monkeypatch.context() as patch:
        patch.setattr(OrtBoundGraph, "_run", broken)
        with pytest.raises(BackendError, match="graph vae_decoder failed: out of memory"):
            take(failing, 50)
    with pytest.raises(BackendError):
        failing.push(voice(1))
    assert len(take(other, 20)) == 20
    stage.close_one(failing)
    pool = stage.animator._runtime.workers(stage.animator._model)
    leave = pool.enter()  # otherwise it keeps no worker
    again = stage.open(steps=1)
    again.push(voice(9))
    again.flush()
    assert sum(pair.speaking for pair in until_last(again, 0)) == 9
    for session in (again, other):
        stage.close_one(session)
    assert pool._idle
    assert all(worker.is_idle for worker in pool._idle)
    assert not pool._lent
    leave()
