"""Every loader refuses what it cannot use by an error of its own; ``make fuzz`` looks for longer, and by coverage."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.loaders import EDIT, LOADERS

quick = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)


def tried(name: str, strategy: st.SearchStrategy[Any], attempt: Callable[[Any], object]) -> None:
    """Give ``attempt`` as many values as the loader is tried with."""

    def once(value: Any) -> None:
        attempt(value)

    settings(quick, max_examples=LOADERS[name].examples)(given(strategy)(once))()


@cache
def seeds(name: str) -> tuple[bytes, ...]:
    return tuple(LOADERS[name].seeds())


def damaged(good: bytes, data: st.DataObject) -> bytes:
    """A few bytes elsewhere in the file are others, more or fewer, and the end may be missing."""
    content = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=6))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    return bytes(content[:cut])


@pytest.mark.parametrize("name", LOADERS)
def test_good_ones_are_read(name: str) -> None:
    for good in seeds(name):
        LOADERS[name].load(good)  # raises what is the matter


@pytest.mark.parametrize("name", LOADERS)
def test_damaged_ones_are_read_or_refused(name: str) -> None:
    def attempt(data: st.DataObject) -> None:
        LOADERS[name](damaged(data.draw(st.sampled_from(seeds(name))), data))

    tried(name, st.data(), attempt)


@pytest.mark.parametrize("name", ["manifest", "list", "request", "message", "job"])
def test_json_with_odd_values_is_read_or_refused(name: str) -> None:
    tried(name, st.binary(max_size=24), lambda edits: LOADERS[name](bytes([EDIT]) + edits))


@pytest.mark.parametrize("name", LOADERS)
def test_garbage_is_refused(name: str) -> None:
    tried(name, st.binary(max_size=200), LOADERS[name])
