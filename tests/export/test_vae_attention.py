"""The autoencoder's attention is diffusers' in fp32, and stays finite in fp16 where diffusers' does not."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor

from emo_rt.export.networks.vae_attention import ScaledQueryProcessor


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(
        64, heads=1, dim_head=64, norm_num_groups=8, residual_connection=True, bias=True, upcast_softmax=True,
        _from_deprecated_attn_block=True,
    ).eval()  # fmt: skip


def run(attention: Attention, processor: object, hidden: torch.Tensor) -> torch.Tensor:
    attention.set_processor(processor)
    with torch.no_grad():
        output: torch.Tensor = attention(hidden)
    return output


def test_it_is_that_of_diffusers(attention: Attention) -> None:
    hidden = torch.randn(2, 64, 6, 5)
    wanted = run(attention, AttnProcessor(), hidden)
    torch.testing.assert_close(run(attention, ScaledQueryProcessor(), hidden), wanted, rtol=1e-5, atol=1e-5)


def test_large_logits_stay_finite_in_half_precision(attention: Attention) -> None:
    """A product of 10⁵ overflows float16, which ends at 65,504; scaled it is 10⁴."""
    with torch.no_grad():
        attention.to_q.weight.mul_(80)
        attention.to_k.weight.mul_(80)
    hidden = torch.randn(1, 64, 8, 8)
    wanted = run(attention, AttnProcessor(), hidden)
    half = attention.half()
    with torch.no_grad():
        pixels = half.group_norm(hidden.half().view(1, 64, 64)).transpose(1, 2)
        products = half.to_q(pixels) @ half.to_k(pixels).transpose(1, 2)
    assert torch.isinf(products).any()  # what an exported graph would scale afterwards
    found = run(half, ScaledQueryProcessor(), hidden.half())
    assert torch.isfinite(found).all()
    assert (found.float() - wanted).norm() / wanted.norm() < 0.05  # the softmax is one-hot: a tie may fall otherwise
