"""The front door: load a model, prepare portraits, animate them."""

from __future__ import annotations

import logging
import math
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.device.registry import open_backend
from emo_rt.errors import ClosedError, InputError
from emo_rt.faces.locate import locate
from emo_rt.faces.style import mismatch
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, MAX_DURATION_S, Resampler, open_audio
from emo_rt.media.box import Box, FaceBox
from emo_rt.media.face import FaceDetector
from emo_rt.media.portrait import PictureSource, load_picture, prepare_portrait
from emo_rt.model.bundle import Bundle
from emo_rt.model.config import ModelConfig
from emo_rt.model.contract import Array
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions, ResolvedOptions
from emo_rt.runtime.avatar import Avatar, load_avatar, make_avatar
from emo_rt.runtime.clips import clip_count
from emo_rt.runtime.estimate import Estimate, estimate
from emo_rt.runtime.loaded_model import LoadedModel
from emo_rt.runtime.result import Video, audio_frames
from emo_rt.runtime.runtime import Runtime
from emo_rt.runtime.scheduler import whole
from emo_rt.runtime.session import Session
from emo_rt.runtime.stages import Control, Noise, Progress
from emo_rt.runtime.stream import ChunkStream, Sound
from emo_rt.runtime.trace import Trace

logger = logging.getLogger(__name__)


class Animator:
    """A loaded model. A context manager; methods may be called from several threads."""

    def __init__(self, model: LoadedModel, runtime: Runtime | None = None) -> None:
        """Use :meth:`load`."""
        self._model = model
        self._runtime = runtime or Runtime.shared(model.backend.device)
        self._workers = self._runtime.workers(model)
        self._avatars: weakref.WeakSet[Avatar] = weakref.WeakSet()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
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
        verify: bool = True,
        runtime: Runtime | None = None,
    ) -> Animator:
        """Open a bundle folder, or ``"demo"``, the small model inside the package.

        ``device``: ``auto``, ``cpu`` or ``cuda``; ``backend``: ``auto``, ``onnxruntime``, ``openvino`` (CPU, extra
        ``openvino``), ``openvino-bf16`` (the same with products of bfloat16) or ``tensorrt``. Only ``auto`` chooses by
        itself, and never OpenVINO. ``threads``: CPU threads per graph, ``None`` = one per core. ``verify``: compare
        every file with its hash. ``runtime``: what shares the device out among sessions; ``None`` = the one of this
        process and device. Raises :class:`BundleError`, :class:`BackendError`, :class:`ConfigError`.
        """
        checked = Bundle.open(bundle, verify=verify)
        if checked.outdated:
            logger.warning("%s", checked.outdated)
        model = LoadedModel(checked, open_backend(backend, device, threads, checked))
        if runtime is not None and runtime.device != model.backend.device:
            model.close()
            check(False, "runtime", runtime.device, f"a runtime of the device {model.backend.device}")
        return cls(model, runtime)

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
        """``cpu`` or ``cuda``."""
        return self._model.backend.device

    @property
    def backend(self) -> str:
        """As :meth:`load` names it."""
        return self._model.backend.name

    def prepare(
        self,
        picture: PictureSource,
        *,
        face_box: FaceBox | None = None,
        face_index: int | None = None,
        detector: FaceDetector | None = None,
        max_side: int = 1920,
        face: FaceInputs | None = None,
        head_room: float | None = None,
    ) -> Avatar:
        """Find the face, cut the square around it and compute all that the networks need of it, once.

        ``picture``: a file, a Pillow image or an array (H, W, 3) uint8. ``face_box``: a :class:`Box` in pixels of the
        upright picture, ``"full"`` for the largest centred square, or ``None`` to look for the face with ``detector``
        (default: the built-in networks), or to take it from the landmarks of ``face``. ``face_index``: which of the
        faces that are found, the largest is 0; ``None`` = the only one, or one that is much larger than all others.
        ``max_side``: longest side of the video, in pixels. ``face``: what Hallo models need to know of the face
        besides; others take none. ``head_room``: how far beyond its box the face may move, as a share of the box on
        each side (the paper's face locator, a weak control); 0 holds it stiller, ``math.inf`` leaves it free, ``None``
        = the model's own. Warnings, like closed eyes, go to the log. Raises :class:`ConfigError`,
        :class:`PortraitError` (also for a face that is cut off, turned away or too small, and for several faces),
        :class:`FaceNotFoundError`, :class:`InputError`, :class:`MissingDependencyError`.
        """
        family = self._model.family
        if head_room is not None:
            family.check_heeds({"head_room": head_room})
        original = load_picture(picture)
        if face_box is None and face is not None:
            face_box = face.silhouette()
        if face_box is not None and face_index is not None:
            raise InputError(f"face_index is {face_index}, and the face's place is given, too; expected one of them")
        if face_box is None:
            face_box, landmarks = locate(original, face_index, detector)
            face = family.with_landmarks(face, landmarks)
        portrait = prepare_portrait(
            original, self.config.size, face_box=face_box, max_side=max_side, framing=family.crop
        )
        if isinstance(face_box, Box):
            self._warn_of_style(original, face_box)
        inputs = family.portrait_inputs(portrait, face or FaceInputs(), original, head_room)
        return self._kept(make_avatar(self._model, portrait, inputs, self._runtime.call))

    def load_avatar(self, path: str | os.PathLike[str]) -> Avatar:
        """An avatar from the file that :meth:`Avatar.save` wrote with the same model, on whatever device.

        Raises :class:`InputError` for a file that cannot be read or comes from another model.
        """
        return self._kept(load_avatar(path, self._model, self._runtime.call))

    def _warn_of_style(self, picture: NDArray[np.uint8], face: Box) -> None:
        """Log where the model was trained on drawings and gets a photograph, or the other way round."""
        problem = mismatch(self.bundle.trained_on, picture, face, self.config.name)
        if problem is not None:
            logger.warning("%s", problem)

    def resolve(self, options: AnimateOptions | None = None, **changes: Any) -> ResolvedOptions:
        """What a run with these options does: the model's own is in the place of what they leave open.

        Raises :class:`ConfigError` for a preset that the model does not have, an option that it does not heed, and a
        value that it does not serve; :meth:`animate` and :meth:`stream` do so, too.
        """
        return self._model.resolve((options or AnimateOptions()).replace(**changes))

    def animate(
        self,
        avatar: Avatar,
        audio: str | os.PathLike[str] | Array,
        *,
        sample_rate: int | None = None,
        options: AnimateOptions | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        noise: Noise | None = None,
        trace: Trace | None = None,
        **changes: Any,
    ) -> Video:
        """A video of ``avatar`` speaking ``audio``. Checks everything now; the work is done as the video is used.

        ``audio``: a sound or video file of an accepted format (``docs/inputs.md``), decoded once now to measure it, or
        an array (n,) or (n, channels) with its ``sample_rate`` in Hz. Options come as an :class:`AnimateOptions`, as
        single keywords (``seed=7, speed=0.8``), or both. ``progress`` is called after each solver step, from a thread
        of the run (on a GPU whose loop is one launch: after each clip); setting ``cancel`` stops this call or the run
        with :class:`Cancelled`. ``noise`` replaces the seed's noise: clip index → (F, 4, S, S). ``trace`` takes the
        times of all stages. Raises :class:`AudioError`, :class:`Cancelled`, :class:`ConfigError`, :class:`InputError`.
        """
        chosen = self._checked(avatar, options, changes)
        own = self._model.family.longest_s or MAX_DURATION_S
        longest = own if chosen.max_audio_s is None else chosen.max_audio_s
        source = open_audio(audio, sample_rate, max_duration_s=longest, cancel=cancel)
        chosen = chosen.replace(max_audio_s=math.inf)  # it was measured now; resampled it may be a sample longer
        clips = clip_count(audio_frames(source, self.config.fps), self.config)
        control = Control(progress, cancel, noise, trace)
        return Video(
            lambda: self._session(avatar, chosen, control, clips=clips),
            source,
            self.config.fps,
            self._output_size(avatar, chosen),
        )

    def stream(
        self,
        avatar: Avatar,
        chunks: Sound,
        *,
        sample_rate: int = AUDIO_SAMPLE_RATE,
        options: AnimateOptions | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        noise: Noise | None = None,
        trace: Trace | None = None,
        **changes: Any,
    ) -> ChunkStream:
        """Frames for a voice that is still coming: PCM ``chunks`` of any size in, finished clips out.

        ``chunks``: arrays (n,) or (n, channels), float in −1 … 1, int16 or int32, at ``sample_rate`` Hz; read in the
        caller's thread. The frames are those that :meth:`animate` makes of the same sound, however it is chunked. A
        model with whole-file audio encoding (``audio.window_frames`` = 0, Hallo) gives nothing before the end.
        Closing the iterator stops it. With ``async for``, ``chunks`` may be an asynchronous iterator.
        Options and errors are those of :meth:`animate`.
        """
        chosen = self._checked(avatar, options, changes)
        Resampler(sample_rate)  # refuses a wrong rate now
        control = Control(progress, cancel, noise, trace)
        return ChunkStream(lambda: self._session(avatar, chosen, control, sample_rate=sample_rate), chunks)

    def open_session(
        self,
        avatar: Avatar,
        *,
        priority: float = 0,
        deadline: float | None = None,
        sample_rate: int = AUDIO_SAMPLE_RATE,
        options: AnimateOptions | None = None,
        progress: Callable[[Progress], None] | None = None,
        cancel: threading.Event | None = None,
        noise: Noise | None = None,
        trace: Trace | None = None,
        **changes: Any,
    ) -> Session:
        """A talker: push sound as it comes, take finished clips; see :class:`Session`. Close it.

        Many may be open on one device. While nobody talks they cost no thread and less than a megabyte each. The device
        goes to the highest ``priority`` first, then to the nearest ``deadline`` (of the first frame, in seconds of
        ``time.monotonic()``), then to whom it served longest ago. The other arguments are those of :meth:`stream`.
        """
        chosen = self._checked(avatar, options, changes)
        control = Control(progress, cancel, noise, trace)
        return self._session(avatar, chosen, control, priority=priority, deadline=deadline, sample_rate=sample_rate)

    def warmup(self, options: AnimateOptions | None = None) -> None:
        """Run every graph once, so that the first real clip is as fast as the others.

        ``options``: those that you will animate with; the tables of their solver and steps are made, too, and on a GPU
        the loop over them is captured and kept for the runs to come.
        """
        options = (options or AnimateOptions()).replace(paste_back=False)
        table, _ = self._runtime.call(whole(lambda: self._model.step_table(options)))
        silence = np.zeros(AUDIO_SAMPLE_RATE // self.config.fps, np.float32)
        # Where the loop is captured, it must be the real one; elsewhere one step of each graph shows all that there is.
        is_all_needed = self._model.backend.kept_workers or len(set(table.graphs)) > 1
        steps = table.steps if is_all_needed else 1
        with self._grey_avatar() as avatar:
            self.animate(avatar, silence, sample_rate=AUDIO_SAMPLE_RATE, options=options, steps=steps).numpy()

    def estimate(
        self, seconds: float, avatar: Avatar | None = None, *, options: AnimateOptions | None = None, **changes: Any
    ) -> Estimate:
        """How long an MP4 of ``seconds`` will take to make, and how much memory; makes a few clips to find out.

        ``avatar``: whose video; ``None`` = a grey square, without paste-back. Options as for :meth:`animate`. Within
        20 % where the machine's load stays as it is. Raises :class:`ConfigError`, :class:`InputError`.
        """
        chosen = (options or AnimateOptions()).replace(**changes)
        clip = self.config.frames * AUDIO_SAMPLE_RATE // self.config.fps

        def make(clips: int, steps: int) -> Video:
            sound = np.random.default_rng(0).standard_normal(clips * clip, np.float32) * 0.1
            return self.animate(subject, sound, sample_rate=AUDIO_SAMPLE_RATE, options=chosen, steps=steps)

        with nullcontext(avatar) if avatar else self._grey_avatar() as subject:
            return estimate(seconds, self.config, self._model.resolve(chosen).steps, make)

    def memory_stats(self) -> dict[str, int]:
        """Bytes: ``weights`` on disk; ``avatars`` that are alive; ``runs``: what sessions use now, their own state and
        the workers that they are lent; ``kept``: workers that wait for the next clip. On a GPU also ``device_used``:
        what is taken of its memory, by whatever process, and ``captured_loops``: not bytes, but how many captured
        graphs are kept for the solver loop; 0 after runs means that the loop is launched step by step, and
        ``RunStats.loop`` says why.
        """
        used = self._model.backend.memory_used()
        with self._alive:
            stats = {
                "weights": self.bundle.size_bytes,
                "avatars": sum(avatar.nbytes for avatar in self._avatars),
                "runs": self._workers.lent_nbytes + sum(session.sound_nbytes for session in self._sessions),
                "kept": self._workers.nbytes,
            }
        if used is None:
            return stats
        return {**stats, "device_used": used, "captured_loops": self._workers.captured_graphs}

    def close(self) -> None:
        """End its sessions, free the model and its avatars. Safe twice. All of them raise :class:`ClosedError` then."""
        with self._alive:
            avatars, sessions = list(self._avatars), list(self._sessions)
        for session in sessions:
            session.close()
        self._workers.close()
        self._model.close()
        for avatar in avatars:
            avatar.close()

    def __enter__(self) -> Animator:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _kept(self, avatar: Avatar) -> Avatar:
        with self._alive:
            self._avatars.add(avatar)
        return avatar

    def _grey_avatar(self) -> Avatar:
        """For runs whose pictures nobody sees."""
        size = self.config.size
        picture = np.full((size, size, 3), 128, np.uint8)
        return self.prepare(picture, face_box="full", face=self._model.family.anonymous)

    def _checked(self, avatar: Avatar, options: AnimateOptions | None, changes: dict[str, Any]) -> AnimateOptions:
        """What a session is asked for. Only looks: opening graphs and running them is the session's."""
        chosen = (options or AnimateOptions()).replace(**changes)
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
