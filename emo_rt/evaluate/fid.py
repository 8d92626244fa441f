"""FID and FVD: Fréchet distances of features of whole frames, and of short clips, to those of true videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.frechet import Normal, distance_sample, too_few
from emo_rt.evaluate.i3d import EVERY
from emo_rt.evaluate.intervals import Sample
from emo_rt.evaluate.reading import Reading

Values = NDArray[np.float64]

NO_NETWORK = "needs an Inception network: --inception FILE.onnx"
NO_CLIPS = "needs an I3D network (--i3d FILE.onnx), and videos of 16 frames or more"
NO_TRUTH = "needs a folder of true videos"


def fid(readings: Sequence[Reading], context: Context) -> Sample | str:
    """Of all frames of the videos."""
    found = [(one.inception, one.fps) for one in readings if one.inception is not None]
    return _distance(found, context.true_frames, NO_NETWORK)


def fvd(readings: Sequence[Reading], context: Context) -> Sample | str:
    """Of all clips of the videos."""
    found = [(one.clips, one.fps / EVERY) for one in readings if one.clips is not None]
    return _distance(found, context.true_clips, NO_CLIPS)


def _distance(found: Sequence[tuple[Values, float]], true: Values | None, no_network: str) -> Sample | str:
    if not found:
        return no_network
    if true is None:
        return NO_TRUTH
    features, rates = zip(*found, strict=True)
    for count, whose in ((len(true), "the true videos"), (sum(map(len, features)), "the videos")):
        refused = too_few(count, true.shape[1], whose)
        if refused:
            return refused
    return distance_sample(features, Normal.of(true), rates)


def fid_of_one(reading: Reading, context: Context) -> Sample | str:
    """Of one video."""
    return fid([reading], context)


def fvd_of_one(reading: Reading, context: Context) -> Sample | str:
    """Of one video."""
    return fvd([reading], context)


def joined_features(readings: Sequence[Reading]) -> Values | None:
    """(n, d) of the frames of several videos."""
    found = [reading.inception for reading in readings if reading.inception is not None]
    return np.concatenate(found) if found else None


def joined_clips(readings: Sequence[Reading]) -> Values | None:
    """(n, 400) of the clips of several videos."""
    found = [reading.clips for reading in readings if reading.clips is not None]
    return np.concatenate(found) if found else None
