"""Talk to the model before and after tuning, side by side."""

import streamlit as st

from lib import jobs, script
from lib.ui import live, nav, pair, parts
from lib.ui.state import state
from lib.ui.words import t

parts.heading("compare")
me = state()

runs = {job.id: job for job in jobs.listing("train") if pair.ready(job)}
if not runs:
    parts.empty("forum", t("compare.none_title"), t("compare.none"), t("jobs.step"), to="jobs")
    st.stop()

ids = list(runs)
names = parts.labels({job.id: f"{job.name} · {live.caption(job)}" for job in reversed(runs.values())})
with st.container(border=True):
    me.job = st.selectbox(
        t("compare.job"),
        ids,
        index=ids.index(me.job) if me.job in ids else 0,
        format_func=names.__getitem__,
        key="compare_job",
    )
    job = runs[me.job]
    voices = pair.voices(job, me)
    if job.folder.asked()["model"]["kind"] == "practice":
        st.caption(t("compare.practice"))
    left, right = st.columns(2)
    with left:
        me.temperature = st.slider(
            t("compare.temperature"),
            0.0,
            1.5,
            me.temperature,
            0.1,
            help=t("compare.temperature_help"),
            key="temp",
        )
    with right:
        me.memory = st.toggle(t("compare.memory"), me.memory, help=t("compare.memory_help"), key="memory")

with parts.calm():
    question = pair.offered(job)
    typed = st.chat_input(t("compare.ask"), key="ask")
    pair.answers(job, voices, me, typed or question)

parts.command(script.chat(job, question or t("compare.example")))
nav.onward("compare")
