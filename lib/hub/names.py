"""Where a repository's files lie on this disk. A name that is a trap is refused before any write."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lib import workspace
from lib.hub.failures import Asked
from lib.hub.listing import RemoteFile

OWN = ".hub"  # the folder inside the target that is ours


def places(files: Sequence[RemoteFile], folder: Path, asked: Asked) -> dict[RemoteFile, tuple[Path, Path]]:
    """Return for each file its final path and the path of its beginning, `NAME.part`, both inside `folder`.

    Raises `HubError` `hub.unsafe_name` for a name that leaves the folder, goes through a link or cannot be a
    file's name on some computer; `hub.name_clash` for two names that are one on this disk.
    """
    taken = {file.path for file in files}
    blind = (folder / OWN.upper()).exists()  # this disk doesn't see the difference between a and A
    seen: dict[str, str] = {}
    found = {}
    for file in dict.fromkeys(files):
        name = file.path
        if _is_trap(name):
            raise asked.error("unsafe_name", file=name[:200])
        same = unicodedata.normalize("NFC", name).casefold() if blind else name
        above = [str(parent) for parent in PurePosixPath(name).parents]
        other = seen.get(same) or next((parent for parent in above if parent in taken), None)
        if other:
            raise asked.error("name_clash", file=name, other=other)
        seen[same] = name
        beginning = f"{name}.part"
        while beginning in taken:  # the repository has a file of that name
            beginning += ".part"
        taken.add(beginning)
        path, part = _inside(folder, name, asked), _inside(folder, beginning, asked)
        blocked = next((p for p in (path, part) if p.is_dir()), None)
        blocked = blocked or next((p for p in path.parents if p.is_relative_to(folder) and p.is_file()), None)
        if blocked:
            raise asked.error("name_clash", file=name, other=str(blocked))
        found[file] = (path, part)
    return found


def _inside(folder: Path, name: str, asked: Asked) -> Path:
    path = workspace.inside(folder, name)
    if os.path.normcase(path) != os.path.normcase(
        folder.resolve() / name
    ):  # a link, even one that stays inside
        raise asked.error("unsafe_name", file=name)
    return path


def _is_trap(name: str) -> bool:
    parts = name.split("/")
    if not name or "\\" in name or re.match(r"[A-Za-z]:", name) or parts[0].lower() == OWN:
        return True
    return any(
        part in ("", ".", "..")
        or len(os.fsencode(f"{part}.part")) > 255
        or re.search(r"[\x00-\x1f]", part) is not None
        or _RESERVED.fullmatch(part.partition(".")[0].rstrip()) is not None
        or (os.name == "nt" and (re.search(r'[<>:"|?*]', part) is not None or part[-1] in ". "))
        for part in parts
    )


# Devices on Windows, whatever ending follows.
_RESERVED = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]", re.IGNORECASE)
