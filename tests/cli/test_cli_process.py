"""`emo-rt` as a process: signals, pipes, encodings, what it imports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from emo_rt import Bundle
from emo_rt.cli import animate as animate_command
from emo_rt.cli import demo, main, terminal
from emo_rt.media import audio
from emo_rt.media.video_file import probe
from tests.cli.commands import WITH_SIGINT, Animate, command


class TestProcess:
    def test_video_to_standard_output(self, animate: Animate, tmp_path: Path) -> None:
        done = subprocess.run(command(*animate("-o", "-")), capture_output=True, check=True)
        (tmp_path / "piped.mp4").write_bytes(done.stdout)
        assert probe(tmp_path / "piped.mp4").frames == 10
        assert b"standard output: 10 frames" in done.stderr

    def test_reader_that_went_away(self, tiny_bundle: Bundle) -> None:
        with subprocess.Popen(
            command("info", str(tiny_bundle.path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait() == 1

    def test_imports_no_backend(self) -> None:
        code = (
            "import sys; from emo_rt.cli import main; main(['animate', '--help']); "
            "sys.exit(str({'torch', 'onnxruntime', 'tensorrt', 'cv2'} & set(sys.modules) or ''))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr.strip() == ""

    def test_narrow_encoding(self) -> None:
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(command("animate", "--help"), capture_output=True, text=True, env=environment, check=True)
        assert "0 ? 50" in done.stdout

    def test_entry_point(self) -> None:
        program = Path(sys.executable).parent / "emo-rt"
        if not program.exists():
            pytest.skip("emo_rt is not installed beside this Python")
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("emo-rt ")


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_leaves_nothing_behind(self, animate: Animate, tmp_path: Path, number: signal.Signals) -> None:
        folder = tmp_path / "out"
        folder.mkdir()
        arguments = [*animate("-o", folder / "out.mp4", "--frames-dir", folder / "frames"), "--steps", "500"]
        with subprocess.Popen(
            [sys.executable, "-c", WITH_SIGINT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            wait_until(lambda: len(list(folder.iterdir())) == 2 or process.poll() is not None)
            time.sleep(0.2)
            process.send_signal(number)
            out, errors = process.communicate(timeout=60)
        assert process.returncode == 130
        assert list(folder.iterdir()) == []
        assert out == ""
        assert errors.splitlines()[-1] == "stopped; no output was written"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_is_heard_while_the_sound_is_measured(
        self, animate: Animate, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        measured: list[str] = []

        def check_level(*_: object) -> None:
            measured.append("a block")
            if len(measured) == 3:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(audio, "check_level", check_level)
        (tmp_path / "out").mkdir()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background, ignored
        try:
            assert main(animate("-o", tmp_path / "out" / "a.mp4", audio=demo.DEMO_VOICE)) == 130
        finally:
            signal.signal(signal.SIGINT, before)
        assert capsys.readouterr() == ("", "stopped; no output was written\n")
        assert len(measured) == 3  # of many
        assert list((tmp_path / "out").iterdir()) == []

    def test_second_signal_interrupts(self) -> None:
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with terminal.stop_event() as stop:
                os.kill(os.getpid(), signal.SIGINT)
                assert stop.wait(5)
                with pytest.raises(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        finally:
            signal.signal(signal.SIGINT, before)

    def test_interrupt_outside_a_run(
        self, animate: Animate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def interrupted(_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(animate_command, "run", interrupted)
        assert main(animate("-o", "a.mp4")) == 130
        assert capsys.readouterr().err == "stopped; no output was written\n"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
