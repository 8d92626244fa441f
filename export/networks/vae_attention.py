"""The autoencoder's attention, for half precision: the query is scaled before the product, not the product after it."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import Tensor


class ScaledQueryProcessor:
    """One head over all pixels, as MatMul, Softmax, MatMul.

    At 512 channels a logit of 2,895 is one of 65,504 before it is scaled, the largest number of float16. diffusers'
    own processor scales behind the product, and adds an empty tensor to it.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """``hidden_states`` (B, C, H, W) → the same shape. The other arguments are diffusers', and ``None`` here."""
        assert attn.heads == 1, "the autoencoder's attention has one head"
        batch, channels, height, width = hidden_states.shape
        hidden = attn.group_norm(hidden_states.view(batch, channels, height * width)).transpose(1, 2)
        query, key, value = attn.to_q(hidden) * attn.scale, attn.to_k(hidden), attn.to_v(hidden)
        logits = query @ key.transpose(-1, -2)
        weights = logits.float().softmax(dim=-1).to(logits.dtype)
        mixed = attn.to_out[0](weights @ value).transpose(-1, -2).reshape(hidden_states.shape)
        output: Tensor = (mixed + hidden_states) / attn.rescale_output_factor
        return output
