"""The front door, on the real path: load → prepare → animate. What is computed, how long it is, what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emo_rt import (
    AnimateOptions,
    Animator,
    AudioError,
    Avatar,
    Box,
    Bundle,
    ConfigError,
    InputError,
    NotFiniteError,
    PortraitError,
)
from emo_rt.model.bundle import MANIFEST
from emo_rt.model.contract import Array
from emo_rt.model.options import SOLVERS
from emo_rt.runtime.clips import noise_for_clip
from tests.animations import (
    CLIP,
    FACE,
    FRAME,
    RATE,
    OneByOne,
    assert_close,
    frames_of,
    picture,
    voice,
)

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="module")
def avatar(tiny_animator: Animator) -> Avatar:
    return tiny_animator.prepare(picture(), face_box=FACE)


def differ(one: Array, other: Array) -> bool:
    """Not by rounding: a good part of the pixels, visibly."""
    return bool(np.mean(np.abs(one.astype(int) - other.astype(int)) > 2) > 0.05)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_animation_is_what_the_graphs_one_by_one_compute(
    tiny_animator: Animator, avatar: Avatar, solver: str
) -> None:
    options = AnimateOptions(seed=3, steps=3, solver=solver, speed=0.8, guidance=2.0)
    sound = voice(2 * CLIP + FRAME)
    found = tiny_animator.animate(avatar, sound, sample_rate=RATE, options=options, paste_back=False).numpy()
    assert_close(found, OneByOne(tiny_animator.bundle).animate(avatar, sound, {}, options))


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is an extra")
def test_openvino_gives_the_frames_of_onnx_runtime(
    tiny_animator: Animator, avatar: Avatar, tiny_bundle: Bundle
) -> None:
    with Animator.load(tiny_bundle.path, backend="openvino", threads=1) as other:
        found = frames_of(other, other.prepare(picture(), face_box=FACE))
    assert_close(found, frames_of(tiny_animator, avatar))


def test_the_same_seed_gives_the_same_bytes(tiny_animator: Animator, avatar: Avatar) -> None:
    np.testing.assert_array_equal(frames_of(tiny_animator, avatar, seed=7), frames_of(tiny_animator, avatar, seed=7))


@pytest.mark.parametrize(
    "change",
    [{"seed": 8}, {"speed": 2.5}, {"guidance": 9.0}, {"steps": 3}, {"solver": "dpmpp_2m", "steps": 3}],
    ids=str,
)
def test_an_option_changes_the_result(tiny_animator: Animator, avatar: Avatar, change: dict[str, Any]) -> None:
    base: dict[str, Any] = {"steps": 3} if "solver" in change else {}
    assert differ(frames_of(tiny_animator, avatar, **base), frames_of(tiny_animator, avatar, **change))


def test_the_sound_changes_the_result(tiny_animator: Animator, avatar: Avatar) -> None:
    one, other = (frames_of(tiny_animator, avatar, voice(3 * CLIP, seed)) for seed in (1, 2))
    assert not np.array_equal(one, other)
    assert differ(one, frames_of(tiny_animator, avatar, 8 * voice(3 * CLIP, 2)))


def test_the_portrait_changes_the_result(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(seed=9), face_box=FACE)
    assert differ(frames_of(tiny_animator, avatar), frames_of(tiny_animator, other))


def test_the_face_box_changes_the_result_though_the_square_is_the_same(tiny_animator: Animator, avatar: Avatar) -> None:
    other = tiny_animator.prepare(picture(), face_box=Box(14, 14, 36, 38))
    np.testing.assert_array_equal(other.portrait.pixels, avatar.portrait.pixels)
    assert not np.array_equal(frames_of(tiny_animator, avatar), frames_of(tiny_animator, other))


def noise_from(animator: Animator, seeds: dict[int, int]) -> Callable[[int], Array]:
    config = animator.config
    shape = (config.frames, 4, config.latent_size, config.latent_size)
    return lambda index: noise_for_clip(seeds.get(index, 0), index, shape)


def test_injected_noise_takes_the_seeds_place(tiny_animator: Animator, avatar: Avatar) -> None:
    noise = noise_from(tiny_animator, {0: 5, 1: 5, 2: 5})
    injected = frames_of(tiny_animator, avatar, noise=noise, seed=99)
    np.testing.assert_array_equal(injected, frames_of(tiny_animator, avatar, seed=5))


def test_noise_of_double_precision_is_taken(tiny_animator: Animator, avatar: Avatar) -> None:
    single = noise_from(tiny_animator, {})
    found = frames_of(tiny_animator, avatar, noise=lambda index: single(index).astype(np.float64))
    np.testing.assert_array_equal(found, frames_of(tiny_animator, avatar, seed=0))


def test_noise_of_another_shape_is_refused(tiny_animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(InputError, match=r"noise of clip 0 has shape \(4,\); expected \(4, 4, 8, 8\)"):
        frames_of(tiny_animator, avatar, noise=lambda index: np.zeros(4))


def test_latents_that_are_not_finite_are_an_error_and_no_black_video(
    tiny_animator: Animator, avatar: Avatar, tmp_path: Path
) -> None:
    single = noise_from(tiny_animator, {})

    def spoilt(index: int) -> Array:
        noise = single(index).copy()
        noise[0, 0, 0, 0] = np.nan if index == 1 else noise[0, 0, 0, 0]
        return noise

    with pytest.raises(NotFiniteError, match=r"clip 1: \d+ of 1024 latents that graph step computed are not finite"):
        frames_of(tiny_animator, avatar, noise=spoilt)
    frames_of(tiny_animator, avatar)


def test_a_later_clip_continues_the_one_before(tiny_animator: Animator, avatar: Avatar) -> None:
    """The same noise in clip 1, but another clip 0 in front of it."""
    one, other = (frames_of(tiny_animator, avatar, noise=noise_from(tiny_animator, {0: first})) for first in (0, 1))
    assert differ(one[4:8], other[4:8])


def test_the_first_clip_does_not_depend_on_former_runs(tiny_animator: Animator, avatar: Avatar) -> None:
    """The others are in :func:`test_an_animation_is_what_the_graphs_one_by_one_compute`: zero motion frames."""
    before = frames_of(tiny_animator, avatar, voice(CLIP))
    frames_of(tiny_animator, avatar, seed=50)
    np.testing.assert_array_equal(frames_of(tiny_animator, avatar, voice(CLIP)), before)


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads((folder / MANIFEST).read_text())
    edit(content)
    (folder / MANIFEST).write_text(json.dumps(content))
    return folder


def test_guidance_1_uses_the_unguided_graph_and_gives_the_same(
    tiny_animator: Animator, avatar: Avatar, bundle_copy: Path
) -> None:
    """u + 1·(c − u) is c but for rounding, and one row is computed in other blocks than two: off by one in 8 bits."""
    edited(bundle_copy, lambda m: m["graphs"].pop("step_unguided"))
    with Animator.load(bundle_copy, device="cpu", threads=1) as guided:
        there = guided.prepare(picture(), face_box=FACE)
        with_step = frames_of(guided, there, guidance=1.0)
    table, guidance = tiny_animator._model.step_table(AnimateOptions(guidance=1.0, steps=3))
    assert (table.graphs, guidance) == (("step_unguided",) * 3, 1.0)
    assert_close(frames_of(tiny_animator, avatar, guidance=1.0), with_step)


def test_a_bundle_without_guidance_runs_without_and_refuses_another_scale(bundle_copy: Path) -> None:
    edited(bundle_copy, lambda m: m["graphs"].pop("step"))
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        avatar = animator.prepare(picture(), face_box="full")
        np.testing.assert_array_equal(frames_of(animator, avatar), frames_of(animator, avatar, guidance=1))
        np.testing.assert_array_equal(
            frames_of(animator, avatar), frames_of(animator, avatar, guidance_interval=(0.5, 1))
        )
        with pytest.raises(ConfigError, match=r"guidance is 3\.0; this bundle was exported without guidance, use 1"):
            frames_of(animator, avatar, guidance=3.0)


def test_a_bundle_with_guidance_only_refuses_an_interval(bundle_copy: Path) -> None:
    edited(bundle_copy, lambda m: m["graphs"].pop("step_unguided"))
    with Animator.load(bundle_copy, device="cpu", threads=1) as animator:
        avatar = animator.prepare(picture(), face_box="full")
        with pytest.raises(ConfigError, match=r"guidance_interval is \(0, 0\.5\).*export it with --both"):
            frames_of(animator, avatar, guidance_interval=(0, 0.5))
        frames_of(animator, avatar, guidance_interval=(0, 0.5), guidance=1)


def test_head_room_is_where_the_face_may_be(tiny_animator: Animator) -> None:
    """A box that reaches everywhere, one that is held, and the model's own are three different portraits."""
    rooms = [0.0, None, math.inf]
    avatars = [tiny_animator.prepare(picture(), face_box=FACE, head_room=room) for room in rooms]
    still, own, free = (avatar.features["face_feature"].read().copy() for avatar in avatars)
    assert not np.array_equal(still, free)
    assert np.array_equal(still, own), "the tiny model has no margin of its own"
    for wrong in (-0.1, math.nan, "wide"):
        with pytest.raises(ConfigError, match="head_room"):
            tiny_animator.prepare(picture(), face_box=FACE, head_room=wrong)  # type: ignore[arg-type]


def test_an_avatar_of_another_animator_is_refused(tiny_animator: Animator, own_animator: Animator) -> None:
    stranger = own_animator.prepare(picture(), face_box="full")
    with pytest.raises(InputError, match="prepared by another animator; prepare the picture with this one"):
        frames_of(tiny_animator, stranger)
    with pytest.raises(InputError, match="another animator"):
        tiny_animator.stream(stranger, [])


def test_a_path_is_no_avatar(tiny_animator: Animator) -> None:
    with pytest.raises(InputError, match=r"a str is no avatar; make one with prepare"):
        frames_of(tiny_animator, "portrait.png")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"stepz": 3}, ConfigError, "unknown option stepz"),
        ({"steps": 0}, ConfigError, "1 to 1000"),
        ({"solver": "heun"}, ConfigError, "one of ddim"),
        ({"speed": "fast"}, ConfigError, "0 … 3"),
    ],
)
def test_options_are_checked_at_the_call(
    tiny_animator: Animator, avatar: Avatar, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tiny_animator.animate(avatar, voice(10), sample_rate=RATE, **options)
    with pytest.raises(error, match=message):
        tiny_animator.stream(avatar, [], **options)


def test_a_combination_without_a_step_table_is_refused_at_the_call(tiny_animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(ConfigError, match="steps"):
        tiny_animator.animate(avatar, voice(10), sample_rate=RATE, solver="unipc", steps=1000)


@pytest.mark.parametrize("audio", ["nowhere.wav", np.zeros(0, np.float32)], ids=["path", "empty"])
def test_sound_is_checked_at_the_call(tiny_animator: Animator, avatar: Avatar, audio: Any) -> None:
    with pytest.raises(AudioError):
        tiny_animator.animate(avatar, audio, sample_rate=None if isinstance(audio, str) else RATE)


def test_an_array_without_a_rate_is_refused(tiny_animator: Animator, avatar: Avatar) -> None:
    with pytest.raises(AudioError, match="pass sample_rate"):
        tiny_animator.animate(avatar, voice(10))


def test_a_missing_picture_is_named(tiny_animator: Animator) -> None:
    with pytest.raises(PortraitError, match=r"nowhere\.png"):
        tiny_animator.prepare("nowhere.png", face_box="full")
