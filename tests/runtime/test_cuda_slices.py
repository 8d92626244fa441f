"""The GPU's solver loop on the stand-in: in slices, captured once for many runs, interrupted by what is urgent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from emo_rt import (
    Animator,
    Bundle,
    Progress,
)
from emo_rt.device.cuda_stream import CudaTimer
from emo_rt.model.contract import Array
from emo_rt.runtime.fixed_loop import FixedLoop
from tests.runtime.on_stand_in import CLIP, FRAME, RATE, frames_of, made_by, on_stand_in, picture, voice

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="module")
def expected(tiny_animator: Animator) -> Callable[..., Array]:
    """What the CPU backend makes."""
    return made_by(tiny_animator)


@pytest.mark.parametrize(("size", "launches", "graphs"), [(1, [3] * 5, 2), (2, [6, 6, 3], 2), (4, [12, 3], 2)])
def test_a_loop_in_slices(
    tiny_bundle: Bundle,
    tiny_animator: Animator,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    launches: list[int],
    graphs: int,
) -> None:
    """Five steps: one captured graph serves all slices of one kind, of every table, and progress is told in between."""
    monkeypatch.setattr(FixedLoop, "_measured", lambda loop: size)
    seen: list[int] = []
    with on_stand_in(tiny_bundle, seed=2) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        video = animator.animate(
            avatar, voice(2 * CLIP), sample_rate=RATE, steps=5, progress=lambda at: seen.append(at.step)
        )
        found = video.numpy()
        assert backend.cuda.launches == launches * 2  # type: ignore[attr-defined]
        assert animator.memory_stats()["captured_loops"] == graphs
        frames_of(animator, avatar, clips=1, steps=4, solver="unipc")
        assert animator.memory_stats()["captured_loops"] == graphs
        assert video.stats is not None
        assert video.stats.loop == f"{len(launches)} launches per clip, up to {size} steps"
    there = tiny_animator.prepare(picture(), face_box="full")
    wanted = tiny_animator.animate(there, voice(2 * CLIP), sample_rate=RATE, steps=5).numpy()
    np.testing.assert_array_equal(found, wanted)
    ends = [min(first + size, 5) for first in range(0, 5, size)]
    assert seen == ends * 2


@pytest.mark.parametrize(("slice_s", "seconds", "steps"), [(0.05, 0.02, 2), (0.05, 0.011, 4), (0.05, 0.08, 1)])
def test_a_slice_is_as_many_steps_as_fit(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, slice_s: float, seconds: float, steps: int
) -> None:
    monkeypatch.setattr(CudaTimer, "read", lambda timer: (0.0, seconds))
    with on_stand_in(tiny_bundle) as (animator, backend):
        backend.slice_s = slice_s
        frames_of(animator, animator.prepare(picture(), face_box="full"), clips=1, steps=8)
        assert backend.cuda.launches == [3 * steps] * (8 // steps)  # type: ignore[attr-defined]


def test_a_higher_priority_comes_between_two_slices(
    tiny_bundle: Bundle, expected: Callable[..., Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It gets a worker of its own, and waits for no more than the two slices that are enqueued."""
    monkeypatch.setattr(FixedLoop, "_measured", lambda loop: 1)
    seen: list[str] = []
    with on_stand_in(tiny_bundle, seed=4) as (animator, _):
        avatars = [animator.prepare(picture(who), face_box="full") for who in range(2)]
        urgent = animator.open_session(avatars[1], priority=1, steps=3, progress=lambda _: seen.append("urgent"))

        def progress(at: Progress) -> None:
            seen.append("long")
            if at.clip == 1 and at.step == 2:
                urgent.push(voice(5 * CLIP - FRAME))
                urgent.end()

        long = animator.open_session(avatars[0], steps=3, progress=progress)
        with urgent, long:
            long.push(voice(5 * CLIP - FRAME))
            long.end()
            frames = [np.concatenate([chunk.frames for chunk in session]) for session in (long, urgent)]
    for who, found in enumerate(frames):
        np.testing.assert_array_equal(found, expected(who))
    pushed = 3 + 2
    assert seen.index("urgent") <= pushed + 2


def test_cached_steps_are_one_launch(cached_bundle: Bundle) -> None:
    options: dict[str, Any] = {"clips": 2, "steps": 5, "guidance_interval": (0, 0.7), "deep_cache": 2}
    with on_stand_in(cached_bundle) as (animator, backend):
        found = frames_of(animator, animator.prepare(picture(), face_box="full"), **options)
        assert backend.cuda.launches == [15, 15]  # type: ignore[attr-defined]
    with Animator.load(cached_bundle.path, device="cpu", threads=1) as animator:
        expected = frames_of(animator, animator.prepare(picture(), face_box="full"), **options)
    np.testing.assert_array_equal(found, expected)


def test_what_was_captured_serves_other_avatars_options_and_tables(
    tiny_bundle: Bundle, expected: Callable[..., Array]
) -> None:
    with on_stand_in(tiny_bundle) as (animator, backend):
        avatars = [animator.prepare(picture(seed), face_box="full") for seed in range(2)]
        for who, options in [(0, {}), (1, {"speed": 2.0}), (0, {"steps": 2}), (1, {}), (0, {"guidance": 1.0})]:
            before = len(backend.cuda.allocated)  # type: ignore[attr-defined]
            found = frames_of(animator, avatars[who], clips=2, **options)
            np.testing.assert_array_equal(found, expected(who, clips=2, **options))
            if (who, options) in [(1, {"speed": 2.0}), (1, {})]:
                assert len(backend.cuda.allocated) == before, "a later run allocates nothing"  # type: ignore[attr-defined]
