"""A live session over WebRTC: the real application over HTTP, and aiortc at both ends, through real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

pytest.importorskip("aiortc", reason="needs the extra webrtc: `make integrations` has it")

import aioice.ice
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError, MediaStreamTrack, VideoStreamTrack
from aiortc.rtcsctptransport import SCTP_DATA_FIRST_FRAG, SCTP_DATA_LAST_FRAG, SCTP_DATA_UNORDERED, DataChunk
from av.audio.frame import AudioFrame
from starlette.testclient import TestClient

from emo_rt import Animator, LiveSession, MarkOptions, VideoOptions, VideoWriter, verify
from emo_rt.errors import DeviceLostError
from emo_rt.serve import rtc, rtc_inbox
from emo_rt.serve.app import make_app
from emo_rt.serve.keys import add_key
from emo_rt.serve.live_start import read_start
from emo_rt.serve.rtc import CONFIGURATION
from emo_rt.serve.rtc_feed import FeedTrack, SoundBlocks
from emo_rt.serve.rtc_sdp import read_offer
from emo_rt.serve.service import Service
from emo_rt.serve.settings import Limits, ServeOptions
from tests.serve.conftest import threads, wait_until
from tests.serve.inputs import PORTRAIT, URL, data_url

PATH = "/v1/realtime/webrtc"
START = {
    "image_reference": {"image_url": data_url(PORTRAIT.read_bytes(), "image/png")},
    "num_inference_steps": 1,
    "idle": "loop",
    "extra_params": {"guidance": 1, "face_box": "full"},
}
PATIENCE_S = 60


@pytest.fixture
def make_client(tiny_animator: Animator, tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """``make_client(max_sessions=1)``: talks to a server that runs."""
    before = threads()
    with ExitStack() as exits:

        def make(marks: MarkOptions | None = None, **limits: Any) -> TestClient:
            found = ServeOptions(
                data=str(tmp_path / "data"), limits=Limits(min_free_mb=0, **limits), marks=marks or MarkOptions()
            )
            return exits.enter_context(client_of(tiny_animator, found))

        yield make
    wait_until(lambda: threads() == before)


@contextmanager
def client_of(animator: Animator, options: ServeOptions) -> Iterator[TestClient]:
    with Service(options, {"tiny": animator}) as service, TestClient(make_app(service), base_url=URL) as client:
        client.service = service  # type: ignore[attr-defined]
        wait_until(lambda: service.is_warm)
        yield client


class Viewer:
    """A browser, as far as it matters here."""

    def __init__(self, client: TestClient, **more: Any) -> None:
        self.client, self.more = client, more
        self.peer = RTCPeerConnection(CONFIGURATION)
        self.messages = asyncio.Queue[dict[str, Any]]()
        self.tracks: dict[str, MediaStreamTrack] = {}
        self.peer.on("track", lambda track: self.tracks.__setitem__(track.kind, track))
        self.channel = self.peer.createDataChannel("emo-rt")
        self.channel.on("message", lambda message: self.messages.put_nowait(json.loads(message)))
        self.place = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.peer.close()

    async def offer(self) -> str:
        if not self.peer.getTransceivers():
            for kind in ("video", "audio"):
                self.peer.addTransceiver(kind, direction="recvonly")
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return str(self.peer.localDescription.sdp)

    async def ask(self, **fields: Any) -> Any:
        """The HTTP answer to an offer."""
        body = {**START, "sdp": await self.offer(), **fields}
        return await asyncio.to_thread(self.client.post, PATH, json=body, **self.more)

    async def call(self, **fields: Any) -> dict[str, Any]:
        """Connected: the first message."""
        response = await self.ask(**fields)
        assert response.status_code == 201, response.text
        return await self.connect(response)

    async def connect(self, response: Any) -> dict[str, Any]:
        assert response.headers["content-type"] == "application/sdp"
        self.place = response.headers["location"]
        await self.peer.setRemoteDescription(RTCSessionDescription(response.text, "answer"))
        return await self.until_type("video.start")

    async def until_type(self, kind: str) -> dict[str, Any]:
        while True:
            message = await self.messages.get()
            if message["type"] == kind:
                return message

    def send(self, message: str | bytes) -> None:
        """Also one that is larger than the server said it may be."""
        self.peer.sctp._remote_max_message_size = 1 << 30
        self.channel.send(message)

    def say(self, kind: str) -> None:
        self.channel.send(json.dumps({"type": kind}))

    async def loudness(self, is_loud: bool) -> None:
        """Until a frame of sound is loud, or until one is silent."""
        while True:
            heard = (await self.tracks["audio"].recv()).to_ndarray()
            if (np.abs(heard).max() > 1_000) == is_loud:
                return


class Microphone(AudioStreamTrack):
    """A tone, in real time."""

    async def recv(self) -> AudioFrame:
        frame = await super().recv()
        tone = 9_000 * np.sin((frame.pts + np.arange(frame.samples)) * 0.4)
        frame.planes[0].update(tone.astype(np.int16).tobytes())
        return frame


def sound(seconds: float, rate: int = 48_000) -> bytes:
    return (9_000 * np.sin(np.arange(round(seconds * rate)) * 0.05)).astype("<i2").tobytes()


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE_S))


def is_free(client: TestClient) -> bool:
    service: Service = client.service  # type: ignore[attr-defined]
    return service.quotas.sessions == 0 and not service.live and all(place.talkers == 0 for place in service.places)


def test_a_conversation(make_client: Callable[..., TestClient], caplog: pytest.LogCaptureFixture) -> None:
    """Sound by the data channel; picture and sound come back; it is counted, and ends in order."""
    client = make_client()
    caplog.set_level(logging.INFO, "emo_rt.serve")

    async def talk() -> None:
        async with Viewer(client) as viewer:
            start = await viewer.call()
            assert start["format"] == "webrtc"
            assert start["config"] == {"width": 32, "height": 32, "fps": 25, "sample_rate": 48_000}
            metrics = await asyncio.to_thread(client.get, "/metrics")
            assert "emo_rt_live_sessions 1.0" in metrics.text
            picture = await viewer.tracks["video"].recv()
            assert (picture.width, picture.height) == (32, 32)
            viewer.channel.send(sound(0.4))
            viewer.say("input_audio.end")
            await viewer.loudness(True)
            await viewer.loudness(False)
            viewer.say("session.ping")
            await viewer.until_type("session.pong")
            viewer.say("session.stats")
            assert (await viewer.until_type("session.stats"))["latency"]
            viewer.say("session.stop")
            done = await viewer.until_type("session.done")
            assert done["num_frames"] > 10
            with suppress(MediaStreamError):
                while True:
                    await viewer.tracks["video"].recv()
            await asyncio.to_thread(wait_until, lambda: is_free(client))
            await asyncio.to_thread(wait_until, lambda: "live session ended" in caplog.messages)

    run(talk())


def test_a_microphone(make_client: Callable[..., TestClient]) -> None:
    """Sound by a track, in and out; an interruption takes what was not said yet."""
    client = make_client()

    async def talk() -> None:
        async with Viewer(client) as viewer:
            viewer.peer.addTrack(Microphone())
            viewer.peer.addTransceiver("video", direction="recvonly")
            await viewer.call(sample_rate=24_000, lag="drop")
            await viewer.loudness(True)
            viewer.say("input_audio.clear")
            assert (await viewer.until_type("input_audio.cleared"))["played_s"] > 0

    run(talk())
    wait_until(lambda: is_free(client))


def test_a_microphone_without_a_loudspeaker(make_client: Callable[..., TestClient]) -> None:
    client = make_client()

    async def talk() -> None:
        async with Viewer(client) as viewer:
            viewer.peer.addTransceiver(Microphone(), direction="sendonly")
            viewer.peer.addTransceiver("video", direction="recvonly")
            await viewer.call()
            while True:
                viewer.say("session.stats")
                if (await viewer.until_type("session.stats"))["latency"]:
                    break
            assert set(viewer.tracks) == {"video"}

    run(talk())
    wait_until(lambda: is_free(client))


def test_pictures_of_the_peer_are_never_taken(make_client: Callable[..., TestClient]) -> None:
    client = make_client()

    async def talk() -> None:
        async with Viewer(client) as viewer:
            viewer.peer.addTrack(VideoStreamTrack())
            await viewer.call()
            await viewer.tracks["video"].recv()
            (answered,) = [part for part in viewer.peer.remoteDescription.sdp.split("m=") if part[:5] == "video"]
            assert "a=sendonly" in answered

    run(talk())


def test_one_medium_for_each_way(make_client: Callable[..., TestClient]) -> None:
    """A camera that nobody wants before the medium for our pictures, a microphone apart from the loudspeaker."""
    client = make_client()

    async def talk() -> None:
        async with Viewer(client) as viewer:
            for track in (VideoStreamTrack(), Microphone()):
                viewer.peer.addTransceiver(track, direction="sendonly")
                viewer.peer.addTransceiver(track.kind, direction="recvonly")
            await viewer.call()
            await viewer.tracks["video"].recv()
            await viewer.loudness(True)
            ways = [one.currentDirection for one in viewer.peer.getTransceivers()]
            assert ways == ["inactive", "recvonly", "sendonly", "recvonly"]

    run(talk())


def test_a_peer_that_names_no_address(make_client: Callable[..., TestClient]) -> None:
    """As browsers do before they may use a microphone. It comes to the server's own addresses."""
    client = make_client()

    async def talk() -> None:
        async with Viewer(client) as viewer:
            lines = (await viewer.offer()).splitlines()
            hidden = [hide(line) if line.startswith("a=candidate") else line for line in lines]
            assert hidden != lines
            body = {**START, "sdp": "\r\n".join(hidden) + "\r\n"}
            await viewer.connect(await asyncio.to_thread(client.post, PATH, json=body))
            await viewer.tracks["video"].recv()

    run(talk())


def hide(candidate: str) -> str:
    parts = candidate.split()
    return " ".join([*parts[:4], "1b0f4d7c-2a55-4f0e-9b1f-0c5a1e6d7f3a.local", *parts[5:]])


def test_nothing_is_sent_to_the_machine_itself(make_client: Callable[..., TestClient]) -> None:
    client = make_client()

    async def ask() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
            inside.bind(("127.0.0.1", 0))
            inside.settimeout(1)
            async with Viewer(client) as viewer:
                there = f"a=candidate:1 1 udp 2130706431 127.0.0.1 {inside.getsockname()[1]} typ host"
                found = (await viewer.offer()).splitlines()
                lines = [there if line.startswith("a=candidate") else line for line in found]
                body = {**START, "sdp": "\r\n".join(lines) + "\r\n"}
                response = await asyncio.to_thread(client.post, PATH, json=body)
                assert response.status_code == 201
                with pytest.raises(TimeoutError):
                    await asyncio.to_thread(inside.recv, 2_000)
                await asyncio.to_thread(client.delete, response.headers["location"])

    run(ask())
    wait_until(lambda: is_free(client))


@pytest.mark.parametrize("by_track", [False, True])
def test_what_ends_it_is_told(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch, *, by_track: bool
) -> None:
    """Whoever hears of it first: here it is who pushes sound."""
    client = make_client()

    def fail(*_: object) -> None:
        raise DeviceLostError("an illegal address")

    async def talk() -> None:
        async with Viewer(client) as viewer:
            if by_track:
                viewer.peer.addTrack(Microphone())
                viewer.peer.addTransceiver("video", direction="recvonly")
            await viewer.call()
            monkeypatch.setattr(LiveSession, "push", fail)
            viewer.channel.send(sound(0.1) if not by_track else json.dumps({"type": "session.ping"}))
            assert (await viewer.until_type("error"))["code"] == "device_lost"
            await viewer.until_type("session.done")
        assert client.service.trouble == "an illegal address"  # type: ignore[attr-defined]

    run(talk())
    wait_until(lambda: is_free(client))


def test_a_peer_that_takes_no_answers(make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing piles up for it."""
    monkeypatch.setattr(rtc, "MOST_UNTAKEN", 10_000)
    client = make_client()

    async def talk() -> None:
        async with Viewer(client) as viewer:
            await viewer.call()
            await viewer.tracks["video"].recv()
            leave_out = asyncio.Future[None]()
            leave_out.set_result(None)
            monkeypatch.setattr(viewer.peer.sctp, "_receive_data_chunk", lambda _: leave_out)
            monkeypatch.setattr(viewer.peer.sctp, "_send_sack", lambda: leave_out)
            while not is_free(client):
                viewer.say("session.stats")
                await asyncio.sleep(0.01)

    run(talk())


def test_whoever_speaks_whep(make_client: Callable[..., TestClient]) -> None:
    """The offer alone, an avatar in the query, and DELETE at the end; there is no PATCH."""
    client = make_client()
    sent = {"input_reference": ("face.png", PORTRAIT.read_bytes())}
    avatar = client.post("/v1/avatars", files=sent, data={"options": '{"face_box": "full"}'}).json()["id"]

    async def talk() -> None:
        async with Viewer(client) as viewer:
            query = {"avatar": avatar, "num_inference_steps": "1", "extra_params": '{"guidance": 1}'}
            headers = {"content-type": "application/sdp"}
            offer = await viewer.offer()
            response = await asyncio.to_thread(client.post, PATH, params=query, content=offer, headers=headers)
            assert response.status_code == 201, response.text
            await viewer.connect(response)
            await viewer.tracks["video"].recv()
            assert (await asyncio.to_thread(client.patch, viewer.place, content="")).status_code == 405
            assert (await asyncio.to_thread(client.delete, viewer.place)).json()["deleted"] is True
            await viewer.until_type("session.done")
        await asyncio.to_thread(wait_until, lambda: is_free(client))
        gone = await asyncio.to_thread(client.delete, viewer.place)
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "call_not_found")

    run(talk())
    wait_until(lambda: is_free(client))


def test_a_peer_that_goes(make_client: Callable[..., TestClient]) -> None:
    """In order, or without a word: then checks that nobody answers end it."""
    client = make_client()

    async def leave() -> None:
        async with Viewer(client) as viewer:
            await viewer.call()
        await asyncio.to_thread(wait_until, lambda: is_free(client))

    run(leave())


def test_a_peer_that_dies(make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 0.1)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 2)
    client = make_client()

    async def die() -> None:
        viewer = Viewer(client)
        await viewer.call()
        for transceiver in viewer.peer.getTransceivers():
            connection = transceiver.receiver.transport.transport._connection
            for protocol in connection._protocols:
                protocol.transport.close()

    run(die())
    wait_until(lambda: is_free(client))


def test_a_peer_that_never_comes(make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtc, "CONNECT_S", 0.1)
    monkeypatch.setattr(rtc, "LOOK_S", 0.1)
    client = make_client()

    async def ask() -> None:
        async with Viewer(client) as viewer:
            assert (await viewer.ask()).status_code == 201
            await asyncio.to_thread(wait_until, lambda: is_free(client))

    run(ask())


def test_aiortc_never_ends_what_was_cancelled(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a server that ends while a peer goes would wait for ever."""
    monkeypatch.setattr(rtc, "CLOSE_S", 0.2)
    client = make_client()

    async def cancel() -> None:
        (call,) = client.app._app.state.calls.values()  # type: ignore[attr-defined]
        closing = asyncio.ensure_future(call._peer.close())
        await asyncio.sleep(0)
        closing.cancel()
        call.stop()

    async def talk() -> None:
        async with Viewer(client) as viewer:
            await viewer.call()
            assert client.portal is not None
            await asyncio.to_thread(client.portal.call, cancel)
            await asyncio.to_thread(wait_until, lambda: is_free(client))

    before = sockets()
    run(talk())
    assert sockets() == before


def sockets() -> int:
    """That this process has open."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found += str(one.readlink()).startswith("socket:")
    return found


def test_who_gives_up_while_addresses_are_gathered(
    make_client: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"] * 3)
    client = make_client()

    async def give_up(connection: rtc.RtcConnection, sdp: str, turns: int) -> None:
        opening = asyncio.create_task(connection.open(read_start({**START, "type": "session.start"}), sdp))
        while connection._peer.iceGatheringState == "new":
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        opening.cancel()
        with suppress(asyncio.CancelledError):
            await opening
        connection.stop()

    async def make() -> rtc.RtcConnection:
        return rtc.RtcConnection(client.service, "", client.app._app.state.calls)  # type: ignore[attr-defined]

    assert client.portal is not None
    with offered(str) as sdp:
        before = sockets()
        for turns in range(6):
            client.portal.call(give_up, client.portal.call(make), sdp, turns)
            wait_until(lambda: is_free(client) and sockets() == before)


def test_the_server_ends(make_client: Callable[..., TestClient]) -> None:
    client = make_client(drain_seconds=0)

    async def talk() -> None:
        async with Viewer(client) as viewer:
            await viewer.call()
            assert client.portal is not None
            draining = client.portal.start_task_soon(client.service.drain)  # type: ignore[attr-defined]
            assert (await viewer.until_type("error"))["code"] == "server_restarting"
            await viewer.until_type("session.done")
            await asyncio.to_thread(draining.result)
            assert is_free(client)
            refused = await asyncio.to_thread(client.post, PATH, json={"sdp": "v=0"})
            assert refused.status_code == 503

    run(talk())


def test_limits_are_those_of_all_sessions(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_sessions=1, max_requests_per_minute=2)

    async def talk() -> None:
        async with Viewer(client) as first, Viewer(client) as second, Viewer(client) as third:
            await first.call()
            refused = await second.ask()
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_sessions")
            await first.peer.close()
            await asyncio.to_thread(wait_until, lambda: is_free(client))
            await third.call()
        async with Viewer(client) as fourth:
            await asyncio.to_thread(wait_until, lambda: is_free(client))
            refused = await fourth.ask()
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_requests")
            assert "retry-after" in refused.headers

    run(talk())


def test_keys(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    """Without one, nothing; with another's, no session of mine can be ended."""
    anna, otto = (add_key(tmp_path / "data", name) for name in ("anna", "otto"))
    client = make_client()
    headers = {name: {"Authorization": f"Bearer {key}"} for name, key in (("anna", anna), ("otto", otto))}

    async def talk() -> None:
        async with Viewer(client) as nobody:
            assert (await nobody.ask()).status_code == 401
        async with Viewer(client, headers=headers["anna"]) as viewer:
            await viewer.call()
            other = await asyncio.to_thread(client.delete, viewer.place, headers=headers["otto"])
            assert other.status_code == 404
            assert (await asyncio.to_thread(client.delete, viewer.place)).status_code == 401
            await viewer.tracks["video"].recv()
            foreign = {**headers["anna"], "Origin": "https://evil.example"}
            assert (await asyncio.to_thread(client.delete, viewer.place, headers=foreign)).status_code == 400

    run(talk())


@contextmanager
def offered(edit: Callable[[str], str]) -> Iterator[str]:
    async def make() -> str:
        peer = RTCPeerConnection(CONFIGURATION)
        for kind in ("video", "audio"):
            peer.addTransceiver(kind, direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        return sdp

    yield edit(asyncio.run(make()))


CANDIDATE = "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n"


@pytest.mark.parametrize(
    ("edit", "fields", "status", "code"),
    [
        (lambda sdp: "v=0", {}, 400, "invalid_sdp"),
        (lambda sdp: "nonsense", {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("m=video", "m=audio"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("a=recvonly", "a=sendonly"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("a=fingerprint", "a=thumbprint"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("a=ice-ufrag:", "a=ice-ufrag:" + 300 * "x"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("a=ice-ufrag:", "a=ice-ufrag:set key "), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("a=ice-pwd:", "a=ice-pw:"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("a=mid:1", "a=mid:0"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("VP8", "VP7").replace("H264", "H263"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp.replace("opus/48000", "opis/48000"), {}, 400, "invalid_sdp"),
        (lambda sdp: sdp + 100 * CANDIDATE, {}, 400, "invalid_sdp"),
        (lambda sdp: sdp + "x" * (64 << 10), {}, 413, "too_large"),
        (lambda sdp: "", {}, 400, "missing_field"),
        (lambda sdp: sdp, {"fragment_frames": 5}, 400, "unknown_field"),
        (lambda sdp: sdp, {"format": "m4s"}, 400, "unknown_field"),
        (lambda sdp: sdp, {"formt": "m4s"}, 400, "unknown_field"),
        (lambda sdp: sdp, {"sample_rate": 22_051}, 400, "invalid_value"),
        (lambda sdp: sdp, {"sample_rate": 100}, 400, "invalid_option"),
        (lambda sdp: sdp, {"avatar": "avatar_0", "image_reference": None}, 404, "avatar_not_found"),
        (lambda sdp: sdp, {"image_reference": None}, 400, "missing_field"),
        (lambda sdp: sdp, {"extra_params": {"crf": 1}}, 400, "invalid_option"),
    ],
)
def test_refused(
    refusing: TestClient, edit: Callable[[str], str], fields: dict[str, Any], status: int, code: str
) -> None:
    with offered(edit) as sdp:
        answer = refusing.post(PATH, json={**START, "sdp": sdp, **fields})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert is_free(refusing)


@pytest.mark.parametrize(
    ("candidate", "is_kept"),
    [
        ("1 1 udp 1 192.0.2.7 50000 typ host", True),
        ("1 1 UDP 1 2001:db8::7 1024 typ srflx raddr :: rport 9", True),
        ("1 2 udp 1 192.0.2.7 50000 typ host", False),
        ("1 1 tcp 1 192.0.2.7 9 typ host tcptype active", False),
        ("1 1 udp 1 192.0.2.7 53 typ host", False),
        ("1 1 udp 1 192.0.2.7 65536 typ host", False),
        ("1 1 udp 1 127.0.0.2 50000 typ host", False),
        ("1 1 udp 1 ::1 50000 typ host", False),
        ("1 1 udp 1 ::ffff:127.0.0.1 50000 typ host", False),
        ("1 1 udp 1 224.0.0.251 50000 typ host", False),
        ("1 1 udp 1 255.255.255.255 50000 typ host", False),
        ("1 1 udp 1 0.0.0.0 50000 typ host", False),
        ("1 1 udp 1 printer.local 50000 typ host", False),
        ("1 1 udp 1 db.internal 50000 typ host", False),
    ],
)
def test_where_packets_go(candidate: str, *, is_kept: bool) -> None:
    with offered(lambda sdp: sdp + f"a=candidate:{candidate}\r\na=end-of-candidates\r\n") as sdp:
        kept = read_offer(sdp).sdp
    assert (f"a=candidate:{candidate}\r\n" in kept) is is_kept
    assert "end-of-candidates" not in kept


@pytest.fixture(scope="module")
def refusing(tiny_animator: Animator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    options = ServeOptions(data=str(tmp_path_factory.mktemp("data")), limits=Limits(min_free_mb=0))
    with client_of(tiny_animator, options) as client:
        yield client


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"123", "invalid_audio"),
        ("{", "invalid_json"),
        (json.dumps({"type": "x" * (128 << 10)}), "message_too_large"),
        (bytes((256 << 10) + 2), "message_too_large"),
    ],
)
def test_wrong_messages_end_it(refusing: TestClient, message: str | bytes, code: str) -> None:
    async def talk() -> None:
        async with Viewer(refusing) as viewer:
            await viewer.call()
            viewer.say("session.sotp")
            assert (await viewer.until_type("error"))["code"] == "unknown_type"
            viewer.send(message)
            assert (await viewer.until_type("error"))["code"] == code
            await viewer.until_type("session.done")

    run(talk())
    wait_until(lambda: is_free(refusing))


async def one_large_message(viewer: Viewer) -> None:
    viewer.send(bytes(8 << 20))


async def many_channels(viewer: Viewer) -> None:
    for index in range(rtc_inbox.MOST_STREAMS):
        viewer.peer.createDataChannel(str(index))


async def small_fragments(viewer: Viewer) -> None:
    """Of a message that has no beginning."""
    sctp = viewer.peer.sctp
    for index in range(200):
        chunk = DataChunk()
        chunk.tsn = (sctp._local_tsn + index) % (1 << 32)
        chunk.stream_id, chunk.user_data = viewer.channel.id, b"x"
        await sctp._send_chunk(chunk)


async def gaps(viewer: Viewer) -> None:
    """Whole messages behind one that is left out: each is told to the peer again and again."""
    sctp = viewer.peer.sctp
    for index in range(200):
        chunk = DataChunk(SCTP_DATA_FIRST_FRAG | SCTP_DATA_LAST_FRAG | SCTP_DATA_UNORDERED)
        chunk.tsn = (sctp._local_tsn + 1 + index) % (1 << 32)
        chunk.stream_id, chunk.user_data = viewer.channel.id, b"x"
        await sctp._send_chunk(chunk)


@pytest.mark.parametrize("flood", [one_large_message, many_channels, small_fragments, gaps])
def test_nothing_piles_up_that_never_becomes_a_message(
    refusing: TestClient, monkeypatch: pytest.MonkeyPatch, flood: Callable[[Viewer], Coroutine[Any, Any, None]]
) -> None:
    if flood is not one_large_message:
        monkeypatch.setattr(rtc_inbox, "MOST_FRAGMENTS", 100)

    async def talk() -> None:
        async with Viewer(refusing) as viewer:
            await viewer.call()
            (call,) = refusing.app._app.state.calls.values()  # type: ignore[attr-defined]
            sctp = call._peer.sctp
            await flood(viewer)
            error = await viewer.until_type("error")
            assert (error["code"], "is incomplete" in error["message"]) == ("message_too_large", True)
            waiting = [chunk for stream in sctp._inbound_streams.values() for chunk in stream.reassembly]
            assert sum(len(chunk.user_data) for chunk in waiting) < rtc_inbox.MOST_BYTES + 2_000
            assert max(len(waiting), len(sctp._sack_misordered)) <= rtc_inbox.MOST_FRAGMENTS + 1
            assert len(sctp._inbound_streams) <= rtc_inbox.MOST_STREAMS + 1

    run(talk())
    wait_until(lambda: is_free(refusing))


def test_the_marks_arrive(make_client: Callable[..., TestClient], tmp_path: Path) -> None:
    """After the encoder of WebRTC, at the rate that it begins with."""
    client = make_client(MarkOptions(watermark_payload=77))
    seen = tmp_path / "seen.mp4"

    async def watch() -> None:
        async with Viewer(client) as viewer:
            extra = {"guidance": 1, "face_box": "full", "paste_back": True}
            config = (await viewer.call(extra_params=extra))["config"]
            options = VideoOptions(watermark=False)
            with VideoWriter(seen, width=config["width"], height=config["height"], fps=25, options=options) as writer:
                for _ in range(40):
                    frame = await viewer.tracks["video"].recv()
                    writer.write(frame.to_ndarray(format="rgb24")[np.newaxis])

    run(watch())
    assert verify(seen).watermark.payload == 77


def test_a_slow_encoder_leaves_out_the_oldest() -> None:
    async def take() -> None:
        track = FeedTrack("video", 2)
        for frame in "abc":
            track.put(frame)  # type: ignore[arg-type]
        assert [await track.recv(), await track.recv()] == ["b", "c"]
        track.stop()
        with pytest.raises(MediaStreamError):
            await track.recv()

    run(take())


def test_sound_comes_in_blocks_of_20_ms() -> None:
    """Whatever comes in; nothing is lost between two blocks, and times follow each other."""
    blocks, said = SoundBlocks(24_000), np.linspace(-1, 1, 4_800, dtype=np.float32)
    frames = [frame for part in np.array_split(said, 7) for frame in blocks.push(part)]
    assert [frame.pts for frame in frames] == [480 * index for index in range(10)]
    assert {(frame.sample_rate, frame.samples) for frame in frames} == {(24_000, 480)}
    heard = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    np.testing.assert_array_equal(heard, np.clip(np.rint(said * 32_768), -32_768, 32_767).astype(np.int16))
