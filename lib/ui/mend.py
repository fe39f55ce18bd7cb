"""What is wrong with the rows, and mending it: for all rows of a kind, or one row in its place."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pandas as pd
import streamlit as st

from lib import check, convert, edits, fixes, formats, records, sift, words
from lib.check import Finding
from lib.convert import Request
from lib.errors import AppError
from lib.examine import Examination
from lib.records import Broken, Piece, Record
from lib.sift import Outcome
from lib.ui import parts, table
from lib.ui.state import State
from lib.ui.words import explain, t

Color = Literal["red", "orange", "green", "gray"]
ROWS = 25  # findings on a page
LOOKED_AT = 20  # rows with unknown speakers that are looked at
FIELDS = 12  # texts of a row that get a field of their own; more are edited in a table
SEVERITY: dict[str, Color] = {"error": "red", "warning": "orange"}
STATE: dict[str, Color] = {"is_good": "green", "is_bad": "red", "is_out": "gray"}


def target(me: State) -> str:
    """Draw the choice of whose rules the rows must keep."""
    known = check.targets()
    me.target = st.selectbox(
        t("mend.target"),
        list(known),
        index=list(known).index(parts.among(me.target, list(known))),
        format_func=lambda name: t(f"target.{name}"),
        key="target",
    )
    chosen = known[me.target]
    # not a caption: a link in one is too pale to be read
    st.markdown(
        t(
            "mend.target_what",
            most=chosen.max_tokens,
            link=chosen.source,
            site=urlsplit(chosen.source).netloc,
            date=chosen.checked,
        )
    )
    return me.target


def summary(seen: Examination) -> None:
    """Draw how many rows are good and how many are not."""
    bad = seen.read - seen.good
    tiles = [(t("mend.good"), f"{seen.good:,}"), (t("mend.bad"), f"{bad:,}")]
    if seen.edited or seen.mended:
        tiles.append((t("mend.changed"), f"{seen.edited + sum(seen.mended.values()):,}"))
    parts.numbers(*tiles)
    if not seen.rules:
        st.markdown(t("mend.all_good", icon=":green[:material/check_circle:]"))


def rules(me: State, request: Request, seen: Examination) -> None:
    """Draw each broken rule: what it is, how often, and the button that mends all of the kind."""
    patch = edits.load(request.edits)
    kinds = {one.rule: one for one in reversed(seen.findings)}

    def weight(rule: str) -> tuple[bool, bool, int]:
        """Order rules: the gravest first, then those that can be mended, then the commonest."""
        one = kinds.get(rule)
        return bool(one and one.severity != "error"), not (one and one.fix), -seen.rules[rule]

    order = sorted(seen.rules, key=weight)
    with st.container(gap="xsmall", key="rules"):
        for rule in order:
            one = kinds.get(rule)
            severity = one.severity if one else "error"
            fix = one.fix if one and one.fix not in patch.fixes else ""
            with st.container(horizontal=True, vertical_alignment="center", key=f"rule_{rule}"):
                if one is None and any(rule in fixes.FIXES[name].rules for name in patch.fixes):
                    severity = "removed"
                badge = f":{SEVERITY.get(severity, 'gray')}-badge[{t(f'mend.{severity}')}]"
                told = t("mend.rule", n=seen.rules[rule], rule=parts.literal(brief(rule)))
                st.markdown(f"{badge} {told}", width="stretch")
                if fix and st.button(
                    t(f"fix.{fix}"),
                    icon=":material/build:",
                    help=t(f"fix_told.{fix}"),
                    type="tertiary",
                    key=f"fix_all_{rule}",
                ):
                    _change(me, request, {"fix": fix})


def said(rule: str) -> str:
    """Return what a rule, or a reason why a row is not used, is called in the visitor's language."""
    tables = ("reason", "check") if rule == "bad_role" else ("check", "reason")
    for key in (f"{name}.{rule}" for name in tables):
        if words.has(key):
            sentence = t(key)
            return sentence[:1].upper() + sentence[1:]
    return rule


def brief(rule: str) -> str:
    """Return the first sentence of `said`: what is wrong, without what to do."""
    return re.split(r"(?<=[.!?])\s|(?<=[\u3002\uff01\uff1f])", said(rule), maxsplit=1)[0]


def place(field: str) -> str:
    """Return where in a row something is: a column as it is called, or which turn of the conversation."""
    turn = re.match(r"messages\[(\d+)\]", field)
    return t("mend.turn", number=int(turn[1]) + 1) if turn else "" if field == "messages" else field


def bad_rows(me: State, request: Request, seen: Examination, keep: Path) -> None:
    """Draw the table of the rows with something wrong, and the one that is chosen in it, to be mended."""
    if not seen.findings:
        _at_hand(me, request, keep, [])
        return
    kinds = list(dict.fromkeys(one.rule for one in seen.findings))
    if len(kinds) > 1:
        ways = ["", *kinds]
        me.rule = st.selectbox(
            t("mend.show"),
            ways,
            index=ways.index(parts.among(me.rule, ways)),
            format_func=lambda rule: parts.short(brief(rule)) if rule else t("mend.every_rule"),
            key=f"rule_{me.dataset}_{len(kinds)}",
        )
    found = [one for one in seen.findings if me.rule in ("", one.rule)] or seen.findings
    pages = -(-len(found) // ROWS)
    spot = st.container()
    page = st.pagination(pages, key=f"findings_{me.dataset}_{me.rule}_{pages}") if pages > 1 else 1
    shown = found[(page - 1) * ROWS : page * ROWS]
    table = pd.DataFrame([_told(one) for one in shown])
    if len(request.files) == 1:
        table = table.drop(columns=t("mend.file"))
    with spot:
        event = st.dataframe(
            table,
            hide_index=True,
            on_select="rerun",
            selection_mode="single-row",
            height=36 * (min(len(shown), 8) + 1),
            column_config={t("check.rule"): st.column_config.TextColumn(width=330)},
            key=f"findings_table_{me.dataset}_{me.rule}_{page}_{me.edit_round}",
        )
        st.caption(t("mend.select_hint"))
    if sum(seen.rules.values()) > len(seen.findings):
        st.caption(t("mend.first_only", n=len(seen.findings)))
    picked = event.selection.rows
    if picked and picked[0] < len(shown):
        me.mending = [shown[picked[0]].file, str(shown[picked[0]].row)]
    _at_hand(me, request, keep, found)


def history(me: State, request: Request) -> None:
    """Draw what was changed so far, and the button that takes the last change back."""
    patch = edits.load(request.edits)
    if not patch.lines:
        return
    assert request.edits
    with st.expander(t("mend.history", n=len(patch.lines)), icon=":material/history:", key="history"):
        rows = [
            {
                t("mend.change"): _did(edit),
                t("mend.file"): edit.get("file", t("mend.everywhere")),
                t("mend.row"): f"{edit['row']:,}" if "row" in edit else "",
            }
            for edit in reversed(patch.lines)
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True, key=f"changes_{len(rows)}")
        st.caption(t("mend.history_help", file=parts.literal(str(request.edits))))
    if st.button(t("mend.undo"), icon=":material/undo:", type="tertiary", key="undo"):
        patch.undo()
        me.edit_round += 1
        st.rerun()


def odd_rows(me: State, path: Path, keep: Path) -> list[Any]:
    """Return the values of some rows of a file whose speakers nobody knew at the last examination."""
    if me.seen is None or not table.ready(path, keep):
        return []
    name = edits.names([Path(name) for name in me.files])[path]
    numbers = [one.row for one in me.seen.findings if one.rule == "bad_role" and one.file == name]
    pieces = records.rows(path, sorted(set(numbers))[:LOOKED_AT], keep) if numbers else []
    return [piece.value for piece in pieces if isinstance(piece, Record)]


def bad(request: Request, path: Path, seen: Examination | None) -> list[int] | None:
    """Return the numbers of a file's rows that will be set aside, None while that is not known."""
    if seen is None:
        return None
    name = edits.names(request.files)[path]
    return sorted({one.row for one in seen.findings if one.severity == "error" and one.file == name})


def preview(request: Request, path: Path, piece: Piece) -> None:
    """Draw what a row becomes, or why it will be set aside."""
    outcome = _outcome(request, path, piece)
    if outcome.why:
        parts.sorry(_why(outcome))
    if outcome.conversation:
        parts.bubbles(outcome.conversation)
    for one in outcome.found:
        st.caption(
            parts.literal(t("mend.still", rule=said(one.rule), field=place(one.field) or t("mend.row")))
        )
    if outcome.mended:
        st.caption(t("mend.mended", fixes=t("look.comma").join(t(f"fix.{name}") for name in outcome.mended)))


def _outcome(request: Request, path: Path, piece: Piece) -> Outcome:
    return sift.outcome(convert.plan(request, None), edits.names(request.files)[path], piece)


def _why(outcome: Outcome) -> str:
    """Say why a row is no conversation."""
    if outcome.why == "refused" and outcome.error:
        return explain(outcome.error)
    return t("convert.broken") if outcome.why == "broken" else t(f"mend.{outcome.why}")


def _told(finding: Finding) -> dict[str, str | int | None]:
    """Return a finding as a row of the table."""
    return {
        t("mend.file"): parts.short(finding.file, 40),
        t("mend.row"): finding.row,
        t("mend.line"): f"{finding.line:,}" if finding.line else "",
        t("mend.severity"): t(f"mend.{finding.severity}"),
        t("check.rule"): brief(finding.rule),
        t("check.field"): place(finding.field),
        t("check.value"): "null" if finding.value == "None" else finding.value[:160],
    }


def _at_hand(me: State, request: Request, keep: Path, found: Sequence[Finding]) -> None:
    """Draw the row that is being mended: its words to change, and what becomes of it."""
    names = {name: path for path, name in edits.names(request.files).items()}
    if len(me.mending) != 2 or me.mending[0] not in names or not me.mending[1].isdecimal():
        return
    name, number = me.mending[0], int(me.mending[1])
    pieces = records.rows(names[name], [number], keep)
    if not pieces:
        return
    piece, path = pieces[0], names[name]
    outcome = _outcome(request, path, piece)
    patch = edits.load(request.edits)
    st.space("small")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{t('mend.at_hand', row=number, file=parts.plain(name))}**", width="content")
        gone = outcome.edited and outcome.conversation is None
        state = "is_out" if gone else "is_good" if outcome.good else "is_bad"
        st.badge(t(f"mend.{state}"), color=STATE[state])
    if gone:
        st.caption(_why(outcome))
    else:
        left, right = st.columns(2, gap="medium")
        with left:
            _editor(me, request, name, piece)
        with right:
            st.caption(t("mend.becomes"))
            preview(request, path, piece)
    with st.container(horizontal=True):
        mine = [one.fix for one in found if (one.file, one.row) == (name, number) and _alone(one.fix)]
        for fix in dict.fromkeys(mine):
            if fix not in patch.fixes and st.button(
                t("mend.fix_row", fix=t(f"fix.{fix}")), icon=":material/build:", key=f"fix_row_{fix}"
            ):
                _change(me, request, {"fix": fix}, name, piece)
        if not gone and st.button(t("mend.leave_out"), icon=":material/block:", key="leave_out"):
            _change(me, request, {"drop": True}, name, piece)
        others = [one for one in found if one.severity == "error" and (one.file, one.row) != (name, number)]
        after = [one for one in others if (one.file, one.row) > (name, number)] or others
        if after and st.button(t("mend.next"), icon=":material/skip_next:", type="tertiary", key="next_bad"):
            me.mending = [after[0].file, str(after[0].row)]
            st.rerun()


def _editor(me: State, request: Request, name: str, piece: Piece) -> None:
    """Draw the words of a row to be changed; what is saved is one more edit."""
    patch, these = edits.load(request.edits), f"{name}_{piece.number}_{me.edit_round}"
    try:
        now = patch.apply(piece, name) or piece
    except AppError as error:
        parts.sorry(explain(error))
        return
    if isinstance(now, Broken):
        _anew(me, request, name, piece, now, these)
        return
    leaves = _leaves(now.value, request.mapping)
    short = [(where, text) for where, text in leaves if len(text) <= parts.LONG]
    if not short:
        st.caption(t("mend.nothing_to_edit"))
    else:
        with st.form(f"edit_{these}", border=False):
            if len(short) <= FIELDS:
                typed = {
                    where: st.text_area(
                        parts.plain(where), text, height="content", key=f"leaf_{place}_{these}"
                    )
                    or ""
                    for place, (where, text) in enumerate(short)
                }
            else:
                table = pd.DataFrame(short, columns=[t("mend.field"), t("mend.text")])
                new = st.data_editor(
                    table, hide_index=True, disabled=[t("mend.field")], key=f"leaves_{these}"
                )
                typed = dict(zip(dict(short), new[t("mend.text")].fillna(""), strict=True))
            saved = st.form_submit_button(t("mend.save"), icon=":material/save:", key=f"save_{these}")
        if saved:
            # a browser sends line ends as it likes: what was not touched is no change
            changed = {
                where: typed[where]
                for where, text in short
                if typed[where].replace("\r\n", "\n") != text.replace("\r\n", "\n")
            }
            if changed:
                _change(me, request, {"set": changed}, name, piece)
            st.caption(t("mend.unchanged"))
    if len(short) < len(leaves):
        st.caption(t("mend.too_long", n=len(leaves) - len(short), most=parts.LONG))


def _leaves(value: Any, mapping: formats.Mapping) -> list[tuple[str, str]]:
    """Return the texts of a row with their paths; of question and answer also where they are missing."""
    found = edits.leaves(value)
    if isinstance(value, dict):
        found += [
            (edits.path_of((name,)), "")
            for role, name in mapping.fields.items()
            if role in ("user", "assistant") and value.get(name) is None
        ]
    return found


def _anew(me: State, request: Request, name: str, piece: Piece, now: Broken, these: str) -> None:
    """Draw a row that cannot be read, to be written anew: its columns as far as they can be made out."""
    columns = [column for role, column in request.mapping.fields.items() if role not in ("history", "tools")]
    listed = "messages" in request.mapping.fields
    st.caption(t("mend.anew_json" if listed else "mend.anew"))
    st.code(now.raw, language=None, wrap_lines=True)
    with st.form(f"edit_{these}", border=False):
        if listed:
            raw = st.text_area(t("mend.text"), now.raw, height=220, key=f"raw_{these}") or ""
        else:
            typed = {
                column: st.text_area(
                    parts.plain(column),
                    _made_out(now.raw, column),
                    height="content",
                    key=f"leaf_{place}_{these}",
                )
                or ""
                for place, column in enumerate(columns)
            }
        saved = st.form_submit_button(t("mend.save"), icon=":material/save:", key=f"save_{these}")
    if saved:
        try:
            record = json.loads(raw) if listed else typed
        except ValueError as error:
            parts.sorry(t("mend.not_json", why=str(error)))
            return
        _change(me, request, {"record": record}, name, piece)


def _made_out(raw: str, column: str) -> str:
    """Return the text of a column in a broken row, "" where it cannot be made out."""
    found = re.search(rf'{re.escape(json.dumps(column, ensure_ascii=False))}\s*:\s*("(?:[^"\\]|\\.)*")', raw)
    try:
        return str(json.loads(found[1])) if found else ""
    except ValueError:
        return ""


def _change(
    me: State, request: Request, change: dict[str, Any], name: str = "", piece: Piece | None = None
) -> None:
    """Add one change to the patch file, for all rows or for one, and draw the page anew."""
    patch = edits.load(request.edits)
    if piece:
        now = patch.apply(piece, name) or piece
        change = {"file": name, "row": piece.number, "was": edits.fingerprint(now)} | change
    patch.add(change)
    me.edit_round += 1
    st.rerun()


def _alone(fix: str) -> bool:
    """Return whether a fix can be made to one row alone."""
    return fix in fixes.FIXES and fixes.FIXES[fix].scope == "conversation"


def _did(edit: edits.Edit) -> str:
    """Return what an edit did, in a few words."""
    if "fix" in edit:
        return t("mend.did_fix", fix=t(f"fix.{edit['fix']}"))
    return next(t(f"mend.did_{kind}") for kind in ("drop", "record", "set") if kind in edit)
