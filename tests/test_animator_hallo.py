"""The front door with models in the manner of Hallo."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from emo_rt import (
    AnimateOptions,
    Animator,
    Avatar,
    Bundle,
    InputError,
)
from emo_rt.device.registry import open_backend
from emo_rt.media.framing import prepare_portrait
from emo_rt.model.contract import Array
from emo_rt.runtime.avatar import make_avatar
from emo_rt.runtime.loaded_model import LoadedModel
from tests.animations import (
    FRAME,
    RATE,
    OneByOne,
    assert_close,
    frames_of,
    joined,
    picture,
    voice,
)

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.fixture(scope="module")
def hallo(hallo_bundle: Bundle) -> Iterator[Animator]:
    with Animator(LoadedModel(hallo_bundle, open_backend("onnxruntime", "cpu", threads=1))) as animator:
        yield animator


@pytest.fixture(scope="module")
def hallo_inputs(hallo_bundle: Bundle) -> dict[str, Array]:
    random = np.random.default_rng(6)
    masks = [tensor for tensor in hallo_bundle.graphs["step"].inputs if tensor.name.startswith("audio_mask.")]
    inputs = {mask.name: random.random([int(size) for size in mask.shape], np.float32) for mask in masks}
    (mask,) = (tensor for tensor in hallo_bundle.graphs["reference"].inputs if tensor.name == "face_mask")
    inputs["face_mask"] = random.integers(0, 2, [int(size) for size in mask.shape]).astype(np.float32)
    return {**inputs, "face_embedding": random.standard_normal((1, 8), np.float32)}


@pytest.fixture(scope="module")
def hallo_avatar(hallo: Animator, hallo_inputs: dict[str, Array]) -> Avatar:
    portrait = prepare_portrait(picture(), hallo.config.size, face_box="full")
    return make_avatar(hallo._model, portrait, inputs=hallo_inputs)


def test_a_hallo_animation_is_what_the_graphs_one_by_one_compute(
    hallo: Animator, hallo_avatar: Avatar, hallo_inputs: dict[str, Array]
) -> None:
    """Whole-file sound, the portrait as first motion frames, motion frames decoded and encoded again."""
    options = AnimateOptions(seed=2, steps=3, motion_scale=(0.5, 1.0, 2.0))
    sound = voice(14 * FRAME)
    found = hallo.animate(hallo_avatar, sound, sample_rate=RATE, options=options).numpy()
    assert_close(found, OneByOne(hallo.bundle).animate(hallo_avatar, sound, hallo_inputs, options))


@pytest.mark.parametrize("frames", range(1, 14))
def test_a_hallo_video_has_every_length(hallo: Animator, hallo_avatar: Avatar, frames: int) -> None:
    """Clips of 6 frames, the last 2 decoded apart, decoded in pairs."""
    assert len(frames_of(hallo, hallo_avatar, voice(frames * FRAME), steps=1)) == frames


def test_a_hallo_stream_gives_the_frames_of_the_whole(hallo: Animator, hallo_avatar: Avatar) -> None:
    sound = voice(14 * FRAME)
    streamed = joined(hallo.stream(hallo_avatar, np.split(sound, [5, 700, 6000]), steps=2))
    np.testing.assert_array_equal(streamed, frames_of(hallo, hallo_avatar, sound))


@pytest.mark.parametrize("change", [(0.0, 1.0, 1.0), (1.0, 0.0, 1.0), (1.0, 1.0, 0.0)])
def test_the_motion_scale_of_each_region_changes_the_result(
    hallo: Animator, hallo_avatar: Avatar, change: tuple[float, float, float]
) -> None:
    sound = voice(6 * FRAME)
    one, other = (frames_of(hallo, hallo_avatar, sound, motion_scale=scale) for scale in ((1.0, 1.0, 1.0), change))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"face_embedding": None}, r"missing are \['face_embedding'\]"),
        ({"audio_mask.0": None}, r"missing are \['audio_mask\.0'\]"),
        ({"voice": np.zeros((1, 8))}, r"unknown are \['voice'\]"),
        ({"face_embedding": np.zeros(8)}, r"face_embedding of the portrait has shape \(8,\); expected \(1, 8\)"),
    ],
)
def test_portrait_inputs_that_do_not_fit_are_named(
    hallo: Animator, hallo_inputs: dict[str, Array], change: dict[str, Array | None], message: str
) -> None:
    inputs = {name: array for name, array in {**hallo_inputs, **change}.items() if array is not None}
    with pytest.raises(InputError, match=message):
        make_avatar(hallo._model, prepare_portrait(picture(), hallo.config.size, face_box="full"), inputs=inputs)
