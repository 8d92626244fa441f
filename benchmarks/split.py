"""How much faster is the split at a small size? The same clip computed four ways, side by side on the CPU.

Question
    How much sooner is one clip's last latent there with our four graphs than with the formulation that computes
    everything at every step, and with the evaluation order of the public Hallo pipeline? How much of it is the order,
    and how much ONNX Runtime?

Four ways to the same numbers, same weights, same inputs, fp32, guidance on, DDIM
    plain        :func:`emo_rt.export.networks.plain.plain_prediction` at every step: ReferenceNet, face locator and
                 audio tokens too; attention written out. Torch, eager.
    original     :mod:`emo_rt.benchmarks.original`: the Hallo pipeline's order, fused attention. Torch, eager.
    split        graphs ``reference``, ``clip``, ``timestep`` × N, ``step`` × N. Torch, eager.
    onnxruntime  the same graphs exported, through the runtime's own backend, buffers, step table and denoiser.

Theory
    ``split`` does fewer multiply-adds than ``original`` (``python -m emo_rt.benchmarks.work`` counts them: 1.16 times
    at full size) and everything once per portrait or clip is a share of 1/N of the steps'. At the small sizes here
    time goes into memory traffic and calls as much as into arithmetic, so the measured ratio need not be the counted.

Expected
    plain / split 1.5 … 2.5, original / split 1.1 … 1.4, and ONNX Runtime not slower than eager torch.

Command
    python -m emo_rt.benchmarks.split [--config hallo-small|emo-small] [--steps 4] [--rounds 3] [--threads 1]
                                      [--quick] [--json FILE] [--markdown FILE]

    Exports each config first, which takes most of the time and is not measured. ``--quick``: tiny
    networks, two steps, one round.

Each round runs the four ways in turn, every second round in reverse, after one warm-up of each. A ratio is the median
over rounds of the ratio within a round: other load on the machine hits both sides of it. Seconds are not reported: the
machines that this runs on are shared. All ways must agree to :data:`BOUND`, or there is no report. The table is
Markdown; the last line is JSON. ``--json`` and ``--markdown`` also write them to files.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor

from emo_rt.benchmarks.agreement import DisagreementError, torch_threads
from emo_rt.benchmarks.harness import add_outputs, interleaved, publish
from emo_rt.benchmarks.original import OriginalClip
from emo_rt.benchmarks.work import count_work, plain_inputs
from emo_rt.device.base import Backend
from emo_rt.device.buffers import Buffers
from emo_rt.device.registry import open_backend
from emo_rt.export.graph_modules import example_inputs, graph_modules
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.networks.plain import plain_prediction
from emo_rt.export.onnx_export import trace
from emo_rt.export.presets import preset
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig, ReferenceConfig, UNetConfig, VaeConfig
from emo_rt.model.contract import STEP_STATE, Array
from emo_rt.model.presets import BASE, QUALITY, Preset, Variant
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.denoiser import Denoiser
from emo_rt.runtime.step_tables import StepTables

SUMMARY = (__doc__ or "").partition("\n")[0]

BOUND = 1e-4
"""Largest relative error of the final latents, ‖way − plain‖ / ‖plain‖."""

WAYS = ("plain", "original", "split", "onnxruntime")
PAIRS = (("plain", "split"), ("plain", "onnxruntime"), ("original", "split"), ("original", "onnxruntime"))
GRAPHS = ("reference", "clip", "timestep", "step")
SEED = 3

Way = Callable[[], Array]
"""Runs one clip and gives its final latents."""


def small_config(name: str, quick: bool = False) -> ModelConfig:
    """``hallo-small`` or ``emo-small``: the layout of the full preset, narrow and 128×128.

    Two resolutions of 32 and 64 channels, one residual block each (``quick``: of 16 and 32, and 32×32 pixels).
    """
    family = name.removesuffix("-small")
    full, tiny, demo = preset(family), preset("tiny"), preset("demo")
    unet, vae, locator = (
        UNetConfig((32, 64), 1, 4, 8),
        VaeConfig(block_out_channels=(16,) * 4, layers_per_block=1, norm_num_groups=8),
        (16,) * 4,
    )
    if quick:
        unet, vae, locator = tiny.unet, tiny.vae, tiny.locator.channels
    audio = replace(tiny.audio if quick else demo.audio, attention=full.audio.attention, null="zero")
    reference = ReferenceConfig(full.reference.mode, face_tokens=full.reference.face_tokens, face_token_dim=32)
    return replace(
        full,
        name=name,
        size=tiny.size if quick else 128,
        fps=25,
        frames=6 if quick else full.frames,
        motion_frames=2 if quick else full.motion_frames,
        decode_frames=2,
        unet=unet,
        vae=vae,
        locator=replace(full.locator, channels=locator),
        reference=reference,
        audio=audio,
        temporal=replace(full.temporal, heads=unet.attention_heads),
        speed=full.speed and demo.speed,
    )


@dataclass(frozen=True)
class Comparison:
    """One clip all ways."""

    frames: int
    steps: int
    rounds: int
    threads: int
    ratios: dict[str, float]
    """``plain / split`` → ratio of times, median over the rounds."""
    ranges: dict[str, tuple[float, float]]
    """The smallest and the largest."""
    counted: float
    """Multiply-adds of the original's order in units of ours, without the autoencoder."""
    errors: dict[str, float]
    """Way → relative error of its final latents."""


def compare(bundle: Bundle, model: EmoModel, steps: int, rounds: int, threads: int = 1) -> Comparison:
    """Measure one clip all ways. ``model``: the weights that ``bundle`` was exported from.

    Raises :class:`DisagreementError` when the ways differ by more than :data:`BOUND`.
    """
    values, noise = _inputs(model)
    with torch_threads(threads), open_backend("onnxruntime", "cpu", threads) as backend:
        ways = {
            "plain": _plain(model, values, noise, steps),
            "original": _original(model, values, noise, steps),
            "split": _split(model, values, noise, steps),
            "onnxruntime": _onnxruntime(backend, bundle, values, noise, steps),
        }
        errors = check_agreement({name: ways[name]() for name in WAYS})  # the warm-up of each
        times = interleaved(dict(ways), rounds)
    denoising = [row for row in count_work(model.config, steps).rows if not row.part.startswith("VAE")]
    return Comparison(
        frames=model.config.frames,
        steps=steps,
        rounds=rounds,
        threads=threads,
        ratios={f"{a} / {b}": median(time[a] / time[b] for time in times) for a, b in PAIRS},
        ranges={f"{a} / {b}": _range([time[a] / time[b] for time in times]) for a, b in PAIRS},
        counted=sum(row.original for row in denoising) / sum(row.ours for row in denoising),
        errors=errors,
    )


def check_agreement(finals: Mapping[str, Array]) -> dict[str, float]:
    """Relative error of each way against ``plain``. Raises :class:`DisagreementError` above :data:`BOUND`."""
    expected = finals["plain"]
    errors = {
        name: float(np.linalg.norm(final - expected) / np.linalg.norm(expected)) for name, final in finals.items()
    }
    for name, error in errors.items():
        if not error <= BOUND:
            raise DisagreementError(f"{name} differs from plain by {error:.2g} (bound {BOUND:g}): nothing is reported")
    return errors


def _inputs(model: EmoModel) -> tuple[dict[str, Tensor], Tensor]:
    """Random values of the tensors that no graph gives, by name, and unit noise."""
    modules = [module for module in graph_modules(model) if module.spec.name in ("reference", "clip", "step")]
    given = {tensor.name for module in modules for tensor in module.spec.outputs} | {"time_embedding"}
    values = {}
    for seed, module in enumerate(modules):
        examples = example_inputs(module.spec, model.config, seed)
        values.update({name: value for name, value in examples.items() if name not in given})
    return values, values["latents"]


def _plain(model: EmoModel, values: Mapping[str, Tensor], noise: Tensor, steps: int) -> Way:
    inputs = plain_inputs(values)

    def run() -> Array:
        return _solve(model.config, steps, noise, lambda x, t: plain_prediction(model, x, t, inputs))

    return run


def _original(model: EmoModel, values: Mapping[str, Tensor], noise: Tensor, steps: int) -> Way:
    inputs = plain_inputs(values)

    def run() -> Array:
        return _solve(model.config, steps, noise, OriginalClip(model, inputs).predict)

    return run


def _solve(config: ModelConfig, steps: int, noise: Tensor, predict: Callable[[Tensor, Tensor], Tensor]) -> Array:
    """DDIM around a function that predicts both halves."""
    table, latents = solver_table(config.schedule, "ddim", steps), noise
    for timestep, (p, q, a, b, _, _) in zip(table.timesteps, table.coefficients.tolist(), strict=True):
        unconditional, conditional = predict(latents, torch.tensor([timestep]))
        guided = unconditional + config.guidance * (conditional - unconditional)
        latents = a * latents + b * (p * latents + q * guided)
    return latents.numpy()


def _split(model: EmoModel, values: Mapping[str, Tensor], noise: Tensor, steps: int) -> Way:
    modules = {module.spec.name: module for module in graph_modules(model)}
    table = solver_table(model.config.schedule, "ddim", steps)

    def graph(name: str, tensors: dict[str, Tensor]) -> None:
        spec = modules[name].spec
        outputs = modules[name](*(tensors[tensor.name] for tensor in spec.inputs))
        tensors.update({tensor.name: output for tensor, output in zip(spec.outputs, outputs, strict=True)})

    @torch.no_grad()
    def run() -> Array:
        tensors = {**values, "latents": noise, "x0_history": torch.zeros(2, *noise.shape)}
        graph("reference", tensors)
        graph("clip", tensors)
        for timestep, row in zip(table.timesteps, table.coefficients, strict=True):
            tensors["timestep"], tensors["coefficients"] = torch.tensor([timestep]), torch.tensor(row)
            graph("timestep", tensors)
            graph("step", tensors)
            tensors["latents"], tensors["x0_history"] = tensors["next_latents"], tensors["next_x0_history"]
        return tensors["latents"].numpy()

    return run


def _onnxruntime(backend: Backend, bundle: Bundle, values: Mapping[str, Tensor], noise: Tensor, steps: int) -> Way:
    graphs = {name: backend.open(bundle, name) for name in GRAPHS}
    reference, clip, step = (graphs[name] for name in ("reference", "clip", "step"))
    denoiser = Denoiser(backend, [step.spec])
    per_step = {*STEP_STATE, "coefficients", "time_embedding", "guidance_scale"}
    specs = [*reference.spec.inputs, *reference.spec.outputs, *clip.spec.inputs, *clip.spec.outputs]
    buffers = Buffers(backend, [*specs, *(tensor for tensor in step.spec.inputs if tensor.name not in per_step)])
    for name in values.keys() & buffers.keys():
        buffers[name].write(values[name].numpy())

    def run() -> Array:
        reference.bind(buffers).run()
        clip.bind(buffers).run()
        table = StepTables(backend, graphs["timestep"], bundle.config).step_table("ddim", ("step",) * steps)
        denoiser.bind({"step": step}, buffers, table)
        for _ in denoiser.slices(table, noise.numpy(), bundle.config.guidance, denoiser.finals[0]):
            pass
        return denoiser.finals[0].read().copy()

    return run


def measure(name: str, steps: int, rounds: int, threads: int, quick: bool) -> Comparison:
    """Export a small config into a temporary folder and compare."""
    model = build_model(small_config(name, quick), SEED)
    with tempfile.TemporaryDirectory() as folder:
        return compare(_exported(model, Path(folder)), model, steps, rounds, threads)


def _exported(model: EmoModel, folder: Path) -> Bundle:
    """The four graphs alone: tracing the autoencoder and the audio encoder would only take time."""
    modules = {module.spec.name: module for module in graph_modules(model) if module.spec.name in GRAPHS}
    specs = {name: module.spec for name, module in modules.items()}
    offers = {"variants": {BASE: Variant()}, "presets": {QUALITY: Preset()}, "default_preset": QUALITY}
    bundle = Bundle(folder, model.config, "float32", "float32", specs, **offers, files={}, provenance={}, parity=())
    bundle.graph_path("step").parent.mkdir()
    for name, module in modules.items():
        ir.save(trace(module), bundle.graph_path(name))
    return bundle


def table(results: Mapping[str, Comparison]) -> str:
    """Ratios of times, median (smallest … largest), as Markdown."""
    pairs = [f"{a} / {b}" for a, b in PAIRS]
    lines = [f"| config | {' | '.join(pairs)} | counted original / ours |", "|---|" + "---:|" * (len(pairs) + 1)]
    for name, result in results.items():
        cells = [f"{result.ratios[p]:.2f} ({' … '.join(f'{x:.2f}' for x in result.ranges[p])})" for p in pairs]
        shape = f"{name}, {result.frames} frames, {result.steps} steps"
        lines.append(f"| {shape} | {' | '.join(cells)} | {result.counted:.2f} |")
    return "\n".join(lines) + "\n"


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.split", description=SUMMARY)
    names = ("hallo-small", "emo-small")
    parser.add_argument("--config", choices=names, action="append", help="one of the two (both)")
    for name, default in (("steps", 4), ("rounds", 3), ("threads", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--quick", action="store_true", help="tiny networks, two steps, one round")
    add_outputs(parser)
    options = parser.parse_args(arguments)
    if min(options.steps, options.rounds, options.threads) < 1:
        parser.error("--steps, --rounds and --threads are 1 or more")
    steps, rounds = (2, 1) if options.quick else (options.steps, options.rounds)
    chosen = options.config or names
    results = {name: measure(name, steps, rounds, options.threads, options.quick) for name in chosen}
    publish({"benchmark": "split", "configs": results}, table(results), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
