"""A finished conversion once more, in the shapes other tools read.

    messages                {"messages": […]}: train.jsonl and validation.jsonl themselves, nothing more to do
    alpaca                  {"instruction", "input", "output", "system", "history": [[question, answer], …]}
    sharegpt                {"conversations": [{"from", "value"}, …], "system"}, "tools" where there are any
    prompt_completion       {"prompt": [turns], "completion": [the last answer]}: TRL learns that answer alone
    prompt_completion_text  {"prompt": "…", "completion": "…"}: Together's instruction data, one turn each
    parquet                 messages as list<struct<role, content>>, "tools" where there are any
    llamafactory            dataset_info.json, which names the files to LLaMA-Factory (its dataset_dir)

Each shape has a folder of its own with train and validation in it, so that `datasets.load_dataset(FOLDER)`
finds both; `dataset_info.json` lies beside train.jsonl. JSON shapes are JSON lines, which every one of these
tools reads as it reads an array. A row that a shape cannot hold is counted, and listed with the reason in
`left_out.jsonl` of its folder. All files appear together at the end or not at all. The same conversion gives
the same bytes; of Parquet, by the same version of pyarrow, whose name stands in the file.

`datasets` learns a file's columns from its first 10 MB and fails on what is new later (5.2, seen 2026-11). So
the first row of each make that would come later is moved to the front, empty texts are "" and never null, and
tools and the arguments of calls are JSON text.

To add one: a function from a line of chat JSONL to a row, a row in OUTPUTS, `output.NAME` in each language.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from lib.errors import UsageError, WorkspaceError
from lib.workspace import told, writing

SIDES = ("train", "validation")
# Rows of a make that comes later than this are moved to the front; readers look at 10 MB.
LOOK = 4 << 20
# A Parquet row group holds about so many bytes of JSON; that much is in memory.
GROUP = 4 << 20

Row = dict[str, Any]
Progress = Callable[[int, int], None]


class Written(NamedTuple):
    """What was written: the files, the rows in them, and how many were left out for which reason.

    `left_out`: reason -> rows (`reason.NAME` in each language).
    """

    files: tuple[Path, ...]
    rows: int
    left_out: dict[str, int]


@dataclass(frozen=True, slots=True)
class Output:
    """One shape: the ending of its files ("" where it has none of its own) and what a line becomes."""

    ending: str
    row: Callable[[Row], Row]


def write(folder: Path, names: Sequence[str], progress: Progress | None = None) -> dict[str, Written]:
    """Write a finished conversion in these shapes too; return what was written of each.

    LLaMA-Factory reads calls of tools from sharegpt only: where there are any, that is written with it.
    `progress` is told the bytes behind and the bytes in all; whatever it raises stops the writing, and then
    nothing has changed on disk. Raises `UsageError` for an unknown name, `WorkspaceError` where there is no
    conversion or the disk refuses.
    """
    for name in names:
        if name not in OUTPUTS:
            raise UsageError("outputs.unknown", name=name, known=", ".join(OUTPUTS))
    sources = [folder / f"{side}.jsonl" for side in SIDES]
    if not sources[0].exists():
        raise WorkspaceError("outputs.no_conversation", folder=str(folder))
    sources = [source for source in sources if source.exists() and source.stat().st_size]
    wanted = [name for name in OUTPUTS if name in names]
    looks = [] if wanted == ["messages"] else [_look(source) for source in sources]
    calls = any(look.calls for look in looks)
    if "llamafactory" in wanted and calls and "sharegpt" not in wanted:
        wanted.append("sharegpt")
    extra = tuple(dict.fromkeys(key for look in looks for key in look.extra))
    shapes = [_Shape(folder, name, calls=calls, extra=extra) for name in wanted if name != "messages"]
    if shapes:
        _fill(shapes, sources, looks, progress)
    found = {shape.name: shape.written for shape in shapes}
    if "messages" in wanted:
        found["messages"] = Written(tuple(sources), sum(map(_count, sources)), {})
    return {name: found[name] for name in wanted}


def _fill(
    shapes: Sequence[_Shape], sources: Sequence[Path], looks: Sequence[_Look], progress: Progress | None
) -> None:
    """Read the conversion once and give every line to every shape."""
    total, before = sum(source.stat().st_size for source in sources), 0
    info = next((shape for shape in shapes if shape.name == "llamafactory"), None)
    try:
        with ExitStack() as stack:
            for source, look in zip(sources, looks, strict=True):
                for shape in shapes:
                    shape.begin(source.stem, stack)
                for place, (number, line) in enumerate(_lines(source, look.leading)):
                    value = orjson.loads(line)
                    for shape in shapes:
                        shape.take(value, source.name, number, len(line))
                    before += len(line)
                    if progress and not place % 256:
                        progress(before, total)
                for shape in shapes:
                    shape.end()
            if info:
                path = info.folder.parent / "dataset_info.json"
                book = stack.enter_context(writing(path))
                book.write(orjson.dumps(_dataset_info(shapes, sources), option=_PRETTY))
                info.files.append(path)
    except BaseException:
        for shape in shapes:
            with contextlib.suppress(OSError):
                shape.folder.rmdir()
        raise
    for shape in shapes:  # files of an earlier writing that have no rows now
        for side in (*SIDES, "left_out"):
            for path in shape.folder.glob(f"{side}.*"):
                if path.suffix in (".jsonl", ".parquet") and path not in shape.files:
                    with told(path):
                        path.unlink()
    if progress:
        progress(total, total)


def _lines(source: Path, leading: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers, those at the (offset, number) of `leading` first."""
    with source.open("rb") as file:
        for offset, number in leading:
            file.seek(offset)
            yield number, file.readline()
        file.seek(0)
        done = {number for _, number in leading}
        for number, line in enumerate(file, 1):
            if number not in done:
                yield number, line


def _count(source: Path) -> int:
    with source.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


class _Look(NamedTuple):
    """What a file's rows hold: calls of tools or tools, and which fields of turns beside role and content."""

    calls: bool
    extra: tuple[str, ...]
    leading: list[tuple[int, int]]


def _look(source: Path) -> _Look:
    """Read a file once to know its fields, and the rows that go first: (offset, number of the line)."""
    makes: dict[tuple[bool, frozenset[str]], tuple[int, int]] = {}
    keys: dict[str, None] = {}
    tools, offset = False, 0
    with source.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = orjson.loads(line)
            found = dict.fromkeys(key for turn in row["messages"] for key in turn)
            keys |= found
            tools = tools or bool(row.get("tools"))
            several = sum(turn["role"] == "assistant" for turn in row["messages"]) > 1
            make = several, frozenset(found) | ({"tools"} if row.get("tools") else frozenset())
            makes.setdefault(make, (offset, number))
            offset += len(line)
    extra = tuple(key for key in keys if key not in ("role", "content"))
    leading = [place for place in makes.values() if place[0] > LOOK]
    return _Look(tools or "tool_calls" in extra or "tool_call_id" in extra, extra, leading)


class _Shape:
    """One shape on its way to disk. A file is opened with its first row: a side without rows has none."""

    def __init__(self, folder: Path, name: str, *, calls: bool, extra: Sequence[str]) -> None:
        self.name, self.folder = name, folder / name
        self.output, self.calls, self.extra = OUTPUTS[name], calls, extra
        self.rows = 0
        self.files: list[Path] = []
        self.reasons: Counter[str] = Counter()
        self._side = ""
        self._sink: _Lines | _Parquet | None = None
        self._list: IO[bytes] | None = None

    @property
    def written(self) -> Written:
        return Written(tuple(self.files), self.rows, dict(self.reasons.most_common()))

    def begin(self, side: str, stack: ExitStack) -> None:
        self._side, self._stack, self._sink = side, stack, None

    def take(self, value: Row, file: str, number: int, size: int) -> None:
        """Write one line of the conversion in this shape, or say why it cannot be."""
        try:
            row = self.output.row(value)
        except _CannotError as error:
            self.reasons[error.reason] += 1
            if not self._list:
                self._list = self._open("left_out", ".jsonl")
            entry = {"file": file, "line": number, "reason": error.reason}
            self._list.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
            return
        self.rows += 1
        if not self.output.ending:
            return
        if self.name == "sharegpt" and self.calls:
            row.setdefault("tools", "")
        if not self._sink:
            file_ = self._open(self._side, self.output.ending)
            parquet = self.output.ending == ".parquet"
            self._sink = _Parquet(file_, self.calls, self.extra) if parquet else _Lines(file_)
            self._stack.callback(self._sink.let_go)
        self._sink.write(row, size)

    def end(self) -> None:
        if self._sink:
            self._sink.close()

    def _open(self, stem: str, ending: str) -> IO[bytes]:
        path = self.folder / f"{stem}{ending}"
        self.files.append(path)
        return self._stack.enter_context(writing(path))


class _Lines:
    """Rows as JSON lines."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, row: Row, _size: int) -> None:
        self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.flush()

    def let_go(self) -> None:
        pass


class _Parquet:
    """Rows as a Parquet file. Its columns are fixed beforehand; what a row lacks is null."""

    def __init__(self, file: IO[bytes], calls: bool, extra: Sequence[str]) -> None:
        import pyarrow
        from pyarrow import parquet

        text = pyarrow.string()
        call = pyarrow.struct(
            {"id": text, "type": text, "function": pyarrow.struct({"name": text, "arguments": text})}
        )
        turn = {"role": text, "content": text} | {
            key: pyarrow.list_(call) if key == "tool_calls" else text for key in extra
        }
        columns = {"messages": pyarrow.list_(pyarrow.struct(turn))} | ({"tools": text} if calls else {})
        self._schema = pyarrow.schema(columns)
        self._table = pyarrow.Table.from_pylist
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[Row] = []
        self._size = 0

    def write(self, row: Row, size: int) -> None:
        self._rows.append(row)
        self._size += size
        if self._size >= GROUP:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def let_go(self) -> None:
        """Close it whatever happened; else it does so by itself, when its file is closed already."""
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._table(self._rows, schema=self._schema))
        self._rows, self._size = [], 0


# --- one function for each shape, from a line of chat JSONL to a row


class _CannotError(Exception):
    """A shape has no room for this row."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _alpaca(row: Row) -> Row:
    """The extra input of alpaca stays empty: what stood in it is part of the question by now."""
    system, turns = _talk(row)
    pairs = [[turn["content"] for turn in turns[at : at + 2]] for at in range(0, len(turns), 2)]
    question, answer = pairs.pop()
    return {"instruction": question, "input": "", "output": answer, "system": system, "history": pairs}


def _prompt_completion_text(row: Row) -> Row:
    system, turns = _talk(row)
    if system:
        raise _CannotError("has_system")
    if len(turns) > 2:
        raise _CannotError("several_turns")
    return {"prompt": turns[0]["content"], "completion": turns[1]["content"]}


def _prompt_completion(row: Row) -> Row:
    turns = [_written_calls(turn) for turn in row["messages"]]
    if turns[-1]["role"] != "assistant":
        raise _CannotError("unanswered")
    if len(turns) < 2:
        raise _CannotError("no_question")
    tools = {"tools": _json(row["tools"])} if row.get("tools") else {}
    return {"prompt": turns[:-1], "completion": turns[-1:]} | tools


def _sharegpt(row: Row) -> Row:
    """LLaMA-Factory wants who asks and who answers in turns, and passes over any other row in silence."""
    turns = row["messages"]
    system, turns = (turns[0]["content"], turns[1:]) if turns[0]["role"] == "system" else ("", turns)
    said = [_said(turn) for turn in turns]
    speakers = [who for who, _ in said]
    if "system" in speakers:
        raise _CannotError("system_not_first")
    if any(pair == ("observation", "observation") for pair in pairwise(speakers)):
        raise _CannotError("tool_results")
    _in_turns([who in ("gpt", "function_call") for who in speakers])
    talk = {"conversations": [{"from": who, "value": what} for who, what in said], "system": system}
    return talk | ({"tools": _json(row["tools"])} if row.get("tools") else {})


def _parquet(row: Row) -> Row:
    turns = [_written_calls(turn) for turn in row["messages"]]
    if any(type(value) is not str for turn in turns for key, value in turn.items() if key != "tool_calls"):
        raise _CannotError("other_fields")
    return {"messages": turns} | ({"tools": _json(row["tools"])} if row.get("tools") else {})


def _llamafactory(row: Row) -> Row:
    """Of what it reads as it is, LLaMA-Factory passes over the same rows as of sharegpt."""
    return _sharegpt(row)


def _messages(row: Row) -> Row:
    return row


OUTPUTS: dict[str, Output] = {
    "messages": Output("", _messages),
    "alpaca": Output(".jsonl", _alpaca),
    "sharegpt": Output(".jsonl", _sharegpt),
    "prompt_completion": Output(".jsonl", _prompt_completion),
    "prompt_completion_text": Output(".jsonl", _prompt_completion_text),
    "parquet": Output(".parquet", _parquet),
    "llamafactory": Output("", _llamafactory),
}


# --- their parts


def _talk(row: Row) -> tuple[str, list[Row]]:
    """Return the system prompt and the turns of a talk of two, questions at even places."""
    turns = row["messages"]
    if row.get("tools") or any(turn["role"] == "tool" or "tool_calls" in turn for turn in turns):
        raise _CannotError("tool_calls")
    if any(len(turn) > 2 for turn in turns):
        raise _CannotError("other_fields")
    system, turns = (turns[0]["content"], turns[1:]) if turns[0]["role"] == "system" else ("", turns)
    if any(turn["role"] == "system" for turn in turns):
        raise _CannotError("system_not_first")
    _in_turns([turn["role"] == "assistant" for turn in turns])
    return system, turns


def _in_turns(answers: list[bool]) -> None:
    """Raise unless somebody asks and somebody answers, in turns, and the last word is an answer."""
    if not answers or answers[0]:
        raise _CannotError("first_not_user")
    if any(one == other for one, other in pairwise(answers)):
        raise _CannotError("not_alternating")
    if not answers[-1]:
        raise _CannotError("unanswered")


_SHAREGPT = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}


def _said(turn: Row) -> tuple[str, str]:
    """Return who says what, in sharegpt's words; a call is a JSON object, several are a list of them."""
    if any(key not in ("role", "content", "tool_calls", "tool_call_id", "name") for key in turn):
        raise _CannotError("other_fields")
    if not turn.get("tool_calls"):
        if "name" in turn and turn["role"] != "tool":
            raise _CannotError("other_fields")
        return _SHAREGPT[turn["role"]], turn["content"]
    if turn["content"]:
        raise _CannotError("words_and_calls")
    calls = []
    for call in _written_calls(turn)["tool_calls"]:
        try:
            arguments = json.loads(call["function"]["arguments"])
        except (ValueError, RecursionError):
            raise _CannotError("bad_calls") from None
        calls.append({"name": call["function"]["name"], "arguments": arguments})
    return "function_call", _json(calls[0] if len(calls) == 1 else calls)


def _written_calls(turn: Row) -> Row:
    """Return a turn whose calls, if any, have id, type, and a function with its arguments as JSON text."""
    if "tool_calls" not in turn:
        return turn
    calls = []
    for call in turn["tool_calls"] or ():
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not {*call} <= {"id", "type", "function"}:
            raise _CannotError("bad_calls")
        name, arguments = function.get("name"), function.get("arguments", "{}")
        if not isinstance(name, str) or not {*function} <= {"name", "arguments"}:
            raise _CannotError("bad_calls")
        given = arguments if isinstance(arguments, str) else _json(arguments)
        calls.append(call | {"function": {"name": name, "arguments": given}})
    return turn | {"tool_calls": calls}


def _json(value: Any) -> str:
    """Return a value as JSON text, integers of any size included."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if _is_unicode(text) else json.dumps(value)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dataset_info(shapes: Sequence[_Shape], sources: Sequence[Path]) -> dict[str, Any]:
    """Return what LLaMA-Factory wants to know of each file, by names to put into `dataset`.

    Its formatting "openai" appends a sentence of its own to every system prompt (0.9.5), so the chat lines
    are described as sharegpt with other tags. Source: LLaMA-Factory 0.9.5, data/parser.py, read 2026-11.
    """
    named = {shape.name: shape for shape in shapes}
    calls = any(shape.calls for shape in shapes)
    info: dict[str, Any] = {}
    for name, (ending, described) in _FACTORY.items():
        if calls and name in ("", "parquet"):
            continue  # it reads calls in sharegpt's own words only
        for side in SIDES:
            file = f"{name}/{side}{ending}" if name else f"{side}{ending}"
            there = named[name].folder.parent / file in named[name].files if name in named else not name
            if there and (name or any(source.stem == side for source in sources)):
                entry = "_".join(filter(None, ("firsttune", name, side if side != "train" else "")))
                columns = described["columns"] | ({"tools": "tools"} if name == "sharegpt" and calls else {})
                info[entry] = {"file_name": file} | described | {"columns": columns}
    return info


_CHAT: dict[str, Any] = {
    "formatting": "sharegpt",
    "columns": {"messages": "messages"},
    "tags": {
        "role_tag": "role",
        "content_tag": "content",
        "user_tag": "user",
        "assistant_tag": "assistant",
        "system_tag": "system",
    },
}
_FACTORY: dict[str, tuple[str, dict[str, Any]]] = {
    "": (".jsonl", _CHAT),
    "alpaca": (
        ".jsonl",
        {
            "formatting": "alpaca",
            "columns": {
                "prompt": "instruction",
                "query": "input",
                "response": "output",
                "system": "system",
                "history": "history",
            },
        },
    ),
    "sharegpt": (
        ".jsonl",
        {
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "system": "system"},
            "tags": {
                "role_tag": "from",
                "content_tag": "value",
                "user_tag": "human",
                "assistant_tag": "gpt",
                "observation_tag": "observation",
                "function_tag": "function_call",
                "system_tag": "system",
            },
        },
    ),
    "parquet": (".parquet", _CHAT),
}
_PRETTY = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
