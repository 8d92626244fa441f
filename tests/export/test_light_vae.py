"""The autoencoder for CPUs: shapes, what its decoder computes, and its graphs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from emo_rt.errors import ConfigError
from emo_rt.export.graph_modules import clamp_unit, graph_modules, to_rgb
from emo_rt.export.networks.light_vae import LightVae
from emo_rt.export.networks.model import build_model
from emo_rt.export.networks.vae import decode, encode
from emo_rt.export.onnx_export import trace
from emo_rt.export.presets import preset
from emo_rt.model.config import VaeConfig
from emo_rt.model.contract import GraphSpec

LIGHT = VaeConfig(
    kind="light", block_out_channels=(8, 16), layers_per_block=1, decoder_channels=(16, 8), decoder_blocks=(2, 1),
    shuffle=2, latent_channels=4, scaling_factor=0.5,
)  # fmt: skip


def light_vae() -> LightVae:
    torch.manual_seed(0)
    return LightVae(LIGHT).eval().requires_grad_(False)


def test_latents_are_smaller_by_the_downsampling():
    vae, pixels = light_vae(), torch.randn(2, 3, 32, 32)
    assert LIGHT.downsampling == 4
    latents = encode(vae, pixels)
    assert latents.shape == (2, 4, 8, 8)
    assert decode(vae, latents).shape == pixels.shape


def test_the_decoder_is_the_plain_formulation():
    """Written out layer by layer, without modules."""
    vae, latents = light_vae(), torch.randn(2, 4, 8, 8)
    state = vae.state_dict()

    def conv(name: str, hidden: torch.Tensor) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(hidden, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def block(name: str, hidden: torch.Tensor) -> torch.Tensor:
        return F.relu(hidden + conv(f"{name}.conv2", F.relu(conv(f"{name}.conv1", hidden))))

    hidden = F.relu(conv("decoder.layers.0", conv("post_quant_conv", latents / 0.5)))
    hidden = block("decoder.layers.3", block("decoder.layers.2", hidden))
    hidden = conv("decoder.layers.4", hidden).repeat_interleave(2, 2).repeat_interleave(2, 3)
    hidden = conv("decoder.conv_out", block("decoder.layers.6", hidden))
    expected = hidden.reshape(2, 3, 2, 2, 16, 16).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 32, 32)
    torch.testing.assert_close(decode(vae, latents), expected, rtol=0, atol=1e-5)


def test_the_graph_gives_the_pixels_of_torch(tmp_path: Path):
    """One grey level is what rounding may turn over, where sums are taken in another order."""
    small = replace(preset("tiny"), vae=LIGHT, locator=replace(preset("tiny").locator, channels=(8, 16, 16)))
    model = build_model(small)
    module = next(m for m in graph_modules(model) if m.spec.name == "vae_decoder")
    program = trace(module)
    import onnx_ir as ir

    ir.save(program, tmp_path / "decoder.onnx")
    latents = torch.randn(module.spec.inputs[0].shape)
    session = onnxruntime.InferenceSession(tmp_path / "decoder.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"frame_latents": latents.numpy()})[0]
    expected = to_rgb(clamp_unit(decode(model.vae, latents))).numpy()
    assert isinstance(module.spec, GraphSpec)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.mean(found != expected) < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"decoder_channels": (16,)},
        {"decoder_blocks": (1, 0)},
        {"kind": "kl"},
        {"kind": "kl", "decoder_channels": (), "decoder_blocks": ()},
        {"kind": "heavy"},
        {"shuffle": 0},
        {"shuffle": 3},
    ],
)
def test_shapes_that_do_not_fit_are_refused(wrong: dict[str, object]):
    with pytest.raises(ConfigError, match=r"vae\."):
        replace(LIGHT, **wrong)
