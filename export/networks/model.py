"""All networks of one checkpoint, and what each computes once so that the solver step need not.

The methods give tensors under the names of :mod:`emo_rt.model.contract`; :mod:`emo_rt.export.graph_modules` wraps them
for tracing, training calls them one after another.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from emo_rt.export.networks.attention import KeyValue, project
from emo_rt.export.networks.audio import AudioEncoder, AudioProjector
from emo_rt.export.networks.backbone import Backbone, BackboneBlock
from emo_rt.export.networks.face_locator import FaceLocator
from emo_rt.export.networks.reference_net import ReferenceNet
from emo_rt.export.networks.speed import SpeedEncoder
from emo_rt.export.networks.temporal import TemporalModule
from emo_rt.export.networks.transformer import to_tokens
from emo_rt.export.networks.vae import make_vae
from emo_rt.export.networks.whisper import WhisperAudioEncoder
from emo_rt.model.config import ModelConfig, WhisperConfig
from emo_rt.model.contract import AUDIO_REGIONS, Site, has_temporal, sites

Features = dict[str, Tensor]


class FaceProjector(nn.Module):
    """Face embedding (1, E) → face tokens (1, tokens, dim): linear and LayerNorm (Hallo's ``imageproj``)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        reference = config.reference
        self.shape = (1, reference.face_tokens, reference.face_token_dim)
        self.proj = nn.Linear(reference.face_embedding_dim, reference.face_tokens * reference.face_token_dim)
        self.norm = nn.LayerNorm(reference.face_token_dim)

    def forward(self, embedding: Tensor) -> Tensor:
        """Tokens of one face."""
        tokens: Tensor = self.norm(self.proj(embedding).reshape(self.shape))
        return tokens


class EmoModel(nn.Module):
    """Backbone, ReferenceNet, audio encoder and projector, face locator, speed encoder, VAE."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.sites = sites(config.unet)
        self.backbone = Backbone(config)
        self.reference_net = ReferenceNet(config)
        self.audio_encoder = _audio_encoder(config)
        if config.audio.projector_dim:
            self.audio_projector = AudioProjector(config.audio)
        self.face_locator = FaceLocator(config.locator, config.unet.block_out_channels[0])
        self.vae = make_vae(config.vae)
        if config.speed:
            self.speed_encoder = SpeedEncoder(config.speed, config.audio.context_frames)
        if config.reference.face_tokens:
            self.face_projector = FaceProjector(config)
        if config.audio.null == "learned":
            self.null_audio = nn.Parameter(torch.randn(1, config.audio.tokens, config.audio.token_dim) * 0.02)

    @property
    def dtype(self) -> torch.dtype:
        """Float type of the network."""
        return next(self.parameters()).dtype

    def portrait_features(
        self, latent: Tensor, face_mask: Tensor, face_embedding: Tensor | None, guided: bool = True
    ) -> Features:
        """``latent`` (1, 4, S, S), ``face_mask`` (1, C, size, size) → face feature, reference K/V, face-token K/V."""
        features = {"face_feature": self.face_locator(face_mask)}
        tokens = None if face_embedding is None else self.face_projector(face_embedding)
        reference = self._portrait_maps(latent, tokens, guided)
        for site, block in self.blocks():
            attention = block.reference_attention()
            _store(features, "reference", site, project(attention, to_tokens(reference[site.name])))
            if tokens is not None:
                _store(features, "face", site, project(block.attn2, tokens))
        if tokens is not None:
            features["face_tokens"] = tokens
        return features

    def clip_features(
        self, motion: Tensor, windows: Tensor, speed: Tensor | None, face_tokens: Tensor | None, guided: bool = True
    ) -> Features:
        """``motion`` (N, 4, S, S), ``windows`` (F, 2m+1, layers, hidden), ``speed`` (F,) → all that a clip fixes."""
        tokens = self.audio_projector(windows)
        features = {"audio_tokens": tokens, **self.audio_features(tokens)}
        self._add_motion(features, motion, face_tokens, guided)
        if speed is not None:
            speed_tokens = self.speed_encoder(speed)[None]
            for site in filter(lambda site: has_temporal(self.config, site), self.sites):
                block = self.temporal(site).transformer_blocks[0]
                _store(features, "speed", site, project(block.attn_speed, speed_tokens))
        return features

    def audio_features(self, tokens: Tensor) -> Features:
        """Audio tokens (F, tokens, dim) → their K/V at each site (and region)."""
        features: Features = {}
        for site, _ in self.blocks():
            for suffix in audio_heads(self.config):
                _store(features, f"audio{suffix}", site, project(self.audio_attention(site, suffix), tokens))
        return features

    @torch.no_grad()
    def null_features(self) -> Features:
        """What the unconditional half gets instead: constants of the checkpoint."""
        features: Features = {}
        reference = self.config.reference
        for site, block in self.blocks():
            if reference.mode == "cross" and reference.null == "learned":
                features[f"reference_null.{site.name}"] = block.attn2.to_out[0](block.attn2.to_v(block.null_reference))
            if reference.face_tokens:
                _store(features, "face_null", site, project(block.attn2, self.null_face_tokens()))
            if self.config.audio.null == "learned":
                for suffix in audio_heads(self.config):
                    attention = self.audio_attention(site, suffix)
                    _store(features, f"audio{suffix}_null", site, project(attention, self.null_audio))
        return features

    def null_face_tokens(self) -> Tensor:
        """Face tokens of the unconditional half: those of an all-zero embedding, not zero tokens (Hallo)."""
        zeros = self.backbone.conv_in.weight.new_zeros(1, self.config.reference.face_embedding_dim)
        tokens: Tensor = self.face_projector(zeros)
        return tokens

    def blocks(self) -> list[tuple[Site, BackboneBlock]]:
        """Backbone's spatial attention blocks with their sites."""
        pairs = self.backbone_parts()
        return [(site, parts["attentions"].block) for site, parts in pairs if "attentions" in parts]  # type: ignore[misc]

    def temporal(self, site: Site) -> TemporalModule:
        """The temporal module of a site."""
        module = dict(self.backbone_parts())[site]["temporal_modules"]
        assert isinstance(module, TemporalModule)
        return module

    def audio_attention(self, site: Site, suffix: str) -> nn.Module:
        """The audio attention of a site (and region)."""
        parts = dict(self.backbone_parts())[site]
        if not suffix:
            attention: nn.Module = parts["attentions"].block.attn_audio  # type: ignore[union-attr,assignment]
            return attention
        return dict(parts["audio_modules"].block.region_attentions())[suffix[1:]]  # type: ignore[union-attr,operator]

    def backbone_parts(self) -> list[tuple[Site, dict[str, nn.Module]]]:
        """Every site with what it carries."""
        blocks = [*self.backbone.down_blocks, self.backbone.mid_block, *self.backbone.up_blocks]
        return [(site, parts) for block in blocks for _, site, parts in block.steps()]  # type: ignore[operator]

    def _add_motion(self, features: Features, motion: Tensor, face_tokens: Tensor | None, guided: bool) -> None:
        if face_tokens is None:
            self._add_motion_tokens(features, "motion", self.reference_net.features(motion))
            return
        count = motion.shape[0]
        if not guided:
            maps = self.reference_net.features(motion, face_tokens.expand(count, -1, -1))
            self._add_motion_tokens(features, "motion", maps)
            return
        rows = [half * (count + 1) + 1 + row for half in (0, 1) for row in range(count)]
        both = self.reference_net.features(motion.repeat(2, 1, 1, 1), self._tiled_face_tokens(face_tokens, rows))
        for half, kind in enumerate(("motion_unconditional", "motion")):
            maps = {site: feature[half * count : (half + 1) * count] for site, feature in both.items()}
            self._add_motion_tokens(features, kind, maps)

    def _portrait_maps(self, latent: Tensor, face_tokens: Tensor | None, guided: bool) -> dict[str, Tensor]:
        """ReferenceNet features of the portrait, (R, C, h, w) each: one set per guidance half where they differ."""
        if face_tokens is None or not guided:
            return self.reference_net.features(latent, face_tokens)
        period = self.config.motion_frames + 1
        tokens = self._tiled_face_tokens(face_tokens, [0, period])
        return self.reference_net.features(latent.expand(2, -1, -1, -1), tokens)

    def _tiled_face_tokens(self, face_tokens: Tensor, rows: list[int]) -> Tensor:
        """Face tokens of some rows of the ReferenceNet's batch, as Hallo mixes them up.

        Its batch is [portrait, motion 1 … N] for the unconditional, then for the conditional half, while the tokens
        alternate u, c, u, c, … over all rows; the released weights are used with exactly this.
        """
        choices = (self.null_face_tokens(), face_tokens)
        return torch.cat([choices[row % 2] for row in rows])

    def _add_motion_tokens(self, features: Features, kind: str, maps: dict[str, Tensor]) -> None:
        for site in self.sites:
            if has_temporal(self.config, site):
                features[f"{kind}.{site.name}"] = self.temporal(site).motion_tokens(maps[site.name])


def _audio_encoder(config: ModelConfig) -> nn.Module:
    encoder = config.audio.encoder
    whisper = isinstance(encoder, WhisperConfig)
    return WhisperAudioEncoder(encoder) if whisper else AudioEncoder(config.audio, config.fps)


def _store(features: Features, kind: str, site: Site, pair: KeyValue) -> None:
    features[f"{kind}_key.{site.name}"], features[f"{kind}_value.{site.name}"] = pair


def build_model(config: ModelConfig, seed: int = 0) -> EmoModel:
    """A model with random weights, none of its outputs zero (training zero-initialises on its own)."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also reseed every GPU
        return EmoModel(config).eval().requires_grad_(False)


def parameter_counts(model: EmoModel) -> dict[str, int]:
    """Parameters by part, beside the published ones (SD 1.5 UNet 859.5 M; AnimateDiff v2 temporal modules 453 M)."""
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in model.named_children()}
    counts |= {name: p.numel() for name, p in model.named_parameters(recurse=False)}
    temporal = [module for module in model.backbone.modules() if isinstance(module, TemporalModule)]
    counts["backbone: temporal modules"] = sum(p.numel() for module in temporal for p in module.parameters())
    return counts


def audio_heads(config: ModelConfig) -> tuple[str, ...]:
    """Name suffixes of the audio attentions at one site: one plain, or one per region."""
    return ("",) if config.audio.attention == "single" else tuple(f"_{region}" for region in AUDIO_REGIONS)
