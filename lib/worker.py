"""The process of one job: `python -m lib.worker JOB_FOLDER`.

It holds the folder's lock, does what `job.json` asks for and leaves `result.json`. A training is handed over
to `lib.trainer`, which knows no network: first its model is fetched here, then this process becomes that one,
with the same process id.

To add a kind of job: a function here and its row in WORK, and a row in `jobs.KINDS`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lib import handover
from lib.errors import AppError, HubError, JobError, ModelError
from lib.jobfolder import BUSY, JobFolder
from lib.jobs import unexpected
from lib.trainer import packages

# Weights as safetensors only: the other kinds can carry code that runs when they are loaded.
MODEL_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken")

Asked = dict[str, Any]
Command = list[str]


class _StopError(Exception):
    """Somebody asked this job to stop."""


def main(folder: JobFolder) -> int:
    """Work in a job folder; return the exit code: 0 ended, 1 failed, `BUSY` another is at work there."""
    following: Command | None = None
    try:
        with folder.working():
            if folder.result() is not None:
                return 0  # ended before; somebody started us once too often
            try:
                if folder.stop_wanted():
                    raise _StopError
                asked = folder.asked()
                following = WORK[asked["kind"]](folder, asked)
            except _StopError:
                folder.halt()
            except AppError as error:
                folder.fail(error)  # before it is printed: the log may be what had no room
                print(f"failed: {error}", file=sys.stderr)
                return 1
            except Exception as error:
                folder.fail(unexpected(error))
                traceback.print_exc()
                return 1
    except JobError as error:
        if error.key != "job.busy":
            raise
        print(error, file=sys.stderr)
        return BUSY
    return _become(following) if following else 0


def download(folder: JobFolder, asked: Asked) -> None:
    """Fetch files of a dataset repository, and enter them as a dataset."""
    from lib import datasets, hub

    listing = hub.Listing.from_json(asked["listing"])
    token = handover.take(folder) if asked.get("typed_token") else hub.token_from_environment()
    home = datasets.folder(asked["dataset"]) / "files"
    _fetch(folder, listing, home, asked.get("others", ()), token, anywhere=asked.get("anywhere", False))
    folder.finish(dataset=datasets.from_hub(asked["dataset"], listing).id)


def convert(folder: JobFolder, asked: Asked) -> None:
    """Turn data files into the two files training needs."""
    from lib import conversions
    from lib import convert as converting

    request = conversions.request(asked)
    ledger = converting.convert(request, progress=_steps(folder, "converting"))
    folder.finish(out=str(request.out), counts=asdict(ledger))


def examine(folder: JobFolder, asked: Asked) -> None:
    """Find out what is wrong with every row, and keep it."""
    from lib import conversions
    from lib import examine as examining

    request = conversions.request(asked)
    seen = examining.examine(request, progress=_steps(folder, "examining"))
    examining.keep(request, seen, Path(asked["keep"]))
    folder.finish(read=seen.read, good=seen.good)


def survey(folder: JobFolder, asked: Asked) -> None:
    """Index a data file, so that any page of it is there at once, and profile it."""
    from lib import profile, records, sift

    path, keep = Path(asked["file"]), Path(asked["keep"])
    records.prepare(path, keep, _bytes(folder, "indexing", path), processes=sift.cores())
    seen = profile.profile(path, _bytes(folder, "profiling", path), processes=sift.cores())
    profile.keep(seen, keep)
    folder.finish(rows=seen.rows)


def train(folder: JobFolder, asked: Asked) -> Command | None:
    """Return the command that trains, the base model fetched where it is one of the Hub's.

    A job at a platform is sent there, and looked at until it has ended.
    """
    if asked.get("backend", "local") != "local":
        _follow(folder, asked)
        return None
    command = _trainers_own("lib.trainer", folder)
    model = asked.get("model") or {}
    if isinstance(model, dict) and model.get("kind") == "hub":
        command += ["--model", str(fetched_model(folder, model))]
    return command


def _follow(folder: JobFolder, asked: Asked) -> None:
    from lib import backends
    from lib.backends import follow

    place = backends.BACKENDS[asked["backend"]]
    if not isinstance(place, backends.Remote):
        raise JobError("job.stop_there", name=asked["name"])
    try:
        follow.follow(folder, asked, place)
    except follow.StoppedError as error:
        raise _StopError from error


def score(folder: JobFolder, asked: Asked) -> Command:
    """Return the command that answers and scores the validation rows of a training job."""
    del asked
    return _trainers_own("lib.trainer.score", folder, *packages.SCORES)


def merge(folder: JobFolder, asked: Asked) -> Command:
    """Return the command that merges a training job's adapter into its base model."""
    del asked
    return _trainers_own("lib.trainer.merge", folder)


def upload(folder: JobFolder, asked: Asked) -> None:
    """Put a tuned model's export into a repository of the visitor's."""
    from lib.hub.upload import upload as send

    def told(phase: str, done: int, total: int) -> None:
        folder.report(phase, done=done, total=total)

    try:
        page = send(
            Path(asked["out"]),
            asked["repo"],
            asked["endpoint"],
            token=handover.take(folder),
            anywhere=asked["anywhere"],
            private=asked["private"],
            leave_out=asked["leave_out"],
            progress=told,
            stop=folder.stop_wanted,
        )
    except HubError as error:
        if error.key == "hub.upload_stopped":
            raise _StopError from error
        raise
    folder.finish(page=page)


WORK: dict[str, Callable[[JobFolder, Asked], Command | None]] = {
    "download": download,
    "survey": survey,
    "examine": examine,
    "convert": convert,
    "train": train,
    "score": score,
    "merge": merge,
    "upload": upload,
}


def _trainers_own(module: str, folder: JobFolder, *more: str) -> Command:
    """Return the command for a module of the trainer's; raise `ModelError` where a package is missing."""
    missing = packages.missing(*more)
    if missing:
        raise ModelError("trainer.not_installed", package=", ".join(missing))
    return [sys.executable, "-m", module, str(folder.path)]


def _steps(folder: JobFolder, phase: str) -> Callable[[int, int], None]:
    """Return what is told the bytes behind and in all; it reports them, and ends the job on request."""

    def told(done: int, total: int) -> None:
        if folder.stop_wanted():
            raise _StopError
        folder.report(phase, done=done, total=total)

    return told


def _bytes(folder: JobFolder, phase: str, path: Path) -> Callable[[int], None]:
    told, total = _steps(folder, phase), path.stat().st_size
    return lambda done: told(done, total)


def fetched_model(folder: JobFolder, model: dict[str, str]) -> Path:
    """Return the folder of a model of the Hub, fetched if need be.

    One that is there whole is taken as it is, so a second run needs no network.
    """
    from lib import hub
    from lib.backends import local

    home, ref = local.hub_folder(model), hub.Ref(model["id"], model.get("revision") or "main", "model")
    if hub.finished(home, ref):
        return home
    token = hub.token_from_environment()
    folder.report("downloading", done=0, total=0)
    given = model.get("endpoint")
    order = [given] if given else hub.ranked(hub.examine(ref, token=token)) or hub.ENDPOINTS
    listing = hub.list_files(ref, order[0], token=token)
    needed = hub.select(hub.suggest(listing), MODEL_FILES)
    if not any(file.path.endswith(".safetensors") for file in needed):
        raise ModelError("job.model_without_weights", repo=model["id"], endpoint=order[0])
    _fetch(folder, replace(listing, files=tuple(needed)), home, order[1:], token)
    return home


def _fetch(
    folder: JobFolder,
    listing: Any,
    target: Path,
    others: Sequence[str],
    token: str | None,
    *,
    anywhere: bool = False,
) -> None:
    from lib import hub

    def told(progress: hub.Progress) -> None:
        numbers = asdict(progress)
        folder.report("downloading", doing=numbers.pop("phase"), left=progress.left, **numbers)

    try:
        hub.download(
            listing,
            listing.files,
            target,
            others=others,
            token=token,
            anywhere=anywhere,
            progress=told,
            stop=folder.stop_wanted,
        )
    except HubError as error:
        if error.key == "hub.stopped":
            raise _StopError from error
        raise


def _become(command: Command) -> int:
    """Turn this process into another one; where the system cannot, start it and wait."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(command[0], command)
    return subprocess.call(command)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(JobFolder(Path(sys.argv[1]).resolve())))
