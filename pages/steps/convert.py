"""Look at the records, say which field is which, mend what is bad, and write the files training needs."""

from pathlib import Path

import streamlit as st

from lib import conversions, convert, datasets, records, script
from lib.ui import files, ledger, live, look, mapping, mend, nav, parts, table, visit
from lib.ui.state import state
from lib.ui.words import t

parts.heading("convert")
me = state()

dataset = visit.dataset(me)
if dataset is None:
    parts.empty("table_view", t("convert.none_title"), t("convert.none"), t("data.step"), to="data")
    st.stop()

with parts.calm():
    keep, patch = datasets.keep_folder(dataset), datasets.edits_file(dataset)
    chosen = files.choose(me, dataset)
    path = Path(me.shown_file)
    first = table.head(path)

    # drawn in the reader's order, filled in the order in which one part needs the other
    reading, rows, detail, inside = (st.container() for _ in range(4))
    with reading:
        profile = live.survey(me, path, keep)

    with st.container(border=True):
        parts.card_title(t("convert.map_title"), t("convert.map"))
        fields = mapping.draw(me, first, mend.odd_rows(me, path, keep))
        complete = mapping.complete(fields)

    seen = None
    with st.container(border=True), parts.calm():
        parts.card_title(t("mend.title"), t("mend.what"))
        target = mend.target(me)
        request = convert.Request(
            tuple(chosen), conversions.folder("my-data"), fields, target=target, edits=patch
        )
        if complete:
            seen = live.examination(me, request, keep)
        if seen:
            mend.summary(seen)
            mend.rules(me, request, seen)
            mend.bad_rows(me, request, seen, keep)
        mend.history(me, request)

    with rows:
        record = table.rows(
            me, table.Shown(path, keep, table.ready(path, keep), profile, mend.bad(request, path, seen))
        )
    if record:
        with detail:
            left, right = st.columns(2, gap="medium")
        with left, st.container(border=True, height="stretch"):
            parts.card_title(t("convert.row_title", row=record.number), t("convert.row"))
            table.in_full(record)
        with right, st.container(border=True, height="stretch"):
            parts.card_title(t("convert.bubbles_title"), t("convert.bubbles"))
            if complete:
                mend.preview(request, path, record)
            else:
                st.caption(t("convert.choose_first"))
    with inside:
        look.inside(me, profile, seen.tokens if seen else None)

    if complete:
        with st.container(border=True):
            parts.card_title(t("convert.split_title"), t("convert.split"))
            request = ledger.choices(me, request, records.columns(first), seen)
        written = conversions.manifest(me.conversion) is not None
        if st.button(
            t("convert.write"),
            type="secondary" if written else "primary",  # one primary button at a time
            icon=":material/edit_note:",
            key="write",
        ):
            me.converting = conversions.start(request, dataset.name).id
        live.conversion(me)
        parts.command(script.convert(request), *ledger.program(me, request))

nav.onward("convert", ready=conversions.manifest(me.conversion) is not None)
