"""Several columns joined into one question: "{instruction}\\n\\nBackground: {context}".

Column names stand in braces and are taken as they are; {{ and }} are braces. No code runs. A column that is
missing, null or blank gives nothing, and a line all of whose columns give nothing is left out, together with
the blank lines before it, so that no "Background:" is left with nothing behind it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lib.errors import ConvertError, UsageError
from lib.formats.mapping import Record, optional

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_Line = list[tuple[bool, str]]  # whether it is a column, and its name or the text itself


def columns(template: str) -> tuple[str, ...]:
    """Return the columns a template names, in order; raise `UsageError` where it cannot be read."""
    found = tuple(dict.fromkeys(text for line in _parsed(template) for is_column, text in line if is_column))
    if not found:
        raise UsageError("convert.template_without_column", template=template[:200])
    return found


def filler(template: str) -> Callable[[Record], str]:
    """Return a function that fills a template from a record.

    The function raises `ConvertError` where no column of the template says anything.
    """
    lines, names = _parsed(template), columns(template)
    pieces = [piece for line in lines for piece in (*line, (False, "\n"))][:-1]

    def fill(record: Record) -> str:
        said = {name: optional(record.get(name), name) for name in names}
        if all(said.values()):
            return "".join([said[text] if is_column else text for is_column, text in pieces])
        if not any(said.values()):
            known = any(record.get(name) is not None for name in names)
            raise ConvertError("convert.empty_field" if known else "convert.missing_field", field=names[0])
        return _without_gaps(lines, said)

    return fill


def _without_gaps(lines: list[_Line], said: dict[str, str]) -> str:
    out: list[str] = []
    blank: list[str] = []  # blank lines that wait for what follows them
    gap = False
    for line in lines:
        named = [text for is_column, text in line if is_column]
        text = "".join(said[text] if is_column else text for is_column, text in line)
        if named and not any(said[name] for name in named):
            blank, gap = [], True
        elif not named and not text.strip():
            blank.append(text)
        else:
            out += [*(blank if out or not gap else []), text]
            blank = []
    return "\n".join([*out, *blank])


def _parsed(template: str) -> list[_Line]:
    lines: list[_Line] = [[]]

    def literal(text: str) -> None:
        first, *others = text.split("\n")
        if first:
            lines[-1].append((False, first))
        lines.extend([(False, other)] if other else [] for other in others)

    end = 0
    for token in _TOKEN.finditer(template):
        literal(template[end : token.start()])
        end = token.end()
        if token[1] is not None:
            lines[-1].append((True, token[1]))
        elif token[0] in ("{{", "}}"):
            literal(token[0][0])
        else:
            raise UsageError("convert.bad_template", template=template[:200], place=token.start() + 1)
    literal(template[end:])
    return lines
