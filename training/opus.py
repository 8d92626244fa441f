"""Speech in few bits: libopus through ctypes, so that a pack of voices needs no more than `libopus.so.0` to be read.

The library is the Debian package libopus0; on a machine without it, a copy of the file in a folder of
``LD_LIBRARY_PATH`` does.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

RATE = 16_000
_FRAME = RATE // 50
_MAX_PACKET = 1500
_VOICE = 2048
_SET_BITRATE, _SET_COMPLEXITY, _GET_LOOKAHEAD = 4002, 4010, 4027


class OpusError(RuntimeError):
    """libopus is missing or refused; the message says what to do."""


def encode(waveform: Floats, bits_per_second: int) -> list[bytes]:
    """Packets of 20 ms, the first ones ahead by what the coder looks ahead: (N,) float32 → about N / 320 packets."""
    library, coder = _opus(), _coder("encoder", _VOICE)
    try:
        _control(coder, _SET_BITRATE, ctypes.c_int(bits_per_second))
        _control(coder, _SET_COMPLEXITY, ctypes.c_int(10))
        count = -(-(len(waveform) + lookahead()) // _FRAME)
        padded = np.zeros(count * _FRAME, np.float32)
        padded[: len(waveform)] = waveform
        buffer = ctypes.create_string_buffer(_MAX_PACKET)
        packets = []
        for start in range(0, len(padded), _FRAME):
            frame = padded[start : start + _FRAME].ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            size = _checked(library.opus_encode_float(coder, frame, _FRAME, buffer, _MAX_PACKET))
            packets.append(buffer.raw[:size])
        return packets
    finally:
        library.opus_encoder_destroy(coder)


def decode(packets: Sequence[bytes], samples: int) -> Floats:
    """The sound that was encoded, in its place: (samples,) float32 within -1 to 1."""
    library, coder = _opus(), _coder("decoder")
    try:
        sound = np.zeros((len(packets), _FRAME), np.float32)
        for packet, frame in zip(packets, sound, strict=True):
            target = frame.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            _checked(library.opus_decode_float(coder, packet, len(packet), target, _FRAME, 0))
    finally:
        library.opus_decoder_destroy(coder)
    first = lookahead()
    return np.clip(sound.ravel()[first : first + samples], -1, 1)


@lru_cache(maxsize=1)
def lookahead() -> int:
    """By how many samples the decoded sound is late."""
    coder, found = _coder("encoder", _VOICE), ctypes.c_int()
    _control(coder, _GET_LOOKAHEAD, ctypes.byref(found))
    _opus().opus_encoder_destroy(coder)
    return found.value


@lru_cache(maxsize=1)
def _opus() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libopus.so.0")
    except OSError as error:
        raise OpusError(
            "libopus.so.0 not found: apt-get install libopus0, or name its folder in LD_LIBRARY_PATH"
        ) from error
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    floats = ctypes.POINTER(ctypes.c_float)
    for kind in ("encoder", "decoder"):
        getattr(library, f"opus_{kind}_create").restype = pointer
        getattr(library, f"opus_{kind}_destroy").argtypes = [pointer]
    library.opus_encode_float.argtypes = [pointer, floats, number, text, number]
    library.opus_decode_float.argtypes = [pointer, text, number, floats, number, number]
    return library


def _coder(kind: str, *options: int) -> ctypes.c_void_p:
    error = ctypes.c_int()
    coder = getattr(_opus(), f"opus_{kind}_create")(RATE, 1, *options, ctypes.byref(error))
    _checked(error.value)
    return ctypes.c_void_p(coder)


def _control(coder: ctypes.c_void_p, request: int, argument: object) -> None:
    _checked(_opus().opus_encoder_ctl(coder, request, argument))


def _checked(answer: int) -> int:
    if answer < 0:
        raise OpusError(f"libopus refused with error {answer}")
    return answer
