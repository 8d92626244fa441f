"""The page of `emo-rt evaluate` in a real browser: everything is drawn, videos play, a click goes to its moment.

`make browser` runs this in an environment of its own, with Playwright and the system's Chromium.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make browser")

from emo_rt.evaluate import Against, Footage, evaluate, of_frames  # noqa: E402
from emo_rt.evaluate.page import regression_page, report_page  # noqa: E402
from emo_rt.evaluate.regression import compare  # noqa: E402

PORTRAIT = Path(__file__).resolve().parents[2] / "emo_rt" / "assets" / "portrait.png"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
SECONDS, FPS = 2, 25
NAME = 'a <b>name</b> & "more".mp4'
"""A name that would break a page that takes names for markup."""


def shaking(name: str, by: int) -> Footage:
    """The demo's portrait, moved by some pixels; one frame in the middle jumps."""
    from PIL import Image

    picture = np.asarray(Image.open(PORTRAIT).convert("RGB").resize((192, 192)))
    shifts = [round(by * np.sin(index / 3)) + 12 * (index == 30) for index in range(SECONDS * FPS)]
    sound = np.sin(np.arange(SECONDS * 16_000) / 20) * (np.arange(SECONDS * 16_000) % 8000 < 5000)
    return of_frames(name, np.stack([np.roll(picture, s, axis=1) for s in shifts]), FPS, sound.astype(np.float32))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both kinds of page, as files."""
    folder = tmp_path_factory.mktemp("pages")
    first, second, against = shaking(NAME, 2), shaking("other", 3), Against(portrait=PORTRAIT, clip_frames=12)
    texts = {
        "report": report_page(evaluate([first, second], against), PORTRAIT),
        "regression": regression_page(compare(first, second, against=against), PORTRAIT),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@pytest.fixture
def shown(browser: Any, pages: dict[str, Path], request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page of the test's parameter; no error in its console, and nothing asked of the network."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page, problems, asked = context.new_page(), [], []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("request", lambda sent: asked.append(sent.url) if not sent.url.startswith(("file:", "data:")) else None)
    page.goto(pages[getattr(request, "param", "report")].as_uri())
    page.wait_for_selector("body[data-ready=yes]")
    yield page
    assert problems == []
    assert asked == []
    context.close()


def ready(page: Any) -> None:
    """Both videos have told their length."""
    page.wait_for_function("[...document.querySelectorAll('video')].every((video) => video.dataset.seconds)")


@pytest.mark.parametrize("shown", ["report", "regression"], indirect=True)
def test_everything_is_drawn(shown: Any) -> None:
    assert shown.inner_text("h2").startswith("Side by side")
    assert len(shown.query_selector_all("video")) == 2
    assert len(shown.query_selector_all("svg.plot")) >= 6
    assert all(len(path.get_attribute("d")) > 50 for path in shown.query_selector_all("svg.plot path"))
    assert NAME in shown.inner_text("main")
    assert shown.query_selector("main b b") is None
    assert shown.query_selector_all("tbody tr:not(.group)")
    width = shown.evaluate("document.documentElement.scrollWidth")
    assert width <= 1280, "the page must not scroll sideways"


def test_videos_play_together(shown: Any) -> None:
    ready(shown)
    lengths = shown.evaluate("[...document.querySelectorAll('video')].map((video) => video.duration)")
    assert lengths == pytest.approx([SECONDS, SECONDS], abs=0.1)
    shown.evaluate("document.querySelectorAll('video').forEach((video) => { video.muted = true; })")
    shown.click("text=Play all together")
    shown.wait_for_function("[...document.querySelectorAll('video')].every((video) => video.currentTime > 0.2)")


def test_a_click_on_a_moment_shows_it(shown: Any) -> None:
    ready(shown)
    moment = shown.query_selector(".moment")
    minutes, seconds = re.match(r"(\d+):([\d.]+)", moment.query_selector("b").inner_text()).groups()  # type: ignore[union-attr]
    moment.click()
    wanted = 60 * int(minutes) + float(seconds)
    shown.wait_for_function(f"Math.abs(document.querySelector('video').currentTime - {wanted}) < 0.05")


def test_a_click_on_a_curve_goes_there(shown: Any) -> None:
    ready(shown)
    plot = shown.query_selector("svg.plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    shown.mouse.click(box["x"] + (44 + (1150 - 52) / 2) / 1150 * box["width"], box["y"] + 20)
    shown.wait_for_function(f"Math.abs(document.querySelector('video').currentTime - {SECONDS / 2}) < 0.05")


@pytest.mark.parametrize("width", [390, 800])
def test_narrow_windows_keep_everything_in_sight(shown: Any, width: int) -> None:
    shown.set_viewport_size({"width": width, "height": 900})
    assert shown.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("shown", ["regression"], indirect=True)
def test_the_verdict_comes_first(shown: Any) -> None:
    assert shown.inner_text(".verdict").startswith("FAIL: other against a <b>name</b>")
    assert "Mouths of A and B" in shown.inner_text("main")
