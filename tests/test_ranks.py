"""Several processes that train one model: they learn what one would, and none is left when one is gone.

On a computer with graphics cards there is one process for each, joined by NCCL; here two share a processor,
joined by gloo. All else is the same code.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from lib.jobfolder import JobFolder
from lib.trainer import ranks
from lib.trainer import settings as trained
from tests.tiny import SETTINGS, again, failed_with, job, losses, start, until, write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ends processes by signal")
SHARED = ("--processes", "2")


def together(folder: JobFolder) -> subprocess.Popen[str]:
    return start("lib.trainer", str(folder.path), *SHARED)


def ended(process: subprocess.Popen[str], code: int) -> str:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    return said


def all_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The leader and its follower."""
    leader = psutil.Process(process.pid)
    found = [leader, *leader.children(recursive=True)]
    assert len(found) == 2
    return found


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=5)[1]


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "most", "processes", "each"),
    [
        (8, 1, 1, 1, (8, 1)),
        (8, 1, 2, 2, (4, 1)),
        (8, 2, 4, 4, (4, 1)),
        (8, 4, 2, 2, (8, 2)),
        (1, 4, 2, 2, (1, 2)),
        (6, 1, 4, 3, (2, 1)),
        (6, 2, 4, 4, (3, 1)),
        (7, 1, 4, 1, (7, 1)),
        (1, 1, 8, 1, (1, 1)),
        (2, 2, 8, 4, (1, 1)),
        (3, 5, 5, 5, (3, 1)),
        (4, 3, 0, 1, (4, 3)),
    ],
)
def test_a_step_is_shared_evenly_or_by_fewer(
    batch_size: int, accumulation: int, most: int, processes: int, each: tuple[int, int]
) -> None:
    settings = trained.read(SETTINGS | {"batch_size": batch_size, "accumulation": accumulation})
    assert settings
    number, mine = ranks.dealt(settings, most)
    assert (number, (mine.batch_size, mine.accumulation)) == (processes, each)
    assert number * mine.batch_size * mine.accumulation == batch_size * accumulation


@pytest.mark.parametrize(("rows", "batch_size", "processes"), [(37, 6, 2), (37, 6, 3), (40, 4, 4), (5, 8, 2)])
def test_every_step_learns_from_the_rows_that_one_process_would(
    rows: int, batch_size: int, processes: int
) -> None:
    from lib.trainer.loop import Piles

    lengths = [8 + 7 * number % 50 for number in range(rows)]
    each = batch_size // processes
    alone = Piles(lengths, batch_size, 3)
    shared = Piles(lengths, batch_size, 3, processes=processes, each=each)
    for epoch in range(3):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        order, dealt = list(alone), list(shared)
        assert len(dealt) == len(shared)
        assert len(dealt) % (each * processes) == 0, "every process has as many rows as any other"
        for at in range(0, len(dealt), batch_size):
            step = [row for row in dealt[at : at + batch_size] if row < rows]
            assert sorted(step) == sorted(order[at : at + batch_size])


@pytest.mark.trainer
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 6},  # 37 rows: in the last step one process gets none
        {"batch_size": 1, "accumulation": 4, "gradient_checkpointing": 2},
        {"batch_size": 4, "method": "full", "learning_rate": 1e-3},
    ],
)
def test_two_processes_learn_what_one_does(settings: dict[str, Any], tmp_path: Path, tiny: Path) -> None:
    folders = []
    for name, words in (("one", ()), ("two", SHARED)):
        folder = job(tmp_path / name, tiny, epochs=2, lora_dropout=0.0, **settings)
        lines = (folder.path / "data" / "train.jsonl").read_text("utf-8").splitlines(keepends=True)
        (folder.path / "data" / "train.jsonl").write_text("".join(lines[:37]), "utf-8")
        ended(start("lib.trainer", str(folder.path), *words), 0)
        folders.append(folder)
    one, two = folders
    assert [row[:2] for row in losses(two)] == [row[:2] for row in losses(one)]
    for (*_, found), (*_, expected) in zip(losses(two), losses(one), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)
    shared, alone = two.result() or {}, one.result() or {}
    assert (shared["processes"], alone["processes"]) == (2, 1)
    for name in ("rows", "tokens", "tokens_learned", "steps", "kept_step", "best_step", "parameters_trained"):
        assert shared[name] == alone[name], name


@pytest.mark.trainer
def test_killed_and_stopped_they_learn_the_same_and_leave_nobody(tmp_path: Path, tiny: Path) -> None:
    plan: dict[str, Any] = {"epochs": 3, "batch_size": 2, "accumulation": 2}  # 10 steps an epoch, dropout
    undisturbed = job(tmp_path / "whole", tiny, **plan)
    ended(together(undisturbed), 0)
    folder = job(tmp_path / "job", tiny, {"save_every": 1e-9}, **plan)

    process = together(folder)
    until(process, "step=3 ")
    team = all_of(process)
    listening = [each.laddr.ip for one in team for each in one.net_connections() if each.status == "LISTEN"]
    assert set(listening) == {"127.0.0.1"}, "nobody else can reach them"
    process.kill()
    ended(process, -signal.SIGKILL)
    assert gone(team)

    process = together(folder)
    until(process, "step=12 ")
    team = all_of(process)
    team[1].kill()
    said = ended(process, -signal.SIGKILL)
    assert f"process {team[1].pid}" in said
    assert folder.result() is None, "a run that died goes on, it has not failed"
    assert gone(team)

    for step, stop in ((17, folder.want_stop), (24, None)):
        process = together(folder)
        until(process, f"step={step} ")
        team = all_of(process)
        if stop:
            stop()
        else:
            for one in team:  # as the runner and a terminal do
                one.send_signal(signal.SIGTERM)
        ended(process, 0)
        assert (folder.result() or {})["state"] == "stopped"
        assert (folder.path / "adapter" / "adapter_model.safetensors").exists()
        assert gone(team)
        again(folder)

    ended(together(folder), 0)
    assert losses(folder) == losses(undisturbed)


@pytest.mark.trainer
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path, tiny: Path) -> None:
    plan: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lora_dropout": 0.0}
    undisturbed = job(tmp_path / "whole", tiny, **plan)
    ended(start("lib.trainer", str(undisturbed.path)), 0)
    folder = job(tmp_path / "job", tiny, **plan)
    process = together(folder)
    until(process, "step=13 ")
    folder.want_stop()
    ended(process, 0)
    again(folder)
    ended(start("lib.trainer", str(folder.path)), 0)
    assert (folder.result() or {})["resumed_at"] >= 13
    assert [row[:2] for row in losses(folder)] == [row[:2] for row in losses(undisturbed)]
    for (*_, found), (*_, expected) in zip(losses(folder), losses(undisturbed), strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.trainer
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory from outside")
def test_what_a_follower_fails_for_is_what_the_run_fails_for(tmp_path: Path, tiny: Path) -> None:
    folder = job(tmp_path / "job", tiny, epochs=30, batch_size=640, max_length=256)
    rows = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": "tea " * 120}]] * 640
    write(folder.path / "data" / "train.jsonl", rows)
    process = together(folder)
    until(process, "step=1 ")
    team = all_of(process)
    team[1].rlimit(psutil.RLIMIT_AS, (1 << 30, 1 << 30))
    ended(process, 1)
    key, facts = failed_with(folder)
    assert (key, facts["change"]) == ("trainer.out_of_memory", "batch_size=320, accumulation=2")
    assert gone(team)


HANGING = """
import subprocess, sys, time
from pathlib import Path
from lib.jobfolder import JobFolder
from lib.trainer import ranks

ranks.HANGING = 0.2
ranks._start = lambda folder, rank, model: subprocess.Popen(
    [sys.executable, "-c", sys.argv[2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
)
with ranks.led(JobFolder(Path(sys.argv[1])), 2, None):
    time.sleep(60)
"""


def test_a_leader_that_hangs_is_ended_for_what_its_follower_said(tmp_path: Path) -> None:
    """With NCCL a process waits for one that has gone without being told; here the leader just waits."""
    folder = JobFolder.create(tmp_path / "job", {})

    def code(follower: str) -> int:
        command = [sys.executable, "-c", HANGING, str(folder.path), follower]
        return subprocess.run(command, timeout=30, check=False).returncode

    said = json.dumps({"key": "trainer.no_end_token", "facts": {"folder": "there"}})
    assert code(f"print({said!r})") == 1
    assert failed_with(folder) == ("trainer.no_end_token", {"folder": "there"})
    again(folder)
    assert code("import os; os._exit(9)") == -signal.SIGKILL
    assert folder.result() is None
