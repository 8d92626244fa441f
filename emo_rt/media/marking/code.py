"""48 bits in 192 that outlast noise: a tail-biting convolutional code of rate 1/4, decoded by the Viterbi algorithm.

Constraint length 9 and the generators 463, 535, 733, 745 (octal), whose free distance of 24 is the largest there is
(Lin and Costello, "Error Control Coding", table 12.1). Tail-biting: the encoder starts in the state in which it ends,
so no bits are spent on its end. The decoder goes around three times and keeps the middle, where it knows both ends.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

PAYLOAD_BITS = 48
"""Bits of information."""
GENERATORS = (0o463, 0o535, 0o733, 0o745)
"""Taps on the newest bit (highest) and the eight before it."""
CODED_BITS = PAYLOAD_BITS * len(GENERATORS)
"""Bits that are sent."""
MEMORY = 8
"""Bits that the encoder remembers."""
STATES = 1 << MEMORY
AROUND = 3
"""Times that the decoder goes around."""

Signs = NDArray[np.int8]
Soft = NDArray[np.float64]


def encode(payload: int) -> Signs:
    """0 ≤ ``payload`` < 2**48 → (192,) of -1 and 1."""
    bits = [payload >> place & 1 for place in reversed(range(PAYLOAD_BITS))]
    state = sum(bit << (MEMORY - 1 - place) for place, bit in enumerate(reversed(bits[-MEMORY:])))
    signs = _branches()[0]
    sent = []
    for bit in bits:
        sent.append(signs[state, bit])
        state = _next_state(state, bit)
    return np.concatenate(sent)


def decode(soft: Soft) -> int:
    """(192,) values that lean to -1 or 1 → the payload whose code fits them best."""
    signs, before, newest = _branches()
    gains = soft.reshape(PAYLOAD_BITS, len(GENERATORS)) @ signs.reshape(-1, len(GENERATORS)).T  # step, state and bit
    ways = gains[:, before * 2 + newest[:, None]]  # step, state now, which of two before
    scores = np.zeros(STATES)
    chosen = []
    for step in (*range(PAYLOAD_BITS),) * AROUND:
        candidates = scores[before] + ways[step]
        chosen.append(candidates.argmax(axis=1))
        scores = candidates.max(axis=1)
    state, bits = int(scores.argmax()), []
    for choice in reversed(chosen):
        bits.append(int(newest[state]))
        state = int(before[state, choice[state]])
    middle = bits[PAYLOAD_BITS : 2 * PAYLOAD_BITS]  # from the last to the first
    return sum(bit << place for place, bit in enumerate(middle))


@cache
def _branches() -> tuple[Signs, NDArray[np.int64], NDArray[np.int64]]:
    """What is sent by state and bit, (256, 2, 4); the two states before each, (256, 2); the bit that led to it, (256,).

    A state has the newest bit in its highest place.
    """
    signs = np.empty((STATES, 2, len(GENERATORS)), np.int8)
    before = np.empty((STATES, 2), np.int64)
    for state in range(STATES):
        before[state] = [(state << 1) % STATES, (state << 1) % STATES + 1]
        for bit in (0, 1):
            register = bit << MEMORY | state
            signs[state, bit] = [1 - 2 * ((register & taps).bit_count() & 1) for taps in GENERATORS]
    return signs, before, np.arange(STATES) >> (MEMORY - 1)


def _next_state(state: int, bit: int) -> int:
    return (bit << MEMORY | state) >> 1
