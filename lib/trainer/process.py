"""A process of the trainer: it holds one job's folder, does one thing there, and leaves its result."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib.errors import AppError, JobError
from lib.jobfolder import BUSY, JobFolder
from lib.trainer import failure, quiet, settings


def main(name: str, doc: str, act: Callable[[JobFolder], None]) -> int:
    """Read the command line of `python -m lib.trainer.NAME JOB_FOLDER` and do `act` there, as `hold` does."""
    asked = argparse.ArgumentParser(prog=f"python -m lib.trainer.{name}", description=doc.splitlines()[0])
    asked.add_argument("job_folder", type=Path)
    folder = JobFolder(asked.parse_args().job_folder.resolve())
    quiet.prepare()
    return hold(folder, act)


def hold(folder: JobFolder, act: Callable[[JobFolder], None]) -> int:
    """Do `act` while nobody else works in the folder, and leave there why it failed, if it did.

    Returns the exit code: 0; 1 where it failed; `BUSY`, with nothing touched, where another is at work.
    """
    try:
        with folder.working():
            try:
                act(folder)
            except Exception as error:
                failed = told(error, folder)
                folder.fail(failed)  # before it is printed: the log may be what had no room
                with contextlib.suppress(OSError):
                    print(f"failed: {failed}", flush=True)
                return 1
    except JobError as error:
        if error.key != "job.busy":
            raise
        print(error, flush=True)
        return BUSY
    return 0


def told(error: Exception, folder: JobFolder) -> AppError:
    """Return what ended the work in a folder as an `AppError`."""
    return failure.told(error, folder.path, _settings(folder))


def _settings(folder: JobFolder) -> dict[str, Any]:
    """Return a training's settings; `{}` where the job is none, or its folder is not whole."""
    try:
        found = settings.read(folder.asked().get("settings"))
    except AppError:
        return {}
    return asdict(found) if found else {}
