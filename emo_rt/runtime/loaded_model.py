"""A loaded model: a bundle with its graphs opened, and what is run once per portrait or per audio window."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from types import TracebackType

import numpy as np

from emo_rt.device.base import Backend, Graph
from emo_rt.device.buffers import Buffers
from emo_rt.errors import BundleError, ClosedError, ConfigError, InputError
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import STEP_GRAPHS, Array, TensorSpec, step_graph
from emo_rt.model.options import AnimateOptions
from emo_rt.model.solvers import solver_table
from emo_rt.runtime.step_tables import StepTable, StepTables

ON_DEMAND = STEP_GRAPHS
"""Graphs that are opened when first asked for: most runs need only one of them."""

AUDIO_MASK = "audio_mask."
"""How the names of ``step``'s per-portrait inputs begin."""


class LoadedModel:
    """Owns the opened graphs. A context manager; :meth:`close` is safe twice."""

    def __init__(self, bundle: Bundle, backend: Backend) -> None:
        self.bundle, self.backend = bundle, backend
        self._lock = threading.Lock()
        self._opening = {name: threading.Lock() for name in bundle.graphs}
        """One per graph: a graph takes seconds to open, and the others need not wait for it."""
        self._closed = False
        try:
            _check_complete(bundle)
            names = [name for name in bundle.graphs if name not in ON_DEMAND]
            self._graphs = {name: backend.open(bundle, name) for name in names}
            self._tables = StepTables(backend, self.graph("timestep"), bundle.config)
        except BaseException:
            backend.close()
            raise

    @property
    def config(self) -> ModelConfig:
        """Configuration of the model."""
        return self.bundle.config

    def graph(self, name: str) -> Graph:
        """An opened graph. Raises :class:`BundleError` if the bundle has none of that name."""
        if name not in self.bundle.graphs:
            raise BundleError(f"the bundle {self.bundle.path} has no graph {name!r}; export it again")
        with self._opening[name]:
            opened = self._opened(name)
            return opened if opened is not None else self._open(name)

    def _opened(self, name: str) -> Graph | None:
        with self._lock:
            if self._closed:
                raise ClosedError("the animator was closed; load it again")
            return self._graphs.get(name)

    def _open(self, name: str) -> Graph:
        graph = self.backend.open(self.bundle, name)
        with self._lock:
            if not self._closed:
                self._graphs[name] = graph
                return graph
        graph.close()
        raise ClosedError("the animator was closed; load it again")

    def check(self, options: AnimateOptions) -> None:
        """Raise :class:`ConfigError` unless the model has the step graphs and the solver has the steps.

        Nothing is opened or run. Raises :class:`ClosedError`, too.
        """
        self._opened("timestep")
        graphs, _ = self._step_graphs(options)
        solver_table(self.config.schedule, options.solver, len(graphs))

    def open_graphs(self, options: AnimateOptions) -> None:
        """Open the step graphs that a run needs. The first time that takes seconds."""
        for name in sorted(set(self._step_graphs(options)[0])):
            self.graph(name)

    def step_table(self, options: AnimateOptions) -> tuple[StepTable, float]:
        """The steps of a run, and its guidance scale. Opens the graphs. Raises :class:`ConfigError`."""
        graphs, guidance = self._step_graphs(options)
        self.open_graphs(options)
        return self._tables.step_table(options.solver, graphs), guidance

    def _step_graphs(self, options: AnimateOptions) -> tuple[tuple[str, ...], float]:
        """The graph of each step, and the guidance scale."""
        guided, guidance = self._guided_steps(options)
        graphs, age = list[str](), 0
        for step, one in enumerate(guided):
            age = age + 1 if step and one == guided[step - 1] and age + 1 < options.deep_cache else 0
            graphs.append(step_graph(one, cached=age > 0))
        if not set(graphs) <= set(self.bundle.graphs):
            raise ConfigError(
                f"deep_cache is {options.deep_cache}; this bundle has no graphs for it, use 1 or export it with "
                "--deep-cache 0"
            )
        return tuple(graphs), guidance

    def _guided_steps(self, options: AnimateOptions) -> tuple[tuple[bool, ...], float]:
        """Whether each step computes both halves, and the guidance scale."""
        graphs, nowhere = self.bundle.graphs, (False,) * options.steps
        if "step" not in graphs:
            if options.guidance not in (None, 1.0):
                raise ConfigError(f"guidance is {options.guidance}; this bundle was exported without guidance, use 1")
            return nowhere, 1.0
        guidance = self.config.guidance if options.guidance is None else options.guidance
        if guidance == 1:
            return nowhere if "step_unguided" in graphs else (True,) * options.steps, guidance
        guided = options.guided_steps()
        if not all(guided) and "step_unguided" not in graphs:
            raise ConfigError(
                f"guidance_interval is {options.guidance_interval}; this bundle has only the graph with guidance, use "
                "(0, 1) or export it with --both"
            )
        return guided, guidance

    def portrait_tensors(self) -> list[TensorSpec]:
        """What :meth:`portrait_features` gives."""
        encoder, reference = self.bundle.graphs["vae_encoder"], self.bundle.graphs["reference"]
        return [*encoder.outputs, *reference.outputs, *self._audio_masks()]

    def _audio_masks(self) -> list[TensorSpec]:
        step = next(self.bundle.graphs[name] for name in ON_DEMAND if name in self.bundle.graphs)
        return [tensor for tensor in step.inputs if tensor.name.startswith(AUDIO_MASK)]

    def portrait_features(self, pixels: Array, inputs: Mapping[str, Array]) -> Generator[None, None, Buffers]:
        """Run ``vae_encoder`` and ``reference`` on (1, 3, size, size) ``pixels`` in −1 … 1 and on ``inputs`` by name.

        In slices, one per graph. ``inputs``: what else ``reference`` takes, and the audio masks that ``step`` takes.
        The result holds those masks, ``portrait_latent`` and all that ``reference`` gives. Raises :class:`InputError`
        where an input is missing, unknown or of another shape.
        """
        encoder, reference = self.graph("vae_encoder"), self.graph("reference")
        masks = self._audio_masks()
        latent = {tensor.name for tensor in encoder.spec.outputs}
        wanted = [*encoder.spec.inputs, *(tensor for tensor in reference.spec.inputs if tensor.name not in latent)]
        values = {"pixels": pixels, **inputs}
        _check_inputs([*wanted, *masks], values)
        kept = Buffers(self.backend, self.portrait_tensors())
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
            self._closed = True
            self._graphs.clear()
        self.backend.close()

    def __enter__(self) -> LoadedModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _check_complete(bundle: Bundle) -> None:
    """Raise :class:`BundleError` unless the bundle has every graph that a run needs."""
    needed = {"vae_encoder", "audio_encoder", "reference", "clip", "timestep", "vae_decoder"}
    if bundle.config.motion_source == "reencoded":
        needed.add("motion_encoder")
    if not any(name in bundle.graphs for name in ON_DEMAND):
        needed.add("step")
    missing = sorted(needed - set(bundle.graphs))
    if missing:
        raise BundleError(f"the bundle {bundle.path} has no graph {', '.join(missing)}; export it again")


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
