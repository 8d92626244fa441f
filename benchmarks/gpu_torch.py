"""The torch ways of :mod:`emo_rt.benchmarks.bench_gpu`: one clip in eager torch, with our savings, and compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from emo_rt.benchmarks.original import OriginalClip
from emo_rt.benchmarks.work import plain_inputs
from emo_rt.export.graph_modules import GraphModule, example_inputs, graph_modules
from emo_rt.export.networks.model import EmoModel
from emo_rt.model.contract import Array
from emo_rt.model.solvers import solver_table

TABLE_GRAPHS = ("reference", "clip", "timestep", "step", "step_unguided", "vae_decoder")
"""Graphs that a clip of this benchmark runs."""


class Clock:
    """Times on the device: CUDA events, or the host's clock on the CPU."""

    def __init__(self, device: str) -> None:
        self._is_cuda = device == "cuda"
        self._marks: list[Any] = []

    def mark(self) -> None:
        """Note a moment."""
        if self._is_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Times between the marks; waits for the device. Forgets them."""
        self.wait()
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        self._marks = []
        return [a.elapsed_time(b) / 1e3 if self._is_cuda else b - a for a, b in pairs]

    def wait(self) -> None:
        """Until the device is idle."""
        if self._is_cuda:
            torch.cuda.synchronize()


class TorchWay:
    """One clip. ``way``: ``eager`` (public order, K/V at each step), ``split`` (our savings) or ``compiled`` (it)."""

    def __init__(self, model: EmoModel, way: str, device: str, guided: bool = True) -> None:
        self.model, self.way, self.device, self.guided = model, way, device, guided
        self.config = model.config
        self.clock = Clock(device)
        modules = [module for module in graph_modules(model, (guided,)) if module.spec.name in TABLE_GRAPHS]
        self.modules: dict[str, GraphModule] = {module.spec.name: module.to(device) for module in modules}
        self.step_name = "step" if guided else "step_unguided"
        self.values = clip_values(list(self.modules.values()), self.config, device)
        self._step: Callable[..., Any] = self.modules[self.step_name]
        self._captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None
        if way == "compiled":
            if device == "cuda":
                model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self._step = torch.compile(self._step, dynamic=False)

    @torch.no_grad()
    def latents(self, noise: Tensor, steps: int, marks: bool = True) -> Tensor:
        """Final latents of one clip, with what is done once per clip."""
        table = solver_table(self.config.schedule, "ddim", steps)
        if self.way == "compiled" and self.device == "cuda" and not marks:
            return self._replayed(noise.to(self.device), table)
        solve = self._public if self.way == "eager" else self._split
        return solve(noise.to(self.device), table, self.clock.mark if marks else lambda: None)

    @torch.no_grad()
    def frames(self, latents: Tensor) -> Array:
        """Latents (F, 4, S, S) → (F, size, size, 3) uint8 on the host."""
        decoder, batch = self.modules["vae_decoder"], self.config.decode_frames
        return torch.cat([decoder(part)[0] for part in latents.split(batch)]).cpu().numpy()

    def _public(self, noise: Tensor, table: Any, mark: Callable[[], None]) -> Tensor:
        dtype = self.model.dtype
        inputs = plain_inputs({name: value.to(dtype) for name, value in self.values.items()})
        clip, latents = OriginalClip(self.model, inputs), noise
        mark()
        for timestep, (p, q, a, b, _, _) in zip(table.timesteps, table.coefficients.tolist(), strict=True):
            time_now = torch.tensor([float(timestep)], device=self.device)
            halves = clip.predict(latents.to(dtype), time_now).float()
            guided = halves[0] + self.config.guidance * (halves[1] - halves[0])
            latents = a * latents + b * (p * latents + q * guided)
            mark()
        return latents

    def _replayed(self, noise: Tensor, table: Any) -> Tensor:
        """All steps as one CUDA graph. What is done once per clip is in it, too."""
        if self._captured is None:
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):  # a first run outside: it compiles and takes memory
                self._split(noise, table, lambda: None)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                latents = self._split(noise, table, lambda: None)
            self._captured = graph, latents
        graph, latents = self._captured
        graph.replay()
        return latents

    def _split(self, noise: Tensor, table: Any, mark: Callable[[], None]) -> Tensor:
        tensors = {**self.values, "latents": noise, "x0_history": torch.zeros(2, *noise.shape, device=self.device)}
        for name in ("reference", "clip"):
            self._run(name, self.modules[name], tensors)
        rows = torch.from_numpy(table.coefficients.copy()).to(self.device)
        times = torch.from_numpy(table.timesteps.copy()).to(self.device)
        mark()
        for index in range(len(rows)):
            tensors["timestep"], tensors["coefficients"] = times[index : index + 1], rows[index]
            self._run("timestep", self.modules["timestep"], tensors)
            self._run(self.step_name, self._step, tensors)
            tensors["latents"], tensors["x0_history"] = tensors["next_latents"], tensors["next_x0_history"]
            mark()
        return tensors["latents"]

    def _run(self, name: str, run: Callable[..., Any], tensors: dict[str, Tensor]) -> None:
        spec = self.modules[name].spec
        given = run(*(tensors[tensor.name] for tensor in spec.inputs))
        tensors.update({tensor.name: value for tensor, value in zip(spec.outputs, given, strict=True)})


def clip_values(modules: list[GraphModule], config: Any, device: str) -> dict[str, Tensor]:
    """Random values of the tensors that no graph gives, by name; the same for every way and type."""
    given = {tensor.name for module in modules for tensor in module.spec.outputs}
    values: dict[str, Tensor] = {}
    for seed, module in enumerate(modules):
        if module.spec.name in ("reference", "clip", "step", "step_unguided"):
            examples: Mapping[str, Tensor] = example_inputs(module.spec, config, seed)
            values.update({name: value.to(device) for name, value in examples.items() if name not in given})
    return values


def unit_noise(config: Any, seed: int = 0) -> Tensor:
    """(F, 4, S, S) float32 on the CPU."""
    shape = (config.frames, config.vae.latent_channels, config.latent_size, config.latent_size)
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


def matmul_ceiling(device: str) -> float:
    """The card's TFLOP/s in fp16 (fp32 on the CPU) on square matrices, the best of several rounds."""
    side, dtype = (8192, torch.float16) if device == "cuda" else (512, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    clock = Clock(device)
    for _ in range(3):
        a @ b
    for _ in range(21):
        clock.mark()
        a @ b
    return 2 * side**3 / min(clock.seconds()) / 1e12


def peak_memory(device: str) -> AbstractContextManager[Any]:
    """Nothing to do on the CPU; on a GPU torch counts from here on."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return nullcontext()
