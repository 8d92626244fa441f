"""Each measure follows five grades of damage to the pixels (or to what is drawn), from frames to value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from emo_rt.evaluate import of_frames
from emo_rt.evaluate.assessment import Eyes, measured
from emo_rt.evaluate.context import ARCFACE, DLIB, Context, PortraitFacts
from emo_rt.evaluate.expression import coefficients, expressions
from emo_rt.evaluate.fid import joined_clips, joined_features
from emo_rt.evaluate.i3d import I3D, ClipFeatures
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.metrics import METRICS
from emo_rt.evaluate.reading import Reading
from emo_rt.evaluate.sound import loudness, silences
from emo_rt.evaluate.syncnet import SyncNet, face_crops
from tests.evaluate.drawn import FPS, LIPS, clip, drawn, late_lips, true_frames

pytest.importorskip("onnx", reason="the small networks are written by onnx: pip install 'emo_rt[export]'")

from tests.evaluate.small_networks import all_networks, pooled_networks

pytestmark = pytest.mark.slow

GRADES = (0.0, 0.25, 0.5, 0.75, 1.0)
FRAMES = 40
OFTEN = 8
"""How often a video is counted, so that there are enough vectors for a distance of 64 features."""
RNG = np.random.default_rng(0)
Frames = NDArray[np.uint8]


def pixels(values: NDArray[Any]) -> Frames:
    return values.round().clip(0, 255).astype(np.uint8)


def poses(change: Callable[[Any, int], Any], start: int = 0) -> Frames:
    """Drawn with other poses. ``start``: first frame of the clip."""
    one = clip()
    return drawn([change(pose, index) for index, pose in enumerate(one.poses[start : start + FRAMES])], one.identity)


NOISE = RNG.normal(0, 6, (FRAMES, 160, 160, 3)).astype(np.float32)


def somebody_else(grade: float) -> Frames:
    """Another person shines through, and noise."""
    mixed = (1 - 0.6 * grade) * true_frames()[:FRAMES].astype(np.float32)
    return pixels(mixed + 0.6 * grade * true_frames(7, 1.6)[:FRAMES] + grade * NOISE)


def stiffer(grade: float) -> Frames:
    """Mouth, head and brows are drawn nearer to how they are on average."""
    parts = ("yaw", "pitch", "roll", "x", "y", "opening", "width", "rounding", "press", "smile", "brow")
    means = {part: float(np.mean([getattr(pose, part) for pose in clip().poses[:FRAMES]])) for part in parts}
    kept = 1 - 0.9 * grade
    return poses(lambda pose, _: replace(pose, **{p: m + kept * (getattr(pose, p) - m) for p, m in means.items()}))


QUIET_PART = 40
"""Frame from which on the clip has a silence."""


def open_in_silence(grade: float) -> Frames:
    """The mouth opens where the voice pauses."""
    sound = clip().waveform[QUIET_PART * 640 :]
    quiet = silences(loudness(sound, len(sound) // 640, FPS))

    def opened(pose: Any, index: int) -> Any:
        return replace(pose, opening=max(pose.opening, 0.8 * grade), press=0.0) if quiet[index] else pose

    return poses(opened, QUIET_PART)


def shaken(grade: float) -> Frames:
    """Each picture is moved by up to some pixels."""
    moves = (np.random.default_rng(5).integers(-4, 5, (24, 2)) * grade).round().astype(int)
    return np.stack([np.roll(f, move, axis=(0, 1)) for f, move in zip(true_frames()[:24], moves, strict=True)])


def blurred(grade: float) -> Frames:
    from scipy.ndimage import gaussian_filter

    return pixels(gaussian_filter(true_frames()[:5].astype(np.float32), (0, 1.5 * grade, 1.5 * grade, 0)))


def repeated(grade: float) -> Frames:
    frames = true_frames()[:24].copy()
    for place in range(round(4 * grade)):
        frames[5 * place + 4] = frames[5 * place + 3]
    return frames


def jumping(grade: float) -> Frames:
    """Every second clip of twelve frames is brighter."""
    brighter = 16 * grade * (np.arange(24) // 12 % 2)
    return pixels(true_frames()[:24] + brighter[:, None, None, None])


def covered(grade: float) -> Frames:
    """The first frames show grey instead."""
    frames = true_frames()[:20].copy()
    frames[: round(8 * grade)] = 110
    return frames


def cut(grade: float) -> Frames:
    """Frames are missing at the end."""
    return true_frames()[: FRAMES - round(8 * grade)]


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory, eyes: Eyes) -> Eyes:
    """With small networks in the places of all published ones."""
    frames = true_frames()[:FRAMES]
    boxes = [faces[0].box for faces in eyes.finder.follow(frames)]
    return Eyes(**all_networks(tmp_path_factory.mktemp("small"), frames, boxes, clip().waveform[: FRAMES * 640]))


def looked(eyes: Eyes, damage: Callable[[float], Frames], frames_of_sound: int | None = None) -> list[Reading]:
    """What is read of each grade, with the sound of those frames or of so many."""
    found, start = [], QUIET_PART if damage is open_in_silence else 0
    for grade in GRADES:
        frames = damage(grade)
        sound = clip().waveform[640 * start : 640 * (start + (frames_of_sound or len(frames)))]
        found.append(eyes.read(of_frames("worse", frames, FPS, sound)))
    return found


def values(name: str, readings: Sequence[Reading], context: Context | None = None) -> list[float]:
    found = [measured(METRICS[name], [one] * OFTEN, context or Context()) for one in readings]
    assert all(isinstance(one, Estimate) for one in found), found
    return [one.value for one in found if isinstance(one, Estimate)]


def rises(numbers: Sequence[float]) -> bool:
    return all(one < other for one, other in pairwise(numbers))


def own_context(reading: Reading) -> Context:
    """The first video is the truth, and its face the portrait."""
    often = [reading] * OFTEN
    faces = {name: np.nanmean(reading.embeddings[name], axis=0) for name in (DLIB, ARCFACE)}
    faces[ARCFACE] /= np.linalg.norm(faces[ARCFACE])
    portrait = PortraitFacts(faces)
    return Context(
        portrait_of=lambda name: portrait,
        true_expressions=np.concatenate([expressions(one) for one in often]),
        true_frames=joined_features(often),
        true_clips=joined_clips(often),
        true_coefficients=coefficients(often),
        clip_frames=12,
    )


LOWER, HIGHER = -1, 1


def follow(readings: Sequence[Reading], expected: dict[str, int]) -> None:
    """Every measure goes its way at each step; all that do not are told at once."""
    context = own_context(readings[0])
    found = {name: [way * one for one in values(name, readings, context)] for name, way in expected.items()}
    assert {name: numbers for name, numbers in found.items() if not rises(numbers)} == {}


def test_somebody_else_who_shines_through(seeing: Eyes) -> None:
    follow(
        looked(seeing, somebody_else),
        {
            "f_sim": LOWER, "fid": HIGHER, "e_fid": HIGHER, "background_flicker": HIGHER,
        },
    )  # fmt: skip


def test_a_stiffer_face(seeing: Eyes) -> None:
    less = dict.fromkeys(("mouth_range", "head_speed", "head_range", "expression_range"), LOWER)
    follow(looked(seeing, stiffer), {**less, "e_fid_blendshapes": HIGHER})


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (open_in_silence, {"silence_opening": HIGHER}),
        (shaken, {"jitter": HIGHER}),
        (blurred, {"sharpness": LOWER}),
        (repeated, {"frozen": HIGHER}),
        (jumping, {"border_jump": HIGHER}),
        (covered, {"face_found": LOWER}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_one_measure(damage: Callable[[float], Frames], expected: dict[str, int], eyes: Eyes) -> None:
    readings = looked(eyes, damage)
    context = Context(clip_frames=12)
    for name, way in expected.items():
        found = [way * one for one in values(name, readings, context)]
        assert rises(found), (name, found)


def test_frames_that_are_missing_at_the_end(eyes: Eyes) -> None:
    gaps = values("length_gap", looked(eyes, cut, FRAMES))
    assert gaps == pytest.approx([-1000 / FPS * cut for cut in (0, 2, 4, 6, 8)])


def test_lips_that_are_late_by_more_and_more_frames(eyes: Eyes, true_reading: Reading) -> None:
    found = [values("lip_lag", [true_reading])[0]]
    found += [
        values("lip_lag", [eyes.read(of_frames("late", late_lips(late), FPS, clip().waveform))])[0]
        for late in range(1, 5)
    ]
    assert np.diff(found) == pytest.approx([1000 / FPS] * 4)


OTHER = 9
"""Seed of the clip whose lips take the place of the true ones."""


def lips_of_another(share: float) -> Frames:
    """The mouth is drawn between its own and one that says something else."""
    other = clip(OTHER).poses

    def mixed(pose: Any, index: int) -> Any:
        return replace(pose, **{p: (1 - share) * getattr(pose, p) + share * getattr(other[index], p) for p in LIPS})

    return poses(mixed)


def test_lips_that_say_more_and_more_of_another_sentence(eyes: Eyes) -> None:
    readings = looked(eyes, lips_of_another)
    found = [-one for one in values("lip_correlation", readings)]
    assert rises(found), found


def drifting(share: float) -> NDArray[np.float32]:
    """The sound loses up to 16 frames from the start to the end, as one of another frame rate does."""
    sound = clip().waveform
    drift = 16 * 640 * share * (np.arange(len(sound)) / len(sound) - 0.5)
    return sound[(np.arange(len(sound)) - drift).round().astype(int).clip(0, len(sound) - 1)]


def mumbled(share: float) -> Frames:
    """The mouth opens less and less."""
    one = clip()
    return drawn([replace(pose, opening=(1 - 0.9 * share) * pose.opening) for pose in one.poses], one.identity)


@pytest.fixture(scope="module")
def lips_and_sound(tmp_path_factory: pytest.TempPathFactory, eyes: Eyes) -> Callable[..., Any]:
    """Frames, sound → a reading with the distances of a SyncNet that is fitted to the true video."""
    frames, sound = true_frames(), clip().waveform
    boxes = [faces[0].box for faces in eyes.finder.follow(frames)]
    network = SyncNet(all_networks(tmp_path_factory.mktemp("syncnet"), frames, boxes, sound)["syncnet"])

    def read(frames: Frames, sound: NDArray[np.float32]) -> Any:
        distances = network.distances(face_crops(frames, boxes, FPS), sound)
        return SimpleNamespace(sync=distances, found=np.ones(len(frames), bool), fps=FPS)

    return read


@pytest.mark.parametrize("damaged", ["sound", "lips"])
def test_lips_and_sound_fit_less_and_less(damaged: str, lips_and_sound: Callable[..., Any]) -> None:
    readings = [
        lips_and_sound(true_frames(), drifting(grade))
        if damaged == "sound"
        else lips_and_sound(mumbled(grade), clip().waveform)
        for grade in GRADES
    ]
    expected = {"lse_d": HIGHER, "lse_c": LOWER}
    found = {name: [way * one for one in values(name, readings)] for name, way in expected.items()}
    assert {name: numbers for name, numbers in found.items() if not rises(numbers)} == {}


def test_frames_in_a_wrong_order(tmp_path: Path) -> None:
    """More and more frames change places: each picture is true, their order is not. Two people, as one set."""
    network = I3D(pooled_networks(tmp_path, ["i3d"])["i3d"])

    def features(share: float, seed: int) -> NDArray[np.float64]:
        frames, order = true_frames(seed), np.random.default_rng(0).permutation(75)
        places, moved = np.arange(75), order[: round(0.8 * share * 75)]
        places[moved] = np.roll(moved, 1)
        clips = ClipFeatures(network)
        for place in places:
            clips.add(frames[place])
        assert clips.features is not None
        return clips.features

    read = [[SimpleNamespace(clips=features(share, seed), fps=25.0) for seed in (1, 2)] for share in GRADES]
    context = Context(true_clips=np.concatenate([one.clips for one in read[0]]))
    found = [measured(METRICS["fvd"], cast("Any", pair), context) for pair in read]
    assert rises([one.value for one in found if isinstance(one, Estimate)]), found
    assert all(isinstance(one, Estimate) for one in found)


ELSEWHERE = {"blinks", "identity"}
"""Pixels too, in :mod:`tests.evaluate.test_measures`."""


def test_every_measure_is_damaged_somewhere() -> None:
    import inspect
    import sys

    tests, _, _ = inspect.getsource(sys.modules[__name__]).partition("ELSEWHERE = ")
    assert {name for name in METRICS if f'"{name}"' not in tests} == ELSEWHERE
