"""Lets these tests import `training`, which is not installed, and looks at the true video once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from emo_rt.evaluate.assessment import Eyes
from emo_rt.evaluate.context import DLIB
from emo_rt.evaluate.reading import Reading

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def recognising_eyes() -> Eyes:
    """All networks, opened once."""
    return Eyes()


@pytest.fixture(scope="session")
def eyes() -> Eyes:
    """Those that do not ask whose face it is: dlib takes as long as all others together."""
    found = Eyes()
    found.recognisers.pop(DLIB, None)
    return found


@pytest.fixture(scope="session")
def true_reading(eyes: Eyes) -> Reading:
    """What is read of the true drawn video."""
    from tests.evaluate.drawn import footage, true_frames

    return eyes.read(footage(true_frames()))
