"""Which column is whose words: what was recognised, and how to put it right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zlib import crc32

import streamlit as st

from lib import formats, records
from lib.errors import AppError
from lib.formats.names import names
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import explain, t

SURE, LIKELY = 0.85, 0.5  # confidence from which a guess is called so
SPEAKERS = 6  # unknown speakers asked about; a dataset with more has another trouble
COLUMNS = 12  # columns that can be put into a template by a click
UNKNOWN = "?"  # a speaker whose rows are set aside
JOINED = ("user", "input")  # the roles that a template stands in for
BESIDE = ("assistant", "reasoning", "system", "history", "tools")  # columns that are no part of a question


def draw(me: State, rows: Sequence[Any], odd: Sequence[Any]) -> formats.Mapping:
    """Draw which column is which role; what was found automatically is filled in.

    `rows` are the values of some rows, `odd` those of rows with speakers nobody knows.
    """
    columns = records.columns(rows)
    these = crc32(repr((me.dataset, columns)).encode("utf-8", "replace"))  # other columns, other widgets
    guess = formats.detect(rows)
    if not set(me.fields.values()) <= set(columns) or me.format not in formats.FORMATS:
        found = guess.format in formats.FORMATS
        me.format, me.fields = (guess.format, dict(guess.fields)) if found else ("", {})
        me.template, me.roles = "", dict(guess.roles)
    _recognised(me, guess, columns)
    main, more = (
        st.container(),
        st.expander(t("convert.more_columns"), icon=":material/view_column:", key="more"),
    )
    with more:
        joined = _joined(me, columns, these)
    chosen = _columns(me, columns, these, guess, main, more, joined=joined)
    if joined:
        with main:
            _template(me, columns, these)
    way = formats.REASONING[0]
    if chosen.get("reasoning") or _thinks(rows):
        way = me.reasoning = st.radio(
            t("convert.reasoning"),
            formats.REASONING,
            index=formats.REASONING.index(parts.among(me.reasoning, formats.REASONING)),
            format_func=lambda way: t(f"convert.reasoning_{way}"),
            help=t("convert.reasoning_help"),
            horizontal=True,
            key="reasoning",
        )
    plain = formats.Mapping(me.format, chosen)
    _speakers(me, _unknown([*rows, *odd], plain), these)
    me.system = st.text_area(
        t("convert.system"),
        me.system,
        placeholder=t("convert.system_example"),
        help=t("convert.system_help"),
        height=80,
        key="system",
    )
    return formats.Mapping(
        me.format, chosen, me.system.strip(), way, me.template if joined else "", dict(me.roles)
    )


def complete(mapping: formats.Mapping) -> bool:
    """Return whether a mapping says all that is needed; what it lacks is drawn."""
    try:
        formats.check_mapping(mapping)
    except AppError as error:
        role = error.facts.get("role") if error.key == "convert.no_role" else None
        said = t("convert.incomplete", role=t(f"role.{role}")) if role else parts.literal(explain(error))
        st.info(said, icon=":material/arrow_upward:")
        return False
    return True


def _recognised(me: State, guess: formats.Guess, columns: list[str]) -> None:
    """Say what the rows seem to be, by what and how surely; what cannot be used, with the way out."""
    if guess.format in formats.DECLINED:
        st.warning(t(f"format.{guess.format}"), icon=":material/block:")
        if guess.instead and st.button(
            t("convert.instead", columns=parts.literal(", ".join(guess.instead.fields.values()))),
            icon=":material/alt_route:",
            key="instead",
        ):
            me.format, me.fields = guess.instead.format, dict(guess.instead.fields)
            me.mapped += 1
            st.rerun()
    elif guess.format:
        how = next(name for name, least in _SURENESS if guess.confidence >= least)
        said = t("convert.found", format=t(f"format.{guess.format}"), reason=t(f"reason.{guess.reason}"))
        # told by what the fields hold: the reason itself asks to check
        st.caption(said if "content" in guess.reason else f"{said} {t(f'convert.{how}')}")
    else:
        st.caption(t("convert.not_found", columns=parts.literal(", ".join(columns))))


def _columns(
    me: State, columns: list[str], these: int, guess: formats.Guess, main: Any, more: Any, *, joined: bool
) -> dict[str, str]:
    """Draw the format and the column of each of its roles; return role -> column.

    In `main` are those that a row cannot do without and those that were found, in `more` the others. Where
    the question is `joined` from several columns, its own are not asked for.
    """
    known = list(formats.FORMATS)
    fallback = me.format or "qa"
    labels = parts.labels({name: name for name in columns})
    chosen: dict[str, str] = {}
    with main:
        first = st.grid(3, min_column_width=200)
    with more:
        rest = st.grid(3, min_column_width=200)
    with first:
        me.format = st.selectbox(
            t("convert.format"),
            known,
            index=known.index(fallback),
            format_func=lambda name: t(f"format.{name}"),
            key=f"format_{these}_{me.mapped}",
        )
    form = formats.FORMATS[me.format]
    hidden = JOINED if joined else ()
    for role in form.fields:
        if role in hidden:
            continue
        choices = columns if role in form.required else ["", *columns]
        current = me.fields.get(role, "")
        with first if role in form.required or role in guess.fields else rest:
            pick = st.selectbox(
                t(f"role.{role}"),
                choices,
                # what a row cannot do without is never guessed from nothing
                index=choices.index(current) if current in choices else None if role in form.required else 0,
                format_func=lambda name: labels[name] if name else t("convert.no_column"),
                placeholder=t("convert.choose"),
                key=f"field_{role}_{me.format}_{these}_{me.mapped}",
            )
        if pick:
            chosen[role] = pick
    me.fields = chosen | {role: me.fields[role] for role in hidden if role in me.fields}
    return chosen


def _joined(me: State, columns: list[str], these: int) -> bool:
    """Draw whether several columns make the question, where there are several; return whether they do."""
    form = formats.FORMATS.get(me.format or "qa")
    taken = {me.fields[role] for role in BESIDE if role in me.fields}
    if form is None or "input" not in form.fields or len(set(columns) - taken) < 2:
        return False
    wanted = st.toggle(
        t("convert.template_on"),
        bool(me.template),
        help=t("convert.template_on_help"),
        key=f"joined_{these}_{me.mapped}",
    )
    if wanted and not me.template:
        given = [me.fields[role] for role in JOINED if role in me.fields] or [columns[0]]
        me.template = "\n\n".join(f"{{{name}}}" for name in given)
    elif not wanted:
        me.template = ""
    return wanted


def _template(me: State, columns: list[str], these: int) -> None:
    """Draw the template, and the columns that a click puts at its end."""
    me.template = (
        st.text_area(
            t("convert.template"),
            me.template,
            help=t("convert.template_help"),
            height=110,
            key=f"template_{these}_{me.template_round}",
        )
        or me.template
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(t("convert.template_insert"), width="content")
        for place, name in enumerate(columns[:COLUMNS]):
            if st.button(parts.plain(name, 30), type="tertiary", key=f"insert_{place}_{these}"):
                me.template += f"{{{name}}}"
                me.template_round += 1
                st.rerun()


def _thinks(rows: Sequence[Any]) -> bool:
    """Return whether answers in some rows come with reasoning, in a key of their own or in <think>."""
    text = repr(rows)
    return "<think>" in text or any(f"'{name}':" in text for name in names().reasoning)


def _unknown(rows: Iterable[Any], mapping: formats.Mapping) -> list[str]:
    """Return the speakers of some rows whom nobody knows, in the order they appear."""
    found: dict[str, None] = {}
    if "messages" in mapping.fields:
        for value in rows:
            for error in formats.problems(value, mapping):
                if error.key == "convert.bad_role":
                    found[str(error.facts.get("role", ""))] = None
    return list(found)[:SPEAKERS]


def _speakers(me: State, unknown: Sequence[str], these: int) -> None:
    """Draw who the unknown speakers are."""
    roles: dict[str, str] = {}
    if not unknown:
        me.roles = {}
        return
    st.caption(t("convert.speakers", n=len(unknown)))
    ways = (UNKNOWN, "user", "assistant", "system", "")
    with st.grid(3, min_column_width=200):
        for place, speaker in enumerate(unknown):
            role = st.selectbox(
                t("convert.speaker", name=parts.plain(speaker, 40)),
                ways,
                index=ways.index(parts.among(me.roles.get(speaker, UNKNOWN), ways)),
                format_func=lambda way: t(
                    {UNKNOWN: "convert.speaker_unknown", "": "convert.speaker_out"}.get(way, f"role.{way}")
                ),
                key=f"speaker_{place}_{these}",
            )
            if role != UNKNOWN:
                roles[speaker] = role
    me.roles = roles


_SURENESS = (("sure", SURE), ("likely", LIKELY), ("unsure", 0.0))
