"""The examination before a conversion: every row read, mapped and checked, nothing written.

What it finds is what the conversion will do: it is the same loop (lib/sift.py) with the same request. The
findings are kept beside the dataset, so that a page can show the bad rows of a file of any size at once.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from lib import check, convert, edits, sift
from lib.profile import Histogram
from lib.repeats import repeats
from lib.workspace import read_json, write_json

# Findings kept; what is beyond is counted only.
MOST = 10_000


@dataclass(frozen=True, slots=True)
class Examination:
    """What a conversion will find: of `read` rows, `good` ones will be in.

    `findings` are the first MOST by file and row, the errors first; `rules` counts every one, `bad` the rows
    that will be set aside by reason, `mended` the fixes that will be made. `tokens` are the estimated lengths
    of the good rows.
    """

    read: int
    good: int
    findings: list[check.Finding] = field(default_factory=list)
    rules: dict[str, int] = field(default_factory=dict)
    bad: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    edited: int = 0
    tokens: Histogram = field(default_factory=Histogram)

    def as_json(self) -> dict[str, Any]:
        """Return the examination as JSON values."""
        plain = asdict(replace(self, tokens=Histogram()))
        return plain | {"tokens": self.tokens.as_json()}


def examine(request: convert.Request, progress: convert.Progress | None = None) -> Examination:
    """Examine every row of the request's files. Raises what `convert.convert` does before it writes."""
    convert.check_request(request)
    plan = convert.plan(request, None)
    processes = sift.cores(request.processes)
    read = edited = 0
    findings: list[check.Finding] = []
    rules: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    mended: Counter[str] = Counter()
    tokens = Histogram()
    seen = bytearray()
    where: list[tuple[str, np.ndarray[Any, Any]]] = []
    names = edits.names(request.files)
    for path, report in convert.reports(request.files, progress):
        name = names[path]
        for base, part in sift.parts(path, name, plan, processes, report):
            read += part.read
            edited += part.edited
            bad.update(part.reasons)
            mended.update(part.mended)
            rules.update(part.rules)
            tokens.add(np.array(part.tokens, dtype=np.int64))
            seen += part.digests
            where.append((name, np.array(part.numbers, dtype=np.int64) + (base.number - 1)))
            findings += [
                replace(one, row=one.row + base.number - 1, line=one.line + base.line - 1 if one.line else 0)
                for one in part.findings[: max(0, sift.MOST - len(findings))]
            ]
    if repeated := _repeated(seen, where, check.targets()[request.target]):
        rules["duplicate"] += len(repeated)
        if "drop_duplicate" in edits.load(request.edits).fixes:
            bad["duplicate"] += len(repeated)
            mended["drop_duplicate"] += len(repeated)
        else:
            findings += repeated
    files = list(names.values())
    findings.sort(key=lambda one: (one.severity != "error", files.index(one.file), one.row))
    return Examination(
        read=read,
        good=read - sum(bad.values()),
        findings=findings[:MOST],
        rules=dict(rules.most_common()),
        bad=dict(bad.most_common()),
        mended=dict(mended.most_common()),
        edited=edited,
        tokens=tokens,
    )


def keep(request: convert.Request, seen: Examination, folder: Path) -> None:
    """Write an examination into `folder`, in place of an earlier one of these files."""
    write_json(_file(request, folder), seen.as_json() | {"of": _key(request)})


def kept(request: convert.Request, folder: Path) -> Examination | None:
    """Return what `keep` wrote for this very request, or None where anything it depends on is another."""
    path = _file(request, folder)
    try:
        changed = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    of, seen = _read(path, changed)
    return seen if of == _key(request) else None


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> tuple[str, Examination | None]:
    found = read_json(path)
    if not isinstance(found, dict) or "of" not in found:
        return "", None
    findings = [check.Finding(**one) for one in found["findings"]]
    tokens = Histogram.from_json(found["tokens"])
    plain = {name: found[name] for name in ("read", "good", "rules", "bad", "mended", "edited")}
    return found["of"], Examination(**plain, findings=findings, tokens=tokens)


def _file(request: convert.Request, folder: Path) -> Path:
    """One file for each set of data files: an examination takes the place of the one before."""
    names = "\n".join(map(str, request.files)).encode()
    return folder / f"examined-{hashlib.blake2b(names, digest_size=8).hexdigest()}.json"


def _key(request: convert.Request) -> str:
    """Return what an examination depends on, as a hash."""
    parts = [
        [(str(path), *convert.stamp(path)) for path in request.files],
        asdict(request.mapping),
        request.target,
        request.max_tokens,
        edits.load(request.edits).digest,
    ]
    return hashlib.blake2b(orjson.dumps(parts), digest_size=16).hexdigest()


def _repeated(
    digests: bytearray, where: list[tuple[str, np.ndarray[Any, Any]]], target: check.Target
) -> list[check.Finding]:
    """Return a finding for each row whose conversation came before."""
    severity = target.rules.get("duplicate")
    places = repeats(np.frombuffer(digests, dtype="<u8"))[0]
    if not severity or not len(places):
        return []
    begins = np.cumsum([0, *(len(numbers) for _, numbers in where)])
    found = []
    for place in places.tolist():
        stretch = int(np.searchsorted(begins, place, "right")) - 1
        name, numbers = where[stretch]
        row = int(numbers[place - int(begins[stretch])])
        found.append(check.Finding(0, "", "duplicate", severity, "", "drop_duplicate", row, name))
    return found
