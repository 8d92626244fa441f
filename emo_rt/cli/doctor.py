"""What this machine can do for emo_rt, found out by trying: `emo-rt doctor`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from importlib import metadata
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from emo_rt.cli import gpu_packages, terminal
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.cli.options import add_json
from emo_rt.device.registry import entries, foreign_backends, open_backend, try_open
from emo_rt.device.tensorrt.gpus import current_gpu
from emo_rt.device.tensorrt.package import load_package
from emo_rt.errors import EmoRtError
from emo_rt.faces import FaceFinder
from emo_rt.media.picture import load_picture
from emo_rt.media.video_file import open_encoder_works
from emo_rt.model.bundle import Bundle
from emo_rt.version import __version__

REPORT_SCHEMA = 1
"""Version of the JSON report; raised when a key changes its meaning or goes away."""
PACKAGES = (
    "numpy",
    "av",
    "pillow",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-core",
    "torch",
    "onnx",
)
"""Distributions that matter to emo_rt or its extras. Looked up without importing them."""
ENCODERS = ("h264_nvenc", "libx264")
"""H.264 encoders in the order in which ``--codec auto`` tries them."""
GPU_QUERY = ("name", "memory.total", "driver_version", "compute_cap")
"""What nvidia-smi is asked for."""
PATIENCE_S = 10
"""How long nvidia-smi may take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.epilog = "exit code: 0 if videos can be made here, else 1"
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    return 0 if show(as_json=args.json) else 1


def show(*, as_json: bool) -> bool:
    """Print the report. True if this machine can make videos with what is installed."""
    report = examine()
    terminal.say(json.dumps(report, indent=2, ensure_ascii=False) if as_json else as_text(report))
    return bool(report["ready"])


def examine() -> dict[str, Any]:
    """Plain values, stable under :data:`REPORT_SCHEMA`."""
    report: dict[str, Any] = {
        "schema": REPORT_SCHEMA,
        "emo_rt": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": {"cores": _cores(), "memory_bytes": _memory()},
        "packages": {name: _version(name) for name in PACKAGES},
        "ffmpeg": {name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        "onnxruntime_providers": _providers(),
        "gpus": _gpus(),
        "runtime": {device: _runtime(device) for device in ("auto", "cuda")},
        "backends": _backends(),
        "tensorrt": _tensorrt(),
        "encoders": {"h264": [name for name in ENCODERS if open_encoder_works(name)], "aac": _aac_works()},
        "face_detector": _face_detector(),
        "demo_model": _demo_model(),
    }
    report["ready"] = bool(report["runtime"]["auto"]["works"] and report["encoders"]["h264"] and _aac_works())
    report["advice"] = _advice(report)
    return report


def as_text(report: dict[str, Any]) -> str:
    """The same for people."""
    installed = [f"{name} {version}" for name, version in report["packages"].items() if version]
    absent = [name for name, version in report["packages"].items() if not version]
    machine, encoders = report["machine"], report["encoders"]
    memory = terminal.size(machine["memory_bytes"]) if machine["memory_bytes"] else "unknown"
    rows = [
        ("emo_rt", f"{report['emo_rt']}, Python {report['python']}, {report['platform']}"),
        ("machine", f"{machine['cores']} CPU cores for this process, {memory} of memory"),
        ("GPUs", "; ".join(map(_gpu_text, report["gpus"])) or "none that nvidia-smi knows"),
        ("installed", ", ".join(installed)),
        ("absent", ", ".join(absent) or "nothing"),
        ("FFmpeg", ", ".join(f"{name} {version}" for name, version in report["ffmpeg"].items())),
        ("ONNX Runtime", ", ".join(report["onnxruntime_providers"]) or "not usable"),
        ("runtime", _runtime_text(report["runtime"]["auto"])),
        ("CUDA", _runtime_text(report["runtime"]["cuda"])),
        ("backends", "; ".join(map(_backend_text, report["backends"]))),
        ("TensorRT", report["tensorrt"]["detail"]),
        ("H.264", f"{', '.join(encoders['h264']) or 'no encoder opens'} (opened and tried)"),
        ("AAC", "works" if encoders["aac"] else "does not work"),
        ("faces", report["face_detector"]["detail"]),
        ("demo model", report["demo_model"]["detail"]),
    ]
    return "\n".join([terminal.pairs(rows), "", _verdict(report), *(f"- {line}" for line in report["advice"])])


def _verdict(report: dict[str, Any]) -> str:
    if not report["ready"]:
        return "Not ready to make videos:"
    faces = "finds faces by itself" if report["face_detector"]["works"] else "needs --face-box"
    runtime, encoder = report["runtime"]["auto"]["detail"], report["encoders"]["h264"][0]
    return f"Ready: runs with {runtime}, encodes with {encoder}, {faces}. Try: emo-rt demo"


def _advice(report: dict[str, Any]) -> list[str]:
    """What to install, for what."""
    lines = []
    for key in ("face_detector", "demo_model"):
        if not report[key]["works"]:
            lines.append(report[key]["detail"])
    if not report["runtime"]["auto"]["works"]:
        lines.append(report["runtime"]["auto"]["detail"])
    elif report["gpus"] and not report["runtime"]["cuda"]["works"]:
        lines.append(f"the GPU is not used: {report['runtime']['cuda']['detail']}")
        lines.append(f"for this GPU: {gpu_packages.advice(report['gpus'][0], report['packages'], platform.machine())}")
    lines += [
        f"warning: the backend {one['name']!r} of {one['from']} cannot be used: {one['detail']}"
        for one in report["backends"]
        if one["from"] != "emo_rt" and not one["works"]
    ]
    if not report["encoders"]["h264"] or not report["encoders"]["aac"]:
        lines.append("this PyAV lacks an encoder; install its wheel: pip install --force-reinstall av")
    if not (report["packages"]["torch"] and report["packages"]["onnx"]):
        lines.append("to export models of your own: pip install 'emo_rt[export]'")
    return lines


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    """CPU cores that this process may use."""
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> int | None:
    """Bytes of memory in the machine, where the system says so."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _providers() -> list[str]:
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")
        return list(onnxruntime.get_available_providers())
    except (ImportError, OSError, AttributeError):  # a broken installation must not end the report
        return []


def _gpus() -> list[dict[str, str]]:
    """What nvidia-smi reports, or the driver where that is not there, as on a Jetson; else an empty list."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return _gpu_of_driver()
    command = [program, f"--query-gpu={','.join(GPU_QUERY)}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines()]
    keys = ("name", "memory", "driver", "compute_capability")
    return [dict(zip(keys, row, strict=True)) for row in rows if len(row) == len(keys)]


def _gpu_of_driver() -> list[dict[str, str]]:
    try:
        gpu = current_gpu()
    except EmoRtError:
        return []
    digits = gpu.capability.removeprefix("sm")
    capability = f"{digits[:-1]}.{digits[-1]}"
    return [{"name": gpu.name, "memory": "unknown", "driver": "unknown", "compute_capability": capability}]


def _gpu_text(gpu: dict[str, str]) -> str:
    return f"{gpu['name']}, {gpu['memory']}, driver {gpu['driver']}, compute capability {gpu['compute_capability']}"


def _runtime(device: str) -> dict[str, Any]:
    """Whether the runtime for a device opens, and which, or why not."""
    try:
        with open_backend(device=device) as backend:
            return {"works": True, "detail": f"{backend.name} on {backend.device}"}
    except EmoRtError as exc:
        return {"works": False, "detail": str(exc)}


def _runtime_text(runtime: dict[str, Any]) -> str:
    return str(runtime["detail"]) if runtime["works"] else f"not available: {runtime['detail']}"


def _backends() -> list[dict[str, Any]]:
    """Every backend, ours and those of other packages: whether it opens here, or why not."""
    sources = {id(one.entry): one.source for one in foreign_backends()}
    rows = []
    for entry in entries():
        about = {"name": entry.NAME, "device": entry.DEVICE, "from": sources.get(id(entry), "emo_rt")}
        try:
            try_open(entry).close()
            rows.append({**about, "works": True, "detail": "opens"})
        except EmoRtError as exc:
            rows.append({**about, "works": False, "detail": str(exc)})
    broken = [one for one in foreign_backends() if one.entry is None]
    return rows + [
        {"name": one.name, "device": None, "from": one.source, "works": False, "detail": one.problem} for one in broken
    ]


def _backend_text(backend: dict[str, Any]) -> str:
    place = f" on {backend['device']}" if backend["device"] else ""
    source = "" if backend["from"] == "emo_rt" else f" (of {backend['from']})"
    return f"{backend['name']}{place}{source} {'works' if backend['works'] else 'does not work'}"


def _tensorrt() -> dict[str, Any]:
    """Which TensorRT loads, and which GPUs it builds for without having them."""
    try:
        package = load_package()
    except EmoRtError as exc:
        return {"works": False, "detail": str(exc)}
    others = ", ".join(package.capabilities)
    detail = f"{package.name} {package.version}, builds for {others or 'the GPU here'}"
    return {"works": True, "detail": detail}


def _aac_works() -> bool:
    try:
        encoder = av.CodecContext.create("aac", "w")
        assert isinstance(encoder, AudioCodecContext)
        encoder.sample_rate, encoder.layout, encoder.format = 16_000, "mono", "fltp"
        encoder.time_base = Fraction(1, 16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16_000, 0
        return bool(encoder.encode(frame) + encoder.encode(None))
    except (av.FFmpegError, OSError, ValueError):
        return False


def _face_detector() -> dict[str, Any]:
    """Whether the built-in networks run, and find the face of the demo's portrait."""
    try:
        finder = FaceFinder()
        works = len(finder.find(load_picture(DEMO_PORTRAIT))) == 1
    except EmoRtError as exc:
        return {"works": False, "detail": str(exc)}
    seen = "tried on the demo portrait" if works else "they do not find the demo portrait's face"
    return {"works": works, "detail": f"built-in networks in {finder.runtime} ({seen})"}


def _demo_model() -> dict[str, Any]:
    try:
        bundle = Bundle.open("demo", verify=True)
    except EmoRtError as exc:
        return {"works": False, "detail": str(exc), "untrained": None}
    untrained = bundle.is_untrained
    words = "untrained: its picture is noise" if untrained else "trained"
    detail = f"{bundle.config.name}, {bundle.config.size}x{bundle.config.size} pixels, {words}"
    return {"works": True, "detail": detail, "untrained": untrained}
