"""All jobs: what runs, what waits, live curves of the one that is chosen, several over each other."""

import streamlit as st

from lib import jobs
from lib.ui import live, nav, parts, smaller
from lib.ui import runs as listed
from lib.ui.state import state
from lib.ui.words import t

parts.heading("jobs")
me = state()

runs = jobs.listing("train")
if not runs:
    parts.empty("model_training", t("jobs.none_title"), t("jobs.none"), t("settings.step"), to="settings")
    st.stop()

if me.job not in {job.id for job in runs}:
    me.job = runs[0].id

left, right = st.columns([1, 2], gap="medium")
with left, st.container(border=True):
    parts.card_title(t("jobs.list_title"))
    listed.choose(me, runs)
job = jobs.get(me.job)
with right:
    with parts.calm():
        live.training(me, job)
        smaller.offer(me, job)
    listed.order(job)
    listed.manage(me, job)

if len(runs) > 1:
    listed.compare(me, runs)

nav.onward("jobs", ready=job.state == "done")
