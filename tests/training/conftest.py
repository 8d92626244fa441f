"""Lets these tests import `training`, which is not installed; skips them where the drawing library is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

pytest.importorskip("skia", reason="the drawn world needs skia-python: pip install skia-python")
pytest.importorskip("scipy", reason="the drawn world needs scipy: pip install scipy")
