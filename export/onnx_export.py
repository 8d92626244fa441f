"""Trace the networks into ONNX graphs and write them, with everything a runtime needs, as a bundle."""

from __future__ import annotations

import contextlib
import copy
import logging
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
import torch

from emo_rt.checks import check
from emo_rt.errors import ExportError, MissingDependencyError, OutputError
from emo_rt.export.graph_modules import GraphModule, example_inputs, graph_module, graph_modules
from emo_rt.export.keep_fp32 import check_graphs, keep_in_fp32
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.parity import ParityRow, check_graph
from emo_rt.export.weights import WeightStore
from emo_rt.files import whole_folder
from emo_rt.model.bundle import GRAPHS_FOLDER, Bundle, write_manifest
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import OF_VARIANTS, GraphSpec
from emo_rt.model.families.registry import graph_specs
from emo_rt.model.interface import DYNAMIC, FoundTensor, interface_problem
from emo_rt.model.schema1 import standard_offers
from emo_rt.model.upgrade import refuse_used
from emo_rt.model.weight_files import name_by_content

OPSET = 23
"""ONNX operator set: the first with ``Attention``, which runtimes fuse."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class VariantSource:
    """Weights for a second way to step. All else of the bundle is the first model's."""

    load: Callable[[], EmoModel]
    """Gives the model, of the same configuration but for ``guidance``. Called when the first model's graphs are
    written: full-size weights need not be in memory twice."""
    guidance: tuple[bool, ...] = (False,)
    """Its step graphs: with guidance, without, or both."""
    roles: tuple[str, ...] = OF_VARIANTS
    """Of which it has graphs of its own."""


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportOptions:
    """How to write a bundle."""

    dtype: Literal["float32", "float16"] = "float32"
    """Arithmetic inside the networks. State (latents, x0, coefficients) is fp32 either way."""
    half_storage: bool = False
    """Store fp32 weights as fp16, widened at load: half the download."""
    guidance: tuple[bool, ...] = (True,)
    """Step graphs: with guidance, without, or both."""
    deep_cache: int | None = None
    """Also step graphs that take the inner blocks' result from an earlier step, see ``ModelConfig.deep_cache``;
    ``None`` = as the model's configuration says."""
    check: bool = True
    """Run every graph in ONNX Runtime and hold it against torch. Full-size graphs take minutes on a CPU."""
    source: str = "random weights"
    """Where the weights come from."""
    licence: str = "Apache-2.0"
    """Licence of the weights."""
    offers: Mapping[str, Any] | None = None
    """Variants, presets and default preset of the manifest; ``None`` = the standard ones."""
    keep_fp32: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Graph → nodes that compute in float32 where ``dtype`` is float16."""
    trained_on: Literal["drawings", "photographs"] | None = None
    """Kind of pictures that the model knows; a picture of the other kind is warned of. ``None`` = not said."""

    def __post_init__(self) -> None:
        check(self.dtype in ("float32", "float16"), "dtype", self.dtype, "'float32' or 'float16'")
        check(not self.keep_fp32 or self.dtype == "float16", "keep_fp32", self.keep_fp32, "nothing, with float32")
        check(
            0 < len(self.guidance) == len(set(self.guidance)), "guidance", self.guidance, "True, False or one of each"
        )


def export_bundle(
    model: EmoModel,
    target: Path | str,
    options: ExportOptions | None = None,
    report: Report = logger.info,
    variants: Mapping[str, VariantSource] | None = None,
) -> Bundle:
    """Write ``model`` as a bundle folder ``target``, which must not exist or be empty.

    ``model`` is converted in place to the wanted types. ``report`` gets one line per step. ``variants``: more weights
    to step with, by the name that ``options.offers`` gives them; ``model`` is without its weights afterwards. On any
    failure nothing is left. Raises :class:`ExportError` when a graph cannot be traced or differs from torch,
    :class:`OutputError` when the folder cannot be written.
    """
    options, target = options or ExportOptions(), Path(target)
    refuse_used(target)
    versions = _versions()
    if options.deep_cache is not None:
        model.config = replace(model.config, deep_cache=options.deep_cache)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(target) as folder:
            _write(_converted(model, options), folder, options, versions, report, variants or {})
    except OSError as exc:
        raise OutputError(f"cannot write {target}: {exc.strerror or exc}") from exc
    return Bundle.open(target)


def trace(module: GraphModule) -> ir.Model:
    """One graph module → an ONNX model whose inputs and outputs are exactly those of its GraphSpec."""
    spec, examples = module.spec, example_inputs(module.spec, module.model.config)
    dynamic = None
    if any(isinstance(size, str) for tensor in spec.inputs for size in tensor.shape):
        dynamic = (tuple(_dynamic(tensor.shape) for tensor in spec.inputs),)
    with _quiet(), torch.no_grad(), _without_idle_parts(module):
        try:
            program = torch.onnx.export(
                module,
                tuple(examples[tensor.name] for tensor in spec.inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=[tensor.name for tensor in spec.outputs],
                dynamic_shapes=dynamic,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as exc:
            raise ExportError(f"graph {spec.name} cannot be exported: {exc}") from exc
    assert program is not None
    model = program.model
    _check_interface(model, module)
    _strip(model)
    return model


def _write(
    model: EmoModel,
    folder: Path,
    options: ExportOptions,
    versions: dict[str, str],
    report: Report,
    variants: Mapping[str, VariantSource],
) -> None:
    """``model`` is in its types already."""
    graphs, config = folder / GRAPHS_FOLDER, model.config
    graphs.mkdir()
    writer = _GraphWriter(graphs, options, report)
    modules = graph_modules(model, options.guidance)
    own = [spec for name, source in variants.items() for spec in _specs_of(name, source, config, options.dtype)]
    check_graphs(options.keep_fp32, [spec.name for spec in (*(module.spec for module in modules), *own)])
    writer.write(modules)
    if variants:
        model.to("meta")  # whoever holds it, its weights are not in memory beside those that come
    for name, source in variants.items():
        report(f"reading the weights of the variant {name}")
        writer.write(_modules_of(name, source, options, config))
    name_by_content(graphs)
    manifest: dict[str, Any] = {
        "config": config.to_dict(),
        "dtype": options.dtype,
        "weights": "float16" if options.half_storage else options.dtype,
        "graphs": {spec.name: spec.to_dict() for spec in writer.specs},
        "provenance": _provenance(options, versions),
        "parity": [row.to_dict() for row in writer.rows],
        **(options.offers or standard_offers()),
    }
    write_manifest(folder, manifest)


class _GraphWriter:
    """Writes graphs one after the other; they share the weights that are the same."""

    def __init__(self, folder: Path, options: ExportOptions, report: Report) -> None:
        self._folder, self._options, self._report = folder, options, report
        self._store = WeightStore(folder, options.half_storage)
        self.specs: list[GraphSpec] = []
        self.rows: list[ParityRow] = []
        """How far each graph is from torch, where that is asked for."""

    def write(self, modules: Iterable[GraphModule]) -> None:
        """Trace the modules, and write graphs and weights."""
        for module in modules:
            name, path = module.spec.name, self._folder / f"{module.spec.name}.onnx"
            self._report(f"exporting {name}")
            traced = trace(module)
            keep_in_fp32(traced, name, self._options.keep_fp32.get(name, ()))
            self._store.move_out(traced, name)
            ir.save(traced, path)
            self.specs.append(module.spec)
            del traced
            if self._options.check:
                self.rows += check_graph(module, path)


def _modules_of(name: str, source: VariantSource, options: ExportOptions, config: ModelConfig) -> list[GraphModule]:
    """The graphs that a variant has of its own. Raises :class:`ExportError` for another configuration."""
    model = _converted(source.load(), options)
    if replace(model.config, guidance=config.guidance) != config:
        raise ExportError(f"the weights of the variant {name} are not of the same sizes; export them by themselves")
    return [graph_module(model, spec) for spec in _specs_of(name, source, config, options.dtype)]


def _specs_of(name: str, source: VariantSource, config: ModelConfig, dtype: str) -> list[GraphSpec]:
    shared = graph_specs(config, dtype, source.guidance)
    return [replace(s, name=f"{s.name}_{name}", variant=name) for s in shared if s.role in source.roles]


def _converted(model: EmoModel, options: ExportOptions) -> EmoModel:
    """The model in its types, in place; wav2vec stays in fp32. It runs once per window, and takes 0.2 GB more so."""
    if options.half_storage:
        model = model.half()  # rounds once, here: what torch then computes in fp32 is what the bundle computes
    heard = copy.deepcopy(model.audio_encoder).float()
    model = model.to(getattr(torch, options.dtype))
    model.audio_encoder = heard
    return model


def _versions() -> dict[str, str]:
    """What the manifest will name. Asked before the first graph: an export takes minutes.

    Raises :class:`MissingDependencyError` for a package that has no metadata.
    """
    packages = ("emo_rt", "torch", "onnx", "onnx_ir", "onnxscript", "diffusers", "transformers")
    try:
        versions = {name: metadata.version(name) for name in packages}
    except metadata.PackageNotFoundError as exc:
        raise MissingDependencyError(f"{exc.name} is not installed as a package; pip install 'emo_rt[export]'") from exc
    return {"python": platform.python_version(), **versions}


def _provenance(options: ExportOptions, versions: dict[str, str]) -> dict[str, Any]:
    return {
        "source": options.source,
        "licence": options.licence,
        "command": _command(sys.argv),
        **({"keep_fp32": {graph: [*names] for graph, names in options.keep_fp32.items()}} if options.keep_fp32 else {}),
        **({"trained_on": options.trained_on} if options.trained_on else {}),
        "versions": versions,
    }


def _command(arguments: Sequence[str]) -> str:
    """The command line that made a bundle. Of absolute paths only the last part: a bundle says nothing about folders
    and users of the machine that it was made on."""
    if Path(arguments[0]).stem != "emo-rt":
        return "export_bundle(…)"
    return " ".join(["emo-rt", *(re.sub(r"(^|=)[/~][^=]*/([^/=]+)/?$", r"\1\2", word) for word in arguments[1:])])


def _dynamic(shape: Sequence[int | str]) -> dict[int, Any]:
    return {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(shape) if isinstance(size, str)}


def _check_interface(model: ir.Model, module: GraphModule) -> None:
    """The graph takes and gives exactly what the spec says: a tensor that was folded away is a mistake."""
    name = module.spec.name
    found = [_found(value, True) for value in model.graph.inputs] + [_found(v, False) for v in model.graph.outputs]
    problem = interface_problem(module.spec, found)
    if problem is not None:
        raise ExportError(f"graph {name} does not have the tensors of its spec: {problem}")
    unread = [value.name for value in model.graph.inputs if not value.uses()]
    constant = [value.name for value in model.graph.outputs if value.producer() is None]
    if unread or constant:
        raise ExportError(f"graph {name} does not read its inputs {unread}; its outputs {constant} depend on nothing")


def _found(value: ir.Value, is_input: bool) -> FoundTensor:
    shape = tuple(size if isinstance(size, int) else DYNAMIC for size in (value.shape or ()))
    return FoundTensor(value.name or "", is_input, value.dtype.numpy().name if value.dtype else "?", shape)


def _strip(model: ir.Model) -> None:
    """Drop what the tracer noted for debugging: stack traces with paths of the exporting machine."""
    model.metadata_props.clear()
    model.doc_string = None
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


@contextlib.contextmanager
def _without_idle_parts(module: GraphModule) -> Iterator[None]:
    """Only the parts of the model that the graph computes with: what torch.export takes grows with the square of the
    number of parameters that it is shown."""
    whole = module.model
    module.model = copy.copy(whole)
    module.model._modules = {name: part for name, part in whole.named_children() if name in module.parts}
    try:
        yield
    finally:
        module.model = whole


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's chatter about absent torchvision and skipped folding is not for our users."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
