"""Which files of a dataset: its configs and splits, and the files in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from lib import datasets
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import t

TRAIN = "train"
ALL = "*"  # every split of a config
CROWD = 12  # files that are offered side by side; of more one is chosen from a list


def choose(me: State, dataset: datasets.Dataset) -> list[Path]:
    """Draw the choice of config, split and files where there is one; return the chosen files."""
    found = datasets.parts(dataset)
    configs = list(dict.fromkeys(part.config for part in found))
    me.config = parts.among(me.config, configs)
    several = [part for part in found if part.config == me.config]
    splits = [part.split for part in several]
    if len(configs) > 1 or len(splits) > 1:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            if len(configs) > 1:
                me.config = st.selectbox(
                    t("files.config"),
                    configs,
                    index=configs.index(me.config),
                    format_func=_named(configs).__getitem__,
                    help=t("files.config_help"),
                    key=f"config_{me.dataset}",
                    width=280,
                )
                several = [part for part in found if part.config == me.config]
                splits = [part.split for part in several]
            me.split = _split(me, splits)
    chosen = several if me.split == ALL else [part for part in several if part.split == me.split]
    chosen = chosen or several
    return _files(
        me, [path for part in chosen for path in part.files], mixed=any(part.mixed for part in chosen)
    )


def _split(me: State, splits: list[str]) -> str:
    """Draw the choice of a split; return it, or ALL."""
    if len(splits) < 2:
        return splits[0]
    ways = [*splits, ALL]
    usual = TRAIN if TRAIN in splits else ALL
    names = _named(splits) | {ALL: t("files.all_splits")}
    chosen = me.split if me.split in ways else usual
    key = f"split_{me.dataset}_{me.config}"
    if len(ways) > 5:
        return st.selectbox(
            t("files.split"),
            ways,
            index=ways.index(chosen),
            format_func=names.__getitem__,
            key=key,
            width=280,
        )
    return (
        st.segmented_control(
            t("files.split"), ways, default=chosen, required=True, format_func=names.__getitem__, key=key
        )
        or chosen
    )


def _files(me: State, paths: list[Path], *, mixed: bool) -> list[Path]:
    """Draw the choice of files, and which of them is shown; files that do not fit together begin as one."""
    known = {str(path): path for path in paths}
    mine = [
        name for name in known if Path(name).stem.endswith(f"-{me.lang}")
    ]  # the sample, in one's language
    usual = [*mine, *known][:1] if mixed else list(known)
    chosen = [name for name in me.files if name in known] or usual
    if len(known) > 1:
        names = parts.labels({name: path.name for name, path in known.items()})
        chosen = (
            st.multiselect(
                t("convert.files"),
                list(known),
                chosen,
                format_func=names.__getitem__,
                help=t("files.mixed_help") if mixed else None,
                key=f"files_{me.dataset}_{me.config}_{me.split}",
            )
            or usual
        )
        if mixed and len(chosen) == 1:
            st.caption(t("files.mixed", n=len(known)))
    me.files = chosen
    if me.shown_file not in chosen:
        here = [name for name in mine if name in chosen]
        me.shown_file, me.row, me.page = [*here, *chosen][0], 0, 1
    if len(chosen) > 1:
        tabs = parts.labels({name: known[name].name for name in chosen}, parts.plain)
        key = f"shown_file_{me.dataset}_{me.config}_{me.split}"
        if len(chosen) > CROWD:
            shown = st.selectbox(
                t("convert.shown"),
                chosen,
                index=chosen.index(me.shown_file),
                format_func=parts.labels({name: known[name].name for name in chosen}).__getitem__,
                key=key,
            )
        else:
            shown = st.segmented_control(
                t("convert.shown"),
                chosen,
                default=me.shown_file,
                required=True,
                format_func=tabs.__getitem__,
                key=key,
            )
        if shown and shown != me.shown_file:
            me.shown_file, me.row, me.page = shown, 0, 1
    return [known[name] for name in chosen]


def _named(names: Sequence[str]) -> dict[str, str]:
    """Return a label for each config or split; what has no name is called so."""
    return parts.labels({name: name or t("files.nameless") for name in names}, parts.plain)
