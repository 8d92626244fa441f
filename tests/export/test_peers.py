"""The networks compute what their public peers compute from the same weights."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from small_models import CONFIGS, caller_inputs, modules_by_name, relative_error, run_graphs
from torch import Tensor
from transformers import Wav2Vec2FeatureExtractor

from emo_rt.export.networks import vae as vae_network
from emo_rt.export.networks.audio import AudioEncoder
from emo_rt.export.networks.model import build_model
from emo_rt.export.networks.temporal import TemporalModule
from emo_rt.export.presets import preset
from emo_rt.model.config import AudioConfig, ModelConfig, ReferenceConfig, UNetConfig
from emo_rt.model.contract import sites
from emo_rt.runtime.clips import split_into_clips

BOUND = 1e-5
"""Largest relative error in fp32."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


SD_CONFIG: ModelConfig = replace(
    CONFIGS["hallo"],
    size=64,
    unet=UNetConfig((16, 32, 48), layers_per_block=2, attention_heads=2, norm_groups=8),
    reference=ReferenceConfig(mode="concat", face_tokens=3, face_embedding_dim=8, face_token_dim=24),
)
"""In Hallo's manner the face tokens sit where SD has its text tokens, so that nothing has to be cut away."""


@pytest.fixture(scope="module")
def sd_unet() -> UNet2DConditionModel:
    """A small Stable Diffusion UNet."""
    torch.manual_seed(2)
    unet = UNet2DConditionModel(
        block_out_channels=SD_CONFIG.unet.block_out_channels,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=SD_CONFIG.unet.layers_per_block,
        attention_head_dim=SD_CONFIG.unet.attention_heads,  # SD 1.5's misnomer: the number of heads
        norm_num_groups=SD_CONFIG.unet.norm_groups,
        cross_attention_dim=SD_CONFIG.reference.face_token_dim,
    )
    return unet.eval().requires_grad_(False)


class TestStableDiffusionUNet:
    """diffusers' ``UNet2DConditionModel``, whose state dict fits under its own names."""

    def test_reference_features_are_the_outputs_of_norm1(self, sd_unet: UNet2DConditionModel) -> None:
        network = build_model(SD_CONFIG).reference_net
        loaded = network.load_state_dict(sd_unet.state_dict(), strict=False)
        assert loaded.missing_keys == []
        assert {key.split(".")[0] for key in loaded.unexpected_keys} == {"conv_norm_out", "conv_out"}
        latents, tokens = noise(2, 4, 16, 16), noise(2, 3, 24, seed=1)
        expected = _outputs_of_norm1(sd_unet, latents, tokens)
        ours = network.features(latents, tokens)
        assert set(expected) == {site.name for site in sites(SD_CONFIG.unet) if site.attention}
        for name, theirs in expected.items():
            assert relative_error(ours[name].flatten(2).mT, theirs) <= BOUND

    def test_unconditional_prediction_of_the_backbone(self, sd_unet: UNet2DConditionModel) -> None:
        """That half attends to itself alone; temporal and audio modules with a zero end add nothing."""
        model = build_model(SD_CONFIG)
        loaded = model.backbone.load_state_dict(sd_unet.state_dict(), strict=False)
        assert loaded.unexpected_keys == []
        assert [key for key in loaded.missing_keys if not re.search(r"(temporal|audio)_modules", key)] == []
        for name, module in model.backbone.named_modules():
            if re.search(r"_modules\.\d\.proj_out$", name):
                for parameter in module.parameters():
                    parameter.zero_()
        modules = modules_by_name(model)
        inputs = {**caller_inputs(modules), "timestep": torch.tensor([437.0])}
        ours = run_graphs(modules, inputs)["prediction"][0]
        tokens = model.null_face_tokens().expand(SD_CONFIG.frames, -1, -1)
        assert relative_error(ours, sd_unet(inputs["latents"], torch.tensor(437), tokens).sample) <= BOUND


def _outputs_of_norm1(unet: UNet2DConditionModel, latents: Tensor, tokens: Tensor) -> dict[str, Tensor]:
    """What the first norm of every spatial transformer gives, by the name of our site."""
    blocks = {"mid": unet.mid_block}
    blocks |= {f"down_{i}": block for i, block in enumerate(unet.down_blocks)}
    blocks |= {f"up_{i}": block for i, block in enumerate(unet.up_blocks)}
    outputs: dict[str, Tensor] = {}
    for name, block in blocks.items():
        for j, transformer in enumerate(getattr(block, "attentions", ())):
            site = name if name == "mid" else f"{name}_{j}"
            norm = transformer.transformer_blocks[0].norm1
            norm.register_forward_hook(lambda _, __, output, site=site: outputs.update({site: output}))
    unet(latents, torch.tensor(0), tokens)
    return outputs


class TestWav2Vec:
    """transformers' ``Wav2Vec2Model``, where the features already have the video's frame rate."""

    FPS, SAMPLES, FRAMES = 48, 3280, 10

    @pytest.mark.parametrize("stable", [False, True], ids=["norm last", "norm first"])
    @pytest.mark.parametrize("features", ["group", "layer"])
    def test_hidden_states_of_all_layers(self, stable: bool, features: Any) -> None:
        encoder = replace(
            preset("tiny").audio.encoder,
            num_hidden_layers=3,
            do_stable_layer_norm=stable,
            feat_extract_norm=features,
        )
        ours = self._encoder(replace(preset("tiny").audio, encoder=encoder))
        waveform = 0.1 * noise(1, self.SAMPLES)
        peer = ours.wav2vec(waveform, output_hidden_states=True)
        # transformers 5 lists the last layer without the closing norm of "norm first", transformers 4 with it.
        theirs = [*peer.hidden_states[1:-1], peer.last_hidden_state]
        found = ours(waveform)
        assert found.shape == (self.FRAMES, encoder.num_hidden_layers, encoder.hidden_size)
        for layer, expected in enumerate(theirs):
            assert relative_error(found[:, layer], expected[0]) <= BOUND

    def test_voice_is_normalised_once_and_before_its_padding(self) -> None:
        """As transformers' feature extractor does it for Hallo: the runtime does, so the encoder must not again."""
        config = CONFIGS["hallo"]
        assert config.audio.normalize
        ours, peer = AudioEncoder(config.audio, config.fps).requires_grad_(False), Wav2Vec2FeatureExtractor()
        heard: list[Tensor] = []

        def encode(waveform: np.ndarray) -> np.ndarray:
            ours.wav2vec.feature_extractor.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0][0]))
            return ours(torch.from_numpy(waveform)[None]).numpy()

        voice = (0.02 + 0.3 * noise(5000)).numpy()
        list(split_into_clips(config, encode, [voice]))
        expected = torch.from_numpy(peer(voice, sampling_rate=16_000, do_normalize=True).input_values[0])
        assert len(heard[0]) > len(expected)
        assert relative_error(heard[0][: len(expected)], expected) <= BOUND
        assert not heard[0][len(expected) :].any()

    @pytest.mark.parametrize("samples", [640, 3280, 16_000, 16_001])
    def test_frames_are_the_audios_length_rounded_up(self, samples: int) -> None:
        encoder = AudioEncoder(preset("tiny").audio, fps=25).requires_grad_(False)
        assert len(encoder(noise(1, samples))) == math.ceil(samples / 16_000 * 25)

    def test_features_are_resampled_from_first_to_last_before_the_transformer(self) -> None:
        """Twice the frames, less one: every second resampled feature is an original one (aligned corners)."""
        taken: list[Tensor] = []
        encoder = self._encoder(preset("tiny").audio)
        encoder.wav2vec.feature_projection.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0]))
        waveform = noise(1, self.SAMPLES)
        for fps in (self.FPS, 92):
            encoder.fps = fps
            encoder(waveform)
        assert [features.shape[1] for features in taken] == [10, 19]
        assert relative_error(taken[1][:, ::2], taken[0]) <= BOUND

    def _encoder(self, audio: AudioConfig) -> AudioEncoder:
        torch.manual_seed(4)
        return AudioEncoder(audio, self.FPS).requires_grad_(False)


class TestAutoencoder:
    """diffusers' ``AutoencoderKL`` with its own attention processor."""

    vae = build_model(preset("tiny")).vae
    peer = AutoencoderKL.from_config(vae.config).eval().requires_grad_(False)
    peer.set_attn_processor(AttnProcessor2_0())
    peer.load_state_dict(vae.state_dict())

    def test_encode_gives_the_scaled_mean_of_the_posterior(self) -> None:
        pixels = noise(2, 3, 32, 32).clamp(-1, 1)
        theirs = self.peer.encode(pixels).latent_dist.mode() * self.peer.config.scaling_factor
        assert relative_error(vae_network.encode(self.vae, pixels), theirs) <= BOUND

    def test_decode(self) -> None:
        latents = noise(2, 4, 8, 8)
        theirs = self.peer.decode(latents / self.peer.config.scaling_factor).sample
        assert relative_error(vae_network.decode(self.vae, latents), theirs) <= BOUND


class TestAnimateDiff:
    """diffusers' ``AnimateDiffTransformer3D`` with copied weights, without motion frames and speed layer."""

    config = replace(preset("tiny"), speed=None, frames=6)
    names = (
        ("attention_blocks.0", "attn1"),
        ("attention_blocks.1", "attn2"),
        ("norms.0", "norm1"),
        ("norms.1", "norm2"),
        ("ff_norm", "norm3"),
    )

    def test_temporal_module(self) -> None:
        """The peer takes its GroupNorm over all frames at once, AnimateDiff itself and Hallo over each frame: the two
        agree on features that are already normalised in every frame and group."""
        torch.manual_seed(6)
        module = TemporalModule(self.config, 32).requires_grad_(False)
        peer = self._peer()
        peer.load_state_dict({self._peer_name(key): value for key, value in module.state_dict().items()}, strict=True)
        groups = noise(2 * 6, 8, 4 * 16)
        hidden = ((groups - groups.mean(2, True)) / groups.std(2, correction=0, keepdim=True)).reshape(12, 32, 4, 4)
        assert relative_error(module(hidden, None, None), peer(hidden, num_frames=6)) <= BOUND

    def _peer(self) -> AnimateDiffTransformer3D:
        temporal = self.config.temporal
        return (
            AnimateDiffTransformer3D(
                num_attention_heads=temporal.heads,
                attention_head_dim=32 // temporal.heads,
                in_channels=32,
                norm_num_groups=self.config.unet.norm_groups,
                activation_fn="geglu",
                double_self_attention=True,
                positional_embeddings="sinusoidal",
                num_positional_embeddings=temporal.max_positions,
            )
            .eval()
            .requires_grad_(False)
        )

    def _peer_name(self, key: str) -> str:
        if key.endswith("pos_encoder.pe"):
            return "transformer_blocks.0.pos_embed.pe"
        for ours, theirs in self.names:
            key = key.replace(f"transformer_blocks.0.{ours}.", f"transformer_blocks.0.{theirs}.")
        return key
