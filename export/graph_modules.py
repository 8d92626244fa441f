"""One traceable module per graph of :mod:`emo_rt.model.contract`.

Tensors go in and out by position, in the GraphSpec's order. The casts between fp32 state and the network's
float type are here, inside the graphs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.model import EmoModel
from emo_rt.model import examples
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array, GraphSpec, deep_features
from emo_rt.model.families.registry import graph_specs


class GraphModule(nn.Module):
    """A graph as torch sees it: ``spec`` names inputs and outputs."""

    parts: tuple[str, ...] = ("backbone",)
    """Children of the model that it computes with. Tracing leaves the others out."""

    def __init__(self, model: EmoModel, spec: GraphSpec) -> None:
        super().__init__()
        self.model, self.spec = model, spec

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Inputs in the spec's order → outputs in the spec's order."""
        inputs = {tensor.name: value for tensor, value in zip(self.spec.inputs, tensors, strict=True)}
        outputs = self.compute(inputs)
        dtypes = {tensor.name: getattr(torch, tensor.dtype) for tensor in self.spec.outputs}
        # An output must not be an input or another output under a second name: runtimes bind them to other memory.
        return tuple(outputs[name].to(dtype).contiguous() for name, dtype in dtypes.items())

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named inputs → named outputs."""
        raise NotImplementedError

    def half(self, tensor: Tensor) -> Tensor:
        """To the network's float type."""
        return tensor.to(self.model.dtype)


class VaeEncoderGraph(GraphModule):
    """Portrait pixels → latent."""

    parts = ("vae",)

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"portrait_latent": vae_network.encode(self.model.vae, self.half(inputs["pixels"]))}


class AudioEncoderGraph(GraphModule):
    """Sound → hidden states of all layers: one row per video frame (wav2vec) or per 20 ms (Whisper)."""

    parts = ("audio_encoder",)

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        (sound,) = inputs.values()
        return {"audio_hidden": self.model.audio_encoder(sound)}


class ReferenceGraph(GraphModule):
    """All that a portrait fixes."""

    parts = ("backbone", "reference_net", "face_locator", "face_projector")

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        embedding = inputs.get("face_embedding")
        embedding = None if embedding is None else self.half(embedding)
        guided = any(t.name.startswith("reference_key") and t.shape[0] == 2 for t in self.spec.outputs)
        return self.model.portrait_features(
            self.half(inputs["portrait_latent"]), self.half(inputs["face_mask"]), embedding, guided
        )


class ClipGraph(GraphModule):
    """All that a clip fixes."""

    parts = ("backbone", "reference_net", "audio_projector", "speed_encoder", "face_projector")

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        speed = inputs.get("speed")
        return self.model.clip_features(
            self.half(inputs["motion_latents"]),
            self.half(inputs["audio_windows"]),
            None if speed is None else self.half(speed),
            inputs.get("face_tokens"),
            guided=any(tensor.name.startswith("motion_unconditional") for tensor in self.spec.outputs),
        )


class TimestepGraph(GraphModule):
    """Timestep → projected time embedding of every residual block."""

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"time_embedding": self.model.backbone.time_shifts(inputs["timestep"])}


class StepGraph(GraphModule):
    """One solver step: prediction, guidance, solver update. A cached one takes the inner blocks' result."""

    def __init__(self, model: EmoModel, spec: GraphSpec) -> None:
        super().__init__(model, spec)
        self.guided, self.kept = spec.guided, model.config.deep_cache
        self.deep = deep_features(self.guided)
        self.cached = spec.cached
        self.nulls = sorted(model.null_features().items()) if self.guided else []
        for index, (_, tensor) in enumerate(self.nulls):
            self.register_buffer(f"null_{index}", tensor, persistent=False)

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        features = dict(inputs)
        features.update({name: getattr(self, f"null_{index}") for index, (name, _) in enumerate(self.nulls)})
        latents, history = inputs["latents"], inputs["x0_history"]
        shifts = inputs["time_embedding"]
        given = (self.half(latents), shifts, features, self.guided, self.kept)
        if self.cached:
            prediction, deep = self.model.backbone.cached(*given, inputs[self.deep]), None
        else:
            prediction, deep = self.model.backbone.full(*given)
        halves = prediction.float().reshape(-1, *latents.shape)
        guided = halves[0] + inputs["guidance_scale"] * (halves[1] - halves[0]) if self.guided else halves[0]
        p, q, a, b, c, d = inputs["coefficients"].split(1)
        x0 = p * latents + q * guided
        return {
            "next_latents": a * latents + b * x0 + c * history[0] + d * history[1],
            "next_x0_history": torch.stack([x0, history[0]]),
            "prediction": halves,
            **({} if deep is None else {self.deep: deep}),
        }


class PredictGraph(GraphModule):
    """One window of one solver step: prediction and guidance, added to the sums of the windows before."""

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        features = {**inputs, **self.model.audio_features(self.half(inputs["audio_tokens"]))}
        latents, guided = inputs["latents"], self.spec.guided
        prediction = self.model.backbone(self.half(latents), inputs["time_embedding"], features, guided)
        halves = prediction.float().reshape(-1, *latents.shape)
        return {"next_sums": inputs["sums"] + self._guide(halves, inputs), "prediction": halves}

    def _guide(self, halves: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """Guidance is linear: in front of the average it gives what it gives behind it, from half the memory."""
        return halves[0] + inputs["guidance_scale"] * (halves[1] - halves[0]) if self.spec.guided else halves[0]


class UpdateGraph(GraphModule):
    """The solver step of some frames, once all windows are in: the average, and the solver's update.

    Solvers that look back at earlier x0 are not served: the columns c and d of their tables are left out.
    """

    parts = ()

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        latents, weights = inputs["latents"], inputs["frame_weights"]
        p, q, a, b, _, _ = inputs["coefficients"].split(1)
        x0 = p * latents + q * (inputs["sums"] * weights[:, None, None, None])
        return {"next_latents": a * latents + b * x0}


class VaeDecoderGraph(GraphModule):
    """Latents → uint8 pixels."""

    parts = ("vae",)

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels = vae_network.decode(self.model.vae, self.half(inputs["frame_latents"]))
        return {"pixels_rgb": to_rgb(clamp_unit(pixels.float()))}


class MotionEncoderGraph(GraphModule):
    """Last latents of a clip → decoded and encoded again: motion latents and the frames themselves."""

    parts = ("vae",)

    def compute(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        pixels = clamp_unit(vae_network.decode(self.model.vae, self.half(inputs["last_latents"])).float())
        encoded = vae_network.encode(self.model.vae, self.half(pixels * 2 - 1))
        return {"motion_latents": encoded, "motion_pixels_rgb": to_rgb(pixels)}


def clamp_unit(pixels: Tensor) -> Tensor:
    """−1 … 1 → 0 … 1, clamped."""
    return (pixels / 2 + 0.5).clamp(0, 1)


def to_rgb(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in 0 … 1 → (B, H, W, 3) uint8, rounded."""
    return (pixels * 255 + 0.5).permute(0, 2, 3, 1).to(torch.uint8)


GRAPH_MODULES: dict[str, type[GraphModule]] = {
    "vae_encoder": VaeEncoderGraph,
    "audio_encoder": AudioEncoderGraph,
    "reference": ReferenceGraph,
    "clip": ClipGraph,
    "timestep": TimestepGraph,
    "step": StepGraph,
    "update": UpdateGraph,
    "vae_decoder": VaeDecoderGraph,
    "motion_encoder": MotionEncoderGraph,
}


def graph_modules(model: EmoModel, guidance: tuple[bool, ...] = (True,)) -> list[GraphModule]:
    """Every graph of the model, in the order of :func:`emo_rt.model.families.registry.graph_specs`."""
    dtype = str(model.dtype).removeprefix("torch.")
    return [graph_module(model, spec) for spec in graph_specs(model.config, dtype, guidance)]


def graph_module(model: EmoModel, spec: GraphSpec) -> GraphModule:
    """The module of one graph. A step that only adds to sums leaves the solver's update to a graph of its own."""
    if any(tensor.name == "sums" for tensor in spec.inputs) and spec.role == "step":
        return PredictGraph(model, spec)
    return GRAPH_MODULES[spec.role](model, spec)


def example_inputs(spec: GraphSpec, config: ModelConfig, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of :func:`emo_rt.model.examples.example_inputs`, with the random numbers of torch."""
    generator = torch.Generator().manual_seed(seed)
    values = examples.example_inputs(spec, config, lambda shape: torch.randn(shape, generator=generator).numpy())
    return {t.name: torch.from_numpy(values[t.name]).to(getattr(torch, t.dtype)) for t in spec.inputs}


@torch.no_grad()
def run_by_name(module: GraphModule, tensors: dict[str, Array], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """One graph, from ``inputs`` and from ``tensors``, those known by name; its outputs are known from then on."""
    tensors.update(inputs)
    given = [torch.from_numpy(np.array(tensors[tensor.name])) for tensor in module.spec.inputs]
    outputs = {t.name: value.numpy() for t, value in zip(module.spec.outputs, module(*given), strict=True)}
    tensors.update(outputs)
    return outputs
