"""All jobs: what runs, what waits, live curves of the one that is chosen, several over each other."""

import streamlit as st

from lib import jobs
from lib.ui import live, nav, parts, runs
from lib.ui.state import state
from lib.ui.words import t

parts.heading("jobs")
me = state()

all_runs = jobs.listing("train")
if not all_runs:
    parts.empty("model_training", t("jobs.none_title"), t("jobs.none"), t("settings.step"), to="settings")
    st.stop()

if me.job not in {job.id for job in all_runs}:
    me.job = all_runs[0].id

left, right = st.columns([1, 2], gap="medium")
with left, st.container(border=True):
    parts.card_title(t("jobs.list_title"))
    runs.choose(me, all_runs)
job = jobs.get(me.job)
with right:
    with parts.calm():
        live.training(me, job)
    runs.order(job)
    runs.manage(me, job)

if len(all_runs) > 1:
    runs.compare(me, all_runs)

nav.onward("jobs", ready=job.state == "done")
