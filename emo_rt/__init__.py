"""Optimised inference runtime for EMO-family talking-head diffusion: one portrait and a voice → a talking video.

>>> from emo_rt import Animator
>>> with Animator.load("demo") as animator:
...     avatar = animator.prepare("portrait.png")
...     animator.animate(avatar, "speech.wav", seed=7).save("out.mp4")
"""

from emo_rt import telemetry
from emo_rt.animator import Animator
from emo_rt.device.buffers import Buffer, Buffers
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
    OverloadedError,
    PortraitError,
    QueueFull,
)
from emo_rt.media.audio import AudioSource
from emo_rt.media.box import Box
from emo_rt.media.face import Face, FaceDetector, HeadPose
from emo_rt.media.framing import Portrait
from emo_rt.media.marking.frame_marks import FrameMarker, mark
from emo_rt.media.marking.options import MarkOptions
from emo_rt.media.marking.provenance import ProvenanceReading
from emo_rt.media.marking.reading import Verification, WatermarkReading, verify
from emo_rt.media.video_file import VideoOptions, VideoWriter
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions, ResolvedOptions
from emo_rt.runtime.avatar import Avatar
from emo_rt.runtime.estimate import Estimate
from emo_rt.runtime.live.clock import Clock
from emo_rt.runtime.live.pair import LivePair
from emo_rt.runtime.live.session import LiveSession
from emo_rt.runtime.live.settings import LiveSettings
from emo_rt.runtime.live.stats import LiveStats
from emo_rt.runtime.request import PrepareOptions, Request
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
    "AudioSource",
    "Avatar",
    "BackendError",
    "BackendUnavailableError",
    "Box",
    "Buffer",
    "Buffers",
    "Bundle",
    "BundleError",
    "BundleIntegrityError",
    "BundleVersionError",
    "Cancelled",
    "CaptureError",
    "CheckpointError",
    "Chunk",
    "Clock",
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
    "FrameMarker",
    "HeadPose",
    "InputError",
    "LivePair",
    "LiveSession",
    "LiveSettings",
    "LiveStats",
    "MarkOptions",
    "MissingDependencyError",
    "ModelConfig",
    "NotFiniteError",
    "OutputError",
    "OverloadedError",
    "Portrait",
    "PortraitError",
    "PrepareOptions",
    "Progress",
    "ProvenanceReading",
    "QueueFull",
    "Request",
    "ResolvedOptions",
    "RunStats",
    "Runtime",
    "Session",
    "Trace",
    "Verification",
    "Video",
    "VideoOptions",
    "VideoWriter",
    "WatermarkReading",
    "__version__",
    "mark",
    "verify",
]

telemetry.leave_out_onnxruntime()  # here, as nothing of ours can import ONNX Runtime before it
