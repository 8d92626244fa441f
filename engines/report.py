"""The build report of one engine. It sums up what TensorRT says of the engine, never what the build asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from emo_rt.engines.facts import EngineFacts

SHOWN = 40
"""Most names in a list of the report, like that of attentions that are not fused. Counts cover all of them."""
WAITING = ("signal", "wait")
"""Kinds of layers that compute nothing; they make other layers wait."""


def make_report(facts: EngineFacts, checked_on: str, attentions: Sequence[str]) -> dict[str, Any]:
    """Plain values for the sidecar. ``checked_on``: whose inputs and outputs were compared with the contract;
    ``attentions``: names of the graph's attention nodes."""
    layers = [layer for layer in facts.layers if layer.kind not in WAITING]
    full = [layer for layer in layers if layer.types == {"float32"}]
    return {
        "source": facts.source,
        "interface_checked_on": checked_on,
        **{name: (facts.numbers or {}).get(name) for name in ("engines", "scratch_bytes", "weight_bytes")},
        "layers": len(layers) if facts.layers else None,
        "kinds": dict(Counter(layer.kind for layer in layers).most_common()),
        "attention": _attention(facts, attentions),
        "fp32_layers": {"count": len(full) if facts.layers else None, "names": [layer.name for layer in full[:SHOWN]]},
    }


def _attention(facts: EngineFacts, names: Sequence[str]) -> dict[str, Any]:
    """An attention is fused if a fused kernel names its ONNX node."""
    fused = {node for layer in facts.layers if layer.is_fused_attention for node in layer.nodes}
    plain = [name for name in names if name not in fused]
    known = bool(facts.layers) or not names
    return {
        "in_graph": len(names),
        "fused": len(names) - len(plain) if known else None,
        "not_fused": plain[:SHOWN] if known else None,
    }


def attention_text(report: dict[str, Any]) -> str:
    """``16 of 16 fused``, ``none in the graph`` or ``unknown``."""
    attention = report["attention"]
    if attention["in_graph"] == 0:
        return "-"
    if attention["fused"] is None:
        return f"? of {attention['in_graph']}"
    return f"{attention['fused']} of {attention['in_graph']}"
