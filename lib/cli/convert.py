"""Look at rows, check them, and convert them into chat JSONL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from lib import check as checking
from lib import convert as converting
from lib import examine as examining
from lib import formats, outputs, records, sift
from lib import profile as profiling
from lib.cli.parts import Json, bar, pair, rows_told, say, tell
from lib.errors import RecordError, UsageError

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Data files or folders, in this order.")]
Form = Annotated[str, typer.Option("--format", help="Else found by itself.")]
Mapped = Annotated[
    list[str] | None, typer.Option("--map", metavar="ROLE=COLUMN", help="May be repeated: user=Question.")
]
Template = Annotated[
    str, typer.Option(metavar="TEXT", help="The question, put together from columns: '{title}: {body}'.")
]
Roles = Annotated[
    list[str] | None,
    typer.Option(
        "--role",
        metavar="NAME=ROLE",
        help="Who a speaker is: narrator=user; nothing after = drops its turns.",
    ),
]
System = Annotated[str, typer.Option(help="A system prompt put in front of every row that has none.")]
Reasoning = Annotated[
    str, typer.Option(help="What becomes of reasoning: " + ", ".join(formats.REASONING) + ".")
]
TargetName = Annotated[
    str,
    typer.Option("--target", help="Whose rules the rows must keep: " + ", ".join(checking.targets()) + "."),
]
EditsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A patch file of edits and fixes, as the page keeps it.")
]


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A data file.")],
    rows: Annotated[int, typer.Option(min=1, max=1000, help="How many rows to show.")] = 5,
    start: Annotated[int, typer.Option("--from", min=1, help="The first row to show.")] = 1,
    sample: Annotated[bool, typer.Option("--sample", help="Show rows drawn at random instead.")] = False,
    seed: Annotated[int, typer.Option(help="Fixes which rows are drawn.")] = 0,
    search: Annotated[str, typer.Option(metavar="TEXT", help="Show rows that hold this text instead.")] = "",
    profile: Annotated[
        bool, typer.Option("--profile", help="Read it all: types, lengths, duplicates, languages.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what a data file holds, its first rows, and which field seems to be what."""
    shape = records.sniff(file)
    good = [row.value for row in records.head(file, 25) if isinstance(row, records.Record)]
    guess = formats.detect(good)
    total = records.page(file, 0, 1).total
    if search:
        found = list(islice(records.search(file, search), rows))
    elif sample:
        found = records.sample(file, rows, seed)
    else:
        found = list(records.page(file, start - 1, rows).rows)
    head, shown = rows_told(found)
    answer: dict[str, Any] = {
        "file": str(file),
        "kind": shape.kind,
        "encoding": shape.encoding,
        "compression": shape.compression,
        "rows": total,
        "columns": records.columns(good),
        "format": guess.format,
        "fields": guess.fields,
        "confidence": guess.confidence,
        "head": head,
    }
    lines = [
        f"{file}: {say(f'shape.{shape.name}')}, {shape.encoding}, {total} rows,"
        f" columns: {', '.join(answer['columns'])}",
        f"format: {guess.format or 'not recognised'} "
        + " ".join(f"{role}={column}" for role, column in guess.fields.items()),
    ]
    lines += [line if len(line) <= 300 else f"{line[:299]}…" for line in shown]
    if profile:
        seen = profiling.profile(file, processes=sift.cores())
        answer["profile"] = seen.as_json()
        lines += _profile_lines(seen)
    tell(as_json, answer, "\n".join(lines))


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A chat JSONL file.")],
    target: TargetName = "siliconflow",
    as_json: Json = False,
) -> None:
    """Check a chat JSONL file against a platform's rules. Exit code 1 if a rule is broken."""
    if target not in checking.targets():
        raise UsageError("usage.unknown_target", target=target, known=", ".join(checking.targets()))
    report = checking.check_file(file, checking.targets()[target])
    errors = report.errors
    lines = [
        f"{file}:{finding.line}: {finding.severity}: {say(f'check.{finding.rule}')}"
        f" ({finding.field}: {finding.value[:60]!r})"
        for finding in report.findings
    ]
    lines.append(f"{report.rows} rows, {len(errors)} errors, {len(report.findings) - len(errors)} warnings")
    answer = {"rows": report.rows, "findings": [asdict(finding) for finding in report.findings]}
    tell(as_json, answer, "\n".join(lines), failed=bool(errors))


def examine(
    files: Files,
    form: Form = "",
    mapped: Mapped = None,
    template: Template = "",
    roles: Roles = None,
    system: System = "",
    reasoning: Reasoning = "keep",
    target: TargetName = "siliconflow",
    edits: EditsFile = None,
    most: Annotated[int, typer.Option(min=1, help="How many findings to print.")] = 100,
    as_json: Json = False,
) -> None:
    """Say of every row what a conversion would find wrong with it; exit code 1 if any would be set aside."""
    paths = _data_files(files)
    mapping = _mapping(paths[0], form, mapped or (), system, reasoning, template, roles or ())
    request = converting.Request(tuple(paths), Path(), mapping, target=target, edits=edits)
    with _read(paths, "Examining", quiet=as_json) as progress:
        seen = examining.examine(request, progress=progress)
    lines = [
        f"{finding.file}: row {finding.row}, line {finding.line or '-'}: {finding.severity}: {finding.rule}"
        f" ({finding.field or '-'}: {finding.value[:60]!r})" + (f" fix: {finding.fix}" if finding.fix else "")
        for finding in seen.findings[:most]
    ]
    lines.append(f"read {seen.read} = good {seen.good} + bad {seen.read - seen.good}")
    lines += [f"  {count} × {rule}" for rule, count in seen.rules.items()]
    tell(as_json, seen.as_json(), "\n".join(lines), failed=seen.good < seen.read)


def convert(
    files: Files,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for train.jsonl, validation.jsonl, manifest.json.")
    ],
    form: Form = "",
    mapped: Mapped = None,
    template: Template = "",
    roles: Roles = None,
    system: System = "",
    reasoning: Reasoning = "keep",
    validation: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share kept back, never trained on.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="Fixes which rows are kept back.")] = 0,
    group: Annotated[
        str, typer.Option(metavar="COLUMN", help="Rows alike in it stay on one side; else the same question.")
    ] = "",
    target: TargetName = "siliconflow",
    edits: EditsFile = None,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=0, help="Where the fix `cut` cuts; 0: what the target takes.")
    ] = 0,
    also: Annotated[
        list[str] | None,
        typer.Option(metavar="SHAPE", help="Write too: " + ", ".join(outputs.OUTPUTS) + ". May be repeated."),
    ] = None,
    processes: Annotated[int, typer.Option(min=0, help="0: one for each core.")] = 0,
    as_json: Json = False,
) -> None:
    """Turn data files into chat JSONL: training rows, validation rows, and why any row was set aside."""
    paths = _data_files(files)
    mapping = _mapping(paths[0], form, mapped or (), system, reasoning, template, roles or ())
    request = converting.Request(
        tuple(paths),
        out,
        mapping,
        validation=validation,
        seed=seed,
        target=target,
        edits=edits,
        group=group,
        max_tokens=max_tokens,
        also=tuple(also or ()),
        processes=processes,
    )
    with _read(paths, "Converting", quiet=as_json) as progress:
        ledger = converting.convert(request, progress=progress)
    text = (
        f"read {ledger.read} = train {ledger.train} + validation {ledger.validation}"
        f" + set aside {ledger.set_aside}, in {out}"
    )
    for reason, rows in ledger.reasons.items():
        text += f"\n  set aside: {rows} × {reason}"
    for rule, rows in ledger.warnings.items():
        text += f"\n  noticed: {rows} × {rule}"
    for fix, rows in ledger.mended.items():
        text += f"\n  mended: {rows} × {fix}"
    if ledger.edited:
        text += f"\n  edited: {ledger.edited}"
    tell(as_json, asdict(ledger) | {"out": str(out.resolve())}, text)


def _data_files(given: list[Path]) -> list[Path]:
    paths = [path for one in given for path in (records.find(one) if one.is_dir() else [one])]
    if not paths:
        raise RecordError("record.missing_file", file=str(given[0]))
    return paths


@contextmanager
def _read(paths: list[Path], label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Draw how much of some files is read; yield what to tell the bytes read, and of how many."""
    size = sum(path.stat().st_size for path in paths if path.exists())
    with bar(label, size, quiet=quiet) as moved:
        yield lambda done, _total: moved(done)


def _mapping(
    path: Path,
    form: str,
    given: Sequence[str],
    system: str,
    reasoning: str,
    template: str,
    roles: Sequence[str],
) -> formats.Mapping:
    rows = [row.value for row in records.head(path, 25) if isinstance(row, records.Record)]
    guess = formats.detect(rows)
    fields = dict(pair(one) for one in given)
    name = form or guess.format
    if not form and given and name not in formats.FORMATS:
        name = "qa"  # with the columns said, a question and an answer need no recognising
    if name not in formats.FORMATS:
        columns, known = ", ".join(records.columns(rows)), ", ".join(formats.FORMATS)
        if name in formats.DECLINED:
            raise RecordError("record.declined", file=str(path), format=name, columns=columns)
        raise UsageError("usage.unknown_format", file=str(path), format=name, columns=columns, known=known)
    if name == guess.format and not (form and given):
        fields = guess.fields | fields
    unknown = [role for role in fields if role not in formats.FORMATS[name].fields]
    if unknown:
        known = ", ".join(formats.FORMATS[name].fields)
        raise UsageError("usage.unknown_role", role=unknown[0], format=name, known=known)
    return formats.Mapping(
        name, fields, system, reasoning, template, dict(pair(one, last=True) for one in roles)
    )


def _profile_lines(seen: profiling.Profile) -> list[str]:
    lines = [
        f"{column.name}: {column.kind}, missing {column.missing}, null {column.null}, empty {column.empty},"
        f" characters {column.characters.least} / {column.characters.quantile(0.5)}"
        f" / {column.characters.most},"
        f" about {column.tokens.quantile(0.5)} tokens (95 %: {column.tokens.quantile(0.95)})"
        for column in seen.columns
    ]
    mix = ", ".join(f"{name} {count / max(1, seen.looked_at):.0%}" for name, count in seen.languages.items())
    lines.append(f"broken rows: {seen.broken}, exact duplicates: {seen.repeats}, languages: {mix or '-'}")
    return lines
