"""The page, as tests use it."""

from __future__ import annotations

import io
import time
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np

import emo_rt

PATIENCE_S = 120
"""Seconds after which a test gives up: the machine may be busy."""
PORTRAIT = Path(emo_rt.__file__).parent / "assets" / "portrait.png"
PIXELS = """video => {
    const canvas = new OffscreenCanvas(32, 32), context = canvas.getContext("2d");
    context.drawImage(video, 0, 0, 32, 32);
    return [...context.getImageData(0, 0, 32, 32).data];
}"""
"""What the browser has decoded, small."""


class Studio:
    """One open page."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.problems: list[str] = []
        """Errors of the page's own script, and what the browser refuses to do for it."""
        self.foreign: list[str] = []
        """Requests to elsewhere."""
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._said)
        page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.problems.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "blob:", "data:")):
            self.foreign.append(request.url)

    def open(self, *, is_ready: bool = True) -> None:
        """Also: open again."""
        self.page.goto(self.url)
        if is_ready:
            self.page.wait_for_selector("body[data-ready=yes]")

    def wait(self, expression: str, argument: Any = None) -> None:
        """Until it is true. Playwright's own waiting evaluates texts in the page, which its security policy forbids."""
        end = time.monotonic() + PATIENCE_S
        while not self.page.evaluate(expression, argument):
            assert time.monotonic() < end, f"never true: {expression} (error: {self.page.inner_text('#error-text')})"
            self.page.wait_for_timeout(100)

    # What a visitor does

    def choose(self, picture: Any = None, sound: Any = None) -> None:
        """Upload both. Pictures and sounds: a file, or name and bytes."""
        if picture is not None:
            self.page.set_input_files("#picture-file", picture)
        if sound is not None:
            self.page.set_input_files("#sound-file", sound)

    def watch(self) -> None:
        """Start the live session, and wait until it plays."""
        self.page.click("#watch")
        self.wait("document.querySelector('#video').currentTime > 0.3")

    # What a visitor sees

    @property
    def error(self) -> str:
        """Waits for it."""
        self.page.wait_for_selector("#error", state="visible")
        return str(self.page.inner_text("#error-text"))

    def video(self, what: str) -> Any:
        """A property of the video."""
        return self.page.evaluate(f"document.querySelector('#video').{what}")

    def pixels(self) -> Any:
        """(n,) uint8: what is seen in the video now."""
        return np.array(self.page.eval_on_selector("#video", PIXELS), np.uint8)

    def wait_for_end(self) -> None:
        """Until the session is over."""
        self.page.wait_for_selector("#watch", state="visible")

    def job(self, status: str) -> Any:
        """The newest video, as soon as it has this status."""
        self.wait(f"document.querySelector('.job:first-child')?.dataset.status === '{status}'")
        return self.page.query_selector(".job")


def upload(name: str, kind: str, data: bytes) -> dict[str, Any]:
    """A file that is not on the disk."""
    return {"name": name, "mimeType": kind, "buffer": data}


def voice(seconds: float) -> dict[str, Any]:
    """A WAV file with syllables."""
    at = np.arange(round(16_000 * seconds)) / 16_000
    sound = 9000 * np.sin(2 * np.pi * 180 * at) * (np.sin(2 * np.pi * 3 * at) > -0.3)
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(sound.astype("<i2").tobytes())
    return upload("voice.wav", "audio/wav", target.getvalue())


def contents(path: Path) -> dict[str, Any]:
    """What is in a downloaded video."""
    with av.open(str(path)) as container:
        frames = sum(1 for _ in container.decode(video=0))
        tags = dict(container.metadata)
    with av.open(str(path)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
        rate = container.streams.audio[0].rate
    return {"frames": frames, "seconds": samples / rate, "tags": tags}
