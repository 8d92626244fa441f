"""How much work does the split save? Counted in multiply-adds at full size; nothing is computed.

Question
    How many multiply-adds does one clip take in the evaluation order of the public Hallo pipeline
    (:mod:`emo_rt.benchmarks.original`), and how many in ours (graphs ``reference``, ``clip``, ``timestep``, ``step``)?
    Of EchoMimic a clip is one window, and ``predict`` is its step.

Theory
    Let T be the tokens of an attention site, C its width, F the frames of a clip. Per step and site the original
    projects 2F·T reference tokens to keys and values, 4·F·T·C² multiply-adds; we do it once per portrait. It attends to
    own and reference tokens in both halves, 2F·2T·2T·C, and once more to own tokens in the unconditional half,
    F·2T·T·C; we keep F·2T·2T·C + F·2T·T·C, 60 % of it. Convolutions, feed-forward, own tokens' attention and temporal
    layers, four fifths of all work, change at every step and cannot be saved without changing the numbers: expect a
    total ratio well below 2, and large ratios only in single rows.

Counted
    Linear layers, convolutions and attention cores (QKᵀ and its product with V), one multiply and one add as 1 MAC, by
    torch's own formulas (``torch.utils.flop_counter``) on tensors of the meta device; no weights are needed. Not
    counted: norms, activations, the solver, the audio encoder (once per file on both sides), and of our graphs what
    depends on no input (the ReferenceNet's time embedding, face tokens of a zero embedding): runtimes fold it at load.
    What we compute once per portrait is charged to this one clip in full: a longer video pays less.

Expected
    A total ratio of 1.16 for both, and no row in which we do more.
    emo: 610 GMAC per frame, guidance half and step; VAE decode 1.26 TMAC per frame. The design's floor of 626 was
    estimated with reference and audio attention in both halves (+37.0 and +6.8: the unconditional half needs neither)
    and without motion rows and speed layers in the temporal modules (−28.3).

Command
    python -m emo_rt.benchmarks.work [--preset hallo|echomimic|emo|demo|tiny] [--steps 40]
                                     [--json FILE] [--markdown FILE]

The table is Markdown; the last line is JSON. ``--json`` and ``--markdown`` also write them to files.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from emo_rt.benchmarks.harness import add_outputs, publish
from emo_rt.benchmarks.original import REFERENCE_KV, THROWN_AWAY, OriginalClip
from emo_rt.export.graph_modules import GraphModule, graph_modules
from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.networks.plain import PlainInputs
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import AUDIO_REGIONS, GraphSpec
from emo_rt.model.families.registry import family_of

SUMMARY = (__doc__ or "").partition("\n")[0]

KV = r"to_[kv]$"

PARTS: tuple[tuple[str, str], ...] = (
    (f"^{REFERENCE_KV}/", "reference K/V"),
    (f"^{THROWN_AWAY}/", "reference attention of the unconditional half, thrown away"),
    (r"/reference_net\.", "ReferenceNet"),
    (r"/face_locator\.", "face locator"),
    (r"/(audio|face)_projector\.|/speed_encoder\.", "projectors of audio, face and speed"),
    (r"time_emb", "time embeddings"),
    (r"temporal_modules.*attn_speed\." + KV, "speed K/V"),
    (r"temporal_modules.* core$", "temporal attention cores"),
    (r"temporal_modules", "temporal linear layers"),
    (r"(attn2_\d|attn_audio)\." + KV, "audio K/V"),
    (r"attn2_\d|attn_audio|zero_conv", "audio attention without K/V"),
    (r"audio_modules", "audio modules without audio attention"),
    (r"^reference/.*attentions.*attn1\." + KV, "reference K/V"),
    (r"attentions.*attn1.* core$", "self-attention cores (Hallo: with the reference)"),
    (r"attentions.*attn1", "self-attention linear layers"),
    (r"attentions.*attn2\." + KV, "face-token K/V"),
    (r"attentions.*attn2", "face-token attention without K/V"),
    (r"attentions.*\.ff\.", "feed-forward"),
    (r"/backbone\.", "convolutions of the Backbone"),
)
"""Pattern of ``section/module``, and the part that its work belongs to. The first that fits counts. An attention core
is written ``section/module core``."""

CROSS = {"face-token K/V": "reference K/V", "face-token attention without K/V": "reference attention without K/V"}
"""EMO's reference attention sits where Hallo has its face-token attention."""


SHAPE_ONLY = (torch.ops.aten.new_zeros, torch.ops.aten.zeros_like)
"""Operators that take no values from their input."""


class MacCounter(TorchDispatchMode):
    """Counts multiply-adds by section and module.

    Work outside any leaf module is an attention core (or a weight used by hand): it counts for the leaf module that ran
    last, which is one of the projections of the same attention.
    """

    def __init__(self, model: nn.Module, variables: Iterable[Tensor] | None = None) -> None:
        """``variables``: count only what depends on one of them; runtimes fold the rest. ``None`` = count all."""
        super().__init__()
        self._folding = variables is not None
        for tensor in variables or ():
            tensor.is_variable = True  # type: ignore[attr-defined]
        self.counts: Counter[str] = Counter()
        self._section, self._leaf, self._inside = "", "", False
        self._leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
        self._hooks = ExitStack()

    def __enter__(self) -> MacCounter:
        for name, module in self._leaves:
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv1d):
                self._hooks.enter_context(_removing(module.register_forward_pre_hook(partial(self._enter, name))))
                self._hooks.enter_context(_removing(module.register_forward_hook(self._leave)))
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        super().__exit__(*exc)
        self._hooks.close()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        folded = func._overloadpacket in SHAPE_ONLY or not any(map(_is_variable, tree_leaves((args, kwargs))))
        if self._folding and folded:
            return output
        for tensor in tree_leaves(output):
            tensor.is_variable = True
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None:
            name = self._leaf if self._inside else f"{self._leaf} core"
            self.counts[f"{self._section}/{name}"] += formula(*args, **(kwargs or {}), out_val=output) // 2
        return output

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count under ``name`` within."""
        outer, self._section = self._section, name
        try:
            yield
        finally:
            self._section = outer

    def _enter(self, name: str, *_: Any) -> None:
        self._leaf, self._inside = name, True

    def _leave(self, *_: Any) -> None:
        self._inside = False


def _is_variable(value: Any) -> bool:
    return isinstance(value, Tensor) and hasattr(value, "is_variable")


@contextmanager
def _removing(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


RUNS = {"reference": 1, "clip": 1, "timestep": None, "step": None}
"""Roles of the graphs that are counted, and how often each runs for a clip; ``None`` = once a step."""


@dataclass(frozen=True)
class Row:
    """One part of the work of a clip, in multiply-adds."""

    part: str
    """What it is."""
    original: int
    """In the original's order."""
    ours: int
    """In our split."""

    @property
    def ratio(self) -> float | None:
        """How many times as much the original does; ``None`` where we do nothing."""
        return self.original / self.ours if self.ours else None


@dataclass(frozen=True)
class Work:
    """The work of one clip."""

    rows: tuple[Row, ...]
    """By part."""
    total: Row
    """All parts together."""
    graphs: dict[str, int]
    """Multiply-adds of one run of each large graph."""
    vae_decode: int
    """Of one frame."""


@dataclass(frozen=True)
class Report:
    """What goes into the JSON line."""

    benchmark: str
    preset: str
    steps: int
    frames: int
    rows: dict[str, tuple[int, int]]
    """Part → in the original's order, in our split."""
    ratio: float | None
    graphs: dict[str, int]
    step_per_frame_and_half: float
    vae_decode_per_frame: int


@dataclass(frozen=True)
class Counts:
    """Multiply-adds by section and module, of one run of everything."""

    original_once: Mapping[str, int]
    """The original's order, what is done once a clip."""
    original_step: Mapping[str, int]
    """What is done at every step."""
    graphs: Mapping[str, Mapping[str, int]]
    """By role, our graphs."""
    vae: Mapping[str, int]
    """``encode`` and ``decode`` of one frame."""


def count_work(config: ModelConfig, steps: int) -> Work:
    """All parts of one clip of ``steps`` steps."""
    counts = counted(config)
    original = parts_of(config, counts.original_once) + parts_of(config, counts.original_step, steps)
    ours: Counter[str] = Counter()
    for role, runs in RUNS.items():
        ours += parts_of(config, counts.graphs[role], steps if runs is None else runs)
    graphs, vae = {role: sum(found.values()) for role, found in counts.graphs.items()}, counts.vae
    pictures = 1 + sum(len(call.frames) for call in family_of(config).carry)
    both = {"VAE encode": vae["encode"] * pictures, "VAE decode": vae["decode"] * config.frames}
    order = [*dict.fromkeys(name for _, part in PARTS for name in (CROSS.get(part, part), part)), *both]
    parts = [Row(part, (original | both).get(part, 0), (ours | both).get(part, 0)) for part in order]
    rows = tuple(row for row in parts if row.original or row.ours)
    total = Row("total", sum(row.original for row in rows), sum(row.ours for row in rows))
    return Work(rows, total, graphs, vae["decode"])


@cache
@torch.no_grad()
def counted(config: ModelConfig) -> Counts:
    """Run everything once on the meta device: seconds, however few the steps."""
    return Counts(*_count_original(_on_meta(config)), *count_graphs(config))


@cache
@torch.no_grad()
def count_graphs(config: ModelConfig) -> tuple[Mapping[str, Mapping[str, int]], Mapping[str, int]]:
    """``graphs`` and ``vae`` of :class:`Counts`, without the original's order, which takes as long again."""
    model = _on_meta(config)
    modules = {module.spec.role: module for module in graph_modules(model)}
    graphs = {role: count_graph(modules[role]) if role in modules else Counter[str]() for role in RUNS}
    return graphs, _count_vae(model)


@cache
def _on_meta(config: ModelConfig) -> EmoModel:
    with torch.device("meta"):
        return build_model(config)


def _count_original(model: EmoModel) -> tuple[Counter[str], Counter[str]]:
    values = {tensor.name: tensor for tensor in _caller_inputs(model)}
    counter = MacCounter(model)
    with counter:
        clip = OriginalClip(model, plain_inputs(_meta(values.values())), counter.section)
        once, counter.counts = counter.counts, Counter()
        clip.predict(*_meta([values["latents"], values["timestep"]]).values())
    return once, counter.counts


def count_graph(module: GraphModule) -> Counter[str]:
    """Multiply-adds of one run of a graph, by section and module; the model is on the meta device."""
    inputs = _meta(module.spec.inputs).values()
    with MacCounter(module.model, inputs) as counter, counter.section(module.spec.name):
        module(*inputs)
    return counter.counts


def _count_vae(model: EmoModel) -> dict[str, int]:
    size, latent, channels = model.config.size, model.config.latent_size, model.config.vae.latent_channels
    with MacCounter(model) as encoder:
        vae_network.encode(model.vae, torch.empty(1, 3, size, size, device="meta"))
    with MacCounter(model) as decoder:
        vae_network.decode(model.vae, torch.empty(1, channels, latent, latent, device="meta"))
    return {"encode": sum(encoder.counts.values()), "decode": sum(decoder.counts.values())}


def parts_of(config: ModelConfig, counts: Mapping[str, int], runs: int = 1) -> Counter[str]:
    """Counts by section and module → by part, times ``runs``."""
    parts: Counter[str] = Counter()
    for name, count in counts.items():
        part = next(part for pattern, part in PARTS if re.search(pattern, name))
        parts[CROSS.get(part, part) if config.reference.mode == "cross" else part] += count * runs
    return parts


def _caller_inputs(model: EmoModel) -> list[Any]:
    """Inputs of the four graphs that no graph gives."""
    specs: list[GraphSpec] = [m.spec for m in graph_modules(model) if m.spec.role in ("reference", "clip", "step")]
    timestep = next(m.spec for m in graph_modules(model) if m.spec.name == "timestep")
    return [*(tensor for spec in specs for tensor in spec.inputs), *timestep.inputs]


def _meta(specs: Any) -> dict[str, Tensor]:
    return {t.name: torch.empty(t.shape, dtype=getattr(torch, t.dtype), device="meta") for t in specs}


def plain_inputs(values: Mapping[str, Tensor]) -> PlainInputs:
    """Inputs of the graphs by name → those of the plain formulation."""
    masks = {int(name.rpartition(".")[2]): value for name, value in values.items() if name.startswith("audio_mask.")}
    assert all(len(mask) == len(AUDIO_REGIONS) for mask in masks.values())
    optional = {name: values.get(name) for name in ("speed", "face_embedding", "motion_scale")}
    if "audio_tokens" in values and "audio_windows" not in values:  # windows: no motion frames, states as tokens
        values = {**values, "motion_latents": values["latents"][:0], "audio_windows": values["audio_tokens"][:, None]}
    required = {name: values[name] for name in ("portrait_latent", "face_mask", "motion_latents", "audio_windows")}
    return PlainInputs(**required, **optional, audio_masks=masks or None)  # type: ignore[arg-type]


def report(name: str, config: ModelConfig, steps: int, work: Work) -> tuple[str, Report]:
    """The Markdown table, and what goes into the JSON line."""
    total = work.total
    rows = [*work.rows, total]
    lines = [
        f"`{name}`: one clip of {config.frames} frames, {config.size}×{config.size}, {steps} steps, guidance on; GMAC",
        "",
        "| part | original | ours | ratio |",
        "|---|---:|---:|---:|",
        *(f"| {row.part} | {_giga(row.original)} | {_giga(row.ours)} | {_times(row.ratio)} |" for row in rows),
        f"| total per frame | {_giga(total.original / config.frames)} | {_giga(total.ours / config.frames)} | |",
    ]
    per_evaluation = work.graphs["step"] / config.frames / 2
    lines += [
        "",
        f"One `step` per frame and guidance half: {_giga(per_evaluation)} GMAC; VAE decode per frame: "
        f"{_giga(work.vae_decode)} GMAC.",
    ]
    result = Report(
        benchmark="work",
        preset=name,
        steps=steps,
        frames=config.frames,
        rows={row.part: (row.original, row.ours) for row in rows},
        ratio=total.ratio,
        graphs=work.graphs,
        step_per_frame_and_half=per_evaluation,
        vae_decode_per_frame=work.vae_decode,
    )
    return "\n".join(lines) + "\n", result


def _giga(count: float) -> str:
    value = count / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:,.0f}" if ratio >= 100 else f"{ratio:.3g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print the table and the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.work", description=SUMMARY)
    parser.add_argument("--preset", choices=("hallo", "echomimic", "emo", "demo", "tiny"), default="hallo")
    parser.add_argument("--steps", type=int, default=40)
    add_outputs(parser)
    options = parser.parse_args(arguments)
    if options.steps < 1:
        parser.error(f"--steps is {options.steps}; expected 1 or more")
    config = preset(options.preset)
    table, result = report(options.preset, config, options.steps, count_work(config, options.steps))
    publish(result, table, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
