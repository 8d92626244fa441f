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
  ``real_voice``: the same for the recordings given with ``--voice``, which no synthesiser made.
- ``identity_top1``: share of videos whose face (colours of a 16×16 picture of the face box without the mouth, mean over
  frames) is nearer to its own portrait than to those of all other people; ``identity_margin``: distance to the nearest
  other portrait over distance to the own.
- ``colour``: root mean square difference (of 255) between the mean generated frame and the mean true one, in cells of
  8×8 pixels: how far skin, hair, clothes and background are from their colours.
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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt import AnimateOptions, Animator, Avatar, Box
from emo_rt.benchmarks.harness import SCHEMA, add_outputs, environment, publish
from emo_rt.benchmarks.quality_pictures import contact_sheet, lip_plot
from emo_rt.cli.machine import Machine
from emo_rt.cli.options import add_options
from emo_rt.errors import MissingDependencyError
from emo_rt.media.audio import AUDIO_SAMPLE_RATE, mono_16k, open_audio

SUMMARY = (__doc__ or "").partition("\n")[0]
SPEEDS = (0.1, 0.5, 1.0, 1.3)
"""Requested head speeds: those of the paper's Table 2, within what is trained."""
CLOSED = 0.15
"""Read opening below which a mouth counts as shut."""
SECONDS = 4.0
LAGS = range(-5, 6)

Pixels = NDArray[np.uint8]
Curve = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Person:
    """One person who says one sentence, as it really is."""

    seed: int
    """Of the clip, in the test split."""
    portrait: Pixels
    """(512, 512, 3): at rest."""
    face: Box
    """In the portrait."""
    frames: Pixels
    """(T, size, size, 3): the true video."""
    waveform: NDArray[np.float32]
    """16 kHz."""
    opening: Curve
    """(T,) true lip gap."""
    silent: NDArray[np.bool_]
    """(T,) frames well inside a silence."""
    loudness: Curve
    """(T,) 0 … 1."""


@dataclass(frozen=True, eq=False)
class Reading:
    """What the judge reads from a video."""

    opening: Curve
    """(T,) 0 … 1."""
    angles: Curve
    """(T, 3) radians."""
    place: Curve
    """(T, 2) middle of the head, shares of the side."""
    features: Curve
    """(T, 96)."""


def load_people(count: int, size: int, head_speed: float | None = None) -> list[Person]:
    """The first ``count`` people and sentences of the test split, with ``head_speed`` all at this speed. Raises
    :class:`MissingDependencyError`."""
    try:
        from training.corpus import detector_box
        from training.world import Clip, Pose, ground_truth, render
        from training.world.lips import loudness_of
    except ImportError as exc:
        raise _needs_checkout(exc) from exc
    people = []
    for seed in range(count):
        clip = Clip.sample(seed, SECONDS, split="test", head_speed=head_speed)
        rest = Pose(smile=0.3)
        box = detector_box(np.array(ground_truth(clip.identity, rest, 512).face_box, np.float32))
        times = (np.arange(len(clip)) + 0.5) / clip.fps
        people.append(
            Person(
                seed=seed,
                portrait=render(clip.identity, rest, 512),
                face=Box(*(float(side) for side in box)),
                frames=np.stack(list(clip.frames(size))),
                waveform=clip.waveform,
                opening=clip.truth.opening.astype(np.float64),
                silent=_inside(clip.truth.phoneme == 0, 2),
                loudness=np.asarray(loudness_of(clip.waveform, times)),
            )
        )
    return people


def _needs_checkout(exc: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f"the quality benchmark draws its own people ({exc}): run it in a checkout's folder, after "
        'pip install -e ".[training]"'
    )


def _inside(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Where a mask holds with all its neighbours within ``reach``."""
    padded = np.pad(mask, reach, constant_values=True)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return np.asarray(windows.all(axis=1))


class Reader:
    """The judge with its committed weights. Raises :class:`MissingDependencyError`."""

    def __init__(self) -> None:
        try:
            from training.judge import CENTRES, SCALES, trained
        except ImportError as exc:
            raise _needs_checkout(exc) from exc
        self._judge, self._scales, self._centres = trained(), np.array(SCALES), CENTRES

    def read(self, frames: Pixels) -> Reading:
        """(T, 128, 128, 3) uint8 → what is seen in every frame."""
        import torch

        from training.autoencoder import to_pixels

        with torch.no_grad():
            told, features = self._judge(to_pixels(frames))
        values = told.numpy().astype(np.float64) * self._scales + self._centres
        return Reading(values[:, 0].clip(0, 1.2), values[:, 2:5], values[:, 5:7], features.numpy().astype(np.float64))


def measure(
    people: Sequence[Person], truths: Sequence[Reading], videos: Sequence[Pixels], reader: Reader, clip_frames: int
) -> dict[str, Any]:
    """All measures that one set of videos gives, one video per person. ``truths``: what is read from the true ones."""
    readings = [reader.read(video) for video in videos]
    count = [min(len(person.opening), len(video)) for person, video in zip(people, videos, strict=True)]
    both = list(zip(people, readings, count, strict=True))
    curves = [(s.opening[:n], r.opening[:n]) for s, r, n in both if s.opening[:n].std() > 0.02]
    by_lag = {lag: float(np.mean([lagged(true, read, lag) for true, read in curves])) for lag in LAGS}
    silent = np.concatenate([r.opening[:n][s.silent[:n]] for s, r, n in both])
    loud = [(s.loudness[:n], r.opening[:n]) for s, r, n in both if s.loudness[:n].std() > 0.02]
    inside, borders = jitter([r.place for r in readings], clip_frames)
    return {
        "lip_correlation": by_lag[0],
        "lip_lag": max(by_lag, key=by_lag.__getitem__),
        "silence_closed": float(np.mean(silent < CLOSED)) if len(silent) else None,
        "energy_correlation": float(np.mean([lagged(true, read, 0) for true, read in loud])),
        **identity(people, videos),
        "colour": colour(people, videos),
        "drift": drift(people, videos),
        "speed_read": float(np.mean([head_speed(r.angles) for r in readings])),
        "jitter_inside": 1000 * inside,
        "jitter_borders": 1000 * borders,
        "jitter_ratio": borders / inside,
        "background": background(people, videos),
        "frechet": frechet(readings, truths),
    }


def lagged(true: Curve, read: Curve, lag: int) -> float:
    """Correlation of ``read`` with ``true`` where the video is ``lag`` frames late."""
    first, second = (true[: len(true) - lag], read[lag:]) if lag >= 0 else (true[-lag:], read[:lag])
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 1e-9 else 0.0


def head_speed(angles: Curve) -> float:
    """(T, 3) radians at 25 frames a second → mean angular speed in units of 20 degrees a second."""
    kernel = np.ones(7) / 7
    smooth = np.stack([np.convolve(column, kernel, mode="valid") for column in angles.T], axis=1)
    rates = np.linalg.norm(np.diff(smooth, axis=0), axis=1) * 25
    return float(np.degrees(rates.mean()) / 20)


def jitter(places: Iterable[Curve], clip_frames: int) -> tuple[float, float]:
    """Mean second difference of the head's place inside clips, and across their borders."""
    inside, borders = [], []
    for place in places:
        bends = np.linalg.norm(np.diff(place, n=2, axis=0), axis=1)  # bend i has the frames i, i + 1, i + 2
        crossing = (np.arange(len(bends)) // clip_frames) != ((np.arange(len(bends)) + 2) // clip_frames)
        inside.append(bends[~crossing])
        borders.append(bends[crossing])
    return float(np.mean(np.concatenate(inside))), float(np.mean(np.concatenate(borders)))


def identity(people: Sequence[Person], videos: Sequence[Pixels]) -> dict[str, float]:
    """Whose portrait each video is nearest to."""
    portraits = np.stack([face_colours(person.portrait[None], person) for person in people])
    faces = np.stack([face_colours(video, person) for person, video in zip(people, videos, strict=True)])
    distances = np.abs(faces[:, None] - portraits[None]).mean(axis=(2, 3, 4))
    own = distances.diagonal()
    others = np.where(np.eye(len(own), dtype=bool), np.inf, distances).min(axis=1)
    return {"identity_top1": float(np.mean(own < others)), "identity_margin": float(np.mean(others / (own + 1e-6)))}


def face_colours(frames: Pixels, person: Person) -> Curve:
    """Mean face of (T, H, W, 3) frames as (16, 16, 3), with the mouth's part left out (zero)."""
    size = frames.shape[1]
    face = person.face.scaled(size / 512)
    mean = frames[:, int(face.top) : int(face.bottom), int(face.left) : int(face.right)].astype(np.float64).mean(axis=0)
    rows, columns = (np.linspace(0, n, 17).astype(int) for n in mean.shape[:2])
    cells = np.add.reduceat(np.add.reduceat(mean, rows[:-1], axis=0), columns[:-1], axis=1)
    cells /= (np.diff(rows)[:, None] * np.diff(columns))[..., None]
    cells[9:, 3:13] = 0
    return cells


def colour(people: Sequence[Person], videos: Sequence[Pixels], cell: int = 8) -> float:
    """Distance of the mean frame's colours from the truth's."""
    squares = []
    for person, video in zip(people, videos, strict=True):
        difference = video.mean(axis=0) - person.frames[: len(video)].mean(axis=0)
        height, width, _ = difference.shape
        cells = difference.reshape(height // cell, cell, width // cell, cell, 3).mean(axis=(1, 3))
        squares.append(np.square(cells).mean())
    return float(np.sqrt(np.mean(squares)))


def drift(people: Sequence[Person], videos: Sequence[Pixels], frames: int = 25) -> float:
    """How much further a video's end is from its portrait than its beginning."""

    portraits = [face_colours(person.portrait[None], person) for person in people]

    def distance(part: slice) -> float:
        faces = [face_colours(video[part], person) for person, video in zip(people, videos, strict=True)]
        return float(np.abs(np.subtract(faces, portraits)).mean())

    return distance(slice(-frames, None)) / (distance(slice(frames)) + 1e-6)


def background(people: Sequence[Person], videos: Sequence[Pixels]) -> float:
    """Mean change from frame to frame where the truth stands still."""
    changes = []
    for person, video in zip(people, videos, strict=True):
        still = np.ptp(person.frames.astype(np.int16), axis=0).max(axis=-1) == 0
        changes.append(np.abs(np.diff(video.astype(np.float64), axis=0))[:, still].mean())
    return float(np.mean(changes))


def frechet(made: Sequence[Reading], true: Sequence[Reading], window: int = 12, kept: int = 32) -> float:
    """Fréchet distance of windows in the judge's features."""
    generated, real = (np.concatenate([_windows(r.features, window) for r in some]) for some in (made, true))
    mean = real.mean(axis=0)
    _, _, axes = np.linalg.svd(real - mean, full_matrices=False)
    generated, real = ((values - mean) @ axes[:kept].T for values in (generated, real))
    spreads = [np.cov(values, rowvar=False) for values in (generated, real)]
    roots = np.linalg.eigvals(spreads[0] @ spreads[1]).real.clip(0)
    difference = generated.mean(axis=0) - real.mean(axis=0)
    return float(difference @ difference + np.trace(spreads[0]) + np.trace(spreads[1]) - 2 * np.sqrt(roots).sum())


def _windows(features: Curve, window: int) -> Curve:
    starts = range(0, len(features) - window + 1, window // 2)
    parts = [features[start : start + window] for start in starts]
    return np.stack([np.concatenate([p.mean(axis=0), np.abs(np.diff(p, axis=0)).mean(axis=0)]) for p in parts])


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


def real_voice(
    animator: Animator, people: Sequence[Person], reader: Reader, options: AnimateOptions, voice: Path
) -> float:
    """Correlation of the read opening with the loudness of a recording, spoken by the first person."""
    from training.world.lips import loudness_of

    sound = np.concatenate(list(mono_16k(open_audio(voice))))[: 8 * AUDIO_SAMPLE_RATE]
    with prepare(animator, people[0]) as avatar:
        chosen = options.replace(paste_back=False)
        video = animator.animate(avatar, sound, sample_rate=AUDIO_SAMPLE_RATE, options=chosen).numpy()
    times = (np.arange(len(video)) + 0.5) / animator.config.fps
    return lagged(np.asarray(loudness_of(sound, times)), reader.read(video).opening, 0)


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


COLUMNS = ("lip_correlation", "lip_lag", "silence_closed", "energy_correlation", "real_voice", "identity_top1",
           "identity_margin", "colour", "drift", "jitter_ratio", "jitter_inside", "box_control",
           "background", "frechet")  # fmt: skip


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with one line per setting, and one of head speeds."""
    lines = ["| setting | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(_cell(row.get(key)) for key in COLUMNS) + " |" for name, row in rows.items()]
    speeds = {name: row["head_speed"] for name, row in rows.items() if "head_speed" in row}
    if speeds:
        lines += ["", "| head speed, requested | " + " | ".join(map(str, SPEEDS)) + " |", "|---" * 5 + "|"]
        lines += [f"| {name} | " + " | ".join(map(_cell, row.values())) + " |" for name, row in speeds.items()]
    return "\n".join(lines) + "\n"


def _cell(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def evaluate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for; pictures are written on the way."""
    reader = Reader()
    with Animator.load(
        arguments.bundle, device=arguments.device, backend=arguments.backend, threads=arguments.threads
    ) as animator:
        config = animator.config
        people = load_people(arguments.people, config.size)
        truths = [reader.read(person.frames) for person in people]
        options = AnimateOptions(steps=arguments.steps, solver=arguments.solver, guidance=arguments.guidance)
        start = perf_counter()
        videos = generate(animator, people, options)
        seconds = perf_counter() - start
        row = {**measure(people, truths, videos, reader, config.frames), "seconds_per_video": seconds / len(people)}
        few = people[: arguments.controls]
        if few:
            row["head_speed"] = head_speeds(lambda v: generate(animator, few, options.replace(speed=v)), reader)
            row["box_control"] = box_control(animator, few, reader, options)
        if arguments.voice:
            heard = [real_voice(animator, people, reader, options, voice) for voice in arguments.voice]
            row["real_voice"] = float(np.mean(heard))
        if arguments.pictures:
            write_pictures(arguments.pictures, people, videos, reader)
    reconstruct = reconstruction(arguments.bundle)
    truth = measure(people, truths, reconstruct(people), reader, config.frames)
    if few:
        truth["head_speed"] = head_speeds(lambda v: reconstruct(load_people(len(few), config.size, v)), reader)
    return {
        "benchmark": "quality",
        "schema": SCHEMA,
        "model": config.name,
        "people": len(people),
        "controls": len(few),
        "backend": animator.backend,
        "voices": [voice.name for voice in arguments.voice or ()],
        "environment": environment(arguments.threads),
        "settings": {f"{arguments.solver}, {arguments.steps} steps": row, "truth": truth},
    }


def write_pictures(folder: Path, people: Sequence[Person], videos: Sequence[Pixels], reader: Reader) -> None:
    """A contact sheet of four people and the lips of six as curves."""
    folder.mkdir(parents=True, exist_ok=True)
    some, shown = people[:4], people[:6]
    sheet = contact_sheet([p.portrait for p in some], [p.frames for p in some], videos[:4])
    sheet.save(folder / "contact_sheet.png")
    read = [reader.read(video).opening for video in videos[:6]]
    lip_plot([p.opening for p in shown], read, [p.loudness for p in shown]).save(folder / "lips.png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and the JSON line."""
    parser = argparse.ArgumentParser(prog="python -m emo_rt.benchmarks.quality", description=SUMMARY)
    add_options(parser, Machine)
    parser.add_argument("--people", type=int, default=20, help="pairs of person and sentence (default: %(default)s)")
    parser.add_argument("--controls", type=int, default=6, help="people for head speed and face box; 0 = leave out")
    parser.add_argument("--solver", default="ddim")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--guidance", type=float, help="default: the model's")
    parser.add_argument("--voice", type=Path, action="append", help="a recording of a real voice; may be given again")
    add_outputs(parser)
    parser.add_argument("--pictures", type=Path, metavar="FOLDER", help="contact sheet and lip curves as PNG")
    given = parser.parse_args(arguments)
    if given.people < 2 or given.controls < 0:
        parser.error("--people is 2 or more, --controls 0 or more")
    result = evaluate(given)
    publish(result, markdown(result["settings"]), given)
    return 0


if __name__ == "__main__":
    sys.exit(main())
