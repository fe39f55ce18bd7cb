"""Keeping rows back, writing, and what became of every row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lib import conversions, edits, outputs, records, script
from lib.convert import Request
from lib.errors import AppError
from lib.examine import Examination
from lib.ui import mend, parts
from lib.ui.state import State
from lib.ui.words import t

DOWNLOAD_LIMIT = 200_000_000  # bytes; a download passes through the app's memory
OURS = ("train.jsonl", "validation.jsonl", "set_aside.jsonl", "manifest.json")


def choices(me: State, request: Request, columns: list[str], seen: Examination | None) -> Request:
    """Draw how many rows are kept back and by what they are chosen, and what else is written.

    Return the request with all of that.
    """
    percent = st.slider(
        t("convert.validation"), 0, 30, round(me.validation * 100), 5, format="%d %%", key="validation"
    )
    me.validation = percent / 100
    st.markdown(_sentence(me, seen))
    with st.expander(t("ledger.more"), icon=":material/tune:", key="split_more"):
        with st.grid(2, min_column_width=240):
            ways = ["", *columns]
            labels = parts.labels({name: name for name in columns})
            me.group = st.selectbox(
                t("ledger.group"),
                ways,
                index=ways.index(parts.among(me.group, ways)),
                format_func=lambda name: labels[name] if name else t("ledger.by_question"),
                help=t("ledger.group_help"),
                key=f"group_{me.dataset}",
            )
            me.split_seed = int(
                st.number_input(
                    t("param.seed.name"),
                    0,
                    2**31 - 1,
                    me.split_seed,
                    1,
                    help=t("ledger.seed_help"),
                    key="split_seed",
                )
            )
        known = [name for name in outputs.OUTPUTS if name != "messages"]
        me.also = st.multiselect(
            t("ledger.also"),
            known,
            [name for name in me.also if name in known],
            format_func=lambda name: t(f"output.{name}"),
            help=t("ledger.also_help"),
            placeholder=t("ledger.also_none"),
            key="also",
        )
        _leaked(request)
    return replace(request, validation=me.validation, seed=me.split_seed, group=me.group, also=tuple(me.also))


def program(me: State, request: Request) -> tuple[str, str]:
    """Return the script that repeats a conversion without FirstTune, and its name; "" where there is none."""
    try:
        shapes = [records.sniff(path) for path in request.files]
        return script.independent(request, shapes, me.lang), "convert.py"
    except AppError:
        return "", ""


def written(me: State, manifest: dict[str, Any]) -> None:
    """Draw what became of every row of a conversion, and its files."""
    counts = manifest["counts"]
    with st.container(border=True, key="ledger"):
        parts.card_title(t("convert.ledger_title"), t("convert.ledger"))
        parts.numbers(
            *(
                (t(f"convert.count_{name}"), f"{counts[name]:,}")
                for name in ("read", "train", "validation", "set_aside")
            )
        )
        st.caption(t("convert.adds_up", **counts))
        _table("reasons", t("convert.reason"), {mend.brief(k): n for k, n in counts["reasons"].items()})
        _table(
            "warnings", t("ledger.warning"), {mend.brief(k): n for k, n in counts.get("warnings", {}).items()}
        )
        mended = {t(f"fix.{name}"): n for name, n in counts.get("mended", {}).items()}
        if counts.get("edited"):
            mended = {t("ledger.edited"): counts["edited"]} | mended
        _table("mended", t("ledger.mended"), mended)
        _downloads(conversions.folder(me.conversion))


def _leaked(request: Request) -> None:
    """Draw the button that takes validation rows out whose question is nearly one of the training file's."""
    patch = edits.load(request.edits)
    if "drop_leaked" in patch.fixes:
        st.caption(t("ledger.leaked_on"))
    elif st.button(t("ledger.leaked"), icon=":material/content_cut:", type="tertiary", key="leaked"):
        patch.add({"fix": "drop_leaked"})
        st.rerun()


def _sentence(me: State, seen: Examination | None) -> str:
    """Say what the validation share means for the chosen files."""
    if seen is None:
        return t("ledger.share", share=me.validation) if me.validation else t("ledger.share_none")
    kept = round(seen.good * me.validation)
    if not kept:
        return t("convert.split_none", rows=seen.good)
    return t("convert.split_sentence", rows=seen.good, train=seen.good - kept, kept=kept)


def _table(key: str, title: str, counts: dict[str, int]) -> None:
    if counts:
        rows = [{title: parts.short(name, 120), t("convert.rows"): n} for name, n in counts.items()]
        st.dataframe(pd.DataFrame(rows), hide_index=True, key=key)


def _downloads(folder: Path) -> None:
    """Draw a button for each file that can be fetched with one, and say where all of them are."""
    found = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    names = [*(name for name in OURS if name in found), *(name for name in found if name not in OURS)]
    small = [name for name in names if found[name].stat().st_size <= DOWNLOAD_LIMIT]
    with st.container(horizontal=True):
        for name in small:
            st.download_button(
                parts.plain(name),
                data=found[name].read_bytes,
                file_name=name.replace("/", "-"),
                on_click="ignore",
                icon=":material/download:",
                key=f"get_{name}",
            )
    if len(small) < len(names):
        large = ", ".join(name for name in names if name not in small)
        st.caption(t("ledger.large", names=parts.literal(large), most=DOWNLOAD_LIMIT))
    st.caption(t("convert.saved", folder=parts.literal(str(folder))))
