"""SyncNet (Chung and Zisserman 2016), in the layout of ``syncnet_v2.model``: are lips and sound of one moment?"""

from __future__ import annotations

import onnx

from emo_rt.export.metrics.layers import Layers, Weights


def syncnet(weights: Weights) -> onnx.ModelProto:
    """``lips`` (n, 3, 5, 224, 224) float32 BGR 0 … 255 and ``sound`` (n, 1, 13, 20) → ``seen``, ``heard`` (n, 1024)."""
    layers = Layers(weights)
    return layers.model("syncnet", {"seen": _seen(layers, "lips"), "heard": _heard(layers, "sound")})


def _seen(layers: Layers, x: str) -> str:
    def unit(x: str, place: int, strides: tuple[int, ...], pads: tuple[int, ...]) -> str:
        names = f"netcnnlip.{place}", f"netcnnlip.{place + 1}"
        return layers.conv(x, *names, strides=strides, pads=pads)

    one = (1, 1, 1)
    x = unit(x, 0, (1, 2, 2), (0, 0, 0))
    x = layers.pool(x, "MaxPool", (1, 3, 3), (1, 2, 2))
    x = unit(x, 4, (1, 2, 2), (0, 1, 1))
    x = layers.pool(x, "MaxPool", (1, 3, 3), (1, 2, 2), (0, 1, 1))
    for place in (8, 11, 14):
        x = unit(x, place, one, (0, 1, 1))
    x = layers.pool(x, "MaxPool", (1, 3, 3), (1, 2, 2))
    return _head(layers, unit(x, 18, one, (0, 0, 0)), "netfclip")


def _heard(layers: Layers, x: str) -> str:
    def unit(x: str, place: int, pads: int = 1) -> str:
        return layers.conv(x, f"netcnnaud.{place}", f"netcnnaud.{place + 1}", pads=pads)

    x = unit(unit(x, 0), 4)
    x = layers.pool(x, "MaxPool", (3, 3), (1, 2))
    for place in (8, 11, 14):
        x = unit(x, place)
    x = layers.pool(x, "MaxPool", (3, 3), (2, 2))
    return _head(layers, unit(x, 18, pads=0), "netfcaud")


def _head(layers: Layers, x: str, name: str) -> str:
    x = layers.node("Flatten", [x], axis=1)
    return layers.linear(layers.linear(x, f"{name}.0", f"{name}.1", relu=True), f"{name}.3")
