"""Judge what came out: talk to the models side by side, score them, take the tuned one home."""

import streamlit as st

from lib import jobs, script
from lib.ui import live, nav, pair, parts, scores, takehome
from lib.ui.state import state
from lib.ui.words import t

parts.heading("compare")
me = state()

runs = {job.id: job for job in jobs.listing("train") if pair.ready(job)}
if not runs:
    parts.empty("forum", t("compare.none_title"), t("compare.none"), t("jobs.step"), to="jobs")
    st.stop()

names = parts.labels({job.id: f"{job.name} · {live.caption(job)}" for job in reversed(runs.values())})
with st.container(border=True):
    job, other = pair.chosen(me, runs, names)
    if job.folder.asked()["model"]["kind"] == "practice":
        st.caption(t("compare.practice"))

views = ("talk", "scores", "takehome") if job.backend == "local" else ("talk",)
me.judging = st.segmented_control(
    t("compare.view"),
    views,
    default=parts.among(me.judging, views),
    required=True,
    format_func=lambda view: t(f"compare.view_{view}"),
    label_visibility="collapsed",
    key=f"judging_{job.backend}",
)

with parts.calm():
    if me.judging == "scores":
        scores.panel([one for one in (job, other) if one and one.backend == "local"], names)
        parts.command(script.score(job))
    elif me.judging == "takehome":
        takehome.panel(me, job)
        parts.command(script.export(job))
    else:
        voices = pair.voices(me, job, other, names)
        pair.sampling(me, job, other)
        me.blind = st.toggle(t("compare.blind"), me.blind, help=t("compare.blind_help"), key="blind")
        rows = pair.offered(job, other)
        typed = st.chat_input(t("compare.ask"), key="ask")
        if voices:
            pair.add(me, voices, rows, typed)
            pair.answers(me, voices)
            pair.tally(voices)
        parts.command(script.chat(job, rows[0].question if rows else t("compare.example")))

nav.onward("compare")
