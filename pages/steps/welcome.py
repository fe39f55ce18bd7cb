"""What fine-tuning is, the six steps, and the way back to where the visitor was."""

import streamlit as st

from lib.ui import nav, parts, state, visit
from lib.ui.words import t

parts.heading("welcome")

place = visit.furthest(state.state())
if place:
    with st.container(border=True):
        parts.card_title(t("welcome.continue_title"), visit.told(state.state()))
        with st.container(horizontal=True):
            if st.button(t("frame.onward", step=t(f"{place}.step")), type="primary", key="continue"):
                nav.go(place)
            if st.button(t("welcome.afresh"), key="afresh"):
                state.start_afresh()
                nav.go("data")

with st.grid(3, min_column_width=240):
    for number, name in enumerate(nav.NAMES[1:], start=2):
        with st.container(border=True, height="stretch"):
            parts.card_title(f"{number}  {t(f'{name}.step')}", t(f"{name}.promise"))
    with st.container(border=True, height="stretch"):
        parts.card_title(t("welcome.free_title"), t("welcome.free"))

nav.onward("welcome", primary=not place)
