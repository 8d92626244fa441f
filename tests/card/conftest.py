"""The simulated card, built once per version of its sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.card.build import build, missing


@pytest.fixture(scope="session")
def card_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of its libraries; skips where they cannot be built."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    assert request.config.cache is not None
    return build(request.config.cache.mkdir("emo_rt_card"))
