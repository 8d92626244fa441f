"""``make audit`` passes only where every package was looked up, and says which were not."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
FINE = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
NEW = {"name": "c", "version": "4", "vulns": [{"id": "CVE-2", "fix_versions": []}]}
UNKNOWN = {"name": "d", "skip_reason": "not found (5)"}


@pytest.fixture(scope="module")
def verdict() -> Callable[[list[dict[str, Any]]], tuple[int, str]]:
    found: Callable[[list[dict[str, Any]]], tuple[int, str]] = runpy.run_path(str(ROOT / ".ci/audit.py"))["verdict"]
    return found


def test_all_looked_up_and_none_has_a_hole(verdict: Callable[..., tuple[int, str]]) -> None:
    assert verdict([FINE]) == (0, "1 of 1 packages were looked up, 0 known holes")


def test_holes_are_told_with_their_mending(verdict: Callable[..., tuple[int, str]]) -> None:
    code, told = verdict([FINE, BAD, NEW])
    assert code == 1
    assert told.splitlines()[:2] == ["b 2: CVE-1, fixed in 3", "c 4: CVE-2, fixed in none yet"]


def test_each_package_that_could_not_be_looked_up_is_named(verdict: Callable[..., tuple[int, str]]) -> None:
    code, told = verdict([FINE, UNKNOWN, {**UNKNOWN, "name": "e"}])
    assert code == 1
    assert told.splitlines()[1:] == [
        "  d: not found (5)", "  e: not found (5)", "1 of 3 packages were looked up, 0 known holes",
    ]  # fmt: skip


@pytest.mark.parametrize("packages", [[], [UNKNOWN], [UNKNOWN, UNKNOWN]])
def test_where_nothing_could_be_looked_up_nothing_passes(
    packages: list[dict[str, Any]], verdict: Callable[..., tuple[int, str]]
) -> None:
    code, told = verdict(packages)
    assert code == 1
    assert f"none of {len(packages)} packages could be looked up" in told
