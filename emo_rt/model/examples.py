"""Inputs to try a graph with: random, in the ranges that the runtime hands it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array, GraphSpec
from emo_rt.model.families.registry import family_of

MASKS = ("face_mask", "audio_mask")
"""How names of tensors begin that are 0 or 1."""


def example_inputs(
    spec: GraphSpec, config: ModelConfig, normal: Callable[[tuple[int, ...]], Array]
) -> dict[str, Array]:
    """An array per input, of its shape, in float32: the caller casts, also to types that NumPy does not have. A dynamic
    axis gets :func:`example_samples`.

    ``normal``: shape → random numbers of the standard normal distribution, float32; asked for each input in order.
    """
    levels = {"timestep": 500.0, "guidance_scale": config.guidance, "speed": 0.7, "motion_scale": 1.0}
    values: dict[str, Array] = {}
    for tensor in spec.inputs:
        shape = tuple(example_samples(config) if isinstance(size, str) else size for size in tensor.shape)
        value = normal(shape)
        if tensor.name in levels:
            value = np.full_like(value, levels[tensor.name])
        values[tensor.name] = (value > 0).astype(np.float32) if tensor.name.startswith(MASKS) else value
    return values


def example_samples(config: ModelConfig) -> int:
    """Samples of one encoder window, or of one clip where the whole file is encoded at once."""
    windows = family_of(config).hearing
    return config.frames * AUDIO_SAMPLE_RATE // config.fps if windows.is_whole_file else windows.samples
