"""The playground on the page: what the settings do to a tiny model, on the visitor's own rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from lib import params, playground
from lib.curves import Series, smoothed, thinned
from lib.params import Settings
from lib.playground import Played
from lib.ui import parts, sliders
from lib.ui.state import State, Tried
from lib.ui.words import t

FEWER = (20, 48)  # rows to learn from, beside as many as there are, up to playground.TRAINED
KEPT = 3  # earlier settings that stay as faint lines
CALM = 0.8  # the smoothing of the exercises' curve, whose raw jumps are drawn pale behind it
_DOTS = alt.OverlayMarkDef(filled=True, size=30)


def panel(me: State, data: Path, settings: Settings, *, practice: bool) -> Played | None:
    """Draw what the settings make of the tiny model; None where there is not a row to learn from."""
    most = len(playground.sample(data).trained)
    if not most:
        return None
    with st.container(border=True, key="playground"):
        parts.card_title(t("playground.title"), t("playground.lead"))
        counts = [*(few for few in FEWER if few < most), most]
        me.played_rows = (
            st.segmented_control(
                t("playground.rows"),
                counts,
                default=me.played_rows if me.played_rows in counts else most,
                required=True,
                format_func=lambda n: t("playground.rows_some", n=n),
                key="played_rows",
            )
            or most
        )
        rows = playground.sample(data, me.played_rows)
        chosen = playground.chosen(settings, practice=practice)
        now = Tried(chosen, playground.real_rate(settings), me.played_rows)
        run = playground.play(rows, now.chosen)
        st.markdown(said(run))
        curves(run, now, [(one, _run(data, one)) for one in me.tried if one != now])
        _answers(run)
        st.caption(
            t(
                "playground.what",
                longest=playground.LONGEST,
                numbers=playground.numbers(rows),
                times=now.chosen.rate / now.shown,
                rate=now.chosen.rate,
            )
        )
        me.tried = [*[one for one in me.tried if one != now][-KEPT:], now]
    return run


def short(run: Played | None, slots: Sequence[Any]) -> None:
    """Fill the places under the sliders with what happened: on a phone the curves are far below."""
    if run is None:
        return
    for slot in slots:
        said = t(f"playground.short.{run.verdict}")
        slot.caption(t("playground.short_line", said=said, first=run.facts["first"], last=run.facts["last"]))


def said(run: Played) -> str:
    """Return what happened, in a sentence, and what is worth a word beside it."""
    notes = [t(f"playground.note.{note}", n=run.steps, **run.facts) for note in run.notes]
    return "  \n".join([t(f"playground.said.{run.verdict}", **run.facts), *notes])


def curves(run: Played, now: Tried, earlier: Sequence[tuple[Tried, Played]], key: str = "played") -> None:
    """Draw the three curves, the mock exams of earlier settings behind them, and the numbers as a table."""
    names = [t(f"playground.{name}") for name in ("train", "exam", "known")]
    three = (run.loss, run.validation, run.known)
    raw = _frame(run.loss, names[0])
    drawn = [_line(raw, names).mark_line(opacity=0.25)]
    for old, (one, other) in enumerate(earlier):
        table = _frame(other.validation, t("playground.earlier")).assign(settings=_settings(one), old=old)
        faint = alt.Chart(table).mark_line(opacity=0.5, strokeWidth=1.5, color="#9AA0B4")
        drawn.insert(
            0,
            faint.encode(
                x="epoch:Q",
                y="loss:Q",
                detail="old:N",
                tooltip=[
                    "settings:N",
                    alt.Tooltip("epoch:Q", format=".2f"),
                    alt.Tooltip("loss:Q", format=".2f"),
                ],
            ),
        )
    drawn += [
        _line(_frame(smoothed(run.loss, CALM), names[0]), names).mark_line(),
        _line(pd.concat([_frame(run.validation, names[1]), _frame(run.known, names[2])]), names).mark_line(
            point=_DOTS
        ),
    ]
    first, last = "{}_first", "{}_last"
    ends: dict[str, float] = {}
    for name, series in zip(("train", "exam", "known"), three, strict=True):
        some = series if len(series) else run.loss
        ends |= {first.format(name): float(some.values[0]), last.format(name): float(some.values[-1])}
        ends[f"{name}_best"] = float(some.values.min())
    words = t(
        "playground.alt",
        epochs=float(run.loss.epochs[-1]),
        rate=params.PARAMS["learning_rate"].show(now.shown),
        pile=now.chosen.pile,
        **ends,
    )
    st.altair_chart(alt.layer(*drawn).properties(height=400), key=key, alt=words)
    if earlier:
        st.caption(t("playground.grey"))
    with st.expander(t("playground.numbers"), icon=":material/table:"):
        st.caption(words)
        st.dataframe(_table(run), hide_index=True, key=f"{key}_numbers")
        lines = [
            t("playground.earlier_one", settings=_settings(one), loss=float(other.validation.values[-1]))
            for one, other in earlier
            if len(other.validation)
        ]
        st.caption("  \n".join(lines))


def two(run: Played, scale: alt.Scale) -> Any:
    """Return the exercises and the mock exam of a run, raw, on a scale of the caller's."""
    names = [t("playground.train"), t("playground.exam")]
    drawn = [_line(_frame(run.loss, names[0]), names, scale, legend=None).mark_line()]
    if len(run.validation):
        exam = _frame(run.validation, names[1])
        drawn.append(_line(exam, names, scale, legend=None).mark_line(point=_DOTS))
    return alt.layer(*drawn)


def _run(data: Path, one: Tried) -> Played:
    return playground.play(playground.sample(data, one.rows), one.chosen)


def _settings(one: Tried) -> str:
    """Return settings in a line; of the finer ones those that are not as usual."""
    told = t(
        "playground.one_settings",
        rate=params.PARAMS["learning_rate"].show(one.shown),
        epochs=one.chosen.epochs,
        pile=one.chosen.pile,
        rows=one.rows,
    )
    finer = {
        "schedule": params.PARAMS["schedule"].choices.index(one.chosen.schedule),
        "warmup_ratio": one.chosen.warmup,
        "seed": one.chosen.seed,
    }
    changed = [
        f"{t(f'param.{name}.name')} {sliders.shown(name, value)}"
        for name, value in finer.items()
        if value != params.PARAMS[name].default
    ]
    return ", ".join([told, *changed])


def _frame(series: Series, kind: str) -> pd.DataFrame:
    few = thinned(series, 400)
    return pd.DataFrame({"epoch": few.epochs, "loss": few.values, "kind": kind})


_LEGEND = alt.Legend(title=None, orient="bottom", direction="vertical", labelLimit=320, symbolOpacity=1)


def _line(
    table: pd.DataFrame,
    kinds: list[str],
    scale: alt.Scale | None = None,
    legend: alt.Legend | None = _LEGEND,
) -> alt.Chart:
    return alt.Chart(table).encode(
        x=alt.X("epoch:Q", title=t("playground.epochs"), axis=alt.Axis(grid=False)),
        y=alt.Y("loss:Q", title=t("playground.loss_axis"), scale=scale or alt.Scale(zero=False)),
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=kinds),
            legend=legend,
        ),
        tooltip=[
            alt.Tooltip("kind:N", title=" "),
            alt.Tooltip("epoch:Q", title=t("playground.epochs"), format=".2f"),
            alt.Tooltip("loss:Q", title=t("playground.loss_axis"), format=".2f"),
        ],
    )


def _table(run: Played) -> pd.DataFrame:
    """Return the curves where they were measured; the exercises' loss is the mean since the time before."""
    rows: list[dict[str, Any]] = []
    before = 0
    for place, step in enumerate(run.known.steps.astype(int)):
        since = run.loss.values[before:step]
        exam = run.validation.values[place] if len(run.validation) else None
        rows.append(
            {
                t("playground.epoch_column"): round(float(run.known.epochs[place]), 2),
                t("playground.train_column"): f"{since.mean():.3f}" if len(since) else "",
                t("playground.exam_column"): "" if exam is None else f"{exam:.3f}",
                t("playground.known_column"): round(float(run.known.values[place]), 3),
            }
        )
        before = step
    return pd.DataFrame(rows)


def _answers(run: Played) -> None:
    st.caption(t("playground.asked"))
    st.text(parts.short(run.question, 160))
    with st.grid(2, min_column_width=160):
        for label, answer in zip(("before", "after"), run.answers, strict=True):
            with st.container(border=True, gap="xsmall", height="stretch"):
                st.caption(t(f"playground.{label}"))
                st.text(answer.strip() or t("playground.said_nothing"))
