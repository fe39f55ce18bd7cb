"""The pre-flight card on the page: what a run will take, what speaks against it, and how right it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import streamlit as st

from lib import backends, jobs, practice, preflight
from lib.backends import Model
from lib.estimate import Price
from lib.params import Settings
from lib.preflight import Card, Finding
from lib.script import recipes
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import t

ICONS = {
    preflight.GREEN: ":green[:material/check_circle:]",
    preflight.AMBER: ":orange[:material/error:]",
    preflight.RED: ":red[:material/dangerous:]",
}


def price(me: State) -> Price | None:
    """Draw the fields for what the place charges, as the visitor's console shows it; return the price."""
    place = backends.BACKENDS[me.place]
    told = place.price
    if told is None or not place.manual:  # lib/ui/platform.py draws what the others charge
        return None
    known = me.prices.get(me.place, [told.million or 0.0, told.minimum or 0.0])
    with st.container(horizontal=True, key="price"):
        million = st.number_input(
            t("preflight.per_million", currency=told.currency), 0.0, value=known[0], key="price_million"
        )
        least = st.number_input(
            t("preflight.minimum", currency=told.currency), 0.0, value=known[1], key="price_minimum"
        )
    if (million, least) != tuple(known):
        me.prices[me.place] = [million, least]
    st.caption(t("preflight.price_source", checked=told.checked, source=told.source))
    return replace(told, million=million or None, minimum=least or None)


def card(told: Card) -> None:
    """Draw the card."""
    st.markdown(f"{ICONS[told.color]} **{t(f'preflight.is_{told.color}')}**")
    parts.numbers(*_tiles(told))
    if told.steps:
        st.markdown(
            t(
                "preflight.sentence",
                rows=told.rows,
                per_epoch=told.per_epoch,
                epochs=told.steps // max(1, told.per_epoch),
                steps=told.steps,
            )
        )
    for finding in told.findings:
        st.markdown(f"{ICONS[finding.color]} {said(finding)}")
    sources = [t("preflight.counted" if told.tokens.counted else "preflight.guessed")]
    if told.seconds is not None:
        sources.append(t(f"preflight.time_{told.seconds_from}"))
    if told.memory is not None and told.free is not None:
        sources.append(t(f"preflight.memory_{told.memory_from}", longest=told.tokens.longest, free=told.free))
    st.caption(" ".join(sources))


def said(finding: Finding) -> str:
    """Return a finding's sentence: why, and what to change."""
    if finding.advice is None:
        return t(f"preflight.{finding.key}", **finding.facts)
    one = finding.advice
    return t("preflight.setting", name=t(f"param.{one.name}.name"), what=t(one.key, **one.facts))


def asked(me: State, told: Card) -> bool:
    """Return whether this very card was red at the last press on the way to start."""
    if me.asked_twice != repr(told.findings):
        me.asked_twice = ""  # the settings have changed since
    return bool(me.asked_twice)


def sure(me: State, told: Card) -> bool:
    """Return whether to start: a red card was asked about already; the first press only asks."""
    if told.color != preflight.RED or asked(me, told):
        me.asked_twice = ""
        return True
    me.asked_twice = repr(told.findings)
    return False


def code(data: Path, model: Model | None, settings: Settings, shell: str, *, validation: bool) -> None:
    """Draw the command line for these settings, and how other trainers say the same."""
    scripts = []
    if model and model["kind"] != "platform":  # whose settings have names of its own
        name = str(practice.folder()) if model["kind"] == "practice" else model["id"]
        for key, one in recipes.RECIPES.items():
            text = recipes.recipe(key, name, data, settings, validation=validation)
            scripts.append((t(f"recipe.{key}.name"), t(f"recipe.{key}.what"), one.file, text))
    parts.commands(shell, scripts)


def compared(job: jobs.Job) -> None:
    """Draw what was estimated before a job beside what it took."""
    rows = preflight.compared(job.folder)
    if not rows:
        return
    with st.expander(t("preflight.compared_title"), icon=":material/balance:"):
        with parts.above_table():
            st.caption(t("preflight.compared"))
        table = [
            {
                t("preflight.what"): t(f"preflight.{name}"),
                t("preflight.estimated"): _amount(name, estimated),
                t("preflight.real"): _amount(name, real),
                t("preflight.off"): f"{preflight.error(estimated, real):+.0%}",
            }
            for name, estimated, real in rows
        ]
        st.dataframe(pd.DataFrame(table), hide_index=True, key=f"compared_{job.id}")


def _tiles(told: Card) -> list[tuple[str, str]]:
    about = "{}" if told.tokens.counted else t("settings.about", what="{}")
    tiles = [
        (t("preflight.rows"), f"{told.rows:,} + {told.validation:,}"),
        (t("preflight.tokens"), about.format(f"{told.trained:,}")),
        (t("preflight.steps"), f"{told.steps:,}"),
    ]
    if told.checks:
        tiles.append((t("preflight.checks"), f"{told.checks:,}"))
    if told.seconds is not None:
        tiles.append((t("preflight.seconds"), t("settings.about_time", seconds=told.seconds)))
    if told.memory is not None:
        tiles.append((t("preflight.memory"), t("settings.about", what=_amount("memory", told.memory))))
    if told.money is not None and told.price:
        money = f"{told.price.currency} {told.money:,.2f}"
        tiles.append((t("preflight.money"), t("settings.about", what=money)))
    return tiles


def _amount(name: str, value: float) -> str:
    if name == "seconds":
        return t("preflight.time", seconds=value)
    return t("preflight.size", size=value) if name == "memory" else f"{value:,.0f}"
