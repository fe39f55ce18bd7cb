"""Where things live on disk, and how they get there whole.

    $FIRSTTUNE_HOME (or ~/FirstTune)
      datasets/ID/       what was downloaded or uploaded, with dataset.json
      conversions/ID/    train.jsonl, validation.jsonl, set_aside.jsonl, manifest.json
      jobs/ID/           one folder per job (lib/jobfolder.py)
      jobs.db, runner/   the list of jobs (lib/joblist.py), and the folder of the process that works it off
      exports/           zip files of jobs, as the page packed them
      models/            base models fetched from the Hub
      votes/             which of two models was found better, blind (lib/votes.py)
      exports/ID/        tuned models to take home (lib/takehome.py)
      visit.json         where the visitor was, for "continue where you left"

Every file is written beside its final name and renamed into place, so a crash leaves the old file or
the new one, never half of one.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import orjson
import psutil

from lib.errors import WorkspaceError


def root() -> Path:
    """Return the workspace folder, made if missing: `$FIRSTTUNE_HOME`, else `~/FirstTune`."""
    given = os.environ.get("FIRSTTUNE_HOME")
    folder = Path(given).expanduser() if given else Path.home() / "FirstTune"
    with told(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def room(name: str) -> Path:
    """Return one of the folders above, such as `datasets`, made if missing."""
    folder = root() / name
    with told(folder):
        folder.mkdir(exist_ok=True)
    return folder


def new_id(name: str) -> str:
    """Return a folder name that sorts by time and still says what it is: `20261122-190742-tea-3f9a`."""
    plain = re.sub(r"[^\w.-]+", "-", name, flags=re.UNICODE).strip("-._")[:40] or "item"
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{plain}-{secrets.token_hex(2)}"


def inside(folder: Path, name: str) -> Path:
    """Return `folder/name`, refusing any name that leaves `folder` (`..`, absolute, through a link)."""
    if not name or "\0" in name:
        raise WorkspaceError("workspace.bad_name", name=name.replace("\0", "\\0"))
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path == folder.resolve():
        raise WorkspaceError("workspace.outside", name=name, folder=str(folder))
    return path


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn the operating system's disk errors inside into a `WorkspaceError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(_existing(path)).free
            raise WorkspaceError("workspace.disk_full", path=str(path), free=free) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise WorkspaceError("workspace.not_writable", path=str(path)) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise WorkspaceError("workspace.in_the_way", path=str(path)) from error
        raise


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing bytes; it takes `path`'s name only if the block succeeds.

    Raises `WorkspaceError` on a full or read-only disk. On any error the beginning is removed.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(3)}.part")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, whole or not at all."""
    with writing(path) as file:
        file.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def read_json(path: Path) -> Any:
    """Return the JSON in `path`, or None where there is no such file or it is not JSON."""
    try:
        return orjson.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, orjson.JSONDecodeError):
        return None


def sweep(folder: Path) -> None:
    """Remove from a folder what processes left half-written that are no more."""
    for path in folder.glob(".*.part"):
        writer = path.name.split(".")[-3]
        if writer.isdigit() and not psutil.pid_exists(int(writer)):
            with suppress(OSError):
                path.unlink()


def free_bytes(path: Path) -> int:
    """Return the free bytes on the disk that holds `path` (which need not exist yet)."""
    return shutil.disk_usage(_existing(path)).free


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
