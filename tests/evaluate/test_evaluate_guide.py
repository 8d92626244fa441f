"""The code blocks of docs/evaluate.md run."""

from __future__ import annotations

import pytest

from tests.documents import Block, Place, blocks_of, run_block

pytestmark = pytest.mark.usefixtures("opened_once")


@pytest.mark.parametrize("block", blocks_of("evaluate"))
def test_block(block: Block, place: Place) -> None:
    run_block(block, place)
