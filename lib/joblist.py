"""The job list: what is stored of every job, and what a person may change in it.

The list is `jobs.db` (SQLite) in the workspace; beside it each job has a folder (lib/jobfolder.py). Both may
be read at any time and by anybody; lib/jobs.py starts, stops and watches what is in the list.

To keep something more of a job: a line at the end of VERSIONS, which older lists are brought up to date with.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson
import psutil
from filelock import FileLock

from lib.errors import JobError, UsageError, WorkspaceError
from lib.jobfolder import JobFolder, identity, living
from lib.workspace import free_bytes, inside, read_json, room, root, sweep, told, write_json, writing

STATES = ("queued", "running", "done", "failed", "stopped")
ENDED = ("done", "failed", "stopped")
HAND = "hand"  # the lane of jobs that nobody here works off: their state is set by hand
LONGEST_NAME = 120  # characters; a name is a label, what is longer belongs into the note

Where = Literal["first", "up", "down"]
# What a visitor may be told of a job; `standing` finds out which. "running" is a job that trains nothing.
STANDINGS = (
    *("queued", "preparing", "training", "evaluating", "running"),
    *("done", "failed", "stopped", "lost"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is now.

    Times are seconds since 1970: `created`, `started` (the last attempt), `ended`; None for what is to come;
    `since` is when it came into its state. `error` is `{"key", "facts"}` of a failed job. `folder` is where
    all of it lies. `by_hand`: a person started it in a platform's console, and sets its state.
    """

    id: str
    kind: str
    name: str
    note: str
    backend: str
    state: str
    since: float
    created: float
    started: float | None
    ended: float | None
    attempt: int
    error: dict[str, Any] | None
    folder: JobFolder
    by_hand: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """One change of state: when, to what, and why where that needs saying (`died`, `again`)."""

    at: float
    state: str
    note: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a visitor is told of a job: one of STANDINGS, since when, and the phase of a running one."""

    state: str
    since: float
    phase: str = ""


def get(job_id: str) -> Job:
    """Return a job as it is now. Raises `JobError` where there is none with this id."""
    with opened() as db:
        return as_job(row_of(db, job_id))


def listing(kind: str = "", sought: str = "") -> list[Job]:
    """Return all jobs, or those of a kind, newest first.

    `sought`: only those in whose name or note every one of these words occurs, capitals or not.
    """
    _clear_up()
    with opened() as db:
        rows = db.execute(f"{_ROWS} where ? in ('', kind) order by rowid desc", (kind,)).fetchall()
    words, place = sought.casefold().split(), room("jobs").resolve()
    return [as_job(row, place) for row in rows if not words or _holds(row, words)]


def events(job_id: str) -> list[Event]:
    """Return a job's changes of state, oldest first."""
    with opened() as db:
        rows = db.execute(
            "select at, state, note from event where job = ? order by seq", (job_id,)
        ).fetchall()
    return [Event(**row) for row in rows]


def standing(job: Job) -> Standing:
    """Return what to tell a visitor of a job.

    Of a running training its process says what it is doing; what an earlier attempt's process said last does
    not count. A job whose process died too often is lost: nobody knows what became of it.
    """
    if job.state == "failed" and (job.error or {}).get("key") == "job.died":
        return Standing("lost", job.since)
    if job.state != "running" or job.by_hand:
        return Standing(job.state, job.since)
    status = job.folder.status() if job.folder.is_of_this_attempt() else {}
    phase = str(status.get("phase", "starting"))
    since = status.get("since")
    state = _STANDING_OF.get(phase, "preparing") if job.kind == "train" else "running"
    return Standing(state, float(since) if isinstance(since, int | float) else job.since, phase)


def rename(job_id: str, name: str) -> None:
    """Give a job another name. Its folder and its `job.json` keep the first one."""
    plain = " ".join(name.split())
    if not plain or len(plain) > LONGEST_NAME:
        raise UsageError("job.bad_name", most=LONGEST_NAME)
    with opened(write=True) as db:
        db.execute("update job set name = ? where id = ?", (plain, row_of(db, job_id)["id"]))


def annotate(job_id: str, note: str) -> None:
    """Write down what the visitor wants to remember of a job; it takes the place of the note before."""
    with opened(write=True) as db:
        db.execute("update job set note = ? where id = ?", (note.strip(), row_of(db, job_id)["id"]))


def set_state(job_id: str, state: str) -> Job:
    """Set the state of a job that a person started in a platform's console.

    Raises `JobError` for any other: it knows its own.
    """
    if state not in STATES:
        raise UsageError("job.unknown_state", state=state, known=", ".join(STATES))
    with opened(write=True) as db:
        row = row_of(db, job_id)
        if row["lane"] != HAND:
            raise JobError("job.knows_its_state", name=row["name"])
        if row["state"] != state:
            change(db, row, state)
    return get(job_id)


def queue(job: Job) -> list[str]:
    """Return the ids of the jobs that wait for the same device as `job`, in the order they will start."""
    with opened() as db:
        row = row_of(db, job.id)
        return [waiting["id"] for waiting in db.execute(_QUEUE, (row["lane"],))]


def move(job_id: str, where: Where) -> None:
    """Move a waiting job to the front of its queue, or one place up or down.

    Raises `JobError` for one that does not wait (any more). Up from the first place, down from the last: it
    stays where it is.
    """
    with opened(write=True) as db:
        row = row_of(db, job_id)
        waiting = db.execute(_QUEUE, (row["lane"],)).fetchall()
        ids = [each["id"] for each in waiting]
        if job_id not in ids:
            raise JobError("job.not_waiting", name=row["name"])
        turns = sorted(each["turn"] for each in waiting)
        old = ids.index(job_id)
        new = {"first": 0, "up": max(0, old - 1), "down": min(len(ids) - 1, old + 1)}[where]
        ids.insert(new, ids.pop(old))
        for each, turn in zip(ids, turns, strict=True):
            db.execute("update job set turn = ? where id = ?", (turn, each))


def weight(job: Job) -> int:
    """Return how many bytes deleting a job would free; what lies elsewhere too (linked data) frees none."""
    freed = 0
    for path in _files(job.folder.path):
        with suppress(FileNotFoundError):  # a job at work replaces its files
            stat = path.stat()
            freed += stat.st_size if stat.st_nlink == 1 else 0
    return freed


def delete(job_id: str) -> int:
    """Delete a job that is not running, and its folder; return how many bytes that freed.

    The folder first gets a name beside its own. Where a crash comes between, the next look at the list
    finishes the deletion: there is never half a job.
    """
    _clear_up()
    job = get(job_id)
    freed = weight(job)
    try:
        with opened(write=True) as db:
            _set_aside(job)
            _forget(db, job_id)
    except WorkspaceError as error:
        if error.key != "workspace.disk_full":
            raise
        _set_aside(job)  # this will make room; and nobody else can write into the list meanwhile
    _clear_up()
    exported(job).unlink(missing_ok=True)
    return freed


def check_deletable(job: Job) -> None:
    """Raise `JobError` for a job that runs by itself, or whose process has not left yet."""
    with opened() as db:
        running = row_of(db, job.id)["state"] == "running"
    if not job.by_hand and (running or job.folder.process()):
        raise JobError("job.still_running", name=job.name)


def exported(job: Job) -> Path:
    """Return where the page lays a job's zip file; deleting the job deletes it too."""
    return root() / "exports" / f"{job.id}.zip"


def export(job: Job, path: Path) -> None:
    """Write all that a job's folder holds into a zip file, whole or not at all.

    Left out are checkpoints, which are large and only good for going on here, and what means nothing on
    another computer. Added is `about.json`: the name, the note and the state, which stand in the list alone.
    Nothing is held in memory as a whole.
    """
    about = {name: getattr(job, name) for name in _ABOUT}
    with (
        writing(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as pack,
    ):
        pack.writestr(f"{job.id}/about.json", orjson.dumps(about, option=orjson.OPT_INDENT_2))
        for each in _files(job.folder.path):
            inner = each.relative_to(job.folder.path)
            if inner.parts[0] in _NOT_EXPORTED or any(part.startswith(".") for part in inner.parts):
                continue
            # weights do not get smaller, it only takes long
            way = zipfile.ZIP_STORED if each.suffix == ".safetensors" else zipfile.ZIP_DEFLATED
            with suppress(FileNotFoundError):  # a job at work replaces its files
                pack.write(each, f"{job.id}/{inner.as_posix()}", way)


@contextmanager
def opened(*, write: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the list, also for lib/jobs.py; with `write`, all of the block happens or none of it."""
    path = root() / "jobs.db"
    try:
        with closing(_connected(path, write=write)) as db:
            db.row_factory = sqlite3.Row
            if _version(db) < len(VERSIONS):
                with FileLock(path.with_suffix(".lock")):  # two at once cannot both do this
                    _bring_up_to_date(db)
            if not write:
                yield db
                return
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_FULL" or (name.startswith(_NO_ROOM) and free_bytes(path) < _ROOM):
            raise WorkspaceError("workspace.disk_full", path=str(path), free=free_bytes(path)) from error
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            raise WorkspaceError("workspace.not_writable", path=str(path)) from error
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            raise WorkspaceError("job.list_broken", path=str(path)) from error
        raise


def row_of(db: sqlite3.Connection, job_id: str) -> sqlite3.Row:
    """Return a job's row. Raises `JobError` where there is none."""
    row: sqlite3.Row | None = db.execute(f"{_ROWS} where id = ?", (job_id,)).fetchone()
    if row is None:
        raise JobError("job.unknown", id=job_id)
    return row


def next_waiting(db: sqlite3.Connection, lane: str) -> sqlite3.Row | None:
    """Return the row of the job that is to start next in a lane."""
    row: sqlite3.Row | None = db.execute(_QUEUE, (lane,)).fetchone()
    return row


def enter(db: sqlite3.Connection, values: dict[str, Any]) -> sqlite3.Row:
    """Write a new job into the list, at the end of its queue, and return its row."""
    names = list(values)
    blanks = ", ".join(f":{name}" for name in names)
    db.execute(f"insert into job({', '.join(names)}) values({blanks})", values)
    to_the_end(db, values["id"])
    change(db, row_of(db, values["id"]), "queued")
    return row_of(db, values["id"])


@contextmanager
def making(path: Path) -> Iterator[None]:
    """Mark a job's folder as one that is being made, beside it, until it is in the list.

    Where the block fails, the folder is removed; where its process dies, whoever looks at the list next does.
    """
    mark = path.with_name(f".{path.name}{_ENTERING}")
    write_json(mark, identity(psutil.Process()))
    try:
        yield
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise
    finally:
        mark.unlink(missing_ok=True)


def to_the_end(db: sqlite3.Connection, job_id: str) -> None:
    """Put a job behind all others of its queue."""
    db.execute(
        "update job set turn = (select max(coalesce(turn, rowid)) + 1 from job) where id = ?", (job_id,)
    )


def change(
    db: sqlite3.Connection, row: sqlite3.Row, state: str, *, note: str = "", error: Any = None
) -> None:
    """Change a job's state, and write that down as an event."""
    now = time.time()
    facts = {"id": row["id"], "state": state, "error": orjson.dumps(error) if error else None, "now": now}
    db.execute(
        "update job set state = :state, error = :error, started = iif(:state = 'running', :now, started),"
        " ended = iif(:state in ('queued', 'running'), null, :now) where id = :id",
        facts,
    )
    db.execute("insert into event(job, at, state, note) values(?, ?, ?, ?)", (row["id"], now, state, note))
    with suppress(FileNotFoundError):  # a folder deleted by hand
        folder_of(row["id"]).event(at=now, state=state, note=note)


def folder_of(job_id: str) -> JobFolder:
    """Return the folder of a job, there or not."""
    return JobFolder(inside(room("jobs"), job_id))


def as_job(row: sqlite3.Row, place: Path | None = None) -> Job:
    """Read a row together with its folder, which knows of an end before the list does.

    `place`: where the folders lie, if it was looked up already; that takes longer than the rest.
    """
    folder = JobFolder(place / row["id"]) if place else folder_of(row["id"])
    state, error = row["state"], orjson.loads(row["error"]) if row["error"] else None
    since = row["since"] or row["created"]
    try:
        folder.asked()
    except (JobError, OSError):
        state, error = "failed", JobError("job.folder_broken", folder=str(folder.path)).as_json()
    else:
        if state == "running" and row["lane"] != HAND and (ended := ending(folder)):
            state, error = ended
            since = folder.ended_at() or since
    return Job(
        id=row["id"],
        kind=row["kind"],
        name=row["name"],
        note=row["note"],
        backend=row["backend"],
        state=state,
        since=since,
        created=row["created"],
        started=row["started"],
        ended=row["ended"],
        attempt=row["attempt"],
        error=error,
        folder=folder,
        by_hand=row["lane"] == HAND,
    )


def ending(folder: JobFolder) -> tuple[str, dict[str, Any] | None] | None:
    """Return how a job ended, or None where it did not.

    One that stopped though nobody had asked it to was told so by a computer shutting down: it is to go on.
    """
    result = folder.result()
    if result is None or result.get("state") not in ENDED:
        return None
    if result["state"] == "stopped" and not folder.stop_wanted():
        return None
    failed = result["state"] == "failed"
    return result["state"], {"key": result.get("key"), "facts": result.get("facts") or {}} if failed else None


# How a list comes from one version to the next; a new one goes through all of them.
VERSIONS = (
    """
    create table if not exists job(
        id text primary key, kind text, name text, backend text, lane text, grace real, command text,
        state text, created real, started real, ended real, error text,
        attempt integer default 0, deaths integer default 0, furthest real default 0);
    create index if not exists job_state on job(state);
    create table if not exists event(seq integer primary key, job text, at real, state text, note text);
    create index if not exists event_job on event(job, seq);
    """,
    """
    alter table job add column note text not null default '';
    alter table job add column turn real;
    update job set turn = rowid;
    """,
    # until then whatever was not of this computer was set by hand
    f"update job set lane = '{HAND}' where backend != 'local';",
)

_ROWS = (
    "select job.*, (select at from event where event.job = job.id order by seq desc limit 1) as since"
    " from job"
)
# an app of an older version may have entered a job without a turn
_QUEUE = (
    "select id, name, lane, command, coalesce(turn, rowid) as turn from job"
    " where state = 'queued' and lane = ? order by coalesce(turn, rowid), rowid"
)
# The phases in which there is something to watch; all others only prepare for it.
_STANDING_OF = {"training": "training", "evaluating": "evaluating", "saving": "training"}
# of a job at a platform (lib/backends/follow.py), whose queue is not ours
_STANDING_OF |= {"waiting": "queued"} | dict.fromkeys(("running", "finishing", "cancelling"), "training")
_NO_ROOM = ("SQLITE_IOERR", "SQLITE_CANTOPEN")  # what SQLite says, among else, where a disk is full
_ROOM = 1 << 16  # bytes; what SQLite lays beside the list takes 32 kB
_DELETED = ".deleted"
_ENTERING = ".entering"
_NOT_EXPORTED = ("checkpoints", "job.lock", "process.json", "stop", "handover.json", "status.json", "reserve")
_ABOUT = ("id", "kind", "name", "note", "backend", "state", "created", "started", "ended", "error", "attempt")


def _connected(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open the list; only to be read where a full disk has no room for SQLite's own files beside it."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        _version(db)
    except sqlite3.OperationalError as error:
        db.close()
        log = path.with_name(f"{path.name}-wal")
        told = getattr(error, "sqlite_errorname", "")
        if write or not told.startswith(_NO_ROOM) or (log.exists() and log.stat().st_size):
            raise
        return sqlite3.connect(f"{path.as_uri()}?immutable=1", uri=True, isolation_level=None)
    return db


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("pragma user_version").fetchone()[0])


def _bring_up_to_date(db: sqlite3.Connection) -> None:
    if _version(db) == 0:
        db.execute("pragma journal_mode = wal")
    for number in range(_version(db), len(VERSIONS)):
        # one step happens whole or not at all, its number included
        db.executescript(f"begin immediate; {VERSIONS[number]} pragma user_version = {number + 1}; commit;")


def _holds(row: sqlite3.Row, words: list[str]) -> bool:
    text = f"{row['name']}\n{row['note']}".casefold()
    return all(word in text for word in words)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _forget(db: sqlite3.Connection, job_id: str) -> None:
    db.execute("delete from event where job = ?", (job_id,))
    db.execute("delete from job where id = ?", (job_id,))


def _clear_up() -> None:
    """Finish deletions that were cut short, and take away what was never entered as a whole."""
    place = room("jobs")
    sweep(place)
    for path in place.glob(".*"):
        # a full disk: the next look does it; or another one that looks at the same time was first
        with suppress(WorkspaceError, FileNotFoundError):
            if path.name.endswith(_DELETED):
                _finish_deletion(path)
            elif path.name.endswith(_ENTERING):
                _take_back(path)


def _set_aside(job: Job) -> None:
    """Give the folder of a job that is to be deleted a name beside its own."""
    path = job.folder.path
    check_deletable(job)
    with told(path), suppress(FileNotFoundError):
        path.rename(path.with_name(f".{path.name}{_DELETED}"))


def _finish_deletion(path: Path) -> None:
    for each in list(path.iterdir()):  # first, so that a full disk has room for the rest
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
        else:
            each.unlink(missing_ok=True)
    job_id = path.name.removeprefix(".").removesuffix(_DELETED)
    with opened(write=True) as db:  # waits for one that is under way
        if not path.with_name(job_id).exists():
            _forget(db, job_id)
    shutil.rmtree(path, ignore_errors=True)


def _take_back(mark: Path) -> None:
    """Remove the folder of a job whose maker died before the job was in the list, and the maker's mark."""
    if living(read_json(mark)):
        return
    job_id = mark.name.removeprefix(".").removesuffix(_ENTERING)
    with opened() as db:
        entered = db.execute("select 1 from job where id = ?", (job_id,)).fetchone()
    if not entered:
        shutil.rmtree(mark.with_name(job_id), ignore_errors=True)
    mark.unlink(missing_ok=True)
