"""Attention with keys and values that can be projected once and used at every solver step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

KeyValue = tuple[Tensor, Tensor]
"""Projected keys and values, each (batch, tokens, channels): heads side by side, as the projection gives them."""


def make_attention(channels: int, heads: int, context_dim: int | None = None) -> Attention:
    """A multi-head attention from ``channels`` to ``context_dim`` (``None`` = self-attention), no bias in q, k, v."""
    return Attention(channels, cross_attention_dim=context_dim, heads=heads, dim_head=channels // heads)


def project(attention: Attention, context: Tensor) -> KeyValue:
    """Keys and values of ``context`` (batch, tokens, context_dim)."""
    return attention.to_k(context), attention.to_v(context)


def attend(attention: Attention, hidden: Tensor, context: KeyValue) -> Tensor:
    """Attention output for ``hidden`` (batch, tokens, channels); ``context`` has the same batch."""
    return leave(attention, mix(attention.to_q(hidden), context, attention.heads))


def attend_shared(attention: Attention, hidden: Tensor, context: KeyValue) -> Tensor:
    """Like :func:`attend` where all rows of the batch share one ``context`` of batch 1, or equal parts of the rows one
    row of ``context`` each (training on several clips at once).

    Such rows become one long sequence of queries: the same numbers, and the keys need no copy per row.
    """
    folded = hidden.reshape(context[0].shape[0], -1, hidden.shape[-1])
    return attend(attention, folded, context).reshape(hidden.shape)


def mix(queries: Tensor, context: KeyValue, heads: int) -> Tensor:
    """Softmax attention of ``queries`` (batch, tokens, channels): the same shape.

    In an exported graph it is one ``Attention`` on three dimensions, which no transpose surrounds. It does not say
    ``softmax_precision``: TensorRT for RTX 1.7.1 refuses to read a graph that does.
    """
    if torch.compiler.is_exporting():
        mixed: Tensor = torch.onnx.ops.attention(queries, *context, q_num_heads=heads, kv_num_heads=heads)[0]
        return mixed
    split = [tensor.unflatten(2, (heads, -1)).transpose(1, 2) for tensor in (queries, *context)]
    return F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)


def leave(attention: Attention, mixed: Tensor) -> Tensor:
    """The output projection of (batch, tokens, channels)."""
    output: Tensor = attention.to_out[0](mixed)
    return output


def null_output(attention: Attention) -> Tensor:
    """What attending to all-zero tokens gives: without k and v biases nothing but the output bias, (channels,)."""
    bias: Tensor = attention.to_out[0].bias
    return bias
