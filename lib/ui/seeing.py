"""The fold-out that shows one row as the model reads it, with the learned words in colour."""

from __future__ import annotations

from html import escape
from pathlib import Path

import streamlit as st

from lib import backends, seen
from lib.backends import Model
from lib.params import PARAMS, Settings
from lib.trainer.data import Seen
from lib.ui import parts
from lib.ui.words import t

WRAPPED = "<pre style='white-space:pre-wrap;overflow-wrap:anywhere'>{}</pre>"


def row(data: Path, model: Model, settings: Settings, rows: int) -> None:
    """Draw the fold-out for a conversion's training rows; nothing is loaded before the visitor asks."""
    with st.expander(t("settings.sees_title"), icon=":material/visibility:", key="sees"), parts.calm():
        st.caption(t("settings.sees"))
        folder = backends.local.folder(model)
        if folder is None:
            st.caption(t("settings.sees_later"))
            return
        with st.container(horizontal=True, vertical_alignment="bottom"):
            number = st.number_input(t("settings.sees_row"), 1, max(1, rows), key="sees_row")
            shown = st.toggle(t("settings.sees_show"), key="sees_show")
        if shown:
            with st.spinner(t("settings.sees_busy")):
                leave_out = PARAMS["too_long"].show(settings.get("too_long", 0)) == "leave_out"
                length = int(settings["max_length"])
                found, own = seen.look(folder, data / "train.jsonl", int(number), length, leave_out=leave_out)
            _draw(found, own_template=own)


def _draw(found: Seen, *, own_template: bool) -> None:
    if not own_template:
        st.caption(t("settings.sees_plain"))
    # the text is the visitor's data: all of it is escaped, and only the marks are ours
    marked = (f"<mark>{escape(text)}</mark>" if learned else escape(text) for text, learned in found.pieces)
    if found.pieces:
        st.html(WRAPPED.format("".join(marked)))
        st.caption(t("settings.sees_counts", tokens=found.tokens, learned=found.learned))
    if found.pieces and not found.learned:
        st.markdown(t("settings.sees_nothing"))
    if found.lost:
        st.markdown(t("settings.sees_lost") if found.pieces else t("settings.sees_left_out"))
        st.html(WRAPPED.format(escape(found.lost[: parts.LONG])))
