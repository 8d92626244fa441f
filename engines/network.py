"""An ONNX graph as a network of TensorRT: read from its file, strongly typed, with its dynamic axis given a range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emo_rt.device.tensorrt.package import TensorRT
from emo_rt.device.tensorrt.plan import Profile
from emo_rt.errors import EngineBuildError


@dataclass(frozen=True)
class Network:
    """A parsed graph."""

    definition: Any
    """``INetworkDefinition``."""
    parser: Any
    """Holds the weight files open: it must live until the engine is built."""
    attentions: tuple[str, ...]
    """Names of the ONNX ``Attention`` nodes."""


def parse(package: TensorRT, builder: Any, file: Path) -> Network:
    """Read an ONNX file and the weight files beside it. Raises :class:`EngineBuildError` with the parser's reasons."""
    definition = builder.create_network(_creation_flags(package))
    parser = package.module.OnnxParser(definition, package.logger)
    if not parser.parse_from_file(str(file)):
        errors = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
        reasons = "; ".join(dict.fromkeys(errors))  # each node of a kind says the same
        reasons = reasons or "it does not say why"
        raise EngineBuildError(f"{package.name} {package.version} cannot read {file}: {reasons}")
    return Network(definition, parser, _permit_plain_attention(package, definition))


def add_profile(builder: Any, config: Any, shapes: Mapping[str, Profile]) -> None:
    """Tell the builder in which range the dynamic shapes lie. Raises :class:`EngineBuildError` if it refuses."""
    if not shapes:
        return
    profile = builder.create_optimization_profile()
    for name, (smallest, usual, largest) in shapes.items():
        profile.set_shape(name, smallest, usual, largest)
    if config.add_optimization_profile(profile) < 0:
        raise EngineBuildError(f"the builder refuses the shapes {dict(shapes)}")


def _creation_flags(package: TensorRT) -> int:
    """Precision is what the ONNX file says: 10.x must be told so, 11 knows nothing else and accepts the flag."""
    flag = getattr(package.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _permit_plain_attention(package: TensorRT, definition: Any) -> tuple[str, ...]:
    """Allow attention to be built from plain operators where there is no fused kernel, which otherwise ends the build.

    There is none in fp32, nor for heads of 8 or of 512. Where there is one it is used all the same. Gives the names of
    the attentions.
    """
    names = []
    for index in range(definition.num_layers):
        layer = definition.get_layer(index)
        if layer.type == package.module.LayerType.ATTENTION_OUTPUT:
            layer.__class__ = package.module.IAttentionOutputLayer  # the binding gives the base class
            layer.attention.decomposable = True
            names.append(str(layer.attention.name))
    return tuple(names)
