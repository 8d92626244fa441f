"""Optimised inference runtime for EMO-family talking-head diffusion: one portrait and a voice → a talking video.

>>> from emo_rt import Animator
>>> with Animator.load("demo") as animator:
...     avatar = animator.prepare("portrait.png")
...     animator.animate(avatar, "speech.wav", seed=7).save("out.mp4")
"""

from emo_rt.animation import Video
from emo_rt.animator import Animator
from emo_rt.avatar import Avatar
from emo_rt.bundle import Bundle
from emo_rt.config import ModelConfig
from emo_rt.errors import (
    AudioError,
    BackendError,
    BackendUnavailableError,
    BundleError,
    BundleIntegrityError,
    BundleVersionError,
    Cancelled,
    CaptureError,
    CheckpointError,
    ClosedError,
    ConfigError,
    DeviceLostError,
    EmoRtError,
    EngineBuildError,
    EngineError,
    EngineIntegrityError,
    EngineStaleError,
    ExportError,
    FaceNotFoundError,
    InputError,
    MissingDependencyError,
    OutputError,
    PortraitError,
)
from emo_rt.estimate import Estimate
from emo_rt.haar import Box, FaceDetector
from emo_rt.identity import FaceInputs
from emo_rt.options import AnimateOptions
from emo_rt.run import Chunk, Progress, RunStats
from emo_rt.trace import Trace
from emo_rt.version import __version__
from emo_rt.video import VideoOptions

__all__ = [
    "AnimateOptions",
    "Animator",
    "AudioError",
    "Avatar",
    "BackendError",
    "BackendUnavailableError",
    "Box",
    "Bundle",
    "BundleError",
    "BundleIntegrityError",
    "BundleVersionError",
    "Cancelled",
    "CaptureError",
    "CheckpointError",
    "Chunk",
    "ClosedError",
    "ConfigError",
    "DeviceLostError",
    "EmoRtError",
    "EngineBuildError",
    "EngineError",
    "EngineIntegrityError",
    "EngineStaleError",
    "Estimate",
    "ExportError",
    "FaceDetector",
    "FaceInputs",
    "FaceNotFoundError",
    "InputError",
    "MissingDependencyError",
    "ModelConfig",
    "OutputError",
    "PortraitError",
    "Progress",
    "RunStats",
    "Trace",
    "Video",
    "VideoOptions",
    "__version__",
]
