"""The list of training runs: choose, search, order, name, note, export, delete, and compare them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from lib import contrast, joblist, jobs, takehome
from lib.ui import charts, live, nav, parts, place
from lib.ui.ledger import DOWNLOAD_LIMIT
from lib.ui.state import State
from lib.ui.words import t


def choose(me: State, runs: Sequence[jobs.Job]) -> None:
    """Draw the search and the runs it finds; the chosen one is `me.job`, also while the search hides it."""
    me.run_sought = st.text_input(
        t("jobs.search"), me.run_sought, icon=":material/search:", key="run_sought"
    ).strip()
    found = jobs.listing("train", me.run_sought) if me.run_sought else list(runs)
    if not found:
        st.caption(t("jobs.none_found"))
        return
    ids = [job.id for job in found]
    # numbered among all, so that a name means the same run whatever is searched for
    names = parts.labels({job.id: job.name for job in reversed(runs)}, parts.plain)
    chosen = st.radio(
        t("jobs.list_title"),
        ids,
        index=ids.index(me.job) if me.job in ids else None,
        format_func=names.__getitem__,
        captions=[live.caption(job) for job in found],
        label_visibility="collapsed",
        key=f"job_{len(runs)}",  # a run that came while the page was open may be the chosen one
    )
    me.job = chosen or me.job
    _follow(runs)


def _follow(runs: Sequence[jobs.Job]) -> None:
    """Run the page anew when any of the runs comes into another state, or there are others."""
    shown = _told(runs)
    active = any(job.state in live.ACTIVE and not job.by_hand for job in runs)

    @st.fragment(run_every=2.0 if active else None, key="follow")
    def look() -> None:
        if _told(jobs.listing("train")) != shown:
            st.rerun()

    look()


def _told(runs: Sequence[jobs.Job]) -> list[tuple[str, str]]:
    """Return what is shown of each run; evaluating is part of training, it comes and goes too often."""
    return [(job.id, joblist.standing(job).state.replace("evaluating", "training")) for job in runs]


def order(job: jobs.Job) -> None:
    """Draw a waiting run's place in the queue, and the buttons that change it."""
    waiting = joblist.queue(job) if job.state == "queued" and job.backend == "local" else []
    if job.id not in waiting:
        return
    at = waiting.index(job.id)
    buttons: tuple[tuple[joblist.Where, str, bool], ...] = (
        ("first", "vertical_align_top", at > 0),
        ("up", "arrow_upward", at > 0),
        ("down", "arrow_downward", at + 1 < len(waiting)),
    )
    st.caption(t("jobs.place", place=at + 1, of=len(waiting)))
    with st.container(horizontal=True):
        for where, icon, possible in buttons:
            pressed = st.button(
                t(f"jobs.{where}"),
                icon=f":material/{icon}:",
                disabled=not possible,
                key=f"{where}_{job.id}",
            )
            if pressed:
                with parts.calm():
                    joblist.move(job.id, where)
                st.rerun()


def manage(me: State, job: jobs.Job) -> None:
    """Draw what can be done with a run beside watching it: again, name, note, export, delete."""
    if st.button(t("jobs.again"), icon=":material/replay:", help=t("jobs.again_help"), key=f"again_{job.id}"):
        with parts.calm():
            place.again(me, job)
            nav.go("settings")
    with st.expander(t("jobs.manage"), icon=":material/edit_note:", key="manage"):
        with parts.calm():
            name = st.text_input(t("jobs.name"), job.name, key=f"name_{job.id}")
            if name.strip() != job.name:
                joblist.rename(job.id, name)
                st.rerun()
        note = st.text_area(t("jobs.note"), job.note, help=t("jobs.note_help"), key=f"note_{job.id}")
        if note.strip() != job.note:
            joblist.annotate(job.id, note)
            st.rerun()
        with parts.calm(), st.container(horizontal=True):
            _export(job)
            _delete(me, job)


def compare(me: State, runs: Sequence[jobs.Job]) -> None:
    """Draw the choice of runs to compare; of those chosen, their differences, figures and curves."""
    names = parts.labels({job.id: job.name for job in reversed(runs)})
    known = [one for one in me.compared if one in names]
    with st.container(border=True):
        parts.card_title(t("contrast.title"), t("contrast.lead"))
        me.compared = st.multiselect(
            t("contrast.pick"),
            [job.id for job in runs],
            known,
            format_func=names.__getitem__,
            max_selections=contrast.MOST,
            placeholder=t("contrast.placeholder"),
            key="compared",
        )
        if len(me.compared) < 2:
            return
        with parts.calm():
            chosen = [job for job in runs if job.id in me.compared]
            _contrast(me, contrast.runs(chosen, live.curves_of), names)


def _contrast(me: State, some: list[contrast.Run], names: dict[str, str]) -> None:
    st.markdown(
        "\n".join(f"- {contrast.say(me.lang, one, parts.literal)}" for one in contrast.differences(some))
    )
    verdict = contrast.best(some)
    with parts.above_table():
        st.markdown(t(f"contrast.best.{verdict.why}", **verdict.facts))
        if verdict.passed:
            st.caption(t("contrast.passed", **verdict.facts))
    figures = [contrast.figures(run) for run in some]
    table = {
        t("contrast.run"): [
            f"{told.letter} ★" if told.letter == verdict.letter else told.letter for told in figures
        ],
        t("contrast.name"): [names[run.job.id] for run in some],
        t("contrast.steps"): [told.steps for told in figures],
        t("contrast.before"): [told.first for told in figures],
        t("contrast.at_best"): [told.best for told in figures],
        t("contrast.kept"): [told.kept for told in figures],
        t("contrast.training"): [told.training for told in figures],
        t("contrast.speed"): [told.tokens_per_second for told in figures],
        t("contrast.took"): [
            None if told.seconds is None else t("jobs.took_time", seconds=told.seconds) for told in figures
        ],
    }
    losses = [t(f"contrast.{name}") for name in ("before", "at_best", "kept", "training")]
    st.dataframe(
        pd.DataFrame(table),
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(format="%.3f") for name in losses},
        key="contrast",
    )
    curves = {run.letter: run.curves for run in some}
    left, right = st.columns(2)
    with left:
        st.caption(t("contrast.validation_curves"))
        charts.overlay(curves, "eval_loss", "overlay_validation", log=me.log_scale)
    with right:
        st.caption(t("contrast.training_curves"))
        charts.overlay(curves, "loss", "overlay_training", log=me.log_scale, calm=True)


def _export(job: jobs.Job) -> None:
    path = joblist.exported(job)
    if st.button(
        t("jobs.pack"), icon=":material/folder_zip:", help=t("jobs.pack_help"), key=f"pack_{job.id}"
    ):
        joblist.export(job, path)
    if not path.is_file():
        return
    size = path.stat().st_size
    if size > DOWNLOAD_LIMIT:
        st.caption(t("jobs.packed_large", size=size, path=parts.literal(str(path))))
        return
    st.download_button(
        t("jobs.fetch", size=size),
        data=path.read_bytes,
        file_name=path.name,
        mime="application/zip",
        on_click="ignore",
        icon=":material/download:",
        key=f"fetch_{job.id}",
    )


def _delete(me: State, job: jobs.Job) -> None:
    if job.state == "running" and not job.by_hand:
        return
    with st.popover(t("jobs.delete"), icon=":material/delete:", key=f"delete_{job.id}"):
        st.markdown(t("jobs.delete_sure", size=jobs.weight(job)))
        home = takehome.folder(job)
        if home.is_dir():
            st.caption(t("jobs.delete_keeps", path=parts.literal(str(home))))
        if st.button(t("jobs.delete_now"), type="primary", key=f"delete_now_{job.id}"):
            freed = jobs.delete(job.id)
            me.job = ""
            st.toast(t("jobs.deleted", size=freed), icon=":material/delete:")
            st.rerun()
