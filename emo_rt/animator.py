"""The front door: load a model, prepare portraits, animate them."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

import numpy as np

from emo_rt.checks import check
from emo_rt.device.onnxruntime_cuda import onnxruntime_memory
from emo_rt.device.registry import open_backend
from emo_rt.errors import ClosedError, InputError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, MAX_DURATION_S, Resampler, open_audio
from emo_rt.media.face import FaceDetector
from emo_rt.media.picture import PictureSource
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array
from emo_rt.model.options import AnimateChanges, AnimateOptions, ResolvedOptions
from emo_rt.model.tuned import with_tuned
from emo_rt.runtime.avatar import Avatar, load_avatar, make_avatar
from emo_rt.runtime.clips import clip_count
from emo_rt.runtime.estimate import Estimate, estimate
from emo_rt.runtime.gpu_memory import MEMORY_LIMIT, MemoryNeed, memory_need
from emo_rt.runtime.live.clock import Clock
from emo_rt.runtime.live.session import LiveSession
from emo_rt.runtime.live.settings import LiveChanges, LiveSettings, read_live_settings
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.preparation import frame_face
from emo_rt.runtime.request import PrepareChanges, PrepareOptions
from emo_rt.runtime.result import Video, audio_frames
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.scheduler import whole
from emo_rt.runtime.session import Session
from emo_rt.runtime.settings import RunSettings, read_settings
from emo_rt.runtime.stages import Control, Progress
from emo_rt.runtime.stream import ChunkStream, Sound
from emo_rt.runtime.trace import Trace
from emo_rt.runtime.worker_pool import WorkerPool, state_bytes
from emo_rt.schema.option import read_options, require_type

logger = logging.getLogger(__name__)


class Animator:
    """A loaded model. A context manager; methods may be called from several threads."""

    def __init__(self, model: LoadedModel, runtime: Runtime | None = None) -> None:
        """Use :meth:`load`."""
        self._model = model
        self._runtime = runtime or Runtime.shared(model.backend.device)
        self._avatars: weakref.WeakSet[Avatar] = weakref.WeakSet()
        self._sessions: weakref.WeakSet[Session | LiveSession] = weakref.WeakSet()
        self._alive = threading.Lock()
        """Held while the two sets are looked at or changed."""

    @classmethod
    def load(
        cls,
        bundle: str | Path = "demo",
        *,
        device: str = "auto",
        backend: str = "auto",
        threads: int | None = None,
        memory_limit: float | None = None,
        exact: bool = False,
        verify: bool = True,
        tuned: bool = True,
        runtime: Runtime | None = None,
    ) -> Animator:
        """Open a bundle folder, or ``"demo"``, the small model inside the package.

        ``device``: ``auto``, ``cpu``, ``cuda``, or ``cuda:1`` and so on where there are several GPUs; ``backend``:
        ``auto``, ``onnxruntime``, ``openvino`` (CPU, extra ``openvino``), ``openvino-bf16`` (the same with products of
        bfloat16), ``tensorrt``, one of another package (:class:`emo_rt.device.entry.BackendEntry`), or ``fastest``: as
        ``auto``, but on a CPU it takes ``openvino`` where that is installed, which opens graphs slowly and then
        computes faster: for minutes of video. Only these two choose by themselves; on a CPU with instructions for
        bfloat16 both take ``openvino-bf16``, if it is installed, unless ``exact`` is set, here or for the process by
        ``EMO_RT_EXACT=1``. ``threads``: CPU threads per graph, ``None`` = one per core.
        ``memory_limit``: GB of a GPU's memory that one run may take, as :meth:`estimate_memory` reckons it; settings
        that take more raise :class:`ConfigError`, which names those that fit. ``verify``: compare every file with its
        hash. ``tuned``: presets that ``emo-rt tune`` has measured here for this bundle go before its own. ``runtime``:
        what shares the device out among sessions; ``None`` = the one of this process and device. Raises
        :class:`BundleError`, :class:`BackendError`, :class:`ConfigError`.
        """
        require_type("runtime", runtime, Runtime)
        require_type("exact", exact, bool)
        usable = memory_limit is None or MEMORY_LIMIT.has(memory_limit)
        check(usable, "memory_limit", memory_limit, f"{MEMORY_LIMIT}, or None")
        checked = Bundle.open(bundle, verify=verify)
        checked = with_tuned(checked) if tuned else checked
        if checked.outdated:
            logger.warning("%s", checked.outdated)
        model = LoadedModel(checked, open_backend(backend, device, threads, checked, exact=exact), memory_limit)
        if runtime is not None and runtime.device != model.backend.device:
            model.close()
            check(False, "runtime", runtime.device, f"a runtime of the device {model.backend.device}")
        return cls(model, runtime)

    @staticmethod
    def estimate_memory(
        bundle: str | Path = "demo", *, options: AnimateOptions | None = None, **changes: Unpack[AnimateChanges]
    ) -> MemoryNeed:
        """Memory of a GPU that a run with ONNX Runtime will take. Loads nothing and needs no GPU.

        Reckoned from the bundle's graphs (``MemoryNeed.counted``: within 10 % of what the real library allocates),
        and a guess of what CUDA's libraries take besides. Options as for :meth:`animate`. Needs the package ``onnx``.
        Raises :class:`BundleError`, :class:`ConfigError`, :class:`MissingDependencyError`.
        """
        chosen = read_options(options, changes, AnimateOptions)
        need = memory_need(with_tuned(Bundle.open(bundle, verify=False)), chosen, onnxruntime_memory)
        assert need is not None
        return need

    @property
    def config(self) -> ModelConfig:
        """The model's configuration: picture size, frames per second, clip length …"""
        return self._model.config

    @property
    def bundle(self) -> Bundle:
        """The model on disk."""
        return self._model.bundle

    @property
    def device(self) -> str:
        """``cpu``, ``cuda`` for the first GPU, or ``cuda:1`` and so on."""
        return self._model.backend.device

    @property
    def backend(self) -> str:
        """As :meth:`load` names it."""
        return self._model.backend.name

    def prepare(
        self,
        picture: PictureSource,
        *,
        detector: FaceDetector | None = None,
        priority: float = 0,
        options: PrepareOptions | None = None,
        **changes: Unpack[PrepareChanges],
    ) -> Avatar:
        """Find the face, cut the square around it and compute all that the networks need of it, once.

        ``picture``: a file, a Pillow image or an array (H, W, 3) uint8. ``detector``: what looks for the face (default:
        the built-in networks). ``priority``: as of :meth:`open_session`; a higher one does not wait for the clips of
        sessions that have a lower one. Options come as :class:`PrepareOptions`, as single keywords (``face_index=1``),
        or both. Warnings, like closed eyes, go to the log. Raises :class:`ConfigError`, :class:`PortraitError` (also
        for a face that is cut off, turned away or too small, and for several faces), :class:`FaceNotFoundError`,
        :class:`InputError`, :class:`MissingDependencyError`.
        """
        chosen = read_options(options, changes, PrepareOptions)
        portrait, inputs = frame_face(picture, chosen, self.bundle, self._model.family, detector)
        return self._kept(make_avatar(self._model, portrait, inputs, partial(self._runtime.call, priority=priority)))

    def load_avatar(self, path: str | os.PathLike[str], *, priority: float = 0) -> Avatar:
        """An avatar from the file that :meth:`Avatar.save` wrote with the same model, on whatever device.

        ``priority``: as of :meth:`prepare`. Raises :class:`InputError` for a file that cannot be read or comes from
        another model.
        """
        return self._kept(load_avatar(path, self._model, partial(self._runtime.call, priority=priority)))

    def resolve(self, options: AnimateOptions | None = None, **changes: Unpack[AnimateChanges]) -> ResolvedOptions:
        """What a run with these options does: the model's own is in the place of what they leave open.

        Raises :class:`ConfigError` for a preset that the model does not have, an option that it does not heed, and a
        value that it does not serve; :meth:`animate` and :meth:`stream` do so, too.
        """
        return self._model.resolve(read_options(options, changes, AnimateOptions))

    def animate(
        self,
        avatar: Avatar,
        audio: str | os.PathLike[str] | Array,
        *,
        sample_rate: int | None = None,
        **settings: Unpack[RunSettings],
    ) -> Video:
        """A video of ``avatar`` speaking ``audio``. Checks everything now; the work is done as the video is used.

        ``audio``: a sound or video file of an accepted format (``docs/inputs.md``), decoded once now to measure it, or
        an array (n,) or (n, channels) with its ``sample_rate`` in Hz. Options come as an :class:`AnimateOptions`, as
        single keywords (``seed=7, speed=0.8``), or both. ``progress`` is called after each solver step, from a thread
        of the run (on a GPU whose loop is one launch: after each clip); setting ``cancel`` stops this call or the run
        with :class:`Cancelled`. ``noise`` replaces the seed's noise: clip index → (F, 4, S, S). ``trace`` takes the
        times of all stages. Raises :class:`AudioError`, :class:`Cancelled`, :class:`ConfigError`, :class:`InputError`.
        """
        options, control = read_settings(settings)
        chosen = self._checked(avatar, options)
        model = self._model.for_run(chosen)
        own = model.family.longest_s or MAX_DURATION_S
        longest = own if chosen.max_audio_s is None else chosen.max_audio_s
        source = open_audio(audio, sample_rate, max_duration_s=longest, cancel=control.cancel)
        chosen = chosen.replace(max_audio_s=math.inf)  # it was measured now; resampled it may be a sample longer
        clips = clip_count(audio_frames(source, self.config.fps), model.config)
        return Video(
            lambda: self._session(avatar, chosen, control, clips=clips),
            source,
            self.config.fps,
            self._output_size(avatar, chosen),
        )

    def stream(
        self, avatar: Avatar, chunks: Sound, *, sample_rate: int = AUDIO_SAMPLE_RATE, **settings: Unpack[RunSettings]
    ) -> ChunkStream:
        """Frames for a voice that is still coming: PCM ``chunks`` of any size in, finished clips out.

        ``chunks``: arrays (n,) or (n, channels), float in −1 … 1, int16 or int32, at ``sample_rate`` Hz; read in the
        caller's thread. The frames are those that :meth:`animate` makes of the same sound, however it is chunked. A
        model with whole-file audio encoding (``audio.window_frames`` = 0, Hallo) gives nothing before the end; nor does
        one that makes whole videos (EchoMimic), unless ``causal=True``. Closing the iterator stops it. With
        ``async for``, ``chunks`` may be an asynchronous iterator. Options and errors are those of :meth:`animate`.
        """
        options, control = read_settings(settings)
        chosen = self._checked(avatar, options)
        Resampler(sample_rate)  # refuses a wrong rate now
        return ChunkStream(lambda: self._session(avatar, chosen, control, sample_rate=sample_rate), chunks)

    def open_session(
        self,
        avatar: Avatar,
        *,
        priority: float = 0,
        deadline: float | None = None,
        sample_rate: int = AUDIO_SAMPLE_RATE,
        **settings: Unpack[RunSettings],
    ) -> Session:
        """A talker: push sound as it comes, take finished clips; see :class:`Session`. Close it.

        Many may be open on one device. While nobody talks they cost no thread and less than a megabyte each. The device
        goes to the highest ``priority`` first, then to the nearest ``deadline`` (of the first frame, in seconds of
        ``time.monotonic()``), then to whom it served longest ago. The other arguments are those of :meth:`stream`.
        """
        options, control = read_settings(settings)
        chosen = self._checked(avatar, options)
        return self._session(avatar, chosen, control, priority=priority, deadline=deadline, sample_rate=sample_rate)

    def live(
        self,
        avatar: Avatar,
        *,
        priority: float = 1,
        settings: LiveSettings | None = None,
        options: AnimateOptions | None = None,
        progress: Callable[[Progress], None] | None = None,
        trace: Trace | None = None,
        clock: Clock | None = None,
        **changes: Unpack[LiveChanges],
    ) -> LiveSession:
        """A face in a conversation: it idles, speaks what is pushed and can be interrupted; see :class:`LiveSession`.

        Returns when every preset of the ladder is warm and the first frames are there. ``settings``: rate, pace, queue
        … ; single ones may be given as keywords (``sample_rate=24_000, pace="asap"``) beside those of the options.
        ``options``: its preset is the best that the session runs; it steps down that preset's ladder where it must.
        ``priority``: 1 is above videos and streams, whose clips it interrupts between two steps; among live sessions
        of the same priority the nearest deadline comes first. ``clock``: what time it is, for tests.

        With the same seed, frames are those that :meth:`stream` makes of the same sound with the same silence in front,
        as long as the preset stays and nothing interrupts. Models that hear whole files (Hallo) hear in windows here;
        see :mod:`emo_rt.runtime.live.causal`; those that make whole videos (EchoMimic) run as with ``causal``.
        Raises :class:`OverloadedError` where one more would make all late, and what :meth:`stream` raises.
        """
        live, wanted = read_live_settings(settings, options, changes)
        chosen = self._checked(avatar, wanted)
        if self._model.family.is_whole_video:
            chosen = chosen.replace(causal=True)
        control = Control(progress=progress, trace=trace)
        session = LiveSession(self._runtime, avatar, chosen, control, live, priority=priority, clock=clock)
        with self._alive:
            self._sessions.add(session)
        return session

    def warmup(self, options: AnimateOptions | None = None) -> None:
        """Run every graph once, so that the first real clip is as fast as the others.

        ``options``: those that you will animate with; the tables of their solver and steps are made, too, and on a GPU
        the loop over them is captured and kept for the runs to come.
        """
        options = read_options(options, {"paste_back": False}, AnimateOptions)
        table, _ = self._runtime.call(whole(lambda: self._model.step_table(options)))
        silence = np.zeros(AUDIO_SAMPLE_RATE // self.config.fps, np.float32)
        # Where the loop is captured, it must be the real one; elsewhere one step of each graph shows all that there is.
        is_all_needed = self._model.backend.kept_workers or len(set(table.graphs)) > 1
        fewest = self.bundle.variants[self.resolve(options).variant].steps[0]
        steps = table.steps if is_all_needed else max(1, fewest)
        with self._grey_avatar() as avatar:
            self.animate(avatar, silence, sample_rate=AUDIO_SAMPLE_RATE, options=options, steps=steps).numpy()

    def estimate(
        self,
        seconds: float,
        avatar: Avatar | None = None,
        *,
        options: AnimateOptions | None = None,
        **changes: Unpack[AnimateChanges],
    ) -> Estimate:
        """How long an MP4 of ``seconds`` will take to make, and how much memory; makes a few clips to find out.

        ``avatar``: whose video; ``None`` = a grey square, without paste-back. Options as for :meth:`animate`. Within
        20 % where the machine's load stays as it is. Raises :class:`ConfigError`, :class:`InputError`.
        """
        chosen = read_options(options, changes, AnimateOptions)
        model = self._model.for_run(chosen)
        config = model.config
        clip = config.frames * AUDIO_SAMPLE_RATE // config.fps

        def make(clips: int, steps: int) -> Video:
            sound = np.random.default_rng(0).standard_normal(clips * clip, np.float32) * 0.1
            return self.animate(subject, sound, sample_rate=AUDIO_SAMPLE_RATE, options=chosen, steps=steps)

        whole = state_bytes(model, config.frames) if model.family.is_whole_video else None
        with nullcontext(avatar) if avatar else self._grey_avatar() as subject:
            return estimate(seconds, config, self._model.resolve(chosen).steps, make, whole)

    def memory_stats(self) -> dict[str, int]:
        """Bytes: ``weights`` on disk; ``avatars`` that are alive; ``runs``: what sessions use now, their own state and
        the workers that they are lent; ``kept``: workers that wait for the next clip. On a GPU also ``device_used``:
        what is taken of its memory, by whatever process, and ``captured_loops``: not bytes, but how many captured
        graphs are kept for the solver loop; 0 after runs means that the loop is launched step by step, and
        ``RunStats.loop`` says why.
        """
        used, pools = self._model.backend.memory_used(), self._pools()
        with self._alive:
            heard = sum(session.sound_nbytes for session in self._sessions)
            stats = {
                "weights": self.bundle.size_bytes,
                "avatars": sum(avatar.nbytes for avatar in self._avatars),
                "runs": sum(pool.lent_nbytes for pool in pools) + heard,
                "kept": sum(pool.nbytes for pool in pools),
            }
        if used is None:
            return stats
        return {**stats, "device_used": used, "captured_loops": sum(pool.captured_graphs for pool in pools)}

    def close(self) -> None:
        """End its sessions, free the model and its avatars. Safe twice. All of them raise :class:`ClosedError` then."""
        with self._alive:
            avatars, sessions = list(self._avatars), list(self._sessions)
        for session in sessions:
            session.close()
        for pool in self._pools():
            pool.close()
        for avatar in avatars:  # before the device, which frees what was given back by then
            avatar.close()
        self._model.close()

    def __enter__(self) -> Animator:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _pools(self) -> list[WorkerPool]:
        return [self._runtime.workers(model) for model in self._model.views]

    def _kept(self, avatar: Avatar) -> Avatar:
        with self._alive:
            self._avatars.add(avatar)
        return avatar

    def _grey_avatar(self) -> Avatar:
        """For runs whose pictures nobody sees."""
        size = self.config.size
        picture = np.full((size, size, 3), 128, np.uint8)
        return self.prepare(picture, face_box="full", face=self._model.family.anonymous)

    def _checked(self, avatar: Avatar, chosen: AnimateOptions) -> AnimateOptions:
        """What a session is asked for. Only looks: opening graphs and running them is the session's."""
        if not isinstance(avatar, Avatar):
            raise InputError(f"a {type(avatar).__name__} is no avatar; make one with prepare(picture)")
        if avatar.model is not self._model:
            raise InputError("this avatar was prepared by another animator; prepare the picture with this one")
        if avatar.features.is_closed:
            raise ClosedError("this avatar was closed; prepare the picture again")
        self._model.check(chosen)
        return chosen

    def _session(self, avatar: Avatar, options: AnimateOptions, control: Control, **details: Any) -> Session:
        session = Session(self._runtime, avatar, options, control, **details)
        with self._alive:
            self._sessions.add(session)
        return session

    def _output_size(self, avatar: Avatar, options: AnimateOptions) -> tuple[int, int]:
        if not avatar.is_pasted_back(options.paste_back):
            return self.config.size, self.config.size
        height, width = avatar.portrait.picture.shape[:2]
        return width, height
