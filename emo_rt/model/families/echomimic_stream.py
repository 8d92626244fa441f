"""EchoMimic clip after clip: what the published scheme, which makes a whole video at once, becomes in a stream.

The published windows average their predictions over the whole video, and tie its end to its beginning. A stream can
wait for neither, so that its frames are others:

- one window for each clip: ``back`` finished frames, the clip's own, and ``ahead`` frames that are computed so that the
  clip knows where it goes, and made again with the next clip;
- finished frames are frozen. In front of each step they are brought to that step's noise level, by the noise that they
  were made of. In front of the first clip there are none: those frames are made freely, and left out;
- sound is heard up to the end of a window. Pieces of 30 s begin where they do in a file, and end there. The floor of
  the log-mel spectrogram lies below the loudest moment so far, not of the whole sound.

``python -m emo_rt.benchmarks.window_streaming`` measures how far that is from the published scheme.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from emo_rt.checks import check
from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.media.kept_samples import KeptSamples
from emo_rt.media.log_mel import HOP, WINDOW, column_count, floored, log_columns
from emo_rt.model.config import ModelConfig, WhisperConfig
from emo_rt.model.contract import Array
from emo_rt.model.families.base import Call, ClipState, Ear, HearingWindows, Plan
from emo_rt.model.families.echomimic import ROWS_BEHIND, ROWS_PER_SECOND, EchoMimic, attended_rows
from emo_rt.model.families.echomimic_windows import STREAM, StreamConfig


class EchoMimicStream(EchoMimic):
    """EchoMimic v1, clip after clip."""

    name = STREAM

    def __init__(self, config: ModelConfig) -> None:
        check(isinstance(config, StreamConfig), "family", config.family, "echomimic: the other is the runtime's own")
        super().__init__(config)
        assert isinstance(config, StreamConfig)
        self.stream: StreamConfig = config

    @property
    def clip_words(self) -> str:
        stream = self.stream
        return f"{stream.frames} frames, continuing {stream.motion_frames} and looking {stream.ahead} ahead"

    @property
    def is_whole_video(self) -> bool:
        return False

    @property
    def worker(self) -> str:
        return "window"

    @property
    def longest_s(self) -> None:
        return None

    @property
    def hearing(self) -> HearingWindows:
        """About what a clip waits for; see :class:`StreamEar` for what it hears."""
        return HearingWindows(self.stream.motion_frames, self.stream.frames, self.frames_ahead, self.config.fps, False)

    @property
    def frames_ahead(self) -> int:
        """Frames of sound behind a clip's own that it waits for."""
        rows_s = (ROWS_BEHIND + 1) / ROWS_PER_SECOND + (WINDOW // 2 - HOP) / AUDIO_SAMPLE_RATE
        return self.stream.ahead - 1 + math.ceil(rows_s * self.config.fps)

    def ear(self) -> Ear:
        return StreamEar(self)

    def heard(self, waveform: Array) -> Iterator[tuple[Array, int]]:
        """Takes what :meth:`StreamEar.sound` gives: mel columns from the begin of a piece on."""
        return self.pieces(waveform)

    def plan(self, state: ClipState) -> Plan:
        """One window; the finished frames in front of it, but for the first clip."""
        everything = range(self.stream.window)
        step = (Call("step", everything), Call("update", everything))
        return Plan(
            "carried" if state.index else "none", (), step, around=(self.stream.motion_frames, self.stream.ahead)
        )


class StreamEar:
    """Log-mel columns of a sound that is still coming, clip by clip. Keeps what later clips hear, 30 s at most.

    What a clip hears depends on the sound and the clip's number alone: columns are computed up to the end of each
    clip's window, however the sound was cut. Clips are taken in order.
    """

    def __init__(self, family: EchoMimicStream) -> None:
        encoder = family.config.audio.encoder
        assert isinstance(encoder, WhisperConfig)
        self._family, self._bands, self._piece = family, encoder.mel_bins, 2 * encoder.positions
        self._samples = KeptSamples()
        self._total: int | None = None
        self._logs, self._first = np.zeros((self._bands, 0), np.float32), 0
        """Columns without a floor, and the number of the first of them, where a piece begins."""
        self._loudest = np.float32(-np.inf)

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return self._samples.nbytes + self._logs.nbytes

    def push(self, block: NDArray[np.float32]) -> None:
        """Take (n,) more samples at 16 kHz."""
        self._samples.push(block)

    def end(self) -> None:
        """No more will come. A sound shorter than two columns' windows is filled up with silence."""
        self.push(np.zeros(max(2 * WINDOW - self._samples.received, 0), np.float32))
        self._total = self._samples.received

    def is_certain(self, index: int) -> bool:
        """Whether all that a clip hears is there."""
        return self._total is not None or self._samples.received >= _samples_of(self._columns(index))

    def sound(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(bands, columns) from the begin of a piece on, and (F, 10): the encoder's rows that each frame of the clip's
        window attends to. Must be certain."""
        rows = self._rows(index)
        columns = self._columns(index)
        if self._total is not None:
            columns = min(columns, column_count(self._total))
            rows = rows.clip(0, self._family.row_count(self._total) - 1)
        self._compute(columns)
        first = int(rows.min()) * 2 // self._piece * self._piece
        self._forget(first)
        return floored(self._logs, self._loudest), rows - first // 2

    def _rows(self, index: int) -> NDArray[np.int64]:
        stream = self._family.stream
        first = index * stream.frames - stream.motion_frames
        frames = np.arange(first, first + stream.window)
        return attended_rows(frames, self._family.config.fps).clip(0)

    def _columns(self, index: int) -> int:
        """Columns up to the end of the last row that a clip hears."""
        return 2 * (int(self._rows(index)[-1, -1]) + 1)

    def _compute(self, columns: int) -> None:
        known = self._first + self._logs.shape[1]
        if columns <= known:
            return
        start, stop = known * HOP - WINDOW // 2, _samples_of(columns)
        part = self._samples.between(max(start, 0), stop)
        ends = max(-start, 0), max(stop - self._samples.received, 0)
        new = log_columns(np.pad(part, ends, mode="reflect") if any(ends) else part, self._bands)
        self._logs = np.concatenate([self._logs, new], axis=1)
        self._loudest = max(self._loudest, new.max())

    def _forget(self, first: int) -> None:
        """Columns before ``first``, and the samples of all that are known."""
        self._logs, self._first = self._logs[:, first - self._first :].copy(), first
        self._samples.forget(max((self._first + self._logs.shape[1]) * HOP - WINDOW // 2, 0))


def _samples_of(columns: int) -> int:
    """Samples up to the end of the last column's window."""
    return (columns - 1) * HOP + WINDOW // 2
