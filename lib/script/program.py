"""A Python script that repeats one conversion without this library.

It holds only what this conversion needs: the reader of this kind of file, this format, the rules of this
target, this split. `fragments.py` has the functions; which of them, and which of their lines, follows from
the request, put down as features. Python 3.11 runs the script as it is; for Parquet and zstd it needs
pyarrow, and says so.

It is meant to be read, and to be right: tests/test_script.py holds what it writes to the same bytes. What it
does not do is recover rows from a broken JSON array or table (it stops, with the parser's message), nor spare
memory. Fixes and rules it does not know it refuses with a `UsageError`.
"""

from __future__ import annotations

import ast
import inspect
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

from lib import check, edits, words
from lib.convert import Request
from lib.errors import UsageError
from lib.formats.names import names, plain
from lib.records import Shape
from lib.script import fragments

WIDTH = 100


def independent(request: Request, shapes: Sequence[Shape], lang: str = "en") -> str:
    """Return the script for a conversion; `shapes` are those of its files, `lang` is that of the comments.

    Raises `UsageError`: "script.no_fix", "script.no_rule" for what only the library can do.
    """
    return _Program(request, shapes, lang).text()


class _Program:
    """One script being put together: which features it has, and what stands in its constants."""

    def __init__(self, request: Request, shapes: Sequence[Shape], lang: str) -> None:
        self.request, self.shapes, self.lang = request, shapes, lang
        self.target = check.targets()[request.target]
        self.features: set[str] = set()
        self.constants: dict[str, str] = {}
        self.edited: dict[Path, str] = {}  # what the files are called in the edits, where there are any
        self._split()
        self._mapping()
        self._check()
        self._edits()
        self.rows = self._rows()

    def text(self) -> str:
        """Return the whole script."""
        functions = self._functions()
        used = list(dict.fromkeys(name for code in functions.values() for name in _names(code)))
        settings = [f"{name} = {code}" for name, code in self.constants.items() if name in used]
        parts = ["\n".join([*settings, "Row = dict[str, Any]"]), functions.pop("SetAside")]
        if fixed := self._fixed(used):
            parts.append("\n".join(fixed))
        body = "\n\n\n".join([*parts, *functions.values(), 'if __name__ == "__main__":\n    main()\n'])
        return f'"""{self._intro()}\n"""\n\n{_imports(body)}\n{body}'

    # --- what this conversion needs

    def _split(self) -> None:
        self.constants["OUT"] = f"Path({_quoted(self.request.out.name)})"
        if not self.request.validation:
            self.features.add("whole")
            return
        self.features.add("split")
        self.constants |= {"VALIDATION": repr(self.request.validation), "SEED": repr(self.request.seed)}
        if self.request.group:
            self.features.add("group")
            self.constants["GROUP"] = _quoted(self.request.group)

    def _mapping(self) -> None:
        mapping, known = self.request.mapping, names()
        fields = {role: name for role, name in mapping.fields.items() if name}
        self.features |= {mapping.reasoning, *_SHAPES[mapping.format]}
        if mapping.template:
            # it makes the question of a prompt too, which is then no list of turns
            self.features = self.features - {"sides"} | {"flat", "template"}
            self.constants["TEMPLATE"] = _table("[", map(_quoted_all, _template(mapping.template)), "]")
        else:
            self.features.add("user")
            if "input" in fields:
                self.features.add("alpaca" if mapping.format == "alpaca" else "context")
        if "tools" not in fields:
            self.features.discard("listing")
        if "reasoning" in fields and mapping.reasoning == "think":
            self.features.add("thought")
        self.features.add("history" if "history" in fields else "no_history")
        self._system("system" in fields, bool(mapping.system))
        calls = self.features & {"tools", "glaive", "xlam"}
        self.features.add("calls" if calls else "no_calls")
        if not self.features & {"listing", "introduced"}:
            self.features.add("no_listing")
        for role, name in fields.items():
            self.constants["SYSTEM_COLUMN" if role == "system" else role.upper()] = _quoted(name)
        if mapping.system:
            self.constants["SYSTEM"] = _quoted(mapping.system)
        who, what = known.turns["sharegpt" if mapping.format == "sharegpt" else "messages"]
        self.constants |= {"WHO": _quoted(who), "WHAT": _quoted_all(what)}
        self.constants["SIDES"] = _table(
            "[", [f"({', '.join(map(_quoted, two))})" for two in known.pairs], "]"
        )
        self.constants["THOUGHTS"] = _quoted_all(known.reasoning)
        self.constants["PREAMBLES"] = _table("(", map(_quoted, known.preambles), ")")
        self._speakers()

    def _system(self, column: bool, constant: bool) -> None:
        if not column and not constant:
            return
        self.features.add("system")
        if column:
            self.features.add("introduced" if "glaive" in self.features else "column")
        if constant:
            self.features.add("both" if column else "constant")

    def _speakers(self) -> None:
        """Write down who speaks by which name, and the marks of speakers in rendered texts."""
        given = self.request.mapping.roles
        told = names().roles | {plain(name): role for name, role in given.items()} | given
        if "" in told.values():
            self.features.add("left_out")
        self.constants["SPEAKERS"] = _groups(told)
        self.constants["MARKS"] = _groups(names().marks)
        self.constants["MORE_MARKS"] = _quoted_all(given)

    def _check(self) -> None:
        """Find out which rules of the target a row of this format can break."""
        wrong = {rule for rule, weight in self.target.rules.items() if weight == "error"}
        if unknown := wrong - _RULES - _CALL_RULES - _NEVER:
            raise UsageError("script.no_rule", rule=min(unknown), target=self.target.name)
        self.features |= wrong & _RULES
        tool_turns = "calls" in self.features and "tool" in self.target.roles
        self.features.add("tool_turns" if tool_turns else "no_tool_turns")
        if tool_turns or "calls" not in self.features:
            self.features.discard("bad_role")  # every target knows the other roles
        self.constants["ROLES"] = "{" + ", ".join(map(_quoted, self.target.roles)) + "}"
        rules = [_quoted(rule) for rule in self.target.rules if rule in wrong & _CALL_RULES]
        self.constants["CALL_RULES"] = _table("{", rules, "}")

    def _edits(self) -> None:
        """Find out which edits and fixes there are."""
        patch = edits.load(self.request.edits)
        single = {edit["fix"] for edit in patch.lines if "fix" in edit and "file" in edit}
        if unknown := ({*patch.fixes} | single) - MADE:
            raise UsageError("script.no_fix", name=min(unknown))
        self.features |= {*patch.fixes} | single
        fixes = [fix for fix in patch.fixes if fix != "drop_duplicate"]
        self.constants["FIXES"] = _quoted_all(fixes)
        if fixes or single:
            self.features |= {"fixes", "row_fixes" if single else "fixes_for_all"}
        if not single:
            self.features.add("no_row_fixes")
        if patch.active:
            self.edited = edits.names(self.request.files)
            self.features.add("broken")
            self.constants["EDITS"] = f"Path({_quoted(str(self.request.edits))})"

    def _rows(self) -> str:
        """Return the function that reads the files, written anew: one loop for neighbours of a kind."""
        lines = ["def rows() -> Iterator[Any]:", self._said("rows")]
        pairs = zip(self.request.files, self.shapes, strict=True)
        for recipe, group in groupby(pairs, lambda pair: self._recipe(*pair)):
            paths = [str(path) for path, _ in group]
            indent, name = "    ", _quoted(paths[0])
            if len(paths) > 1:
                lines += ["    for path in [", *(f"        {_quoted(path)}," for path in paths), "    ]:"]
                indent, name = "        ", "path"
            lines += [indent + line.replace("PATH", name, 1) for line in recipe]
        return "\n".join(lines)

    def _recipe(self, path: Path, shape: Shape) -> list[str]:
        """Return the lines that yield a file's rows, PATH standing for its name."""
        opened = [f"with {_OPEN[shape.compression]} as file:"]
        data = "file.read()"
        if shape.encoding != "utf-8":
            data = f"recoded({data}, {_quoted(shape.encoding)})"
        lines = "file" if data == "file.read()" else f"io.BytesIO({data})"
        if shape.kind == "parquet":
            opened = ["with parquet.ParquetFile(PATH) as file:"]
            found = "(row for batch in file.iter_batches() for row in batch.to_pylist())"
        elif shape.kind == "lines":
            found = f"read_lines({lines})"
        elif shape.kind == "csv":
            if lines == "file" and shape.begin:
                opened.append("    file.read(3)  # BOM")
            found = f"read_table({lines}, {_quoted(shape.delimiter)})"
        elif shape.kind == "objects":
            found = f"read_objects({data})"
        else:
            found = f"read_json({data})" + (f"[{_quoted(shape.inside)}]" if shape.inside else "")
            if shape.unwrap:
                found = f"unwrapped({found}, {_quoted(shape.unwrap)})"
        if shape.kind in ("lines", "csv"):
            self.features.add("broken")
        if self.edited:
            found = f"edited({_quoted(self.edited[path])}, {found})"
        return [*opened, f"    yield from {found}"]

    # --- putting it together

    def _functions(self) -> dict[str, str]:
        """Return the functions `main` leads to, each before those that use it."""
        found: dict[str, str] = {}

        def bring(name: str) -> None:
            if name not in found:
                found[name] = ""  # so that a circle ends
                code = self.rows if name == "rows" else self._copied(name)
                for used in _names(code):
                    if used in _sources() and used not in _FIXED:
                        bring(used)
                del found[name]
                found[name] = code

        bring("main")
        return found

    def _copied(self, name: str) -> str:
        """Return a function of `fragments`, with the lines of our features and the reader's docstring."""
        lines = []
        for line in _sources()[name].split("\n"):
            code, mark, wanted = line.partition("  # only: ")
            if not mark or self.features & set(wanted.split()):
                lines.append(code)
        body = ast.parse("\n".join(lines)).body[0]
        assert isinstance(body, ast.FunctionDef | ast.ClassDef)
        first = body.body[0]
        if ast.get_docstring(body) and first.end_lineno:
            sentence = "key_of_group" if name == "key_of" and self.request.group else name
            lines[first.lineno - 1 : first.end_lineno] = [self._said(sentence, target=self.target.name)]
        return "\n".join(lines)

    def _fixed(self, used: Iterable[str]) -> list[str]:
        """Return the constants that are the same in every script, those that are used."""
        wanted = {name for name in _FIXED if name in used}
        wanted |= {name for one in wanted for name in _names(_sources()[one]) if name in _FIXED}
        lines: list[str] = []
        for name, code in _sources().items():
            if name in wanted:
                lines += _comment(self._say("exact")) if name == "EXACT" else []
                lines.append(code)
        return lines

    def _intro(self) -> str:
        kinds = [shape.kind for shape in self.shapes]
        named = [path.name.encode("utf-8", "replace").decode() for path in self.request.files]
        files = ", ".join(named[:5]) + (", …" if len(named) > 5 else "")
        said = [self._say("intro", files=files, out=self.request.out.name)]
        packed = any(shape.compression == "zstd" for shape in self.shapes)
        said.append(self._say("needs_pyarrow" if packed or "parquet" in kinds else "needs_nothing"))
        broken = dict.fromkeys(_BROKEN[kind] for kind in kinds if kind in _BROKEN)
        said += map(self._say, broken)
        if self.edited:
            said.append(self._say("edits"))
        return "\n\n".join("\n".join(_wrapped(text, WIDTH)) for text in said)

    def _said(self, name: str, **facts: str) -> str:
        """Return a docstring."""
        lines = _wrapped(self._say(name, **facts), WIDTH - 10)
        if len(lines) == 1:
            return f'    """{lines[0]}"""'
        return "\n".join([f'    """{lines[0]}', *(f"    {line}" for line in lines[1:]), '    """'])

    def _say(self, name: str, **facts: str) -> str:
        text = words.say(self.lang, f"script.{name}", **facts)
        return text.replace("\\", "\\\\").replace('"""', "'''")


# What a format is made of, in features of `fragments`.
_SHAPES = {
    "messages": ("listed",),
    "sharegpt": ("listed",),
    "pairs": ("pairs",),
    "alpaca": ("flat",),
    "reasoning": ("flat",),
    "qa": ("flat",),
    "prompt_completion": ("sides",),
    "rendered": ("rendered",),
    "tools": ("listed", "tools", "listing"),
    "glaive": ("glaive",),
    "xlam": ("xlam", "listing"),
}
_OPEN = {
    "": 'open(PATH, "rb")',
    "gzip": "gzip.open(PATH)",
    "bzip2": "bz2.open(PATH)",
    "xz": "lzma.open(PATH)",
    "zstd": 'io.BufferedReader(pyarrow.input_stream(PATH, compression="zstd"))',
}
# What a script says of broken files, by their kind.
_BROKEN = {
    "array": "broken_json",
    "objects": "broken_json",
    "lines": "broken_lines",
    "csv": "broken_table",
}
# The rules of lib/targets.toml that `fragments.check` knows, those that only calls of tools can break, and
# those that nothing a conversion makes can break, but for half of a surrogate pair, which `main` finds.
_RULES = {
    *("empty_messages", "bad_role", "empty_content", "system_not_first", "first_not_user"),
    *("not_alternating", "unanswered", "no_answer"),
}
_CALL_RULES = {
    *("tools_not_taken", "bad_tools", "bad_arguments", "tool_not_answered", "no_tool_call_id"),
    "unknown_tool_call",
}
_NEVER = {
    *("ending", "too_few_rows", "too_many_rows", "file_too_large", "not_json", "not_object", "no_messages"),
    *("not_a_message", "no_role", "no_content", "not_text", "bad_characters", "extra_key", "bad_weight"),
    "bad_tool_calls",
}
MADE = {
    *("trim", "drop_empty_turn", "move_system", "drop_first_assistant", "merge_turns", "drop_last_user"),
    "drop_duplicate",
}
# Constants of `fragments` that are copied as they are.
_FIXED = {
    *("BROKEN", "NO_TEXT", "EXACT", "SPACE", "STEP", "AT_LINE", "ANYWHERE", "CALL", "BARS", "WRAPPED"),
    *("OUTER", "SYSTEM_MARKS"),
}
_MODULES = {
    **{
        name: f"import {name}"
        for name in ("bz2", "csv", "gzip", "hashlib", "io", "json", "lzma", "math", "re", "unicodedata")
    },
    "bisect_left": "from bisect import bisect_left, bisect_right",
    "Counter": "from collections import Counter",
    "Iterable": "from collections.abc import Iterable, Iterator",
    "Iterator": "from collections.abc import Iterator",
    "pairwise": "from itertools import pairwise",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
    "pyarrow": "import pyarrow",
    "parquet": "from pyarrow import parquet",
}


@cache
def _sources() -> dict[str, str]:
    """Return the functions and classes of `fragments`, and the constants of `_FIXED`, with their source."""
    source = inspect.getsource(fragments)
    lines = source.split("\n")
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in _FIXED:
                found[name] = ast.get_source_segment(source, node) or ""
    return found


@lru_cache(maxsize=1000)
def _names(code: str) -> tuple[str, ...]:
    """Return the names some code uses, in order; those of annotations and errors too."""
    return tuple(dict.fromkeys(node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)))


def _imports(code: str) -> str:
    """Return the imports some code needs, sorted as usual: ours, then pyarrow."""
    used = set(_names(code))
    lines = {line for name, line in _MODULES.items() if name in used}
    if "Iterable" in used:
        lines.discard(_MODULES["Iterator"])
    own, others = (
        sorted(
            (line for line in lines if ("pyarrow" in line) == foreign),
            key=lambda line: (line[0] == "f", line),
        )
        for foreign in (False, True)
    )
    return "\n".join([*own, *([""] if others else []), *others]) + "\n"


def _template(template: str) -> list[list[str]]:
    """Return the lines of a template in pieces: text and the names of columns in turns, text first."""
    lines = [[""]]
    for text, name in re.findall(r"(\{\{|\}\}|[^{}]+)|\{([^{}]+)\}", template):
        if name:
            lines[-1] += [name, ""]
            continue
        first, *others = (text[:1] if text in ("{{", "}}") else text).split("\n")
        lines[-1][-1] += first
        lines += [[other] for other in others]
    return lines


def _groups(roles: Mapping[str, str]) -> str:
    """Return a dict of lists, role -> names, as code."""
    told: dict[str, list[str]] = {}
    for name, role in roles.items():
        told.setdefault(role, []).append(_quoted(name))
    rows = []
    for role, found in told.items():
        lines = ["       "]
        for item in found:
            if len(lines[-1]) + len(item) > WIDTH - 2:
                lines.append("       ")
            lines[-1] += f" {item},"
        rows.append("\n".join([f"{_quoted(role)}: [", *lines, "    ]"]))
    return _table("{", rows, "}")


def _table(opening: str, rows: Iterable[str], closing: str) -> str:
    """Return rows as code, one on each line."""
    return "\n".join([opening, *(f"    {row}," for row in rows), closing])


def _quoted(text: str) -> str:
    """Return a text as code, in double quotes unless it holds some."""
    code = repr(text)
    if code[0] == "'" and '"' not in code:
        return '"' + code[1:-1].replace("\\'", "'") + '"'
    return code


def _quoted_all(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in _wrapped(text, WIDTH - 2)]


def _wrapped(text: str, width: int) -> list[str]:
    """Break a sentence into lines: between words, and between any two Chinese characters."""
    lines, line, size = [], "", 0
    for piece in re.findall(r"[^\s\u2e80-\uffef]+[\u3000-\u303f\uff00-\uffef]*|[\u2e80-\uffef]|\s+", text):
        wide = sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in piece)
        if line and size + wide > width and piece[:1] not in _CLOSING:
            lines.append(line.rstrip())
            line, size, piece = "", 0, piece.lstrip()
        line, size = line + piece, size + wide
    return [*lines, line.rstrip()]


_CLOSING = "\u3002\uff0c\uff1b\uff1a\uff01\uff1f\u3001\uff09\u300d\u201d"
