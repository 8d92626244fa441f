"""How well does a model speak? Generated videos of drawn people against the truth.

Question: how much lip-sync, identity, smoothness and control does a checkpoint have, and what do fp16, fewer steps or a
shortcut cost? People, voices and sentences are of the test split: no training has seen them.
Theory: the drawn world tells the truth of every frame, and a judge network (``training/judge.py``) reads lips, turn and
place of the head from generated pixels. Its own error limits all scores: the row ``truth`` gives the judge's scores of
the true video after the model's autoencoder, the best that any diffusion could reach here.

    python -m emo_rt.benchmarks.quality --json quality.json --markdown quality.md --pictures quality/

Needs a checkout (``training/``) as the current folder, ``pip install -e ".[training]"`` and espeak-ng. On two cores
the whole takes the better part of an hour: ``--people 4 --controls 0`` gives a first look.

The measures, each a mean over the pairs of person and sentence:

- ``lip_correlation``: Pearson correlation of the read mouth opening with the true one, at lag 0; ``lip_lag``: the lag
  in frames at which the mean correlation is highest; ``silence_closed``: share of frames inside silences (two frames
  from any sound) whose read opening is below 0.15.
- ``energy_correlation``: of the read opening with the voice's loudness (root mean square per frame, smoothed);
  ``real_voice``: the same for the recordings given with ``--voice``, which no synthesiser made; ``own_voice``: share of
  these whose video correlates best with its own recording; ``quiet_loss``: what ``real_voice`` loses at -12 dB.
- ``identity_top1``: share of videos whose face (colours of a 16×16 picture of the face box without the mouth, mean over
  frames) is nearer to its own portrait than to those of all other people; ``identity_margin``: distance to the nearest
  other portrait over distance to the own.
- ``colour``: root mean square difference (of 255) between the mean generated frame and the mean true one, in cells of
  8×8 pixels: how far skin, hair, clothes and background are from their colours.
- ``sharpness``: energy of the finest detail (what the mean over 2×2 pixels takes away), generated over true.
- ``edge_width``: median width of edges (where the brightness of a row changes by 60 of 255 in one go, from a tenth of
  the way to nine tenths), generated over true.
- ``brow_pitch``: slope of the brows over the voice's pitch, ``head_energy``: slope of the head's angular speed over its
  loudness, both generated over true: 1 where a face follows its voice as much as it should.
- ``drift``: distance of the face (as for ``identity_top1``) to its portrait in the last second over that in the first:
  above 1 where mistakes grow from clip to clip.
- ``head_speed``: mean angular speed by requested speed (unit: 20 degrees a second), from read angles smoothed over
  7 frames. What the judge gets wrong from frame to frame reads as movement: the row ``truth`` has what it reads of
  heads that really turn at these speeds.
- ``jitter_inside``, ``jitter_borders``: mean length of the second difference of the read head place (1/1000 of the
  side), where all three frames are of one clip, and where they are not; ``jitter_ratio``: their quotient.
- ``box_control``: head movement (standard deviation of the place) with a face box that fits the portrait's face over
  that with an all-white mask: below 1 where the box holds the head.
- ``background``: mean absolute change from frame to frame (0 … 255) where the true video does not change.
- ``frechet``: Fréchet distance between generated and true windows of 12 frames in the judge's features (mean and mean
  absolute change over the window, 32 principal components of the true ones): our own measure, not comparable to others.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt import AnimateOptions, Animator, Avatar
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.benchmarks.quality_measures import Measures, head_speed, lagged, measure
from emo_rt.benchmarks.quality_people import Curve, Person, Pixels, Reader, load_people
from emo_rt.benchmarks.quality_pictures import contact_sheet
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options, read_options
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, mono_16k, open_audio

SUMMARY = (__doc__ or "").partition("\n")[0]
SPEEDS = (0.1, 0.5, 1.0, 1.3)
"""Requested head speeds: those of the paper's Table 2, within what is trained."""


@dataclass(frozen=True)
class Row(Measures):
    """The measures of a setting, and what else was asked for."""

    seconds_per_video: float | None = None
    head_speed: dict[str, float] | None = None
    """By requested speed."""
    box_control: float | None = None
    real_voice: float | None = None
    own_voice: float | None = None
    quiet_loss: float | None = None


@dataclass(frozen=True)
class Result:
    """What was measured."""

    benchmark: str
    schema: int
    model: str
    """Name of the bundle."""
    people: int
    style: str | None
    """In which all people are drawn; ``None`` = each in their own."""
    controls: int
    """People for head speed and face box."""
    backend: str
    voices: Sequence[str]
    """Files of recordings."""
    environment: dict[str, Any]
    settings: dict[str, Row]


def generate(
    animator: Animator, people: Sequence[Person], options: AnimateOptions, head_room: float | None = None
) -> list[Pixels]:
    """One video per person; each has a seed of its own."""
    videos = []
    for person in people:
        with prepare(animator, person, head_room) as avatar:
            chosen = options.replace(seed=person.seed, paste_back=False)
            video = animator.animate(avatar, person.waveform, sample_rate=AUDIO_SAMPLE_RATE, options=chosen)
            videos.append(video.numpy())
    return videos


def prepare(animator: Animator, person: Person, head_room: float | None = None) -> Avatar:
    """The person's portrait, with the face where the detector would find it."""
    return animator.prepare(person.portrait, face_box=person.face, head_room=head_room)


def head_speeds(videos: Callable[[float], Sequence[Pixels]], reader: Reader) -> dict[str, float]:
    """Read head speed by requested speed; ``videos`` makes or draws them."""
    return {
        str(speed): float(np.mean([head_speed(reader.read(video).angles) for video in videos(speed)]))
        for speed in SPEEDS
    }


def box_control(animator: Animator, people: Sequence[Person], reader: Reader, options: AnimateOptions) -> float:
    """Head movement with a box that just fits over that with a white mask."""
    movements = []
    for head_room in (0.0, math.inf):
        places = [reader.read(video).place for video in generate(animator, people, options, head_room)]
        movements.append(float(np.mean([np.linalg.norm(place.std(axis=0)) for place in places])))
    return movements[0] / movements[1]


def real_voices(
    animator: Animator, person: Person, reader: Reader, options: AnimateOptions, voices: Sequence[Path]
) -> dict[str, float]:
    """The measures by recordings, spoken by one person; names as in :class:`Row`."""
    from training.world.lips import loudness_of

    def read(avatar: Avatar, sound: NDArray[np.float32]) -> Curve:
        chosen = options.replace(paste_back=False)
        video = animator.animate(avatar, sound, sample_rate=AUDIO_SAMPLE_RATE, options=chosen).numpy()
        return reader.read(video).opening

    sounds = [np.concatenate(list(mono_16k(open_audio(voice))))[: 8 * AUDIO_SAMPLE_RATE] for voice in voices]
    with prepare(animator, person) as avatar:
        openings, hushed = ([read(avatar, sound * level) for sound in sounds] for level in (np.float32(1), QUIET))
    times = [(np.arange(len(opening)) + 0.5) / animator.config.fps for opening in openings]
    loud = [np.asarray(loudness_of(sound, middles)) for sound, middles in zip(sounds, times, strict=True)]
    length = min(map(len, openings))
    matches = [[lagged(one[:length], opening[:length], 0) for one in loud] for opening in openings]
    own, quiet = ([lagged(*pair, 0) for pair in zip(loud, some, strict=True)] for some in (openings, hushed))
    return {
        "real_voice": float(np.mean(own)),
        "own_voice": float(np.mean([int(np.argmax(row)) == index for index, row in enumerate(matches)])),
        "quiet_loss": float(np.mean(own) - np.mean(quiet)),
    }


def reconstruction(bundle: str) -> Callable[[Sequence[Person]], list[Pixels]]:
    """Takes people's true videos through the model's autoencoder: what a perfect diffusion would give."""
    import torch

    from emo_rt.export.graph_modules import clamp_unit, to_rgb
    from emo_rt.export.networks import vae
    from emo_rt.export.read_back import read_back
    from emo_rt.model.bundle import Bundle
    from training.autoencoder import to_pixels

    model = read_back(Bundle.open(bundle))

    @torch.no_grad()
    def through(frames: Pixels) -> Pixels:
        parts = to_pixels(frames).split(16)
        decoded = torch.cat([vae.decode(model.vae, vae.encode(model.vae, part)) for part in parts])
        return to_rgb(clamp_unit(decoded)).numpy()

    return lambda people: [through(person.frames) for person in people]


COLUMNS = ("lip_correlation", "lip_lag", "silence_closed", "energy_correlation", "real_voice", "own_voice",
           "quiet_loss", "identity_top1", "identity_margin", "colour", "sharpness", "edge_width", "brow_pitch",
           "head_energy", "drift", "jitter_ratio", "jitter_inside", "box_control", "background", "frechet")  # fmt: skip
QUIET = np.float32(10 ** (-12 / 20))
"""-12 dB."""


def markdown(rows: Mapping[str, Row]) -> str:
    """A table with one line per setting, and one of head speeds."""
    lines = ["| setting | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(getattr(row, key)) for key in COLUMNS) + " |")
    speeds = {name: row.head_speed for name, row in rows.items() if row.head_speed is not None}
    if speeds:
        lines += ["", "| head speed, requested | " + " | ".join(map(str, SPEEDS)) + " |", "|---" * 5 + "|"]
        lines += [f"| {name} | " + " | ".join(map(_cell, row.values())) + " |" for name, row in speeds.items()]
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def evaluate(arguments: argparse.Namespace) -> Result:
    """Everything that was asked for; pictures are written on the way."""
    reader = Reader()
    with read_options(arguments, Machine).load() as animator:
        config = animator.config
        people = load_people(arguments.people, config.size, style=arguments.style)
        truths = [reader.read(person.frames) for person in people]
        options = read_options(arguments, AnimateOptions)
        run = animator.resolve(options)
        start = perf_counter()
        videos = generate(animator, people, options)
        seconds = perf_counter() - start
        row = Row(
            **vars(measure(people, truths, videos, reader, config.frames)), seconds_per_video=seconds / len(people)
        )
        few = people[: arguments.controls]
        if few:
            speeds = head_speeds(lambda v: generate(animator, few, options.replace(speed=v)), reader)
            row = replace(row, head_speed=speeds, box_control=box_control(animator, few, reader, options))
        if arguments.voice:
            row = replace(row, **real_voices(animator, people[0], reader, options, arguments.voice))
        if arguments.pictures:
            write_pictures(arguments.pictures, people, videos)
    reconstruct = reconstruction(arguments.bundle)
    truth = Row(**vars(measure(people, truths, reconstruct(people), reader, config.frames)))
    if few:
        drawn = partial(load_people, len(few), config.size, style=arguments.style)
        speeds = head_speeds(lambda v: reconstruct(drawn(head_speed=v)), reader)
        truth = replace(truth, head_speed=speeds)
    return Result(
        benchmark="quality",
        schema=SCHEMA,
        model=config.name,
        people=len(people),
        style=arguments.style,
        controls=len(few),
        backend=animator.backend,
        voices=[voice.name for voice in arguments.voice or ()],
        environment=environment(arguments.threads),
        settings={f"{run.preset}: {run.variant}, {run.solver}, {run.steps} steps": row, "truth": truth},
    )


def write_pictures(folder: Path, people: Sequence[Person], videos: Sequence[Pixels]) -> None:
    """A contact sheet of four people."""
    folder.mkdir(parents=True, exist_ok=True)
    some = people[:4]
    sheet = contact_sheet([p.portrait for p in some], [p.frames for p in some], videos[:4])
    sheet.save(folder / "contact_sheet.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.quality", description=SUMMARY)
    add_options(parser, Machine)
    parser.add_argument("--people", type=int, default=20, help="pairs of person and sentence (default: %(default)s)")
    parser.add_argument("--style", metavar="NAME", help="draw all people in it (default: each in their own)")
    parser.add_argument("--controls", type=int, default=6, help="people for head speed and face box; 0 = leave out")
    add_options(parser, AnimateOptions, only=("mode", "solver", "steps", "guidance"))
    parser.add_argument("--voice", type=Path, action="append", help="a recording of a real voice; may be given again")
    add_outputs(parser)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="contact sheet as PNG")
    given = parser.parse_args(arguments)
    if given.people < 2 or given.controls < 0:
        parser.error("--people is 2 or more, --controls 0 or more")
    result = evaluate(given)
    publish(result, markdown(result.settings), given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
