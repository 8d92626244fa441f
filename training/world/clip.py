"""One training example: a person, a voice, and what every frame shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.world import motion
from training.world.casting import TRAIN_IDENTITIES, Split
from training.world.identity import Identity
from training.world.lips import lip_curves, loudness_of, pitch_of
from training.world.motion import Manner
from training.world.pose import Pose
from training.world.renderer import ground_truth, render
from training.world.speech import SAMPLE_RATE, Phoneme, Speech, Waveform, sample_speech
from training.world.visemes import phoneme_id

Labels = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClipTruth:
    """What is true in each frame; lengths are shares of the image's side, so that they hold at every size."""

    opening: Labels
    """(T,) visible lip gap, 0 to 1."""
    width: Labels
    """(T,) mouth width over its width at rest."""
    opening_px: Labels
    """(T,) lip gap, share of the image's side."""
    width_px: Labels
    """(T,) corner to corner, share of the image's side."""
    angles: Labels
    """(T, 3) yaw, pitch, roll, radians."""
    head_speed: Labels
    """(T,) angular speed, in `motion.SPEED_UNIT_DEG_S`."""
    face_box: Labels
    """(T, 4) left, top, right, bottom, shares of the image's side."""
    phoneme: NDArray[np.int64]
    """(T,) `visemes.PHONEME_IDS` of the sound in the middle of the frame; 0 is silence."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of one drawn person who speaks."""

    seed: int
    split: Split
    fps: int
    identity: Identity
    poses: tuple[Pose, ...]
    waveform: Waveform
    """(N,) float32 at 16 kHz, N = frames * 16000 / fps."""
    phonemes: tuple[Phoneme, ...]
    manner: Manner
    speed: float
    """Measured mean head speed of the clip, in `motion.SPEED_UNIT_DEG_S`: the mean of `truth.head_speed`."""
    truth: ClipTruth

    @staticmethod
    def sample(
        seed: int,
        seconds: float,
        fps: int = 25,
        split: Split = "train",
        varied: bool = False,
        head_speed: float | None = None,
    ) -> Clip:
        """The clip of this seed. The same arguments give the same clip, to the sample and to the pixel.

        ``varied``: more voices, and words that no language has, for what only listens. ``head_speed``: instead of the
        seed's own, in `motion.SPEED_UNIT_DEG_S`.
        """
        rng = np.random.default_rng([0xC11B, seed, split == "test"])
        identity = Identity.sample_split(int(rng.integers(TRAIN_IDENTITIES)), split)
        count = max(1, round(seconds * fps))
        speech = sample_speech(seed, count / fps, split, varied)
        manner = Manner.sample(rng)
        if head_speed is not None:
            manner = replace(manner, speed=head_speed)
        return build(seed, split, identity, speech, manner, fps, rng)

    def __len__(self) -> int:
        return len(self.poses)

    def frame(self, index: int, size: int) -> NDArray[np.uint8]:
        """One frame: (size, size, 3) uint8."""
        return render(self.identity, self.poses[index], size)

    def frames(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All frames in order."""
        return (render(self.identity, pose, size) for pose in self.poses)


def build(
    seed: int, split: Split, identity: Identity, speech: Speech, manner: Manner, fps: int, rng: np.random.Generator
) -> Clip:
    """Let a person speak a given recording in a given manner."""
    count = max(1, round(speech.duration_s * fps))
    times = (np.arange(count) + 0.5) / fps
    loudness, melody = loudness_of(speech.waveform, times, SAMPLE_RATE), pitch_of(speech.waveform, times, SAMPLE_RATE)
    lips = lip_curves(speech.phonemes, times, loudness, manner.liveliness)
    angles = motion.head_angles(rng, manner, loudness, melody, fps)
    poses = motion.poses(
        lips,
        angles,
        motion.head_shift(rng, manner, angles, fps),
        motion.blinks(rng, times),
        motion.gaze(rng, manner, times, angles),
        motion.brow_curve(manner, loudness, melody, fps),
        manner.smile,
    )
    speeds = motion.angular_speed(angles, fps)
    truth = _truth(identity, poses, speech, times, speeds)
    speed = motion.mean_speed(angles, fps)
    return Clip(seed, split, fps, identity, poses, speech.waveform, speech.phonemes, manner, speed, truth)


def _truth(
    identity: Identity, poses: tuple[Pose, ...], speech: Speech, times: NDArray[np.float64], speeds: NDArray[np.float64]
) -> ClipTruth:
    facts = [ground_truth(identity, pose, 1) for pose in poses]
    starts = np.array([p.start_s for p in speech.phonemes])
    spoken = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, len(starts) - 1)
    ids = [phoneme_id(speech.phonemes[index].symbol) for index in spoken]
    return ClipTruth(
        opening=np.array([f.opening for f in facts], dtype=np.float32),
        width=np.array([f.width for f in facts], dtype=np.float32),
        opening_px=np.array([f.opening_px for f in facts], dtype=np.float32),
        width_px=np.array([f.width_px for f in facts], dtype=np.float32),
        angles=np.array([(f.yaw, f.pitch, f.roll) for f in facts], dtype=np.float32),
        head_speed=speeds.astype(np.float32),
        face_box=np.array([f.face_box for f in facts], dtype=np.float32),
        phoneme=np.array(ids, dtype=np.int64),
    )
