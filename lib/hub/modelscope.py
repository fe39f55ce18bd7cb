"""ModelScope: its addresses, and what it says is in a repository.

    GET /api/v1/datasets/ID/repo/tree?Revision=&Recursive=True&PageNumber=1&PageSize=200
    GET /api/v1/models/ID/repo/files?Revision=&Recursive=True[&Root=FOLDER]
        {"Code": 200, "Success": true, "Data": {"Files": [{"Path", "Type", "Size", "Sha256", …}],
         "LatestCommitter": {"Id", …}, …}}
    GET /api/v1/datasets/ID/repo?Revision=&FilePath=        the bytes; large files by a redirect to storage
    GET /openapi/v1/datasets/ID                             {"success": true, "data": {"license", …}}

Source: the client modelscope_hub 0.5.1 and programs of others that speak with it, read on 2026-11-25; the
service itself was not reached. They differ from the Hub in what matters here:

- A dataset's list comes in pages, a model's at once, but never more than MOST entries: then folder by folder.
- A page in the middle may answer 403 for no reason, though the first one did not.
- A refusal may come with status 200, and says so in `Success` and `Code`.
- A part of a small file comes with status 200, not 206; only `Content-Range` tells that it is a part. A range
  counted from the end is refused.

What stands for the commit is `LatestCommitter.Id`, where it is a whole hash: files are then fetched at it.
Where it is missing, nothing can be pinned: they are fetched from the branch, and one that has changed since
it was listed is found by its SHA-256, which every file has here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlencode

BRANCH = "master"
PAGE = 200
MOST = 3000  # entries of one list of a model's files

Row = dict[str, Any]
Ask = Callable[[str], Any]  # an address -> the `Data` of its answer


class TooManyFilesError(Exception):
    """A folder holds more entries than are ever told."""


def page(endpoint: str, kind: str, repo: str) -> str:
    """Return the address of a repository's page."""
    return f"{endpoint}/{kind}s/{repo}"


def file(endpoint: str, kind: str, repo: str, revision: str, path: str) -> str:
    """Return the address of a file's bytes."""
    return f"{endpoint}/api/v1/{kind}s/{repo}/repo?" + _query(Revision=revision, FilePath=path)


def about(endpoint: str, kind: str, repo: str) -> str:
    """Return the address of what is known about a repository: `license`, as the site names it."""
    return f"{endpoint}/openapi/v1/{kind}s/{repo}"


def pages(ask: Ask, endpoint: str, kind: str, repo: str, revision: str) -> Iterator[tuple[str, list[Row]]]:
    """Yield the pages of a repository's list of files: the commit, "" where it isn't told, and the rows.

    A row is a file: `Path`, `Size`, `Sha256`. Raises what `ask` raises, `TooManyFilesError`, and KeyError,
    TypeError or AttributeError where the answer is no list of files.
    """
    api = f"{endpoint}/api/v1/{kind}s/{repo}/repo"
    if kind == "dataset":
        number, last = 1, False
        while not last:
            query = _query(Revision=revision, Recursive="True", PageNumber=str(number), PageSize=str(PAGE))
            data = ask(f"{api}/tree?{query}")
            last, number = len(data["Files"]) < PAGE, number + 1
            yield _commit(data), _files(data)
        return
    folders = [""]
    while folders:
        root = folders.pop(0)
        data = ask(f"{api}/files?" + _query(Revision=revision, Recursive="True", Root=root))
        if len(data["Files"]) >= MOST:  # it may be cut there: take this folder's own files, then those below
            data = ask(f"{api}/files?" + _query(Revision=revision, Recursive="False", Root=root))
            if len(data["Files"]) >= MOST:
                raise TooManyFilesError(root)
            folders += [row["Path"] for row in data["Files"] if row["Type"] == "tree"]
        yield _commit(data), _files(data)


def _commit(data: Row) -> str:
    told = str((data.get("LatestCommitter") or {}).get("Id") or "")
    return told if re.fullmatch(r"[0-9a-f]{40}", told) else ""


def _files(data: Row) -> list[Row]:
    return [row for row in data["Files"] if row["Type"] != "tree"]


def _query(**asked: str) -> str:
    return urlencode({name: value for name, value in asked.items() if value}, quote_via=quote)
