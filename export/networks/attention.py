"""Attention with keys and values that can be projected once and used at every solver step; guidance halves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from torch import Tensor

KeyValue = tuple[Tensor, Tensor]
"""Projected keys and values, each (batch, heads, tokens, head_dim)."""


def make_attention(channels: int, heads: int, context_dim: int | None = None) -> Attention:
    """A multi-head attention from ``channels`` to ``context_dim`` (``None`` = self-attention), no bias in q, k, v."""
    return Attention(channels, cross_attention_dim=context_dim, heads=heads, dim_head=channels // heads)


def project(attention: Attention, context: Tensor) -> KeyValue:
    """Keys and values of ``context`` (batch, tokens, context_dim)."""
    return _split(attention, attention.to_k(context)), _split(attention, attention.to_v(context))


def attend(attention: Attention, hidden: Tensor, context: KeyValue) -> Tensor:
    """Attention output for ``hidden`` (batch, tokens, channels); ``context`` has the same batch."""
    return merge(attention, F.scaled_dot_product_attention(query(attention, hidden), *context))


def attend_shared(attention: Attention, hidden: Tensor, context: KeyValue) -> Tensor:
    """Like :func:`attend` where all rows of the batch share one ``context`` of batch 1, or equal parts of the rows one
    row of ``context`` each (training on several clips at once).

    Such rows become one long sequence of queries: the same numbers, and the keys need no copy per row.
    """
    folded = hidden.reshape(context[0].shape[0], -1, hidden.shape[-1])
    return attend(attention, folded, context).reshape(hidden.shape)


def query(attention: Attention, hidden: Tensor) -> Tensor:
    """Queries of ``hidden``: (batch, heads, tokens, head_dim)."""
    return _split(attention, attention.to_q(hidden))


def merge(attention: Attention, heads: Tensor) -> Tensor:
    """(batch, heads, tokens, head_dim) → output projection → (batch, tokens, channels)."""
    batch, count, tokens, width = heads.shape
    output: Tensor = attention.to_out[0](heads.transpose(1, 2).reshape(batch, tokens, count * width))
    return output


def null_output(attention: Attention) -> Tensor:
    """What attending to all-zero tokens gives: without k and v biases nothing but the output bias, (channels,)."""
    bias: Tensor = attention.to_out[0].bias
    return bias


def _split(attention: Attention, tokens: Tensor) -> Tensor:
    batch, length, channels = tokens.shape
    return tokens.reshape(batch, length, attention.heads, channels // attention.heads).transpose(1, 2)


def add_to_halves(hidden: Tensor, unconditional: Tensor | None, conditional: Tensor) -> Tensor:
    """Each guidance half of ``hidden`` plus its own summand, which may broadcast; ``None`` = nothing.

    No half's summand is written out to full size: a bias would be stored so in the graph.
    """
    first, second = hidden.chunk(2)
    return torch.cat([first if unconditional is None else first + unconditional, second + conditional])
