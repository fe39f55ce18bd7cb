"""The curves."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd
import streamlit as st

from lib.curves import Curves, Series, lowest, smoothed, thinned
from lib.ui.words import t

PALE = 0.3  # opacity of the raw curve behind the smoothed one
CALM = 0.9  # the smoothing of curves that are drawn over each other, where jumps would hide the others
_POINTS = alt.OverlayMarkDef(filled=True, size=40)


def loss_curves(curves: Curves, key: str, *, smoothing: float, log: bool) -> None:
    """Draw training and validation loss over steps, the training loss also smoothed, and the best mark.

    Where it is measured, also the loss on what the model knew before.
    """
    loss, validation, known = (curves.series(name) for name in ("loss", "eval_loss", "known_loss"))
    smooth = 0 < smoothing < 1 and len(loss) > 1
    raw, calm, measured = t("jobs.training_loss"), t("jobs.smooth_loss"), t("jobs.validation_loss")
    best_at = lowest(validation)
    kinds = [raw, calm, measured] if smooth else [raw, measured]
    before = t("jobs.known_loss")
    kinds += [before] if len(known) else []

    def chart(kind: str, series: Series) -> alt.Chart:
        return _base(_table({kind: series}, log=log), kinds, "step", t("jobs.step_label"), log=log)

    layers = [
        chart(raw, loss).mark_line(opacity=PALE if smooth else 1.0),
        *([chart(calm, smoothed(loss, smoothing)).mark_line()] if smooth else []),
        # a layer without a point would be a picture without a name
        *([chart(measured, validation).mark_line(point=_POINTS)] if len(validation) else []),
        *([chart(before, known).mark_line(point=_POINTS, strokeDash=[4, 3])] if len(known) else []),
    ]
    if best_at is not None and len(validation) > 1 and (not log or validation.values[best_at] > 0):
        layers += _best(validation, best_at)
    st.altair_chart(alt.layer(*layers).properties(height=380), key=key)
    st.caption(in_words(validation, known))


def overlay(runs: Mapping[str, Curves], name: str, key: str, *, log: bool, calm: bool = False) -> None:
    """Draw one column of several runs over each other, by epochs: steps of different batches differ."""
    series = {label: curves.series(name) for label, curves in runs.items()}
    if calm:
        series = {label: smoothed(one, CALM) for label, one in series.items()}
    table = _table(series, log=log)
    base = _base(table, list(series), "epoch", t("contrast.epochs"), log=log)
    drawing = base.mark_line() if calm else base.mark_line(point=_POINTS)
    st.altair_chart(drawing.properties(height=280), key=key)


def in_words(validation: Series, known: Series) -> str:
    """Return what the measured curves show, for whoever cannot see them."""
    if len(validation) < 2:
        return t("jobs.curve_soon")
    first, last, best = validation.values[0], validation.values[-1], validation.values.min()
    said = t("jobs.curve_words", first=f"{first:.2f}", last=f"{last:.2f}", best=f"{best:.2f}")
    if len(known) > 1:
        said += "  \n" + t("jobs.known_words", first=f"{known.values[0]:.2f}", last=f"{known.values[-1]:.2f}")
    return said


def _table(drawn: Mapping[str, Series], *, log: bool) -> pd.DataFrame:
    frames = []
    for kind, series in drawn.items():
        few = thinned(series)
        if log:  # which has no place for what is not above zero
            few = few.at(few.values > 0)
        points = {"step": few.steps, "epoch": few.epochs, "loss": few.values}
        frames.append(pd.DataFrame(points).assign(kind=kind))
    return pd.concat(frames, ignore_index=True)


def _base(table: pd.DataFrame, kinds: list[str], across: str, title: str, *, log: bool) -> alt.Chart:
    up = t("jobs.loss")
    axis = alt.Axis(tickMinStep=1, grid=False) if across == "step" else alt.Axis(grid=False)
    return alt.Chart(table).encode(
        x=alt.X(f"{across}:Q", title=title, axis=axis),
        y=alt.Y("loss:Q", title=up, scale=alt.Scale(type="log") if log else alt.Scale(zero=False)),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds),
            # Below, where it hides nothing; names of runs are letters and fit into a row. The mark beside a
            # name is as strong as the strongest line, not as the raw curve.
            legend=alt.Legend(
                title=None,
                orient="bottom",
                columns=2 if across == "step" else len(kinds),
                offset=8,
                symbolOpacity=1,
            ),
        ),
        tooltip=[
            alt.Tooltip("kind:N", title=" "),
            alt.Tooltip(f"{across}:Q", title=title),
            alt.Tooltip("loss:Q", title=up, format=".3f"),
        ],
    )


def _best(validation: Series, place: int) -> list[alt.Chart]:
    """Return the mark of the lowest validation loss, with its value."""
    step, value = float(validation.steps[place]), float(validation.values[place])
    said = f"{t('jobs.best')} {value:.2f}"
    point = alt.Chart(pd.DataFrame([{"step": step, "loss": value, "said": said}])).encode(
        x="step:Q", y="loss:Q", tooltip=[alt.Tooltip("said:N", title=" ")]
    )
    return [
        point.mark_point(shape="diamond", filled=True, size=140, color="#B45309"),
        # on a rim of the page's white, so that it is read over the curves
        point.mark_text(dy=-16, stroke="white", strokeWidth=4).encode(text="said:N"),
        point.mark_text(dy=-16, color="#B45309").encode(text="said:N"),
    ]
