"""The Stable Diffusion 1.5 UNet layout that Backbone and ReferenceNet share: residual blocks, skips and sites.

Module names are those of diffusers' ``UNet2DConditionModel``, so that state dicts of the family fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import Downsample2D, ResnetBlock2D, Upsample2D
from torch import Tensor, nn

from emo_rt.model.config import UNetConfig
from emo_rt.model.contract import Site, sites, time_channels

MakeParts = Callable[[Site], Mapping[str, nn.Module]]
Visit = Callable[[Site, Tensor, Mapping[str, nn.Module]], Tensor]


class UNet(nn.Module):
    """Residual blocks with time embedding, down and up; what sits at the sites is the subclass's affair."""

    def __init__(self, config: UNetConfig, latent_channels: int, make_parts: MakeParts) -> None:
        super().__init__()
        widths = config.block_out_channels
        self.config = config
        self.conv_in = nn.Conv2d(latent_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], 4 * widths[0])
        all_sites = sites(config)
        self.down_blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            members = [site for site in all_sites if site.name.startswith(f"down_{level}_")]
            inputs = [widths[max(level - 1, 0)]] + [width] * (len(members) - 1)
            block = UNetBlock(config, members, inputs, make_parts)
            if level < len(widths) - 1:
                block.downsamplers = nn.ModuleList([Downsample2D(width, use_conv=True, padding=1, name="op")])
            self.down_blocks.append(block)
        self.up_blocks = nn.ModuleList()
        for index, level in enumerate(reversed(range(len(widths)))):
            members = [site for site in all_sites if site.name.startswith(f"up_{index}_")]
            block = UNetBlock(config, members, _up_inputs(widths, level, len(members)), make_parts)
            if level > 0:
                block.upsamplers = nn.ModuleList([Upsample2D(widths[level], use_conv=True)])
            self.up_blocks.append(block)
        mid = [site for site in all_sites if site.name == "mid"]
        self.mid_block = UNetBlock(config, mid, [widths[-1]], make_parts, tail=1)

    def residual_blocks(self) -> list[ResnetBlock2D]:
        """All residual blocks in the order of execution."""
        blocks = [*self.down_blocks, self.mid_block, *self.up_blocks]
        return [resnet for block in blocks for resnet in block.resnets]

    def time_shifts(self, timestep: Tensor) -> Tensor:
        """``timestep`` (1,) float32 → every residual block's projected time embedding, (1, total width)."""
        dtype = self.conv_in.weight.dtype
        embedding = F.silu(self.time_embedding(self.time_proj(timestep).to(dtype)))
        return torch.cat([resnet.time_emb_proj(embedding) for resnet in self.residual_blocks()], dim=1)

    def enter(self, latents: Tensor) -> Tensor:
        """Latents (B, 4, S, S) → features (B, C0, S, S): first convolution and, if there is one, the position map."""
        hidden: Tensor = self.conv_in(latents)
        if self.config.position_map:
            hidden = hidden + position_map(hidden.shape[1], hidden.shape[2], hidden.device).to(hidden.dtype)
        return hidden

    def walk(
        self, hidden: Tensor, time_shifts: Tensor, visit: Visit, kept: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """From what :meth:`enter` gives to the features before the output layers, calling ``visit`` at every site.

        With ``kept`` also what :meth:`walk_outside` needs to leave out the inner blocks.
        """
        deep = None
        shifts = iter(time_shifts.split(list(time_channels(self.config)), dim=1))
        skips = [hidden]
        for block in self.down_blocks:
            for resnet, site, parts in block.steps():
                hidden = visit(site, residual(resnet, hidden, next(shifts)), parts)
                skips.append(hidden)
            for downsampler in getattr(block, "downsamplers", ()):
                hidden = downsampler(hidden)
                skips.append(hidden)
        for resnet, site, parts in self.mid_block.steps():
            hidden = visit(site, residual(resnet, hidden, next(shifts)), parts)
        hidden = residual(self.mid_block.resnets[-1], hidden, next(shifts))
        for block in self.up_blocks:
            for resnet, site, parts in block.steps():
                if kept is not None and len(skips) == kept + 1:
                    deep = hidden
                hidden = residual(resnet, torch.cat([hidden, skips.pop()], dim=1), next(shifts))
                hidden = visit(site, hidden, parts)
            for upsampler in getattr(block, "upsamplers", ()):
                hidden = upsampler(hidden)
        return hidden, deep

    def walk_outside(self, hidden: Tensor, time_shifts: Tensor, visit: Visit, kept: int, deep: Tensor) -> Tensor:
        """As :meth:`walk`, but only the first ``kept`` residual blocks and the ``kept`` + 1 last: those between them
        gave ``deep`` at an earlier step (DeepCache, arXiv 2312.00858)."""
        shifts = time_shifts.split(list(time_channels(self.config)), dim=1)
        skips = [hidden]
        for (resnet, site, parts), shift in zip(self.down_blocks[0].steps()[:kept], shifts[:kept], strict=True):
            hidden = visit(site, residual(resnet, hidden, shift), parts)
            skips.append(hidden)
        hidden, last = deep, kept + 1
        for (resnet, site, parts), shift in zip(self.up_blocks[-1].steps()[-last:], shifts[-last:], strict=True):
            hidden = residual(resnet, torch.cat([hidden, skips.pop()], dim=1), shift)
            hidden = visit(site, hidden, parts)
        return hidden


class UNetBlock(nn.Module):
    """The residual blocks of one resolution and what the sites carry, in one ModuleList per kind."""

    def __init__(
        self, config: UNetConfig, members: list[Site], inputs: list[int], make_parts: MakeParts, tail: int = 0
    ) -> None:
        super().__init__()
        self.sites = members
        widths = [*inputs, *[members[-1].channels] * tail]
        self.resnets = nn.ModuleList([_resnet(config, width, members[-1].channels) for width in widths])
        self.kinds: tuple[str, ...] = ()
        for site in members:
            parts = make_parts(site)
            self.kinds = tuple(parts)
            for kind, module in parts.items():
                if not hasattr(self, kind):
                    self.add_module(kind, nn.ModuleList())
                self.get_submodule(kind).append(module)  # type: ignore[operator]

    def steps(self) -> list[tuple[ResnetBlock2D, Site, dict[str, nn.Module]]]:
        """Residual block, site and the site's parts by kind, in order."""
        return [
            (self.resnets[i], site, {kind: getattr(self, kind)[i] for kind in self.kinds})
            for i, site in enumerate(self.sites)
        ]


def residual(resnet: ResnetBlock2D, hidden: Tensor, time_shift: Tensor) -> Tensor:
    """A residual block whose time embedding (1, channels) was projected before."""
    inner = resnet.conv1(resnet.nonlinearity(resnet.norm1(hidden)))
    inner = inner + time_shift[:, :, None, None]
    inner = resnet.conv2(resnet.nonlinearity(resnet.norm2(inner)))
    return (resnet.conv_shortcut(hidden) if resnet.conv_shortcut is not None else hidden) + inner


def position_map(channels: int, size: int, device: torch.device | None = None) -> Tensor:
    """Sines and cosines of row and column, (1, channels, size, size): as a vision transformer's fixed positions."""
    quarter = channels // 4
    rate = torch.exp(torch.arange(quarter, device=device) * (-math.log(100.0) / quarter))
    angles = torch.arange(size, device=device)[:, None] * rate  # (size, quarter)
    across = torch.cat([angles.sin(), angles.cos()], dim=1).T
    rows, columns = across[:, :, None].expand(-1, -1, size), across[:, None, :].expand(-1, size, -1)
    both = torch.cat([rows, columns])
    return F.pad(both, (0, 0, 0, 0, 0, channels - len(both)))[None]


def _resnet(config: UNetConfig, in_channels: int, out_channels: int) -> ResnetBlock2D:
    return ResnetBlock2D(
        in_channels=in_channels,
        out_channels=out_channels,
        temb_channels=4 * config.block_out_channels[0],
        groups=config.norm_groups,
        eps=1e-5,
    )


def _up_inputs(widths: tuple[int, ...], level: int, count: int) -> list[int]:
    """Channels into each residual block on the way up: features so far + the skip that joins them."""
    previous = widths[min(level + 1, len(widths) - 1)]
    skips = [widths[level]] * (count - 1) + [widths[max(level - 1, 0)]]
    return [(previous if j == 0 else widths[level]) + skip for j, skip in enumerate(skips)]
