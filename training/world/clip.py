"""One training example: a person, a voice, and what every frame shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from training.world import motion
from training.world.casting import TRAIN_IDENTITIES, Split
from training.world.identity import Identity
from training.world.lips import Prosody, lip_curves
from training.world.motion import Manner
from training.world.pose import Pose
from training.world.renderer import ground_truth, render, stage_unit
from training.world.speech import Phoneme, Speech, Waveform, sample_speech
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
    prosody: Prosody
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
        style: str | None = None,
    ) -> Clip:
        """The clip of this seed. The same arguments give the same clip, to the sample and to the pixel.

        ``varied``: more voices, and words that no language has, for what only listens. ``head_speed``: instead of the
        seed's own, in `motion.SPEED_UNIT_DEG_S`. ``style``: one of `casting.STYLES` instead of the seed's own, or,
        in the test split only, the one that no training sees (`casting.KEPT_OUT`).
        """
        count = max(1, round(seconds * fps))
        speech = sample_speech(seed, count / fps, split, varied)
        return Clip.spoken(seed, speech, fps, split, head_speed, style)

    @staticmethod
    def spoken(
        seed: int,
        speech: Speech,
        fps: int = 25,
        split: Split = "train",
        head_speed: float | None = None,
        style: str | None = None,
        prosody: Prosody | None = None,
    ) -> Clip:
        """The clip of this seed with a recording that is there already; ``prosody`` if it is not to be heard anew."""
        rng = np.random.default_rng([0xC11B, seed, split == "test"])
        identity = Identity.sample_split(int(rng.integers(TRAIN_IDENTITIES)), split, style)
        manner = Manner.sample(rng)
        if head_speed is not None:
            manner = replace(manner, speed=head_speed)
        return build(seed, split, identity, speech, manner, fps, rng, prosody)

    def __len__(self) -> int:
        return len(self.poses)

    def frame(self, index: int, size: int) -> NDArray[np.uint8]:
        """One frame: (size, size, 3) uint8."""
        return render(self.identity, self.poses[index], size)

    def frames(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All frames in order."""
        return (render(self.identity, pose, size) for pose in self.poses)


def build(
    seed: int,
    split: Split,
    identity: Identity,
    speech: Speech,
    manner: Manner,
    fps: int,
    rng: np.random.Generator,
    prosody: Prosody | None = None,
) -> Clip:
    """Let a person speak a given recording in a given manner."""
    count = max(1, round(speech.duration_s * fps))
    times = (np.arange(count) + 0.5) / fps
    heard = prosody or Prosody.of(speech.waveform, times, speech.beat_s)
    lips = lip_curves(speech.phonemes, times, heard.loudness, manner.liveliness)
    angles = motion.head_angles(rng, manner, heard, fps)
    poses = motion.poses(
        lips,
        angles,
        motion.head_shift(rng, manner, heard, angles, fps) / stage_unit(identity),
        motion.blinks(rng, times),
        motion.gaze(rng, manner, times, angles),
        motion.brow_curve(heard, fps),
        motion.smile_curve(manner, lips, heard, fps),
    )
    speeds = motion.angular_speed(angles, fps)
    truth = _truth(identity, poses, speech, times, speeds)
    speed = motion.mean_speed(angles, fps)
    return Clip(seed, split, fps, identity, poses, speech.waveform, speech.phonemes, heard, manner, speed, truth)


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
