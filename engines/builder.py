"""A bundle's graphs → engines on disk: what is up to date stays, the rest is built, one after the other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from emo_rt.checks import check
from emo_rt.device.tensorrt.package import TensorRT, load_package
from emo_rt.device.tensorrt.plan import Plan, PlanKey, PlanRecord, build_folder, stale_reason
from emo_rt.engines.compile import Compiled, Job
from emo_rt.engines.interface import check_interface
from emo_rt.engines.lock import BuildLock
from emo_rt.engines.monitor import Progress
from emo_rt.engines.options import BuildRequest
from emo_rt.engines.process import BuilderProcess
from emo_rt.engines.report import make_report
from emo_rt.engines.store import make_folder, plan_file, plan_for, put_plan, scratch_file
from emo_rt.engines.target import Target, resolve_target
from emo_rt.errors import Cancelled, EngineIntegrityError
from emo_rt.files import sha256_of
from emo_rt.model.bundle import Bundle
from emo_rt.version import __version__

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hooks:
    """How a build talks to its caller."""

    report: Callable[[str], None] = logger.info
    """Gets one line per event."""
    progress: Callable[[str], Progress | None] = lambda _: None
    """Graph → what is told about every step of its build; ``None``: nothing."""
    stop: threading.Event = field(default_factory=threading.Event)
    """Set it to end the build with :class:`Cancelled`."""


@dataclass(frozen=True)
class Built:
    """An engine that is up to date now."""

    plan: Plan
    """The plan."""
    is_new: bool
    """Whether it was built by this call."""


def build_engines(bundle: Bundle, request: BuildRequest | None = None, hooks: Hooks | None = None) -> list[Built]:
    """Build the engines of an opened bundle that are absent or stale, and say why for each.

    Raises :class:`ConfigError` for a wrong option, :class:`MissingDependencyError` without TensorRT,
    :class:`BackendUnavailableError` without the GPU that the target needs, :class:`EngineBuildError` when TensorRT
    refuses, :class:`OutputError` when the folder cannot be written, :class:`EngineIntegrityError` when others can write
    it, :class:`Cancelled`. Engines that were finished before stay; nothing is half-written.
    """
    request, hooks = request or BuildRequest(), hooks or Hooks()
    graphs = _graphs(bundle, request)
    package = load_package(request.package)
    target = resolve_target(request.target, package)
    folder = build_folder(bundle, request.cache)
    make_folder(folder)
    with BuildLock(folder, hooks.report, hooks.stop), BuilderProcess(hooks.stop) as process:
        build = _Build(bundle, package, target, folder, request, hooks, process)
        return [build.graph(name) for name in graphs]


@dataclass(frozen=True)
class _Build:
    bundle: Bundle
    package: TensorRT
    target: Target
    folder: Path
    request: BuildRequest
    hooks: Hooks
    process: BuilderProcess

    def graph(self, name: str) -> Built:
        """Build one graph, unless its engine is up to date."""
        if self.hooks.stop.is_set():
            raise Cancelled("the build was stopped; engines that were finished before stay")
        options = self.request.options.to_key()
        key = PlanKey.of(self.bundle, name, self.package, self.target.capabilities, self.target.gpu, options)
        found = plan_for(self.folder, key)
        reason = self._reason(found, key)
        if found is not None and reason is None:
            self.hooks.report(f"{name}: up to date")
            return Built(found, is_new=False)
        self.hooks.report(f"{name}: building for {key.target}, because {reason}")
        scratch = scratch_file(self.folder, key)
        try:
            start = time.perf_counter()
            compiled = self._compile(key, scratch)
            return Built(self._put(key, compiled, scratch, time.perf_counter() - start), is_new=True)
        finally:
            scratch.unlink(missing_ok=True)

    def _reason(self, found: Plan | None, key: PlanKey) -> str | None:
        if found is None:
            return "there is no engine yet"
        if self.request.force:
            return "that was asked for"
        stale = stale_reason(found.record, key)
        if stale is not None:
            return stale
        try:
            found.read()
        except EngineIntegrityError as exc:
            return str(exc)
        return None

    def _compile(self, key: PlanKey, scratch: Path) -> Compiled:
        file = self.bundle.graph_path(key.graph).resolve()
        job = Job(self.package.name, file, key.shapes, self.target, self.request.options, scratch.resolve())
        compiled = self.process.compile(job, self.hooks.progress(key.graph))
        check_interface(self.bundle.graphs[key.graph], compiled.tensors)
        return compiled

    def _put(self, key: PlanKey, compiled: Compiled, scratch: Path, seconds: float) -> Plan:
        digest = sha256_of(scratch)
        record = PlanRecord(
            key=key,
            file=plan_file(key, digest),
            sha256=digest,
            size_bytes=scratch.stat().st_size,
            emo_rt=__version__,
            seconds=round(seconds, 3),
            peak_memory_bytes=compiled.peak_memory_bytes,
            report=asdict(make_report(compiled.facts, compiled.tensors_of, compiled.attentions)),
        )
        return put_plan(self.folder, record, scratch)


def _graphs(bundle: Bundle, request: BuildRequest) -> tuple[str, ...]:
    if request.graphs is None:
        return tuple(bundle.graphs)
    known = len(request.graphs) > 0 and set(request.graphs) <= set(bundle.graphs)
    check(known, "graphs", ", ".join(request.graphs), f"of {', '.join(bundle.graphs)} one or several")
    return tuple(dict.fromkeys(request.graphs))
