"""The hyperparameters as sliders, each with what its value means, and the fold-out that explains it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from lib import advice, params
from lib.advice import Advice, Case
from lib.backends import Backend, Model
from lib.params import Ranges, Settings
from lib.ui.state import State
from lib.ui.words import t

MARKS = {advice.FINE: ":green[:material/check:]", advice.UNUSUAL: ":orange[:material/priority_high:]"}
MARKS[advice.HURTS] = ":red[:material/warning:]"


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
        name: params.nearest(name, settings.get(name, value), backend.ranges) for name, value in start.items()
    }
    me.settings_round += 1


def presets(me: State, backend: Backend, model: Model | None) -> None:
    """Draw the presets, the way back to the defaults, and what differs from them."""
    start = backend.defaults(model or {"kind": ""})
    with st.container(horizontal=True, vertical_alignment="center", key="presets"):
        for name in params.PRESETS:
            chosen = params.preset(name, start, backend.ranges)
            pressed = st.button(
                t(f"preset.{name}.name"),
                icon=":material/check:" if me.settings == chosen else None,
                help=t(f"preset.{name}.what"),
                key=f"preset_{name}",
            )
            if pressed:
                take(me, backend, model, chosen)
                st.rerun()
        if st.button(t("settings.reset"), icon=":material/restart_alt:", type="tertiary", key="reset"):
            take(me, backend, model, start)
            st.rerun()
    st.caption(differing(me.settings, start))


def differing(settings: Settings, start: Settings) -> str:
    """Return in words what differs from the defaults."""
    changed = [
        t(
            "settings.one_change",
            name=t(f"param.{name}.name"),
            value=shown(name, value),
            before=shown(name, start[name]),
        )
        for name, value in settings.items()
        if name in start and value != start[name]
    ]
    return t("settings.changed", what=" · ".join(changed)) if changed else t("settings.unchanged")


def one(me: State, name: str, ranges: Ranges) -> Any:
    """Draw one hyperparameter: its slider and the fold-out that explains it.

    Returns the place between them, for `say`: what a value means can hang on a slider further down.
    """
    row = params.PARAMS[name]
    me.settings[name] = st.select_slider(
        label(name),
        params.stops(name, ranges),
        me.settings[name],
        format_func=lambda value: shown(name, value),
        key=f"param_{name}_{me.settings_round}",  # another round: the slider takes its value from State again
    )
    plain = t("settings.plain", value=row.show(me.settings[name]), plain=f"{me.settings[name]:f}".rstrip("0"))
    what = f"{t(f'param.{name}.what')} {plain if name == 'learning_rate' else ''}"
    st.caption("  \n".join([what, *([t(f"param.{name}.exam")] if row.main else [])]))
    place = st.container()
    if row.source:
        with st.expander(t("settings.lower_higher"), icon=":material/swap_vert:"):
            for part in (*(() if row.main else ("exam",)), "lower", "higher", "usual"):
                st.markdown(t(f"param.{name}.{part}"))
            st.caption(t("settings.source", source=row.source, read=params.READ))
    return place


def say(me: State, case: Case, places: Mapping[str, Any]) -> None:
    """Draw what each value means into its place; one that is known to hurt wants a second click."""
    for name, place in places.items():
        told = advice.advise(name, case)
        if told:
            with place:
                _says(me, told, me.settings[name])


def label(name: str) -> str:
    """Return a hyperparameter's name, with what is counted where it is a count."""
    unit = params.PARAMS[name].unit
    word = t(f"param.{name}.name")
    return t("settings.counted", name=word, unit=t(f"settings.unit.{unit}")) if unit else word


def shown(name: str, value: float) -> str:
    """Return a value as its slider shows it, a choice by its name in the visitor's language."""
    row = params.PARAMS[name]
    return t(f"param.{name}.choice.{row.show(value)}") if row.choices else row.show(value)


def unconfirmed(me: State, case: Case) -> list[Advice]:
    """Return what is known to hurt among the settings and was not said to be wanted all the same."""
    return [told for told in advice.hurting(case) if me.wanted.get(told.name) != case.settings[told.name]]


def _says(me: State, told: Advice, value: float) -> None:
    """Draw the sentence that reacts to the value, and the button for one that hurts."""
    st.markdown(f"{MARKS[told.weight]} {t(told.key, **told.facts)}")
    if told.weight != advice.HURTS:
        me.wanted.pop(told.name, None)
    elif me.wanted.get(told.name) == value:
        st.caption(t("settings.wanted"))
    elif st.button(t("settings.want", value=shown(told.name, value)), key=f"want_{told.name}"):
        me.wanted[told.name] = value
        st.rerun()


def _for(backend: Backend, model: Model | None) -> str:
    """Return what settings are made for: a place, and a model that is small or real."""
    return f"{backend.name}/{'practice' if model and model['kind'] == 'practice' else 'real'}"
