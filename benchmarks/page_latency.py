"""How long after it was said is a sound seen on the page?

Question
    A visitor speaks into the microphone of the page that ``emo-rt serve`` has. When does the browser show the frame
    that belongs to a sound, counted from the moment in which the page sent that sound? And how long does a fresh server
    take to answer with the page?

Method
    A real server with one change: each frame of a live session gets a number drawn into its corner, that of the spoken
    frame which it is (0 = nobody speaks). A real headless Chromium opens the page, with its fake microphone. A script
    in the page notes when how much sound was sent, and reads the number from the pixels whenever the browser presents a
    frame. Both times are of one clock. What is counted: the server's hearing, model, watermark and encoder, the socket,
    MediaSource's buffer, decoding. What is not: the sound device and the screen. The first session warms everything and
    is not counted. Needs Playwright and Chromium: ``make browser`` makes the environment.

Expected output
    One line for each quantity, then one line of JSON. ``first_s`` = of an utterance's first frame, the median of the
    sessions; ``p50_s``, ``p90_s`` = of all spoken frames that were seen. Where the server left sound out
    because the machine is too slow (``health`` says so), only ``first_s`` means something: later frames are counted too
    early, so their delay looks longer than it is.

Command
    build/browser/bin/python -m emo_rt.benchmarks.page_latency [--bundle FOLDER] [--sessions 3] [--seconds 12]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emo_rt import LivePair, LiveSession
from emo_rt.benchmarks.harness import environment
from emo_rt.cli import terminal

COLUMNS, ROWS = 4, 4
"""Of the number's cells, one bit each."""
SHARE = 8
"""A cell is so small a part of the picture's shorter side."""
PATIENCE_S = 180.0
SCRIPT = """
const COLUMNS = 4, ROWS = 4, SHARE = 8, sent = [], seen = [];
let rate = 0, samples = 0;
const send = WebSocket.prototype.send;
WebSocket.prototype.send = function (data) {
  if (typeof data === "string") {
    const message = JSON.parse(data);
    if (message.type === "session.start") rate = message.sample_rate;
  } else {
    samples += data.byteLength / 2;
    sent.push([performance.now() / 1000, samples / rate]);
  }
  return send.call(this, data);
};
function read(video, context) {
  const cell = Math.floor(Math.min(video.videoWidth, video.videoHeight) / SHARE);
  const across = COLUMNS * cell, down = ROWS * cell;
  context.drawImage(video, 0, 0, across, down, 0, 0, COLUMNS * 3, ROWS * 3); // the middle one of 3 by 3 has no edge
  const { data } = context.getImageData(0, 0, COLUMNS * 3, ROWS * 3);
  let number = 0;
  for (let bit = 0; bit < COLUMNS * ROWS; bit++) {
    const x = (bit % COLUMNS) * 3 + 1, y = Math.floor(bit / COLUMNS) * 3 + 1;
    if (data[4 * (y * COLUMNS * 3 + x) + 1] > 127) number += 2 ** bit;
  }
  return number;
}
addEventListener("DOMContentLoaded", () => {
  const video = document.querySelector("#video");
  const context = new OffscreenCanvas(COLUMNS * 3, ROWS * 3).getContext("2d", { willReadFrequently: true });
  const watch = () => video.requestVideoFrameCallback((now) => {
    seen.push([now / 1000, read(video, context)]);
    watch();
  });
  watch();
});
window.takeTimes = () => {
  const taken = { sent: [...sent], seen: [...seen] };
  sent.length = seen.length = samples = 0;
  return taken;
};
"""
FLAGS = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)


def draw(frame: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 → a copy with a number in its corner."""
    drawn = frame.copy()
    cell = min(frame.shape[:2]) // SHARE
    for bit in range(COLUMNS * ROWS):
        top, left = bit // COLUMNS * cell, bit % COLUMNS * cell
        drawn[top : top + cell, left : left + cell] = 255 * (number >> bit & 1)
    return drawn


def number_frames() -> None:
    """From now on every live session of this process draws the number of its spoken frame."""
    plain = LiveSession.__next__

    def numbered(session: LiveSession) -> LivePair:
        pair = plain(session)
        spoken = getattr(session, "spoken_frames", 0) + pair.speaking
        session.spoken_frames = spoken
        return dataclasses.replace(pair, frame=draw(pair.frame, spoken if pair.speaking else 0))

    LiveSession.__next__ = numbered


@contextmanager
def running(bundle: str, folder: Path) -> Iterator[tuple[str, float]]:
    """A server, with its address and the seconds until it gave the page."""
    log = folder / "log"
    code = "import sys; from emo_rt.benchmarks.page_latency import number_frames; number_frames(); "
    code += "from emo_rt.cli import main; sys.exit(main(sys.argv[1:]))"
    start = time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        command = [sys.executable, "-c", code, "serve", bundle, "--port", "0", "--data", str(folder / "data")]
        process = subprocess.Popen(command, stderr=file)
    try:
        url = _said(log, "listening", process)["url"]
        with urllib.request.urlopen(url) as answer:
            answer.read()
        answered = time.perf_counter() - start
        _said(log, "ready", process)
        yield url, answered
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)


def _said(log: Path, event: str, process: subprocess.Popen[bytes]) -> dict[str, Any]:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                found: dict[str, Any] = json.loads(line)
                if found.get("event") == event:
                    return found
        time.sleep(0.01)
    raise SystemExit(f"the server did not say {event}:\n{log.read_text(encoding='utf-8')}")


def latencies(taken: Talk, fps: int) -> list[float]:
    """Of each spoken frame that was seen, in order: from the push of the sound at its beginning."""
    found: dict[int, float] = {}
    for at, number in taken.seen:
        if number:
            found.setdefault(number, at)
    times = []
    for number, at in sorted(found.items()):
        begins = (number - 1) / fps
        pushed = next((when for when, until in taken.sent if until > begins), None)
        if pushed is not None:
            times.append(at - pushed)
    return times


@dataclasses.dataclass(frozen=True)
class Talk:
    """One session with the microphone. Times are in seconds of the page's clock."""

    sent: Sequence[tuple[float, float]]
    """Each push of sound: when, and how many seconds of sound were sent with it."""
    seen: Sequence[tuple[float, int]]
    """Each frame: when, and its number; 0 = nobody speaks."""
    shown: str
    """What the page says of its latency."""
    health: str
    """What it says of the server's."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What was measured. ``None`` = nothing that was said was seen."""

    page_after_s: float
    """Seconds until a fresh server answers with the page."""
    first_s: float | None
    """From sound to frame: of an utterance's first frame, the median."""
    p50_s: float | None
    """The same of all spoken frames, as :attr:`p90_s`."""
    p90_s: float | None
    frames: int
    """Spoken frames that were seen."""
    shown_by_the_page: Sequence[str]
    """One a session, as :attr:`health`."""
    health: Sequence[str]


def talk(page: Any, seconds: float) -> Talk:
    """One session with the microphone."""
    page.click("#tab-talk")
    page.click("#watch")
    page.wait_for_selector("#badge", state="visible", timeout=1000 * PATIENCE_S)
    page.wait_for_timeout(1000 * seconds)
    shown, health = page.inner_text("#latency"), page.inner_text("#health")
    page.click("#stop")
    page.wait_for_selector("#watch", state="visible", timeout=1000 * PATIENCE_S)
    return Talk(**page.evaluate("takeTimes()"), shown=shown, health=health)


def measure(url: str, sessions: int, seconds: float, page_after_s: float) -> Result:
    """In a browser of its own."""
    from playwright.sync_api import sync_playwright

    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        fps = json.load(answer)["data"][0]["fps"]
    program = shutil.which("chromium") or shutil.which("google-chrome")
    root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*FLAGS, *root])
        context = browser.new_context(permissions=["microphone"])
        context.add_init_script(SCRIPT)
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("body[data-ready=yes]", timeout=1000 * PATIENCE_S)
        talks = [talk(page, seconds) for _ in range(sessions + 1)][1:]
        browser.close()
    times = [found for found in (latencies(one, fps) for one in talks) if found]
    every = sorted(value for one in times for value in one)
    return Result(
        page_after_s=round(page_after_s, 2),
        first_s=round(statistics.median(one[0] for one in times), 3) if times else None,
        p50_s=round(every[len(every) // 2], 3) if every else None,
        p90_s=round(every[len(every) * 9 // 10], 3) if every else None,
        frames=len(every),
        shown_by_the_page=[one.shown for one in talks],
        health=[one.health for one in talks],
    )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running(args.bundle, Path(folder)) as (url, answered):
        result = measure(url, args.sessions, args.seconds, answered)
    for name, value in vars(result).items():
        terminal.say(f"{name}: {value}")
    terminal.say(json.dumps({"benchmark": "page_latency", "bundle": args.bundle, **vars(result), **environment(None)}))


if __name__ == "__main__":
    main()
