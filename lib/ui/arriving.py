"""A download on its way: how far it is, what happened, stop and go on. It runs without the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from lib import datasets, jobs
from lib.errors import AppError
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import explain, t

FILES = 4  # shown at once of those that are coming
TOLD = 8  # things that happened on the way, of the last fifty
# The errors that have a few words of their own: `fetch.why.KEY`.
WHYS = (
    *("no_connection", "timeout", "bounced", "not_a_hub", "server_error", "rate_limited", "corrupt"),
    *("file_not_found", "not_found", "gated", "forbidden", "bad_token"),
)


def ended(me: State) -> bool:
    """Return whether the download is over, well or not; one that is gone from the disk is forgotten."""
    try:
        return jobs.get(me.download).state in jobs.ENDED
    except AppError:
        me.download = ""
        st.rerun()


def watch(me: State) -> None:
    """Draw the download: how far it is, what happened on the way, stop and go on."""
    job = jobs.get(me.download)
    active = job.state not in jobs.ENDED

    @st.fragment(run_every=0.5 if active else None, key=f"download_{job.id}")
    def panel() -> None:
        now = jobs.get(job.id)
        if now.state == "done":
            me.download, me.found = "", None
            parts.choose_dataset(datasets.get((now.folder.result() or {})["dataset"]))
        if now.state != job.state:
            st.rerun()
        with st.container(border=True, key="download"):
            parts.card_title(parts.plain(now.name))
            status = now.folder.status()
            _bars(now, status)
            if now.state == "failed":
                parts.sorry(explain(now.error or {}))
            elif now.state == "stopped":
                st.caption(t("data.was_stopped"))
            else:
                st.caption(t("fetch.safe_to_close"))
            _told(status.get("told") or [])
            _buttons(me, now)

    panel()


def _bars(job: jobs.Job, status: dict[str, Any]) -> None:
    """Draw how far the whole is, and each file that is coming."""
    total, done = status.get("total") or 0, status.get("done", 0)
    if not total:
        if job.state not in jobs.ENDED:
            st.progress(0.0, t("data.waiting"))
        return
    facts = {name: status[name] for name in ("files_done", "files")} | {"done": done, "total": total}
    st.progress(min(1.0, done / total), t("fetch.of", **facts))
    if job.state in jobs.ENDED:
        return
    if status.get("pause"):
        st.caption(t("fetch.pause", seconds=status["pause"]))
    elif status.get("doing") == "waiting":
        st.caption(t("fetch.waiting_folder"))
    elif status.get("doing") == "checking":
        st.caption(t("fetch.checking"))
    else:
        said = t("fetch.speed", speed=status["speed"], host=parts.host(status.get("endpoint", "")))
        if status.get("left") is not None:
            said += " " + t("fetch.left", seconds=status["left"])
        st.caption(parts.literal(said))
    for file in (status.get("fetching") or ())[:FILES]:
        share = file["done"] / file["size"] if file["size"] else 0.0
        name = parts.plain(file["path"], 60)
        st.progress(min(1.0, share), f"{name} · {t('live.of', done=file['done'], total=file['size'])}")


def _told(told: Sequence[dict[str, Any]]) -> None:
    """Draw what happened on the way, the newest first."""
    if not told:
        return
    with st.expander(t("fetch.told_title", n=len(told)), icon=":material/history:", key="told"):
        for one in reversed(told[-TOLD:]):
            key = one["key"].removeprefix("hub.")
            why = t(f"fetch.why.{key}") if key in WHYS else key
            facts = {"file": one["file"], "host": parts.host(one["endpoint"]), "seconds": one["seconds"]}
            said = t(f"fetch.told.{one['what']}", why=why, **facts)
            st.caption(parts.literal(f"{t('fetch.after', seconds=one['at'])} {said}"))


def _buttons(me: State, job: jobs.Job) -> None:
    with st.container(horizontal=True):
        if job.state not in jobs.ENDED:
            if job.folder.stop_wanted():
                st.caption(t("jobs.stopping"))
            else:
                parts.stop(job.id)
            return
        if st.button(t("fetch.go_on"), type="primary", key=f"go_on_{job.id}", icon=":material/play_arrow:"):
            datasets.go_on(job.id, me.hub_token)
            st.rerun()
        if st.button(t("fetch.leave"), key=f"leave_{job.id}", icon=":material/close:"):
            me.download = ""
            st.rerun()
