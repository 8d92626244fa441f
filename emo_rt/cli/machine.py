"""What runs a model: the same options for all commands that load one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from emo_rt.animator import Animator
from emo_rt.device.device_name import DeviceKind
from emo_rt.device.registry import FASTEST, THREADS, backend_names
from emo_rt.runtime.gpu_memory import MEMORY_LIMIT
from emo_rt.runtime.runtime import Runtime
from emo_rt.schema.kinds import NamedThing
from emo_rt.schema.option import Outside


@dataclass(frozen=True)
class Machine:
    """A model, and what it runs on; see :meth:`emo_rt.Animator.load`."""

    bundle: Annotated[str, Outside(placeholder="DIR")] = "demo"
    """Model folder, or demo."""
    device: Annotated[str, DeviceKind()] = "auto"
    """Device. Only auto chooses by itself."""
    backend: Annotated[str, NamedThing(backend_names)] = "auto"
    """Runtime. fastest also takes what is slow to open, like openvino on a CPU."""
    threads: Annotated[int | None, THREADS] = None
    """CPU threads per graph. ``None`` = one per core."""
    memory_limit: Annotated[float | None, MEMORY_LIMIT] = None
    """Memory of a GPU that one run may take, in GB. ``None`` = all of it."""
    exact: bool = False
    """Let auto take no backend that rounds to bfloat16."""

    def load(self, runtime: Runtime | None = None, *, tuned: bool = True) -> Animator:
        """Load the model. ``tuned`` and what it raises: see :meth:`emo_rt.Animator.load`."""
        return Animator.load(**asdict(self), runtime=runtime, tuned=tuned)


@dataclass(frozen=True)
class LongRunning(Machine):
    """The same for a process that makes minutes of video."""

    backend: Annotated[str, NamedThing(backend_names)] = FASTEST
    """Runtime. auto takes nothing that is slow to open, like openvino on a CPU."""
