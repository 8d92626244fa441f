"""A TensorRT engine beside float32: every reason why it cannot be compared is found before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from emo_rt.device.tensorrt.gpus import current_gpu
from emo_rt.device.tensorrt.graph import check_engine, load_engine
from emo_rt.device.tensorrt.package import TensorRT, load_package
from emo_rt.device.tensorrt.plan import Plan, PlanKey, plans_in, stale_reason
from emo_rt.engines.facts import EngineFacts, from_engine
from emo_rt.errors import (
    BackendError,
    BackendUnavailableError,
    EngineIntegrityError,
    EngineStaleError,
    MissingDependencyError,
)
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array

SHOWN = 3
"""Kinds of layers in a report."""


def find_engine(bundle: Bundle, graph: str, file: Path) -> Plan:
    """The engine in ``file``, vouched for by the JSON file beside it. Needs no GPU.

    Raises :class:`EngineStaleError` where there is no such file, or where it is of another graph, bundle or version of
    TensorRT; :class:`EngineIntegrityError` where it is no engine that ``emo-rt build`` wrote, or was changed since.
    """
    if not file.is_file():
        raise EngineStaleError(f"there is no engine {file}; `emo-rt build --graphs {graph}` builds one")
    plan = next((one for one in plans_in(file.resolve().parent) if one.path.name == file.resolve().name), None)
    if plan is None:
        raise EngineIntegrityError(
            f"{file} is not an engine that emo-rt built: no JSON file beside it vouches for it; a plan is native code, "
            "and is loaded only so"
        )
    _refuse_stale(bundle, graph, plan, load_package(plan.record.key.package))
    plan.read()
    return plan


def against_engine(bundle: Bundle, graph: str, feed: Mapping[str, Array], file: Path) -> str:
    """Relative error of each output of a TensorRT engine against float32.

    Raises as :func:`find_engine` does; :class:`BackendUnavailableError` where there is no GPU, :class:`BackendError`
    where TensorRT refuses the engine or it does not take and give what the graph does.
    """
    plan = find_engine(bundle, graph, file)
    package = load_package(plan.record.key.package)
    os.environ["POLYGRAPHY_USE_TENSORRT_RTX"] = "1" if package.is_rtx else "0"
    try:
        from polygraphy.backend.trt import TrtRunner  # type: ignore[import-untyped]
        from polygraphy.exception import PolygraphyException  # type: ignore[import-untyped]

        from emo_rt.engines.layers import output_errors
    except ImportError as exc:
        raise MissingDependencyError(f"comparing engines needs {exc.name}; install emo_rt[engines,cpu]") from exc
    _require_gpu(bundle, graph, plan, package)
    engine = load_engine(package, package.runtime(), plan, bundle)
    check_engine(engine, bundle.graphs[graph], package)
    try:
        errors = output_errors(bundle.graph_path(graph), feed, TrtRunner(engine))
    except PolygraphyException as exc:
        raise BackendError(f"{package.name} {package.version} cannot run {file}: {' '.join(str(exc).split())}") from exc
    layers = layers_text(from_engine(package.module, engine, None))
    return "\n".join([f"{file}, {layers}, against float32:", *(f"  {name}: {e:.1e}" for name, e in errors.items())])


def layers_text(facts: EngineFacts) -> str:
    """How many layers an engine has, and the most frequent kinds: ``12 layers (gemm 7, kgen 5)``."""
    kinds: dict[str, int] = {}
    for layer in facts.layers:
        kinds[layer.kind] = kinds.get(layer.kind, 0) + 1
    return _counted(len(facts.layers), kinds)


def _counted(layers: int | None, kinds: Mapping[str, int]) -> str:
    most = sorted(kinds.items(), key=lambda one: -one[1])[:SHOWN]
    return f"{layers} layers ({', '.join(f'{kind} {number}' for kind, number in most if kind)})"


def _refuse_stale(
    bundle: Bundle, graph: str, plan: Plan, package: TensorRT, gpu: tuple[str, str] | None = None
) -> None:
    """Raise :class:`EngineStaleError` for another graph, content or version; with ``gpu``, its name and capability, for
    another GPU, too."""
    built = plan.record.key
    name, capabilities = (built.gpu, built.capabilities) if gpu is None else (gpu[0], (gpu[1],))
    reason = stale_reason(plan.record, PlanKey.of(bundle, graph, package, capabilities, name))
    if reason is not None:
        raise EngineStaleError(f"{plan.path} cannot be compared with graph {graph}: {reason}")


def _require_gpu(bundle: Bundle, graph: str, plan: Plan, package: TensorRT) -> None:
    """Raise :class:`BackendUnavailableError` without a GPU, :class:`EngineStaleError` where it is another kind."""
    report = plan.record.report
    try:
        gpu = current_gpu()
    except BackendUnavailableError as exc:
        raise BackendUnavailableError(
            f"{plan.path} is an engine of graph {graph}, {_counted(report['layers'], report['kinds'])}, for "
            f"{plan.record.key.target}; its outputs can be compared only where there is such a GPU: {exc}"
        ) from exc
    _refuse_stale(bundle, graph, plan, package, (gpu.name, gpu.capability))
