"""Where a repository's files lie on this disk. A name that is a trap is refused before any write."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from lib import workspace
from lib.errors import HubError, WorkspaceError
from lib.hub.failures import Asked
from lib.hub.listing import Listing, RemoteFile

OWN = ".hub"  # the folder inside the target that is ours
WARNINGS = ("hub.case_clash",)  # what `preflight` says of a download that goes through all the same
LONGEST = 255  # bytes of a name on the usual disks
LONGEST_PATH = 4000  # bytes; Linux takes 4096

Paths = tuple[Path, Path]
Problem = HubError | WorkspaceError


def preflight(listing: Listing, files: Sequence[RemoteFile], folder: Path) -> list[Problem]:
    """Return all that keeps `files` from being fetched into `folder`, [] where nothing does. Writes nothing.

    A folder that can't be written to, names that are traps or clash, a disk that is too small. A problem with
    a key of WARNINGS is none here, but on another computer: names that differ in upper and lower case alone.
    """
    asked = Asked(listing.ref, listing.endpoint, 0.0)
    if not files:
        return [asked.error("no_files")]
    problems: list[Problem] = []
    folder, need = folder.resolve(), 0
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        problems.append(WorkspaceError("workspace.not_writable", path=str(above)))
    try:
        _inside(folder, f"{OWN}/lock", asked, {})
    except (HubError, WorkspaceError) as error:
        problems.append(error)
    for file, placed in _placed(files, folder, asked):
        if isinstance(placed, tuple):
            path, part = placed
            if _size(path) != file.size:
                need += max(0, file.size - (_size(part) or 0))
        else:
            problems.append(placed)
    problems += _case_clashes(files, problems, asked)
    free = workspace.free_bytes(folder)
    if need > free:
        problems.append(WorkspaceError("workspace.disk_full", path=str(folder), free=free, need=need))
    return problems


def places(files: Sequence[RemoteFile], folder: Path, asked: Asked) -> dict[RemoteFile, Paths]:
    """Return for each file its final path and the path of its beginning, `NAME.part`, both inside `folder`.

    Raises `HubError` `hub.unsafe_name` for a name that leaves the folder, goes through a link or cannot be a
    file's name on some computer; `hub.name_clash` for two names that are one on this disk.
    """
    found = {}
    for file, placed in _placed(files, folder.resolve(), asked):
        if not isinstance(placed, tuple):
            raise placed
        found[file] = placed
    return found


def _placed(
    files: Sequence[RemoteFile], folder: Path, asked: Asked
) -> Iterator[tuple[RemoteFile, Paths | Problem]]:
    """Yield each file with its paths, or with what is wrong with its name."""
    blind = _is_blind(folder)

    def same(name: str) -> str:
        return _folded(name) if blind else name

    taken = {same(file.path): file.path for file in files}
    seen: dict[str, str] = {}
    checked: dict[Path, Path | None] = {folder: None}
    for file in dict.fromkeys(files):
        name = file.path
        if _is_trap(name, folder):
            # a name may be half a character, which nothing can show
            yield file, asked.error("unsafe_name", file=name[:200].encode("utf-8", "replace").decode())
            continue
        above = [str(parent) for parent in PurePosixPath(name).parents][:-1]
        other = seen.get(same(name)) or next((taken[same(one)] for one in above if same(one) in taken), None)
        if other:
            yield file, asked.error("name_clash", file=name, other=other)
            continue
        seen[same(name)] = name
        beginning = f"{name}.part"
        while same(beginning) in taken:  # the repository has a file of that name
            beginning += ".part"
        taken[same(beginning)] = beginning
        try:
            path, part = _inside(folder, name, asked, checked), _inside(folder, beginning, asked, checked)
        except (HubError, WorkspaceError) as error:
            yield file, error
        else:
            yield file, (path, part)


def _inside(folder: Path, name: str, asked: Asked, checked: dict[Path, Path | None]) -> Path:
    """Return the path of a name. Raises where a link or something that is no file is in the way.

    `checked` holds the folders that were looked at before, each with what blocks it.
    """
    path = folder / name
    parent = path.parent
    if parent not in checked:
        inner = [one for one in (parent, *parent.parents) if one.is_relative_to(folder) and one != folder]
        linked = any(one.is_symlink() for one in inner)
        if linked or os.path.normcase(parent.resolve()) != os.path.normcase(parent):
            raise _link(folder, name, asked)
        checked[parent] = next((one for one in (*inner, folder) if one.exists() and not one.is_dir()), None)
    blocked = checked[parent]
    try:
        kind = stat.S_IFMT(path.lstat().st_mode)
    except OSError:  # nothing there
        kind = 0
    if kind == stat.S_IFLNK:
        raise _link(folder, name, asked)
    if blocked or kind not in (0, stat.S_IFREG):
        raise asked.error("name_clash", file=name, other=str(blocked or path))
    return path


def _link(folder: Path, name: str, asked: Asked) -> Problem:
    """Return the error for a name that goes through a link; one that stays inside would mix two files."""
    try:
        workspace.inside(folder, name)
    except WorkspaceError as error:
        return error
    except (OSError, RuntimeError):  # a link to itself
        pass
    return asked.error("unsafe_name", file=name)


def _case_clashes(files: Sequence[RemoteFile], problems: list[Problem], asked: Asked) -> Iterator[HubError]:
    """Yield a warning for names that are two here and one on a disk that doesn't tell a from A."""
    told = {problem.facts.get("file") for problem in problems}
    first: dict[str, str] = {}
    for name in dict.fromkeys(file.path for file in files):
        other = first.setdefault(_folded(name), name)
        if other != name and name not in told:
            yield asked.error("case_clash", file=name, other=other)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _is_blind(folder: Path) -> bool:
    """Return whether the disk that `folder` is on, or will be, takes a and A for one name."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with suppress(OSError):
        inner = next((path for path in there.iterdir() if path.name.swapcase() != path.name), None)
        for known in (inner, there, *there.parents):
            if known is not None and known.name.swapcase() != known.name:
                return known.with_name(known.name.swapcase()).exists() and known.samefile(
                    known.with_name(known.name.swapcase())
                )
    return os.name == "nt"


def _size(path: Path) -> int | None:
    """Return a file's bytes, None where there is none."""
    return path.stat().st_size if path.is_file() else None


def _is_trap(name: str, folder: Path) -> bool:
    parts = name.split("/")
    if not name or "\\" in name or re.match(r"[A-Za-z]:", name) or parts[0].lower() == OWN:
        return True
    try:
        sizes = [len(os.fsencode(f"{part}.part")) for part in parts]
    except UnicodeEncodeError:  # half a character
        return True
    if max(sizes) > LONGEST or sum(sizes) + len(os.fsencode(folder)) > LONGEST_PATH:
        return True
    return any(
        part in ("", ".", "..")
        or re.search(r"[\x00-\x1f]", part) is not None
        or _RESERVED.fullmatch(part.partition(".")[0].rstrip()) is not None
        or (os.name == "nt" and (re.search(r'[<>:"|?*]', part) is not None or part[-1] in ". "))
        for part in parts
    )


# Devices on Windows, whatever ending follows.
_RESERVED = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]", re.IGNORECASE)
