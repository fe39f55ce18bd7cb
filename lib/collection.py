"""Which files of a dataset belong together: its configs (subsets) and their splits.

    README.md       configs:                        Part("en", "train", (…/en/train-00000-of-00001.parquet,))
                    - config_name: en
                      data_files: en/train-*
    else by name    main/train-00000-of-00002.parquet    Part("main", "train", both shards, in order)
                    data/test_prefs.jsonl                Part("", "test_prefs", …)
                    books.json                           Part("", "", …)

As the Hub and `datasets.load_dataset` understand both, so that a part here is what a visitor sees there.
Files are never put together across parts; a part whose files have different columns says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from lib import records
from lib.errors import RecordError


@dataclass(frozen=True, slots=True)
class Part:
    """Files that are one table: the shards of a split, in order.

    `config` and `split` are "" where nothing names them. `mixed`: some files have columns that others lack,
    and the other way round, so one mapping will not do for all.
    """

    config: str
    split: str
    files: tuple[Path, ...]
    mixed: bool = False


def parts(files: Sequence[Path], root: Path) -> list[Part]:
    """Return the parts that a dataset's files make; every file is in one at least.

    `root` is the dataset's folder, whose README.md may say what belongs together. What it does not name goes
    by the names of files and folders. The README's default comes first, train before validation and test.
    """
    names = {_name(path, root): path for path in sorted(files, key=lambda path: _natural(_name(path, root)))}
    found: dict[tuple[str, str], list[Path]] = {}
    readme = root / "README.md"
    for config, split, patterns in _configs(readme, _stamp(readme)):
        chosen = [name for name in names if any(matches(name) for matches in patterns)]
        for name in chosen:
            group = found.setdefault((config, _by_name(name)[1] if split is None else split), [])
            if names[name] not in group:
                group.append(names[name])
    named = {path for group in found.values() for path in group}
    rest: dict[tuple[str, str], list[Path]] = {}
    for name, path in names.items():
        if path not in named:
            rest.setdefault(_by_name(name), []).append(path)
    for key in sorted(rest, key=lambda key: (_natural(key[0]), _rank(key[1]))):
        found.setdefault(key, []).extend(rest[key])
    return [Part(config, split, tuple(group), _mixed(group)) for (config, split), group in found.items()]


def _by_name(name: str) -> tuple[str, str]:
    """Return config and split of a file by its path below the root."""
    *folders, file = name.split("/")
    stem = file[: len(file) - len(records.ending(Path(file)))]
    shard = _SHARD.fullmatch(stem)
    stem = shard["stem"] if shard else stem
    own = _SPLIT_NAME.fullmatch(stem.lower())
    whole = (own and (shard or own[1] in _SUFFIXES)) or (shard and folders[-1:] == ["data"])
    split = stem if whole else _keyword(stem)
    configs = []
    for folder in folders:
        keyword = _keyword(folder)
        split = split or keyword
        plain = _KEYWORD.sub("", folder.lower()).strip("-._ ") if keyword else folder
        if plain and plain.lower() != "data":
            configs.append(folder[: len(plain)] if folder.lower().startswith(plain) else plain)
    return "/".join(configs), split


def _keyword(text: str) -> str:
    """Return the split a file's or a folder's name speaks of, "" for none."""
    found = _KEYWORD.search(text.lower())
    return _SPLITS[found[0]] if found else ""


def _rank(split: str) -> tuple[int, str]:
    """Order splits: those without a name, train, validation, test, all others."""
    order = ["", "train", "validation", "test"]
    keyword = _keyword(split)
    return (order.index(keyword) if keyword or not split else len(order)), split


def _natural(name: str) -> list[tuple[int, str]]:
    """Order names as people do, `part-10` behind `part-9`."""
    return [(int(digits), text) if digits else (0, text) for digits, text in _PIECES.findall(name.lower())]


def _name(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else Path(path.name)).as_posix()


def _mixed(files: Sequence[Path]) -> bool:
    """Return whether of the first files two have each a column that the other lacks, by their first rows."""
    first = files[:_LOOKED_AT] if len(files) > 1 else ()
    known: list[frozenset[str]] = []
    for path in first:
        columns = _columns(path, _stamp(path))
        if columns and any(columns - other and other - columns for other in known):
            return True
        known.append(columns)
    return False


@lru_cache(maxsize=256)
def _columns(path: Path, _stamp: tuple[int, int]) -> frozenset[str]:
    try:
        first = records.head(path, 20)
    except RecordError:
        return frozenset()
    return frozenset(records.columns(piece.value for piece in first if isinstance(piece, records.Record)))


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file does; what is remembered of it is forgotten then."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns


_Matches = Callable[[str], Any]


@lru_cache(maxsize=64)
def _configs(readme: Path, _stamp: tuple[int, int]) -> list[tuple[str, str | None, list[_Matches]]]:
    """Return (config, split, what its files' names match) in the README's order, the default first.

    A split of None goes by each file's name. A README that says nothing that can be understood says nothing.
    """
    try:
        with readme.open("rb") as file:
            text = file.read(_MOST).decode("utf-8", "replace").removeprefix("\ufeff")
        front = _FRONT.match(text)
        # only this block: the list of features beside it can be long, and YAML is read slowly
        block = _BLOCK.search(front[1]) if front else None
        # as text alone: a config called `no` is no boolean, and nothing else can come of it
        told = yaml.load(block[0], yaml.BaseLoader) if block else None
    except (OSError, yaml.YAMLError, RecursionError):
        return []
    configs = told.get("configs") if isinstance(told, dict) else None
    entries = [one for one in configs if isinstance(one, dict)] if isinstance(configs, list) else []
    entries.sort(key=lambda one: str(one.get("default")).lower() not in ("true", "yes"))
    found = []
    for entry in entries:
        config = entry.get("config_name", "default")
        folder = entry.get("data_dir", "")
        for split, patterns in _data_files(entry.get("data_files"), folder):
            if isinstance(config, str) and patterns:
                found.append((config, split, [_glob(pattern) for pattern in patterns]))
    return found


def _data_files(told: Any, folder: Any) -> Iterator[tuple[str | None, list[str]]]:
    """Yield the splits of one config and their patterns, from any of the forms `data_files` may have."""
    inside = f"{folder.strip('/')}/" if isinstance(folder, str) and folder.strip("/.") else ""
    if told is None:
        yield None, [f"{inside}**"] if inside else []
    elif isinstance(told, dict):
        for split, paths in told.items():
            yield str(split), [inside + path for path in _texts(paths)]
    elif isinstance(told, list) and any(isinstance(one, dict) for one in told):
        for one in told:
            if isinstance(one, dict) and isinstance(one.get("split"), str):
                yield one["split"], [inside + path for path in _texts(one.get("path"))]
    else:
        yield "train", [inside + path for path in _texts(told)]


def _texts(told: Any) -> Iterable[str]:
    return [one for one in (told if isinstance(told, list) else [told]) if isinstance(one, str) and one]


def _glob(pattern: str) -> _Matches:
    """Return what matches a path below the root against a pattern: `*` within a name, `**` across folders."""
    made = ""
    for token in _GLOB.findall(pattern.removeprefix("./")):
        if token == "**/":
            made += "(?:.*/)?"
        elif token == "**":
            made += ".*"
        elif token == "*":
            made += "[^/]*"
        elif token == "?":
            made += "[^/]"
        elif len(token) > 2 and token[0] == "[":
            inner = token[1:-1].replace("\\", r"\\")
            made += f"[^{inner[1:]}]" if inner[0] in "!^" else f"[{inner}]"
        else:
            made += re.escape(token)
    try:
        return re.compile(made).fullmatch
    except re.error:  # a class such as [z-a]
        return pattern.__eq__


_MOST = 1 << 22  # bytes of a README
_LOOKED_AT = 5  # files of a part whose columns are compared

# Source: datasets 5.2, data_files.py, 2026-11; the Chinese words are ours.
_SPLITS = {
    keyword: split
    for split, keywords in {
        "train": ("training", "train", "\u8bad\u7ec3"),
        "validation": ("validation", "valid", "val", "dev", "\u9a8c\u8bc1"),
        "test": ("testing", "test", "evaluation", "eval", "\u6d4b\u8bd5"),
    }.items()
    for keyword in keywords
}
_KEYWORD = re.compile(rf"(?<![a-z])(?:{'|'.join(_SPLITS)})(?![a-z])")
_SPLIT_NAME = re.compile(rf"(?:{'|'.join(_SPLITS)})(?:_(\w+))?")
# What follows a split's name where a dataset has several kinds of training data.
_SUFFIXES = {"sft", "gen", "prefs", "pref", "dpo", "rm", "rl", "kto", "ppo"}
_SHARD = re.compile(r"(?P<stem>.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]+)?")
_PIECES = re.compile(r"(\d*)(\D*)")
_FRONT = re.compile(r"---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"^configs:(?:[^\n]*\n)(?:(?:[ \t#-][^\n]*)?\r?\n)*", re.MULTILINE)
_GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+|\[")
