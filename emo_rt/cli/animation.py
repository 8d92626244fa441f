"""One animation for somebody at a terminal: checked first, shown while it is made, told in figures at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from emo_rt.cli import terminal
from emo_rt.cli.machine import Machine
from emo_rt.errors import OutputError
from emo_rt.media.untrusted import PICTURE, SOUND, open_file
from emo_rt.media.video_file import VideoWriter, write_frames_png
from emo_rt.media.video_target import output_errors
from emo_rt.model.bundle import Bundle
from emo_rt.model.contract import Array
from emo_rt.runtime.request import Request
from emo_rt.runtime.result import Video, writer_of
from emo_rt.runtime.stages import Chunk, RunStats
from emo_rt.runtime.trace import Trace
from emo_rt.version import __version__

STDOUT = "-"
"""As the name of the video: write it to standard output."""
UNTRAINED = "the model {name!r} is untrained (random weights): its picture is noise and shows only that everything runs"


@dataclass(frozen=True)
class Job:
    """One animation as it was asked for."""

    request: Request
    """Portrait, voice and options."""
    out: str | None
    """The video, ``-`` for standard output, or nothing."""
    machine: Machine = field(default_factory=Machine)
    """What runs it."""
    frames_dir: Path | None = None
    """Folder for the frames as PNG pictures, or nothing."""
    overwrite: bool = False
    """Replace an existing video."""
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


def animate(job: Job) -> Outcome:
    """Make the video. Checks first what takes no time to check.

    Raises what :class:`emo_rt.Animator` raises, and :class:`OutputError`.
    """
    _check_files(job)
    trace, request = Trace() if job.trace else None, job.request
    with job.machine.load() as animator:
        avatar = animator.prepare(request.portrait, options=request.prepare)
        with terminal.ProgressBar("animating", quiet=job.quiet) as bar, terminal.stop_event() as stop:
            video = animator.animate(
                avatar,
                request.voice,
                options=request.animate,
                cancel=stop,
                trace=trace,
                progress=lambda p: bar.update(*p.of_all),
            )
            if animator.bundle.is_untrained:
                terminal.note(f"warning: {UNTRAINED.format(name=animator.config.name)}")
            stats = _write(job, video)
        if trace is not None and job.trace is not None:
            trace.save(job.trace)
        return Outcome(job, video, stats, animator.bundle, f"{animator.backend} on {animator.device}")


def what_was_made(outcome: Outcome) -> str:
    """Where the video is, and how long and large."""
    job, video = outcome.job, outcome.video
    facts = f"{outcome.stats.frames} frames, {video.duration_s:.2f} s at {video.fps} fps, {video.width}x{video.height}"
    if job.out == STDOUT:
        return f"standard output: {facts}"
    if job.out is None:
        return f"{job.frames_dir}: {facts}, PNG"
    beside = f"; the frames as PNG in {job.frames_dir}" if job.frames_dir else ""
    return f"{job.out}: {facts}, {terminal.size(Path(job.out).stat().st_size)}{beside}"


def time_taken(outcome: Outcome) -> str:
    """How long it took, in words."""
    wall, length = outcome.stats.wall_s, outcome.video.duration_s
    factor = f"real-time factor {wall / length:.2f} (seconds of work per second of video)"
    return f"{terminal.duration(wall)}, {factor}"


def _check_files(job: Job) -> None:
    for path, kind in ((job.request.portrait, PICTURE), (job.request.voice, SOUND)):
        open_file(path, kind).close()
    if job.out == STDOUT and terminal.is_stdout_closed():
        raise OutputError("standard output is closed; open it, or name a file")
    if job.out == STDOUT and sys.stdout.isatty():
        raise OutputError("a video cannot be shown in a terminal; send it on, like `-o - | ffplay -`, or name a file")
    if job.out not in (None, STDOUT):
        _check_target(Path(str(job.out)), job)
    for place in (job.frames_dir, job.trace):
        if place is not None:
            _check_folder(place)
            _check_no_input(place, job)


def _check_target(path: Path, job: Job) -> None:
    with output_errors(f"the video {path} cannot be written"):  # a name that is too long, a folder that is not ours
        _check_folder(path)
        if not path.exists():
            return
    if not job.overwrite:
        raise OutputError(f"{path} exists; choose another name, or --overwrite to replace it")
    _check_no_input(path, job)


def _check_no_input(path: Path, job: Job) -> None:
    if path.exists() and any(path.samefile(source) for source in (job.request.portrait, job.request.voice)):
        raise OutputError(f"{path} is the video's own input; choose another name")


def _check_folder(path: Path) -> None:
    if not path.parent.is_dir():
        raise OutputError(f"there is no folder {path.parent} for {path.name}; make it first")


def _write(job: Job, video: Video) -> RunStats:
    """Run once; the video and the pictures are written side by side."""
    options = replace(job.request.video, generator=f"emo_rt {__version__}")
    if job.out == STDOUT:
        target, options = sys.stdout.buffer, replace(options, fragmented=True)
    else:
        target = job.out
    if target is None:
        assert job.frames_dir is not None
        return video.save_frames(job.frames_dir)
    if job.frames_dir is None:
        return video.save(target, options, overwrite=job.overwrite)
    with writer_of(video, target, options, overwrite=job.overwrite) as writer, closing(video.chunks()) as chunks:
        write_frames_png(_passing(chunks, writer), job.frames_dir)
    assert video.stats is not None
    return video.stats


def _passing(chunks: Iterator[Chunk], writer: VideoWriter) -> Iterator[Array]:
    """The frames of the chunks, each batch written to the video on its way."""
    for chunk in chunks:
        writer.write(chunk.frames)
        yield chunk.frames
