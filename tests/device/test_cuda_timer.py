"""Times of the device are good after hours, though CUDA gives the time between two events in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from emo_rt.device import cuda_stream
from emo_rt.device.cuda_stream import CudaStream

HOUR = 3600.0


class Event:
    """A timed event of a device whose clock the test turns."""

    def __init__(self, device: Device) -> None:
        self.device, self.at = device, 0.0

    def synchronize(self) -> None:
        pass

    def milliseconds_since(self, earlier: Event) -> float:
        return float(np.float32((self.at - earlier.at) * 1e3))

    def close(self) -> None:
        pass


class Device:
    """A clock, and a stream that does everything at once."""

    def __init__(self) -> None:
        self.now = 100.0

    def event(self, timed: bool = False) -> Event:
        return Event(self)

    def record(self, event: Event) -> None:
        event.at = self.now


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    made = Device()
    monkeypatch.setattr(cuda_stream.time, "perf_counter", lambda: made.now)
    return made


def test_a_trace_is_as_fine_after_hours(device: Device) -> None:
    anything: Any = device
    timer = CudaStream("denoise", anything, anything).timer()
    errors = []
    while device.now < 10 * HOUR:
        with timer:
            started = device.now
            device.now += 0.0123456
        start_s, seconds = timer.read()
        errors.append(start_s - started)
        assert seconds == pytest.approx(0.0123456, abs=1e-8)
        device.now += 7.77
    # In float32 from the start, times that are ten hours old are 4 ms coarse: neighbours would jump by that.
    assert np.abs(np.diff(errors)).max() < 2e-6
    assert np.abs(errors).max() < 1e-3
