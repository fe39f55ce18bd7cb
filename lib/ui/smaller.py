"""The button that tries a run which was out of memory once more, with the next smaller settings."""

from __future__ import annotations

import streamlit as st

from lib import jobs, params
from lib.backends import local
from lib.ui.state import State
from lib.ui.words import t


def offer(me: State, job: jobs.Job) -> None:
    """Draw the button where it can help; the new run becomes the one that is watched."""
    settings = local.smaller(job)
    if not settings:
        return
    before = params.read(job.folder.asked())
    change = ", ".join(
        f"{t(f'param.{name}.name')} {params.PARAMS[name].show(value)}"
        for name, value in settings.items()
        if value != before.get(name)
    )
    said = t("jobs.smaller", change=change)
    if st.button(said, icon=":material/compress:", type="primary", key=f"smaller_{job.id}"):
        me.job = local.again_smaller(job).id
        st.rerun()
