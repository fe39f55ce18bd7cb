"""Get a dataset: the bundled sample, the Hugging Face Hub, an upload, a path on this computer."""

import streamlit as st

from lib import datasets
from lib.ui import fetch, nav, parts, visit
from lib.ui.state import state
from lib.ui.words import t

parts.heading("data")
me = state()

SOURCES = ("sample", "hub", "upload", "path")
me.source = (
    st.segmented_control(
        t("data.source"),
        SOURCES,
        default=parts.among(me.source, SOURCES),
        required=True,
        format_func=lambda source: t(f"data.from_{source}"),
        key=f"source_{me.sources}",
    )
    or "sample"
)

with st.container(border=True), parts.calm():
    if me.source == "sample":
        parts.card_title(t("data.sample_title"), t("data.sample"))
        if st.button(t("data.sample_use"), key="use_sample", icon=":material/local_cafe:"):
            parts.choose_dataset(datasets.sample())

    elif me.source == "hub":
        parts.card_title(t("data.hub_title"), t("data.hub"))
        fetch.repository(me)

    elif me.source == "upload":
        parts.card_title(t("data.upload_title"), t("data.upload", most=datasets.UPLOAD_LIMIT))
        uploads = st.file_uploader(
            t("data.upload_label"),
            max_upload_size=datasets.UPLOAD_LIMIT // 1_000_000,
            accept_multiple_files=True,
            key="upload",
        )
        these = ",".join(upload.file_id for upload in uploads)
        if uploads and these != me.uploaded:
            me.uploaded = these
            parts.choose_dataset(datasets.from_uploads([(upload.name, upload) for upload in uploads]))

    else:
        parts.card_title(t("data.path_title"), t("data.path"))
        me.path_text = st.text_input(
            t("data.path_label"), me.path_text, placeholder="~/Downloads/data.json", key="path_text"
        )
        if st.button(t("data.path_use"), disabled=not me.path_text.strip(), key="use_path"):
            parts.choose_dataset(datasets.from_path(me.path_text))

kept = datasets.listing()
if kept:
    with st.container(border=True):
        parts.card_title(t("data.kept_title"), t("data.kept"))
        ids = [dataset.id for dataset in kept]
        names = parts.labels({dataset.id: dataset.name for dataset in reversed(kept)}, parts.plain)
        pick = st.radio(
            t("data.kept_title"),
            ids,
            index=ids.index(me.dataset) if me.dataset in ids else None,
            format_func=names.__getitem__,
            captions=[parts.dataset_caption(dataset) for dataset in kept],
            label_visibility="collapsed",
            key=f"kept_{me.dataset}",  # another dataset, another widget: it takes its value from State
        )
        if pick and pick != me.dataset:
            parts.choose_dataset(datasets.get(pick))

chosen = visit.dataset(me)
if chosen:
    st.markdown(t("data.chosen", name=parts.plain(chosen.name), icon=":green[:material/check_circle:]"))
nav.onward("data", ready=chosen is not None)
