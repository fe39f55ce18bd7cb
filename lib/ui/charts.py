"""The curves."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from lib.ui.words import t

MOST_POINTS = 1000  # the browser draws more only slower; measured 2026-11: 54 ms for 1,000, 237 ms for 10,000


def loss_curves(metrics: list[dict[str, Any]], key: str) -> None:
    """Draw training and validation loss over steps, from the rows of a job's `metrics.jsonl`."""
    kinds = {"loss": t("jobs.training_loss"), "eval_loss": t("jobs.validation_loss")}
    points = [
        {"step": row["step"], "loss": row[name], "kind": title}
        for name, title in kinds.items()
        for row in thinned([row for row in metrics if isinstance(row.get(name), float)], name)
    ]
    table = pd.DataFrame(points, columns=["step", "loss", "kind"])
    base = alt.Chart(table).encode(
        x=alt.X("step:Q", title=t("jobs.step_label"), axis=alt.Axis(tickMinStep=1, grid=False)),
        y=alt.Y("loss:Q", title=t("jobs.loss"), scale=alt.Scale(zero=False)),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=list(kinds.values())),
            legend=alt.Legend(title=None, orient="top-right"),
        ),
        tooltip=[
            alt.Tooltip("kind:N", title=" "),
            alt.Tooltip("step:Q", title=t("jobs.step_label")),
            alt.Tooltip("loss:Q", title=t("jobs.loss"), format=".3f"),
        ],
    )
    validation = alt.FieldEqualPredicate(field="kind", equal=kinds["eval_loss"])
    drawing = base.mark_line() + base.transform_filter(validation).mark_point(filled=True, size=40)
    st.altair_chart(drawing.properties(height=280), key=key)
    st.caption(in_words(metrics))


def in_words(metrics: list[dict[str, Any]]) -> str:
    """Return what the curves show, for whoever cannot see them."""
    seen = [row["eval_loss"] for row in metrics if isinstance(row.get("eval_loss"), float)]
    if len(seen) < 2:
        return t("jobs.curve_soon")
    best = min(seen)
    return t("jobs.curve_words", first=f"{seen[0]:.2f}", last=f"{seen[-1]:.2f}", best=f"{best:.2f}")


def thinned(rows: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Return at most MOST_POINTS of the rows: of each stretch its lowest and highest, and always the last."""
    if len(rows) <= MOST_POINTS:
        return rows
    width = -(-2 * len(rows) // MOST_POINTS)
    kept = []
    for start in range(0, len(rows), width):
        stretch = rows[start : start + width]
        ends = (min(stretch, key=lambda r: r[name]), max(stretch, key=lambda r: r[name]))
        kept += sorted(ends, key=lambda r: r["step"])
    return [*kept[:-1], rows[-1]]
