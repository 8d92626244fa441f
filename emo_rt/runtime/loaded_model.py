"""A loaded model: a bundle with its graphs opened, and what is run once per portrait or per audio window."""

from __future__ import annotations

import copy
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from types import TracebackType

import numpy as np

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffers
from emo_rt.errors import BundleError, ClosedError, InputError
from emo_rt.model.agreement import check_agreement
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import OF_VARIANTS, Array, TensorSpec
from emo_rt.model.families.registry import family_of
from emo_rt.model.options import AnimateOptions, ResolvedOptions
from emo_rt.model.resolve import resolve, step_graphs
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.gpu_memory import check_limit, check_loading
from emo_rt.runtime.step_tables import StepTable, StepTables

AUDIO_MASK = "audio_mask."
"""How the names of ``step``'s per-portrait inputs begin."""


class LoadedModel:
    """Owns the opened graphs. A context manager; :meth:`close` is safe twice."""

    def __init__(self, bundle: Bundle, backend: Backend, memory_limit: float | None = None) -> None:
        """``memory_limit``: GB of a GPU that a run may take. Raises :class:`ConfigError` where none can do with it."""
        self.bundle, self.backend = bundle, backend
        self._memory_limit = memory_limit
        self.family = family_of(bundle.config)
        """What this checkpoint's family does in a way of its own."""
        self._lock = threading.Lock()
        self._opening = {name: threading.Lock() for name in bundle.graphs}
        """One per graph: a graph takes seconds to open, and the others need not wait for it."""
        self._closed = threading.Event()
        self._config = bundle.config
        self._stream: LoadedModel | None = None
        try:
            _check_complete(bundle)
            check_agreement(bundle)
            if memory_limit is not None:
                check_loading(bundle, backend.graph_memory, memory_limit)
            names = [name for name, graph in bundle.graphs.items() if not graph.is_on_demand]
            self._graphs = {name: backend.open(bundle, name) for name in names}
            self._tables = {
                variant: StepTables(backend, self.serving("timestep", variant), bundle.config)
                for variant in bundle.variants
            }
        except BaseException:
            backend.close()
            raise

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model; of :meth:`for_run`, that of clip after clip."""
        return self._config

    def for_run(self, options: AnimateOptions) -> LoadedModel:
        """This model as a run with these options sees it: itself, or a view that makes clip after clip. All views are
        closed with it, and share its graphs. Raises :class:`ConfigError` where it has no such view."""
        if not options.causal:
            return self
        with self._lock:
            if self._stream is None:
                self.family.check_heeds({"causal": True})
                config = self.family.stream_config()
                assert config is not None, "a family that heeds it has one"
                self._stream = copy.copy(self)
                self._stream._config, self._stream.family = config, family_of(config)
            return self._stream

    @property
    def views(self) -> tuple[LoadedModel, ...]:
        """Itself, and the view of :meth:`for_run` once there is one."""
        return (self,) if self._stream is None else (self, self._stream)

    def graph(self, name: str) -> Graph:
        """An opened graph. Raises :class:`BundleError` if the bundle has none of that name."""
        if name not in self.bundle.graphs:
            raise BundleError(f"the bundle {self.bundle.path} has no graph {name!r}; export it again")
        with self._opening[name]:
            opened = self._opened(name)
            return opened if opened is not None else self._open(name)

    def serving(self, role: str, variant: str | None = None) -> Graph:
        """The opened graph for a role, the variant's own if it has one; ``None`` = the default preset's variant."""
        chosen = self.default_variant if variant is None else variant
        return self.graph(self.bundle.find(role, chosen) or role)

    @property
    def default_variant(self) -> str:
        """Variant of the default preset."""
        return self.bundle.presets[self.bundle.default_preset].variant

    def _opened(self, name: str) -> Graph | None:
        with self._lock:
            if self._closed.is_set():
                raise ClosedError("the animator was closed; load it again")
            return self._graphs.get(name)

    def _open(self, name: str) -> Graph:
        graph = self.backend.open(self.bundle, name)
        with self._lock:
            if not self._closed.is_set():
                self._graphs[name] = graph
                return graph
        graph.close()
        raise ClosedError("the animator was closed; load it again")

    def resolve(self, options: AnimateOptions) -> ResolvedOptions:
        """The options with the model's own in the place of what is open.

        Raises :class:`ConfigError`, also where the model has not the step graphs or the solver not the steps. Nothing
        is opened or run.
        """
        chosen = resolve(options, self.bundle, self.family)
        solver_table(self.config.schedule, chosen.solver, len(step_graphs(chosen, self.bundle)))
        return chosen

    def check(self, options: AnimateOptions) -> None:
        """Raise what :meth:`resolve` raises, :class:`ConfigError` where the GPU has not the memory, and
        :class:`ClosedError`."""
        self._opened("timestep")
        self.resolve(options)
        if self._memory_limit is not None:
            with self._lock:
                opened = [name for name in self._graphs if self.bundle.graphs[name].is_on_demand]
            check_limit(self.bundle, options, self.backend.graph_memory, self._memory_limit, opened)

    def open_graphs(self, options: AnimateOptions) -> None:
        """Open the step graphs that a run needs. The first time that takes seconds."""
        for name in sorted(set(step_graphs(self.resolve(options), self.bundle))):
            self.graph(name)

    def step_table(self, options: AnimateOptions) -> tuple[StepTable, float]:
        """The steps of a run, and its guidance scale. Opens the graphs. Raises :class:`ConfigError`."""
        chosen = self.resolve(options)
        self.open_graphs(options)
        table = self._tables[chosen.variant].step_table(chosen.solver, step_graphs(chosen, self.bundle))
        return table, chosen.guidance

    def portrait_tensors(self, variant: str | None = None) -> list[TensorSpec]:
        """What :meth:`portrait_features` gives."""
        encoder, reference = self.serving("vae_encoder").spec, self.serving("reference", variant).spec
        return [*encoder.outputs, *reference.outputs, *self._audio_masks()]

    def reference_graph(self, variant: str | None = None) -> str:
        """Name of the graph that makes a variant's portrait features; ``None`` = the default preset's variant."""
        return self.bundle.find("reference", self.default_variant if variant is None else variant) or "reference"

    def kept_inputs(self) -> list[TensorSpec]:
        """What an avatar keeps beside its features and pictures, to make the features of other variants of. Nothing
        where all variants have the same."""
        if len({self.reference_graph(variant) for variant in self.bundle.variants}) == 1:
            return []
        latent = {tensor.name for tensor in self.serving("vae_encoder").spec.outputs}
        taken = [tensor for tensor in self.serving("reference").spec.inputs if tensor.name not in latent]
        return [*taken, *self._audio_masks()]

    def _audio_masks(self) -> list[TensorSpec]:
        step = next(graph for graph in self.bundle.graphs.values() if graph.role == "step")
        return [tensor for tensor in step.inputs if tensor.name.startswith(AUDIO_MASK)]

    def portrait_features(
        self, pixels: Array, inputs: Mapping[str, Array], variant: str | None = None
    ) -> Generator[None, None, Buffers]:
        """Run ``vae_encoder`` and ``reference`` on (1, 3, size, size) ``pixels`` in −1 … 1 and on ``inputs`` by name.

        In slices, one per graph. ``inputs``: what else ``reference`` takes, and the audio masks that ``step`` takes.
        ``variant``: whose ``reference``; ``None`` = the default preset's variant's.
        The result holds those masks, ``portrait_latent`` and all that ``reference`` gives. Raises :class:`InputError`
        where an input is missing, unknown or of another shape.
        """
        encoder, reference = self.serving("vae_encoder"), self.serving("reference", variant)
        masks = self._audio_masks()
        latent = {tensor.name for tensor in encoder.spec.outputs}
        wanted = [*encoder.spec.inputs, *(tensor for tensor in reference.spec.inputs if tensor.name not in latent)]
        values = {"pixels": pixels, **inputs}
        _check_inputs([*wanted, *masks], values)
        kept = Buffers(self.backend, self.portrait_tensors(variant))
        try:
            with Buffers(self.backend, wanted) as given:
                for name, array in values.items():
                    (given if name in given else kept)[name].write(array)
                for graph in (encoder, reference):
                    with closing(graph.bind({**given, **kept})) as bound:
                        bound.run()
                        self.backend.stream("side").synchronize()
                    yield
        except BaseException:
            kept.close()
            raise
        return kept

    def close(self) -> None:
        """Free all graphs, and the device's memory. Safe twice. Sessions that are going on end with an error."""
        with self._lock:
            self._closed.set()
            self._graphs.clear()
        for tables in self._tables.values():
            tables.close()
        self.backend.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _check_complete(bundle: Bundle) -> None:
    """Raise :class:`BundleError` unless every variant has every graph that a run needs."""
    needed = family_of(bundle.config).roles
    there = {graph.role for graph in bundle.graphs.values()}
    missing = sorted({*needed, "step"} - there)
    for variant in bundle.variants:
        missing += [role for role in sorted(needed & there) if bundle.find(role, variant) is None]
        if not any(graph.role == "step" and graph.variant == variant for graph in bundle.graphs.values()):
            missing += ["step"] if "step" in there else []
    if missing:
        raise BundleError(f"the bundle {bundle.path} has no graph {', '.join(missing)}; export it again")
    for name, graph in bundle.graphs.items():
        if graph.role not in OF_VARIANTS and graph.variant is not None:
            raise BundleError(
                f"the bundle {bundle.path} cannot be used: graph {name} is of the variant {graph.variant!r} alone; "
                f"only {', '.join(OF_VARIANTS)} may be"
            )


def _check_inputs(wanted: Iterable[TensorSpec], given: Mapping[str, Array]) -> None:
    """Raise :class:`InputError` unless ``given`` has exactly the wanted tensors, by name and shape."""
    shapes = {tensor.name: tensor.shape for tensor in wanted}
    if set(shapes) != set(given):
        raise InputError(
            f"this model needs {', '.join(sorted(shapes))} of a portrait, "
            f"but missing are {sorted(set(shapes) - set(given))} and unknown are {sorted(set(given) - set(shapes))}"
        )
    for name, array in given.items():
        if array.shape != shapes[name]:
            raise InputError(f"{name} of the portrait has shape {array.shape}; expected {shapes[name]}")


def to_unit(pixels: Array) -> Array:
    """(H, W, 3) uint8 → (1, 3, H, W) float32 in −1 … 1."""
    return (pixels.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
