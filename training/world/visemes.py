"""From sounds to lips: which mouth each phoneme asks for, and how firmly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Viseme:
    """The mouth a sound asks for; the values are those of `Pose`."""

    opening: float
    width: float
    rounding: float
    press: float = 0.0
    firm_jaw: float = 1.0
    """Weight of the opening against its neighbours'."""
    firm_lips: float = 1.0
    """Weight of width and rounding against the neighbours'."""


VISEMES: dict[str, Viseme] = {
    "silence": Viseme(0.0, 0.5, 0.0, 0.0, 1.0, 0.5),
    "p": Viseme(0.02, 0.48, 0.05, 1.0, 3.0, 0.6),
    "f": Viseme(0.13, 0.56, 0.0, 0.12, 2.0, 1.5),
    "th": Viseme(0.2, 0.54, 0.0, 0.0, 0.9, 0.5),
    "t": Viseme(0.15, 0.55, 0.0, 0.0, 0.7, 0.35),
    "l": Viseme(0.26, 0.54, 0.0, 0.0, 0.6, 0.3),
    "k": Viseme(0.24, 0.5, 0.0, 0.0, 0.4, 0.25),
    "s": Viseme(0.12, 0.68, 0.0, 0.0, 1.4, 0.7),
    "sh": Viseme(0.2, 0.32, 0.62, 0.0, 1.4, 1.8),
    "r": Viseme(0.22, 0.36, 0.45, 0.0, 0.8, 1.2),
    "w": Viseme(0.16, 0.16, 0.95, 0.0, 1.4, 2.4),
    "h": Viseme(0.34, 0.5, 0.0, 0.0, 0.3, 0.2),
    "uu": Viseme(0.24, 0.16, 0.95, 0.0, 1.0, 1.8),
    "oo": Viseme(0.48, 0.22, 0.75, 0.0, 1.0, 1.5),
    "aw": Viseme(0.66, 0.32, 0.5, 0.0, 1.0, 1.3),
    "aa": Viseme(0.92, 0.5, 0.05, 0.0, 1.2, 1.0),
    "uh": Viseme(0.5, 0.5, 0.08, 0.0, 0.8, 0.5),
    "ae": Viseme(0.74, 0.72, 0.0, 0.0, 1.1, 1.0),
    "eh": Viseme(0.5, 0.7, 0.0, 0.0, 1.0, 1.0),
    "ee": Viseme(0.26, 0.92, 0.0, 0.0, 1.0, 1.3),
    "yy": Viseme(0.24, 0.22, 0.85, 0.0, 1.0, 1.6),
    "er": Viseme(0.4, 0.38, 0.4, 0.0, 0.9, 1.0),
}

_SOUNDS: dict[str, str] = {
    "p": "p b m ɓ",
    "f": "f v ɱ ʋ",
    "th": "θ ð",
    "t": "t d n ɾ ʈ ɖ ɳ",
    "l": "l ɫ ʎ ɭ",
    "k": "k g ɡ ŋ x ɣ q χ ʁ c ɟ ɲ ʔ ç ʀ",
    "s": "s z",
    "sh": "ʃ ʒ ɕ ʑ",
    "r": "r ɹ ɻ",
    "w": "w ʍ ɥ β",
    "h": "h ɦ",
    "uu": "u ʊ ɯ ᵿ ʉ",
    "oo": "o ɵ",
    "aw": "ɔ ɒ",
    "aa": "a ɑ",
    "uh": "ə ʌ ɐ ɤ",
    "ae": "æ",
    "eh": "ɛ e",
    "ee": "i ɪ ɨ j ᵻ ʲ",
    "yy": "y ʏ ø œ",
    "er": "ɜ ɚ ɝ",
}
_BY_SYMBOL: dict[str, str] = {symbol: name for name, symbols in _SOUNDS.items() for symbol in symbols.split()}
_VOWELS = frozenset({"uu", "oo", "aw", "aa", "uh", "ae", "eh", "ee", "yy", "er"})

PHONEME_IDS: dict[str, int] = {"": 0, **{symbol: index + 1 for index, symbol in enumerate(_BY_SYMBOL)}}
"""Number of every base symbol; 0 is silence. A phoneme has the number of its first known symbol."""

ARPABET: dict[str, str] = {
    "aa": "ɑ",
    "ae": "æ",
    "ah": "ʌ",
    "ao": "ɔ",
    "aw": "aʊ",
    "ax": "ə",
    "axr": "ɚ",
    "ay": "aɪ",
    "b": "b",
    "ch": "tʃ",
    "d": "d",
    "dh": "ð",
    "dx": "ɾ",
    "eh": "ɛ",
    "el": "əl",
    "em": "əm",
    "en": "ən",
    "er": "ɜ",
    "ey": "eɪ",
    "f": "f",
    "g": "ɡ",
    "hh": "h",
    "hv": "h",
    "ih": "ɪ",
    "iy": "i",
    "jh": "dʒ",
    "k": "k",
    "l": "l",
    "m": "m",
    "n": "n",
    "nx": "n",
    "ng": "ŋ",
    "ow": "oʊ",
    "oy": "ɔɪ",
    "p": "p",
    "r": "ɹ",
    "s": "s",
    "sh": "ʃ",
    "t": "t",
    "th": "θ",
    "uh": "ʊ",
    "uw": "u",
    "v": "v",
    "w": "w",
    "y": "j",
    "z": "z",
    "zh": "ʒ",
}
"""flite's names to IPA; what is not here (pau, ssil, h#) is silence."""


def visemes_of(symbol: str) -> tuple[str, ...]:
    """The mouths of a phoneme in order: two for a diphthong or an affricate, "silence" for silence."""
    names = tuple(_BY_SYMBOL[char] for char in symbol if char in _BY_SYMBOL)
    if names:
        return names
    return ("uh",) if symbol.strip() and any(char.isalpha() for char in symbol) else ("silence",)


def is_vowel(symbol: str) -> bool:
    """Whether the phoneme can be held as a note."""
    names = visemes_of(symbol)
    return names[0] in _VOWELS and not symbol.startswith("j")


def phoneme_id(symbol: str) -> int:
    """The number of a phoneme's first known symbol; 0 for silence."""
    return next((PHONEME_IDS[char] for char in symbol if char in PHONEME_IDS), 0)
