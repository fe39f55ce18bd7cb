"""The hyperparameters as sliders, each with its explanation, and what they mean together."""

from __future__ import annotations

import streamlit as st

from lib import params
from lib.backends import Backend, Model
from lib.estimate import Amount, Plan
from lib.params import Ranges, Settings
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import t


def settled(me: State, backend: Backend, model: Model | None) -> Settings:
    """Return the visitor's settings for a place and model; a change of either starts from its defaults."""
    start = backend.defaults(model or {"kind": ""})
    kind = _for(backend, model)
    if me.settings_for != kind:
        me.settings_for, me.settings = kind, start
        me.settings_round += 1
    return {
        name: params.nearest(name, me.settings.get(name, value), backend.ranges)
        for name, value in start.items()
    }


def take(me: State, backend: Backend, model: Model | None, settings: Settings) -> None:
    """Make settings the visitor's, as far as a place takes them; what they leave open has its default."""
    start = backend.defaults(model or {"kind": ""})
    me.settings_for = _for(backend, model)
    me.settings = {
        name: params.nearest(name, _number(name, settings.get(name, value)), backend.ranges)
        for name, value in start.items()
    }
    me.settings_round += 1


def one(me: State, name: str, ranges: Ranges) -> None:
    """Draw one hyperparameter: its slider, what the value means, and the fold-out that explains it."""
    row = params.PARAMS[name]
    me.settings[name] = st.select_slider(
        t(f"param.{name}.name"),
        params.stops(name, ranges),
        me.settings[name],
        format_func=lambda value: (
            t(f"param.{name}.choice.{row.show(value)}") if row.choices else row.show(value)
        ),
        key=f"param_{name}_{me.settings_round}",  # another round: the slider takes its value from State again
    )
    said = [t(f"param.{name}.{part}") for part in ("what", *(("exam",) if row.main else ()))]
    st.caption("  \n".join(said))
    if row.main:
        with st.expander(t("settings.lower_higher"), icon=":material/swap_vert:"):
            st.markdown(t(f"param.{name}.lower"))
            st.markdown(t(f"param.{name}.higher"))
            st.markdown(t(f"param.{name}.usual"))


def reset(me: State, backend: Backend, model: Model | None) -> None:
    """Go back to the defaults of this place and model."""
    me.settings_for = ""
    settled(me, backend, model)


def meaning(plan: Plan, amount: Amount, settings: Settings) -> None:
    """Draw what the settings mean for this dataset."""
    tokens = (t("settings.tokens"), t("settings.about", what=f"{plan.tokens:,}"))
    if not plan.steps:
        parts.numbers(tokens)
        st.caption(t("settings.steps_unknown"))
        return
    parts.numbers((t("settings.steps"), f"{plan.steps:,}"), tokens)
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
    if amount.longest > settings.get("max_length", amount.longest):
        st.warning(
            t("settings.too_long", longest=amount.longest, most=int(settings["max_length"])),
            icon=":material/info:",
        )
    key = "settings.time_measured" if plan.measured_here else "settings.time_estimate"
    st.caption(t(key) if plan.seconds is not None else t("settings.time_unknown"))


def _for(backend: Backend, model: Model | None) -> str:
    """Return what settings are made for: a place, and a model that is small or real."""
    return f"{backend.name}/{'practice' if model and model['kind'] == 'practice' else 'real'}"


def _number(name: str, value: float | str) -> float:
    """Return a setting as its slider holds it: a choice by its place, not by its name."""
    choices = params.PARAMS[name].choices
    return choices.index(value) if isinstance(value, str) and value in choices else float(value)
