"""Look at the records, say which field is which, and write the two files training needs."""

import streamlit as st

from lib import conversions, convert, datasets, script
from lib.ui import live, nav, parts, table, visit
from lib.ui.state import state
from lib.ui.words import t

parts.heading("convert")
me = state()

dataset = visit.dataset(me)
if dataset is None:
    parts.empty("table_view", t("convert.none_title"), t("convert.none"), t("data.step"), to="data")
    st.stop()

with parts.calm():
    files = table.choose_files(me, datasets.files(dataset))
    page = table.records(me)
    record = table.chosen(me, page)

    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True, height="stretch"):
        parts.card_title(t("convert.row_title", row=record.number), t("convert.row"))
        table.in_full(record)
    with right, st.container(border=True, height="stretch"):
        parts.card_title(t("convert.bubbles_title"), t("convert.bubbles"))
        bubbles = st.container()

    with st.container(border=True):
        parts.card_title(t("convert.map_title"), t("convert.map"))
        mapping = table.mapping(me, page)
    with bubbles:
        table.preview(record, mapping)

    with st.container(border=True):
        parts.card_title(t("convert.split_title"), t("convert.split"))
        percent = st.slider(
            t("convert.validation"), 0, 30, round(me.validation * 100), 5, format="%d %%", key="validation"
        )
        me.validation = percent / 100
        st.markdown(table.split_sentence(me))

    written = conversions.manifest(me.conversion) is not None
    request = convert.Request(
        files=tuple(files),
        out=conversions.folder("my-data"),
        mapping=mapping,
        validation=me.validation,
        seed=me.split_seed,
        target=me.target,
    )
    if st.button(
        t("convert.write"),
        type="secondary" if written else "primary",  # one primary button at a time
        icon=":material/edit_note:",
        key="write",
    ):
        me.converting = conversions.start(request, dataset.name).id
    live.conversion(me)
    parts.command(script.convert(request))

nav.onward("convert", ready=conversions.manifest(me.conversion) is not None)
