"""A server in a process of its own, and a real Chromium that opens its page.

`make browser` runs these tests in an environment of its own, with Playwright and the system's Chromium; nothing of the
other tests' fixtures is loaded.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve.browser.studio import PATIENCE_S, Studio

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--use-fake-device-for-media-stream",  # a microphone that beeps once a second
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
)
OpenPage = Callable[..., Studio]


class Process:
    """`emo-rt serve`, until it is stopped."""

    def __init__(self, bundle: Path, folder: Path, *arguments: str) -> None:
        self.log = folder / "log"
        self.data = folder / "data"
        command = [sys.executable, "-m", "emo_rt.cli", "serve", str(bundle), "--port", "0", "--data", str(self.data)]
        with self.log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen([*command, "--min-free-mb", "0", *arguments], stderr=log)
        self.url = self._wait("listening")["url"]
        self._wait("ready")

    def _wait(self, event: str) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert self._process.poll() is None, self.log.read_text(encoding="utf-8")
            for line in self.log.read_text(encoding="utf-8").splitlines():
                said: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
                if said.get("event") == event:
                    return said
            time.sleep(0.1)
        raise AssertionError(f"no {event}: {self.log.read_text(encoding='utf-8')}")

    def stop(self) -> int:
        """Its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE_S)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, which says of itself that it is for drawings."""
    from tests import small_bundles

    folder = small_bundles.unpack("tiny", tmp_path_factory.mktemp("bundles"))
    copy = tmp_path_factory.mktemp("bundle") / "tiny"
    shutil.copytree(folder, copy)
    manifest = copy / "emo_rt.json"
    written = json.loads(manifest.read_text(encoding="utf-8"))
    written["provenance"]["trained_on"] = "drawings"
    manifest.write_text(json.dumps(written), encoding="utf-8")
    return copy


@pytest.fixture(scope="session")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(bundle, tmp_path_factory.mktemp("server"))
    yield process
    assert process.stop() == 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make browser")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        root = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *root])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any, server: Process) -> Iterator[OpenPage]:
    """``open_page(width=390, dark=True)``: the page, ready. Afterwards: no error in its script, no foreign request."""
    opened: list[Studio] = []

    def make(width: int = 1280, *, dark: bool = False, url: str | None = None, is_ready: bool = True) -> Studio:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            permissions=["microphone"],
        )
        context.set_default_timeout(1000 * PATIENCE_S)
        opened.append(Studio(context.new_page(), url or server.url))
        opened[-1].open(is_ready=is_ready)
        return opened[-1]

    yield make
    for studio in opened:
        studio.page.context.close()
        assert studio.problems == []
        assert studio.foreign == []


@pytest.fixture
def studio(open_page: OpenPage) -> Studio:
    """The page on a desk."""
    return open_page()
