"""The hyperparameters as sliders, each with its explanation, and what they mean together."""

from __future__ import annotations

import streamlit as st

from lib import params
from lib.estimate import Amount, Plan
from lib.params import Ranges, Settings
from lib.ui import parts
from lib.ui.state import State, forget
from lib.ui.words import t


def settled(me: State, ranges: Ranges, model: dict[str, str] | None) -> Settings:
    """Return the visitor's settings for a place and model; a change of either starts from its defaults."""
    start = params.defaults(ranges, practice=_practice(model))
    kind = f"{me.place}/{'practice' if _practice(model) else 'real'}"
    if me.settings_for != kind:
        me.settings_for, me.settings = kind, start
        _forget()
    return {name: params.nearest(name, me.settings.get(name, value), ranges) for name, value in start.items()}


def one(name: str, value: float, ranges: Ranges) -> float:
    """Draw one hyperparameter: its slider, what the value means, and the fold-out that explains it."""
    row = params.PARAMS[name]
    chosen = st.select_slider(
        t(f"param.{name}.name"),
        params.stops(name, ranges),
        value,
        format_func=row.show,
        help=t(f"param.{name}.what"),
        key=_key(name),
    )
    st.caption(
        f"{t(f'param.{name}.what')} {t(f'param.{name}.exam')}" if row.main else t(f"param.{name}.what")
    )
    if row.main:
        with st.expander(t("settings.lower_higher"), icon=":material/swap_vert:"):
            st.markdown(t(f"param.{name}.lower"))
            st.markdown(t(f"param.{name}.higher"))
            st.markdown(t(f"param.{name}.usual"))
    return chosen


def reset(me: State, ranges: Ranges, model: dict[str, str] | None) -> None:
    """Go back to the defaults of this place and model."""
    me.settings = params.defaults(ranges, practice=_practice(model))
    _forget()


def meaning(plan: Plan, amount: Amount, settings: Settings) -> None:
    """Draw what the settings mean for this dataset."""
    parts.numbers(
        (t("settings.steps"), f"{plan.steps:,}"),
        (t("settings.tokens"), t("settings.about", what=f"{plan.tokens:,}")),
    )
    if plan.seconds is not None:
        parts.numbers((t("settings.time"), t("settings.about_time", seconds=plan.seconds)))
    st.markdown(
        t(
            "settings.sentence",
            rows=amount.train,
            batch=int(settings["batch_size"] * settings.get("accumulation", 1)),
            per_epoch=plan.steps_per_epoch,
            epochs=int(settings["epochs"]),
            steps=plan.steps,
        )
    )
    if plan.steps < 20:
        st.warning(t("settings.few_steps", n=plan.steps), icon=":material/info:")
    if amount.longest > settings["max_length"]:
        st.warning(
            t("settings.too_long", longest=amount.longest, most=int(settings["max_length"])),
            icon=":material/info:",
        )
    key = "settings.time_measured" if plan.measured_here else "settings.time_estimate"
    st.caption(t(key) if plan.seconds is not None else t("settings.time_unknown"))


def _practice(model: dict[str, str] | None) -> bool:
    return model is not None and model["kind"] == "practice"


def _key(name: str) -> str:
    return f"param_{name}"


def _forget() -> None:
    forget(_key(name) for name in params.PARAMS)
