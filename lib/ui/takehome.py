"""Take the tuned model home: the folder, the zip, merged weights, the Modelfile, the code that loads it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st

from lib import jobs, script, takehome
from lib.errors import AppError
from lib.ui import fetch, parts
from lib.ui.state import State
from lib.ui.words import explain, t

ACTIVE = ("queued", "running")


def panel(me: State, job: jobs.Job) -> None:
    """Draw what a job's model can be taken home as."""
    out = takehome.packed(job)
    with st.container(border=True):
        parts.card_title(t("takehome.title"), t("takehome.what"))
        if st.button(t("takehome.pack"), type="primary", icon=":material/inventory_2:", key="pack"):
            try:
                out = takehome.pack(job, lang=me.lang)
            except AppError as error:
                parts.sorry(explain(error))
        if out is None:
            return
        st.markdown(t("takehome.lies"))
        st.code(str(out), language=None, wrap_lines=True)
        st.download_button(
            t("takehome.zip"),
            lambda: takehome.zipped(out).read_bytes(),
            f"{job.id}.zip",
            "application/zip",
            on_click="ignore",
            icon=":material/download:",
            key="zip",
        )
    if (out / "adapter").is_dir():
        _merged(job, out)
    _uploaded(me, job, out)
    with st.container(border=True):
        parts.card_title(t("takehome.load_title"), t("takehome.load"))
        known = ("load_adapter.py", "load_merged.py", "Modelfile", "README.md")
        names = [name for name in known if (out / name).is_file()]
        for tab, name in zip(st.tabs(names), names, strict=True):
            with tab:
                st.caption(t(f"takehome.{name.partition('.')[0].lower()}"))
                if name == "Modelfile":
                    _modelfile(job)
                text = (out / name).read_text(encoding="utf-8")
                st.code(text, language="python" if name.endswith(".py") else None, wrap_lines=True)


def _merged(job: jobs.Job, out: Path) -> None:
    def share(status: dict[str, Any]) -> tuple[float, str]:
        phase = status.get("phase", "waits")
        return _SHARES.get(phase, 0.0), t(f"takehome.merge_{phase}")

    def rest(_one: jobs.Job | None) -> None:
        if (out / "merged").is_dir():
            size = sum(path.stat().st_size for path in (out / "merged").iterdir())
            st.markdown(t("takehome.merged_there", size=size))
            st.code(str(out / "merged"), language=None, wrap_lines=True)
        elif st.button(t("takehome.merge_start"), icon=":material/merge:", key="merge"):
            takehome.merge(job, out)
            st.rerun()

    _work("merge", partial(takehome.merging, job), share, rest)


def _uploaded(me: State, job: jobs.Job, out: Path) -> None:
    def share(status: dict[str, Any]) -> tuple[float, str]:
        done, total = status.get("done", 0), status.get("total", 0)
        said = t(f"takehome.upload_{status.get('phase', 'waits')}", done=done, total=total)
        return done / total if total else 0.0, said

    def rest(one: jobs.Job | None) -> None:
        if one and one.state == "done":
            st.markdown(t("takehome.uploaded", page=(one.folder.result() or {})["page"]))
        _upload_form(me, job, out)
        st.caption(t("takehome.hub_command"))
        st.code(script.upload(job), language=None, wrap_lines=True)

    _work("hub", partial(takehome.uploading, job), share, rest)


def _work(
    name: str,
    current: Callable[[], jobs.Job | None],
    share: Callable[[dict[str, Any]], tuple[float, str]],
    rest: Callable[[jobs.Job | None], None],
) -> None:
    """Draw the card of a job made of this one: how far it is, and where none is under way the `rest`.

    `share` says of the job's status how much is done, and that in words.
    """
    now = current()
    active = now is not None and now.state in ACTIVE

    @st.fragment(run_every=1.0 if active else None, key=f"takehome_{name}")
    def part() -> None:
        one = current()
        with st.container(border=True):
            parts.card_title(t(f"takehome.{name}_title"), t(f"takehome.{name}"))
            if one and one.state in ACTIVE:
                st.progress(*share(one.folder.status()))
                parts.stop(one.id)
                return
            if active:
                st.rerun()  # without the timer
            if one and one.state == "failed":
                parts.sorry(explain(one.error or {}))
            rest(one)

    part()


def _upload_form(me: State, job: jobs.Job, out: Path) -> None:
    left, right = st.columns(2)
    me.upload_repo = left.text_input(
        t("takehome.repo"), me.upload_repo, placeholder="you/name", key="upload_repo"
    ).strip()
    me.upload_endpoint = right.text_input(
        t("data.endpoint"), me.upload_endpoint, help=t("takehome.endpoint_help"), key="upload_endpoint"
    ).strip()
    me.upload_public = st.checkbox(t("takehome.public"), me.upload_public, key="upload_public")
    fetch.token_box(me)
    wished = st.button(
        t("takehome.upload"), icon=":material/upload:", disabled=not me.upload_repo, key="upload"
    )
    if wished:
        way = {"anywhere": me.token_anywhere, "private": not me.upload_public}
        try:
            takehome.upload(job, out, me.upload_repo, me.upload_endpoint, token=fetch.token(me), **way)
        except AppError as error:
            parts.sorry(explain(error))
            return
        st.rerun()


def _modelfile(job: jobs.Job) -> None:
    made = takehome.modelfile(job)
    if not made.translated:
        st.warning(t("takehome.untranslated"), icon=":material/translate:")
    if not made.read:
        st.warning(t("takehome.gguf"), icon=":material/transform:")
    if job.folder.asked()["model"]["kind"] == "practice":
        st.caption(t("takehome.modelfile_practice"))


_SHARES = {"loading": 0.2, "merging": 0.5, "saving": 0.7}
