"""Children end with their parent, also where it was gone before they asked."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from multiprocessing.connection import Connection

import pytest

from emo_rt.processes import ORPHANED, kill_with_parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")

SPAWN = multiprocessing.get_context("spawn")


@pytest.mark.parametrize(("parent", "code"), [(os.getpid, 0), (lambda: os.getpid() + 1, ORPHANED)])
def test_a_program_knows_whether_who_started_it_is_still_its_parent(parent, code):  # type: ignore[no-untyped-def]
    program = f"from emo_rt.processes import kill_with_parent; kill_with_parent({parent()})"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == code


def _late(ready: Connection) -> None:
    """A child that asks only when its parent is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    kill_with_parent()
    ready.send("still there")


def _short_lived(ready: Connection) -> None:
    SPAWN.Process(target=_late, args=(ready,)).start()
    os._exit(0)


def test_a_child_whose_parent_ended_before_it_asked_ends() -> None:
    ours, theirs = SPAWN.Pipe(duplex=False)
    starter = SPAWN.Process(target=_short_lived, args=(theirs,))
    starter.start()
    theirs.close()
    starter.join()
    with pytest.raises(EOFError):  # the last who could have sent something is gone
        ours.recv()


def _patient(ready: Connection) -> None:
    kill_with_parent()
    ready.send(os.getpid())
    time.sleep(60)


def test_a_child_whose_parent_lives_goes_on_until_it_is_ended() -> None:
    ours, theirs = SPAWN.Pipe(duplex=False)
    child = SPAWN.Process(target=_patient, args=(theirs,))
    child.start()
    try:
        assert ours.recv() == child.pid
        assert child.is_alive()
    finally:
        child.kill()
        child.join()
