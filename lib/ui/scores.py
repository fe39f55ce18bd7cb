"""Scores on the whole validation set: how far the job is, what it found, the best and the worst answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from lib import jobs, judge
from lib.errors import AppError
from lib.ui import parts
from lib.ui.words import explain, t

ACTIVE = ("queued", "running")


def panel(runs: Sequence[jobs.Job], names: Mapping[str, str]) -> None:
    """Draw the scores of one or two training jobs, side by side in one table."""
    moving = [one for one in map(judge.current, runs) if one and one.state in ACTIVE]

    @st.fragment(run_every=1.0 if moving else None, key="scores")
    def part() -> None:
        with st.container(border=True):
            parts.card_title(t("scores.title"), t("scores.what"))
            found = {job.id: judge.scores(job.folder) for job in runs}
            for job in runs:
                _job(job, names, done=found[job.id] is not None)
            if moving and not any(one.state in ACTIVE for one in map(judge.current, runs) if one):
                st.rerun()  # the table and the timer follow
            scored = {job_id: one for job_id, one in found.items() if one}
            if scored:
                _table(scored, names)
                st.caption(t("scores.how"))
        for job in runs:
            one = found[job.id]
            if one:
                _examples(job, one, names, alone=len(runs) == 1)

    part()


def _job(job: jobs.Job, names: Mapping[str, str], *, done: bool) -> None:
    """Draw how the scoring of a job stands, and the button that starts it, goes on or stops it."""
    now = judge.current(job)
    if now and now.state in ACTIVE:
        status = now.folder.status()
        count, total = status.get("done", 0), status.get("total") or 0
        said = t("scores.answering", done=count, total=total) if total else t("scores.loading")
        if now.state == "queued":
            said = t("scores.waits")
        elif status.get("seconds_left"):
            said += " " + t("scores.left", seconds=status["seconds_left"])
        st.progress(min(1.0, count / total) if total else 0.0, f"{parts.literal(names[job.id])}: {said}")
        parts.stop(now.id)
        return
    if now and now.state == "failed":
        parts.sorry(explain(now.error or {}))
    if done:
        return
    stopped = now is not None and now.state in ("stopped", "failed")
    label = t("scores.go_on" if stopped else "scores.start", name=parts.plain(names[job.id], 40))
    if st.button(label, icon=":material/fact_check:", key=f"score_{job.id}"):
        try:
            judge.start(job)
        except AppError as error:
            parts.sorry(explain(error))
        else:
            st.rerun()


def _table(scored: Mapping[str, judge.Scores], names: Mapping[str, str]) -> None:
    rows = []
    for job_id, one in scored.items():
        for side, score in (("base", one.base), ("tuned", one.tuned)):
            name = t(f"compare.{side}") if len(scored) == 1 else f"{names[job_id]} · {t(f'compare.{side}')}"
            rows.append(
                {
                    t("scores.model"): name,
                    t("scores.rows"): one.rows,
                    t("scores.loss"): score.loss,
                    t("scores.exact"): 100 * score.exact,
                    "chrF": score.chrf,
                    "ROUGE-L": score.rouge_l,
                }
            )
    number = {
        t("scores.loss"): st.column_config.NumberColumn(format="%.3f", help=t("scores.loss_help")),
        t("scores.exact"): st.column_config.NumberColumn(format="%.1f %%", help=t("scores.exact_help")),
        "chrF": st.column_config.NumberColumn(format="%.1f", help=t("scores.chrf_help")),
        "ROUGE-L": st.column_config.NumberColumn(format="%.1f", help=t("scores.rouge_help")),
    }
    st.dataframe(pd.DataFrame(rows), hide_index=True, column_config=number, key="score_table")
    for one in scored.values():
        if one.left_out:
            st.caption(t("scores.left_out", n=one.left_out))


def _examples(job: jobs.Job, found: judge.Scores, names: Mapping[str, str], *, alone: bool) -> None:
    for which, examples, icon in (
        ("best", found.best, ":material/thumb_up:"),
        ("worst", found.worst, ":material/thumb_down:"),
    ):
        title = t(f"scores.{which}") + ("" if alone else f" · {parts.plain(names[job.id])}")
        with st.expander(title, icon=icon, key=f"{which}_{job.id}"):
            for one in examples:
                with st.container(border=True):
                    st.caption(t("scores.row", row=one.row))
                    st.text(one.question[: parts.LONG])
                    columns = st.columns(3)
                    for column, label, text, chrf in (
                        (columns[0], t("compare.reference"), one.reference, None),
                        (columns[1], t("compare.base"), one.base, one.chrf_base),
                        (columns[2], t("compare.tuned"), one.tuned, one.chrf_tuned),
                    ):
                        with column:
                            st.caption(label if chrf is None else f"{label} · chrF {chrf:.0f}")
                            st.text(text[: parts.LONG] or t("compare.silent"))
