"""What the networks have come to, in one small file beside the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from emo_rt.files import whole_file
from training.borrowed.clock import Trainer
from training.larger.loop import PEAK

KEPT = Path(__file__).with_name("kept.npz")
"""Averaged weights so far, fp16."""
Network = TypeVar("Network", bound=nn.Module)


def started(network: Network, name: str) -> Network:
    """With the weights in :data:`KEPT`, if it has some of that name."""
    if KEPT.exists():
        with np.load(KEPT) as kept:
            own = {key.partition("/")[2]: kept[key] for key in kept.files if key.startswith(f"{name}/")}
        if own:
            network.load_state_dict({key: torch.from_numpy(value).float() for key, value in own.items()})
    return network.to(memory_format=torch.channels_last)


def trained(network: Network, name: str, folder: Path) -> Network:
    """With the averaged weights of its checkpoint; without one, with those in :data:`KEPT`."""
    network, path = started(network, name), folder / f"{name}.pt"
    if path.exists():
        Trainer(path, list(network.parameters()), PEAK).use_average()
    return network


def keep(networks: Mapping[str, nn.Module]) -> None:
    """Write the weights of these into :data:`KEPT`, whole or not at all."""
    arrays: dict[str, NDArray[np.float16]] = {}
    for name, network in networks.items():
        arrays |= {f"{name}/{key}": value.half().numpy() for key, value in network.state_dict().items()}
    with whole_file(KEPT) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays)
