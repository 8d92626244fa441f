"""What a runtime beneath us would report to its makers, and how it is kept from that.

README says it for each backend. OpenVINO's is left out in :mod:`emo_rt.device.openvino`.
"""

from __future__ import annotations

import os

ONNXRUNTIME_SWITCH = "ORT_DISABLE_TELEMETRY"
"""Environment variable that ONNX Runtime reads, since 1.29, when it is loaded."""


def leave_out_onnxruntime() -> None:
    """Turn ONNX Runtime's telemetry off, unless the environment decides about it already.

    By default its official builds write a device id and an event database below the home folder when they are
    imported, and send events to Microsoft. ``onnxruntime.disable_telemetry_events()`` comes too late for both. So this
    must run before anybody imports ``onnxruntime``; processes that this one starts inherit the decision.
    """
    os.environ.setdefault(ONNXRUNTIME_SWITCH, "1")
