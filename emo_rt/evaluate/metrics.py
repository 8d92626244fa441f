"""The measures: what each is, where it comes from, and how it is taken of a reading.

Lengths are in distances between the outer corners of the eyes, so that size and distance do not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from emo_rt.evaluate import lips, motion, picture
from emo_rt.evaluate.context import ARCFACE, DLIB, Context
from emo_rt.evaluate.expression import e_fid, e_fid_3dmm, expression_range
from emo_rt.evaluate.fid import fid_of_one, fvd_of_one
from emo_rt.evaluate.frechet import FrechetSample
from emo_rt.evaluate.intervals import DRAWS, Sample
from emo_rt.evaluate.reading import Reading

Taken: TypeAlias = "Sample | FrechetSample | str"
"""What a video adds to a measure, or why it adds nothing."""
MESH = "face_landmarks"
"""Network that landmark measures build on: the built-in Face Landmarker."""
INCEPTION, I3D, SYNCNET, DEEP3D = "inception", "i3d", "syncnet", "deep3d"
"""Networks of FID, FVD, LSE and E-FID: the user names them."""
SHAPES = "face_blendshapes"
"""Network that expression measures build on."""


@dataclass(frozen=True)
class Metric:
    """One measure."""

    name: str
    """In JSON and tables."""
    title: str
    """For people."""
    unit: str
    """Unit of the value; empty for shares and correlations."""
    better: Literal["lower", "higher", "nearer"]
    """Which way is better; ``nearer`` = near to true videos of the same people, neither much less nor much more."""
    definition: str
    """How it is computed."""
    source: str
    """Who uses it, or whose formula it is."""
    tolerance: float
    """Change for the worse that the regression gate lets pass, in the unit."""
    take: Callable[[Reading, Context], Taken] = field(repr=False)
    """Reading → sample."""
    networks: tuple[str, ...] = ()
    """Names of the networks it needs."""
    pooled: bool = False
    """Frames of all videos are one set, as for Fréchet distances; otherwise videos are averaged."""
    draws: int = DRAWS
    """Resampled mixes for the interval."""


def _similarity(recogniser: str) -> Callable[[Reading, Context], Taken]:
    def take(reading: Reading, context: Context) -> Taken:
        seen, own = reading.embeddings.get(recogniser), context.portrait_embedding(recogniser, reading)
        if own is None:
            return context.missing.get(recogniser) or context.no_portrait(reading.name)
        if seen is None:
            return "no face was found in the frames that were looked at"
        if recogniser == ARCFACE:
            return Sample.of(seen @ own, reading.fps)
        return Sample.of(np.linalg.norm(seen - own, axis=1), reading.fps)

    return take


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("lip_correlation", "lips follow the sound", "", "higher",
               "Pearson correlation of the lip gap with the loudness of the voice (from 30 dB below its loud parts), "
               "at the lag where it is highest", "own; cf. the audio-visual correlation of Chen et al. 2018", 0.05,
               lips.correlation, (MESH,)),
        Metric("lip_lag", "lips late by", "ms", "nearer",
               "lag from −10 to +10 frames at which lip gap and loudness correlate best, of those that leave half "
               "of the frames; positive: lips late",
               "own; as SyncNet's offset (Chung and Zisserman 2016)", 45.0, lips.lag, (MESH,)),
        Metric("lse_c", "LSE-C (SyncNet's confidence)", "", "higher",
               "median over shifts of −15 … +15 frames of the mean distance of SyncNet's vectors of lips and sound, "
               "minus the smallest", "Chung and Zisserman 2016; Prajwal et al. 2020", 0.5, lips.sync_confidence,
               (MESH, SYNCNET)),
        Metric("lse_d", "LSE-D (SyncNet's distance)", "", "lower",
               "smallest mean distance over shifts of −15 … +15 frames between SyncNet's vectors of lips and sound",
               "Chung and Zisserman 2016; Prajwal et al. 2020", 0.5, lips.sync_distance, (MESH, SYNCNET)),
        Metric("silence_opening", "open in silence", "eye distances", "lower",
               "mean lip gap in frames that are silent (25 dB below the loud parts) with two neighbours each side",
               "own", 0.02, lips.silence_opening, (MESH,)),
        Metric("mouth_range", "mouth moves by", "eye distances", "nearer", "standard deviation of the lip gap", "own",
               0.03, lips.mouth_range, (MESH,)),
        Metric("jitter", "jitter", "‰ of eye distance", "lower",
               "mean length of the second difference of eight points of the skull", "own; cf. jerk and acceleration "
               "measures of motion", 1.5, motion.jitter, (MESH,)),
        Metric("head_speed", "head turns at", "°/s", "nearer",
               "mean angular speed of the head, angles smoothed over 0.28 s", "own; the quantity of EMO's speed "
               "buckets (Tian et al. 2024)", 5.0, motion.head_speed, (MESH,)),
        Metric("head_range", "head turns by", "°", "nearer",
               "root of the summed variances of yaw, pitch and roll", "own", 3.0, motion.head_range, (MESH,)),
        Metric("blinks", "blinks", "per minute", "nearer",
               "times that the eye aspect ratio falls below 0.6 of its 80th percentile, until it is back at 0.75",
               "Soukupová and Čech 2016", 20.0, motion.blinks, (MESH,)),
        Metric("expression_range", "expression moves by", "", "nearer",
               "mean over 51 blendshapes of their standard deviation", "own", 0.015, expression_range, (MESH, SHAPES)),
        Metric("e_fid_blendshapes", "E-FID on blendshapes", "", "lower",
               "Fréchet distance between the 51 blendshapes of all frames and those of the true videos; not the "
               "paper's E-FID, whose coefficients come from a 3D face model", "Tian et al. 2024 (EMO), own features",
               0.05, e_fid, (MESH, SHAPES), True, 400),
        Metric("e_fid", "E-FID", "", "lower",
               "Fréchet distance between the 64 expression coefficients of a 3D face model (Deep3DFaceRecon) of all "
               "frames and those of the true videos", "Tian et al. 2024 (EMO); Deng et al. 2019", 0.1, e_fid_3dmm,
               (MESH, DEEP3D), True, 400),
        Metric("identity", "identity distance", "", "lower",
               "mean Euclidean distance of dlib's face embedding to the portrait's; above 0.6 is somebody else",
               "dlib; King 2017", 0.04, _similarity(DLIB), (MESH, DLIB)),
        Metric("f_sim", "F-SIM", "", "higher",
               "mean cosine similarity of the ArcFace embedding to the portrait's",
               "Tian et al. 2024; Deng et al. 2019", 0.03, _similarity(ARCFACE), (MESH, ARCFACE)),
        Metric("fid", "FID", "", "lower",
               "Fréchet distance between Inception's features of all frames and those of the true videos, resized as "
               "pytorch-fid does", "Heusel et al. 2017; Seitzer 2020", 2.0, fid_of_one, (INCEPTION,), True),
        Metric("fvd", "FVD", "", "lower",
               "Fréchet distance between I3D's 400 logits of clips of 16 frames (from every eighth frame on) and those "
               "of the true videos, resized to 224 pixels by bilinear interpolation", "Unterthiner et al. 2018", 20.0,
               fvd_of_one, (I3D,), True),
        Metric("sharpness", "sharpness of the face", "%", "nearer",
               "root mean square of the Laplacian over the standard deviation of luma, the face brought to 160 pixels",
               "own; focus measure of Pech-Pacheco et al. 2000", 1.5, picture.sharpness, (MESH,)),
        Metric("background_flicker", "flicker of the still background", "of 255", "lower",
               "mean change of luma from frame to frame in the stillest half of the cells (32 × 32) outside the face",
               "own", 0.3, picture.background_flicker, (MESH,)),
        Metric("frozen", "frozen frames", "%", "lower",
               "frames in which the face changes by less than a tenth of the video's median change", "own", 4.0,
               picture.frozen, (MESH,)),
        Metric("border_jump", "jump at clip borders", "×", "lower",
               "mean change of the face from the last frame of a clip to the first of the next, over that inside clips",
               "own", 0.5, picture.border_jump, (MESH,)),
        Metric("face_found", "face found", "%", "higher", "frames in which the built-in networks find a face", "own",
               1.0, picture.face_found, (MESH,)),
        Metric("length_gap", "picture longer than sound by", "ms", "nearer", "length of the picture minus that of the "
               "sound track", "own", 45.0, picture.length_gap),
    )
}  # fmt: skip
"""All measures by name, in the order of tables."""


def take(metric: Metric, reading: Reading, context: Context) -> Taken:
    """The sample of one measure, or why there is none."""
    if MESH in metric.networks and not reading.found.any() and metric.name != "face_found":
        return "no face was found in the video"
    return metric.take(reading, context)


def worsening(metric: Metric, change: float) -> float:
    """How much worse a change is, in the metric's unit; below 0 is better. ``nearer``: any change counts."""
    return {"lower": change, "higher": -change, "nearer": abs(change)}[metric.better]
