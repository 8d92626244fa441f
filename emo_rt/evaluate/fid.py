"""FID and FVD: Fréchet distances of features of whole frames, and of short clips, to those of true videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.frechet import Normal, distance, too_few
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.reading import Reading

Values = NDArray[np.float64]

NO_NETWORK = "needs an Inception network: --inception FILE.onnx"
NO_CLIPS = "needs an I3D network (--i3d FILE.onnx), and videos of 16 frames or more"
NO_TRUTH = "needs a folder of true videos"


def fid(readings: Sequence[Reading], context: Context) -> Estimate | str:
    """Of all frames of the videos."""
    return _distance(joined_features(readings), context.true_frames, NO_NETWORK)


def fvd(readings: Sequence[Reading], context: Context) -> Estimate | str:
    """Of all clips of the videos."""
    return _distance(joined_clips(readings), context.true_clips, NO_CLIPS)


def _distance(features: Values | None, true: Values | None, no_network: str) -> Estimate | str:
    """Without an interval: a distance of 400 or 2048 features takes long, and is biased."""
    if features is None:
        return no_network
    if true is None:
        return NO_TRUTH
    for found, whose in ((true, "the true videos"), (features, "the videos")):
        refused = too_few(len(found), found.shape[1], whose)
        if refused:
            return refused
    value = float(distance(Normal.of(features), Normal.of(true)))
    return Estimate(value, value, value, len(features))


def of_sets(reading: Reading, context: Context) -> str:
    """Why a single video adds nothing by itself."""
    return "it is a distance of sets of videos"


def joined_features(readings: Sequence[Reading]) -> Values | None:
    """(n, d) of the frames of several videos."""
    found = [reading.inception for reading in readings if reading.inception is not None]
    return np.concatenate(found) if found else None


def joined_clips(readings: Sequence[Reading]) -> Values | None:
    """(n, 400) of the clips of several videos."""
    found = [reading.clips for reading in readings if reading.clips is not None]
    return np.concatenate(found) if found else None
