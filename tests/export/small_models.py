"""Small models and one way to run each formulation of a clip: the split graphs, and the plain one."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from emo_rt.export.graph_modules import GraphModule, example_inputs, graph_modules
from emo_rt.export.networks.model import EmoModel, build_model
from emo_rt.export.networks.plain import PlainInputs, plain_prediction
from emo_rt.export.presets import preset
from emo_rt.model.config import ModelConfig
from tests.conftest import hallo_tiny

torch.set_num_threads(1)  # networks this small gain nothing from a second thread, and lose much where cores are busy

Tensors = dict[str, Tensor]

PREDICTING = ("reference", "clip", "timestep", "step", "step_unguided")
"""The graphs between the caller's inputs and a prediction, in order."""


def zero_nulls(config: ModelConfig) -> ModelConfig:
    """``config`` with all-zero instead of learned inputs of the unconditional half, the speed among them."""
    speed = config.speed and replace(config.speed, in_unconditional=False)
    reference, audio = replace(config.reference, null="zero"), replace(config.audio, null="zero")
    return replace(config, reference=reference, audio=audio, speed=speed)


CONFIGS = {
    "emo, learned nulls": preset("tiny"),
    "emo, zero nulls": zero_nulls(preset("tiny")),
    "hallo": hallo_tiny(),
    "hallo, learned audio null": replace(hallo_tiny(), audio=replace(hallo_tiny().audio, null="learned")),
}


@cache
def small_model(name: str) -> EmoModel:
    """A model of :data:`CONFIGS`; tests only read it."""
    return build_model(CONFIGS[name], seed=5)


def modules_by_name(model: EmoModel, guided: bool = True) -> dict[str, GraphModule]:
    """The graph modules of a model by graph name."""
    return {module.spec.name: module for module in graph_modules(model, (guided,))}


def caller_inputs(modules: dict[str, GraphModule], seed: int = 0) -> Tensors:
    """Random values of the tensors that no graph gives."""
    chosen = [modules[name] for name in PREDICTING if name in modules]
    given = {tensor.name for module in chosen for tensor in module.spec.outputs}
    values: Tensors = {}
    for number, module in enumerate(chosen):
        examples = example_inputs(module.spec, module.model.config, seed * 100 + number)
        values.update({name: value for name, value in examples.items() if name not in given})
    return values


@torch.no_grad()
def run_graphs(modules: dict[str, GraphModule], inputs: Tensors) -> Tensors:
    """Run the split graphs one after another; every tensor by name, ``prediction`` (halves, F, 4, S, S) among them."""
    tensors = dict(inputs)
    for name in PREDICTING:
        if name in modules:
            spec = modules[name].spec
            outputs = modules[name](*(tensors[tensor.name] for tensor in spec.inputs))
            tensors.update({tensor.name: value for tensor, value in zip(spec.outputs, outputs, strict=True)})
    return tensors


def run_plain(model: EmoModel, inputs: Tensors, guided: bool = True) -> Tensor:
    """The plain formulation's prediction (halves, F, 4, S, S) for the same inputs."""
    masks = {int(name.split(".")[1]): value for name, value in inputs.items() if name.startswith("audio_mask.")}
    conditions = PlainInputs(
        inputs["portrait_latent"],
        inputs["face_mask"],
        inputs["motion_latents"],
        inputs["audio_windows"],
        inputs.get("speed"),
        inputs.get("face_embedding"),
        masks or None,
        inputs.get("motion_scale"),
    )
    return plain_prediction(model, inputs["latents"], inputs["timestep"], conditions, guided)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """‖ours − theirs‖ / ‖theirs‖."""
    return float((ours - theirs).norm() / theirs.norm())
