"""Every loader refuses what it cannot use by an error of its own; ``make fuzz`` looks for longer, and by coverage."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.loaders import EDIT, LOADERS

EXAMPLES = 40
quick = settings(
    max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)


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
@quick
@given(data=st.data())
def test_damaged_ones_are_read_or_refused(name: str, data: st.DataObject) -> None:
    LOADERS[name](damaged(data.draw(st.sampled_from(seeds(name))), data))


@pytest.mark.parametrize("name", ["manifest", "list", "request", "message", "job"])
@quick
@given(edits=st.binary(max_size=24))
def test_json_with_odd_values_is_read_or_refused(name: str, edits: bytes) -> None:
    LOADERS[name](bytes([EDIT]) + edits)


@pytest.mark.parametrize("name", LOADERS)
@quick
@given(data=st.binary(max_size=200))
def test_garbage_is_refused(name: str, data: bytes) -> None:
    LOADERS[name](data)
