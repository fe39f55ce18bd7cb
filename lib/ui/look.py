"""What is in a file: its columns, how long its conversations are, what repeats, which languages."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from lib import params
from lib.profile import Column, Histogram, Profile
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import t

BARS = 40
LANGUAGES = 3  # named one by one; what is rarer is summed up
RARE = 0.005  # the least share of the rows that is worth naming a language for


def inside(me: State, profile: Profile | None, lengths: Histogram | None) -> None:
    """Draw the fold-out that says what is in a file; `lengths` are those of its conversations in tokens."""
    if profile is None:
        return
    title = t("look.title", n=profile.rows, columns=len(profile.columns))
    with st.expander(title, icon=":material/query_stats:", key=f"look_{me.shown_file}"):
        with parts.above_table():
            st.markdown("  \n".join(_facts(profile)))
        if profile.columns:
            st.dataframe(
                pd.DataFrame([_row(column, profile) for column in profile.columns]),
                hide_index=True,
                height=36 * (min(len(profile.columns), 12) + 1),
                column_config={t("look.missing"): st.column_config.NumberColumn(format="%.1f %%")},
                key=f"columns_{me.shown_file}",
            )
            st.caption(t("look.columns_help"))
        if lengths and lengths.total:
            _lengths(me, lengths)


def _facts(profile: Profile) -> list[str]:
    """Return what there is to say about all rows, sentence by sentence."""
    said = [t("look.repeats", n=profile.repeats) if profile.repeats else t("look.no_repeats")]
    if profile.broken:
        said.append(t("look.broken", n=profile.broken))
    if set(profile.languages) - {"none"}:
        shares = sorted(profile.languages.items(), key=lambda pair: -pair[1])
        named = [pair for pair in shares if pair[1] >= RARE * profile.looked_at][:LANGUAGES]
        told = [
            t("look.language", name=t(f"spoken.{name}"), share=count / profile.looked_at)
            for name, count in named
        ]
        rest = 1 - sum(count for _, count in named) / profile.looked_at
        if rest >= RARE:
            told.append(t("look.language", name=t("spoken.rest"), share=rest))
        said.append(t("look.languages", list=t("look.comma").join(told)))
    if profile.columns_left_out:
        said.append(t("look.left_out", n=len(profile.columns)))
    return said


def _row(column: Column, profile: Profile) -> dict[str, str | float | int]:
    lacking = column.missing + column.null + column.empty
    return {
        t("look.column"): parts.short(column.name),
        t("look.kind"): t(f"kind.{column.kind}"),
        t("look.missing"): 100 * lacking / max(1, profile.rows),
        t("look.median"): column.characters.quantile(0.5),
        t("look.most"): column.characters.most,
        t("look.tokens"): column.tokens.quantile(0.5),
        t("look.tokens_most"): column.tokens.most,
    }


def _lengths(me: State, lengths: Histogram) -> None:
    """Draw the lengths of the conversations, and the cut at the chosen maximum length."""
    row = params.PARAMS["max_length"]
    stops = [int(stop) for stop in row.stops]
    with st.container(gap="xsmall"):
        st.markdown(f"**{t('look.lengths_title')}**")
        st.caption(t("look.lengths"))
    me.most = st.select_slider(
        t("param.max_length.name"),
        stops,
        min(stops, key=lambda stop: abs(stop - me.most)),
        format_func=lambda stop: t("look.stop", n=stop),
        key=f"most_{me.dataset}",
    )
    lost = lengths.share_above(me.most)
    st.markdown(t("look.cut", share=_share(lost), most=me.most) if lost else t("look.no_cut", most=me.most))
    colors = {t("look.whole"): "#4338CA", t("look.cut_off"): "#D97706"}
    whole, cut = colors
    table = pd.DataFrame(
        [
            {
                "low": max(1, bar.low),
                "high": max(1, bar.high) + 1,
                "rows": bar.count,
                "end": cut if bar.low > me.most else whole,
            }
            for bar in lengths.bars(BARS)
        ]
    )
    scale = alt.Scale(type="log", nice=False)
    bars = (
        alt.Chart(table)
        .mark_bar(orient="vertical")
        .encode(
            x=alt.X(
                "low:Q",
                scale=scale,
                title=t("look.tokens_axis"),
                axis=alt.Axis(grid=False, tickCount=6, format=",d"),
            ),
            x2="high:Q",
            y=alt.Y("rows:Q", title=t("convert.rows"), axis=alt.Axis(tickMinStep=1, tickCount=4)),
            color=alt.Color(
                "end:N",
                scale=alt.Scale(domain=list(colors), range=list(colors.values())),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[
                alt.Tooltip("low:Q", title=t("look.from"), format=",d"),
                alt.Tooltip("high:Q", title=t("look.below"), format=",d"),
                alt.Tooltip("rows:Q", title=t("convert.rows"), format=",d"),
            ],
        )
    )
    line = (
        alt.Chart(pd.DataFrame([{"most": me.most}]))
        .mark_rule(strokeDash=[4, 4], color="#10131C")
        .encode(x="most:Q")
    )
    drawn = bars + line if lengths.least <= me.most <= lengths.most else bars
    words = t(
        "look.lengths_words",
        median=lengths.quantile(0.5),
        most=lengths.most,
        tenth=lengths.quantile(0.9),
    )
    st.altair_chart(drawn.properties(height=200), key=f"lengths_{me.shown_file}", alt=words)
    st.caption(words)


def _share(share: float) -> str:
    """Return a share as a person would say it."""
    if share < 0.001:
        return "< 0.1 %"
    return f"{share * 100:.1f} %" if share < 0.1 else f"{share * 100:.0f} %"
