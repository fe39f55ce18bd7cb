"""The code a page shows: the independent script writes the same bytes as the library."""

from __future__ import annotations

import ast
import bz2
import csv
import gzip
import io
import json
import lzma
import math
import random
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import check, convert, edits, formats, records, script
from lib.convert import Ledger, Request
from lib.errors import ConvertError, UsageError
from lib.fixes import FIXES
from lib.formats import Mapping

ROOT = Path(__file__).resolve().parent.parent
QA = Mapping("qa", {"user": "q", "assistant": "a"})
# What a text can hold that a writer of JSON may write in another way.
ODD = 'a "b" \\ / \n\r\t\u0000\u0001\u001f\u007f\u0085\u00a0\u2028\u2029\ufeff\ufffd\u4f60\u597d\U0001f600'


def put(path: Path, rows: list[Any]) -> Path:
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    return path


def same(tmp_path: Path, request: Request) -> Ledger:
    """Convert with the library and with the script in a process of its own; compare every byte."""
    ledger = convert.convert(request)
    program = script.independent(request, [records.sniff(path) for path in request.files])
    here = tmp_path / "elsewhere"
    here.mkdir()
    (here / "program.py").write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "program.py"], cwd=here, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("train.jsonl", "validation.jsonl"):
        ours, theirs = (request.out / name).read_bytes(), (here / request.out.name / name).read_bytes()
        assert ours == theirs, name
    assert sorted(path.name for path in here.iterdir()) == sorted(["program.py", request.out.name])
    told = ast.literal_eval(done.stdout.partition("set aside: ")[2])
    assert sum(told.values()) == ledger.set_aside, (told, ledger.reasons)
    return ledger


# --- kinds of files

ROWS: list[dict[str, Any]] = [
    *({"q": f"question {n % 40}? {ODD if n % 7 == 0 else ''}", "a": f"{ODD}{n}", "id": n} for n in range(60)),
    {"q": "empty", "a": ""},
    {"q": "  ", "a": "blank question"},
    {"q": "twice", "a": "x"},
    {"q": "twice ", "a": "x"},
    {"q": "twice", "a": "x"},
    {"q": "windows\r\nlines", "a": "one\r\ntwo\r\n"},
]


def as_csv(rows: list[dict[str, Any]], delimiter: str = ",", newline: str = "\r\n") -> str:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter, lineterminator=newline)
    writer.writeheader()
    writer.writerows(
        {
            name: value.replace("\u0000", "") if isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in rows
    )
    return file.getvalue()


def as_lines(rows: list[Any]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def zstd(data: bytes) -> bytes:
    import pyarrow

    return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))


def parquet(rows: list[dict[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow import parquet as files

    sink = pyarrow.BufferOutputStream()
    names = ["q", "a", "id"]
    files.write_table(pyarrow.table({name: [row.get(name) for row in rows] for name in names}), sink)
    return bytes(sink.getvalue())


ARRAY, LINES = json.dumps(ROWS, ensure_ascii=False), as_lines(ROWS)
WRAPPED = {"features": [], "rows": [{"row_idx": n, "row": row} for n, row in enumerate(ROWS)]}
# A text in GB18030 or UTF-16 cannot be told apart from bytes when it holds these.
PLAIN = [
    {
        "q": f"\u4f60\u597d\uff0c\u7b2c{n}\u4e2a\u95ee\u9898\uff1f",
        "a": f"\u7b54\u6848\uff1a{n}\u3002\r\n\u597d",
    }
    for n in range(40)
]

KINDS: dict[str, tuple[str, bytes]] = {
    "array": ("a.json", ARRAY.encode()),
    "array with a mark": ("a.json", ARRAY.encode("utf-8-sig")),
    "pretty array": ("a.json", json.dumps(ROWS, indent=2).encode()),
    "array in an object": ("a.json", json.dumps({"version": 1, "data": ROWS, "more": [1]}).encode()),
    "the Hub's viewer": ("a.json", json.dumps(WRAPPED).encode()),
    "array, UTF-16": ("a.json", ARRAY.encode("utf-16")),
    "array, GB18030": ("a.json", json.dumps(PLAIN, ensure_ascii=False).encode("gb18030")),
    "array, gzip": ("a.json.gz", gzip.compress(ARRAY.encode())),
    "array, zstd": ("a.json.zst", zstd(ARRAY.encode())),
    "lines": ("a.jsonl", LINES.encode()),
    "lines with a mark": ("a.jsonl", LINES.encode("utf-8-sig")),
    "lines, Windows": ("a.json", LINES.replace("\n", "\r\n").encode()),
    "lines, gzip": ("a.jsonl.gz", gzip.compress(LINES.encode())),
    "lines, bzip2": ("a.jsonl.bz2", bz2.compress(LINES.encode())),
    "lines, xz": ("a.jsonl.xz", lzma.compress(LINES.encode())),
    "lines, zstd": ("a.jsonl.zst", zstd(LINES.encode())),
    "lines, UTF-16": ("a.jsonl", LINES.encode("utf-16")),
    "lines, GB18030, gzip": ("a.jsonl.gz", gzip.compress(as_lines(PLAIN).encode("gb18030"))),
    "objects": ("a.json", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
    "objects, gzip": (
        "a.json.gz",
        gzip.compress("\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
    ),
    "csv": ("a.csv", as_csv(ROWS).encode()),
    "csv with a mark": ("a.csv", as_csv(ROWS).encode("utf-8-sig")),
    "csv, semicolons": ("a.csv", as_csv(ROWS, ";", "\n").encode()),
    "csv, UTF-16": ("a.csv", as_csv(ROWS).encode("utf-16")),
    "csv, GB18030": ("a.csv", as_csv(PLAIN).encode("gb18030")),
    "csv, gzip with a mark": ("a.csv.gz", gzip.compress(as_csv(ROWS).encode("utf-8-sig"))),
    "tsv": ("a.tsv", as_csv(ROWS, "\t").encode()),
    "parquet": ("a.parquet", parquet(ROWS)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_bytes(kind: str, tmp_path: Path) -> None:
    name, content = KINDS[kind]
    (tmp_path / name).write_bytes(content)
    ledger = same(tmp_path, Request((tmp_path / name,), tmp_path / "my data", QA))
    assert ledger.validation > 0
    assert ledger.read == (40 if "GB18030" in kind else len(ROWS))


def test_broken_rows_are_passed_over_and_counted(tmp_path: Path) -> None:
    lines = [
        '{"q": "a", "a": "1"}',
        '{"q": "b"',
        "",
        "   ",
        "[1]",
        "7",
        '{"q": "c", "a": 1e999}',
        '{"q": "d", "a": NaN}',
        '{"q": "\\ud800", "a": "half"}',
        '{"q": "e", "a": "2", "n": 12345678901234567890123}',
        '{"q": "f", "a": "3"} x',
        '\ufeff{"q": "g", "a": "4"}',
        '{"q": "h", "a": true}',
        '{"q": "i", "a": {"text": "x"}}',
        '{"q": "j", "a": ["x"]}',
        '{"q": "m", "a": "1", "q": "n"}',
        '{"q": "o", "a": "7", "n": [{"x": 1, "x": 2}]}',
        '{"q": "p", "a": "8", "n": NaN}',
    ]
    path = tmp_path / "a.jsonl"
    path.write_bytes("\n".join(lines).encode() + b'\n{"q": "k\xff", "a": "5"}\n{"q": "l", "a": "6"}')
    ledger = same(tmp_path, Request((path,), tmp_path / "out", QA))
    assert (ledger.read, ledger.train + ledger.validation) == (18, 5)


def test_tables_with_odd_headers_and_rows_of_another_length(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = ["q,a,,q", "1,2,3,4", "", "5,6", '"7 ""x""","8\r\n9",,', "x,y,z,w,v", '"open ""quote",b,c,d']
    rows += ['a"b,c,d,e', "0x1,007,true,NA", "next,line,breaks,here"]
    path.write_bytes(
        "\r\n".join(rows).encode() + b"\r\nbad,\xff,bytes,here\r\n\xe4\xbd,x,y,z\r\n,,,\r\n1,2,3,4"
    )
    ledger = same(tmp_path, Request((path,), tmp_path / "out", QA, validation=0.4))
    assert (ledger.read, ledger.set_aside) == (12, 5)
    mapping = Mapping("qa", {"user": "q_4", "assistant": "column_3"})
    other = tmp_path / "again"
    other.mkdir()
    assert same(other, Request((path,), tmp_path / "out2", mapping)).train > 0


def test_several_files_are_read_in_their_order(tmp_path: Path) -> None:
    files = []
    for place, kind in enumerate(("lines", "array", "lines, gzip", "csv", "lines")):
        name, content = KINDS[kind]
        files.append(tmp_path / f"{place} it's \u4f60 {name}")
        files[-1].write_bytes(content)
    same(tmp_path, Request(tuple(files), tmp_path / "out", QA, validation=0.25, seed=7))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.json", '[{"q": "x", "a": "y"}, {"q": "x", "a": }]', "Expecting value: line 1 column"),
        (
            "a.json",
            '[{"q": "x", "a": "y"}, {"q": "x", "a": "y", "q": "z"}]',
            "the same key twice in ['q', 'a']",
        ),
        ("a.csv", 'q,a\n1,2\n3,"4\n5,6\n', "unexpected end of data"),
    ],
)
def test_a_broken_file_stops_the_script_with_the_parser_s_words(
    name: str, content: str, complaint: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    program = script.independent(Request((path,), tmp_path / "out", QA), [records.sniff(path)])
    command = [sys.executable, "-I", "-c", program]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert not (tmp_path / "out").exists()


# --- formats, by the heads of real datasets

HEADS = [
    head
    for name in ("heads.json", "heads_more.json")
    for head in json.loads((ROOT / "tests" / "data" / name).read_text(encoding="utf-8"))
    if head["format"] in formats.FORMATS
]


def told(program: str) -> Callable[[Any], Any]:
    """Return a script's own function from a record to a conversation."""
    space: dict[str, Any] = {"__name__": "a script"}
    exec(compile(program, "a script", "exec"), space)

    def conversation(row: Any) -> Any:
        try:
            return space["conversation"](row)
        except space["SetAside"] as error:
            return str(error)

    return conversation


def ours(mapping: Mapping) -> Callable[[Any], Any]:
    convert_one = formats.compiled(mapping)

    def conversation(row: Any) -> Any:
        try:
            return convert_one(row).as_json()
        except ConvertError as error:
            return error.key.rpartition(".")[2]

    return conversation


def program_of(tmp_path: Path, mapping: Mapping, **options: Any) -> str:
    path = put(tmp_path / "some.json", [{"q": "x"}])
    return script.independent(Request((path,), Path("out"), mapping, **options), [records.sniff(path)])


def alike(one: Any, other: Any) -> bool:
    """Return whether both made the same of a row, or both set it aside."""
    return json.dumps(one) == json.dumps(other) or (isinstance(one, str) and isinstance(other, str))


@pytest.mark.parametrize("reasoning", formats.REASONING)
@pytest.mark.parametrize("head", HEADS, ids=lambda head: str(head["name"]))
def test_every_known_dataset_is_told_alike(head: Any, reasoning: str, tmp_path: Path) -> None:
    for system in ("", "be kind"):
        mapping = Mapping(head["format"], head["fields"], system, reasoning)
        theirs, our = told(program_of(tmp_path, mapping)), ours(mapping)
        for row in head["rows"]:
            assert theirs(row) == our(row)
            assert not isinstance(our(row), str) or reasoning == "drop", our(row)


@pytest.mark.parametrize("head", HEADS, ids=lambda head: str(head["name"]))
def test_damaged_rows_are_told_alike(head: Any, tmp_path: Path) -> None:
    chance = random.Random(head["name"])
    mapping = Mapping(head["format"], head["fields"], "be kind", chance.choice(formats.REASONING))
    theirs, our = told(program_of(tmp_path, mapping)), ours(mapping)
    for _ in range(60):
        row = damaged(chance.choice(head["rows"]), chance)
        assert alike(theirs(row), our(row)), row


VALUES: list[Any] = [
    None,
    "",
    " ",
    "\n",
    "text",
    ODD,
    0,
    -7,
    12345678901234567890,
    1.5,
    1e22,
    0.1 + 0.2,
    True,
    math.nan,
    [],
    {},
    ["x", "y"],
    [["a", "b"]],
    [{"type": "text", "text": "part"}, {"type": "text", "text": "ed"}],
    [{"type": "image"}],
    "[]",
    '[["x", "y"]]',
    '[{"role": "user", "content": "x"}]',
    '[{"name": "f", "arguments": {"a": 1.0, "b": [1,  2]}}]',
    "[broken",
    "<think>a</think> b",
    "<think>never ends",
    "<think>only</think>",
    {"role": "user", "content": "x"},
    {"from": "gpt", "value": "y"},
    "user",
    "tool",
    "nobody",
    {"name": "f", "parameters": {}},
    {"messages": [{"role": "user", "content": "x"}]},
]


def damaged(value: Any, chance: random.Random) -> Any:
    """Return a record with one thing in it changed, left out, or put in twice."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        name = chance.choice(list(value))
        how = chance.random()
        rest = {key: one for key, one in value.items() if key != name}
        return rest if how < 0.1 else value | {name: damaged(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place, how = chance.randrange(len(value)), chance.random()
        if how < 0.2:
            return value[:place] + value[place + 1 :]
        if how < 0.4:
            return value[: place + 1] + value[place:]
        return [*value[:place], damaged(value[place], chance), *value[place + 1 :]]
    if isinstance(value, str) and len(value) > 3 and chance.random() < 0.4:
        at = chance.randrange(len(value))
        return (
            value[:at]
            + chance.choice(
                [
                    "",
                    ODD,
                    "\n",
                    "<|im_end|>",
                    "### Response:",
                    "Q: ",
                    "\n### Input:\n",
                    "Ann: ",
                    "{",
                    '"',
                    "</s>",
                ]
            )
            + value[at + 1 :]
        )
    return chance.choice(VALUES)


OPTIONS = [
    Mapping(
        "qa", {"user": "q", "assistant": "a", "input": "c", "system": "s", "reasoning": "r"}, "sys", "think"
    ),
    Mapping("qa", {"user": "q", "assistant": "a", "input": "c", "history": "h"}, "", "drop"),
    Mapping(
        "alpaca", {"user": "q", "assistant": "a", "input": "c", "history": "h", "system": "s"}, "sys", "keep"
    ),
    Mapping("qa", {"assistant": "a"}, template="{q}\n\nBackground: {c}\n{{s}} {s}\n\n{r}\n"),
    Mapping("alpaca", {"assistant": "a", "system": "s"}, "sys", "think", "{c}{q}"),
    Mapping(
        "prompt_completion", {"user": "q", "assistant": "a", "reasoning": "r", "input": "c"}, "sys", "think"
    ),
    Mapping(
        "prompt_completion", {"user": "q", "assistant": "a"}, "", "drop", "", {"Ann": "user", "narrator": ""}
    ),
    Mapping("prompt_completion", {"assistant": "a"}, template="say {q}"),
    Mapping(
        "messages",
        {"messages": "q", "system": "s"},
        "sys",
        "think",
        "",
        {"Ann": "user", "Nobody": "", "gpt": "user"},
    ),
    Mapping("sharegpt", {"messages": "a"}, "", "drop", "", {"nobody": "assistant"}),
    Mapping("pairs", {"messages": "h", "system": "s"}, "sys", "drop"),
    Mapping("tools", {"messages": "q", "tools": "c", "system": "s"}, "sys", "drop"),
    Mapping("xlam", {"user": "q", "tools": "c", "assistant": "a"}, "", "keep"),
    Mapping(
        "rendered", {"messages": "q", "system": "s"}, "", "drop", "", {"Ann": "user", "input": "assistant"}
    ),
    Mapping("glaive", {"messages": "q", "system": "c"}, "sys", "drop"),
]

RENDERED = [
    "Human: a\nAssistant: b\nQ: c\nInput: d\nHuman: e",
    "Ann: x\nInput: y\nInstruction: z\nSystem: q",
    "[INST] x [/INST] y </s>",
]
TEXTS = (
    st.sampled_from(RENDERED)
    | st.sampled_from([value for value in VALUES if isinstance(value, str)])
    | st.text(max_size=8)
)
TURN = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(
            ["user", "assistant", "system", "tool", "Ann", "Nobody", "narrator", "USER", "G P-T", 5]
        ),
        "from": st.sampled_from(["human", "gpt", "function_call", "observation", "nobody"]),
        "content": st.sampled_from(VALUES) | TEXTS,
        "value": st.sampled_from(VALUES) | TEXTS,
        "reasoning_content": st.sampled_from(["why", "", None, 5]),
        "tool_calls": st.sampled_from(
            [[], None, [{"id": "1", "function": {"name": "f", "arguments": "{}"}}], [{"name": "f"}], "x", [5]]
        ),
        "tool_call_id": st.sampled_from(["1", None, 7]),
        "name": st.sampled_from(["f", None]),
        "input": TEXTS,
        "output": TEXTS,
    },
)
CELL = (
    st.sampled_from(VALUES)
    | TEXTS
    | st.lists(TURN, max_size=4)
    | TURN
    | st.lists(st.lists(TEXTS, max_size=3), max_size=3)
)
RECORD = st.fixed_dictionaries({}, optional=dict.fromkeys("qacshr", CELL)) | CELL


@pytest.mark.parametrize("mapping", OPTIONS, ids=lambda mapping: f"{mapping.format} {mapping.reasoning}")
def test_whatever_a_record_holds_it_is_told_alike(mapping: Mapping, tmp_path: Path) -> None:
    theirs, our = told(program_of(tmp_path, mapping)), ours(mapping)

    @settings(max_examples=100, deadline=None)
    @given(row=RECORD)
    def holds(row: Any) -> None:
        assert alike(theirs(row), our(row))

    holds()


# --- rules and the split


@pytest.mark.parametrize("target", check.targets())
def test_the_rules_of_every_target_are_kept(target: str, tmp_path: Path) -> None:
    chance = random.Random(target)
    turns: list[Any] = []
    for _ in range(400):
        speakers = chance.choices(["system", "human", "gpt"], [1, 6, 6], k=chance.randrange(1, 6))
        said = [
            chance.choice(["x", "y", "z", "", " ", "x" * 50])
            if chance.random() < 0.3
            else str(chance.random())
            for _ in speakers
        ]
        turns.append([{"from": who, "value": what} for who, what in zip(speakers, said, strict=True)])
    turns += [[{"from": "human", "value": str(n)}, {"from": "gpt", "value": ODD}] for n in range(50)]
    path = put(tmp_path / "a.json", [{"talk": talk} for talk in turns])
    mapping = Mapping("sharegpt", {"messages": "talk"})
    ledger = same(tmp_path, Request((path,), tmp_path / "out", mapping, target=target))
    assert ledger.set_aside > 50 < ledger.train


@pytest.mark.parametrize("share", [0, 0.01, 0.1, 0.333, 0.9])
def test_the_split_is_the_same(share: float, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", [{"q": f"{n % 70} ", "a": str(n)} for n in range(200)])
    same(tmp_path, Request((path,), tmp_path / "out", QA, validation=share, seed=-3))
    for rows in (1, 2):
        folder = tmp_path / str(rows)
        folder.mkdir()
        small = put(folder / "a.json", [{"q": str(n), "a": "x"} for n in range(rows)])
        same(folder, Request((small,), folder / "out", QA, validation=share))


def test_a_group_stays_on_one_side(tmp_path: Path) -> None:
    rows = [
        {"q": str(n), "a": "x", "g": [n // 9, str(n // 9), None, {"k": n // 9}][n % 4]} for n in range(90)
    ]
    path = put(tmp_path / "a.json", [*rows, {"q": "no group", "a": "x"}])
    same(tmp_path, Request((path,), tmp_path / "out", QA, group="g", validation=0.3))


# --- calls of tools


def with_calls(chance: random.Random) -> dict[str, Any]:
    """Return a conversation with calls of tools that is nearly right."""
    turns: list[dict[str, Any]] = [{"role": "user", "content": str(chance.random())}]
    for number in range(chance.randrange(1, 4)):
        arguments = chance.choice(
            ['{"a": 1}', '{"a": 1}', {"b": [1, 2.5, "x"]}, "{oh", "[1]", '{"x": NaN}', None]
        )
        call = {"id": f"c{number}", "function": {"name": "f", "arguments": arguments}}
        content = chance.choice(["", "", None, "let me see"])
        turns.append(
            {"role": "assistant", "content": content, "tool_calls": [call] * chance.choice([1, 1, 2])}
        )
        if chance.random() < 0.8:
            answer = chance.choice(
                [{"tool_call_id": f"c{number}"}, {"tool_call_id": "c9"}, {"name": "f"}, {}]
            )
            turns.append({"role": "tool", "content": chance.choice(["7", "", {"x": 1}]), **answer})
        if chance.random() < 0.3:
            turns.append({"role": chance.choice(["user", "assistant", "tool"]), "content": "well"})
    if chance.random() < 0.8:
        turns.append({"role": "assistant", "content": "done"})
    schema = {"type": "object", "least": chance.choice([1e-7, 1e16, 1.5e300, 0.1, 3])}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}, {"name": "g"}, {"oh": 1}]
    return {
        "m": turns,
        "t": chance.choice([tools[:1], tools[:2], tools, json.dumps(tools[:2]), None, "[broken"]),
    }


@pytest.mark.parametrize("target", check.targets())
def test_the_rules_for_calls_of_tools_are_kept(target: str, tmp_path: Path) -> None:
    chance = random.Random(target)
    rows = [with_calls(chance) for _ in range(1500)]
    rows += [
        {"m": [{"role": "user", "content": "x"}, {"role": "assistant", "content": str(n)}]} for n in range(9)
    ]
    path = put(tmp_path / "a.json", rows)
    mapping = Mapping("tools", {"messages": "m", "tools": "t"}, "be kind")
    ledger = same(tmp_path, Request((path,), tmp_path / "out", mapping, target=target))
    assert ledger.set_aside > 100 and ledger.train + ledger.validation > 8


# --- edits and fixes

MENDED = [fix for fix in FIXES if fix in script.program.MADE and FIXES[fix].scope == "conversation"]


def messy(chance: random.Random) -> list[dict[str, str]]:
    said = []
    for _ in range(chance.randrange(1, 7)):
        who = chance.choices(["system", "human", "gpt"], [2, 5, 5])[0]
        what = chance.choice(
            ["", " ", "\u200b", "\u3000", " padded\n", "\ufeffx ", "plain", str(chance.random())]
        )
        said.append({"from": who, "value": what})
    return said


@pytest.mark.parametrize(
    "wanted",
    [*([fix] for fix in MENDED), MENDED, MENDED[::-1][1:4], ["drop_duplicate", "trim"]],
    ids="+".join,
)
@pytest.mark.parametrize("target", ["siliconflow", "trl"])
def test_fixes_are_made_alike(wanted: list[str], target: str, tmp_path: Path) -> None:
    chance = random.Random("+".join(wanted))
    path = put(tmp_path / "a.json", [{"talk": messy(chance)} for _ in range(800)])
    patch = tmp_path / "edits.jsonl"
    patch.write_text("".join(json.dumps({"fix": fix}) + "\n" for fix in wanted))
    mapping = Mapping("sharegpt", {"messages": "talk"})
    ledger = same(tmp_path, Request((path,), tmp_path / "out", mapping, target=target, edits=patch))
    assert ledger.mended.keys() <= {*wanted}
    assert ledger.mended


def test_fixes_of_calls_are_made_alike(tmp_path: Path) -> None:
    chance = random.Random(3)
    path = put(tmp_path / "a.json", [with_calls(chance) for _ in range(800)])
    patch = tmp_path / "edits.jsonl"
    patch.write_text("".join(json.dumps({"fix": fix}) + "\n" for fix in MENDED))
    for target in ("openai", "trl"):
        folder = tmp_path / target
        folder.mkdir()
        mapping = Mapping("tools", {"messages": "m", "tools": "t"})
        assert same(folder, Request((path,), folder / "out", mapping, target=target, edits=patch)).mended


def test_edits_of_single_rows_are_replayed(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "x"}, {"from": "gpt", "value": " y "}]
    rows: list[Any] = [{"talk": talk, "a.b": [1], "n": n} for n in range(12)]
    lines = [*(json.dumps(row) for row in rows), "{broken", "{broken too"]
    first, second = tmp_path / "one" / "a.jsonl", tmp_path / "two" / "a.jsonl"
    for path in (first, second):
        path.parent.mkdir()
        path.write_text("\n".join(lines))
    named = edits.names((first, second))
    patch = edits.Edits(tmp_path / "edits.jsonl")
    changes: list[dict[str, Any]] = [
        {"set": {"talk[1].value": "changed", "talk[0].value": ODD}},
        {"set": {'["a.b"][0]': 2, "more": "x"}},
        {"drop": True},
        {"record": {"talk": [*talk, *talk]}},
        {"fix": "trim"},
        {"fix": "merge_turns"},
        {"set": {"talk[7].value": "nowhere"}},
        {"set": {"talk": "no list"}},
        {"set": {"": {"talk": talk}}},
    ]
    for name in (named[first], named[second]):
        pieces = list(records.read(first))
        for piece, change in zip(pieces, changes, strict=False):
            patch.add({"file": name, "row": piece.number, "was": edits.fingerprint(piece), **change})
        broken = {"file": name, "row": 13, "was": edits.fingerprint(pieces[12])}
        patch.add(broken | {"record": {"talk": talk}})
        again = {"file": name, "row": 13, "was": edits.fingerprint(records.Record(13, {"talk": talk}, 13))}
        patch.add(again | {"set": {"talk[0].value": "mended by hand"}})
    mapping = Mapping("sharegpt", {"messages": "talk"})
    request = Request((first, second), tmp_path / "out", mapping, edits=patch.path, validation=0.3)
    ledger = same(tmp_path, request)
    assert (ledger.read, ledger.edited, ledger.set_aside) == (28, 12, 8)
    patch.add({"fix": "trim"})
    patch.add({"fix": "drop_duplicate"})
    again_ = tmp_path / "again"
    again_.mkdir()
    assert same(again_, request).mended.keys() == {"trim", "drop_duplicate"}


@pytest.mark.parametrize("fix", ["cut", "mask", "strip_markup", "drop_leaked"])
def test_a_fix_the_script_cannot_make_is_refused(fix: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", [{"q": "x", "a": "y"}])
    patch = tmp_path / "edits.jsonl"
    patch.write_text(json.dumps({"fix": fix}))
    with pytest.raises(UsageError) as caught:
        script.independent(Request((path,), tmp_path / "out", QA, edits=patch), [records.sniff(path)])
    assert (caught.value.key, caught.value.facts) == ("script.no_fix", {"name": fix})


# --- the text of it


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_script_holds_only_what_it_needs(lang: str, tmp_path: Path) -> None:
    path = put(tmp_path / "a.json", [{"q": "x", "a": "y"}])
    program = script.independent(Request((path,), Path("out"), QA, validation=0), [records.sniff(path)], lang)
    found = ast.parse(program)
    names = {node.name for node in found.body if isinstance(node, ast.FunctionDef)}
    assert {"read_json", "question_and_answer", "check", "main"} <= names
    assert not names & {
        "read_lines",
        "read_table",
        "recoded",
        "listed",
        "history",
        "limit_of",
        "with_thought",
        "led",
    }
    assert "pyarrow" not in program
    assert "lib" not in {name.split(".")[0] for name in imported(found)}
    assert all(ast.get_docstring(node) for node in found.body if isinstance(node, ast.FunctionDef))
    assert max(map(len, program.splitlines())) <= 110
    assert len(program.splitlines()) < 180
    assert ("\u6587\u4ef6" in program) == (lang == "zh")


def imported(tree: ast.Module) -> set[str]:
    found = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    return found | {str(node.module) for node in tree.body if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("mapping", OPTIONS, ids=lambda mapping: f"{mapping.format} {mapping.reasoning}")
def test_a_script_has_no_name_it_does_not_define_or_use(mapping: Mapping, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(program_of(tmp_path, mapping), encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9,I001", str(program)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout


def test_words_of_a_dataset_stay_words(tmp_path: Path) -> None:
    nasty = 'it\'s """ \\ {x} \n"); import os #'
    path = put(tmp_path / "a \"b\" 'c'.json", [{nasty: str(n), "a": "y"} for n in range(5)])
    mapping = Mapping("qa", {"user": nasty, "assistant": "a"}, system=nasty)
    same(tmp_path, Request((path,), tmp_path / "out 'x' \"y\"", mapping))
    other = tmp_path / "other"
    other.mkdir()
    same(
        other,
        Request(
            (path,), other / "out", Mapping("qa", {"assistant": "a"}, template="{a} ''' \"\"\" \\n {{}}")
        ),
    )


# --- the command line


def test_the_command_line_gives_the_same_bytes(tmp_path: Path) -> None:
    path = put(
        tmp_path / "some rows.json", [{**row, "c": "why", "g": str(n % 9)} for n, row in enumerate(ROWS)]
    )
    mappings = [
        Mapping("qa", {"user": "q", "assistant": "a"}, "be 'kind'", "keep"),
        Mapping("qa", {"assistant": "a"}, template="{c}: {q}", reasoning="keep"),
        Mapping("messages", {"messages": "m"}, roles={"Ann": "user", "Bob": "assistant"}, reasoning="think"),
    ]
    for place, mapping in enumerate(mappings):
        if mapping.roles:
            put(
                path,
                [
                    {"m": [{"role": "Ann", "content": str(n)}, {"role": "Bob", "content": "x"}]}
                    for n in range(9)
                ],
            )
        out = tmp_path / f"out{place}"
        request = Request(
            (path,),
            out,
            mapping,
            0.25,
            3,
            "trl",
            group="" if mapping.roles else "g",
            max_tokens=900,
            also=("alpaca",),
        )
        convert.convert(request)
        here = tmp_path / f"here{place}"
        here.mkdir()
        command = shlex.split(script.convert(request))
        assert command[:4] == ["python", "-m", "lib", "convert"]
        done = subprocess.run(
            [sys.executable, *command[1:]],
            cwd=here,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "FIRSTTUNE_HOME": str(tmp_path / "home")},
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        names = ["train.jsonl", "validation.jsonl", "alpaca/train.jsonl"]
        assert [(out / name).read_bytes() for name in names] == [
            (here / out.name / name).read_bytes() for name in names
        ]


def test_the_command_line_names_every_option_that_is_not_the_default() -> None:
    mapping = Mapping("qa", {"user": "q", "assistant": "a"}, "s", "think", "{q}", {"Ann": "user"})
    request = Request(
        (Path("a b.json"),),
        Path("/x/out"),
        mapping,
        0.125,
        7,
        "trl",
        Path("e.jsonl"),
        "g",
        512,
        ("parquet", "alpaca"),
    )
    words = shlex.split(script.convert(request))
    assert words[4] == "a b.json"
    pairs = list(zip(words[5::2], words[6::2], strict=True))
    assert pairs == [
        ("--out", "out"),
        ("--format", "qa"),
        ("--map", "user=q"),
        ("--map", "assistant=a"),
        ("--template", "{q}"),
        ("--role", "Ann=user"),
        ("--system", "s"),
        ("--reasoning", "think"),
        ("--target", "trl"),
        ("--edits", "e.jsonl"),
        ("--group", "g"),
        ("--max-tokens", "512"),
        ("--also", "parquet"),
        ("--also", "alpaca"),
        ("--validation", "0.125"),
        ("--seed", "7"),
    ]
