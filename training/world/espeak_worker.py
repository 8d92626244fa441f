"""Speaks one text with libespeak-ng and reports when each phoneme starts. A script of the standard library only.

It is a process of its own because the library keeps state between texts: only a fresh one gives the same samples
every time. Standard input: JSON {text, voice, rate, pitch, range}. Standard output: one line of JSON
{rate, events: [[sample, phoneme], ...]}, then 16-bit mono samples.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import sys
from typing import Any

_SYNCHRONOUS = 2
_PHONEME_EVENTS, _IPA, _DO_NOT_EXIT = 0x0001, 0x0002, 0x8000
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8, _SSML = 1, 0x10
_LIST_END, _PHONEME = 0, 7


class Event(ctypes.Structure):
    """espeak_EVENT of speak_lib.h."""

    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("string", ctypes.c_char * 8),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


def _load() -> ctypes.CDLL:
    name = ctypes.util.find_library("espeak-ng") if sys.platform != "linux" else "libespeak-ng.so.1"
    return ctypes.CDLL(name or "libespeak-ng.so.1")


def speak(order: dict[str, Any]) -> tuple[int, list[tuple[int, str]], bytes]:
    """Sample rate, (start sample, phoneme) pairs, and 16-bit samples."""
    library = _load()
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS | _IPA | _DO_NOT_EXIT)
    if rate <= 0:
        raise OSError("espeak-ng found no voice data; install the package espeak-ng-data")
    ctypes.CDLL(None).srand(1)  # the library seeds its noise from the clock
    pieces: list[bytes] = []
    events: list[tuple[int, str]] = []

    def receive(samples: Any, count: int, found: Any) -> int:
        if count > 0:
            pieces.append(ctypes.string_at(samples, count * 2))
        index = 0
        while found[index].type != _LIST_END:
            if found[index].type == _PHONEME:
                events.append((found[index].sample, found[index].string.decode("utf-8", "ignore")))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(order["voice"].encode()) != 0:
        raise OSError(f"espeak-ng has no voice {order['voice']!r}; `espeak-ng --voices` lists them")
    for parameter, key in ((_RATE, "rate"), (_PITCH, "pitch"), (_RANGE, "range")):
        library.espeak_SetParameter(parameter, int(order[key]), 0)
    text = order["text"].encode()
    library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8 | _SSML, None, None)
    library.espeak_Synchronize()
    return rate, events, b"".join(pieces)


def main() -> int:
    """Read one order, write one answer."""
    try:
        rate, events, samples = speak(json.load(sys.stdin))
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.buffer.write(json.dumps({"rate": rate, "events": events}).encode() + b"\n" + samples)
    return 0


if __name__ == "__main__":
    sys.exit(main())
