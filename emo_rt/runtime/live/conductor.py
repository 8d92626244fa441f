"""What a live session does when: composes the sound of the next clip, shows the next frame, starts anew.

Nothing here waits, and nothing asks what time it is: :meth:`Conductor.advance` is told, and gives the pair that is due
or the time at which to ask again. One clip at a time waits for the device. It is composed as late as it can be without
coming late, so that sound that comes in between is heard; where enough sound is there, it is composed at once.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from emo_rt.media.audio import AUDIO_SAMPLE_RATE
from emo_rt.model.config import ModelConfig
from emo_rt.model.families.registry import family_of
from emo_rt.runtime.live.kept import Latent
from emo_rt.runtime.live.ladder import Ladder
from emo_rt.runtime.live.maker import LiveClip, LiveMaker
from emo_rt.runtime.live.pair import LivePair, SoundFrame
from emo_rt.runtime.live.reel import Reel, ReelFrame
from emo_rt.runtime.live.settings import LiveSettings
from emo_rt.runtime.live.stats import Latencies
from emo_rt.runtime.live.voice import Ready, Voice, border

STALL_S = 1.0
"""Who takes pairs later than this goes on from now, instead of getting them all at once."""
FORGOTTEN_S = 0.25
"""Sound that nothing followed for so long is not held back for more."""


class Conductor:
    """Brings together the queue of sound, the maker of clips and the reel. The owner locks, and wakes the maker."""

    def __init__(self, config: ModelConfig, settings: LiveSettings, maker: LiveMaker, ladder: Ladder) -> None:
        self._settings, self._maker, self._ladder = settings, maker, ladder
        self.fps = config.fps
        """Frames per second."""
        self.frames = config.frames
        """F, frames of a clip."""
        self._ahead = family_of(maker.heard_config).frames_ahead
        loops = settings.idle == "loop"
        self.reel = Reel(config.motion_frames, max(round(settings.loop_s * config.fps), 2) if loops else 0)
        self.voice = Voice(settings.sample_rate, config.fps)
        self.latencies = Latencies()
        self._track: deque[SoundFrame] = deque()
        """Sound that is composed and whose frames are not made."""
        self._is_fresh = True
        """Whether the next clip hears nothing that was composed before it."""
        self._must_restart = False
        self._started_at: float | None = None
        self._shift_s = 0.0
        self._wake_at = math.inf
        self._speech = 0
        """Samples of the present utterance that were given."""
        self._samples = 0
        self._late_pair = -1
        self.pairs = self.late_frames = self.repeated_frames = self.dropped_frames = 0
        self._has_composed = False

    # Asked by the session

    @property
    def first_silence(self) -> SoundFrame:
        """What makes a first clip certain, as one piece."""
        samples = (self.frames + self._ahead) * AUDIO_SAMPLE_RATE // self.fps
        return SoundFrame(np.zeros(0, np.float32), np.zeros(samples, np.float32))

    def prepare(self, now: float) -> None:
        """Begin the first clip, so that the first pair is there as soon as it is asked for."""
        self._begin(now)

    def take_composed(self) -> bool:
        """Whether a clip was composed since this was asked last: the maker is to be woken then."""
        composed, self._has_composed = self._has_composed, False
        return composed

    def advance(self, now: float) -> LivePair | float:
        """The pair that is due, or when to ask again unless something is told before."""
        self._wake_at = math.inf
        self._keep_time(now)
        if self._must_restart and not self._maker.making:
            self._restart(now)
        self._leave_loop(now)
        self._compose(now)
        found = self._next(now)
        return found if isinstance(found, LivePair) else min(found, self._wake_at)

    def clear(self, now: float) -> float:
        """Forget all sound that was not given; seconds of the interrupted utterance that were."""
        self.voice.clear()
        played, self._speech = self._speech / self._settings.sample_rate, 0
        if not self.reel.has_sound and all(sound.utterance is None for sound in self._track):
            return played
        self.reel.silence()
        self._track = deque(sound.silenced() for sound in self._track)
        if self._settings.pace == "asap":
            self._shift_s -= max(self._due(self.pairs) - now, 0.0)  # the transport forgets what it had in front
        if self._maker.making and self._is_bridged(now):
            self._must_restart = True
        else:
            self._restart(now)
        return played

    def made(self, clip: LiveClip, pixels: NDArray[np.uint8]) -> None:
        """The maker has made pictures of a clip, the last of which are there."""
        assert clip.kept is not None
        pixels.flags.writeable = False
        kept, first = clip.kept, clip.made - len(pixels)
        self.reel.extend(
            ReelFrame(picture, Latent(kept, first + row), self._track.popleft(), clip, clip.made_at)
            for row, picture in enumerate(pixels)
        )
        if clip.is_made:
            self._ladder.note(clip)

    def _is_bridged(self, now: float) -> bool:
        """Whether the first silent clip waits for the one that is under way, because what is in line is too short.

        The mouth closes within one clip then. One step cannot be broken off: where it is the only one, the silent clip
        comes no sooner if it does not wait, and whatever comes until then is shown.
        """
        again = self._ladder.lead
        latest = (self.frames - 1) / self.fps
        if self._ladder.rung.table.steps == 1:
            there = len(self.reel) + self._maker.frames_to_come
            latest = max(latest, self._due(self.pairs + there) - now)
        return len(self.reel) / self.fps < again and self._remaining(now) + again <= latest

    # The time

    def _keep_time(self, now: float) -> None:
        if self._started_at is None:
            self._started_at = now
        late = now - self._due(self.pairs)
        if late > STALL_S:
            self._shift_s += late
            self._leave_out(round(late * self.fps))

    def _due(self, frame: int) -> float:
        return (self._started_at or 0.0) + self._shift_s + frame / self.fps

    def _bridge(self) -> int:
        """Frames that are shown while the next clip is made."""
        return max(math.ceil(self._ladder.lead * self.fps) + 1, self.reel.fewest)

    def _remaining(self, now: float) -> float:
        """Seconds until the clips under way are made."""
        last = list(self._maker.making.values())[-1]
        return max(self._ladder.whole_s - (now - last.composed_at), 0.0)

    # Starting anew

    def _restart(self, now: float) -> None:
        """The next clip comes as soon as it can be made, and hears only what is composed from now on."""
        self._must_restart = False
        self.reel.cut(self._bridge())
        self.voice.restart()
        self._track.clear()
        self._maker.restart(self.reel.latents())
        self._is_fresh = True
        self._begin(now)

    def _leave_loop(self, now: float) -> None:
        """As soon as there is sound for a clip, or what there is will not grow."""
        if not self.reel.is_looping:
            return
        ready, oldest = self._ready(), self.voice.oldest
        if oldest is None or ready.ended + ready.open == 0:
            return
        wanted = self.frames + self._ahead
        patient_until = oldest + wanted / self.fps + self._settings.jitter_s
        if not ready.ended and self._coming(ready, wanted, now) < wanted and now < patient_until:
            self._wake_at = min(self._wake_at, patient_until)
            return
        while len(self.reel) < self._bridge():
            self.reel.turn_loop(self._silence())
        self.reel.stop_loop()
        self._restart(now)

    # Composing

    def _ready(self) -> Ready:
        """Frames of sound that can be taken, behind all that is in line."""
        in_line = [*(frame.sound for frame in self.reel.waiting), *self._track]
        samples = self._samples + sum(len(sound.audio) for sound in in_line)
        self.voice.align(self.pairs + len(in_line), samples)
        return self.voice.ready()

    def _wanted(self) -> int:
        """Frames of sound that make the next clip certain."""
        return self.frames + (self._ahead if self._is_fresh else 0)

    def _coming(self, ready: Ready, wanted: int, now: float) -> int:
        """Frames to take of the utterance that still comes. Where it begins, or begins again, some are held back."""
        last = self.voice.last_push
        if (ready.open >= wanted and self.voice.is_speaking) or last is None or now - last >= FORGOTTEN_S:
            return min(ready.open, wanted)
        held = max(math.ceil((self._settings.jitter_s - self.voice.spare_s) * self.fps), 0)
        return max(min(ready.open - held, wanted), 0)

    def _compose(self, now: float) -> None:
        """Begin the next clip if it is time, or if all that it hears is there."""
        if self._maker.is_denoising or self.reel.is_looping or self._must_restart:
            return
        ready, wanted = self._ready(), self._wanted()
        there = len(self.reel) + self._maker.frames_to_come
        if ready.ended + self._coming(ready, wanted - ready.ended, now) < wanted or there > self.frames:
            if self._is_idle_enough(there) and not ready.ended + ready.open:
                return
            begin = self._due(self.pairs + there) - self._ladder.lead
            if self._is_ending(ready, there):
                begin = now
            if now < begin:
                self._wake_at = min(self._wake_at, begin)
                return
        self._begin(now)

    def _is_ending(self, ready: Ready, there: int) -> bool:
        """Whether the rest of what is said is to come as soon as it is made."""
        if self._settings.pace == "clock" or there > self.frames or self.voice.is_speaking:
            return False
        return ready.ended > 0 or any(sound.utterance is not None for sound in self._track)

    def _is_idle_enough(self, there: int) -> bool:
        """Whether the idle loop can take over when what is there was shown."""
        length = self.reel.loop_frames
        if not length or self.reel.has_sound or any(sound.utterance is not None for sound in self._track):
            return False
        return self.reel.idle + there >= length

    def _begin(self, now: float) -> None:
        """Compose the sound of the next clip. What is missing is silence, in front of an utterance that still comes."""
        wanted, ready = self._wanted(), self._ready()
        ended = min(ready.ended, wanted)
        coming = self._coming(ready, wanted - ended, now)
        due = self._due(self.pairs + len(self.reel) + self._maker.frames_to_come)
        sounds = [self.voice.take() for _ in range(ended)]
        sounds += [self.voice.silence() for _ in range(wanted - ended - coming)]
        sounds += [self.voice.take() for _ in range(coming)]
        self._track.extend(sounds)
        self._is_fresh = False
        self._maker.begin(sounds, self._ladder.rung, now, due)
        self._has_composed = True

    # Showing

    def _next(self, now: float) -> LivePair | float:
        due = self._due(self.pairs)
        frame = self._peek(due, now)
        if frame is None:
            if now < due + 1 / self.fps:
                return due + 1 / self.fps if now >= due else due
            return self._lag(now)
        at_once = self._settings.pace == "asap" and frame.sound.utterance is not None
        if now < due and not at_once:
            return due
        self.late_frames += frame.made_at > due
        return self._give(self.reel.take(), now)

    def _peek(self, due: float, now: float) -> ReelFrame | None:
        """The next frame; an idle loop turns for it."""
        if self.reel.peek() is None and now >= due:
            if not self.reel.is_looping and not self._maker.making and self._is_idle_enough(0):
                self.reel.start_loop()
            if self.reel.is_looping:
                self.reel.turn_loop(self._silence())
        return self.reel.peek()

    def _lag(self, now: float) -> LivePair | float:
        """The next frame is late by more than a frame."""
        self.late_frames += self._late_pair != self.pairs
        self._late_pair = self.pairs
        self._leave_out(1)
        last = self.reel.last
        if self._settings.pace == "asap" or last is None:
            self._shift_s += 1 / self.fps
            return self._due(self.pairs) + 1 / self.fps
        self.repeated_frames += 1
        return self._pair(last.pixels, self._silence(), is_repeated=True)

    def _leave_out(self, frames: int) -> None:
        """Sound that waits is left out, where that is wanted of a session that is late."""
        if self._settings.lag == "drop":
            self.dropped_frames += sum(self.voice.drop() for _ in range(frames))

    def _give(self, frame: ReelFrame, now: float) -> LivePair:
        sound = frame.sound
        self.latencies.note(frame, now)
        self._speech = 0 if sound.is_last else self._speech + sound.samples
        return self._pair(frame.pixels, sound, is_repeated=False)

    def _pair(self, pixels: NDArray[np.uint8], sound: SoundFrame, *, is_repeated: bool) -> LivePair:
        pair = LivePair(
            frame=pixels,
            audio=sound.audio,
            time_s=self.pairs / self.fps,
            speaking=sound.samples > 0,
            utterance=sound.utterance,
            is_last=sound.is_last,
            is_repeated=is_repeated,
        )
        self.pairs += 1
        self._samples += len(sound.audio)
        return pair

    def _silence(self) -> SoundFrame:
        """Sound of a frame that is not composed: as long as brings the sound back to the frame's border."""
        planned = sum(len(frame.sound.audio) for frame in self.reel.waiting)
        ahead = self.pairs + len(self.reel) + 1
        count = border(ahead, self._settings.sample_rate, self.fps) - self._samples - planned
        return SoundFrame(np.zeros(max(count, 0), np.float32), np.zeros(0, np.float32))
