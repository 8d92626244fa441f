"""A voice goes in, and the face moves on the page: with a file, with a microphone, interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.serve.browser.studio import PORTRAIT, Studio, contents, voice

FPS = 25


def saved(studio: Studio, folder: Path, button: str) -> Path:
    """What a click downloads."""
    with studio.page.expect_download() as found:
        studio.page.click(button)
    path = folder / found.value.suggested_filename
    found.value.save_as(path)
    return path


def test_an_upload_plays_live_and_can_be_kept(studio: Studio, tmp_path: Path) -> None:
    studio.choose(PORTRAIT, voice(3))
    studio.watch()
    assert studio.page.is_visible("#badge")
    first, start = studio.pixels(), studio.video("currentTime")
    studio.wait(f"document.querySelector('#video').currentTime > {start} + 1")
    assert np.any(studio.pixels() != first), "the picture must change"
    assert studio.video("getVideoPlaybackQuality().totalVideoFrames") > FPS // 2
    assert studio.video("webkitAudioDecodedByteCount") > 0
    studio.wait("/^[0-9.]+ s$/.test(document.querySelector('#latency').textContent)")
    studio.page.wait_for_selector("#plot rect", state="attached")
    studio.wait_for_end()
    assert len(studio.page.query_selector_all("#stages div")) == 6

    kept = contents(saved(studio, tmp_path, "#download"))
    assert kept["frames"] > 3 * FPS - 5
    assert abs(kept["seconds"] - kept["frames"] / FPS) < 0.1
    assert kept["tags"]["comment"]
    studio.wait("document.querySelector('#video').controls")
    studio.page.click("#back")
    assert studio.page.is_visible("#face-box")


def test_a_microphone_is_followed(studio: Studio) -> None:
    studio.page.click("#tab-talk")
    assert studio.page.inner_text("#watch") == "Start talking"
    studio.watch()
    assert studio.video("muted"), "the microphone must not hear the page"
    studio.wait("/^[0-9.]+ s$/.test(document.querySelector('#latency').textContent)")
    studio.wait("document.querySelector('#talk-level').style.transform !== 'scaleX(0)'")
    now = studio.video("currentTime")
    studio.wait(f"document.querySelector('#video').currentTime > {now} + 1")
    studio.page.click("#stop")
    studio.wait_for_end()
    assert studio.page.is_visible("#download")


def test_an_interruption_ends_it(studio: Studio, tmp_path: Path) -> None:
    studio.choose(sound=voice(60))
    studio.watch()
    studio.page.click("#interrupt")
    studio.wait("document.querySelector('#status').textContent.startsWith('Interrupted')")
    studio.wait_for_end()
    assert contents(saved(studio, tmp_path, "#download"))["frames"] < 50 * FPS
    studio.watch()
    studio.page.click("#stop")
    studio.wait_for_end()


def test_a_recording_becomes_a_voice(studio: Studio) -> None:
    studio.page.click("#tab-record")
    studio.page.click("#record")
    studio.wait("document.querySelector('#record-time').textContent === '0:01'")
    studio.page.click("#record")
    studio.wait("document.querySelector('#voice-name').textContent.startsWith('Recording')")
    assert studio.page.is_enabled("#watch")


def test_a_text_becomes_a_voice_or_the_page_says_why_not(studio: Studio) -> None:
    studio.page.click("#tab-text")
    if studio.page.is_visible("#speech-hint"):
        assert studio.page.is_disabled("#speak")
        return
    studio.page.fill("#text", "Good morning.")
    studio.page.click("#speak")
    studio.wait("document.querySelector('#voice-name').textContent.startsWith('Typed')")
    assert studio.page.is_enabled("#make")
