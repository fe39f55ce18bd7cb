"""What is kept beside a dataset so that any page of it comes at once: the index, and a plain copy if need be.

    KEEP/3f2a…-91c0….npy      where the rows are, and what the copy must look like
    KEEP/3f2a…-91c0….copy     the unpacked UTF-8 of a packed file; a Parquet file in small row groups

The name says of which file, and of which state of it (size and time of the last change). What does not fit
its own checksum is taken for missing. Everything is written beside its name and renamed, and says the same
whoever writes it, so two builders at once do each other no harm.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from threading import Lock

import numpy as np

from lib import workspace
from lib.errors import WorkspaceError
from lib.records import index, parquet
from lib.records.index import Index
from lib.records.row import Progress
from lib.records.shape import Shape
from lib.records.sniffing import sniff
from lib.records.source import behind, faults, open_utf8
from lib.records.stream import told

# Left free on the disk, whatever a packed file unpacks to.
_SPARE = 1 << 28
_BLOCK = 1 << 20
_VERSION = 1
_REMEMBERED = 16


def prepare(path: Path, keep: Path, progress: Progress = None, *, processes: int = 1) -> None:
    """Make pages, samples and searches of a file quick: write its index, and a plain copy if it needs one.

    `keep` is a folder, made if missing. A packed file is unpacked, one in another encoding recoded, Parquet
    with large row groups written anew with small ones. `progress` is told how many bytes of the file are
    behind. Does nothing where all is there. Raises what reading raises, and `WorkspaceError` where the disk
    is full or not writable.
    """
    shape = sniff(path)
    if not _load(shape, keep):
        plain = _copied(shape, keep, progress)
        known = index.build(plain, progress if plain is shape else None, processes=processes)
        _save(shape, plain, known, keep)
    if progress:
        progress(shape.size)


def prepared(path: Path, keep: Path) -> bool:
    """Return whether what `prepare` writes is there, whole and of the file as it is now."""
    return _load(sniff(path), keep) is not None


def known(path: Path, keep: Path | None = None) -> tuple[Shape, Index]:
    """Return a file's shape, that of its plain copy if there is one, and its index.

    What lies in `keep` is used; else the index is built, which reads the file once. Either is remembered
    until the file changes.
    """
    found = recalled(path, keep)
    if not found:
        shape = sniff(path)
        found = shape, index.build(shape)
        _remember(_name(shape), found)
    return found


def recalled(path: Path, keep: Path | None = None) -> tuple[Shape, Index] | None:
    """Return what `known` does where that is already there, else None."""
    shape = sniff(path)
    name = _name(shape)
    with _LOCK:
        found = _KNOWN.get(name)
        if found:
            _KNOWN.move_to_end(name)
    # an index in memory may know no copy yet; a copy in memory may be gone
    if keep and (not found or (shape.packed and not found[0].copy) or _gone(found[0])):
        found = _load(shape, keep) or (None if found and _gone(found[0]) else found)
        if found:
            _remember(name, found)
    return None if found and _gone(found[0]) else found


def _gone(shape: Shape) -> bool:
    return bool(shape.copy and not shape.copy.exists())


def _remember(name: str, found: tuple[Shape, Index]) -> None:
    with _LOCK:
        _KNOWN[name] = found
        while len(_KNOWN) > _REMEMBERED:
            _KNOWN.popitem(last=False)


def _name(shape: Shape) -> str:
    """Return the name of what is kept of a file as it is now; up to the hyphen it is that of the file."""
    path = shape.path.resolve()
    state = f"{_VERSION} {shape.size} {path.stat().st_mtime_ns}"
    return f"{_hash(str(path).encode())}-{_hash(state.encode())}"


def _hash(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def _copied(shape: Shape, keep: Path, progress: Progress) -> Shape:
    """Write the plain copy of a file that needs one; return the shape to read it by."""
    copy = keep / f"{_name(shape)}.copy"
    if shape.kind == "parquet":
        if not parquet.large_groups(shape):
            return shape
        _make_room(keep, shape.size * 2)
        with told(shape.path), workspace.writing(copy) as file:
            parquet.regroup(shape, file, progress)
    elif not shape.packed:
        return shape
    else:
        _make_room(keep, shape.size)
        with told(shape.path), open_utf8(shape) as text, workspace.writing(copy) as file:
            since = 0
            while part := text.read(_BLOCK):
                file.write(part)
                since += len(part)
                if since >= _SPARE >> 2:
                    _make_room(keep, 0)
                    since = 0
                if progress:
                    progress(behind(text))
            damaged = any(faults(shape, text, 0, 0))
        if damaged:  # what is wrong with it would not be seen in the copy
            copy.unlink(missing_ok=True)
            return shape
    return _plain(shape, copy)


def _plain(shape: Shape, copy: Path) -> Shape:
    return replace(shape, copy=copy, size=copy.stat().st_size, compression="", encoding="utf-8")


def _make_room(keep: Path, size: int) -> None:
    free = workspace.free_bytes(keep)
    if free < size + _SPARE:
        raise WorkspaceError("workspace.disk_full", path=str(keep), free=free)


def _save(shape: Shape, plain: Shape, known: Index, keep: Path) -> None:
    name = _name(shape)
    size, check = (plain.size, _sampled(plain.copy)) if plain.copy else (-1, 0)
    body = np.concatenate((np.array([[known.total, size, check]], np.int64), known.places))
    seal = np.array([[_sealed(body), len(body), _VERSION]], np.int64)
    with workspace.writing(keep / f"{name}.npy") as file:
        np.save(file, np.concatenate((seal, body)), allow_pickle=False)
    for old in keep.glob(f"{name.partition('-')[0]}-*"):
        if not old.name.startswith(name):
            with suppress(OSError):  # in use, on some systems
                old.unlink()


def _load(shape: Shape, keep: Path) -> tuple[Shape, Index] | None:
    """Return what is kept of a file, None where that is nothing, or not to be trusted."""
    path = keep / f"{_name(shape)}.npy"
    try:
        data = np.load(path, allow_pickle=False)
        if data.dtype != np.int64 or data.ndim != 2 or data.shape[1] != 3 or len(data) < 2:
            return None
        seal, body = data[0], data[1:]
        if seal.tolist() != [_sealed(body), len(body), _VERSION]:
            return None
        total, size, check = map(int, body[0])
        found = Index(np.ascontiguousarray(body[1:]), total, shape.kind == "parquet")
        if size < 0:
            return shape, found
        plain = _plain(shape, path.with_suffix(".copy"))
        return (plain, found) if plain.size == size and _sampled(plain.copy) == check else None
    except (OSError, ValueError, EOFError):
        return None


def _sealed(body: index.Places) -> int:
    return int.from_bytes(blake2b(body.tobytes(), digest_size=7).digest())


def _sampled(copy: Path | None) -> int:
    """Return a checksum over some blocks of a copy: to read all of it at every look would take too long."""
    assert copy
    size, check = copy.stat().st_size, blake2b(digest_size=7)
    with copy.open("rb") as file:
        for place in range(0, size, max(1 << 12, size // 16)):
            file.seek(place)
            check.update(file.read(1 << 12))
        file.seek(max(0, size - (1 << 12)))
        check.update(file.read())
    return int.from_bytes(check.digest())


_KNOWN: OrderedDict[str, tuple[Shape, Index]] = OrderedDict()
_LOCK = Lock()
