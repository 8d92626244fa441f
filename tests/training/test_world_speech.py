"""Voices: timings that fit the sound, repeatable samples, splits that share nothing."""

from __future__ import annotations

import numpy as np
import pytest

from training.world.speech import (
    _FLITE,
    _MORE_VARIANTS,
    _VARIANTS,
    SAMPLE_RATE,
    Phoneme,
    Speech,
    Voice,
    available_engines,
    cut,
    join,
    sample_speech,
    silence,
    synthesize,
)
from training.world.stretch import stretch
from training.world.visemes import ARPABET, PHONEME_IDS, VISEMES, is_vowel, phoneme_id, visemes_of
from training.world.vocabulary import LANGUAGES, crossed, sentence, words

needs_espeak = pytest.mark.skipif("espeak" not in available_engines(), reason="needs `apt-get install espeak-ng`")
needs_flite = pytest.mark.skipif("flite" not in available_engines(), reason="needs `apt-get install flite`")
needs_voice = pytest.mark.skipif(not available_engines(), reason="needs `apt-get install espeak-ng flite`")
WORDS = ("My", "mama", "bakes", "a", "happy", "apple,", "stop", "it", "Papa.")
VOICES = [
    pytest.param(Voice(), marks=needs_espeak, id="espeak"),
    pytest.param(Voice(name="de+m3", language="de", rate=210), marks=needs_espeak, id="espeak-fast"),
    pytest.param(Voice(sings=True, rate=100), marks=needs_espeak, id="singing"),
    pytest.param(Voice("flite", "slt"), marks=needs_flite, id="flite"),
    pytest.param(Voice("flite", "kal16", rate=140), marks=needs_flite, id="flite-slow"),
]


def level(speech: Speech, symbols: set[str] | None) -> float:
    """Median loudness of some phonemes; None for vowels."""
    levels = []
    for p in speech.phonemes:
        part = speech.waveform[int(p.start_s * SAMPLE_RATE) : int(p.end_s * SAMPLE_RATE)]
        wanted = (p.symbol in symbols) if symbols is not None else (p.symbol != "" and is_vowel(p.symbol))
        if wanted and len(part) > 100:
            levels.append(float(np.sqrt(np.mean(part**2))))
    return float(np.median(levels))


@pytest.mark.parametrize("voice", VOICES)
def test_phonemes_fill_the_recording_in_order(voice: Voice) -> None:
    speech = synthesize(WORDS, voice, np.random.default_rng(0))
    assert speech.waveform.dtype == np.float32
    assert np.abs(speech.waveform).max() <= 1
    assert speech.phonemes[0].start_s == 0
    assert speech.phonemes[-1].end_s == pytest.approx(speech.duration_s)
    for before, after in zip(speech.phonemes, speech.phonemes[1:], strict=False):
        assert before.start_s < before.end_s == pytest.approx(after.start_s)


@pytest.mark.parametrize("voice", VOICES)
def test_timings_match_the_energy(voice: Voice) -> None:
    speech = synthesize(WORDS, voice, np.random.default_rng(0))
    vowels = level(speech, None)
    assert vowels > 3 * level(speech, {"p", "t", "k", "b"})
    assert vowels > 6 * level(speech, {""})


@pytest.mark.parametrize("voice", VOICES)
def test_same_words_same_samples(voice: Voice) -> None:
    first, second = (synthesize(WORDS, voice, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first.waveform, second.waveform)
    assert first.phonemes == second.phonemes


@needs_espeak
def test_singing_holds_vowels() -> None:
    spoken = synthesize(WORDS, Voice(rate=100))
    sung = synthesize(WORDS, Voice(rate=100, sings=True), np.random.default_rng(0))
    assert sung.duration_s > 1.4 * spoken.duration_s


@needs_voice
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sampled_speech_has_the_length_asked_for(seed: int) -> None:
    speech = sample_speech(seed, 3.0)
    assert len(speech.waveform) == 3 * SAMPLE_RATE
    assert speech.phonemes[-1].end_s == pytest.approx(3.0)
    assert np.array_equal(speech.waveform, sample_speech(seed, 3.0).waveform)


def test_splits_share_no_voice_and_no_word() -> None:
    assert not (set(_VARIANTS["train"]) | set(_MORE_VARIANTS)) & set(_VARIANTS["test"])
    assert not set(_FLITE["train"]) & set(_FLITE["test"])
    for language in LANGUAGES:
        assert not set(words(language, "train")) & set(words(language, "test"))
        assert len(words(language, "test")) >= 12


def test_sentences_come_from_the_seed() -> None:
    first, second = (sentence(np.random.default_rng(5), "fr", "test") for _ in range(2))
    assert first == second
    assert 3 <= len(first) <= 9


def test_join_and_cut_keep_the_script() -> None:
    beep = Speech(np.ones(1600, dtype=np.float32), (Phoneme("a", 0.0, 0.1),))
    both = cut(join([silence(0.2), beep, silence(0.5)]), 0.25)
    assert both.duration_s == pytest.approx(0.25)
    assert [p.symbol for p in both.phonemes] == ["", "a"]
    assert both.phonemes[-1].end_s == pytest.approx(0.25)


def test_stretch_keeps_the_pitch() -> None:
    tone = np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000).astype(np.float32)
    slow = stretch(tone, [0.0, 16_000.0], [0.0, 40_000.0])
    assert len(slow) == 40_000
    assert np.abs(np.fft.rfft(slow)).argmax() * 16_000 / 40_000 == pytest.approx(200, abs=4)


def test_every_sound_has_a_mouth() -> None:
    assert set(ARPABET.values()) <= {symbol for symbol in ARPABET.values() if visemes_of(symbol) != ("silence",)}
    assert visemes_of("") == visemes_of(" ") == ("silence",)
    assert visemes_of("aɪ") == ("aa", "ee")
    assert visemes_of("tʃ") == ("t", "sh")
    assert all(visemes_of(symbol)[0] in VISEMES for symbol in PHONEME_IDS)
    assert phoneme_id("") == 0
    assert phoneme_id("ɑː") == PHONEME_IDS["ɑ"] > 0


def test_crossed_words_are_new_in_half_of_the_places() -> None:
    rng = np.random.default_rng(0)
    known = set(words("en", "train"))
    chosen = [str(word) for word in rng.choice(sorted(known), 200)]
    mixed = crossed(rng, chosen)
    assert 0.3 < np.mean([word not in known for word in mixed]) < 0.6
    assert crossed(np.random.default_rng(1), chosen) == crossed(np.random.default_rng(1), chosen)


@needs_voice
def test_varied_speech_is_another_recording_of_the_same_length() -> None:
    plain, varied = sample_speech(0, 3.0), sample_speech(0, 3.0, varied=True)
    assert len(varied.waveform) == len(plain.waveform)
    assert not np.array_equal(varied.waveform, plain.waveform)
