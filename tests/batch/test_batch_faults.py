"""What may happen to a run: no row is lost, none is made twice, nothing half-written stays.

Every fault comes while a row is in flight; :mod:`tests.batch.faults` says how that is known.
"""

from __future__ import annotations

import os
import pty
import signal
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from emo_rt import Bundle
from emo_rt.batch import Model, run_batch
from emo_rt.files import sha256_of
from tests.batch.conftest import Manifest, events, results, row, write_voice
from tests.batch.faults import Killer, running, seize, started, state, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def endless(inputs: Path) -> str:
    """A voice whose video no test waits for."""
    write_voice(inputs / "endless.wav", 300)
    return "endless.wav"


def model(bundle: Bundle) -> Model:
    return Model(str(bundle.path), device="cpu", threads=1)


def line(bundle: Bundle, path: Path, out: Path, *more: str) -> list[str]:
    return [str(path), "-o", str(out), "--bundle", str(bundle.path), "--device", "cpu", "--threads", "1", *more]


def check_whole(out: Path, expected: dict[str, str]) -> dict[str, dict[str, Any]]:
    """One result per row, each video whole, and no other file."""
    found = results(out)
    assert {name: result["status"] for name, result in found.items()} == expected
    videos = {result["output"]: result["sha256"] for result in found.values() if result["status"] == "ok"}
    assert {f"videos/{path.name}": sha256_of(path) for path in (out / "videos").iterdir()} == videos
    return found


def test_a_worker_is_killed(tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "out"
    rows = [row("a"), row("victim", voice="long.wav"), row("twin", voice="long.wav")]
    with Killer(out, lambda key: key.startswith("victim"), times=1) as killer:
        run_batch(manifest(*rows), out, model=model(tiny_bundle))
    assert killer.killed == 1
    found = check_whole(out, {"a": "ok", "victim": "ok", "twin": "ok"})
    assert {name: result["attempts"] for name, result in found.items()} == {"a": 1, "victim": 2, "twin": 1}
    assert found["victim"]["sha256"] == found["twin"]["sha256"], "the second attempt gives the same video"


@pytest.mark.slow
def test_a_poison_pill(tiny_bundle: Bundle, manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    out, path = tmp_path / "out", manifest(row("pill", voice=endless(inputs)), row("a"), row("b"))
    with Killer(out, lambda key: key.startswith("pill"), times=3) as killer:
        done = run_batch(path, out, model=model(tiny_bundle))
    assert (killer.killed, done.made, done.poisoned) == (3, 2, 1)
    found = check_whole(out, {"pill": "poisoned", "a": "ok", "b": "ok"})
    assert (found["pill"]["attempts"], found["a"]["attempts"]) == (3, 1)
    tries = [event for event in events(out) if event["event"] == "attempt" and event["key"].startswith("pill")]
    assert [attempt["alone"] for attempt in tries] == [False, False, True]
    assert run_batch(path, out, model=model(tiny_bundle)).skipped == 3


def test_the_driver_is_killed_and_started_again(tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path) -> None:
    """Its workers end with it; what was in flight runs alone, and does not count as its fault."""
    out, path = tmp_path / "out", manifest(row("a"), row("victim", voice="long.wav"), row("b"))
    with started(line(tiny_bundle, path, out)) as driver:
        worker = seize(out, lambda key: key.startswith("victim"))
        assert worker is not None
        os.kill(worker, signal.SIGCONT)
        driver.kill()
        driver.wait()
    until(lambda: state(worker) in "ZX")
    assert list(running(out).values()) == [worker], "it was in flight, and nobody has noted an end"
    run_batch(path, out, model=model(tiny_bundle))
    found = check_whole(out, {"a": "ok", "victim": "ok", "b": "ok"})
    assert (found["a"]["attempts"], found["victim"]["attempts"]) == (1, 2)
    lost, attempt = [event for event in events(out) if event["event"] in ("lost", "attempt")][2:4]
    assert (lost["event"], lost["alone"], attempt["alone"], attempt["key"]) == ("lost", False, True, lost["key"])


def test_the_disk_is_full(tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path) -> None:
    """No file may have more than 20 kB (RLIMIT_FSIZE): the run says so and stops. With room it goes on."""
    import resource

    out, path = tmp_path / "out", manifest(row("small"), row("large", voice="long.wav"))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # noqa: E731
    with started(line(tiny_bundle, path, out), preexec_fn=limit) as driver:
        _, said = driver.communicate()
    assert driver.returncode == 1, said
    assert "make room and run the same command again" in said
    check_whole(out, {"small": "ok"})
    assert [event["event"] for event in events(out)][-2:] == ["attempt", "stopped"], "it was in flight"
    assert run_batch(path, out, model=model(tiny_bundle)).skipped == 1
    found = check_whole(out, {"small": "ok", "large": "ok"})
    assert {name: result["attempts"] for name, result in found.items()} == {"small": 1, "large": 2}
    assert (out / found["large"]["output"]).stat().st_size > 20_000


def test_ctrl_c_lets_running_rows_end(tiny_bundle: Bundle, manifest: Manifest, tmp_path: Path) -> None:
    out, path = tmp_path / "out", manifest(row("a", voice="long.wav"), row("b"), row("c"))
    with started(line(tiny_bundle, path, out)) as driver:
        worker = seize(out, lambda key: key.startswith("a"))
        assert worker is not None
        driver.send_signal(signal.SIGINT)
        os.kill(worker, signal.SIGINT)  # a terminal's Ctrl-C reaches the worker, too
        os.kill(worker, signal.SIGCONT)
        said, _ = driver.communicate()
    assert (driver.returncode, "1 made, 2 left" in said) == (130, True)
    assert check_whole(out, {"a": "ok"})["a"]["attempts"] == 1


def test_a_second_ctrl_c_stops_at_once(tiny_bundle: Bundle, manifest: Manifest, inputs: Path, tmp_path: Path) -> None:
    """And the row that was stopped is not suspected of anything."""
    out, path = tmp_path / "out", manifest(row("a", voice=endless(inputs)), row("b"))
    terminal, other = pty.openpty()
    with open(terminal, "rb", buffering=0) as screen, started(line(tiny_bundle, path, out), stderr=other) as driver:
        os.close(other)
        worker = seize(out, lambda key: key.startswith("a"))
        assert worker is not None
        os.kill(worker, signal.SIGCONT)
        driver.send_signal(signal.SIGINT)
        read_until(screen, b"finishing the running rows")
        driver.send_signal(signal.SIGINT)
        read_until(screen, b"stopped; what has ended is in")
        assert driver.wait() == 130
    assert state(worker) in "ZX"
    assert [event["event"] for event in events(out)][-2:] == ["attempt", "stopped"]
    assert (out / "results.jsonl").read_text() == ""
    assert list((out / "videos").iterdir()) == []


def read_until(screen: IO[bytes], text: bytes) -> None:
    """Fails with :class:`OSError` where the writer ends before."""
    seen = b""
    while text not in seen:
        seen += screen.read(1000)
