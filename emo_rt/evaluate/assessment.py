"""Videos, and what they are held against → a report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from emo_rt.errors import InputError, MissingDependencyError
from emo_rt.evaluate.context import ARCFACE, DLIB, NO_PORTRAIT, Context, PortraitFacts
from emo_rt.evaluate.deep3d import Deep3D
from emo_rt.evaluate.expression import coefficients, expressions
from emo_rt.evaluate.fid import fid, fvd, joined_clips, joined_features
from emo_rt.evaluate.footage import Footage, expanded, open_video, videos_in
from emo_rt.evaluate.frechet import FrechetSample, too_few
from emo_rt.evaluate.i3d import I3D
from emo_rt.evaluate.identity import ArcFaceRecogniser, DlibRecogniser, Recogniser
from emo_rt.evaluate.inception import Inception
from emo_rt.evaluate.intervals import Sample, estimate
from emo_rt.evaluate.metrics import METRICS, Metric, take
from emo_rt.evaluate.moments import worst_moments
from emo_rt.evaluate.onnx_network import NetworkFile
from emo_rt.evaluate.options import Against, Name
from emo_rt.evaluate.reading import Networks, Reading, read
from emo_rt.evaluate.report import Detail, Report, Row, Value
from emo_rt.evaluate.syncnet import SyncNet
from emo_rt.faces import FaceFinder, default_finder
from emo_rt.faces.networks import NETWORKS, asset
from emo_rt.media.picture import load_picture
from emo_rt.schema.compound import Files
from emo_rt.schema.kinds import File
from emo_rt.schema.option import Option, options_of

Said: TypeAlias = Callable[[str], None]

SETS = {"fid": fid, "fvd": fvd}
"""Measures of whole sets of videos."""
PORTRAITS = (".png", ".jpg", ".jpeg", ".webp")
"""How names of portraits in a folder end."""


class Eyes:
    """The networks that look at videos, opened once."""

    def __init__(
        self,
        arcface: Name | None = None,
        inception: Name | None = None,
        *,
        i3d: Name | None = None,
        syncnet: Name | None = None,
        deep3d: Name | None = None,
    ) -> None:
        """Raises :class:`MissingDependencyError` where nothing can run the face networks, :class:`InputError`."""
        self.finder: FaceFinder = default_finder()
        self.recognisers: dict[str, Recogniser] = {}
        self._seen: WeakKeyDictionary[Footage, Reading] = WeakKeyDictionary()
        self.missing: dict[str, str] = {ARCFACE: "needs an ArcFace network: --arcface FILE.onnx"}
        """Recogniser → why it is not here."""
        try:
            self.recognisers[DLIB] = DlibRecogniser()
        except MissingDependencyError as exc:
            self.missing[DLIB] = str(exc)
        if arcface is not None:
            self.recognisers[ARCFACE] = ArcFaceRecogniser(Path(arcface))
            del self.missing[ARCFACE]
        self._networks = Networks(
            self.recognisers,
            None if inception is None else Inception(Path(inception)),
            None if i3d is None else I3D(Path(i3d)),
            None if deep3d is None else Deep3D(Path(deep3d)),
            None if syncnet is None else SyncNet(Path(syncnet)),
        )

    def read(self, footage: Footage) -> Reading:
        """One pass over a video; none for one that was looked at before."""
        if footage not in self._seen:
            self._seen[footage] = read(footage, self.finder, self._networks)
        return self._seen[footage]

    def portrait(self, path: Path) -> PortraitFacts:
        """What is known of a portrait. Raises :class:`PortraitError`, :class:`InputError` where it has no face."""
        picture = load_picture(path)
        faces = self.finder.find(picture)
        if not faces:
            raise InputError(f"no face was found in the portrait {path}; give a picture with one")
        embeddings = {name: one.embed(picture, faces[0].landmarks) for name, one in self.recognisers.items()}
        return PortraitFacts(embeddings)

    @property
    def networks(self) -> list[NetworkFile]:
        """All that look, with their hashes."""
        built_in = [
            NetworkFile.of(f"Face Landmarker, {name} (Google, built in)", asset(f"{name}.onnx")) for name in NETWORKS
        ]
        return built_in + self._networks.files


def eyes_of(against: Against) -> Eyes:
    """The networks that it names, opened. Raises what :class:`Eyes` raises."""
    return Eyes(against.arcface, against.inception, i3d=against.i3d, syncnet=against.syncnet, deep3d=against.deep3d)


def picture_of(folder: Path, video: str) -> Path | None:
    """The picture in a folder that has a video's name."""
    stem = Path(video).stem
    found = (one for one in sorted(folder.iterdir()) if one.stem == stem and one.suffix.lower() in PORTRAITS)
    return next(found, None)


class Portraits:
    """One portrait for all videos, or one each."""

    def __init__(self, source: Name | None, eyes: Eyes) -> None:
        """Raises what :meth:`Eyes.portrait` raises."""
        path = None if source is None else Path(source)
        self._facts: dict[str, PortraitFacts] = {}
        self._all = None if path is None or path.is_dir() else eyes.portrait(path)
        if path is not None and path.is_dir():
            pictures = [one for one in sorted(path.iterdir()) if one.suffix.lower() in PORTRAITS]
            if not pictures:
                raise InputError(f"{path} has no picture; expected files that end in {', '.join(PORTRAITS)}")
            self._facts = {one.stem: eyes.portrait(one) for one in pictures}

    def none(self, name: str) -> str:
        """Why a video has none."""
        return f"the folder of portraits has none named {Path(name).stem}" if self._facts else NO_PORTRAIT

    def of(self, name: str) -> PortraitFacts | None:
        """The one of a video."""
        return self._all or self._facts.get(Path(name).stem)


@dataclass(frozen=True, eq=False)
class Looked:
    """One video after its pass."""

    footage: Footage
    reading: Reading
    took_s: float


def evaluate(
    videos: Iterable[Name | Footage], against: Against | None = None, *, progress: Said | None = None
) -> Report:
    """Measure videos, and what they are held against.

    ``videos``: files, folders of them, or :class:`Footage` of frames in memory. ``progress`` is told the name of each
    video before it is read. Raises :class:`InputError`, :class:`AudioError`, :class:`PortraitError`,
    :class:`MissingDependencyError` where nothing can run the face networks.
    """
    against, said = against or Against(), progress or (lambda name: None)
    opened = [one for source in videos for one in _opened(source)]
    if not opened:
        raise InputError("there is no video to evaluate; give one or more")
    systems = [videos_in(folder) for folder in against.systems]
    truths_of = [] if against.truth is None else videos_in(against.truth)
    eyes = eyes_of(against)
    portraits = Portraits(against.portrait, eyes)
    truths = _looks(map(open_video, truths_of), eyes, said)
    context = held_against(against, eyes, portraits, [one.reading for one in truths])
    voiced = [one if against.voice is None else one.with_voice(against.voice) for one in opened]
    own = _looks(voiced, eyes, said)
    rows = [_row(one.footage.name, "video", [one], context) for one in own]
    if len(own) > 1:
        rows.append(_row("all videos", "set", own, context))
    for folder, others in zip(against.systems, systems, strict=True):
        rows.append(_row(Path(folder).name, "against", _looks(map(open_video, others), eyes, said), context))
    if truths:
        rows.append(_row(Path(str(against.truth)).name, "truth", truths, context))
    details = [Detail(one.footage, one.reading, worst_moments(one.reading, context)) for one in own]
    return Report(rows, eyes.networks, _settings(against), details)


def held_against(against: Against, eyes: Eyes, portraits: Portraits, truths: Sequence[Reading]) -> Context:
    """What readings are compared with."""
    return Context(
        portrait_of=portraits.of,
        no_portrait=portraits.none,
        true_expressions=np.concatenate([expressions(one) for one in truths]) if truths else None,
        true_frames=joined_features(truths),
        true_clips=joined_clips(truths),
        true_coefficients=coefficients(truths),
        clip_frames=against.clip_frames,
        missing=eyes.missing,
    )


def _opened(source: Name | Footage) -> list[Footage]:
    return [source] if isinstance(source, Footage) else [open_video(path) for path in expanded([source])]


def _looks(footage: Iterable[Footage], eyes: Eyes, said: Said) -> list[Looked]:
    looked = []
    for one in footage:
        said(one.name)
        start = time.perf_counter()
        reading = eyes.read(one)
        looked.append(Looked(one, reading, time.perf_counter() - start))
    return looked


def _row(
    name: str, kind: Literal["video", "set", "against", "truth"], looked: Sequence[Looked], context: Context
) -> Row:
    readings = [one.reading for one in looked]
    values = {metric.name: measured(metric, readings, context, kind == "truth") for metric in METRICS.values()}
    return Row(
        name=name,
        kind=kind,
        videos=len(looked),
        seconds=sum(len(one.reading) / one.reading.fps for one in looked),
        took_s=sum(one.took_s for one in looked),
        values=values,
    )


def measured(metric: Metric, readings: Sequence[Reading], context: Context, is_truth: bool = False) -> Value:
    """One measure of one or several videos, with its interval; or why there is none."""
    if metric.pooled and is_truth:
        return "the true videos are what it is held against"
    if metric.name in SETS:
        found = SETS[metric.name](readings, context)
        return found if isinstance(found, str) else estimate([found], metric.draws) or "no frame counted"
    taken = [take(metric, reading, context) for reading in readings]
    pooled = [one for one in taken if isinstance(one, FrechetSample)]
    if pooled:
        whole = FrechetSample.joined(pooled)
        return too_few(int(whole.counts.sum()), len(whole.true.mean), "the videos") or whole.estimate(metric.draws)
    samples = [one for one in taken if isinstance(one, Sample)]
    if not samples:
        return next(one for one in taken if isinstance(one, str))
    return estimate(samples, metric.draws) or "no frame counted"


def _settings(against: Against) -> dict[str, Any]:
    """File names only: a report may be shown to others."""
    return {option.field: _shown(option, getattr(against, option.field)) for option in options_of(Against)}


def _shown(option: Option, value: Any) -> Any:
    if isinstance(option.kind, Files):
        return [Path(one).name for one in value]
    return Path(value).name if value is not None and isinstance(option.kind, File) else option.dump(value)


__all__ = ["Eyes", "Looked", "Portraits", "evaluate", "eyes_of", "measured"]
