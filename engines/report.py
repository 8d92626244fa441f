"""The build report of one engine. It sums up what TensorRT says of the engine, never what the build asked for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emo_rt.engines.facts import EngineFacts, Layer

SHOWN = 40
"""Most names in a list of the report, like that of attentions that are not fused. Counts cover all of them."""
NUMBERED = re.compile(r"^_+(?:myl_)?(\w+?)_myl\d+_\d+$")
"""Name of a layer that TensorRT made a kernel for."""
WAITING = ("signal", "wait")
"""Kinds of layers that compute nothing; they make other layers wait."""


@dataclass(frozen=True)
class Attention:
    """What became of the graph's attention nodes. An attention is fused if a fused kernel names its ONNX node."""

    in_graph: int
    fused: int | None
    """``None`` where TensorRT says nothing of its layers."""
    not_fused: list[str] | None
    """Names of nodes, at most :data:`SHOWN`."""


@dataclass(frozen=True)
class FullLayers:
    """Layers that compute in fp32."""

    count: int | None
    names: list[str]
    """At most :data:`SHOWN`."""


@dataclass(frozen=True)
class Report:
    """What the sidecar keeps, as plain values."""

    source: str | None
    interface_checked_on: str
    """Whose inputs and outputs were compared with the contract."""
    engines: int | None
    scratch_bytes: int | None
    weight_bytes: int | None
    layers: int | None
    kinds: dict[str, int]
    """Layers by kind, the most frequent first."""
    kernels: dict[str, int]
    """Layers that a kernel was made for, by what it does: TensorRT's name without its number. At most :data:`SHOWN`."""
    attention: Attention
    fp32_layers: FullLayers


def make_report(facts: EngineFacts, checked_on: str, attentions: Sequence[str]) -> Report:
    """``checked_on``: see :class:`Report`; ``attentions``: names of the graph's attention nodes."""
    layers = [layer for layer in facts.layers if layer.kind not in WAITING]
    full = [layer for layer in layers if layer.types == {"float32"}]
    numbers = facts.numbers or {}
    return Report(
        source=facts.source,
        interface_checked_on=checked_on,
        engines=numbers.get("engines"),
        scratch_bytes=numbers.get("scratch_bytes"),
        weight_bytes=numbers.get("weight_bytes"),
        layers=len(layers) if facts.layers else None,
        kinds=dict(Counter(layer.kind for layer in layers).most_common()),
        kernels=_kernels(layers),
        attention=_attention(facts, attentions),
        fp32_layers=FullLayers(len(full) if facts.layers else None, [layer.name for layer in full[:SHOWN]]),
    )


def _kernels(layers: Sequence[Layer]) -> dict[str, int]:
    """``__myl_ReshTranMove_myl0_21`` → ``ReshTranMove``."""
    found = Counter(match[1] for layer in layers if (match := NUMBERED.match(layer.name)))
    return dict(found.most_common(SHOWN))


def _attention(facts: EngineFacts, names: Sequence[str]) -> Attention:
    fused = {node for layer in facts.layers if layer.is_fused_attention for node in layer.nodes}
    plain = [name for name in names if name not in fused]
    known = bool(facts.layers) or not names
    return Attention(len(names), len(names) - len(plain) if known else None, plain[:SHOWN] if known else None)


def attention_text(report: Mapping[str, Any]) -> str:
    """Of a sidecar's report: ``16 of 16 fused``, ``none in the graph`` or ``unknown``."""
    attention = report["attention"]
    if attention["in_graph"] == 0:
        return "-"
    if attention["fused"] is None:
        return f"? of {attention['in_graph']}"
    return f"{attention['fused']} of {attention['in_graph']}"
