"""Our runtime in :mod:`emo_rt.benchmarks.bench_gpu`: with and without capture, overlap, fewer steps, no guidance."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from emo_rt import AnimateOptions, Animator, Avatar, Trace
from emo_rt.device.base import Backend
from emo_rt.device.registry import open_backend
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.media.video_file import VideoOptions, VideoWriter
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array
from emo_rt.model.families.registry import family_of
from emo_rt.runtime.loaded_model import LoadedModel


@dataclass(frozen=True, kw_only=True)
class Clips:
    """How fast clips are made, from sound to file. Seconds are of one clip."""

    ms_per_step: float
    """Median of a solver step."""
    ms_per_step_p90: float
    s_per_clip: float
    """Of several in one go."""
    decode_s: float
    encode_s: float
    hidden_by_overlap: float
    """Share of decoding and encoding that costs no time of its own."""
    s_per_clip_without_overlap: float
    """Stages one after another."""
    first_frame_s: float
    """Until the first frames of a warm run."""
    first_clip_s: float
    """The same of the first run."""
    loop: str
    """How the solver loop was launched."""
    trace: dict[str, Any]
    """Of Chrome's trace viewer."""


@dataclass(frozen=True)
class Rate:
    """Speed of a whole run in memory."""

    fps: float
    """Frames a second."""
    s_per_clip: float


@dataclass(frozen=True, kw_only=True)
class RuntimeFigures(Clips):
    """What one backend does."""

    fewer: dict[str, Rate]
    """By steps."""
    no_guidance: Rate
    guidance_interval: Rate
    """Guidance in the middle 60 % of the steps."""
    peak_bytes: int | None
    """Memory of the GPU that is taken."""
    memory: dict[str, int]
    """See :meth:`emo_rt.Animator.memory_stats`."""
    without_capture: Clips
    """Each step launched by itself."""
    deep_cache: dict[str, Rate] | None = None
    """By N. ``None`` = the bundle has no cached graphs."""


def measure_runtime(bundle: Bundle, name: str, options: argparse.Namespace, fewer: Sequence[int]) -> RuntimeFigures:
    """All figures of one backend. Raises what the backend raises: it goes into the result."""
    if name == "tensorrt" and options.device == "cuda":
        _build(bundle)
    with Animator(LoadedModel(bundle, _backend(name, options.device, capture=True))) as animator:
        clips = _clips(animator, options.steps, options)
        rates = {str(steps): _rate(animator, steps, options) for steps in fewer}
        no_guidance = _rate(animator, options.steps, options, guidance=1.0)
        guidance_interval = _rate(animator, options.steps, options, guidance_interval=(0.2, 0.8))
        deep_cache = None
        if any(graph.cached for graph in bundle.graphs.values()):
            deep_cache = {str(n): _rate(animator, options.steps, options, deep_cache=n) for n in (2, 3)}
        memory = animator.memory_stats()
    with Animator(LoadedModel(bundle, _backend(name, options.device, capture=False))) as animator:
        without_capture = _clips(animator, options.steps, options)
    return RuntimeFigures(
        **vars(clips),
        fewer=rates,
        no_guidance=no_guidance,
        guidance_interval=guidance_interval,
        peak_bytes=memory.get("device_used"),
        memory=memory,
        without_capture=without_capture,
        deep_cache=deep_cache,
    )


def _backend(name: str, device: str, capture: bool) -> Backend:
    if device == "cpu":
        return open_backend(name, device)
    from emo_rt.device.cuda import open_device
    from emo_rt.device.onnxruntime_cuda import OrtCudaBackend
    from emo_rt.device.tensorrt.graph import TrtBackend

    cuda = open_device()
    return OrtCudaBackend(cuda, own_graphs=capture) if name == "onnxruntime" else TrtBackend(cuda, capture=capture)


def _build(bundle: Bundle) -> None:
    """Engines for this card. ``tensorrt_rtx`` has no target for H100 and H200: what it says is the result."""
    from emo_rt.engines.builder import build_engines

    build_engines(bundle)


def _clips(animator: Animator, steps: int, options: argparse.Namespace) -> Clips:
    """A cold first clip, then several in one go, from sound to file."""
    config = animator.config
    avatar, sound = _portrait(animator), _sound(animator, options.clips)

    def first_clip() -> float:
        start = time.perf_counter()
        with closing(animator.animate(avatar, sound, sample_rate=AUDIO_SAMPLE_RATE, steps=steps).chunks()) as chunks:
            next(chunks)
            return time.perf_counter() - start

    cold, warm = first_clip(), first_clip()
    trace = Trace()
    video = animator.animate(avatar, sound, sample_rate=AUDIO_SAMPLE_RATE, steps=steps, trace=trace)
    start = time.perf_counter()
    stats = video.save(io.BytesIO(), VideoOptions(fragmented=True))
    wall = (time.perf_counter() - start) / options.clips
    spans = _spans(trace)
    denoise = np.median(np.add(spans["clip"], spans["step"]))
    decode = float(np.median(spans["decode"]))
    encode = _encode_seconds(animator, config.frames)
    return Clips(
        ms_per_step=float(np.median(spans["step"])) / steps * 1e3,
        ms_per_step_p90=float(np.percentile(spans["step"], 90)) / steps * 1e3,
        s_per_clip=wall,
        decode_s=decode,
        encode_s=encode,
        hidden_by_overlap=1 - (wall - float(denoise)) / (decode + encode),
        s_per_clip_without_overlap=float(denoise) + decode + encode,
        first_frame_s=warm,
        first_clip_s=cold,
        loop=stats.loop,
        trace=trace.to_dict(),
    )


def _rate(animator: Animator, steps: int, options: argparse.Namespace, **changes: Any) -> Rate:
    """Frames per second of a whole run in memory."""
    avatar, sound = _portrait(animator), _sound(animator, options.clips)
    animator.warmup(AnimateOptions(steps=steps, **changes))
    video = animator.animate(avatar, sound, sample_rate=AUDIO_SAMPLE_RATE, steps=steps, **changes)
    frames = video.numpy()
    assert video.stats is not None
    return Rate(fps=len(frames) / video.stats.wall_s, s_per_clip=video.stats.wall_s / options.clips)


def _portrait(animator: Animator) -> Avatar:
    size = animator.config.size
    picture = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    return animator.prepare(picture, face_box="full", face=family_of(animator.config).anonymous)


def _sound(animator: Animator, clips: int) -> Array:
    samples = clips * animator.config.frames * AUDIO_SAMPLE_RATE // animator.config.fps
    return 0.1 * np.random.default_rng(1).standard_normal(samples, np.float32)


def _spans(trace: Trace) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for event in trace.to_dict()["traceEvents"]:
        if event["ph"] == "X":
            found.setdefault(event["name"], []).append(event["dur"] / 1e6)
    return found


def _encode_seconds(animator: Animator, frames: int) -> float:
    size = animator.config.size
    pictures = np.random.default_rng(2).integers(0, 255, (frames, size, size, 3), np.uint8)
    start = time.perf_counter()
    encode(pictures, animator.config.fps)
    return time.perf_counter() - start


def encode(frames: Array, fps: int) -> None:
    """(F, H, W, 3) uint8 → H.264 in memory."""
    height, width = frames.shape[1:3]
    with VideoWriter(
        io.BytesIO(), width=width, height=height, fps=fps, options=VideoOptions(fragmented=True)
    ) as writer:
        writer.write(frames)
