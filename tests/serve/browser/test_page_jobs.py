"""Videos in the queue: they survive a reload, play, and are downloaded with their mark."""

from __future__ import annotations

from pathlib import Path

from tests.serve.browser.studio import PORTRAIT, Studio, contents, voice


def test_a_job_survives_a_reload_and_is_kept(studio: Studio, tmp_path: Path) -> None:
    page = studio.page
    studio.choose(PORTRAIT, voice(2.4))
    page.click("#make")
    name = page.inner_text(".job:first-child h3")
    assert name == "portrait.png · voice.wav"
    studio.open()
    page.wait_for_selector(".job")
    assert page.inner_text(".job:first-child h3") == name
    job = studio.job("completed")
    assert not job.query_selector("progress").is_visible()
    page.wait_for_selector(".job:first-child img")

    with page.expect_download() as found:
        page.click(".job:first-child >> text=Download")
    found.value.save_as(tmp_path / "job.mp4")
    kept = contents(tmp_path / "job.mp4")
    assert kept["frames"] == 60
    assert kept["tags"]["comment"]

    page.click(".job:first-child .thumb")
    studio.wait("document.querySelector('#video').currentTime > 0.5")
    page.click(".job:first-child .delete")
    page.wait_for_selector("#gallery-empty", state="visible")


def test_a_job_is_cancelled(studio: Studio) -> None:
    page = studio.page
    studio.choose(PORTRAIT, voice(30))
    page.click("#make")
    job = studio.job("in_progress")
    assert job.query_selector("progress").is_visible()
    page.click(".job:first-child >> text=Cancel")
    page.wait_for_selector("#gallery-empty", state="visible")
