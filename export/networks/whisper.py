"""From a log-mel spectrogram to hidden states: Whisper's encoder (arXiv 2212.04356)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperConfig as TransformersConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from emo_rt.export.networks.audio import self_attention
from emo_rt.model.config import WhisperConfig


class WhisperAudioEncoder(nn.Module):
    """One piece of sound → the states in front of the first transformer layer and behind each of them.

    The last norm is not applied: EchoMimic takes the states as the layers leave them. Its weights are kept.
    """

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.whisper = WhisperEncoder(_transformers_config(config)).eval()

    def forward(self, mel: Tensor) -> Tensor:
        """(1, bands, 2 · positions), filled up with 0 behind the sound → (positions, states, hidden)."""
        inner: Any = self.whisper
        hidden = F.gelu(inner.conv1(mel.to(inner.conv1.weight.dtype)))
        hidden = F.gelu(inner.conv2(hidden)).transpose(1, 2) + inner.embed_positions.weight
        states = [hidden]
        for layer in inner.layers:
            hidden = hidden + self_attention(layer.self_attn, layer.self_attn_layer_norm(hidden))
            hidden = hidden + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(hidden))))
            states.append(hidden)
        return torch.stack(states, dim=2)[0]


def _transformers_config(config: WhisperConfig) -> TransformersConfig:
    return TransformersConfig(
        num_mel_bins=config.mel_bins,
        max_source_positions=config.positions,
        d_model=config.hidden_size,
        encoder_layers=config.num_hidden_layers,
        encoder_attention_heads=config.num_attention_heads,
        encoder_ffn_dim=config.intermediate_size,
    )
