"""Choose where to train, what to train, and the hyperparameters; see what they mean for this dataset."""

import streamlit as st

from lib import conversions, estimate, params
from lib.ui import nav, parts, place, platform, seeing, sliders, visit
from lib.ui.state import state
from lib.ui.words import t

parts.heading("settings")
me = state()

if conversions.manifest(me.conversion) is None:
    parts.empty("tune", t("settings.none_title"), t("settings.none"), t("convert.step"), to="convert")
    st.stop()

with st.container(border=True):
    parts.card_title(t("settings.place_title"), t("settings.place"))
    backend = place.choose(me)
    model = place.model(me)
    backend = platform.limited(me, backend, model)

data = conversions.folder(me.conversion)
amount = estimate.amount(data)
me.settings = sliders.settled(me, backend, model)

left, right = st.columns([3, 2], gap="medium")
with left:
    for name in params.PARAMS:
        if name in backend.ranges and params.PARAMS[name].main:
            with st.container(border=True):
                sliders.one(me, name, backend.ranges)
    with st.expander(t("settings.more"), icon=":material/tune:"):
        for name in params.PARAMS:
            if name in backend.ranges and not params.PARAMS[name].main:
                sliders.one(me, name, backend.ranges)
    if st.button(t("settings.reset"), icon=":material/restart_alt:", type="tertiary", key="reset"):
        sliders.reset(me, backend, model)
        st.rerun()

with right, st.container(border=True):
    parts.card_title(t("settings.means_title"), t("settings.means"))
    sliders.meaning(estimate.plan(amount, me.settings, **place.speed(me, model)), amount, me.settings)

if me.place == "local" and model and not backend.missing():
    seeing.row(data, model, me.settings, amount.train)

with st.container(border=True):
    parts.card_title(t("settings.check_title"), t("settings.check"))
    with parts.calm():
        place.findings(backend.check(data))

ready = place.confirmed(me, backend, data, model)
parts.command(place.command(me, backend, data, model))

if nav.onward("settings", ready=ready, label=t(f"place.{me.place}.start")) and model:
    with parts.calm():
        me.job = place.begin(me, backend, visit.name(me), data, model).id
        nav.go("jobs")
