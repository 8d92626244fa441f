"""Thin owners over ``cuda.core``: a device, its streams, events, memory and captured graphs, and one place for errors.

Nothing here knows about tensors or networks. The runtime uses this interface only, so that a stand-in can take its
place where there is no GPU: see ``tests/cuda_stand_in.py``. Importing this package does not import CUDA.
"""

from emo_rt.device.cuda.capture_lock import CaptureLock
from emo_rt.device.cuda.captured_graph import CapturedGraph
from emo_rt.device.cuda.device import Device, open_device
from emo_rt.device.cuda.event import Event
from emo_rt.device.cuda.memory import DeviceMemory, Memory, PinnedMemory, View
from emo_rt.device.cuda.status import Health
from emo_rt.device.cuda.stream import Stream

__all__ = [
    "CaptureLock",
    "CapturedGraph",
    "Device",
    "DeviceMemory",
    "Event",
    "Health",
    "Memory",
    "PinnedMemory",
    "Stream",
    "View",
    "open_device",
]
