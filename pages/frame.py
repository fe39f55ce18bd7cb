"""The frame around every page: page configuration, navigation, language, the visitor's place kept on disk."""

from pathlib import Path

import streamlit as st

from lib.ui import nav, parts, state, words

UI = Path(nav.__file__).parent
LOGO = UI / "logo.svg"
# Streamlit pads headings for long documents; in cards that is a hole. No theme option changes it (1.67).
# Where there is room, the playground stays in sight beside the sliders; on a phone a line under each does.
STYLE = """<style>
[data-testid=stHeading] :is(h1, h2) {padding: 0 0 0.5rem}
@media (min-width: 641px) {
  [class*=st-key-short_] {display: none}
  [data-testid=stColumn]:has(.st-key-playground) {position: sticky; top: 4rem; align-self: flex-start}
}
</style>"""
ICON = UI / "icon.svg"

st.set_page_config(page_icon=str(ICON), layout="wide")
st.logo(str(LOGO), size="large", icon_image=str(ICON))
page = st.navigation(nav.pages())
st.html(STYLE)
with st.sidebar:
    st.space("small")
    words.language_switch()
try:
    with st.container(horizontal_alignment="center"), st.container(width=920, gap="medium"), parts.calm():
        page.run()
finally:
    with parts.calm():
        state.keep()
