"""An offer of WebRTC, looked at before anything is done with it: what it asks for, and where packets may go."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aiortc.sdp import MediaDescription, SessionDescription, candidate_from_sdp

from emo_rt.serve.errors import ApiError

MOST_CANDIDATES, MOST_MEDIA = 64, 8
"""Of an offer: to each address that it names go some packets."""
LEAST_PORT = 1024
"""Below are services of machines, and no peers; browsers send nothing there, either."""
UFRAG, PASSWORD = re.compile(r"[A-Za-z0-9+/]{4,256}"), re.compile(r"[A-Za-z0-9+/]{22,256}")
"""RFC 8839, 5.4. The first is in every one of those packets."""
CANDIDATE, LAST_CANDIDATE = "a=candidate:", "a=end-of-candidates"


@dataclass(frozen=True)
class Offer:
    """What is asked for. A medium is named by its ``mid``."""

    sdp: str
    """The offer, with those candidates alone to which something is sent."""
    sounds: int
    """Media of sound."""
    picture: str
    """The medium that takes our pictures."""
    loudspeaker: str | None
    """The medium that takes our sound."""
    microphone: str | None
    """The medium that brings theirs."""

    def direction(self, mid: str) -> str:
        """Ours, of one medium."""
        sends, hears = mid in (self.picture, self.loudspeaker), mid == self.microphone
        return "sendrecv" if sends and hears else "sendonly" if sends else "recvonly" if hears else "inactive"


def read_offer(sdp: str) -> Offer:
    """Raises :class:`ApiError` for what cannot become a session."""
    with sdp_errors():
        media = SessionDescription.parse(sdp).media
        kept = _with_peers_alone(sdp)
    if sum(len(one.ice_candidates) for one in media) > MOST_CANDIDATES or len(media) > MOST_MEDIA:
        raise _invalid("has too many media or candidates")
    if len({one.rtp.muxId for one in media}) < len(media):
        raise _invalid("has two media with the same mid")
    if not all(one.dtls and one.dtls.fingerprints for one in media):
        raise _invalid("has a medium without fingerprint")
    if not all(UFRAG.fullmatch(one.ice.usernameFragment or "") for one in media):
        raise _invalid("has a medium without an ice-ufrag of 4 to 256 letters, digits, + and /")
    if not all(PASSWORD.fullmatch(one.ice.password or "") for one in media):
        raise _invalid("has a medium without an ice-pwd of 22 to 256 letters, digits, + and /")
    picture = _first(media, "video", "recvonly")
    if picture is None:
        raise _invalid("does not ask for video; add a transceiver for it")
    loudspeaker, microphone = _first(media, "audio", "recvonly"), _first(media, "audio", "sendonly")
    return Offer(kept, sum(one.kind == "audio" for one in media), picture, loudspeaker, microphone)


def _first(media: list[MediaDescription], kind: str, direction: str) -> str | None:
    """The peer's first medium of a kind that goes this way."""
    found = (one.rtp.muxId for one in media if one.kind == kind and one.direction in (direction, "sendrecv"))
    return next(found, None)


def _with_peers_alone(sdp: str) -> str:
    """Without candidates that no peer has, and without a last: whoever is left out may still come to us."""
    lines = [line for line in sdp.splitlines() if line != LAST_CANDIDATE]
    kept = [line for line in lines if not line.startswith(CANDIDATE) or _may_be_peer(line.removeprefix(CANDIDATE))]
    return "\r\n".join(kept) + "\r\n"


def _may_be_peer(candidate: str) -> bool:
    """Whether something is sent there. Names (``….local``) are not looked up."""
    found = candidate_from_sdp(candidate)
    try:
        address = ipaddress.ip_address(found.ip)
    except ValueError:
        return False
    if address.is_loopback or address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    return bool(found.component == 1 and found.protocol.lower() == "udp" and LEAST_PORT <= found.port < 1 << 16)


@contextmanager
def sdp_errors() -> Iterator[None]:
    """The parser, and what works with its results, raise many kinds."""
    try:
        yield
    except Exception as exc:
        raise _invalid("is no offer that can be answered") from exc


def _invalid(why: str) -> ApiError:
    return ApiError(400, "invalid_sdp", f"sdp {why}", param="sdp")
