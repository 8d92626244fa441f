"""What the machine is takes a second to find out, and does not change between two tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace

import pytest

from emo_rt.benchmarks import harness
from emo_rt.cli import doctor

gemm_gflops, examine = cache(harness.gemm_gflops), cache(doctor.examine)


@pytest.fixture(autouse=True, scope="module")
def one_look_at_the_machine() -> Iterator[None]:
    """Real figures, once per process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "gemm_gflops", gemm_gflops)
        patch.setattr(harness, "doctor", SimpleNamespace(examine=examine))
        yield
