"""The conversions on this computer: folders with train.jsonl, validation.jsonl and, last, manifest.json."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lib import convert, jobs, workspace
from lib.errors import WorkspaceError


def start(request: convert.Request, name: str) -> jobs.Job:
    """Start a conversion as a job, into a new folder of the workspace; `request.out` is not used."""
    request = replace(request, out=workspace.room("conversions") / workspace.new_id(name))
    asked = asdict(request) | {"files": [str(path) for path in request.files], "out": str(request.out)}
    return jobs.submit("convert", name, asked)


def folder(name: str) -> Path:
    """Return the folder of a conversion of the workspace."""
    return workspace.inside(workspace.room("conversions"), name)


def manifest(name: str) -> dict[str, Any] | None:
    """Return a finished conversion's manifest, or None where there is none (or `name` is empty)."""
    try:
        return convert.manifest(folder(name)) if name else None
    except WorkspaceError:  # a name that leaves the workspace, from a file edited by hand
        return None
