"""One graph → one serialized engine. The only place that calls TensorRT's builder; it runs in the worker process."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_rt.device.tensorrt.gpus import current_gpu
from emo_rt.device.tensorrt.package import LogLine, TensorRT, load_package, problem
from emo_rt.device.tensorrt.plan import Profile
from emo_rt.engines.facts import EngineFacts, from_engine, from_log, from_network, wanted
from emo_rt.engines.memory import peak_bytes, reset_peak
from emo_rt.engines.monitor import BuildProgress, Progress, make_monitor
from emo_rt.engines.network import add_profile, parse
from emo_rt.engines.options import BuilderOptions
from emo_rt.engines.target import Target
from emo_rt.errors import BackendUnavailableError, EngineBuildError
from emo_rt.model.interface import FoundTensor

MIB = 1 << 20


@dataclass(frozen=True)
class Job:
    """What to compile."""

    package: str
    """With which package: ``tensorrt`` or ``tensorrt_rtx``."""
    file: Path
    """The ONNX file."""
    shapes: Mapping[str, Profile]
    """Ranges of dynamic shapes."""
    target: Target
    """For what."""
    options: BuilderOptions
    """How."""
    scratch: Path
    """New file that gets the plan."""


@dataclass(frozen=True)
class Compiled:
    """What is known of a serialized engine."""

    facts: EngineFacts
    """What TensorRT said."""
    tensors: tuple[FoundTensor, ...]
    """Inputs and outputs."""
    tensors_of: str
    """Whose they are: ``engine``, ``build log`` or ``network``."""
    attentions: tuple[str, ...]
    """Names of the graph's attention nodes."""
    peak_memory_bytes: int | None
    """Largest memory of the process during the build."""


def compile_graph(job: Job, progress: Progress | None) -> Compiled:
    """Build one engine and write it to ``job.scratch``, down to the disk.

    Raises :class:`EngineBuildError` with TensorRT's words.
    """
    reset_peak()
    package = load_package(job.package)
    with package.listen(wanted) as lines:
        builder = package.module.Builder(package.logger)
        network = parse(package, builder, job.file)
        config = _configure(job, package, builder)
        monitor = make_monitor(package, BuildProgress(progress))
        config.progress_monitor = monitor
        add_profile(builder, config, job.shapes)
        plan = builder.build_serialized_network(network.definition, config)
        if plan is None:
            raise EngineBuildError(f"{package.name} {package.version} cannot build {job.file}: {problem(lines)}")
        tensors = from_network(network.definition)
        facts = _examine(job, package, plan, lines)
    if (facts.numbers or {}).get("engines", 1) != 1:
        raise EngineBuildError(f"{job.file} became {(facts.numbers or {})['engines']} engines, expected one")
    _write(job.scratch, plan)
    tensors, tensors_of = (facts.tensors, facts.source) if facts.tensors else (tensors, "network")
    return Compiled(facts, tensors, tensors_of, network.attentions, peak_bytes())


def _configure(job: Job, package: TensorRT, builder: Any) -> Any:
    module, options = package.module, job.options
    config = builder.create_builder_config()
    config.builder_optimization_level = options.optimization_level
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
    if options.strip_weights:
        config.set_flag(module.BuilderFlag.STRIP_PLAN)
        config.set_flag(module.BuilderFlag.REFIT_IDENTICAL)  # plain REFIT has lost biases (release notes of 11.3)
    if package.is_rtx:
        # A CUDA graph cannot be captured over an engine that allocates memory of its own.
        config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)
        config.num_compute_capabilities = len(job.target.capabilities)
        for index, name in enumerate(job.target.capabilities):
            config.set_compute_capability(getattr(module.ComputeCapability, name.upper()), index)
    return config


def _examine(job: Job, package: TensorRT, plan: Any, lines: list[LogLine]) -> EngineFacts:
    """From the engine itself where a GPU can load it, else from the log."""
    logged = from_log(lines)
    if not _loads_here(job.target):
        return logged
    engine = package.runtime().deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineBuildError(f"the engine of {job.file} was built but does not load here: {problem(lines)}")
    return from_engine(package.module, engine, logged.numbers)


def _loads_here(target: Target) -> bool:
    try:
        return current_gpu().capability in target.capabilities
    except BackendUnavailableError:
        return False


def _write(path: Path, plan: Any) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o644)
    with open(handle, "wb") as file:
        file.write(memoryview(plan).cast("B"))
        file.flush()
        os.fsync(file.fileno())
