"""Voices that speak and sing, with the time of every phoneme.

Two synthesisers, both Debian packages: `apt-get install espeak-ng flite`. espeak-ng tells phoneme times through its
library's events; flite prints them (`-psdur`). Both use IPA symbols here, and silence is "".
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from training.world.casting import Split
from training.world.stretch import stretch
from training.world.visemes import ARPABET, is_vowel
from training.world.vocabulary import crossed, sentence

SAMPLE_RATE = 16_000
Waveform = NDArray[np.float32]

_ACCENTS = {
    "en": ("en-us", "en-us", "en-gb-x-rp", "en-gb-scotland"),
    "de": ("de",),
    "fr": ("fr",),
    "es": ("es", "es-419"),
    "it": ("it",),
    "pt": ("pt-br", "pt"),
}
_VARIANTS: dict[Split, tuple[str, ...]] = {
    "train": (
        "",
        "f1",
        "f2",
        "f3",
        "f4",
        "m1",
        "m2",
        "m3",
        "m4",
        "m5",
        "m6",
        "m8",
        "Annie",
        "klatt",
        "klatt3",
        "klatt4",
    )
    + ("steph", "belinda", "Alicia", "john", "paul", "victor", "Mario", "ed", "linda", "zac", "rob", "Michael"),
    "test": ("f5", "m7", "klatt2", "Andrea", "quincy", "david"),
}
_MORE_VARIANTS = (
    *("adam", "Alex", "aunty", "benjamin", "boris", "caleb", "Denis", "Diogo", "edward", "Gene", "gustave", "Henrique"),
    *("Hugo", "iven", "iven2", "iven3", "Jacky", "kaukovalta", "Lee", "marcelo", "Marco", "max", "michel", "miguel"),
    *("Mike", "Nguyen", "norbert", "pablo", "pedro", "robert", "sandro", "shelby", "steph2", "Storm", "travis"),
    *("anika", "grandma", "grandpa", "klatt5", "klatt6", "AnxiousAndy"),
)
"""Further voices of espeak-ng for what only listens; none is of the test split."""
_FLITE: dict[Split, tuple[str, ...]] = {"train": ("kal16", "rms", "slt"), "test": ("awb",)}
_SCALE = (-5, -3, 0, 2, 4, 5, 7, 9)
"""Semitones a sung word may lie above the voice's own pitch."""


class SpeechUnavailableError(RuntimeError):
    """A speech program is missing or failed; the message says which package brings it."""


@dataclass(frozen=True, slots=True)
class Phoneme:
    """One sound and when it is heard."""

    symbol: str
    """IPA; "" is silence."""
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks, and how."""

    engine: str = "espeak"
    """espeak or flite."""
    name: str = "en-us"
    language: str = "en"
    rate: int = 165
    """Words a minute, 80 to 260."""
    pitch: int = 50
    """0 to 99 (espeak); flite keeps its own."""
    pitch_range: int = 50
    """How lively: 0 to 99 (espeak)."""
    sings: bool = False
    beat_s: float = 0.6
    """From one beat to the next where the voice sings, 0.45 to 0.85 s."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A voice recording with its script."""

    waveform: Waveform
    """(N,) float32 at 16 kHz, within -1 to 1."""
    phonemes: tuple[Phoneme, ...]
    """In order, without gaps."""
    beat_s: float = 0.0
    """Of a song: from one beat to the next, the first at 0. Vowels start on beats and halves of beats."""

    @property
    def duration_s(self) -> float:
        return len(self.waveform) / SAMPLE_RATE


@lru_cache(maxsize=1)
def available_engines() -> tuple[str, ...]:
    """The synthesisers on this machine."""
    return tuple(name for name, program in (("espeak", "espeak-ng"), ("flite", "flite")) if shutil.which(program))


def sample_voice(rng: np.random.Generator, split: Split, varied: bool = False) -> Voice:
    """A voice of a split; no voice is in both. ``varied`` adds voices to the training split."""
    engines = available_engines()
    if not engines:
        raise SpeechUnavailableError("no speech synthesiser found; run `apt-get install espeak-ng flite`")
    if "flite" in engines and (rng.random() < 0.15 or "espeak" not in engines):
        return Voice("flite", str(rng.choice(_FLITE[split])), rate=int(rng.integers(130, 210)))
    language = "en" if rng.random() < 0.45 else str(rng.choice(list(_ACCENTS)))
    variant = str(rng.choice(_VARIANTS[split] + (_MORE_VARIANTS if varied and split == "train" else ())))
    accent = str(rng.choice(_ACCENTS[language]))
    sings = bool(rng.random() < 0.2)
    rate = rng.integers(90, 130) if sings else rng.integers(120, 230)
    name = f"{accent}+{variant}" if variant else accent
    pitch, lively = int(rng.integers(20, 85)), int(rng.integers(20, 99))
    return Voice("espeak", name, language, int(rate), pitch, lively, sings, float(rng.uniform(0.45, 0.85)))


def sample_speech(seed: int, seconds: float, split: Split = "train", varied: bool = False) -> Speech:
    """One voice that speaks (or sings) for a while, with pauses; 2 % of the clips are silent.

    ``varied``: more voices, and words that no language has.
    """
    rng = np.random.default_rng([0x5BEEC, seed, split == "test"])
    voice = sample_voice(rng, split, varied)
    pieces = [silence(float(rng.uniform(0.0, 0.5)))]
    if rng.random() < 0.02:
        pieces = [silence(seconds)]
    while sum(piece.duration_s for piece in pieces) < seconds:
        words = sentence(rng, voice.language, split)
        piece = synthesize(crossed(rng, words) if varied else words, voice, rng)
        if voice.sings:
            pieces.append(_until_beat(pieces, piece, voice.beat_s))
        pause = rng.uniform(0.6, 1.4) if rng.random() < 0.15 else rng.uniform(0.02, 0.4)
        pieces += [piece, silence(float(pause))]
    speech = cut(join(pieces), seconds)
    level = _level(speech.waveform, float(rng.uniform(0.25, 0.95)))
    return replace(speech, waveform=level, beat_s=voice.beat_s if voice.sings else 0.0)


def synthesize(words: Sequence[str], voice: Voice, rng: np.random.Generator | None = None) -> Speech:
    """Speak a sentence; `rng` chooses the melody of a voice that sings."""
    if voice.engine == "flite":
        return _flite(" ".join(words), voice)
    if not voice.sings:
        return _espeak(escape(" ".join(words)), voice)
    rng = rng or np.random.default_rng(0)
    return _hold_vowels(_espeak(_melody(words, rng), voice), rng, voice.beat_s / 2)


def _until_beat(before: Sequence[Speech], song: Speech, beat_s: float) -> Speech:
    """The silence after which the song's first vowel falls on a beat."""
    first = next((p.start_s for p in song.phonemes if p.symbol and is_vowel(p.symbol)), 0.0)
    now = sum(piece.duration_s for piece in before) + first
    return silence(-now % beat_s)


def silence(seconds: float) -> Speech:
    """Nothing, for a while."""
    count = max(1, round(seconds * SAMPLE_RATE))
    return Speech(np.zeros(count, dtype=np.float32), (Phoneme("", 0.0, count / SAMPLE_RATE),))


def join(pieces: Sequence[Speech]) -> Speech:
    """One after the other."""
    phonemes: list[Phoneme] = []
    start = 0.0
    for piece in pieces:
        phonemes += [Phoneme(p.symbol, start + p.start_s, start + p.end_s) for p in piece.phonemes]
        start += piece.duration_s
    return Speech(np.concatenate([piece.waveform for piece in pieces]), tuple(phonemes))


def cut(speech: Speech, seconds: float) -> Speech:
    """The first seconds, to the sample."""
    count = round(seconds * SAMPLE_RATE)
    end = count / SAMPLE_RATE
    kept = tuple(replace(p, end_s=min(p.end_s, end)) for p in speech.phonemes if p.start_s < end)
    return Speech(speech.waveform[:count], kept)


def _level(waveform: Waveform, peak: float) -> Waveform:
    loudest = float(np.abs(waveform).max(initial=0.0))
    return waveform * np.float32(peak / loudest) if loudest > 1e-4 else waveform


def _melody(words: Sequence[str], rng: np.random.Generator) -> str:
    """Every word on a note of a scale, as SSML."""
    notes, step = [], int(rng.integers(len(_SCALE)))
    for word in words:
        step = int(np.clip(step + rng.integers(-2, 3), 0, len(_SCALE) - 1))
        percent = round((2 ** (_SCALE[step] / 12) - 1) * 100)
        notes.append(f'<prosody pitch="{percent:+d}%">{escape(word)}</prosody>')
    return " ".join(notes)


def _hold_vowels(speech: Speech, rng: np.random.Generator, step_s: float) -> Speech:
    """Stretch vowels until each next one starts a whole number of steps after the last: some are held for long."""
    lengths = np.array([p.end_s - p.start_s for p in speech.phonemes])
    vowels = np.array([bool(p.symbol) and is_vowel(p.symbol) for p in speech.phonemes])
    factors = np.where(vowels, 1.0, 1.05)
    starts = np.flatnonzero(vowels)
    for first, following in zip(starts, [*starts[1:], len(lengths)], strict=True):
        rest = float((lengths[first + 1 : following] * 1.05).sum())
        steps = np.ceil((lengths[first] * 1.1 + rest) / step_s) + rng.choice([0, 1, 2, 3], p=[0.62, 0.24, 0.08, 0.06])
        factors[first] = (steps * step_s - rest) / lengths[first]
    ends = np.cumsum(lengths * factors)
    phonemes = [
        Phoneme(p.symbol, end - length, end)
        for p, end, length in zip(speech.phonemes, ends.tolist(), (lengths * factors).tolist(), strict=True)
    ]
    source, target = (np.concatenate([[0.0], curve]) * SAMPLE_RATE for curve in (np.cumsum(lengths), ends))
    return _sealed(stretch(speech.waveform, source.tolist(), target.tolist()), phonemes)


def _espeak(text: str, voice: Voice) -> Speech:
    order = {"text": text, "voice": voice.name, "rate": voice.rate, "pitch": voice.pitch, "range": voice.pitch_range}
    worker = Path(__file__).with_name("espeak_worker.py")
    answer = _run([sys.executable, "-I", "-S", str(worker)], json.dumps(order).encode(), "espeak-ng")
    head, _, samples = answer.partition(b"\n")
    facts = json.loads(head)
    rate = int(facts["rate"])
    waveform = _resample(np.frombuffer(samples, dtype="<i2"), rate)
    starts = [start / rate for start, _ in facts["events"]]
    symbols = [symbol for _, symbol in facts["events"]]
    return _sealed(waveform, _heard(waveform, _from_starts(symbols, starts, len(waveform) / SAMPLE_RATE)))


def _heard(waveform: Waveform, phonemes: Sequence[Phoneme]) -> list[Phoneme]:
    """espeak-ng reports joints between words as silences: where something is heard, the sound before them goes on."""
    heard: list[Phoneme] = []
    threshold = 0.15 * float(np.sqrt(np.mean(waveform**2))) if len(waveform) else 0.0
    for phoneme in phonemes:
        part = waveform[round(phoneme.start_s * SAMPLE_RATE) : round(phoneme.end_s * SAMPLE_RATE)]
        loud = len(part) > 0 and float(np.sqrt(np.mean(part**2))) > threshold
        goes_on = phoneme.symbol == "" and loud and heard
        heard.append(replace(phoneme, symbol=heard[-1].symbol) if goes_on else phoneme)
    return heard


def _flite(text: str, voice: Voice) -> Speech:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        slow = f"duration_stretch={165 / voice.rate:.3f}"
        options = ["-voice", voice.name, "-psdur", "--setf", slow, "-t", text, "-o", str(path)]
        printed = _run(["flite", *options], b"", "flite").decode()
        with wave.open(io.BytesIO(path.read_bytes())) as recording:
            samples = np.frombuffer(recording.readframes(recording.getnframes()), dtype="<i2")
            waveform = _resample(samples, recording.getframerate())
    pairs = [entry.rsplit(":", 1) for entry in printed.split()]
    ends = [float(end) for _, end in pairs]
    symbols = [ARPABET.get(name, "") for name, _ in pairs]
    return _sealed(waveform, _from_starts(symbols, [0.0, *ends[:-1]], len(waveform) / SAMPLE_RATE))


def _run(command: list[str], data: bytes, package: str) -> bytes:
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=30, check=True)
    except FileNotFoundError as error:
        raise SpeechUnavailableError(f"{command[0]} not found; run `apt-get install {package}`") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise SpeechUnavailableError(f"{package} failed: {reason}; is the package {package} installed?") from error
    return done.stdout


def _resample(samples: NDArray[np.int16], rate: int) -> Waveform:
    """To 16 kHz: (N,) int16 -> (M,) float32."""
    waveform = samples.astype(np.float32) / 32768.0
    if rate == SAMPLE_RATE:
        return waveform
    common = int(np.gcd(rate, SAMPLE_RATE))
    resampled: Waveform = resample_poly(waveform, SAMPLE_RATE // common, rate // common).astype(np.float32)
    return resampled


def _from_starts(symbols: Sequence[str], starts: Sequence[float], duration: float) -> list[Phoneme]:
    ends = [*starts[1:], duration]
    return [Phoneme(s, a, min(b, duration)) for s, a, b in zip(symbols, starts, ends, strict=True) if b > a]


def _sealed(waveform: Waveform, phonemes: Sequence[Phoneme]) -> Speech:
    """Close the gaps before the first and after the last phoneme with silence; the script ends with the recording."""
    end = len(waveform) / SAMPLE_RATE
    script = [p for p in phonemes if p.start_s < end]
    if script and script[0].start_s > 0:
        script.insert(0, Phoneme("", 0.0, script[0].start_s))
    last = script[-1].end_s if script else 0.0
    if last < end - 1 / SAMPLE_RATE:
        script.append(Phoneme("", last, end))
    else:
        script[-1] = replace(script[-1], end_s=end)
    return Speech(np.clip(waveform, -1, 1), tuple(script))
