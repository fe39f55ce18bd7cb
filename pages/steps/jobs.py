"""All jobs: what runs, what waits, live curves of the one that is chosen."""

import streamlit as st

from lib import jobs
from lib.ui import live, nav, parts
from lib.ui.state import state
from lib.ui.words import t

parts.heading("jobs")
me = state()

runs = jobs.listing("train")
if not runs:
    parts.empty("model_training", t("jobs.none_title"), t("jobs.none"), t("settings.step"), to="settings")
    st.stop()

ids = [job.id for job in runs]
names = parts.labels({job.id: job.name for job in reversed(runs)}, parts.plain)
if me.job not in ids:
    me.job = ids[0]

left, right = st.columns([1, 2], gap="medium")
with left, st.container(border=True):
    parts.card_title(t("jobs.list_title"))
    me.job = (
        st.radio(
            t("jobs.list_title"),
            ids,
            index=ids.index(me.job),
            format_func=names.__getitem__,
            captions=[live.caption(job) for job in runs],
            label_visibility="collapsed",
            key="job",
        )
        or ids[0]
    )
with right, parts.calm():
    live.training(jobs.get(me.job))

nav.onward("jobs", ready=jobs.get(me.job).state == "done")
