"""What this machine can do for emo_rt, found out by trying: `emo-rt doctor`."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib import metadata
from typing import Any

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from emo_rt.cli import gpu_packages, terminal
from emo_rt.cli.demo import DEMO_PORTRAIT
from emo_rt.cli.gpu_packages import Card
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
"""What nvidia-smi is asked for: the fields of a card, in order."""
PATIENCE_S = 10
"""How long nvidia-smi may take."""


@dataclass(frozen=True)
class Finding:
    """Whether a thing works here."""

    works: bool
    detail: str
    """What works, or why nothing does."""


@dataclass(frozen=True)
class DemoModel(Finding):
    """The model of the package."""

    untrained: bool | None
    """Whether its picture is noise. ``None`` = it does not open."""


@dataclass(frozen=True)
class FoundBackend:
    """A backend, ours or that of another package."""

    name: str
    device: str | None
    """``cpu`` or ``cuda``. ``None`` = its entry point leads nowhere."""
    source: str
    """Distribution that has it, with version; ``emo_rt`` for ours."""
    works: bool
    detail: str
    """``opens``, or why it does not."""


@dataclass(frozen=True)
class Machine:
    """What a process has."""

    cores: int
    """CPU cores that it may use."""
    memory_bytes: int | None
    """Of the whole machine. ``None`` = the system does not say."""


@dataclass(frozen=True)
class Runtimes:
    """What :meth:`emo_rt.Animator.load` would choose, by device."""

    auto: Finding
    cuda: Finding


@dataclass(frozen=True)
class Encoders:
    """Encoders that opened."""

    h264: Sequence[str]
    """Of :data:`ENCODERS`."""
    aac: bool


@dataclass(frozen=True)
class Report:
    """What this machine has and can do."""

    emo_rt: str
    """Version."""
    python: str
    """Version."""
    platform: str
    """As :func:`platform.platform` says it."""
    machine: Machine
    packages: Mapping[str, str | None]
    """:data:`PACKAGES` → version, ``None`` = absent."""
    ffmpeg: Mapping[str, str]
    """FFmpeg's libraries → version."""
    onnxruntime_providers: Sequence[str]
    """Empty where ONNX Runtime cannot be imported."""
    gpus: Sequence[Card]
    runtime: Runtimes
    backends: Sequence[FoundBackend]
    tensorrt: Finding
    encoders: Encoders
    face_detector: Finding
    demo_model: DemoModel

    @property
    def ready(self) -> bool:
        """Whether videos can be made here with what is installed."""
        return bool(self.runtime.auto.works and self.encoders.h264 and self.encoders.aac)


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
    terminal.say(json.dumps(as_plain(report), indent=2, ensure_ascii=False) if as_json else as_text(report))
    return report.ready


def examine() -> Report:
    """Look at everything."""
    return Report(
        emo_rt=__version__,
        python=platform.python_version(),
        platform=platform.platform(),
        machine=Machine(_cores(), _memory()),
        packages={name: _version(name) for name in PACKAGES},
        ffmpeg={name: ".".join(map(str, version)) for name, version in av.library_versions.items()},
        onnxruntime_providers=_providers(),
        gpus=_gpus(),
        runtime=Runtimes(_runtime("auto"), _runtime("cuda")),
        backends=_backends(),
        tensorrt=_tensorrt(),
        encoders=Encoders([name for name in ENCODERS if open_encoder_works(name)], _aac_works()),
        face_detector=_face_detector(),
        demo_model=_demo_model(),
    )


def as_plain(report: Report) -> dict[str, Any]:
    """The report for programs, stable under :data:`REPORT_SCHEMA`. A backend's ``source`` is ``from`` there."""
    found = asdict(report, dict_factory=lambda pairs: {"from" if key == "source" else key: one for key, one in pairs})
    return {"schema": REPORT_SCHEMA, **found, "ready": report.ready, "advice": _advice(report)}


def as_text(report: Report) -> str:
    """The same for people."""
    installed = [f"{name} {version}" for name, version in report.packages.items() if version]
    absent = [name for name, version in report.packages.items() if not version]
    machine, encoders = report.machine, report.encoders
    memory = terminal.size(machine.memory_bytes) if machine.memory_bytes else "unknown"
    rows = [
        ("emo_rt", f"{report.emo_rt}, Python {report.python}, {report.platform}"),
        ("machine", f"{machine.cores} CPU cores for this process, {memory} of memory"),
        ("GPUs", "; ".join(map(_gpu_text, report.gpus)) or "none that nvidia-smi knows"),
        ("installed", ", ".join(installed)),
        ("absent", ", ".join(absent) or "nothing"),
        ("FFmpeg", ", ".join(f"{name} {version}" for name, version in report.ffmpeg.items())),
        ("ONNX Runtime", ", ".join(report.onnxruntime_providers) or "not usable"),
        ("runtime", _runtime_text(report.runtime.auto)),
        ("CUDA", _runtime_text(report.runtime.cuda)),
        ("backends", "; ".join(map(_backend_text, report.backends))),
        ("TensorRT", report.tensorrt.detail),
        ("H.264", f"{', '.join(encoders.h264) or 'no encoder opens'} (opened and tried)"),
        ("AAC", "works" if encoders.aac else "does not work"),
        ("faces", report.face_detector.detail),
        ("demo model", report.demo_model.detail),
    ]
    return "\n".join([terminal.pairs(rows), "", _verdict(report), *(f"- {line}" for line in _advice(report))])


def _verdict(report: Report) -> str:
    if not report.ready:
        return "Not ready to make videos:"
    faces = "finds faces by itself" if report.face_detector.works else "needs --face-box"
    runtime, encoder = report.runtime.auto.detail, report.encoders.h264[0]
    return f"Ready: runs with {runtime}, encodes with {encoder}, {faces}. Try: emo-rt demo"


def _advice(report: Report) -> list[str]:
    """What to install, for what."""
    runtime, packages = report.runtime, report.packages
    lines = [one.detail for one in (report.face_detector, report.demo_model) if not one.works]
    if not runtime.auto.works:
        lines.append(runtime.auto.detail)
    elif report.gpus and not runtime.cuda.works:
        lines.append(f"the GPU is not used: {runtime.cuda.detail}")
        lines.append(f"for this GPU: {gpu_packages.advice(report.gpus[0], packages, platform.machine())}")
    lines += [
        f"warning: the backend {one.name!r} of {one.source} cannot be used: {one.detail}"
        for one in report.backends
        if one.source != "emo_rt" and not one.works
    ]
    if not report.encoders.h264 or not report.encoders.aac:
        lines.append("this PyAV lacks an encoder; install its wheel: pip install --force-reinstall av")
    if not (packages["torch"] and packages["onnx"]):
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


def _gpus() -> list[Card]:
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
    return [Card(*row) for row in rows if len(row) == len(GPU_QUERY)]


def _gpu_of_driver() -> list[Card]:
    try:
        gpu = current_gpu()
    except EmoRtError:
        return []
    digits = gpu.capability.removeprefix("sm")
    return [Card(gpu.name, "unknown", "unknown", f"{digits[:-1]}.{digits[-1]}")]


def _gpu_text(gpu: Card) -> str:
    return f"{gpu.name}, {gpu.memory}, driver {gpu.driver}, compute capability {gpu.compute_capability}"


def _runtime(device: str) -> Finding:
    """Whether the runtime for a device opens, and which, or why not."""
    try:
        with open_backend(device=device) as backend:
            return Finding(True, f"{backend.name} on {backend.device}")
    except EmoRtError as exc:
        return Finding(False, str(exc))


def _runtime_text(runtime: Finding) -> str:
    return runtime.detail if runtime.works else f"not available: {runtime.detail}"


def _backends() -> list[FoundBackend]:
    """Every backend, ours and those of other packages: whether it opens here, or why not."""
    sources = {id(one.entry): one.source for one in foreign_backends()}
    rows = []
    for entry in entries():
        works, detail = True, "opens"
        try:
            try_open(entry).close()
        except EmoRtError as exc:
            works, detail = False, str(exc)
        source = sources.get(id(entry), "emo_rt")
        rows.append(FoundBackend(entry.NAME, entry.DEVICE, source, works, detail))
    for one in foreign_backends():
        if one.problem is not None:
            rows.append(FoundBackend(one.name, None, one.source, False, one.problem))
    return rows


def _backend_text(backend: FoundBackend) -> str:
    place = f" on {backend.device}" if backend.device else ""
    source = "" if backend.source == "emo_rt" else f" (of {backend.source})"
    return f"{backend.name}{place}{source} {'works' if backend.works else 'does not work'}"


def _tensorrt() -> Finding:
    """Which TensorRT loads, and which GPUs it builds for without having them."""
    try:
        package = load_package()
    except EmoRtError as exc:
        return Finding(False, str(exc))
    others = ", ".join(package.capabilities)
    return Finding(True, f"{package.name} {package.version}, builds for {others or 'the GPU here'}")


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


def _face_detector() -> Finding:
    """Whether the built-in networks run, and find the face of the demo's portrait."""
    try:
        finder = FaceFinder()
        works = len(finder.find(load_picture(DEMO_PORTRAIT))) == 1
    except EmoRtError as exc:
        return Finding(False, str(exc))
    seen = "tried on the demo portrait" if works else "they do not find the demo portrait's face"
    return Finding(works, f"built-in networks in {finder.runtime} ({seen})")


def _demo_model() -> DemoModel:
    try:
        bundle = Bundle.open("demo", verify=True)
    except EmoRtError as exc:
        return DemoModel(False, str(exc), untrained=None)
    config, untrained = bundle.config, bundle.is_untrained
    words = "untrained: its picture is noise" if untrained else "trained"
    return DemoModel(True, f"{config.name}, {config.size}x{config.size} pixels, {words}", untrained)
