"""Optimised inference runtime for EMO-family talking-head diffusion: one portrait and a voice → a talking video.

>>> from emo_rt import Animator
>>> with Animator.load("demo") as animator:
...     avatar = animator.prepare("portrait.png")
...     animator.animate(avatar, "speech.wav", seed=7).save("out.mp4")
"""

from emo_rt import telemetry
from emo_rt.animator import Animator
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
    NotFiniteError,
    OutputError,
    PortraitError,
)
from emo_rt.media.box import Box
from emo_rt.media.face import Face, FaceDetector, HeadPose
from emo_rt.media.video_file import VideoOptions
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions, ResolvedOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.estimate import Estimate
from emo_rt.runtime.result import Video
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.session import Session
from emo_rt.runtime.stages import Chunk, Progress, RunStats
from emo_rt.runtime.trace import Trace
from emo_rt.version import __version__

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
    "Face",
    "FaceDetector",
    "FaceInputs",
    "FaceNotFoundError",
    "HeadPose",
    "InputError",
    "MissingDependencyError",
    "ModelConfig",
    "NotFiniteError",
    "OutputError",
    "PortraitError",
    "Progress",
    "ResolvedOptions",
    "RunStats",
    "Runtime",
    "Session",
    "Trace",
    "Video",
    "VideoOptions",
    "__version__",
]

telemetry.leave_out_onnxruntime()  # here, as nothing of ours can import ONNX Runtime before it
