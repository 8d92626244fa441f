"""FID: the Fréchet distance of Inception's features of whole frames to those of true videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from emo_rt.evaluate.context import Context
from emo_rt.evaluate.frechet import Normal, distance, too_few
from emo_rt.evaluate.intervals import Estimate
from emo_rt.evaluate.reading import Reading

NO_NETWORK = "needs an Inception network: --inception FILE.onnx"
NO_TRUTH = "needs a folder of true videos"


def fid(readings: Sequence[Reading], context: Context) -> Estimate | str:
    """Of all frames of the videos. Without an interval: a distance of 2048 features takes long, and is biased."""
    features = joined_features(readings)
    if features is None:
        return NO_NETWORK
    if context.true_frames is None:
        return NO_TRUTH
    for found, whose in ((context.true_frames, "the true videos"), (features, "the videos")):
        refused = too_few(len(found), found.shape[1], whose)
        if refused:
            return refused
    value = float(distance(Normal.of(features), Normal.of(context.true_frames)))
    return Estimate(value, value, value, len(features))


def fid_of_one(reading: Reading, context: Context) -> str:
    """Why a single video adds nothing by itself: the distance is one of sets of frames."""
    return NO_TRUTH if reading.inception is not None else NO_NETWORK


def joined_features(readings: Sequence[Reading]) -> NDArray[np.float64] | None:
    """(n, d) of the frames of several videos."""
    found = [reading.inception for reading in readings if reading.inception is not None]
    return np.concatenate(found) if found else None
