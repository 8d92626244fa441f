"""What a device is called: ``cpu``, ``cuda``, or ``cuda:1`` for the second of several GPUs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from emo_rt.checks import check
from emo_rt.schema.kinds import Kind

KINDS = ("cpu", "cuda")
"""What a backend can run on."""
NAME = re.compile(r"cpu|cuda(?::(\d{1,3}))?")
"""``cuda`` is the first GPU, as ``cuda:0`` is. Numbers are CUDA's: ``CUDA_VISIBLE_DEVICES`` holds."""
WORDS = "cpu, cuda, cuda:N (the GPU with number N)"
"""For messages."""


@dataclass(frozen=True)
class DeviceName:
    """A device of this machine."""

    kind: str
    """One of :data:`KINDS`."""
    index: int = 0
    """Number of the GPU; 0 for a CPU."""

    @classmethod
    def read(cls, text: object, name: str = "device") -> Self:
        """From its name. ``name``: of the option, for the message. Raises :class:`ConfigError`."""
        found = NAME.fullmatch(text) if isinstance(text, str) else None
        check(found is not None, name, text, f"one of {WORDS}")
        assert found is not None
        return cls(found[0].partition(":")[0], int(found[1] or 0))

    def __str__(self) -> str:
        """The first GPU has one name: ``cuda``."""
        return f"{self.kind}:{self.index}" if self.index else self.kind


class DeviceKind(Kind):
    """As a part of a type: the name of a device, or ``auto``."""

    words = f"one of auto, {WORDS}"
    range_words = f"auto, {WORDS}"
    schema: ClassVar[dict[str, Any]] = {"type": "string", "pattern": rf"^(?:auto|{NAME.pattern})$"}
    placeholder = "DEVICE"

    def has(self, value: object) -> bool:
        return isinstance(value, str) and (value == "auto" or NAME.fullmatch(value) is not None)

    def read(self, text: str) -> str:
        return text
