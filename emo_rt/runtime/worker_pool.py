"""The workers of one loaded model, and the state of its talkers: lent, kept for the next, given back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType

from emo_rt.device.buffers import Buffers
from emo_rt.errors import ClosedError, EmoRtError
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import TensorSpec
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.step_tables import StepTable
from emo_rt.runtime.video_state import video_tensors
from emo_rt.runtime.video_worker import VideoWorker
from emo_rt.runtime.window_worker import WindowWorker
from emo_rt.runtime.worker import Worker
from emo_rt.runtime.worker_base import BaseWorker

WORKERS: Mapping[str, type[BaseWorker]] = MappingProxyType(
    {"clip": Worker, "video": VideoWorker, "window": WindowWorker}
)
"""By :attr:`emo_rt.model.families.base.Family.worker`."""
KEPT_WHILE_TALKING = 2
"""Workers that wait for the next clip while any session of the model is open."""


class WorkerPool:
    """Lends a worker for a clip. Thread-safe.

    There is one worker per level of priority at most, for each set of step graphs: only a session of higher priority
    may begin a clip while another clip is under way, and that other clip must stay where it is.
    """

    def __init__(self, kept: int) -> None:
        """``kept``: how many workers and states wait while no session is open."""
        self._kept = kept
        self._idle, self._lent = list[BaseWorker](), dict[BaseWorker, float]()
        self._states = list[Buffers]()
        self._state_bytes = self._sessions = 0
        self._lock = threading.RLock()
        self._is_closed = False

    @property
    def nbytes(self) -> int:
        """Memory of what waits."""
        with self._lock:
            return _size(self._idle) + _size(self._states)

    @property
    def lent_nbytes(self) -> int:
        """Memory of what is in use."""
        with self._lock:
            return _size(self._lent) + self._state_bytes

    @property
    def captured_graphs(self) -> int:
        """Captured graphs of the workers that wait."""
        with self._lock:
            return sum(worker.denoiser.captured for worker in self._idle)

    def enter(self) -> Callable[[], None]:
        """A session was opened; call what is returned when it is closed. Raises :class:`ClosedError`."""
        with self._lock:
            if self._is_closed:
                raise ClosedError("the animator was closed; load it again")
            self._sessions += 1
            return self._leave

    def _leave(self) -> None:
        with self._lock:
            self._sessions -= 1
            self._trim()

    def can_lend(self, table: StepTable, priority: float) -> bool:
        """Whether :meth:`take` has a worker for a clip of that priority."""
        with self._lock:
            fitting = [worker for worker in self._idle if worker.graphs >= set(table.graphs)]
            if any(worker.free_slots for worker in fitting):
                return True
            return not fitting and all(priority > level for level in self._lent.values())

    def take(self, model: LoadedModel, table: StepTable, features: Buffers, priority: float) -> BaseWorker:
        """A worker that nobody else has. There must be one; makes it if that is due."""
        with self._lock:
            fitting = (worker for worker in self._idle if worker.graphs >= set(table.graphs) and worker.free_slots)
            worker = next(fitting, None)
            if worker is not None:
                self._idle.remove(worker)
                self._lent[worker] = priority
                return worker
        worker = WORKERS[model.family.worker](model, table, features)
        with self._lock:
            self._lent[worker] = priority
        return worker

    def give_back(self, worker: BaseWorker) -> None:
        """After the clip, or after what has gone wrong with it."""
        with self._lock:
            self._lent.pop(worker, None)
            self._idle.append(worker)
            if self._is_closed or not self._sessions:
                self._trim()

    def take_state(self, model: LoadedModel, frames: int) -> Buffers:
        """Room for what a session keeps between two clips, by tensor name. ``frames``: of a whole video, or 0."""
        with self._lock:
            state = self._states.pop() if self._states and not frames else None
        state = state or Buffers(model.backend, state_tensors(model, frames))
        with self._lock:
            self._state_bytes += state.nbytes
        return state

    def give_back_state(self, state: Buffers, frames: int) -> None:
        """After the session. Those of whole videos are not kept: another video has another length."""
        with self._lock:
            self._state_bytes -= state.nbytes
            if len(self._states) < self._kept and not self._is_closed and not frames:
                self._states.append(state)
                return
        with suppress(EmoRtError):
            state.close()

    def close(self) -> None:
        """Close what waits, and from now on everything that comes back. Safe twice."""
        with self._lock:
            self._is_closed = True
            self._trim()
            states, self._states = self._states, []
        for state in states:
            state.close()

    def _trim(self) -> None:
        """Close the workers that waited longest, without what the decoder still reads."""
        kept = max(self._kept, KEPT_WHILE_TALKING) if self._sessions else self._kept
        surplus = [worker for worker in self._idle if self._is_closed or worker.is_idle]
        for worker in surplus[: len(self._idle) - (0 if self._is_closed else kept)]:
            self._idle.remove(worker)
            with suppress(EmoRtError):  # closed or lost: the sessions have said so
                worker.close()


def state_tensors(model: LoadedModel, frames: int) -> list[TensorSpec]:
    """What a session keeps on the device between two clips: motion frames, or a whole video of so many frames."""
    if frames:
        step = next(graph for graph in model.bundle.graphs.values() if graph.role == "step")
        return video_tensors([*step.inputs, *model.serving("update").spec.inputs], frames)
    return [motion_latents(model.config)]


def motion_latents(config: ModelConfig) -> TensorSpec:
    """Finished frames that the next clip continues."""
    shape = (config.motion_frames, config.vae.latent_channels, config.latent_size, config.latent_size)
    return TensorSpec("motion_latents", "float32", shape)


def state_bytes(model: LoadedModel, frames: int) -> int:
    """Memory of what a session keeps; ``frames`` as for :func:`state_tensors`."""
    return sum(tensor.nbytes for tensor in state_tensors(model, frames))


def _size(parts: Iterable[BaseWorker | Buffers]) -> int:
    return sum(part.nbytes for part in parts)
