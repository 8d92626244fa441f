"""All rewrites in their order."""

from __future__ import annotations

from collections import Counter

import onnx

from emo_rt.device.cuda_form.biases import (
    bias_behind_frames,
    bias_behind_halves,
    bias_behind_motion,
    products_for_convolutions,
    time_for_each_picture,
)
from emo_rt.device.cuda_form.editor import Editor
from emo_rt.device.cuda_form.residuals import fuse_bias_and_residual, fuse_layer_norms, fuse_residual_group_norms
from emo_rt.device.cuda_form.rewrite import (
    fuse_geglu,
    fuse_group_norms,
    grow_channels_last,
    keep_frames_channels_last,
)

PASSES = (
    (bias_behind_halves, bias_behind_motion, products_for_convolutions, bias_behind_frames, time_for_each_picture),
    (fuse_residual_group_norms,),
    (fuse_group_norms, fuse_geglu, fuse_layer_norms, grow_channels_last),
    (fuse_bias_and_residual, keep_frames_channels_last),
)
"""Rewrites that see the same graph; each pass sees what the one before it made."""


def rewritten(source: bytes) -> tuple[bytes, dict[str, int]]:
    """An ONNX file → the rewritten model, and the operators with their number: those that were put in, and
    ``GroupNormalization`` where one stayed."""
    model = onnx.ModelProto()
    model.ParseFromString(source)
    put_in: Counter[str] = Counter()
    for rewrites in PASSES:
        editor = Editor(model)
        for rewrite in rewrites:
            rewrite(editor)
        model = editor.finish()
        put_in += editor.put_in
    left = len(Editor(model).nodes("GroupNormalization"))
    return model.SerializeToString(), dict(put_in) | ({"GroupNormalization": left} if left else {})
