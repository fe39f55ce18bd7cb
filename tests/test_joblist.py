"""The job list keeps what a person changed in it, through crashes and from older versions."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from lib import joblist, jobs
from lib.errors import AppError, JobError, UsageError
from lib.jobfolder import JobFolder
from lib.jobs import Job
from lib.workspace import room, root, write_json
from tests.conftest import ROOT

# The list as the first version of this program wrote it.
FIRST_VERSION = """
create table job(
    id text primary key, kind text, name text, backend text, lane text, grace real, command text,
    state text, created real, started real, ended real, error text,
    attempt integer default 0, deaths integer default 0, furthest real default 0);
create index job_state on job(state);
create table event(seq integer primary key, job text, at real, state text, note text);
create index event_job on event(job, seq);
pragma user_version = 1;
"""


@pytest.fixture
def quiet() -> Iterator[None]:
    """Be the runner in name, so that nobody starts one and what is entered waits."""
    folder = JobFolder(root() / "runner")
    folder.path.mkdir(parents=True)
    with folder.working():
        yield
        (folder.path / "process.json").unlink()


def kept(name: str, note: str = "") -> Job:
    job = jobs.keep(name, {"model": "x"}, backend="siliconflow")
    if note:
        joblist.annotate(job.id, note)
    return job


def ended(name: str, state: str = "stopped") -> Job:
    """Enter a training of this computer that has ended, without a process; needs `quiet`."""
    job = jobs.submit("train", name, {"settings": {}})
    with joblist.opened(write=True) as db:
        joblist.change(db, joblist.row_of(db, job.id), state)
    return joblist.get(job.id)


def test_the_listing_and_a_look_at_one_job_find_the_same_folder(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "other disk").mkdir()
    root()
    (workspace / "jobs").symlink_to(tmp_path / "other disk", target_is_directory=True)
    job = kept("tea")
    (listed,) = jobs.listing()
    assert listed.folder.path == jobs.get(job.id).folder.path == (tmp_path / "other disk" / job.id).resolve()


def refused(key: str, act: object, *args: object) -> None:
    assert callable(act)
    with pytest.raises(AppError) as told:
        act(*args)
    assert told.value.key == key


def test_a_name_and_a_note_are_kept() -> None:
    job = kept("tea")
    assert (job.name, job.note) == ("tea", "")
    joblist.rename(job.id, "  Tea,\nsecond   try ")
    joblist.annotate(job.id, " Half the rate.\nThe best so far. ")
    now = jobs.get(job.id)
    assert (now.name, now.note) == ("Tea, second try", "Half the rate.\nThe best so far.")
    assert now.folder.asked()["name"] == "tea"  # what was asked stays as it was
    joblist.annotate(job.id, "")
    assert jobs.get(job.id).note == ""


@pytest.mark.parametrize("name", ["", " \n ", "x" * 121])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    job = kept("tea")
    refused("job.bad_name", joblist.rename, job.id, name)
    assert issubclass(UsageError, AppError)
    assert jobs.get(job.id).name == "tea"


def test_jobs_are_found_by_words_of_name_and_note() -> None:
    first, second, third = kept("Green tea"), kept("black TEA", "\u00c9t\u00e9, the best"), kept("coffee")
    joblist.annotate(third.id, "\u8336 no")

    def found(sought: str) -> list[str]:
        return [job.id for job in jobs.listing("train", sought)]

    assert found("tea") == [second.id, first.id]
    assert found("best TEA") == [second.id]
    assert found("\u00e9t\u00c9") == [second.id]
    assert found("\u8336") == [third.id]
    assert found("tea coffee") == []
    assert found("  ") == [third.id, second.id, first.id]


def test_since_is_when_the_state_was_entered() -> None:
    job = kept("tea")
    assert job.since == joblist.events(job.id)[-1].at
    before = time.time()
    now = jobs.set_state(job.id, "running")
    assert now.since == joblist.events(job.id)[-1].at >= before
    joblist.rename(job.id, "other")
    assert jobs.get(job.id).since == now.since


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("downloading", "preparing"),
        ("loading", "preparing"),
        ("tokenising", "preparing"),
        ("training", "training"),
        ("evaluating", "evaluating"),
        ("saving", "training"),
    ],
)
def test_what_a_running_training_does_is_told_with_since_when(quiet: None, phase: str, state: str) -> None:
    job = ended("tea", "running")
    assert joblist.standing(job) == joblist.Standing("preparing", job.since, "starting")
    with job.folder.working():
        job.folder.report(phase, step=1)
        began = job.folder.status()["since"]
        job.folder.report(phase, step=2)
    assert job.folder.status()["since"] == began >= job.since
    assert joblist.standing(job) == joblist.Standing(state, began, phase)


def test_what_an_earlier_attempt_said_last_does_not_count(quiet: None) -> None:
    job = ended("tea", "running")
    with job.folder.working():
        job.folder.report("training", step=7)
    (job.folder.path / "process.json").unlink()  # as the runner does before it starts the next attempt
    assert joblist.standing(job).state == "preparing"
    (job.folder.path / "process.json").write_bytes(orjson.dumps({"pid": os.getpid() + 1, "started": 0}))
    assert joblist.standing(job) == joblist.Standing("preparing", job.since, "starting")


def test_other_states_are_told_as_they_are(quiet: None) -> None:
    for state in ("queued", "done", "failed", "stopped"):
        job = ended("tea", state)
        assert joblist.standing(job) == joblist.Standing(state, job.since)
    survey = jobs.submit("survey", "file", {})
    with joblist.opened(write=True) as db:
        joblist.change(db, joblist.row_of(db, survey.id), "running")
    assert joblist.standing(joblist.get(survey.id)).state == "running"
    assert joblist.standing(jobs.set_state(kept("tea").id, "running")).state == "running"


def test_a_job_that_died_too_often_is_lost(quiet: None) -> None:
    job = jobs.submit("train", "tea", {})
    for error, state in (
        (JobError("job.died", attempts=3), "lost"),
        (JobError("job.exited", code=1), "failed"),
    ):
        with joblist.opened(write=True) as db:
            joblist.change(db, joblist.row_of(db, job.id), "failed", error=error.as_json())
        assert joblist.standing(joblist.get(job.id)).state == state


def test_the_queue_is_in_the_chosen_order(quiet: None) -> None:
    a, _b, c, d = (jobs.submit("train", name, {}) for name in "abcd")
    other = jobs.submit("convert", "other", {})

    def order() -> str:
        names = {job.id: job.name for job in joblist.listing()}
        return "".join(names[one] for one in joblist.queue(a))

    assert order() == "abcd"
    joblist.move(d.id, "first")
    assert order() == "dabc"
    joblist.move(a.id, "down")
    assert order() == "dbac"
    joblist.move(c.id, "up")
    assert order() == "dbca"
    for where in ("first", "up"):
        joblist.move(d.id, where)
    joblist.move(a.id, "down")
    assert order() == "dbca"
    assert joblist.queue(other) == [other.id]
    claimed = [jobs._Runner().claim("compute") for _ in range(4)]
    assert [row["name"] for row in claimed if row] == ["d", "b", "c", "a"]
    refused("job.not_waiting", joblist.move, a.id, "first")


def test_a_new_and_a_resumed_job_wait_at_the_end(quiet: None) -> None:
    a, b = ended("a"), jobs.submit("train", "b", {})
    joblist.move(b.id, "first")
    jobs.resume(a.id)
    c = jobs.submit("train", "c", {})
    assert joblist.queue(a) == [b.id, a.id, c.id]


def test_a_deleted_job_is_gone_and_says_what_that_freed(quiet: None, tmp_path: Path) -> None:
    job, other = ended("tea"), ended("other")
    (job.folder.path / "adapter").mkdir()
    (job.folder.path / "adapter" / "weights").write_bytes(b"x" * 5000)
    shared = tmp_path / "train.jsonl"
    shared.write_bytes(b"y" * 7000)
    os.link(shared, job.folder.path / "train.jsonl")
    weight = joblist.weight(job)
    assert 5000 < weight < 6000  # job.json too, but not what stays elsewhere
    assert jobs.delete(job.id) == weight
    assert [each.id for each in jobs.listing()] == [other.id]
    assert [path.name for path in room("jobs").iterdir()] == [other.id]
    assert joblist.events(job.id) == []
    assert shared.stat().st_size == 7000
    refused("job.unknown", jobs.delete, job.id)


def test_a_running_job_is_not_deleted(quiet: None) -> None:
    running, leaving = ended("running", "running"), ended("leaving")
    refused("job.still_running", joblist.delete, running.id)
    with leaving.folder.working():  # it has said how it ended, and its process is still there
        refused("job.still_running", joblist.delete, leaving.id)
    assert leaving.folder.path.is_dir() and running.folder.path.is_dir()
    waiting = jobs.submit("train", "waiting", {})
    jobs.delete(waiting.id)
    assert joblist.queue(running) == []


def test_a_platforms_job_is_deleted_whatever_its_state() -> None:
    job = kept("tea")
    jobs.set_state(job.id, "running")
    jobs.delete(job.id)
    assert jobs.listing() == []


def test_a_deletion_cut_short_is_finished_by_the_next_look(quiet: None) -> None:
    job, other = ended("tea"), ended("other")
    code = (
        "import os, sys\nfrom lib import joblist\n"
        "joblist._forget = lambda *_: os._exit(9)\n"  # the power goes after the folder has been renamed
        "joblist.delete(sys.argv[1])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, job.id], cwd=ROOT, timeout=60)
    assert done.returncode == 9
    assert not job.folder.path.exists() and len(list(room("jobs").iterdir())) == 2
    assert [each.id for each in jobs.listing()] == [other.id]
    assert [path.name for path in room("jobs").iterdir()] == [other.id]


@pytest.mark.parametrize("dies_in", ["Path.replace", "jobs.link", "joblist.enter", "joblist.as_job"])
def test_a_job_whose_maker_died_is_there_whole_or_not_at_all(
    quiet: None, dies_in: str, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_text("{}\n")
    other = ended("other")
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom lib import joblist, jobs\n"
        f"{dies_in} = lambda *_: os._exit(9)\n"
        "jobs.submit('train', 'half', {}, data=Path(sys.argv[1]))\n"
    )
    died = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, timeout=60)
    assert died.returncode == 9
    assert len(list(room("jobs").iterdir())) > 1
    found = jobs.listing()
    assert [job.id for job in found] == [other.id]
    assert [path.name for path in room("jobs").iterdir()] == [other.id]


def test_a_job_whose_maker_died_once_it_was_entered_stays(quiet: None) -> None:
    job = ended("tea")
    write_json(
        room("jobs") / f".{job.id}.entering", {"pid": os.getpid(), "started": 0}
    )  # one before this one
    assert [one.id for one in jobs.listing()] == [job.id]
    assert [path.name for path in room("jobs").iterdir()] == [job.id]


def test_a_job_that_is_being_made_is_left_alone(quiet: None) -> None:
    path = room("jobs") / "half"
    with joblist.making(path):
        JobFolder.create(path, {})
        assert jobs.listing() == []
        assert path.is_dir()
    assert [one.name for one in room("jobs").iterdir()] == [
        "half"
    ]  # nobody knows of it, and nobody deletes it
    assert jobs.listing() == []
    assert path.is_dir()


def test_what_a_killed_process_left_half_written_goes(quiet: None) -> None:
    job = ended("tea", "running")
    for name in (
        ".status.json.7.abc.part",
        "reserve",
        ".adapter.part/weights",
        "checkpoints/checkpoint-3/x",
        "best/weights",
    ):
        path = job.folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    before = {path.name for path in job.folder.path.iterdir()}
    job.folder.halt(step=3)
    job.folder.tidy()
    now = {path.name for path in job.folder.path.iterdir()}
    assert before - now == {".status.json.7.abc.part", "reserve"}  # with all else it can go on
    job.folder.finish(kept_step=5, best_step=3)
    job.folder.tidy()
    assert now - {path.name for path in job.folder.path.iterdir()} == {".adapter.part", "checkpoints"}
    job.folder.finish(kept_step=3, best_step=3)
    job.folder.tidy()
    assert not (job.folder.path / "best").exists()  # it is the adapter


def test_a_job_without_a_folder_can_be_deleted(quiet: None) -> None:
    job = ended("tea")
    job.folder.path.rename(root() / "elsewhere")
    assert jobs.get(job.id).state == "failed"
    assert jobs.delete(job.id) == 0
    assert jobs.listing() == []


def test_an_export_holds_all_but_checkpoints_and_secrets(quiet: None, tmp_path: Path) -> None:
    job = ended("Tea \u8336", "done")
    joblist.annotate(job.id, "the best")
    for name in (
        *("adapter/adapter_model.safetensors", "data/train.jsonl", "metrics.jsonl", "log.txt", "result.json"),
        *("checkpoints/checkpoint-3/optimizer.pt", "handover.json", "process.json", "job.lock", "stop"),
        *(".adapter.part/adapter_model.safetensors", ".status.json.1.part"),
    ):
        path = job.folder.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100)
    out = tmp_path / "tea.zip"
    joblist.export(joblist.get(job.id), out)
    with zipfile.ZipFile(out) as pack:
        assert pack.testzip() is None
        names = {name.removeprefix(f"{job.id}/") for name in pack.namelist()}
        about = orjson.loads(pack.read(f"{job.id}/about.json"))
        assert pack.read(f"{job.id}/log.txt") == b"log.txt" * 100
        events = pack.read(f"{job.id}/events.jsonl").splitlines()
        stored = pack.getinfo(f"{job.id}/adapter/adapter_model.safetensors")
    assert names == {
        *("about.json", "job.json", "result.json", "events.jsonl", "metrics.jsonl", "log.txt"),
        *("data/train.jsonl", "adapter/adapter_model.safetensors"),
    }
    assert stored.compress_size == stored.file_size  # weights are not squeezed in vain
    assert (about["name"], about["note"], about["state"]) == ("Tea \u8336", "the best", "done")
    assert [orjson.loads(line)["state"] for line in events] == ["queued", "done"]
    assert [path.name for path in tmp_path.iterdir()] == ["tea.zip"]


def test_an_export_needs_little_memory(quiet: None, tmp_path: Path) -> None:
    job = ended("large", "done")
    with (job.folder.path / "adapter.safetensors").open("wb") as file:
        file.truncate(300_000_000)
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom lib import joblist\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "joblist.export(joblist.get(sys.argv[1]), Path(sys.argv[2]))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    command = [sys.executable, "-c", code, job.id, str(tmp_path / "large.zip")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < 30_000  # kB
    (tmp_path / "large.zip").unlink()


def test_a_list_of_the_first_version_is_brought_up_to_date(quiet: None, workspace: Path) -> None:
    with sqlite3.connect(workspace / "jobs.db", isolation_level=None) as db:
        db.execute("pragma journal_mode = wal")
        db.executescript(FIRST_VERSION)
        for number, name in enumerate(("old", "older")):
            path = room("jobs") / name
            JobFolder.create(path, {"kind": "train", "name": name})
            db.execute(
                "insert into job(id, kind, name, backend, lane, grace, command, state, created)"
                " values(?, 'train', ?, 'local', 'compute', 30, '[]', 'queued', ?)",
                (name, name, 1000.0 + number),
            )
        db.execute("insert into event(job, at, state, note) values('old', 1000.5, 'queued', '')")
    db.close()
    old, older = joblist.get("old"), joblist.get("older")
    assert (old.note, old.since, older.since) == ("", 1000.5, 1001.0)
    assert joblist.queue(old) == ["old", "older"]
    joblist.move("older", "first")
    joblist.annotate("old", "kept")
    assert joblist.queue(old) == ["older", "old"]
    assert jobs.submit("train", "new", {}).id == joblist.queue(old)[-1]
    with sqlite3.connect(workspace / "jobs.db") as db:
        assert db.execute("pragma user_version").fetchone()[0] == len(joblist.VERSIONS)
    db.close()


def test_many_at_once_bring_an_old_list_up_to_date(workspace: Path) -> None:
    root()
    with sqlite3.connect(workspace / "jobs.db", isolation_level=None) as db:
        db.execute("pragma journal_mode = wal")
        db.executescript(FIRST_VERSION)
    db.close()
    code = "from lib import jobs\nfor n in range(5): jobs.keep(f'job {n}', {}, backend='siliconflow')\n"
    four = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(4)]
    assert [process.wait(60) for process in four] == [0] * 4
    assert len(jobs.listing()) == 20
