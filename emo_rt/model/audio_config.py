"""What hears: the audio encoder, and how the Backbone attends to what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from emo_rt.checks import all_positive, check


@dataclass(frozen=True)
class Wav2VecConfig:
    """Shape of the wav2vec 2.0 encoder; the names are those of ``transformers.Wav2Vec2Config``."""

    hidden_size: int = 768
    """Width of the transformer."""
    num_hidden_layers: int = 12
    """Transformer layers; the hidden states of all of them are used."""
    num_attention_heads: int = 12
    """Attention heads."""
    intermediate_size: int = 3072
    """Width of the feed-forward layers."""
    conv_dim: tuple[int, ...] = (512,) * 7
    """Channels of the convolutional feature extractor."""
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    """Kernel sizes of the feature extractor, in samples of its input."""
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    """Strides of the feature extractor; their product is 320 samples = 20 ms."""
    conv_bias: bool = False
    """Whether the convolutions have a bias."""
    feat_extract_norm: Literal["group", "layer"] = "group"
    """Normalisation in the feature extractor. ``group`` looks at the whole window, ``layer`` at one moment."""
    num_conv_pos_embeddings: int = 128
    """Kernel size of the convolutional position embedding."""
    num_conv_pos_embedding_groups: int = 16
    """Groups of the convolutional position embedding."""
    do_stable_layer_norm: bool = False
    """LayerNorm before (true) or after (false) each transformer sub-layer."""
    layer_norm_eps: float = 1e-5
    """Epsilon of every LayerNorm."""

    @property
    def states(self) -> int:
        """Hidden states per video frame: what each layer gives."""
        return self.num_hidden_layers

    def __post_init__(self) -> None:
        lengths = {len(self.conv_dim), len(self.conv_kernel), len(self.conv_stride)}
        check(len(lengths) == 1, "wav2vec.conv_dim, conv_kernel, conv_stride", lengths, "the same number of layers")
        all_positive(self, "wav2vec", "hidden_size", "num_hidden_layers", "num_attention_heads", "conv_dim",
                      "conv_kernel", "conv_stride")  # fmt: skip


@dataclass(frozen=True)
class WhisperConfig:
    """Shape of Whisper's encoder (arXiv 2212.04356); the defaults are those of ``tiny`` (EchoMimic)."""

    hidden_size: int = 384
    """Width of the transformer."""
    num_hidden_layers: int = 4
    """Transformer layers. The states in front of the first and behind each of them are used."""
    num_attention_heads: int = 6
    """Attention heads."""
    intermediate_size: int = 1536
    """Width of the feed-forward layers."""
    mel_bins: int = 80
    """Rows of the log-mel spectrogram."""
    positions: int = 1500
    """Length of the position table: rows of one piece of sound, two mel columns each."""

    def __post_init__(self) -> None:
        all_positive(self, "whisper", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                      "mel_bins", "positions")  # fmt: skip
        heads = self.num_attention_heads
        check(self.hidden_size % heads == 0, "whisper.num_attention_heads", heads, f"a divisor of {self.hidden_size}")

    @property
    def states(self) -> int:
        """Hidden states per row: the transformer's input, and what each layer gives."""
        return self.num_hidden_layers + 1


@dataclass(frozen=True)
class AudioConfig:
    """Audio features and how the Backbone attends to them (EMO section 3.2, Audio Layers)."""

    encoder: Wav2VecConfig | WhisperConfig = field(default_factory=Wav2VecConfig)
    """The encoder: wav2vec 2.0, or Whisper's."""
    context_frames: int = 2
    """m: each frame sees its m neighbours on both sides."""
    tokens: int = 32
    """Audio tokens per frame after the projector (Hallo: 32; not given for EMO)."""
    token_dim: int = 768
    """Width of one audio token."""
    projector_dim: int = 512
    """Width of the projector's two hidden layers. 0 = no projector: a frame's hidden states are its tokens
    (EchoMimic)."""
    attention: Literal["single", "hierarchical"] = "single"
    """``single``: one audio-attention after the reference-attention (EMO). ``hierarchical``: a module of its own with
    masked full, face and lip attentions (Hallo)."""
    null: Literal["zero", "learned"] = "zero"
    """The audio tokens of the unconditional half."""
    normalize: bool = False
    """Scale the whole waveform to zero mean and unit variance first. Needs ``window_frames`` = 0."""
    window_frames: int = 24
    """0 = the audio encoder hears the whole file in one run (no exact streaming). Any other number: it runs once per
    clip, over what the family's ``hearing`` says; training takes so many frames at once."""
    left_context_frames: int = 24
    """Frames of audio before the window that the encoder also hears."""
    right_context_frames: int = 12
    """Frames of audio after the window that the encoder also hears: the look-ahead of a stream."""

    def __post_init__(self) -> None:
        for name in ("context_frames", "window_frames", "left_context_frames", "right_context_frames"):
            check(getattr(self, name) >= 0, f"audio.{name}", getattr(self, name), "0 or more")
        all_positive(self, "audio", "tokens", "token_dim")
        check(self.projector_dim >= 0, "audio.projector_dim", self.projector_dim, "0 or more")
        rows, width = self.tokens / self.encoder.states, self.encoder.hidden_size
        check(
            self.projector_dim > 0 or (rows.is_integer() and self.token_dim == width),
            "audio.tokens, token_dim",
            (self.tokens, self.token_dim),
            f"hidden states of whole rows without a projector: a multiple of {self.encoder.states}, and {width}",
        )
        check(self.attention in ("single", "hierarchical"), "audio.attention", self.attention, "single or hierarchical")
        check(self.null in ("zero", "learned"), "audio.null", self.null, "'zero' or 'learned'")
        check(
            self.window_frames == 0 or not self.normalize,
            "audio.normalize",
            self.normalize,
            "false with windows: a stream's mean and variance are not known in advance",
        )

    @property
    def feature_dim(self) -> int:
        """D: hidden states of all layers, concatenated."""
        return self.encoder.hidden_size * self.encoder.states
