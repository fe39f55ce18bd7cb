"""The job list survives whatever dies, in any order: every process here is real, and killed for real."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import psutil
import pytest

from lib import joblist, jobs
from lib.errors import AppError, JobError, UsageError
from lib.jobfolder import JobFolder, identity
from lib.jobs import Job
from lib.workspace import room, root
from tests.processes import gone, reaches, settled, until

Play = Callable[[], jobs._Runner]
ROOT = Path(__file__).resolve().parent.parent

# A job's process whose every move the test decides: it goes on when `go` appears in its folder.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from lib.errors import ModelError, WorkspaceError
from lib.jobfolder import JobFolder, identity

folder = JobFolder(Path(sys.argv[-1]))
does = folder.asked()["does"]
if does == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if does == "tidy":
    signal.signal(signal.SIGTERM, lambda *_: folder.halt(saved=True) or sys.exit())
try:
    with folder.working():
        with (folder.path / "starts").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        if does == "fail":
            folder.fail(ModelError("trainer.no_rows", file="train.jsonl"))
        elif does == "exit":
            sys.exit(3)
        elif does in ("die", "crawl"):
            step = folder.status().get("step", 0) + (does == "crawl")
            folder.report("training", step=step)
            if step > 5:
                folder.finish()
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            while not (folder.path / "go").exists():
                if folder.stop_wanted() and does == "wait":
                    folder.halt(polite=True)
                    sys.exit()
                time.sleep(0.02)
            try:
                folder.finish(said="hello")
            except WorkspaceError as error:
                folder.fail(error)
            if does == "linger":
                time.sleep(60)
except ModelError:
    sys.exit(1)
except Exception as error:
    sys.exit(75 if getattr(error, "key", "") == "job.busy" else 1)
"""


@pytest.fixture(autouse=True)
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of job that run SCRIPT, in one lane, and one in a lane of its own."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    for name, lane in (("one", "a"), ("other", "a"), ("apart", "b")):
        monkeypatch.setitem(jobs.KINDS, name, jobs.Kind(lane, grace=0.5, command=(str(script),)))


@pytest.fixture
def play() -> Iterator[Play]:
    """Be the runner in name, so that nobody starts one, and play it: each one made knows only the disk."""
    folder = JobFolder(root() / "runner")
    folder.path.mkdir(parents=True)
    played: list[jobs._Runner] = []

    def another() -> jobs._Runner:
        played.append(jobs._Runner())
        return played[-1]

    with folder.working():
        yield another
        (folder.path / "process.json").unlink(missing_ok=True)
    for kid in [kid for one in played for kid in one.kids.values()]:
        kid.kill()
        kid.wait(10)


def at_work(job: Job, after: int = 0) -> psutil.Process:
    """Return the process of a job once it has said that it is there; `after`: not this one."""

    def look() -> psutil.Process | None:
        process = job.folder.process()
        return process if process and process.pid != after and starts(job) else None

    return until(look)


def runner() -> psutil.Process:
    return until(lambda: JobFolder(root() / "runner").process())


def starts(job: Job) -> int:
    path = job.folder.path / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


def go(job: Job) -> None:
    (job.folder.path / "go").touch()


def states(job: Job) -> list[tuple[str, str]]:
    return [(event.state, event.note) for event in jobs.events(job.id)]


def test_a_job_runs_to_its_end_and_tells_since_when() -> None:
    before = time.time()
    job = jobs.submit("one", "Tea \u8336", {"does": "wait", "answer": 42})
    assert (job.state, job.kind, job.name, job.backend, job.attempt) == (
        "queued",
        "one",
        "Tea \u8336",
        "local",
        0,
    )
    asked = {"does": "wait", "answer": 42, "kind": "one", "name": "Tea \u8336", "backend": "local"}
    assert job.folder.asked() == asked
    at_work(job)
    running = jobs.get(job.id)
    assert running.state == "running" and running.started and running.ended is None
    go(job)
    reaches(job, "done")
    settled(job)
    done = jobs.get(job.id)
    assert (done.folder.result() or {})["said"] == "hello"
    assert done.started and done.ended and before <= done.created <= done.started <= done.ended
    assert states(job) == [("queued", ""), ("running", ""), ("done", "")]
    assert jobs.wait(job.id).ended == done.ended


def test_submit_to_running_is_quick() -> None:
    begun = time.monotonic()
    reaches(jobs.submit("one", "quick", {"does": "wait"}), "running")
    assert time.monotonic() - begun < 3  # 0.2 to 0.5 s where nothing else runs


def test_the_process_finds_lib_and_waits_passively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "env.py"
    script.write_text(
        "import os, sys, pathlib, lib.jobfolder as j\n"
        "f = j.JobFolder(pathlib.Path(sys.argv[-1]))\n"
        "print('printed', flush=True); print('and complained', file=sys.stderr)\n"
        "f.finish(env={n: os.environ.get(n) for n in ('OMP_WAIT_POLICY', 'PYTHONUTF8', 'FIRSTTUNE_HOME')},"
        " stdin=sys.stdin.read())\n"
    )
    monkeypatch.setitem(jobs.KINDS, "env", jobs.Kind("a", 1, (str(script),)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTTUNE_HOME", "relative place")
    job = jobs.wait(jobs.submit("env", "env", {}).id)
    result = job.folder.result() or {}
    assert result["env"] == {
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUTF8": "1",
        "FIRSTTUNE_HOME": str(tmp_path / "relative place"),
    }
    assert result["stdin"] == ""
    assert "printed\nand complained" in job.folder.log_tail()


def test_a_lane_runs_one_job_oldest_first_and_lanes_run_side_by_side() -> None:
    first, second, third = (jobs.submit(kind, kind, {"does": "wait"}) for kind in ("one", "other", "one"))
    apart = jobs.submit("apart", "apart", {"does": "wait"})
    at_work(first)
    at_work(apart)
    assert [jobs.get(job.id).state for job in (second, third)] == ["queued", "queued"]
    go(first)
    at_work(second)
    assert jobs.get(third.id).state == "queued" and starts(third) == 0
    assert [job.id for job in jobs.listing()] == [apart.id, third.id, second.id, first.id]
    assert [job.id for job in jobs.listing("other")] == [second.id]


def test_the_app_dies_and_the_queue_goes_on_to_its_end(tmp_path: Path) -> None:
    code = (
        "import sys, time; from lib import jobs\n"
        f"jobs.KINDS['one'] = jobs.Kind('a', 1, ({str(tmp_path / 'script.py')!r},))\n"
        "for name in ('orphan', 'next'):\n"
        "    print(jobs.submit('one', name, {'does': 'wait'}).id, flush=True)\n"
        "time.sleep(60)\n"
    )
    app = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert app.stdout
    job, following = (JobFolder(room("jobs") / app.stdout.readline().strip()) for _ in range(2))
    until(lambda: (job.path / "starts").exists())
    app.kill()
    app.wait()
    app.stdout.close()
    (job.path / "go").touch()
    until(job.result)
    # nobody looks, and still the list learns of it
    until(lambda: jobs.events(job.path.name)[-1].state == "done")
    until(lambda: (following.path / "starts").exists())  # and the queue goes on
    (following.path / "go").touch()
    until(lambda: jobs.events(following.path.name)[-1].state == "done")


def test_a_killed_job_goes_on_as_a_second_attempt() -> None:
    job = jobs.submit("one", "killed", {"does": "wait"})
    first = at_work(job)
    first.kill()
    at_work(job, after=first.pid)
    go(job)
    assert reaches(job, "done").attempt == 2
    assert starts(job) == 2
    settled(job)
    assert states(job) == [("queued", ""), ("running", ""), ("queued", "died"), ("running", ""), ("done", "")]


def test_a_killed_runner_is_replaced_and_the_job_adopted_not_started_twice() -> None:
    job = jobs.submit("one", "adopted", {"does": "wait"})
    process, before = at_work(job), runner()
    before.kill()
    until(lambda: JobFolder(root() / "runner").process() is None)
    assert jobs.get(job.id).state == "running"  # and looking has started a runner
    assert runner().pid != before.pid
    assert at_work(job) == process
    go(job)
    assert reaches(job, "done").attempt == 1
    assert starts(job) == 1


def test_an_end_that_came_while_no_runner_lived_comes_into_the_list() -> None:
    job = jobs.submit("one", "alone", {"does": "wait"})
    process = at_work(job)
    runner().kill()
    until(lambda: JobFolder(root() / "runner").process() is None)
    go(job)
    until(lambda: gone(process))
    assert jobs.events(job.id)[-1].state == "running"
    assert jobs.get(job.id).state == "done"  # as its folder says; and looking has started a runner
    settled(job)


def test_a_job_that_a_shutdown_stopped_goes_on() -> None:
    job = jobs.submit("one", "tidy", {"does": "tidy"})
    first = at_work(job)
    first.terminate()  # as the system does to everyone; it saves and says that it stopped
    at_work(job, after=first.pid)
    assert jobs.get(job.id).state == "running" and job.folder.result() is None
    go(job)
    assert reaches(job, "done").attempt == 2


def test_an_adopted_job_that_dies_goes_on() -> None:
    job = jobs.submit("one", "adopted", {"does": "wait"})
    process = at_work(job)
    runner().kill()
    until(lambda: JobFolder(root() / "runner").process() is None)
    jobs.listing()
    runner()
    process.kill()
    at_work(job, after=process.pid)
    go(job)
    assert reaches(job, "done").attempt == 2


def test_runner_and_job_killed_together_lose_nothing() -> None:
    job = jobs.submit("one", "both", {"does": "wait"})
    waiting = jobs.submit("one", "waiting", {"does": "wait"})
    process = at_work(job)
    for each in (runner(), process):
        each.kill()
    until(lambda: job.folder.process() is None)
    jobs.listing()
    at_work(job, after=process.pid)
    go(job)
    go(waiting)
    assert reaches(job, "done").attempt == 2
    assert reaches(waiting, "done").attempt == 1


def test_three_starts_are_one_runner(play: Play) -> None:
    folder = JobFolder(root() / "runner")
    (folder.path / "process.json").unlink()
    command = [sys.executable, "-m", "lib.jobs", "--idle", "0"]
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == 0  # the lock is held: it left at once
    assert not (folder.path / "process.json").exists()


def test_of_three_runners_started_at_once_one_stays(workspace: Path) -> None:
    command = [sys.executable, "-m", "lib.jobs", "--idle", "60"]
    three = [subprocess.Popen(command, cwd=ROOT) for _ in range(3)]
    until(lambda: [process.poll() for process in three].count(0) == 2)
    (left,) = [process for process in three if process.poll() is None]
    assert runner().pid == left.pid
    left.kill()
    left.wait()


def test_an_idle_runner_leaves_and_the_next_job_starts_another() -> None:
    command = [sys.executable, "-m", "lib.jobs", "--idle", "0.3"]
    assert subprocess.run(command, cwd=ROOT, timeout=30).returncode == 0
    assert JobFolder(root() / "runner").process() is None
    job = jobs.submit("one", "next", {"does": "wait"})
    go(job)
    reaches(job, "done")


def test_a_waiting_job_is_stopped_at_once() -> None:
    first = jobs.submit("one", "first", {"does": "wait"})
    waiting = jobs.submit("one", "waiting", {"does": "wait"})
    at_work(first)
    assert jobs.stop(waiting.id).state == "stopped"
    assert waiting.folder.result() == {"state": "stopped"}
    go(first)
    reaches(first, "done")
    assert starts(waiting) == 0


def test_a_polite_job_stops_itself() -> None:
    job = jobs.submit("one", "polite", {"does": "wait"})
    at_work(job)
    jobs.stop(job.id)
    assert (reaches(job, "stopped").folder.result() or {})["polite"] is True
    settled(job)
    assert jobs.stop(job.id).state == "stopped"  # twice does no harm


def test_a_deaf_job_is_ended_by_signal() -> None:
    job = jobs.submit("one", "deaf", {"does": "deaf"})
    process = at_work(job)
    jobs.stop(job.id)
    reaches(job, "stopped")
    assert gone(process)
    assert job.folder.result() == {"state": "stopped"}
    assert starts(job) == 1


def test_a_stubborn_job_is_killed_with_all_it_started(monkeypatch: pytest.MonkeyPatch, play: Play) -> None:
    monkeypatch.setattr(jobs, "KILL", 0.3)
    job = jobs.submit("one", "stubborn", {"does": "stubborn"})
    mine = play()
    until(lambda: mine.look() and starts(job))
    process = at_work(job)
    jobs.stop(job.id)
    until(lambda: not mine.look())
    assert jobs.get(job.id).state == "stopped"
    assert gone(process)


def test_stop_works_when_the_runner_is_dead() -> None:
    job = jobs.submit("one", "deaf", {"does": "deaf"})
    process = at_work(job)
    runner().kill()
    until(lambda: JobFolder(root() / "runner").process() is None)
    jobs.stop(job.id)
    reaches(job, "stopped")
    assert gone(process)


def test_what_was_made_of_a_job_goes_with_it(workspace: Path) -> None:
    job, other = (jobs.keep(name, {}, backend="siliconflow") for name in ("tuned", "other"))
    scored = jobs.submit("one", "scored", {"does": "wait", "of": job.id})
    go(scored)
    settled(reaches(scored, "done"))
    (scored.folder.path / "answers").write_bytes(b"a" * 9000)
    merging = jobs.submit("one", "merging", {"does": "wait", "of": job.id})
    process = at_work(merging)
    mine = jobs.submit("apart", "mine", {"does": "wait", "of": other.id})
    home = room("exports") / job.id
    home.mkdir()
    assert [one.id for one in jobs.belonging(job)] == [merging.id, scored.id]
    assert [one.id for one in jobs.belonging(job, "apart")] == []
    assert jobs.weight(job) > joblist.weight(job) + 9000
    assert jobs.delete(job.id) > 9000
    assert gone(process)
    assert {one.id for one in jobs.listing()} == {other.id, mine.id}
    assert {path.name for path in room("jobs").iterdir()} == {other.id, mine.id}
    assert home.is_dir()  # taken home is taken home
    jobs.stop(mine.id)


def test_of_a_job_that_runs_nothing_is_deleted(play: Play) -> None:
    job = jobs.submit("one", "tuned", {"does": "wait"})
    scored = jobs.submit("apart", "scored", {"does": "wait", "of": job.id})
    mine = play()
    until(lambda: mine.look() and starts(job) and starts(scored))
    with pytest.raises(JobError) as refused:
        jobs.delete(job.id)
    assert refused.value.key == "job.still_running"
    assert jobs.get(scored.id).state == "running"


def test_a_job_that_says_why_it_failed_fails_once() -> None:
    job = jobs.submit("one", "fails", {"does": "fail"})
    failed = reaches(job, "failed")
    assert failed.error == {"key": "trainer.no_rows", "facts": {"file": "train.jsonl"}}
    settled(job)
    assert (jobs.get(job.id).error, jobs.get(job.id).attempt, starts(job)) == (failed.error, 1, 1)


def test_a_job_that_exits_without_a_word_fails_once() -> None:
    job = reaches(jobs.submit("one", "exits", {"does": "exit"}), "failed")
    assert job.error == {"key": "job.exited", "facts": {"code": 3}}
    assert job.folder.result() == {"state": "failed"} | job.error
    assert starts(job) == 1


def test_a_poison_job_gives_up_after_three() -> None:
    job = jobs.submit("one", "poison", {"does": "die"})
    failed = reaches(job, "failed", 30)
    assert failed.error == {"key": "job.died", "facts": {"attempts": 3}}
    assert starts(job) == 3
    next_one = jobs.submit("one", "next", {"does": "fail"})
    reaches(next_one, "failed")


def test_a_job_that_gets_further_each_time_is_not_given_up() -> None:
    job = reaches(jobs.submit("one", "crawls", {"does": "crawl"}), "done", 30)
    assert starts(job) == 6
    assert job.attempt == 6


def test_a_job_with_a_result_that_will_not_leave_is_ended(
    monkeypatch: pytest.MonkeyPatch, play: Play
) -> None:
    monkeypatch.setattr(jobs, "LEAVING", 0.3)
    job = jobs.submit("one", "lingers", {"does": "linger"})
    go(job)
    mine = play()
    until(lambda: mine.look() and job.folder.result())
    process = at_work(job)
    assert jobs.get(job.id).state == "done"
    assert states(job)[-1] == ("running", "")  # its lane is not free before it has left
    until(lambda: not mine.look())
    assert states(job)[-1] == ("done", "")
    assert gone(process)


def test_a_stopped_or_failed_job_can_be_queued_again() -> None:
    job = jobs.submit("one", "again", {"does": "wait"})
    at_work(job)
    with pytest.raises(JobError) as refused:
        jobs.resume(job.id)
    assert refused.value.key == "job.cannot_resume"
    jobs.stop(job.id)
    reaches(job, "stopped")
    settled(job)
    jobs.resume(job.id)
    go(job)
    assert reaches(job, "done").attempt == 1
    settled(job)
    assert states(job)[2:] == [("stopped", ""), ("queued", "again"), ("running", ""), ("done", "")]


def test_a_claim_whose_runner_died_before_starting_is_started_later(
    monkeypatch: pytest.MonkeyPatch, play: Play
) -> None:
    job = jobs.submit("one", "gap", {"does": "wait"})
    assert play().claim("a") is not None  # and this runner is no more
    mine = play()
    mine.look()
    assert jobs.get(job.id).state == "running" and starts(job) == 0  # a process might still be on its way
    monkeypatch.setattr(jobs, "STARTING", 0)
    until(lambda: mine.look() and starts(job))
    go(job)
    until(lambda: not mine.look())
    assert jobs.get(job.id).attempt == 2 and starts(job) == 1


def test_a_process_nobody_had_heard_of_is_not_joined_by_a_second(
    monkeypatch: pytest.MonkeyPatch, play: Play
) -> None:
    job = jobs.submit("one", "late", {"does": "wait"})
    earlier = play()
    until(lambda: earlier.look() and starts(job))
    process = at_work(job)
    (job.folder.path / "process.json").unlink()  # as if it had the lock, and had not yet come to writing this
    monkeypatch.setattr(jobs, "STARTING", 0)
    mine = play()
    mine.look()
    mine.look()
    assert starts(job) == 1 and process.is_running()


def test_a_clock_set_right_does_not_make_a_job_lost(play: Play) -> None:
    job = jobs.submit("one", "clock", {"does": "wait"})
    earlier = play()
    until(lambda: earlier.look() and starts(job))
    at_work(job)
    known = orjson.loads((job.folder.path / "process.json").read_bytes())
    (job.folder.path / "process.json").write_bytes(orjson.dumps(known | {"started": known["started"] - 3600}))
    assert job.folder.process() is None
    mine = play()
    mine.look()
    mine.look()
    assert jobs.get(job.id).attempt == 1 and starts(job) == 1
    go(job)
    until(lambda: not mine.look())
    assert jobs.get(job.id).state == "done"


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="only Linux counts from the computer's start"
)
@pytest.mark.parametrize("jump", [-7200.0, -1.0, 7200.0])
def test_a_clock_that_jumps_shifts_nobodys_identity(
    jump: float, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = jobs.submit("one", "clock", {"does": "wait"})
    mine = play()
    until(lambda: mine.look() and starts(job))
    process, began = at_work(job), psutil._pslinux.boot_time()
    with sqlite3.connect(root() / "jobs.db") as db:  # the list wrote its times before the jump
        db.execute("update job set started = started - ? where id = ?", (jump, job.id))
    db.close()
    monkeypatch.setattr(psutil._pslinux, "boot_time", lambda: began + jump)  # what a new clock does to psutil
    assert psutil.boot_time() == began + jump
    assert job.folder.process() == process
    other = play()
    for runner_like in (mine, other):
        runner_like.look()
    assert jobs.get(job.id).attempt == 1 and starts(job) == 1
    go(job)
    until(lambda: not other.look())
    assert jobs.get(job.id).state == "done"


def test_after_a_restart_of_the_computer_the_job_goes_on(play: Play) -> None:
    job = jobs.submit("one", "reboot", {"does": "wait"})
    mine = play()
    until(lambda: mine.look() and starts(job))
    at_work(job).kill()
    until(lambda: job.folder.process() is None)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    same = identity(psutil.Process(stranger.pid))  # the same id at the same time, after another start
    (job.folder.path / "process.json").write_bytes(orjson.dumps(same))
    assert job.folder.process() == psutil.Process(stranger.pid)
    (job.folder.path / "process.json").write_bytes(orjson.dumps(same | {"boot": "the one before"}))
    fresh = play()
    until(lambda: fresh.look() and starts(job) == 2)
    go(job)
    until(lambda: not fresh.look())
    assert (jobs.get(job.id).state, jobs.get(job.id).attempt) == ("done", 2)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_reused_process_id_is_not_taken_for_the_job(play: Play) -> None:
    job = jobs.submit("one", "reused", {"does": "wait"})
    mine = play()
    until(lambda: mine.look() and starts(job))
    at_work(job).kill()
    until(lambda: job.folder.process() is None)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    claim = {"pid": stranger.pid, "started": time.time() - 1000}
    (job.folder.path / "process.json").write_bytes(orjson.dumps(claim))
    jobs.stop(job.id)
    fresh = play()
    until(lambda: not fresh.look())
    assert jobs.get(job.id).state == "stopped"
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


@pytest.mark.parametrize("harm", ["half", "gone", "empty"])
@pytest.mark.parametrize("state", ["queued", "running", "done"])
def test_a_broken_folder_is_a_failed_job(harm: str, state: str, play: Play) -> None:
    job = jobs.submit("one", "broken", {"does": "wait"})
    mine = play()
    if state != "queued":
        until(lambda: mine.look() and starts(job))
    if state == "done":
        go(job)
        until(lambda: not mine.look())
    if harm == "gone":
        process = job.folder.process()
        job.folder.path.rename(job.folder.path.with_name("elsewhere"))
    else:
        process = None
        (job.folder.path / "job.json").write_bytes(b'{"does": "wa' if harm == "half" else b"")
    (shown,) = jobs.listing()
    assert (shown.state, (shown.error or {})["key"]) == ("failed", "job.folder_broken")
    assert (jobs.get(job.id).state, jobs.get(job.id).error) == (shown.state, shown.error)
    if state == "running" and process is None:
        jobs.stop(job.id)
    until(lambda: not mine.look())
    assert process is None or gone(process)
    assert jobs.stop(job.id).state == "failed"


def test_a_deleted_list_is_begun_anew_and_a_foreign_file_is_said(workspace: Path) -> None:
    jobs.keep("kept", {}, backend="siliconflow")
    for path in workspace.glob("jobs.db*"):
        path.unlink()
    assert jobs.listing() == []
    (workspace / "jobs.db").write_bytes(b"this is no database, it only has the name of one" * 100)
    for path in (workspace / "jobs.db-wal", workspace / "jobs.db-shm"):
        path.unlink(missing_ok=True)
    with pytest.raises(AppError) as told:
        jobs.listing()
    assert told.value.key == "job.list_broken"


# What happens on a disk of one megabyte that runs full; told as one JSON value.
FULL = """
import json, os, sys, time
from pathlib import Path
from lib import joblist, jobs
from lib.errors import AppError
from lib.jobfolder import JobFolder

home = Path(os.environ["FIRSTTUNE_HOME"])
jobs.KINDS["one"] = jobs.Kind("a", 0.5, (sys.argv[1],))
jobs.TROUBLE = 0.1

def fill():
    for size in (1 << 16, 1 << 12, 1):
        try:
            with (home / f"fill{size}").open("ab", buffering=0) as file:
                while True:
                    file.write(b"x" * size)
        except OSError:
            pass

def said(act, *args):
    try:
        return act(*args) and "worked"
    except AppError as error:
        return error.key

def until(look):
    deadline = time.monotonic() + 30
    while not look():
        if time.monotonic() > deadline:
            sys.exit("waited in vain: " + repr([(job.name, job.state, job.error) for job in jobs.listing()]))
        time.sleep(0.05)

told = {}
kept = jobs.keep("kept", {}, backend="siliconflow")  # and SQLite keeps nothing open beside the list
(kept.folder.path / "weights").write_bytes(b"w" * 100_000)
fill()
told["read"] = said(jobs.listing)
told["entered"] = said(jobs.submit, "one", "no", {})
told["renamed"] = said(joblist.rename, kept.id, "other")
told["lying"] = len(list((home / "jobs").iterdir()))
told["deleted"] = said(jobs.delete, kept.id)
told["left"] = [job.name for job in jobs.listing()]
for path in home.glob("fill*"):
    path.unlink()
first, second = (jobs.submit("one", name, {"does": "wait"}) for name in ("first", "second"))
until(lambda: (first.folder.path / "starts").exists())
fill()
for job in (first, second):
    (job.folder.path / "go").touch()  # needs no room
until(lambda: first.folder.process() is None)  # it could not say that it was done
time.sleep(1)
told["meanwhile"] = {job.name: [job.state, (job.error or {}).get("key")] for job in jobs.listing()}
for path in home.glob("fill*"):
    path.unlink()
until(lambda: all(job.state in jobs.ENDED for job in jobs.listing()))
told["then"] = {job.name: [job.state, (job.error or {}).get("key")] for job in jobs.listing()}
print(json.dumps(told))
"""


def own_disk(place: Path) -> list[str]:
    """Return what starts a command with a disk of one megabyte of its own in a folder."""
    mount = f"mount -t tmpfs -o size=1m tmpfs {shlex.quote(str(place))}"
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if shutil.which("unshare") is None or subprocess.run([*own_disk(disk), "true"]).returncode:
        pytest.skip("this system gives a test no disk of its own to fill")
    command = [sys.executable, "-c", FULL, str(tmp_path / "script.py")]
    env = os.environ | {"FIRSTTUNE_HOME": str(disk), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*own_disk(disk), *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert orjson.loads(done.stdout.splitlines()[-1]) == {
        "read": "worked",
        "entered": "workspace.disk_full",
        "renamed": "workspace.disk_full",
        "lying": 1,
        "deleted": "worked",  # it is what helps
        "left": [],
        "meanwhile": {"first": ["failed", "workspace.disk_full"], "second": ["queued", None]},
        "then": {"first": ["failed", "workspace.disk_full"], "second": ["done", None]},
    }


def test_half_written_files_of_the_dead_go_and_those_of_the_living_stay(workspace: Path) -> None:
    gone_by = subprocess.Popen([sys.executable, "-c", ""])
    gone_by.wait()
    (room("exports") / f".tea.zip.{gone_by.pid}.abcdef.part").touch()
    (root() / f".visit.json.{gone_by.pid}.abcdef.part").touch()
    (room("exports") / f".tea.zip.{os.getpid()}.abcdef.part").touch()
    (room("exports") / "tea.part").touch()  # somebody's own
    jobs.run(idle=0)
    assert sorted(path.name for path in workspace.rglob("*.part")) == [
        f".tea.zip.{os.getpid()}.abcdef.part",
        "tea.part",
    ]


def test_many_at_once_enter_the_list(tmp_path: Path) -> None:
    code = "from lib import jobs\nfor n in range(10): jobs.keep(f'job {n}', {}, backend='siliconflow')\n"
    five = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(5)]
    assert [process.wait(60) for process in five] == [0] * 5
    assert len(jobs.listing()) == 50


def test_data_is_in_the_jobs_folder(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "set_aside.jsonl").write_text("")
    job = jobs.keep("data", {}, backend="siliconflow", data=tmp_path)
    assert sorted(path.name for path in (job.folder.path / "data").iterdir()) == [
        "manifest.json",
        "train.jsonl",
    ]
    (tmp_path / "train.jsonl").unlink()
    assert (job.folder.path / "data" / "train.jsonl").read_text() == '{"messages": []}\n'


def test_a_kept_job_has_the_state_it_is_given(workspace: Path) -> None:
    job = jobs.keep("console", {"model": "x"}, backend="siliconflow")
    assert (job.state, job.backend, job.kind) == ("queued", "siliconflow", "train")
    for state in ("running", "done", "failed", "stopped", "queued"):
        assert jobs.set_state(job.id, state).state == state
    jobs.set_state(job.id, "queued")
    assert [state for state, _ in states(job)] == ["queued", "running", "done", "failed", "stopped", "queued"]
    assert not (workspace / "runner").exists()  # nobody was started for it
    with pytest.raises(JobError) as refused:
        jobs.stop(job.id)
    assert refused.value.key == "job.stop_there"


def test_what_cannot_be_is_refused(play: Play) -> None:
    own = jobs.submit("one", "own", {"does": "wait"})
    refusals: list[tuple[Callable[[], object], str]] = [
        (lambda: jobs.submit("brew", "tea", {}), "job.unknown_kind"),
        (lambda: jobs.get("nobody"), "job.unknown"),
        (lambda: jobs.stop("nobody"), "job.unknown"),
        (lambda: jobs.set_state(own.id, "lost"), "job.unknown_state"),
        (lambda: jobs.set_state(own.id, "done"), "job.knows_its_state"),
    ]
    for act, key in refusals:
        with pytest.raises(AppError) as refused:
            act()
        assert refused.value.key == key
        assert isinstance(refused.value, JobError | UsageError)
    jobs.stop(own.id)


def test_validation_questions_are_each_offered_once(tmp_path: Path) -> None:
    def row(question: str) -> bytes:
        turns = [("system", "be kind"), ("user", question), ("assistant", "yes"), ("user", "and then?")]
        return orjson.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) + b"\n"

    (tmp_path / "validation.jsonl").write_bytes(b"".join(map(row, ("a", "b", "a", "c", "d"))))
    job = jobs.keep("asks", {}, backend="siliconflow", data=tmp_path)
    assert jobs.validation_questions(job, 3) == ["a", "b", "c"]
    assert jobs.validation_questions(jobs.keep("none", {}, backend="siliconflow"), 3) == []


def test_the_speed_is_that_of_the_last_finished_run_of_the_model(
    play: Play, workspace: Path, tmp_path: Path
) -> None:
    model = {"kind": "path", "id": "/models/a"}
    assert jobs.measured_speed(model) is None
    turns = [{"role": "user", "content": "x" * 400}, {"role": "assistant", "content": "y" * 400}]
    # one row of 200 tokens by estimate
    (tmp_path / "train.jsonl").write_bytes(orjson.dumps({"messages": turns}) + b"\n")
    for name, seconds in (("a", 6), ("a", 3), ("b", 1)):
        asked = {"model": {"kind": "path", "id": f"/models/{name}"}, "settings": {"epochs": 3}}
        job = jobs.submit("train", name, asked, data=tmp_path)
        job.folder.finish(seconds_training=seconds)
        with sqlite3.connect(workspace / "jobs.db") as db:
            db.execute("update job set state = 'done' where id = ?", (job.id,))
        db.close()
    assert jobs.measured_speed(model) == 200
    assert jobs.measured_speed(model | {"id": "/models/c"}) is None


def test_signals_reach_what_the_process_started(play: Play) -> None:
    sleeps = "import time; time.sleep(60)"
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {sleeps!r}]); {sleeps}"
    parent = subprocess.Popen([sys.executable, "-c", code])
    process = psutil.Process(parent.pid)
    (child,) = until(process.children)
    play().signal(process, kill=False)
    assert parent.wait(10) == (-signal.SIGTERM if os.name == "posix" else 1)
    until(lambda: gone(child))


def test_the_runner_needs_no_numbers_library() -> None:
    # its threads die after it, and until then a killed runner looks alive to whoever started it
    look = "import sys, lib.jobs; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT).returncode == 0


def test_a_runner_ends_with_the_test_that_started_it_whatever_module_that_is_in(tmp_path: Path) -> None:
    first = "def test_first() -> None:\n    converted()\n    assert jobs._started\n"
    second = "def test_second() -> None:\n    assert not jobs._started\n"
    for number, text in enumerate((first, second)):
        module = f"from lib import jobs\nfrom tests.test_pages import converted\n\n\n{text}"
        (tmp_path / f"test_{number}.py").write_text(module, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    names = ["test_0.py::test_first", "test_1.py::test_second"]
    command += [str(tmp_path / name) for name in names]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stdout
