"""A pack of voices: what the synthesisers said, in one small file, so that pictures can be drawn where none is.

The pack holds clips with following seeds: the sound (Opus), the phonemes with their times, and the prosody that the
speaker's movements follow. The last two are those of the sound before it was encoded: with a pack, a seed moves and
looks as it does without one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from emo_rt.files import whole_file
from training import opus
from training.world import Clip
from training.world.casting import Split
from training.world.lips import Prosody
from training.world.speech import SAMPLE_RATE, Phoneme, Speech

FPS = 25


@dataclass(frozen=True)
class Utterance:
    """One clip's sound, small."""

    packets: list[bytes]
    """Opus, 20 ms each."""
    symbols: list[str]
    ends: NDArray[np.float64]
    """When each phoneme ends, s."""
    prosody: NDArray[np.float16]
    """(2, T) loudness and melody."""
    beat_s: float


@dataclass(frozen=True)
class Voices:
    """A pack in memory, still encoded."""

    first: int
    """Seed of the first clip."""
    split: Split
    utterances: Sequence[Utterance]

    def clip(self, seed: int, style: str | None = None) -> Clip:
        """The clip of a seed of the pack, with the pack's sound; everything else as `Clip.sample` has it."""
        said = self.utterances[seed - self.first]
        frames = said.prosody.shape[1]
        starts = np.concatenate([[0.0], said.ends[:-1]])
        script = zip(said.symbols, starts.tolist(), said.ends.tolist(), strict=True)
        sound = opus.decode(said.packets, frames * SAMPLE_RATE // FPS)
        speech = Speech(sound, tuple(Phoneme(*entry) for entry in script), said.beat_s)
        loudness, melody = said.prosody.astype(np.float64)
        return Clip.spoken(seed, speech, FPS, self.split, style=style, prosody=Prosody(loudness, melody, said.beat_s))

    @property
    def seeds(self) -> range:
        """Seeds of the clips, in order."""
        return range(self.first, self.first + len(self.utterances))

    def save(self, path: Path) -> None:
        """Write one compressed `.npz`, whole or not at all."""
        said = self.utterances
        names = sorted({symbol for one in said for symbol in one.symbols})
        numbers = {name: number for number, name in enumerate(names)}
        facts = {"first": self.first, "split": self.split, "symbols": names}
        packets = [packet for one in said for packet in one.packets]
        with whole_file(path) as part, part.open("wb") as file:
            np.savez_compressed(
                file,
                facts=np.frombuffer(json.dumps(facts).encode(), np.uint8),
                packets=np.frombuffer(b"".join(packets), np.uint8),
                packet_bytes=np.array([len(packet) for packet in packets], np.uint16),
                packet_counts=np.array([len(one.packets) for one in said], np.int32),
                symbols=np.array([numbers[symbol] for one in said for symbol in one.symbols], np.uint16),
                ends=np.concatenate([one.ends for one in said]),
                phoneme_counts=np.array([len(one.symbols) for one in said], np.int32),
                prosody=np.concatenate([one.prosody for one in said], axis=1),
                frame_counts=np.array([one.prosody.shape[1] for one in said], np.int32),
                beats=np.array([one.beat_s for one in said]),
            )

    @classmethod
    def load(cls, path: Path) -> Voices:
        """Read a file that `save` wrote."""
        with np.load(path) as data:
            stored = {name: data[name] for name in data.files}
        facts = json.loads(stored["facts"].tobytes())
        blob, edges = stored["packets"].tobytes(), np.concatenate([[0], np.cumsum(stored["packet_bytes"], dtype=int)])
        packets = [blob[low:high] for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
        symbols = [facts["symbols"][number] for number in stored["symbols"].tolist()]
        utterances = [
            Utterance(
                packets[sound], symbols[script], stored["ends"][script], stored["prosody"][:, frames], float(beat)
            )
            for sound, script, frames, beat in zip(
                _runs(stored["packet_counts"]),
                _runs(stored["phoneme_counts"]),
                _runs(stored["frame_counts"]),
                stored["beats"],
                strict=True,
            )
        ]
        return cls(facts["first"], facts["split"], utterances)


def _runs(counts: NDArray[np.int32]) -> list[slice]:
    ends = np.cumsum(counts).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def say(seed: int, seconds: float, split: Split, varied: bool, bits_per_second: int) -> Utterance:
    """Let the synthesisers speak one clip."""
    clip = Clip.sample(seed, seconds, FPS, split, varied)
    heard = np.stack([clip.prosody.loudness, clip.prosody.melody]).astype(np.float16)
    return Utterance(
        packets=opus.encode(clip.waveform, bits_per_second),
        symbols=[phoneme.symbol for phoneme in clip.phonemes],
        ends=np.array([phoneme.end_s for phoneme in clip.phonemes]),
        prosody=heard,
        beat_s=clip.prosody.beat_s,
    )


def say_all(seeds: range, seconds: float, split: Split, varied: bool, bits_per_second: int, workers: int = 1) -> Voices:
    """Let the synthesisers speak clips with following seeds, in `workers` processes."""
    work = partial(say, seconds=seconds, split=split, varied=varied, bits_per_second=bits_per_second)
    return Voices(seeds.start, split, list(_map(work, seeds, workers)))


def _map(work: partial[Utterance], seeds: range, workers: int) -> Iterable[Utterance]:
    if workers == 1:
        return map(work, seeds)
    with Pool(workers) as pool:
        return pool.map(work, seeds, chunksize=8)
