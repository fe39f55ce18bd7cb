"""Choose where to train, what to train, and the hyperparameters; see what they mean for this dataset."""

import streamlit as st

from lib import advice, conversions, estimate, params, preflight
from lib.ui import flight, guessing, nav, parts, place, platform, playing, seeing, sliders, visit
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

practice = bool(model and model["kind"] == "practice")

top = st.container()
left, right = st.columns([1, 1], gap="medium")
places, short = {}, []
with left:
    for name in params.PARAMS:
        if name in backend.ranges and params.PARAMS[name].main:
            with st.container(border=True):
                places[name] = sliders.one(me, name, backend.ranges)
                short.append(st.container(key=f"short_{name}").empty())
    with st.expander(t("settings.more"), icon=":material/tune:"):
        for name in params.PARAMS:
            if name in backend.ranges and not params.PARAMS[name].main:
                places[name] = sliders.one(me, name, backend.ranges)
        place.validation(amount)
# from here on every slider has its value of this run
sliders.say(me, advice.Case(me.settings, amount, practice), places)
with top:
    sliders.presets(me, backend, model)

with right:
    playing.short(playing.panel(me, data, params.PLAIN | me.settings, practice=practice), short)
guessing.fold_out(me, data)
if me.place == "local" and model and not backend.missing():
    seeing.row(data, model, me.settings, amount.train)

report = None
with st.container(border=True):
    parts.card_title(t("settings.check_title"), t("settings.check"))
    with parts.calm():
        report = backend.check(data)
        place.findings(report)

with st.container(border=True, key="preflight"):
    parts.card_title(t("preflight.title"), t("preflight.lead"))
    told = preflight.card(data, me.settings, place.known(me, model, report, flight.price(me)))
    flight.card(told)
ready = place.confirmed(me, backend, data, model)

shell = place.command(me, backend, data, model)
flight.code(data, model, me.settings, shell, validation=amount.validation > 0)

label = t(f"place.{me.place}.start")
if flight.asked(me, told):
    label = t("preflight.again")
    parts.sorry(t("preflight.asked"))
if nav.onward("settings", ready=ready, label=label) and model:
    if not flight.sure(me, told):
        st.rerun()
    with parts.calm():
        job = place.begin(me, backend, visit.name(me), data, model)
        me.job = job.id
        preflight.keep(job.folder, told)
        nav.go("jobs")
