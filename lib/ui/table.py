"""Records as a table, one in full, and the mapping of its fields to roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
import pandas as pd
import streamlit as st

from lib import formats
from lib import records as reading
from lib.errors import AppError
from lib.records import Broken, Page, Record
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import explain, t

ROWS = 25  # a page of the table; every rerun sends the table again, so it stays small
CELL = 160  # characters of a cell; the whole value is shown under the table


def choose_files(me: State, files: list[Path]) -> list[Path]:
    """Draw the choice of files to convert where there are several; return the chosen ones."""
    known = {str(path): path for path in files}
    names = parts.labels({name: path.name for name, path in known.items()})
    chosen = [name for name in me.files if name in known] or list(known)
    if len(known) > 1:
        chosen = st.multiselect(
            t("convert.files"), list(known), chosen, format_func=names.__getitem__, key=f"files_{me.dataset}"
        )
        chosen = chosen or list(known)
    me.files = chosen
    if me.shown_file not in chosen:
        mine = [name for name in chosen if Path(name).stem.endswith(f"-{me.lang}")]
        me.shown_file, me.row = [*mine, *chosen][0], 0
    if len(chosen) > 1:
        tabs = parts.labels({name: known[name].name for name in chosen}, parts.plain)
        me.shown_file = (
            st.segmented_control(
                t("convert.shown"),
                chosen,
                default=me.shown_file,
                required=True,
                format_func=tabs.__getitem__,
                key=f"shown_file_{me.dataset}",
            )
            or chosen[0]
        )
    return [known[name] for name in chosen]


def records(me: State) -> Page:
    """Draw the shown file page by page; return the page that is on the screen."""
    path = Path(me.shown_file)
    shape = reading.sniff(path)
    spot = st.container()
    total = reading.page(path, 0, 1).total
    pages = max(1, -(-total // ROWS))
    number = st.pagination(pages, key=f"page_{me.shown_file}") if pages > 1 else 1
    page = reading.page(path, (number - 1) * ROWS, ROWS)
    names = reading.columns([row.value for row in page.rows if isinstance(row, Record)])
    table = pd.DataFrame([{"#": row.number, **_cells(row, names)} for row in page.rows])
    with spot:
        st.caption(
            t(
                "convert.file_line",
                n=total,
                name=parts.literal(path.name),
                kind=shape.format,
                encoding=shape.encoding,
            )
        )
        event = st.dataframe(
            table,
            hide_index=True,
            on_select="rerun",
            selection_mode="single-row",
            height=280,
            key=f"table_{me.shown_file}_{number}",
        )
        st.caption(t("convert.select_hint"))
    picked = event.selection.rows
    if picked:
        me.row = page.start + picked[0]
    elif not page.start <= me.row < page.start + len(page.rows):
        me.row = page.start
    return page


def chosen(me: State, page: Page) -> Record | Broken:
    """Return the selected record of a page."""
    return page.rows[me.row - page.start]


def in_full(record: Record | Broken) -> None:
    """Draw every field of a record, whole and as it is."""
    if isinstance(record, Broken):
        parts.sorry(explain(record.error))
        st.code(record.raw, language=None, wrap_lines=True)
        return
    fields = record.value if isinstance(record.value, dict) else {"": record.value}
    for name, value in fields.items():
        text = _text(value)
        with st.container(gap="xxsmall"):
            st.caption(parts.literal(str(name)) or "-")
            st.text(text[: parts.LONG])
            if len(text) > parts.LONG:
                st.caption(t("convert.cut_here", n=len(text) - parts.LONG))


def mapping(me: State, page: Page) -> formats.Mapping:
    """Draw which column is which role; what was found automatically is filled in."""
    rows = [row.value for row in page.rows if isinstance(row, Record)]
    columns = reading.columns(rows)
    these = crc32(repr((me.dataset, columns)).encode())  # widgets of other columns keep their own values
    guess = formats.detect(rows)
    if not set(me.fields.values()) <= set(columns) or me.format not in formats.FORMATS:
        me.format, me.fields = (
            (guess.format, dict(guess.fields)) if guess.format in formats.FORMATS else ("", {})
        )
    if guess.format in formats.DECLINED:
        st.warning(t(f"format.{guess.format}"), icon=":material/block:")
    elif guess.format:
        st.caption(t("convert.found", format=t(f"format.{guess.format}"), reason=t(f"reason.{guess.reason}")))
    else:
        st.caption(t("convert.not_found", columns=parts.literal(", ".join(columns))))

    names = list(formats.FORMATS)
    fallback = me.format or "qa"
    with st.grid(3, min_column_width=200):
        me.format = st.selectbox(
            t("convert.format"),
            names,
            index=names.index(fallback),
            format_func=lambda name: t(f"format.{name}"),
            key=f"format_{these}",
        )
        form = formats.FORMATS[me.format]
        chosen: dict[str, str] = {}
        for role in form.fields:
            choices = columns if role in form.required else ["", *columns]
            current = me.fields.get(role, "")
            pick = st.selectbox(
                t(f"role.{role}"),
                choices,
                index=choices.index(current) if current in choices else 0,
                format_func=lambda name: name or t("convert.no_column"),
                key=f"field_{role}_{me.format}_{these}",
            )
            if pick:
                chosen[role] = pick
    me.fields = chosen
    if chosen.get("reasoning"):
        ways = ("drop", "think")
        me.reasoning = st.radio(
            t("convert.reasoning"),
            ways,
            index=ways.index(parts.among(me.reasoning, ways)),
            format_func=lambda way: t(f"convert.reasoning_{way}"),
            help=t("convert.reasoning_help"),
            horizontal=True,
            key="reasoning",
        )
    me.system = st.text_area(
        t("convert.system"),
        me.system,
        placeholder=t("convert.system_example"),
        help=t("convert.system_help"),
        height=80,
        key="system",
    )
    return formats.Mapping(me.format, chosen, me.system.strip(), me.reasoning)


def preview(record: Record | Broken, mapping: formats.Mapping) -> None:
    """Draw what a record becomes, or why it would be set aside."""
    if isinstance(record, Broken):
        st.caption(t("convert.broken"))
        return
    try:
        conversation = formats.to_conversation(record.value, mapping)
    except AppError as error:
        parts.sorry(explain(error))
        return
    parts.bubbles(conversation)


def split_sentence(me: State) -> str:
    """Say in a sentence what the validation share means for the chosen files."""
    rows = sum(reading.page(Path(name), 0, 1).total for name in me.files)
    kept = round(rows * me.validation)
    if not kept:
        return t("convert.split_none", rows=rows)
    return t("convert.split_sentence", rows=rows, train=rows - kept, kept=kept)


def _cells(row: Record | Broken, names: list[str]) -> dict[str, str]:
    if isinstance(row, Broken):
        return dict.fromkeys(names[:1] or ["-"], t("convert.broken_cell", line=row.line or row.number))
    if not isinstance(row.value, dict):
        return {"-": _text(row.value)[:CELL]}
    return {name: _text(row.value[name])[:CELL] if name in row.value else "" for name in names}


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
    except (TypeError, orjson.JSONEncodeError):
        return repr(value)
