"""The app: `streamlit run app.py`.

The script that draws every page's frame is `pages/frame.py`. It is not this file, because Streamlit 1.67
takes a folder `pages` beside the script it runs for its old way of finding pages, and greets whoever opens a
fresh server at /jobs (a restarted app's open tab, say) with "Page not found".
"""

import lib  # noqa: F401, I001  (it sets how many threads numpy takes, before anything loads numpy)
import streamlit as st

app = st.App("pages/frame.py")
