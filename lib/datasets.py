"""The datasets on this computer: the bundled sample, downloads, uploads, paths.

    datasets/ID/dataset.json    what it is and which files it has; written last, so it is whole or not there
    datasets/ID/files/          what was fetched or uploaded; a path and the sample are read where they lie
    datasets/ID/index/          what makes reading it quick: indexes, unpacked copies, profiles
    datasets/ID/edits.jsonl     what the visitor changed in its rows (lib/edits.py)

To add a source: a function here that ends in `_enter`, the words `data.from_SOURCE` and `data.was_SOURCE`.
"""

from __future__ import annotations

import re
import shutil
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

from lib import collection, handover, jobs, records
from lib.errors import UsageError
from lib.records.sniffing import PACKED
from lib.workspace import inside, new_id, read_json, room, write_json, writing

if TYPE_CHECKING:
    from lib.hub import Listing, RemoteFile

SAMPLE = Path(__file__).parent / "sample"
UPLOAD_LIMIT = 200_000_000  # bytes; an upload passes through the app's memory, a path does not
NAME_LIMIT = 60  # characters of a file name; at four bytes each they fit the 255 bytes that disks allow


@dataclass(frozen=True, slots=True)
class Dataset:
    """One dataset. `source` is "sample", a site such as "hub", "upload" or "path"; what it has not is "".

    `files` are names in the dataset's own folder, or whole paths for the source "path". `created` is seconds
    since 1970; `commit` is what `revision` of `repo` was when it was fetched from `endpoint`.
    """

    id: str
    name: str
    source: str
    created: float
    files: tuple[str, ...]
    repo: str = ""
    revision: str = ""
    commit: str = ""
    endpoint: str = ""
    license: str = ""
    path: str = ""


def listing() -> list[Dataset]:
    """Return all datasets, newest first."""
    found = [_read(path.parent) for path in room("datasets").glob("*/dataset.json")]
    return sorted((one for one in found if one), key=lambda one: (one.created, one.id), reverse=True)


def get(dataset_id: str) -> Dataset:
    """Return a dataset. Raises `UsageError` where there is none with this id."""
    found = _read(folder(dataset_id))
    if found is None:
        raise UsageError("dataset.unknown", id=dataset_id)
    return found


def files(dataset: Dataset) -> list[Path]:
    """Return a dataset's data files. Raises `UsageError` naming the first that is no longer there."""
    if dataset.source == "path":
        paths = [Path(name) for name in dataset.files]
    else:
        home = SAMPLE if dataset.source == "sample" else folder(dataset.id) / "files"
        paths = [inside(home, name) for name in dataset.files]
    for path in paths:
        if not path.is_file():
            raise UsageError("dataset.file_gone", file=str(path), name=dataset.name)
    return [path for path in paths if _is_data(path)] or paths


def folder(dataset_id: str) -> Path:
    """Return the folder of a dataset, which need not exist."""
    return inside(room("datasets"), dataset_id)


def parts(dataset: Dataset) -> list[collection.Part]:
    """Return which files of a dataset belong together. Raises what `files` raises."""
    found = files(dataset)
    if dataset.source == "sample":
        root = SAMPLE
    elif dataset.source == "path":
        root = Path(dataset.path) if Path(dataset.path).is_dir() else Path(dataset.path).parent
    else:
        root = folder(dataset.id) / "files"
    return collection.parts(found, root.resolve())


def keep_folder(dataset: Dataset) -> Path:
    """Return the folder for indexes, unpacked copies and profiles, which need not exist.

    It is in the workspace whatever the source, never beside the visitor's own files.
    """
    return folder(dataset.id) / "index"


def edits_file(dataset: Dataset) -> Path:
    """Return the file of the visitor's changes to a dataset's rows, which need not exist."""
    return folder(dataset.id) / "edits.jsonl"


def sample() -> Dataset:
    """Return the bundled sample as a dataset."""
    names = tuple(sorted(path.name for path in SAMPLE.glob("*.json")))
    return _enter(Dataset("sample", "tea-leaf-reader", "sample", time.time(), names, license="CC0-1.0"))


def from_upload(name: str, content: BinaryIO | bytes) -> Dataset:
    """Keep an uploaded file. Raises `UsageError` for one too large, empty, or no data file by its name."""
    return from_uploads([(name, BytesIO(content) if isinstance(content, bytes) else content)])


def from_uploads(uploads: Sequence[tuple[str, BinaryIO]]) -> Dataset:
    """Keep uploaded files, of one folder or of any, as one dataset.

    Folders in their names are kept below the one they share. Of several files those that are no data are
    left out, but a README.md says what belongs together. Raises `UsageError` where they are too large
    together, one is empty, or none is a data file by its name.
    """
    names = _upload_names([name for name, _ in uploads])
    wanted = [name for name in names if _is_data(Path(name))]
    if not wanted:
        first = names[0] if names else ""
        raise UsageError("dataset.not_data", name=first, known=_known())
    name = wanted[0].rpartition("/")[2] + (f" + {len(wanted) - 1}" if len(wanted) > 1 else "")
    made = Dataset(new_id(_stem(wanted[0])), name, "upload", time.time(), tuple(wanted))
    home = folder(made.id)
    try:
        left = UPLOAD_LIMIT
        for plain, (_, stream) in zip(names, uploads, strict=True):
            if plain in wanted:
                size = _keep(stream, home / "files" / plain, left)
                if not size:
                    raise UsageError("dataset.empty", name=plain)
                left -= size
            elif plain.lower() == "readme.md":
                left -= _keep(stream, home / "files" / "README.md", left)
        return _enter(made)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def from_path(text: str | Path) -> Dataset:
    """Take a file, or a folder with data files, where it lies. The same path again is the same dataset.

    `text` may be as pasted: in quotes, with `~`, as a `file://` address. Raises `UsageError`.
    """
    plain = str(text).strip().strip("\"'").strip()
    if plain.startswith("file://"):
        plain = _from_address(plain)
    try:
        path = Path(plain).expanduser().resolve()
        if not plain or not path.exists():
            raise UsageError("dataset.no_such_path", path=plain)
        found = records.find(path) if path.is_dir() else [path]
    except PermissionError as error:
        raise UsageError("dataset.not_readable", path=plain) from error
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, the home of nobody
        raise UsageError("dataset.no_such_path", path=plain[:NAME_LIMIT].replace("\0", "\\0")) from error
    if not found:
        raise UsageError("dataset.no_data", path=str(path), known=_known())
    names = tuple(str(one) for one in found)
    for known in listing():
        if known.source == "path" and known.path == str(path):
            return _enter(replace(known, files=names))
    name = path.name or str(path)
    return _enter(Dataset(new_id(path.stem), name, "path", time.time(), names, path=str(path)))


def fetch(
    there: Listing,
    chosen: Sequence[RemoteFile],
    *,
    others: Sequence[str] = (),
    token: str = "",
    anywhere: bool = False,
) -> jobs.Job:
    """Start the download of some files of a repository as a job; its result names the `dataset`.

    What an earlier one of the same files left, which was stopped or failed, is gone on with, though the
    endpoint be another. `others` are the endpoints to go on with. A `token` that was typed is handed to the
    job's process and written nowhere; without one the job takes the environment's. `anywhere`: it may go to
    these endpoints too.
    """
    if not chosen:
        raise UsageError("dataset.nothing_chosen", repo=there.ref.repo)
    told = orjson.loads(orjson.dumps(replace(there, files=tuple(chosen)).as_json()))
    asked: dict[str, Any] = {
        "dataset": new_id(there.ref.repo.rpartition("/")[2]),
        "listing": told,
        "others": list(others),
        "anywhere": anywhere,
        "typed_token": bool(token),
    }
    for job in jobs.listing("download"):
        before = job.folder.asked() if job.state in ("stopped", "failed") else {}
        if all(before.get("listing", {}).get(name) == told[name] for name in ("ref", "commit", "files")):
            asked["dataset"] = before["dataset"]
            break
    offer = partial(handover.offer, secret=token) if token else None
    return jobs.submit("download", there.ref.repo, asked, before=offer)


def fetched(there: Listing, chosen: Sequence[RemoteFile]) -> Dataset | None:
    """Return the dataset that has exactly these files of this commit already, if there is one."""
    wanted = there.ref.site, there.ref.repo, there.commit, {file.path for file in chosen}
    known = ((one, (one.source, one.repo, one.commit, set(one.files))) for one in listing())
    return next((one for one, has in known if has == wanted), None)


def go_on(job_id: str, token: str = "") -> jobs.Job:
    """Take a download up again that was stopped or failed, at its last byte; `token` as in `fetch`."""
    folder = jobs.get(job_id).folder
    if token and folder.asked().get("typed_token"):
        handover.offer(folder, token)
    return jobs.resume(job_id)


def from_hub(dataset_id: str, listing: Listing) -> Dataset:
    """Enter a download whose files are whole and lie in the dataset's folder; for lib/worker.py."""
    ref = listing.ref
    return _enter(
        Dataset(
            dataset_id,
            ref.repo,
            ref.site,
            time.time(),
            tuple(file.path for file in listing.files),
            repo=ref.repo,
            revision=ref.revision,
            commit=listing.commit,
            endpoint=listing.endpoint,
            license=listing.license,
        )
    )


def safe_name(name: str) -> str:
    """Return a file name that every disk takes and that leads nowhere: no folders, no reserved signs."""
    plain = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    plain = "".join(
        "_" if sign in '<>:"|?*' or unicodedata.category(sign)[0] == "C" else sign for sign in plain
    )
    stem, dot, ending = plain.strip(" .").rpartition(".")
    if not dot:
        stem, ending = ending, ""
    if f".{ending.lower()}" in PACKED and "." in stem:
        stem, _, inner = stem.rpartition(".")
        ending = f"{inner[:12]}.{ending}"
    if re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", stem.partition(".")[0].strip(), re.IGNORECASE):
        stem = f"_{stem}"
    ending = ending if "." in ending else ending[:12]
    return f"{stem[: NAME_LIMIT - len(ending) - 1]}{dot}{ending}" or "data"


def _is_data(path: Path) -> bool:
    return records.ending(path) in records.ENDINGS


def _known() -> str:
    """Return the endings to name, which the packed ones only repeat."""
    return ", ".join(ending for ending in records.ENDINGS if ending.count(".") == 1)


def _stem(name: str) -> str:
    """Return a file's name without its folders and endings."""
    plain = name.rpartition("/")[2]
    return plain[: len(plain) - len(records.ending(Path(plain)))]


def _upload_names(given: Sequence[str]) -> list[str]:
    """Return safe paths for uploads, below the folder that all share, no two of them the same."""
    paths = []
    for name in given:
        *folders, last = name.replace("\\", "/").split("/")
        inner = [safe_name(one) for one in folders if one.strip(" .")]
        paths.append([*inner[-_DEEPEST:], safe_name(last)])
    shared = 0
    while paths and all(
        len(path) > shared + 1 and path[: shared + 1] == paths[0][: shared + 1] for path in paths
    ):
        shared += 1
    made: list[str] = []
    taken: set[str] = set()
    for path in paths:
        name = "/".join(path[shared:])
        stem, number = _stem(name), 1
        before, after = name[: len(name) - len(path[-1])], path[-1][len(stem) :]
        while name.lower() in taken:
            number += 1
            name = f"{before}{stem}-{number}{after}"
        made.append(name)
        taken.add(name.lower())
    return made


def _keep(stream: BinaryIO, path: Path, most: int) -> int:
    """Write an upload to its place; return its size in bytes."""
    size = 0
    with writing(path) as file:
        while piece := stream.read(1 << 20):
            size += len(piece)
            if size > most:
                raise UsageError("dataset.too_large", name=path.name, most=UPLOAD_LIMIT)
            file.write(piece)
    return size


def _from_address(text: str) -> str:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return url2pathname(urlsplit(text).path)


def _enter(dataset: Dataset) -> Dataset:
    """Write `dataset.json`; a dataset that is known already keeps the time it was first made."""
    known = _read(folder(dataset.id))
    kept = replace(dataset, created=known.created) if known else dataset
    write_json(folder(dataset.id) / "dataset.json", asdict(kept))
    return kept


def _read(home: Path) -> Dataset | None:
    """Return the dataset in a folder, or None where there is none or its `dataset.json` was mangled."""
    try:
        known: Any = read_json(home / "dataset.json")
    except OSError:
        return None
    if not isinstance(known, dict):
        return None
    given = {field.name: known[field.name] for field in fields(Dataset) if field.name in known}
    try:
        found = Dataset(**given | {"id": home.name, "files": tuple(known["files"])})
    except (KeyError, TypeError):
        return None
    whole = isinstance(found.created, int | float) and all(isinstance(name, str) for name in found.files)
    return found if whole and isinstance(found.name, str) and isinstance(found.source, str) else None


_DEEPEST = 4  # folders kept of an upload's name
