"""How fast is one clip on a GPU: public order in torch, torch with our savings, compiled, and our runtime?

Question
    Full-size ``emo`` with random weights, 512×512, 12 frames, guidance on, 40 steps DDIM, fp16, on one card in one run:
    what is a step, a clip from sound to file, and the first frame; how near is it to what the card can multiply?

Ways
    eager        torch, fp16, in the order of public implementations: keys and values of everything at every step.
    split        torch with our exact savings: reference, clip and time embeddings once; fused attention.
    compiled     ``torch.compile`` of split's step, channels last, all steps one CUDA graph.
    onnxruntime  our runtime, ONNX Runtime's CUDA provider.
    tensorrt     our runtime, TensorRT engines; what the package says is recorded where it cannot run.

Theory
    604 TMAC a clip in our split (``python -m emo_rt.benchmarks.work --preset emo``); at 800 TFLOP/s 1.5 s.

Expected
    On an H100 ≤ 4.0 s a clip with ONNX Runtime. Decoding does as much arithmetic as a step and runs on the same
    multiprocessors: overlap hides only what leaves the card idle. At full size capture saves next to nothing, since
    kernels are longer than their launches.

Command
    python -m emo_rt.benchmarks.bench_gpu --json FILE [--markdown FILE] [--bundle DIR] [--only eager,…]
                                          [--steps 40] [--rounds 5]
    python -m emo_rt.benchmarks.bench_gpu --json FILE --config tiny --device cpu     (rehearsal of the same script)

Each way has a try of its own: one that fails leaves its error in the result and the others go on. The result is written
anew after each way, so that a machine that goes away leaves what it measured.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch

from emo_rt.benchmarks.agreement import psnr
from emo_rt.benchmarks.gpu_runtime import RuntimeFigures, encode, measure_runtime
from emo_rt.benchmarks.gpu_torch import TorchWay, matmul_ceiling, peak_memory, unit_noise
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish, write_result
from emo_rt.benchmarks.work import count_work
from emo_rt.export.networks.model import build_model
from emo_rt.export.onnx_export import ExportOptions, export_bundle
from emo_rt.export.presets import preset
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array

SUMMARY = (__doc__ or "").partition("\n")[0]
TORCH_WAYS = ("eager", "split", "compiled")
RUNTIME_WAYS = ("onnxruntime", "tensorrt")
FEWER_STEPS = (20, 10, 8, 6)
SEED = 3
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TorchFigures:
    """How fast a way in torch is. Seconds are of one clip."""

    ms_per_step: float
    """Median of a solver step."""
    ms_per_step_p90: float
    s_per_clip: float
    """From inputs to file."""
    decode_s: float
    encode_s: float
    first_clip_s: float
    """With what is compiled then."""
    peak_bytes: int | None
    """Memory of the GPU. ``None`` = on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What the times mean."""

    tflops: float
    """10¹² floating-point operations a second of a step."""
    share_of_matmul: float | None = None
    """Of what the card reaches on square matrices. ``None`` = that failed."""
    times_eager: float | None
    """Clips against ``eager``. ``None`` = that has no figures."""


@dataclass(frozen=True, kw_only=True)
class RatedTorch(Rates, TorchFigures):
    """A way in torch."""


@dataclass(frozen=True, kw_only=True)
class RatedRuntime(Rates, RuntimeFigures):
    """A way of our runtime."""


@dataclass(frozen=True)
class Failure:
    """Why something has no figures."""

    error: str
    """Class and message."""
    at: str
    """``file:line``."""


@dataclass(frozen=True)
class Parity:
    """fp16 against fp32."""

    latents_relative: float
    """‖difference‖ / ‖fp32's‖."""
    frames_psnr_db: float


@dataclass(frozen=True)
class Bundling:
    """What our runtime needs first."""

    bundle_s: float
    """Seconds to export or open the bundle."""


Way: TypeAlias = RatedTorch | RatedRuntime | Failure


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was measured so far."""

    benchmark: str
    schema: int
    config: str
    """Name of the preset."""
    device: str
    settings: dict[str, int]
    """``steps``, ``rounds`` and ``clips``, as they were given."""
    environment: dict[str, Any]
    step_tmac: float
    """10¹² multiply-accumulates of a step."""
    matmul_tflops: float | Failure
    """What the device reaches on square matrices."""
    ways: dict[str, Way] = field(default_factory=dict)
    """Grows."""
    parity: Parity | Failure | None = None
    runtime: Bundling | Failure | None = None


def run(options: argparse.Namespace) -> Result:
    """Measure every way; the result holds figures or an error for each."""
    device, config = _device_name(options.device), preset(options.config)
    result = Result(
        benchmark="gpu",
        schema=SCHEMA,
        config=options.config,
        device=device,
        settings={name: getattr(options, name) for name in ("steps", "rounds", "clips")},
        environment=environment(None),
        step_tmac=count_work(config, options.steps).graphs["step"] / 1e12,
        matmul_tflops=_attempt(lambda: matmul_ceiling(options.device)),
    )
    for name in TORCH_WAYS:
        if name in options.only:
            _add(result, name, _attempt(lambda name=name: _torch(options, name)))
            write_result(options.json, result)
    if "parity" in options.only:
        result = replace(result, parity=_attempt(lambda: _parity(options)))
    if set(RUNTIME_WAYS) & set(options.only):
        result = replace(result, runtime=_attempt(lambda: _runtimes(options, result)))
    return result


def _torch(options: argparse.Namespace, name: str) -> TorchFigures:
    with _model(options) as model:
        peak_memory(options.device)
        way, noise = TorchWay(model, name, options.device), unit_noise(model.config)
        start = time.perf_counter()
        way.frames(way.latents(noise, options.steps, marks=False))
        way.clock.wait()
        first = time.perf_counter() - start
        steps: list[float] = []
        for _ in range(options.rounds):
            way.latents(noise, options.steps)
            steps += way.clock.seconds()
        clips, decodes, encodes = [], [], []
        for _ in range(options.rounds):
            begin = time.perf_counter()
            latents = way.latents(noise, options.steps, marks=False)
            way.clock.wait()
            decoding = time.perf_counter()
            frames = way.frames(latents)
            encoding = time.perf_counter()
            encode(frames, model.config.fps)
            end = time.perf_counter()
            clips.append(end - begin)
            decodes.append(encoding - decoding)
            encodes.append(end - encoding)
        return TorchFigures(
            ms_per_step=float(np.median(steps)) * 1e3,
            ms_per_step_p90=float(np.percentile(steps, 90)) * 1e3,
            s_per_clip=float(np.median(clips)),
            decode_s=float(np.median(decodes)),
            encode_s=float(np.median(encodes)),
            first_clip_s=first,
            peak_bytes=torch.cuda.max_memory_allocated() if options.device == "cuda" else None,
        )


def _parity(options: argparse.Namespace) -> Parity:
    """fp16 against fp32 on the same noise and inputs, torch with our savings."""
    found: dict[str, tuple[Array, Array]] = {}
    for dtype in (torch.float32, torch.float16 if options.device == "cuda" else torch.bfloat16):
        with _model(options, dtype) as model:
            way = TorchWay(model, "split", options.device)
            latents = way.latents(unit_noise(model.config), options.steps, marks=False)
            found[str(dtype)] = (latents.cpu().numpy(), way.frames(latents))
    (exact, frames), (half, other) = found.values()
    return Parity(
        latents_relative=float(np.linalg.norm(half - exact) / np.linalg.norm(exact)),
        frames_psnr_db=psnr(frames, other),
    )


def _runtimes(options: argparse.Namespace, result: Result) -> Bundling:
    """Our runtime on one bundle, exported on the spot unless there is one."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bundle = Bundle.open(options.bundle) if options.bundle else _export(options, Path(folder) / "bundle")
        seconds = time.perf_counter() - start
        for name in RUNTIME_WAYS:
            if name in options.only:
                _add(result, name, _attempt(lambda name=name: measure_runtime(bundle, name, options, FEWER_STEPS)))
                write_result(options.json, result)
    return Bundling(bundle_s=seconds)


def _export(options: argparse.Namespace, folder: Path) -> Bundle:
    dtype = "float16" if options.device == "cuda" else "float32"
    model = build_model(preset(options.config), SEED)
    export_bundle(
        model, folder, ExportOptions(dtype=dtype, guidance=(True, False), deep_cache=0, check=False), lambda _: None
    )
    return Bundle.open(folder, verify=False)


@contextmanager
def _model(options: argparse.Namespace, dtype: torch.dtype | None = None) -> Iterator[Any]:
    """The network on the device in fp16, or fp32 on the CPU; its memory is free again afterwards."""
    dtype = dtype or (torch.float16 if options.device == "cuda" else torch.float32)
    with torch.device(options.device):  # on the card in seconds; on the host a minute
        model = build_model(preset(options.config), SEED)
    model = model.to(options.device, dtype).eval()
    model.audio_encoder.float()
    try:
        yield model
    finally:
        del model
        gc.collect()
        if options.device == "cuda":
            torch.cuda.empty_cache()


def _attempt(work: Callable[[], T]) -> T | Failure:
    """What ``work`` gives, or its error: one way that fails must not end the others."""
    try:
        return work()
    except Exception as exc:  # noqa: BLE001 - whatever it is, it goes into the result
        frames = traceback.extract_tb(exc.__traceback__)
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
        return Failure(f"{type(exc).__name__}: {exc}"[:2000], place)


def _add(result: Result, name: str, found: TorchFigures | RuntimeFigures | Failure) -> None:
    """A way with its TFLOP/s, its share of the card's ceiling, and its speed against ``eager``, which comes first."""
    if isinstance(found, Failure):
        result.ways[name] = found
        return
    tflops, ceiling = 2 * result.step_tmac / found.ms_per_step * 1e3, result.matmul_tflops
    eager = found if name == "eager" else result.ways.get("eager")
    rates = Rates(
        tflops=tflops,
        share_of_matmul=None if isinstance(ceiling, Failure) else tflops / ceiling,
        times_eager=None if eager is None or isinstance(eager, Failure) else eager.s_per_clip / found.s_per_clip,
    )
    if isinstance(found, TorchFigures):
        result.ways[name] = RatedTorch(**vars(found), **vars(rates))
    else:
        result.ways[name] = RatedRuntime(**vars(found), **vars(rates))


def _device_name(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: torch sees no GPU; --config tiny --device cpu rehearses the script without one")
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def table(ways: Mapping[str, Way]) -> str:
    """The ways as Markdown."""
    rows = ["| way | ms/step | p90 | s/clip | TFLOP/s | of matmul | × eager |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, way in ways.items():
        if isinstance(way, Failure):
            rows.append(f"| {name} | {way.error} | | | | | |")
            continue
        times = (way.ms_per_step, way.ms_per_step_p90, way.s_per_clip)
        figures = (*times, way.tflops, way.share_of_matmul, way.times_eager)
        cells = ["–" if value is None else f"{value:.3g}" for value in figures]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the files, print the table and the JSON line."""
    every = (*TORCH_WAYS, "parity", *RUNTIME_WAYS)
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.bench_gpu", description=SUMMARY)
    add_outputs(parser)
    parser.add_argument("--config", choices=("emo", "hallo", "demo", "tiny"), default="emo")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--bundle", metavar="DIR", help="use this bundle for our runtime instead of exporting one")
    parser.add_argument(
        "--only", type=lambda text: tuple(text.split(",")), default=every, help=f"of {', '.join(every)}"
    )
    for name, default in (("steps", 40), ("rounds", 5), ("clips", 6)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args(arguments)
    if options.json is None:
        parser.error("--json FILE is needed: the result is written anew after each way")
    unknown = set(options.only) - set(every)
    if unknown or min(options.steps, options.rounds, options.clips) < 1:
        parser.error(f"--only knows {', '.join(every)}; --steps, --rounds and --clips are 1 or more")
    result = run(options)
    publish(result, table(result.ways), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
