"""A voice that is still coming, in the caller's thread or in an event loop: sound in, chunks out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Generator, Iterable

import numpy as np

from emo_rt.errors import AudioError
from emo_rt.model.contract import Array
from emo_rt.runtime.session import Session
from emo_rt.runtime.stages import Chunk

Sound = Iterable[Array] | AsyncIterable[Array]


class ChunkStream(Generator[Chunk, None, None]):
    """Finished clips of a voice, for ``for`` and for ``async for``; use one of the two, once. Close it, or drop it.

    With ``async for`` the sound may come from an asynchronous iterator, and waiting for a clip blocks no event loop.
    """

    def __init__(self, start: Callable[[], Session], sound: Sound) -> None:
        """Made by :meth:`emo_rt.Animator.stream`."""
        self._start, self._sound = start, sound
        self._inner = _streamed(start, sound)

    def send(self, value: None) -> Chunk:
        """The next chunk."""
        return self._inner.send(value)

    def throw(self, kind, exc=None, trace=None):  # type: ignore[no-untyped-def]
        """Raise an error where the stream waits."""
        return self._inner.throw(kind if exc is None else exc)

    def close(self) -> None:
        """Stop. Safe twice."""
        self._inner.close()

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return _streamed_async(self._start, self._sound)


def spoken(session: Session, blocks: Iterable[Array]) -> Generator[Chunk]:
    """Push ``blocks`` of sound as they are needed, and give the chunks that are finished in between, then the rest."""
    for block in blocks:
        while not session.has_room:
            yield next(session)
        session.push(block)
        yield from session.finished()
    session.end()
    yield from session


def _streamed(start: Callable[[], Session], sound: Sound) -> Generator[Chunk]:
    _require_blocks(sound)
    if not isinstance(sound, Iterable):
        raise AudioError("an asynchronous iterator of sound needs 'async for'")
    with start() as session:
        yield from spoken(session, _some(sound))


def _some(blocks: Iterable[Array]) -> Generator[Array]:
    """The same. Raises :class:`AudioError` at the end if there was no sample."""
    received = 0
    for block in blocks:
        samples = np.asarray(block)
        yield samples
        received += samples.size
    _require_sound(received)


async def _streamed_async(start: Callable[[], Session], sound: Sound) -> AsyncGenerator[Chunk, None]:
    _require_blocks(sound)
    received = 0
    with await asyncio.to_thread(start) as session:
        async for block in _asynchronous(sound):
            while not session.has_room:
                yield await anext(session)
            session.push(block)
            received += np.size(block)
            for chunk in session.finished():
                yield chunk
        _require_sound(received)
        session.end()
        async for chunk in session:
            yield chunk


async def _asynchronous(sound: Sound) -> AsyncGenerator[Array, None]:
    if isinstance(sound, AsyncIterable):
        async for block in sound:
            yield block
        return
    for block in sound:
        yield block


def _require_blocks(sound: object) -> None:
    """A path has characters, and a number nothing to go through."""
    if isinstance(sound, str | bytes) or not isinstance(sound, Iterable | AsyncIterable):
        raise AudioError(f"the sound cannot be a {type(sound).__name__}; expected an iterator of arrays")


def _require_sound(samples: int) -> None:
    if samples == 0:
        raise AudioError("the stream ended without a single sample; send at least one")
