"""Getting a dataset from the Hub or ModelScope: ask, look around, choose, fetch, watch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from lib import datasets, hub, script, workspace
from lib.errors import AppError, UsageError
from lib.hub.look import converted, look
from lib.ui import arriving, parts, table
from lib.ui.state import Found, State
from lib.ui.words import explain, t

Color = Literal["gray", "blue", "green", "red", "orange"]
CHOICES = ("data", "all", "own")
# More files than this are chosen by patterns: nobody ticks a thousand names, and each is sent to the page.
TICKED = 200
LISTED = 500  # files shown in the table of what will be fetched
LOOKED_AT = 20  # rows
USABLE: dict[bool, Color] = {True: "green", False: "red"}


def repository(me: State) -> None:
    """Draw all of it, or the download while there is one; at its end its dataset is the visitor's."""
    if me.download:
        if arriving.ended(me):
            token_box(me)  # it may be what was missing
        arriving.watch(me)
        return
    me.hub_text = st.text_input(t("data.hub_text"), me.hub_text, key="hub_text")
    _way(me)
    asked = st.button(t("data.list"), key="list_files", icon=":material/list:")
    if asked:
        _ask(me)
    if me.found:
        _doctor(me, me.found)
        if me.found.listing:
            _offer(me, me.found, me.found.listing)


def _way(me: State) -> None:
    """Draw the choice of the endpoint, and the token."""
    choices = ("auto", *hub.ENDPOINTS, "own")
    names = {"auto": t("fetch.auto"), "own": t("data.endpoint_own")}
    me.endpoint = st.selectbox(
        t("data.endpoint"),
        choices,
        index=choices.index(parts.among(me.endpoint, choices)),
        format_func=lambda url: names.get(url) or url.partition("//")[2],
        help=t("data.endpoint_help"),
        key="endpoint",
    )
    if me.endpoint in ("auto", "own"):
        label = t("data.own_endpoint") if me.endpoint == "own" else t("fetch.also_try")
        me.own_endpoint = st.text_input(
            label, me.own_endpoint, placeholder="https://…", key="own_endpoint"
        ).strip()
    token_box(me)


def token_box(me: State) -> None:
    """Draw where a token is typed for this visit, and who may see it."""
    with st.expander(t("fetch.token_title"), icon=":material/key:", key="token_box"):
        if hub.token_from_environment():
            st.caption(t("fetch.token_found"))
        me.hub_token = st.text_input(
            t("fetch.token"),
            me.hub_token,
            type="password",
            placeholder="hf_…",
            help=t("fetch.token_help"),
            key="hub_token",
        ).strip()
        me.token_anywhere = st.checkbox(t("fetch.anywhere"), me.token_anywhere, key="token_anywhere")


def token(me: State) -> str | None:
    """Return the token of this visit: the one typed, else the one this computer has."""
    return me.hub_token or hub.token_from_environment()


def _ask(me: State) -> None:
    """Visit the endpoints, then ask the best of them what there is."""
    me.found = None
    ref = hub.parse(me.hub_text)
    if ref.kind != "dataset":
        raise UsageError("dataset.is_model", repo=ref.repo)
    endpoints: tuple[str, ...] = hub.SITES[ref.site]
    if me.endpoint == "own" or (me.endpoint != "auto" and ref.site == "hub"):
        endpoints = (me.endpoint_url,)
    elif ref.site == "hub" and me.own_endpoint:
        endpoints = (*endpoints, me.own_endpoint)
    way: dict[str, Any] = {"token": token(me), "anywhere": me.token_anywhere}
    with st.spinner(t("doctor.examining")):
        visits = hub.examine(ref, endpoints, **way)
    order = hub.ranked(visits)
    found = Found(ref, tuple(visits), tuple(order))
    if order:
        with st.spinner(t("data.listing", endpoint=order[0])):
            found.listing = hub.list_files(ref, order[0], **way)
            found.card = hub.card(found.listing, **way)
    me.found = found


def _doctor(me: State, found: Found) -> None:
    """Draw what each endpoint did, and which will be used; folded away where all is well."""
    well = bool(found.order) and found.visits[0].verdict == "fast"
    title = t("doctor.title")
    if found.order:
        title = t("fetch.through", site=t(f"site.{found.ref.site}"), host=parts.host(found.order[0]))
    with st.expander(title, icon=":material/stethoscope:", expanded=not well, key=f"doctor_{well}"):
        tried = next((visit for visit in found.visits if visit.file), None)
        if tried:
            st.caption(t("doctor.tried", file=parts.literal(tried.file), size=tried.size))
        for visit in found.visits:
            _visit(visit)
        if found.order:
            st.markdown(t("doctor.will_use", endpoint=parts.literal(parts.host(found.order[0]))))
            others = t("look.comma").join(parts.literal(parts.host(one)) for one in found.order[1:])
            st.caption(t("doctor.then", endpoints=others) if others else t("doctor.no_other"))
    if not found.order:
        offline = hub.all_offline(found.visits)
        st.warning(t("doctor.all_offline" if offline else "doctor.nothing"), icon=":material/cloud_off:")
        with st.container(horizontal=True):
            if st.button(t("data.sample_use"), key="offline_sample", icon=":material/local_cafe:"):
                parts.choose_dataset(datasets.sample())
            for source in ("upload", "path"):
                if st.button(t(f"fetch.instead_{source}"), key=f"offline_{source}"):
                    me.source = source
                    me.sources += 1
                    st.rerun()


def _visit(visit: hub.Visit) -> None:
    """Draw what happened at one endpoint."""
    key, facts = visit.told()
    with st.container(gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{parts.literal(parts.host(visit.endpoint))}**", width="content")
            color: Color = "orange" if visit.verdict in ("slow", "bounces") else USABLE[visit.usable]
            st.badge(t(f"doctor.verdict.{visit.verdict}"), color=color)
            if visit.behind:
                st.badge(t("doctor.behind"), color="orange")
        told = [t(key, **facts)]
        if visit.behind:
            told.append(t("doctor.say_behind", commit=visit.commit[:8]))
        st.caption(parts.literal(" ".join(told)))


def _offer(me: State, found: Found, listing: hub.Listing) -> None:
    """Draw what there is, the choice of files, a look into them, and the button that fetches."""
    with st.container(border=True, key="repository"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{parts.literal(listing.ref.repo)}**", width="content")
            st.badge(t(f"site.{listing.ref.site}"), color="blue")
            if listing.gated:
                st.badge(t("fetch.gated"), color="orange", icon=":material/lock:")
        st.caption(
            t(
                "data.listed",
                n=len(listing.files),
                size=listing.size,
                license=parts.literal(listing.license) or t("data.no_license"),
                commit=listing.commit[:8],
                revision=parts.literal(listing.ref.revision),
            )
        )
        if found.card:
            st.caption("  \n".join(map(parts.literal, filter(None, found.card.splitlines()))))
        picked = _picked(listing)
        _listed(picked)
        _first_rows(me, found, listing, picked)
        _button(me, found, listing, picked)
    _code(listing, picked)


def _picked(listing: hub.Listing) -> list[hub.RemoteFile]:
    """Draw the choice of files: the data files, all, or by patterns and names."""
    these = f"{listing.ref.repo}_{listing.commit}"
    suggested = hub.suggest(listing)
    sizes = {"data": suggested, "all": list(listing.files)}
    names = {
        way: t(f"fetch.choose_{way}", n=len(files), size=sum(file.size for file in files))
        for way, files in sizes.items()
    } | {"own": t("fetch.choose_own")}
    way = st.radio(t("data.pick"), CHOICES, format_func=names.__getitem__, key=f"choose_{these}") or "data"
    if way != "own":
        return sizes[way]
    left, right = st.columns(2)
    include = left.text_input(
        t("fetch.include"), placeholder="data/*, *.jsonl", help=t("fetch.patterns_help"), key=f"in_{these}"
    )
    exclude = right.text_input(t("fetch.exclude"), placeholder="*test*", key=f"out_{these}")
    matching = hub.select(listing.files, _patterns(include), _patterns(exclude))
    if len(matching) > TICKED:
        st.caption(t("fetch.too_many_to_tick", n=len(matching), most=TICKED))
        return matching
    by_path = {file.path: file for file in matching}
    labels = {path: t("data.file", path=path, size=file.size) for path, file in by_path.items()}
    ticked = st.multiselect(
        t("fetch.tick"),
        list(by_path),
        [path for path in by_path if hub.is_data(path)] or list(by_path),
        format_func=labels.__getitem__,
        key=f"tick_{these}_{include}_{exclude}",
    )
    return [by_path[path] for path in ticked]


def _patterns(text: str) -> list[str]:
    """Return the patterns in what was typed, parted by commas, full-width ones too, or blanks."""
    return text.replace("\uff0c", " ").replace("\u3001", " ").replace(",", " ").split()


def _listed(picked: Sequence[hub.RemoteFile]) -> None:
    """Draw the files that will be fetched."""
    rows = [
        {t("fetch.file"): parts.short(file.path, 200), t("fetch.size"): t("fetch.bytes", size=file.size)}
        for file in picked[:LISTED]
    ]
    if len(picked) > 1:
        st.dataframe(pd.DataFrame(rows), hide_index=True, height=min(220, 36 + 35 * len(rows)), key="picked")
        if len(picked) > LISTED:
            st.caption(t("fetch.more_files", n=len(picked) - LISTED))


def _first_rows(me: State, found: Found, listing: hub.Listing, picked: Sequence[hub.RemoteFile]) -> None:
    """Draw the button that looks into a file, and what was seen."""
    known = {file.path: file for file in picked if hub.is_data(file.path)} or {
        file.path: file for file in picked[:TICKED]
    }
    if not known:
        return
    path = next(iter(known))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(known) > 1:
            path = st.selectbox(
                t("fetch.look_at"),
                list(known)[:TICKED],
                format_func=lambda name: parts.short(name, 60),
                key=f"look_at_{listing.commit}",
                width="stretch",
            )
        pressed = st.button(t("first_rows.button"), icon=":material/visibility:", key="look")
    if pressed:
        with st.spinner(t("first_rows.looking", file=parts.literal(path))), parts.calm():
            found.looks[path] = _looked(me, listing, known[path])
    seen = found.looks.get(path)
    if not seen:
        return
    copied = seen.file.path != path
    with parts.above_table():
        st.markdown(f"**{t('first_rows.title', file=parts.plain(path))}**")
        if copied:
            st.caption(t("first_rows.converted"))
    if seen.rows:
        st.dataframe(table.frame(seen.rows), hide_index=True, height=320, key=f"first_{path}")
    said = [t("first_rows.fetched", fetched=seen.fetched, size=seen.size)]
    if seen.note == "columns":
        said.append(t("first_rows.columns", names=t("look.comma").join(seen.left_out)))
    elif seen.note:
        said.append(t(f"first_rows.{seen.note}"))
    if seen.rows:
        said.append(t("first_rows.whole") if seen.whole else t("first_rows.more", n=len(seen.rows)))
    st.caption(parts.literal(" ".join(said)))


def _looked(me: State, listing: hub.Listing, file: hub.RemoteFile) -> Any:
    """Look into a file; where its kind cannot be read in part, into the Hub's own copy of the dataset."""
    way: dict[str, Any] = {"token": token(me), "anywhere": me.token_anywhere}
    try:
        return look(listing, file, rows=LOOKED_AT, **way)
    except AppError as error:
        if error.key != "hub.look_unknown":
            raise
        copy = converted(listing.ref, listing.endpoint, **way)
        if copy is None or not copy.files:
            raise
        return look(copy, copy.files[0], rows=LOOKED_AT, **way)


def _button(me: State, found: Found, listing: hub.Listing, picked: Sequence[hub.RemoteFile]) -> None:
    """Draw what stands in the way, the space on the disk, and the button that fetches."""
    home = workspace.room("datasets")
    problems = hub.preflight(listing, picked, home / "new" / "files")
    for problem in problems[:5]:
        if problem.key in hub.WARNINGS:
            st.warning(parts.literal(explain(problem)), icon=":material/warning:")
        else:
            parts.sorry(explain(problem))
    if len(problems) > 5:
        st.caption(t("fetch.more_problems", n=len(problems) - 5))
    size = sum(file.size for file in picked)
    st.caption(t("fetch.space", free=workspace.free_bytes(home)))
    blocked = not picked or any(problem.key not in hub.WARNINGS for problem in problems)
    known = datasets.fetched(listing, picked)
    if known:
        if st.button(t("fetch.use_known"), type="primary", icon=":material/check:", key="use_known"):
            parts.choose_dataset(known)
        return
    label = t("data.fetch", n=len(picked), size=size)
    if st.button(label, type="primary", disabled=blocked, icon=":material/download:", key="fetch"):
        me.download = datasets.fetch(
            listing,
            picked,
            others=found.order[1:],
            token=me.hub_token,
            anywhere=me.token_anywhere,
        ).id
        st.rerun()


def _code(listing: hub.Listing, picked: Sequence[hub.RemoteFile]) -> None:
    """Draw the code that fetches the same: ours, the site's own program, Python."""
    if not picked:
        return
    folder = Path(listing.ref.repo.rpartition("/")[2])
    site = listing.ref.site
    codes = (
        ("ours", script.download(listing, picked, folder)),
        (site, script.hf_download(listing, picked, folder)),
        ("python", script.python_download(listing, picked, folder)),
    )
    with st.expander(t("fetchcode.title"), icon=":material/terminal:", key="code"):
        for tab, (name, code) in zip(
            st.tabs([t(f"fetchcode.{name}") for name, _ in codes]), codes, strict=True
        ):
            with tab:
                st.caption(t(f"fetchcode.{name}_help"))
                st.code(code, language="python" if name == "python" else None, wrap_lines=True)
        if site == "hub" and listing.endpoint != hub.ENDPOINTS[0]:
            st.caption(t("fetchcode.mirror"))
            st.caption(t("fetchcode.windows", endpoint=listing.endpoint))
        st.caption(t("fetchcode.token" if site == "hub" else "fetchcode.token_modelscope"))
        if site == "hub":
            st.markdown(f"**{t('fetchcode.old_title')}**")
            st.caption(t("fetchcode.old"))
