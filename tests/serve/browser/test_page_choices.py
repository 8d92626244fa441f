"""Face, box and settings; what is wrong is said; everything without a mouse, and to those who do not see it."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serve.browser.conftest import OpenPage, Process
from tests.serve.browser.studio import PORTRAIT, Studio, upload, voice


def picture(pixels: Any) -> dict[str, Any]:
    """As an upload."""
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return upload("picture.png", "image/png", target.getvalue())


def grainy() -> Any:
    """The portrait as a camera would see it: no place of it is flat."""
    drawn = np.asarray(Image.open(PORTRAIT).convert("RGB"), np.float64)
    noise = np.random.default_rng(0).normal(0, 22, (128, 128, 1)).repeat(4, 0).repeat(4, 1)
    return np.clip(drawn + noise, 0, 255).astype(np.uint8)


def wait_for_notice(studio: Studio, words: str) -> None:
    script = "words => document.querySelector('#face-notice').textContent.includes(words)"
    studio.wait(script, words)


def test_a_photograph_for_a_model_of_drawings_is_told_before_it_runs(studio: Studio) -> None:
    assert not studio.page.is_visible("#face-notice")
    studio.choose(picture(grainy()))
    wait_for_notice(studio, "trained on drawings")
    assert studio.page.is_visible("#face-notice")


def test_without_a_face_the_visitor_says_where_it_is(studio: Studio) -> None:
    studio.choose(picture(np.full((300, 400, 3), 120, np.uint8)))
    wait_for_notice(studio, "No face was found")
    assert studio.page.is_visible("#face-box")


def test_the_box_is_moved_with_keys_and_with_the_mouse(studio: Studio) -> None:
    page = studio.page

    def place() -> str:
        return str(page.text_content("#box-place"))

    found = place()
    page.focus(".face-box .move")
    page.keyboard.press("ArrowLeft")
    moved = place()
    assert moved != found
    page.focus(".corner[data-corner=bottom-right]")
    page.keyboard.press("Shift+ArrowUp")
    assert place() != moved
    corner = page.query_selector(".corner[data-corner=top-left]").bounding_box()
    page.mouse.move(corner["x"] + corner["width"] / 2, corner["y"] + corner["height"] / 2)
    page.mouse.down()
    page.mouse.move(0, 0)
    page.mouse.up()
    assert "0 from the left, 0 from the top" in place()


def test_a_corrected_box_is_what_the_server_gets(studio: Studio) -> None:
    sent: list[str] = []
    studio.page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(str(data))))
    studio.page.focus(".face-box .move")
    studio.page.keyboard.press("ArrowDown")
    assert studio.page.input_value("#head_room") == "0", "the tiny model's own"
    for slider in ("#speed", "#head_room"):
        studio.page.focus(slider)
        studio.page.keyboard.press("End")
    studio.watch()
    assert '"face_box":[' in sent[0]
    assert '"speed":1.5' in sent[0]
    assert '"head_room":1' in sent[0]
    studio.page.click("#stop")
    studio.wait_for_end()


@pytest.mark.parametrize("kind", ["picture", "sound"])
def test_a_broken_file_is_told_and_the_next_one_works(studio: Studio, kind: str) -> None:
    if kind == "picture":
        studio.choose(picture=upload("broken.png", "image/png", b"no picture"))
        assert "cannot show the picture" in studio.error
        assert studio.page.get_attribute(".face", "aria-pressed") == "true"
        assert studio.page.locator("#picture-drop.chosen").count() == 0
        studio.page.wait_for_selector("#watch:not([disabled])")  # what was chosen before still is
        studio.choose(picture=PORTRAIT)
        studio.page.wait_for_selector("#picture-drop.chosen")
    else:
        studio.choose(sound=upload("broken.wav", "audio/wav", b"no sound"))
        assert "cannot read broken.wav" in studio.error
        assert studio.page.is_disabled("#watch")
        studio.page.click("#make")
        studio.wait("document.querySelector('#error-text').textContent.includes('cannot be read as sound')")
        studio.choose(sound=voice(1))
    studio.page.wait_for_selector("#watch:not([disabled])")


def test_tabs_are_walked_with_arrow_keys(studio: Studio) -> None:
    studio.page.focus("#tab-file")
    studio.page.keyboard.press("ArrowLeft")
    assert studio.page.evaluate("document.activeElement.id") == "tab-talk"
    assert studio.page.is_visible("#panel-talk")
    studio.page.keyboard.press("Home")
    assert studio.page.is_visible("#panel-file")


@pytest.mark.parametrize("width", [390, 820, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(open_page: OpenPage, width: int, dark: bool) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    studio = open_page(width, dark=dark)
    assert studio.page.evaluate("document.documentElement.scrollWidth") <= width
    frame, canvas = (studio.page.query_selector(name).bounding_box() for name in ("#frame", "#canvas"))
    assert canvas["width"] >= 0.3 * width, "the portrait is there, and large"
    assert canvas["x"] == frame["x"], "in line with what is below"

    def serious() -> list[str]:
        found = axe.run(studio.page).response["violations"]
        return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found if one["impact"] in ("serious", "critical")]

    assert serious() == []
    for tab in ("#tab-record", "#tab-text", "#tab-talk", "#tab-file"):
        studio.page.click(tab)
        assert serious() == [], tab
    studio.choose(sound=upload("broken.wav", "audio/wav", b"no sound"))
    assert studio.error
    assert serious() == []
    if dark or width < 1280:
        return
    studio.choose(sound=voice(30))
    studio.watch()
    assert serious() == []
    studio.page.click("#stop")
    studio.wait_for_end()
    assert serious() == []


def test_a_server_that_is_gone_is_told(studio: Studio) -> None:
    studio.page.context.set_offline(True)
    studio.page.click("#make")
    assert "does not answer" in studio.error


def test_a_server_with_keys_asks_for_one(bundle: Path, open_page: OpenPage, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emo_rt.cli", "serve", "--data", str(tmp_path / "data"), "--new-key", "anna"]
    key = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    process = Process(bundle, tmp_path)
    studio = open_page(url=process.url, is_ready=False)
    studio.page.fill("#key", "wrong")
    studio.page.click("#key-form button")
    assert "not known" in studio.error
    studio.page.fill("#key", key)
    studio.page.click("#key-form button")
    studio.page.wait_for_selector("body[data-ready=yes]")
    studio.watch()
    studio.page.click("#stop")
    studio.wait_for_end()
    assert process.stop() == 0
