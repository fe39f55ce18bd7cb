"""What is written down about a download: what its beginnings are beginnings of, and at the end what is there.

    FOLDER/.hub/parts.json      name -> hash, for files that are not whole yet; gone when all are
    FOLDER/.hub/manifest.json   the repository, its commit and every file with size and hash, those that are
                                here marked; written last, so that with it, and without parts.json, the
                                folder is a finished download

Nothing in them is a secret or says who fetched it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from lib import workspace
from lib.hub.listing import Listing, RemoteFile
from lib.hub.names import OWN
from lib.hub.reference import Ref


def finished(folder: Path, ref: Ref) -> Listing | None:
    """Return what was listed when a download of `ref` into `folder` was finished; None where none was.

    It asks no network, and looks at the files' sizes only: `download` checks the hashes. Given to
    `list_files` as `known` it makes a second run one request.
    """
    kept = _read(folder)
    if kept is None or (folder / OWN / "parts.json").exists():
        return None
    listing, here = kept
    asked = replace(ref, path="", revision=listing.ref.revision)
    if asked != listing.ref or ref.revision not in (listing.ref.revision, listing.commit):
        return None
    if not here or any(size_of(folder / file.path) != file.size for file in here):
        return None
    return replace(listing, ref=ref)


def write(folder: Path, listing: Listing, files: Collection[RemoteFile]) -> None:
    """Write that `files` of a listing are here, besides those of earlier runs that still are."""
    earlier = _read(folder)
    here = {file.path for file in files}
    if earlier is not None:
        same = set(listing.files)
        there = (file for file in earlier[1] if size_of(folder / file.path) == file.size)
        here |= {file.path for file in there if file in same}
    rows = [asdict(file) | {"here": file.path in here} for file in dict.fromkeys((*listing.files, *files))]
    value = asdict(listing) | {"files": rows}
    value |= {name: told for name, told in value.pop("ref").items() if name != "path"}
    if workspace.read_json(folder / OWN / "manifest.json") != value:
        workspace.write_json(folder / OWN / "manifest.json", value)


class Parts:
    """What each beginning in a folder is the beginning of. Its user holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / OWN / "parts.json"
        known = workspace.read_json(self.path)
        self.known: dict[str, str] = known if isinstance(known, dict) else {}
        self.turn = threading.Lock()

    def begin(self, marks: Mapping[str, str]) -> None:
        """Write down what the beginnings of some files will be of, before there are any."""
        with self.turn:
            if any(self.known.get(name) != mark for name, mark in marks.items()):
                self.known |= marks
                workspace.write_json(self.path, self.known)

    def end(self, whole: Collection[str]) -> None:
        """Forget the files that are whole; a beginning that is there is kept for the run that goes on."""
        folder = self.path.parent.parent
        left = {name: mark for name, mark in self.known.items() if name not in whole}
        rest = {name: mark for name, mark in left.items() if (folder / f"{name}.part").exists()}
        if not rest:
            self.path.unlink(missing_ok=True)
        elif rest != self.known:
            workspace.write_json(self.path, rest)


def size_of(path: Path) -> int | None:
    """Return a file's size in bytes, None where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def _read(folder: Path) -> tuple[Listing, list[RemoteFile]] | None:
    """Return what was listed and which files are here; None where there is no whole manifest."""
    value: Any = workspace.read_json(folder / OWN / "manifest.json")
    try:
        rows = [dict(row) for row in value["files"]]
        marks = [bool(row.pop("here")) for row in rows]
        files = [RemoteFile(**row) for row in rows]
        ref = Ref(**{field.name: value[field.name] for field in fields(Ref) if field.name in value})
        names = [field.name for field in fields(Listing) if field.name not in ("ref", "files")]
        listing = Listing(ref=ref, files=tuple(files), **{name: value[name] for name in names})
    except (KeyError, TypeError, ValueError):
        return None
    return listing, [file for file, mark in zip(files, marks, strict=True) if mark]
