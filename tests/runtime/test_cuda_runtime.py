"""The GPU's code path on the stand-in: the same frames as the CPU backend bit for bit, and no rule broken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from emo_rt import (
    AnimateOptions,
    Animator,
    Bundle,
)
from emo_rt.media.framing import prepare_portrait
from emo_rt.model.contract import Array
from emo_rt.model.options import SOLVERS
from emo_rt.runtime.avatar import make_avatar
from tests.runtime.on_stand_in import CLIP, FRAME, frames_of, made_by, on_stand_in, picture, voice

SEEDS = range(4)
pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="module")
def expected(tiny_animator: Animator) -> Callable[..., Array]:
    """What the CPU backend makes."""
    return made_by(tiny_animator)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("obstacle", [None, "it is in the way"], ids=["one launch", "step by step"])
def test_frames_are_those_of_the_cpu(
    tiny_bundle: Bundle, expected: Callable[..., Array], seed: int, obstacle: str | None
) -> None:
    with on_stand_in(tiny_bundle, seed, obstacle) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        found = frames_of(animator, avatar)
        launches: list[int] = backend.cuda.launches  # type: ignore[assignment]
    np.testing.assert_array_equal(found, expected())
    assert launches == ([] if obstacle else [9] * 5)  # three steps of two copies and one graph; one launch a clip


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_solver_and_parity_of_steps(
    tiny_bundle: Bundle, expected: Callable[..., Array], solver: str, steps: int
) -> None:
    options: dict[str, Any] = {"clips": 2, "solver": solver, "steps": steps, "seed": 9, "guidance": 2.0}
    with on_stand_in(tiny_bundle) as (animator, _):
        found = frames_of(animator, animator.prepare(picture(), face_box="full"), **options)
    np.testing.assert_array_equal(found, expected(**options))


def test_guidance_in_a_part_of_the_steps_is_one_launch(tiny_bundle: Bundle, expected: Callable[..., Array]) -> None:
    options: dict[str, Any] = {"clips": 2, "steps": 5, "guidance": 2.0, "guidance_interval": (0.3, 0.8)}
    with on_stand_in(tiny_bundle) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        found = frames_of(animator, avatar, **options)
        plain = frames_of(animator, avatar, clips=2)  # the same buffers: they have both graphs
        assert backend.cuda.launches == [15, 15, 9, 9]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found, expected(**options))
    np.testing.assert_array_equal(plain, expected(clips=2))


def test_after_the_start_of_a_run_nothing_is_allocated(tiny_bundle: Bundle) -> None:
    with on_stand_in(tiny_bundle) as (animator, backend):
        avatar = animator.prepare(picture(), face_box="full")
        counts: list[int] = []
        frames_of(animator, avatar, progress=lambda _: counts.append(len(backend.cuda.allocated)))  # type: ignore[attr-defined]
        assert len(set(counts)) == 1


def test_a_stream_gives_the_frames_of_the_whole(tiny_bundle: Bundle, expected: Callable[..., Array]) -> None:
    with on_stand_in(tiny_bundle, seed=5) as (animator, _):
        avatar = animator.prepare(picture(), face_box="full")
        pieces = np.split(voice(5 * CLIP - FRAME), [7, 900, 4000, 4001, 9000])
        chunks = [chunk.frames for chunk in animator.stream(avatar, pieces, steps=3)]
    np.testing.assert_array_equal(np.concatenate(chunks), expected())


def hallo_frames(animator: Animator) -> Array:
    random = np.random.default_rng(6)
    masks = [tensor for tensor in animator._model.bundle.graphs["step"].inputs if tensor.name.startswith("audio_mask.")]
    inputs = {mask.name: random.random([int(size) for size in mask.shape], np.float32) for mask in masks}
    inputs["face_embedding"] = random.standard_normal((1, 8), np.float32)
    portrait = prepare_portrait(picture(), animator.config.size, face_box="full")
    return frames_of(animator, make_avatar(animator._model, portrait, inputs))


@pytest.fixture(scope="module")
def hallo_expected(hallo_bundle: Bundle) -> Array:
    with Animator.load(hallo_bundle.path, device="cpu", threads=1) as animator:
        return hallo_frames(animator)


@pytest.mark.parametrize("seed", SEEDS)
def test_motion_frames_that_are_decoded_and_encoded_again(
    hallo_bundle: Bundle, hallo_expected: Array, seed: int
) -> None:
    with on_stand_in(hallo_bundle, seed) as (animator, _):
        np.testing.assert_array_equal(hallo_frames(animator), hallo_expected)


def test_runs_side_by_side_share_the_device(tiny_bundle: Bundle, expected: Callable[..., Array]) -> None:
    found: dict[int, Array] = {}
    with on_stand_in(tiny_bundle, seed=3) as (animator, _):
        avatars = [animator.prepare(picture(seed), face_box="full") for seed in range(3)]

        def work(who: int) -> None:
            found[who] = frames_of(animator, avatars[who], clips=3, seed=who)

        threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for who in range(3):
        np.testing.assert_array_equal(found[who], expected(who, clips=3, seed=who))


def test_decoding_overlaps_the_next_clip(tiny_bundle: Bundle) -> None:
    """Some order that the device may choose runs a clip's decoder behind the start of the next clip."""

    def order(seed: int) -> list[str]:
        with on_stand_in(tiny_bundle, seed) as (animator, backend):
            frames_of(animator, animator.prepare(picture(), face_box="full"))
            return [name for _, name in backend.cuda.ran if name in ("clip", "vae_decoder")]  # type: ignore[attr-defined]

    plain = ["clip", "vae_decoder", "vae_decoder"] * 5
    assert any(order(seed) != plain for seed in range(12))


def test_no_more_than_two_clips_wait_on_the_device(tiny_bundle: Bundle) -> None:
    with on_stand_in(tiny_bundle) as (animator, backend):
        enqueued, most = [0], [0]

        def count(graph: str, capturing: bool) -> None:
            enqueued[0] += graph == "clip"
            ran = sum(name == "clip" for _, name in backend.cuda.ran)  # type: ignore[attr-defined]
            most[0] = max(most[0], enqueued[0] - ran)

        avatar = animator.prepare(picture(), face_box="full")
        animator.warmup(AnimateOptions(steps=3))
        backend.trouble = count
        backend.cuda.ran.clear()  # type: ignore[attr-defined]
        frames_of(animator, avatar, clips=8)
    assert 1 <= most[0] <= 2
