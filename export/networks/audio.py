"""From a voice to audio tokens: wav2vec 2.0 hidden states at the video's frame rate, and their projector."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from emo_rt.export.networks.attention import mix
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import AudioConfig, Wav2VecConfig


class AudioEncoder(nn.Module):
    """wav2vec 2.0 whose convolutional features are resampled to the video frame rate before the transformer.

    Hidden states of all transformer layers are given (EMO, section 3.2; resampling as in the public Hallo checkpoint).
    The waveform is taken as it is: where ``AudioConfig.normalize`` is set, the runtime normalises it before it pads it.
    """

    def __init__(self, config: AudioConfig, fps: int) -> None:
        super().__init__()
        assert isinstance(config.encoder, Wav2VecConfig)
        self.config, self.fps, self.stable = config, fps, config.encoder.do_stable_layer_norm
        self.wav2vec = Wav2Vec2Model(_transformers_config(config.encoder)).eval()

    def forward(self, waveform: Tensor) -> Tensor:
        """(1, samples) at 16 kHz → (ceil(samples / 16000 · fps), layers, hidden)."""
        return self.hidden_states(waveform)[0]

    def hidden_states(self, waveform: Tensor) -> Tensor:
        """(B, samples) at 16 kHz → (B, ceil(samples / 16000 · fps), layers, hidden)."""
        frames = (waveform.shape[1] * self.fps + AUDIO_SAMPLE_RATE - 1) // AUDIO_SAMPLE_RATE
        features = self.wav2vec.feature_extractor(waveform.to(self.wav2vec.dtype))
        features = F.interpolate(features, size=frames, mode="linear", align_corners=True).transpose(1, 2)
        projected, _ = self.wav2vec.feature_projection(features)
        return self._layers(projected)

    def _layers(self, hidden: Tensor) -> Tensor:
        """The transformer, written out so that no attention mask is built: (B, frames, hidden) → all layers."""
        encoder = self.wav2vec.encoder
        hidden = hidden + encoder.pos_conv_embed(hidden)
        hidden = hidden if self.stable else encoder.layer_norm(hidden)
        states = []
        for layer in encoder.layers:
            hidden = self._layer(layer, hidden)
            states.append(hidden)
        if self.stable:
            states[-1] = encoder.layer_norm(hidden)
        return torch.stack(states, dim=2)

    def _layer(self, layer: nn.Module, hidden: Tensor) -> Tensor:
        if self.stable:
            hidden = hidden + self_attention(layer.attention, layer.layer_norm(hidden))
            return hidden + layer.feed_forward(layer.final_layer_norm(hidden))  # type: ignore[operator]
        hidden = layer.layer_norm(hidden + self_attention(layer.attention, hidden))  # type: ignore[operator]
        output: Tensor = layer.final_layer_norm(hidden + layer.feed_forward(hidden))  # type: ignore[operator]
        return output


class AudioProjector(nn.Module):
    """A frame's window of hidden states → audio tokens (three linear layers, as in the public Hallo checkpoint)."""

    def __init__(self, config: AudioConfig) -> None:
        super().__init__()
        self.config = config
        window = (2 * config.context_frames + 1) * config.feature_dim
        self.proj1 = nn.Linear(window, config.projector_dim)
        self.proj2 = nn.Linear(config.projector_dim, config.projector_dim)
        self.proj3 = nn.Linear(config.projector_dim, config.tokens * config.token_dim)
        self.norm = nn.LayerNorm(config.token_dim)

    def forward(self, windows: Tensor) -> Tensor:
        """(F, 2m+1, layers, hidden) → (F, tokens, token_dim)."""
        hidden = F.relu(self.proj1(windows.flatten(1)))
        hidden = F.relu(self.proj2(hidden))
        output: Tensor = self.norm(self.proj3(hidden).reshape(-1, self.config.tokens, self.config.token_dim))
        return output


def self_attention(attention: nn.Module, hidden: Tensor) -> Tensor:
    """Self-attention of a transformers' speech encoder without a mask: (batch, frames, width) → the same."""
    heads: int = attention.num_heads  # type: ignore[assignment]
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    query, key, value = (projection(hidden) for projection in projections)  # type: ignore[operator]
    output: Tensor = attention.out_proj(mix(query, (key, value), heads))  # type: ignore[operator]
    return output


def _transformers_config(config: Wav2VecConfig) -> Wav2Vec2Config:
    return Wav2Vec2Config(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        conv_dim=list(config.conv_dim),
        conv_kernel=list(config.conv_kernel),
        conv_stride=list(config.conv_stride),
        conv_bias=config.conv_bias,
        feat_extract_norm=config.feat_extract_norm,
        num_conv_pos_embeddings=config.num_conv_pos_embeddings,
        num_conv_pos_embedding_groups=config.num_conv_pos_embedding_groups,
        do_stable_layer_norm=config.do_stable_layer_norm,
        layer_norm_eps=config.layer_norm_eps,
        mask_time_prob=0.0,
    )
