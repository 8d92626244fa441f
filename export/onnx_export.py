"""Trace the networks into ONNX graphs and write them, with everything a runtime needs, as a bundle."""

from __future__ import annotations

import contextlib
import copy
import logging
import platform
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir
import torch

from emo_rt.checks import check
from emo_rt.errors import ExportError, MissingDependencyError, OutputError
from emo_rt.export.graph_modules import GraphModule, example_inputs, graph_modules
from emo_rt.export.keep_fp32 import check_graphs, keep_in_fp32
from emo_rt.export.networks.model import EmoModel
from emo_rt.export.parity import ParityRow, check_graph
from emo_rt.export.weights import WeightStore
from emo_rt.files import whole_folder
from emo_rt.model.bundle import GRAPHS_FOLDER, Bundle, write_manifest
from emo_rt.model.interface import DYNAMIC, FoundTensor, interface_problem
from emo_rt.model.schema1 import standard_offers
from emo_rt.model.upgrade import refuse_used
from emo_rt.model.weight_files import name_by_content

OPSET = 23
"""ONNX operator set: the first with ``Attention``, which runtimes fuse."""

Report = Callable[[str], None]

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
    model: EmoModel, target: Path | str, options: ExportOptions | None = None, report: Report = logger.info
) -> Bundle:
    """Write ``model`` as a bundle folder ``target``, which must not exist or be empty.

    ``model`` is converted in place to the wanted types. ``report`` gets one line per step. On any failure nothing is
    left. Raises :class:`ExportError` when a graph cannot be traced or differs from torch, :class:`OutputError` when the
    folder cannot be written.
    """
    options, target = options or ExportOptions(), Path(target)
    refuse_used(target)
    versions = _versions()
    if options.deep_cache is not None:
        model.config = replace(model.config, deep_cache=options.deep_cache)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(target) as folder:
            _write(model, folder, options, versions, report)
    except OSError as exc:
        raise OutputError(f"cannot write {target}: {exc.strerror or exc}") from exc
    return Bundle.open(target)


def trace(module: GraphModule) -> ir.Model:
    """One graph module → an ONNX model whose inputs and outputs are exactly those of its GraphSpec."""
    spec, examples = module.spec, example_inputs(module.spec, module.model.config)
    dynamic = None
    if any(isinstance(size, str) for tensor in spec.inputs for size in tensor.shape):
        dynamic = (tuple(_dynamic(tensor.shape) for tensor in spec.inputs),)
    with _quiet(), torch.no_grad():
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


def _write(model: EmoModel, folder: Path, options: ExportOptions, versions: dict[str, str], report: Report) -> None:
    graphs = folder / GRAPHS_FOLDER
    graphs.mkdir()
    store = WeightStore(graphs, options.half_storage)
    if options.half_storage:
        model = model.half()  # rounds once, here: what torch then computes in fp32 is what the bundle computes
    model = _converted(model, getattr(torch, options.dtype))
    rows: list[ParityRow] = []
    modules = graph_modules(model, options.guidance)
    check_graphs(options.keep_fp32, [module.spec.name for module in modules])
    for module in modules:
        report(f"exporting {module.spec.name}")
        traced = trace(module)
        keep_in_fp32(traced, module.spec.name, options.keep_fp32.get(module.spec.name, ()))
        store.move_out(traced, module.spec.name)
        ir.save(traced, graphs / f"{module.spec.name}.onnx")
        del traced
        if options.check:
            rows += check_graph(module, graphs / f"{module.spec.name}.onnx")
    name_by_content(graphs)
    manifest: dict[str, Any] = {
        "config": model.config.to_dict(),
        "dtype": options.dtype,
        "weights": "float16" if options.half_storage else options.dtype,
        "graphs": {module.spec.name: module.spec.to_dict() for module in modules},
        "provenance": _provenance(options, versions),
        "parity": [row.to_dict() for row in rows],
        **(options.offers or standard_offers()),
    }
    write_manifest(folder, manifest)


def _converted(model: EmoModel, dtype: torch.dtype) -> EmoModel:
    """The model in ``dtype``, in place; wav2vec stays in fp32. It runs once per window, and takes 0.2 GB more so."""
    heard = copy.deepcopy(model.audio_encoder).float()
    model = model.to(dtype)
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
