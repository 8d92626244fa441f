"""One animation for somebody at a terminal: `emo-rt animate`, and `emo-rt demo` with what the package brings along."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from emo_rt.animator import Animator
from emo_rt.cli import terminal
from emo_rt.errors import OutputError
from emo_rt.media.box import Box, FaceBox
from emo_rt.media.untrusted import PICTURE, SOUND, open_file
from emo_rt.media.video_file import VideoOptions, VideoWriter, write_frames_png
from emo_rt.memory import peak_memory
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array
from emo_rt.model.identity import FaceInputs
from emo_rt.model.options import AnimateOptions
from emo_rt.runtime.result import Video
from emo_rt.runtime.stages import Chunk, RunStats
from emo_rt.runtime.trace import Trace
from emo_rt.version import __version__

ASSETS = Path(__file__).parent.parent / "assets"
DEMO_PORTRAIT = ASSETS / "portrait.png"
DEMO_VOICE = ASSETS / "voice.flac"
DEMO_FACE = Box(122, 94, 390, 424)
"""Where the face is in the demo portrait, so that the demo needs no detector."""
DEMO_MODE = "balanced"
"""The demo's mode: it shall be over soon on any CPU."""
STDOUT = "-"
"""As the name of the video: write it to standard output."""
RANDOM_WEIGHTS = "random weights"
"""``source`` in the provenance of a bundle that nobody trained."""
UNTRAINED = "the model {name!r} is untrained (random weights): its picture is noise and shows only that everything runs"


@dataclass(frozen=True)
class Job:
    """One animation as it was asked for."""

    portrait: Path
    """The picture."""
    audio: Path
    """The sound, or a video with sound."""
    out: str | None
    """The video, ``-`` for standard output, or nothing."""
    frames_dir: Path | None = None
    """Folder for the frames as PNG pictures, or nothing."""
    overwrite: bool = False
    """Replace an existing video."""
    bundle: str = "demo"
    """Model: a folder, or ``demo``."""
    device: str = "auto"
    """See :meth:`emo_rt.Animator.load`, as ``backend`` and ``threads``."""
    backend: str = "auto"
    """Runtime."""
    threads: int | None = None
    """CPU threads per graph."""
    face_box: FaceBox | None = None
    """Where the face is; ``None`` = look for it."""
    face_index: int | None = None
    """Which of several faces that are found, see :meth:`emo_rt.Animator.prepare`."""
    head_room: float | None = None
    """How far beyond its box the face may move, see :meth:`emo_rt.Animator.prepare`."""
    max_side: int = 1920
    """Longest side of the video, in pixels."""
    face: FaceInputs = field(default_factory=FaceInputs)
    """What is known about the face, for models that take it."""
    options: AnimateOptions = field(default_factory=AnimateOptions)
    """How to animate."""
    video: VideoOptions = field(default_factory=VideoOptions)
    """How to encode."""
    quiet: bool = False
    """No progress bar and no receipt."""
    trace: Path | None = None
    """File for the times of all stages, or nothing."""


@dataclass(frozen=True)
class Outcome:
    """What a finished job can tell."""

    job: Job
    video: Video
    stats: RunStats
    bundle: Bundle
    runtime: str
    """Backend and device in words."""


def animate(job: Job) -> None:
    """Make the video and print a short receipt. Raises what :class:`Animator` raises, and :class:`OutputError`."""
    outcome = run(job)
    if not job.quiet:
        write = terminal.note if job.out == STDOUT else terminal.say  # stdout has the video then
        write(f"{_what_was_made(outcome)}\nmade with {outcome.runtime} in {_time_taken(outcome)}")


def demo(job: Job) -> None:
    """Make the demo's video; the receipt says where the time went and what to try next."""
    outcome = run(job)
    if not job.quiet:
        terminal.say(_what_was_made(outcome))
        terminal.say(terminal.pairs(_demo_receipt(outcome)))


def run(job: Job) -> Outcome:
    """Everything but the receipt. Checks first what takes no time to check."""
    _check_files(job)
    trace = Trace() if job.trace else None
    with Animator.load(job.bundle, device=job.device, backend=job.backend, threads=job.threads) as animator:
        avatar = animator.prepare(
            job.portrait,
            face_box=job.face_box,
            face_index=job.face_index,
            max_side=job.max_side,
            face=job.face,
            head_room=job.head_room,
        )
        with terminal.ProgressBar("animating", quiet=job.quiet) as bar, terminal.stop_event() as stop:
            video = animator.animate(
                avatar,
                job.audio,
                options=job.options,
                cancel=stop,
                trace=trace,
                progress=lambda p: bar.update(p.clip * p.steps + p.step, (p.clips or p.clip + 1) * p.steps),
            )
            if is_untrained(animator.bundle):
                terminal.note(f"warning: {UNTRAINED.format(name=animator.config.name)}")
            stats = _write(job, video)
        if trace is not None and job.trace is not None:
            trace.save(job.trace)
        return Outcome(job, video, stats, animator.bundle, f"{animator.backend} on {animator.device}")


def is_untrained(bundle: Bundle) -> bool:
    """Whether the bundle says of itself that its weights are random."""
    return bundle.provenance.get("source") == RANDOM_WEIGHTS


def _check_files(job: Job) -> None:
    for path, kind in ((job.portrait, PICTURE), (job.audio, SOUND)):
        open_file(path, kind).close()
    if job.out == STDOUT and sys.stdout.isatty():
        raise OutputError("a video cannot be shown in a terminal; send it on, like `-o - | ffplay -`, or name a file")
    if job.out not in (None, STDOUT):
        _check_target(Path(str(job.out)), job)
    for place in (job.frames_dir, job.trace):
        if place is not None:
            _check_folder(place)


def _check_target(path: Path, job: Job) -> None:
    _check_folder(path)
    if not path.exists():
        return
    if not job.overwrite:
        raise OutputError(f"{path} exists; choose another name, or --overwrite to replace it")
    if any(path.samefile(source) for source in (job.portrait, job.audio)):
        raise OutputError(f"{path} is the video's own input; choose another name")


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent} for {path.name}; make it first")


def _write(job: Job, video: Video) -> RunStats:
    """Run once; the video and the pictures are written side by side."""
    options = replace(job.video, generator=f"emo_rt {__version__}")
    if job.out == STDOUT:
        target, options = sys.stdout.buffer, replace(options, fragmented=True)
    else:
        target = job.out
    if target is None:
        assert job.frames_dir is not None
        return video.save_frames(job.frames_dir)
    if job.frames_dir is None:
        return video.save(target, options)
    with (
        VideoWriter(
            target, width=video.width, height=video.height, fps=video.fps, audio=video.audio, options=options
        ) as writer,
        closing(video.chunks()) as chunks,
    ):
        write_frames_png(_passing(chunks, writer), job.frames_dir)
    assert video.stats is not None
    return video.stats


def _passing(chunks: Iterator[Chunk], writer: VideoWriter) -> Iterator[Array]:
    """The frames of the chunks, each batch written to the video on its way."""
    for chunk in chunks:
        writer.write(chunk.frames)
        yield chunk.frames


def _what_was_made(outcome: Outcome) -> str:
    job, video = outcome.job, outcome.video
    facts = f"{outcome.stats.frames} frames, {video.duration_s:.2f} s at {video.fps} fps, {video.width}x{video.height}"
    if job.out == STDOUT:
        return f"standard output: {facts}"
    if job.out is None:
        return f"{job.frames_dir}: {facts}, PNG"
    beside = f"; the frames as PNG in {job.frames_dir}" if job.frames_dir else ""
    return f"{job.out}: {facts}, {terminal.size(Path(job.out).stat().st_size)}{beside}"


def _time_taken(outcome: Outcome) -> str:
    wall, length = outcome.stats.wall_s, outcome.video.duration_s
    factor = f"real-time factor {wall / length:.2f} (seconds of work per second of video)"
    return f"{terminal.duration(wall)}, {factor}"


def _demo_receipt(outcome: Outcome) -> list[tuple[str, str]]:
    stats = outcome.stats
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stats.stages.items())
    peak = peak_memory()
    rows = [
        ("backend", outcome.runtime),
        ("time", _time_taken(outcome)),
        ("stages", f"{stages} (they overlap)"),
        ("solver loop", stats.loop),
        ("peak memory", terminal.size(peak) if peak else "unknown on this system"),
    ]
    if is_untrained(outcome.bundle):
        rows.append(("picture", UNTRAINED.format(name=outcome.bundle.config.name)))
    return [*rows, ("next", "emo-rt animate YOUR_PICTURE.jpg YOUR_VOICE.wav -o talking.mp4")]
