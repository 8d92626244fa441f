"""The program of docs/serving.md in a real browser: it talks to the server over WebRTC, with its microphone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.serve.browser.studio import PORTRAIT, Studio

pytest.importorskip("aiortc", reason="needs the extra webrtc: make browser")

DOCS = Path(__file__).resolve().parents[3] / "docs" / "serving.md"
AVATAR = "avatar_…"
KEEP = """async ([portrait]) => {
    const form = new FormData();
    form.append("input_reference", new Blob([Uint8Array.from(portrait)], { type: "image/png" }), "portrait.png");
    return (await (await fetch("v1/avatars", { method: "POST", body: form })).json()).id;
}"""
TALK = """async () => {
    const video = document.querySelector("#video");
    video.hidden = false;
    video.muted = true;
    video.srcObject = new MediaStream();
    CODE
    window.said = [];
    channel.onmessage = ({ data }) => window.said.push(JSON.parse(data));
    window.channel = channel;
    await video.play();
}"""


def test_the_example_talks(studio: Studio) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    avatar = studio.page.evaluate(KEEP, [list(PORTRAIT.read_bytes())])
    assert AVATAR in code
    studio.page.evaluate(TALK.replace("CODE", code.replace(AVATAR, avatar)))
    studio.wait("document.querySelector('#video').videoWidth > 0")
    first, now = studio.pixels(), studio.video("currentTime")
    studio.wait(f"document.querySelector('#video').currentTime > {now} + 1")
    assert np.any(studio.pixels() != first), "the picture must change"
    studio.page.evaluate("window.channel.send(JSON.stringify({ type: 'session.stats' }))")
    studio.wait("window.said.some(({ latency }) => latency && Object.keys(latency).length)")
    studio.page.evaluate("window.channel.send(JSON.stringify({ type: 'session.stop' }))")
    studio.wait("window.said.some(({ type }) => type === 'session.done')")
