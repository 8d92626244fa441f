"""Files that strangers gave: none makes us open a second file, hang, or run a demuxer that is not on the list."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import wave
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from emo_rt.errors import AudioError, Cancelled, InputError, PortraitError
from emo_rt.media import untrusted
from emo_rt.media.audio import open_audio
from emo_rt.media.picture import load_picture
from emo_rt.media.untrusted import NUMBERS, PICTURE, SOUND, VIDEO, open_file, open_media
from emo_rt.media.video_file import probe
from emo_rt.model.identity import _numbers
from tests.media.encoded import encode_sound

ROOT = Path(__file__).resolve().parents[2]
SECRET_SAMPLES = 4_000


def write_secret(path: Path) -> Path:
    """The sound that must not come out, as the WAV file of that name, and beside it as MPEG-TS and MP4."""
    for muxer, suffix in (("mpegts", ".ts"), ("mp4", ".mp4")):
        encode_sound(path.with_suffix(suffix), muxer, "aac")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        tone = 20_000 * np.sin(2 * np.pi * 440 * np.arange(SECRET_SAMPLES) / 16_000)
        file.writeframes(tone.astype("<i2").tobytes())
    return path


def playlist(segment: object, end: str = "#EXT-X-ENDLIST\n") -> str:
    """HLS."""
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-VERSION:3\n#EXTINF:10,\n{segment}\n{end}"


def dash(_: Path) -> str:
    return """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="audio/mp4">
<Representation id="1" bandwidth="1000" audioSamplingRate="16000"><BaseURL>secret.mp4</BaseURL>
</Representation></AdaptationSet></Period></MPD>"""


def session(_: Path) -> str:
    """A description of a call; FFmpeg would open network sockets for it."""
    return "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 50004 RTP/AVP 0\n"


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box of a QuickTime file."""
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def external_mov(secret: Path) -> bytes:
    """A QuickTime film whose only track lies in another file: an `alis` data reference, two levels of folders up."""
    name, samples = str(secret).encode(), SECRET_SAMPLES
    path = struct.pack(">HH", 2, len(name)) + name + b"\0" * (len(name) % 2) + struct.pack(">hH", -1, 0)
    record = bytes(10) + bytes([3]) + b"vol".ljust(27, b"\0") + bytes(12)
    record += bytes([len(secret.name)]) + secret.name.encode().ljust(63, b"\0") + bytes(16)
    record += struct.pack(">HH", 1, 1) + bytes(16) + path
    entry = bytes(6) + struct.pack(">HHHIHHHHI", 1, 0, 0, 0, 1, 16, 0, 0, 16_000 << 16)
    table = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), box(b"sowt", entry)),
        box(b"stts", bytes(4), struct.pack(">III", 1, samples, 1)),
        box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1, samples, 1)),
        box(b"stsz", bytes(4), struct.pack(">II", 2, samples)),
        box(b"stco", bytes(4), struct.pack(">II", 1, 44)),
    )
    reference = box(b"dinf", box(b"dref", bytes(4), struct.pack(">I", 1), box(b"alis", bytes(4), record)))
    media = box(
        b"mdia",
        box(b"mdhd", bytes(12), struct.pack(">IIHH", 16_000, samples, 0, 0)),
        box(b"hdlr", bytes(4), b"mhlrsoun", bytes(12), b"\0"),
        box(b"minf", box(b"smhd", bytes(8)), reference, table),
    )
    header = box(b"tkhd", struct.pack(">I", 7), bytes(8), struct.pack(">III", 1, 0, samples), bytes(60))
    movie = box(b"mvhd", bytes(12), struct.pack(">II", 16_000, samples), bytes(80))
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"moov", movie, box(b"trak", header, media))


def pipe(secret: Path) -> Path:
    path = secret.parent / "pipe.ts"
    os.mkfifo(path)
    return path


TRAPS: dict[str, tuple[str, Callable[[Path], str | bytes]]] = {
    "playlist, absolute": ("a.m3u8", lambda secret: playlist(secret.with_suffix(".ts"))),
    "playlist, relative": ("a.m3u8", lambda _: playlist("secret.ts")),
    "playlist, upwards": ("a.m3u8", lambda secret: playlist(f"../{secret.parent.name}/secret.ts")),
    "playlist, file URL": ("a.m3u8", lambda secret: playlist(f"file://{secret.with_suffix('.ts')}")),
    "playlist that goes on": ("a.m3u8", lambda secret: playlist(secret.with_suffix(".ts"), end="")),
    "playlist of a pipe": ("a.m3u8", lambda secret: playlist(pipe(secret))),
    "playlist, called WAV": ("a.wav", lambda _: playlist("secret.ts")),
    "playlist, called MP4": ("a.mp4", lambda _: playlist("secret.ts")),
    "concat script": ("a.wav", lambda secret: f"ffconcat version 1.0\nfile {secret.name}\n"),
    "concat script of itself": ("a.wav", lambda _: "ffconcat version 1.0\nfile a.wav\n"),
    "DASH": ("a.mpd", dash),
    "SDP": ("a.sdp", session),
    "QuickTime, external track": ("a.mov", external_mov),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    return write_secret(tmp_path / "secret.wav")


def lay(trap: str, secret: Path) -> Path:
    name, make = TRAPS[trap]
    content = make(secret)
    path = secret.parent / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("trap", TRAPS)
def test_no_file_gives_away_another_one(secret: Path, trap: str) -> None:
    path = lay(trap, secret)
    with pytest.raises(AudioError, match=re.escape(str(path))):
        open_audio(path)
    with pytest.raises(InputError, match=re.escape(str(path))):
        probe(path)


def test_the_external_track_is_a_real_trap(secret: Path) -> None:
    path = lay("QuickTime, external track", secret)
    allowed = {"enable_drefs": "1", "use_absolute_path": "1"}
    with av.open(str(path), container_options=allowed) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == SECRET_SAMPLES


@pytest.mark.parametrize("name", ["concat:{}|{}", "subfile,,start,0,end,0,,:{}", "file:{}", "cache:{}", "a%d.wav"])
def test_a_name_is_never_a_protocol_or_a_pattern(secret: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(secret, secret.with_name("a1.wav"))
    monkeypatch.chdir(secret.parent)
    with pytest.raises(AudioError, match="there is no sound file"):
        open_audio(name.format(secret.name, secret.name))


def test_ffmpeg_gets_bytes_and_no_name(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    real = av.open
    monkeypatch.setattr(av, "open", lambda file, **options: given.append(file) or real(file, **options))
    assert open_audio(secret).samples == SECRET_SAMPLES
    (source,) = given
    assert not isinstance(source, str | os.PathLike)
    assert not hasattr(source, "name")
    assert not hasattr(source, "fileno")


def test_nothing_else_in_the_runtime_opens_media() -> None:
    opens = re.compile(r"\b(?:av\.open|Image\.open|np\.load)\(")
    found = {path.name for path in (ROOT / "emo_rt").rglob("*.py") if opens.search(path.read_text(encoding="utf-8"))}
    # What is read there comes from open_file, and what mp4.py opens is written.
    assert found == {"untrusted.py", "picture.py", "identity.py", "avatar_file.py", "decoding.py", "mp4.py"}
    for name in ("picture.py", "identity.py", "avatar_file.py", "decoding.py"):
        text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "emo_rt").rglob(name))
        assert len(re.findall(r"(?:Image\.open|np\.load)\(BufferedReader\(file\)", text)) == len(opens.findall(text))


WATCHED = """
import sys
from pathlib import Path
from emo_rt.media.audio import open_audio
from emo_rt.errors import InputError
from emo_rt.media.picture import load_picture
from emo_rt.media.video_file import probe
for path in sorted(Path(sys.argv[1]).rglob("a.*")):
    for read in (open_audio, probe, load_picture):
        try:
            read(path)
        except InputError:
            continue
        sys.exit(f"{path} was read")
"""


def test_the_system_sees_no_second_file_and_no_socket(tmp_path: Path) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace: apt-get install strace")
    expected = set()
    for number, trap in enumerate(TRAPS):
        (tmp_path / str(number)).mkdir()
        expected.add(str(lay(trap, write_secret(tmp_path / str(number) / "secret.wav"))))
    log = tmp_path / "log"
    calls = "trace=open,openat,openat2,socket,connect"
    command = ["strace", "-f", "-qq", "-e", calls, "-o", str(log), sys.executable, "-c", WATCHED, str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    seen = log.read_text()
    opened = set(re.findall(rf'"({re.escape(str(tmp_path))}/[^"]+\.[^"]+)"', seen))
    assert opened == expected
    assert not re.search(r'"[^"]*\b(?:secret|pipe)\.', seen)  # nor by a name that is relative
    assert not re.search(r"\b(socket|connect)\(", seen)


# --- what is no regular file ----------------------------------------------------------------------------------------


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _socket(path: Path) -> Path:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _link_to_a_pipe(path: Path) -> Path:
    path.symlink_to(_pipe(path.with_name("pipe")))
    return path


SPECIAL: dict[str, tuple[Callable[[Path], Path], str]] = {
    "pipe": (_pipe, "^there is no .*/x: it is a pipe; expected a regular file$"),
    "link to a pipe": (_link_to_a_pipe, "^there is no .*/x: it is a pipe"),
    "socket": (_socket, "^there is no .*/x: it is a socket"),
    "folder": (_folder, "^there is no .*/x: it is a folder"),
    "device": (lambda _: Path("/dev/zero"), "^there is no .*/dev/zero: it is a device"),
    "no file": (lambda path: path, "^there is no .*/x$"),
    "name with a zero byte": (lambda path: Path(f"{path}\0"), "cannot be opened"),
}


@pytest.mark.parametrize("what", SPECIAL)
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (open_audio, AudioError),
        (probe, InputError),
        (load_picture, PortraitError),
        (lambda path: open_file(path, NUMBERS), InputError),
    ],
    ids=["sound", "video", "picture", "numbers"],
)
def test_only_regular_files_are_opened(
    tmp_path: Path, what: str, read: Callable[[Path], object], error: type[InputError]
) -> None:
    make, message = SPECIAL[what]
    with pytest.raises(error, match=message):
        read(make(tmp_path / "x"))


def test_a_link_to_a_sound_is_a_sound(secret: Path) -> None:
    link = secret.with_name("link.wav")
    link.symlink_to(secret)
    assert open_audio(link).samples == SECRET_SAMPLES


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_files_without_a_size_are_empty() -> None:
    with open_file("/proc/self/status", SOUND) as file:
        assert file.read() == b""


def test_what_is_appended_later_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"12345")
    with open_file(path, SOUND) as file:
        with path.open("ab") as more:
            more.write(b"678")
        assert file.seek(-2, os.SEEK_END) == 3
        assert file.read(100) == b"45"
        assert file.read(100) == b""


@pytest.mark.parametrize("kind", [SOUND, VIDEO, PICTURE, NUMBERS], ids=lambda kind: kind.noun)
def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path, kind: untrusted.Kind) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(kind.max_bytes + 1)  # takes no room on the disk
    with pytest.raises(kind.error, match=f"{kind.max_bytes:,} bytes at most"):
        open_file(path, kind)


def test_numbers_come_from_regular_files_too(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5.0))
    np.testing.assert_array_equal(_numbers(tmp_path / "a.npy", "numbers"), np.arange(5.0))
    data = (tmp_path / "a.npy").read_bytes().replace(b"(5,), ", b"(5" + b"0" * 15 + b",), ", 1)
    (tmp_path / "liar.npy").write_bytes(data[:8] + struct.pack("<H", len(data) - 50) + data[10:])
    with pytest.raises(InputError, match=r"cannot be read as a \.npy file"):
        _numbers(tmp_path / "liar.npy", "numbers")
    with pytest.raises(InputError, match="it is a pipe"):
        _numbers(_pipe(tmp_path / "pipe.npy"), "numbers")


# --- time -----------------------------------------------------------------------------------------------------------


class CountingEvent(threading.Event):
    """Is set once it was asked often enough."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.asked, self.patience = 0, patience

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > self.patience


def test_recognising_a_file_has_a_deadline(tmp_path: Path, secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(untrusted, "PROBE_S", 0.0)
    with pytest.raises(AudioError, match="could not be recognised within 0 s"):
        open_audio(secret)
    with pytest.raises(InputError, match="could not be recognised within 0 s"):
        probe(secret)
    with pytest.raises(PortraitError, match="could not be recognised within 0 s"):
        load_picture(tmp_path / "a.png")


def test_the_deadline_ends_when_the_file_is_recognised(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_media(secret, SOUND) as media:
        monkeypatch.setattr(untrusted.time, "monotonic", lambda: float("inf"))
        stream = media.best("audio")
        assert isinstance(stream, av.AudioStream)
        assert sum(packet.size for packet in media.packets(stream)) == 2 * SECRET_SAMPLES


def test_new_tracks_part_way_are_a_typed_error(secret: Path) -> None:
    class Growing:
        """PyAV where a damaged MPEG-TS has grown; whether it does depends on what is in the memory beside its list."""

        def demux(self, _: object) -> list[object]:
            raise IndexError("list index out of range")

    with open_media(secret, SOUND) as media:
        stream = media.best("audio")
        media.container = Growing()  # type: ignore[assignment]
        with pytest.raises(AudioError, match="new tracks part-way"):
            list(media.packets(stream))  # type: ignore[type-var]


@pytest.mark.parametrize("patience", [0, 1, 2, 3, 5, 8])
def test_a_cancel_is_heard_at_every_moment(secret: Path, patience: int, capfd: pytest.CaptureFixture[str]) -> None:
    cancel = CountingEvent(patience)
    with pytest.raises(Cancelled):
        open_audio(secret, cancel=cancel)
    assert cancel.asked <= patience + 4  # it ended there, and did not read on
    assert capfd.readouterr() == ("", "")
    assert open_audio(secret).samples == SECRET_SAMPLES  # the next call works


def test_ctrl_c_inside_a_read_is_not_lost(secret: Path) -> None:
    class Interrupt(threading.Event):
        def is_set(self) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_audio(secret, cancel=Interrupt())


def test_no_descriptor_stays_open(secret: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    for trap in ("concat script of itself", "playlist, absolute"):
        with pytest.raises(AudioError):
            open_audio(lay(trap, secret))
    sound = open_audio(secret).blocks()
    next(sound)
    sound.close()
    if before is not None:
        assert sorted(os.listdir("/proc/self/fd")) == before
