"""The conversions on this computer: folders with train.jsonl, validation.jsonl and, last, manifest.json."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from lib import convert, formats, jobs, workspace
from lib.errors import WorkspaceError


def start(request: convert.Request, name: str) -> jobs.Job:
    """Start a conversion as a job, into a new folder of the workspace; `request.out` is not used."""
    request = replace(request, out=workspace.room("conversions") / workspace.new_id(name))
    return jobs.submit("convert", name, as_json(request))


def as_json(request: convert.Request) -> dict[str, Any]:
    """Return a request as a job folder keeps it."""
    paths = {"files": [str(path) for path in request.files], "out": str(request.out)}
    return asdict(request) | paths | {"edits": str(request.edits or ""), "also": list(request.also)}


def request(asked: dict[str, Any]) -> convert.Request:
    """Return the request that `as_json` put down; what else stands in `asked` is left alone."""
    given = {field.name: asked[field.name] for field in fields(convert.Request) if field.name in asked}
    given |= {"files": tuple(map(Path, asked["files"])), "out": Path(asked["out"])}
    given |= {"mapping": formats.Mapping(**asked["mapping"]), "also": tuple(asked.get("also", ()))}
    return convert.Request(**given | {"edits": Path(asked["edits"]) if asked.get("edits") else None})


def folder(name: str) -> Path:
    """Return the folder of a conversion of the workspace."""
    return workspace.inside(workspace.room("conversions"), name)


def manifest(name: str) -> dict[str, Any] | None:
    """Return a finished conversion's manifest, or None where there is none (or `name` is empty)."""
    try:
        return convert.manifest(folder(name)) if name else None
    except WorkspaceError:  # a name that leaves the workspace, from a file edited by hand
        return None


def of(job: jobs.Job) -> str:
    """Return the name of the conversion that a job was given, "" where it was given none.

    One that is gone is made again of the job's own copy, without what was set aside.
    """
    data = job.folder.path / "data"
    wanted = _bytes(data)
    if not wanted:
        return ""
    for known in sorted(workspace.room("conversions").iterdir(), reverse=True):
        if _bytes(known) == wanted:
            return known.name
    name = workspace.new_id(job.name)
    jobs.link(data, folder(name))
    return name


def _bytes(conversion: Path) -> bytes:
    try:
        return (conversion / "manifest.json").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return b""
