"""Records as a table, seen in several ways, and one of them in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pandas as pd
import streamlit as st

from lib import convert, records
from lib.profile import Profile
from lib.records import Broken, Piece, Record
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import explain, t

SMALL = 8_000_000  # bytes of a file that is read through while the visitor waits: some tenths of a second
ROWS = 25  # a page of the table; every rerun sends the table again, so it stays small
CELL = 160  # characters of a cell; the whole value is shown under the table
HITS = 100  # rows found by a search
HEAD = 100  # rows that the format is guessed from

VIEWS = ("pages", "sample", "search", "longest", "shortest", "bad")


@dataclass(frozen=True, slots=True)
class Shown:
    """What is known of the file on the screen.

    `keep`: where its index lies. `ready`: whether any page of it is there at once. `bad`: the numbers of its
    bad rows, None while they are not known.
    """

    path: Path
    keep: Path
    ready: bool
    profile: Profile | None
    bad: Sequence[int] | None


def small(path: Path) -> bool:
    """Return whether a file is read through while the visitor waits."""
    return path.stat().st_size <= SMALL


def ready(path: Path, keep: Path) -> bool:
    """Return whether any page of a file is there at once."""
    return small(path) or records.prepared(path, keep)


def head(path: Path) -> list[Any]:
    """Return the values of the first rows of a file."""
    return [piece.value for piece in records.head(path, HEAD) if isinstance(piece, Record)]


def rows(me: State, shown: Shown) -> Piece | None:
    """Draw rows of a file in the way that is chosen; return the row that is selected, if there is one."""
    line, ways, asked, grid, turn = (st.container() for _ in range(5))
    offered = [view for view in VIEWS if _has(view, shown)] if shown.ready else []
    if offered:
        with ways:
            me.view = (
                st.segmented_control(
                    t("table.view"),
                    offered,
                    default=parts.among(me.view, offered),
                    required=True,
                    format_func=lambda view: t(f"table.{view}"),
                    label_visibility="collapsed",
                    key=f"view_{me.dataset}",
                )
                or "pages"
            )
    if not offered:
        found, total, name = records.head(shown.path, ROWS), 0, "head"
        asked.caption(t("table.head", n=len(found)))
    elif me.view == "pages":
        found, total, name = _page(me, shown, turn)
    else:
        total = records.page(shown.path, 0, 0, shown.keep).total
        with asked:
            found, name = _picked(me, shown, total)
    with line:
        _file_line(shown, total)
    with grid:
        return _table(me, shown, found, name)


def in_full(piece: Piece) -> None:
    """Draw every field of a row, whole and as it is."""
    if isinstance(piece, Broken):
        parts.sorry(explain(piece.error))
        st.code(piece.raw[: parts.LONG], language=None, wrap_lines=True)
        return
    if piece.note:
        st.warning(parts.literal(explain(piece.note)), icon=":material/info:")
    fields = piece.value if isinstance(piece.value, dict) else {"": piece.value}
    for name, value in fields.items():
        text = plain_text(value)
        with st.container(gap="xxsmall"):
            st.caption(parts.literal(str(name)) or "-")
            st.text(text[: parts.LONG])
            if len(text) > parts.LONG:
                st.caption(t("convert.cut_here", n=len(text) - parts.LONG))


def frame(pieces: Sequence[Piece]) -> pd.DataFrame:
    """Return rows as a table: their numbers, and each field as text, cut where it is long."""
    names = records.columns([row.value for row in pieces if isinstance(row, Record)])
    return pd.DataFrame([{"#": row.number, **_cells(row, names)} for row in pieces])


def plain_text(value: Any) -> str:
    """Return a value as text that can be shown."""
    if not isinstance(value, str):
        try:
            return orjson.dumps(value, option=orjson.OPT_INDENT_2, default=str).decode()
        except (TypeError, orjson.JSONEncodeError):
            value = repr(value)
    return str(value).encode("utf-8", "replace").decode("utf-8")  # half a character cannot be sent


def _has(view: str, shown: Shown) -> bool:
    """Return whether there is anything to see in this way."""
    if view in ("longest", "shortest"):
        return shown.profile is not None and bool(getattr(shown.profile, view))
    return bool(shown.bad) if view == "bad" else True


def _file_line(shown: Shown, total: int) -> None:
    shape = records.sniff(shown.path)
    facts = {
        "name": parts.literal(shown.path.name),
        "kind": " · ".join(filter(None, (t(f"shape.{shape.name}"), shape.compression))),
        "encoding": shape.encoding,
    }
    if shown.ready:
        st.caption(t("convert.file_line", n=total, **facts))
    else:
        st.caption(t("convert.file_line_size", size=shown.path.stat().st_size, **facts))


def _page(me: State, shown: Shown, turn: Any) -> tuple[list[Piece], int, str]:
    """Return the rows of a page, the number of all, and a name for this page."""
    total = records.page(shown.path, 0, 0, shown.keep).total
    pages = max(1, -(-total // ROWS))
    me.page = min(max(1, me.page), pages)
    if pages > 1:
        with (
            turn,
            st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"),
        ):
            me.page = st.pagination(
                pages, default=me.page, width="stretch", key=f"page_{me.shown_file}_{me.jumps}"
            )
            wanted = st.number_input(
                t("table.jump"),
                1,
                total,
                None,
                1,
                placeholder=t("table.jump"),
                label_visibility="collapsed",
                width=170,
                key=f"jump_{me.shown_file}_{me.jumps}",
            )
        if wanted:
            me.row, me.page = int(wanted), -(-int(wanted) // ROWS)
            me.jumps += 1
            st.rerun()
    page = records.page(shown.path, (me.page - 1) * ROWS, ROWS, shown.keep)
    return list(page.rows), total, f"{me.page}_{me.jumps}"


def _picked(me: State, shown: Shown, total: int) -> tuple[list[Piece], str]:
    """Draw what a way of looking needs to be told; return its rows and a name for them."""
    if me.view == "sample":
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(t("table.sample_what", n=min(ROWS, total)))
            if st.button(t("table.draw"), icon=":material/casino:", type="tertiary", key="draw"):
                me.drawn += 1
        return records.sample(shown.path, ROWS, me.drawn, shown.keep), f"sample_{me.drawn}"
    if me.view == "search":
        me.sought = st.text_input(
            t("table.search_label"),
            me.sought,
            placeholder=t("table.search_example"),
            icon=":material/search:",
            label_visibility="collapsed",
            key=f"sought_{me.dataset}",
        )
        if not me.sought:
            st.caption(t("table.search_what"))
            return [], "search"
        with st.spinner(t("table.searching")):
            hits = _search(shown.path, convert.stamp(shown.path), me.sought, shown.keep)
        st.caption(t("table.hits_many" if len(hits) == HITS else "table.hits", n=len(hits)))
        return hits, f"search_{me.sought}"
    if me.view == "bad":
        numbers = list(shown.bad or ())
        pages = max(1, -(-len(numbers) // ROWS))
        st.caption(t("table.bad_what", n=len(numbers)))
        number = st.pagination(pages, key=f"bad_{me.shown_file}_{pages}") if pages > 1 else 1
        numbers = numbers[(number - 1) * ROWS : number * ROWS]
        return records.rows(shown.path, numbers, shown.keep), f"bad_{numbers[:1]}_{len(numbers)}"
    extremes = getattr(shown.profile, me.view)
    st.caption(t(f"table.{me.view}_what", n=len(extremes)))
    found = {
        piece.number: piece for piece in records.rows(shown.path, sorted(n for n, _ in extremes), shown.keep)
    }
    return [found[number] for number, _ in extremes if number in found], me.view


@lru_cache(maxsize=8)
def _search(path: Path, _stamp: tuple[int, int], text: str, keep: Path) -> list[Piece]:
    return list(islice(records.search(path, text, keep, HITS), HITS))


def _table(me: State, shown: Shown, found: Sequence[Piece], name: str) -> Piece | None:
    if not found:
        return None
    numbers = [piece.number for piece in found]
    if me.row not in numbers:
        me.row = numbers[0]
    with parts.above_table():
        st.caption(t("convert.select_hint"))  # also keeps the table's own buttons off the choice above it
    event = st.dataframe(
        frame(found),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={"selection": {"rows": [numbers.index(me.row)]}},
        height=min(280, 36 * (len(found) + 1)),
        column_config={"#": st.column_config.NumberColumn(format="localized", width="small", pinned=True)},
        key=f"table_{shown.path}_{name}",
    )
    picked = event.selection.rows
    if picked and picked[0] < len(numbers):
        me.row = numbers[picked[0]]
    return found[numbers.index(me.row)]


def _cells(row: Piece, names: list[str]) -> dict[str, str]:
    if isinstance(row, Broken):
        first, *others = names or ["-"]
        return {first: t("convert.broken_cell", line=row.line or row.number), **dict.fromkeys(others, "")}
    if not isinstance(row.value, dict):
        return {"-": plain_text(row.value)[:CELL]}
    return {name: plain_text(row.value[name])[:CELL] if name in row.value else "" for name in names}
