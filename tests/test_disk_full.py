"""A disk that runs full while training: a real one, of a few megabytes, which only these tests see."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.jobfolder import JobFolder
from lib.trainer import checkpoints
from tests.tiny import ROOT, again, job, losses, start, until

# a namespace of mounts, as root or as a user who may be one there
APART = ["unshare", "--mount"] if os.name == "posix" and os.geteuid() == 0 else ["unshare", "-r", "--mount"]


def can_mount(place: Path) -> bool:
    if sys.platform != "linux" or not shutil.which("unshare"):
        return False
    command = [*APART, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True).returncode == 0


def on_a_small_disk(script: str, place: Path, megabytes: int, *words: str) -> dict[str, Any]:
    """Call a function of this module where `place` is such a disk; return what it prints last."""
    if not can_mount(place):
        pytest.skip("no small disk can be mounted here")
    mounting = f"mount -t tmpfs -o size={megabytes}m tmpfs {place} && exec {sys.executable}"
    run = f"from tests import test_disk_full; test_disk_full.{script}(*__import__('sys').argv[1:])"
    command = [*APART, "sh", "-c", f'{mounting} -c "$0" "$@"', run, str(place), *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout.strip().rpartition("\n")[2])
    return told


def trained(folder: JobFolder) -> tuple[int, str]:
    """Train with the log on the small disk, too."""
    with (folder.path / "log.txt").open("ab") as log:
        ran = subprocess.run(
            [sys.executable, "-u", "-m", "lib.trainer", str(folder.path)], stdout=log, stderr=log, cwd=ROOT
        )
    return ran.returncode, folder.log_tail()


def too_small_for_two_checkpoints(place: str, model: str) -> None:
    """Train where one checkpoint fits and a second does not; then with room."""
    folder = job(Path(place) / "job", Path(model), {"save_every": 1e-9}, epochs=1, method="full")
    room = folder.path / "checkpoints"
    code, said = trained(folder)
    told: dict[str, Any] = {"code": code, "said": said, "result": folder.result()}
    told["left"] = sorted(path.name for path in room.glob("*checkpoint*"))
    told["parts"] = [path.name for path in folder.path.rglob("*") if path.name in ("reserve", ".model.part")]
    whole = checkpoints.newest_whole(room)
    told["whole"] = whole.name if whole else None
    subprocess.run(["mount", "-o", "remount,size=64m", place], check=True)
    again(folder)
    code, said = trained(folder)
    told |= {"code_again": code, "said_again": said, "then": folder.result(), "losses": losses(folder)}
    print(json.dumps(told))


def filled_by_another(place: str, model: str) -> None:
    """Train, and have another program take the disk's last byte meanwhile."""
    folder = job(Path(place) / "job", Path(model), epochs=30)
    process = start("lib.trainer", str(folder.path))
    until(process, "step=5 ")
    try:
        with (Path(place) / "film.mkv").open("wb", buffering=0) as film:
            while film.write(bytes(512)):
                pass
    except OSError:
        pass
    said, _ = process.communicate()
    print(json.dumps({"code": process.returncode, "said": said, "result": folder.result()}))


@pytest.mark.trainer
def test_the_last_whole_checkpoint_outlives_a_full_disk(tmp_path: Path, tiny: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    undisturbed = job(tmp_path / "whole", tiny, epochs=1, method="full")
    assert trained(undisturbed)[0] == 0
    told = on_a_small_disk("too_small_for_two_checkpoints", place, 1, str(tiny))
    assert (told["code"], told["result"]["key"]) == (1, "trainer.disk_full"), told["said"]
    assert told["left"] == [told["whole"]], "what was half-written is gone"
    assert told["parts"] == []
    assert told["result"]["facts"]["path"].startswith(str(place))
    assert told["code_again"] == 0, told["said_again"]
    assert told["then"]["resumed_at"] == int(told["whole"].removeprefix("checkpoint-"))
    assert told["losses"] == json.loads(json.dumps(losses(undisturbed)))


@pytest.mark.trainer
def test_a_disk_without_a_single_byte_left_can_still_say_so(tmp_path: Path, tiny: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    told = on_a_small_disk("filled_by_another", place, 4, str(tiny))
    assert (told["code"], told["result"]["key"]) == (1, "trainer.disk_full"), told["said"]
    assert set(told["result"]["facts"]) == {"path", "free"}
