"""Families by name. A new one is a file of its own and a line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from emo_rt.checks import check
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import GraphSpec
from emo_rt.model.families.base import Family
from emo_rt.model.families.echomimic import EchoMimic
from emo_rt.model.families.echomimic_stream import EchoMimicStream
from emo_rt.model.families.emo import Emo
from emo_rt.model.families.hallo import Hallo

FAMILIES: Mapping[str, type[Family]] = MappingProxyType({family.name: family for family in (Emo, Hallo, EchoMimic)})
"""Every family that this emo_rt runs."""


def family_of(config: ModelConfig) -> Family:
    """The family of a configuration. Raises :class:`ConfigError` for one that this emo_rt does not know."""
    known: dict[str, type[Family]] = {**FAMILIES, EchoMimicStream.name: EchoMimicStream}
    check(config.family in known, "family", config.family, f"one of {', '.join(FAMILIES)}")
    return known[config.family](config)


def graph_specs(config: ModelConfig, dtype: str = "float32", guidance: Sequence[bool] = (True,)) -> list[GraphSpec]:
    """:meth:`Family.graphs` of a configuration."""
    return family_of(config).graphs(dtype, guidance)
