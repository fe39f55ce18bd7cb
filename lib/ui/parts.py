"""The pieces more than one page draws: headings, cards, bubbles, errors that stay calm."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import streamlit as st

from lib import datasets, jobs, keys
from lib.chat import Conversation
from lib.errors import AppError
from lib.ui import nav
from lib.ui.state import state
from lib.ui.words import explain, t

LONG = 20_000  # characters of a text shown in full: more than anyone reads, and sent again with every rerun
TABLE_BUTTONS = 136  # pixels: five of them, of a table whose rows can be ticked (Streamlit 1.67)


def heading(page: str) -> None:
    """Draw a page's stepper, its title, one sentence, and the fold-out that explains its idea."""
    nav.stepper(page)
    with st.container(gap="small"):
        st.title(t(f"{page}.title"), anchor=False)
        st.markdown(t(f"{page}.lead"))
    with st.expander(t(f"{page}.idea_title"), icon=":material/lightbulb:"):
        st.markdown(t(f"{page}.idea"))


@contextmanager
def calm() -> Iterator[None]:
    """Show an `AppError` of the block as a sentence in place; any other exception is a bug and stays loud."""
    try:
        yield
    except AppError as error:
        trouble(error)


@contextmanager
def above_table() -> Iterator[None]:
    """Hold text right above a table clear of the buttons that the table shows there, at its right."""
    with st.container(horizontal=True, wrap=False):
        with st.container(gap="xsmall"):
            yield
        st.space(TABLE_BUTTONS)


def trouble(error: AppError | dict[str, Any]) -> None:
    """Show what went wrong, and what a platform answered word for word where it was one."""
    sorry(explain(error))
    facts = error.facts if isinstance(error, AppError) else error.get("facts") or {}
    if facts.get("raw"):
        with st.expander(t("frame.raw_answer"), icon=":material/data_object:"):
            st.code(str(facts["raw"]), language=None, wrap_lines=True)


def sorry(sentence: str) -> None:
    """Show what went wrong."""
    st.error(literal(sentence), icon=":material/error:")


def stop(job_id: str) -> None:
    """Draw the button that stops a job.

    It acts before the page runs: a part that ticks may begin the page anew and never come to its buttons.
    """

    def act() -> None:
        with calm():
            jobs.stop(job_id)

    st.button(t("jobs.stop"), icon=":material/stop:", key=f"stop_{job_id}", on_click=act)


def empty(icon: str, title: str, body: str, label: str, to: str) -> None:
    """Draw an empty state that leads to the step where things begin, and end the page there."""
    with st.container(border=True, horizontal_alignment="center", gap="small"):
        st.space("small")
        st.markdown(f":gray[:material/{icon}:]", text_alignment="center")
        st.markdown(f"**{title}**", text_alignment="center")
        st.caption(body, text_alignment="center")
        if st.button(label, type="primary", key=f"empty_{to}"):
            nav.go(to)
        st.space("small")
    st.stop()


def card_title(text: str, caption: str = "") -> None:
    """Draw the title of a card, with a line of explanation under it."""
    with st.container(gap="xsmall"):
        st.header(text, anchor=False)
        if caption:
            st.caption(caption)


def bubbles(conversation: Conversation) -> None:
    """Draw a conversation as chat bubbles. The text is shown as it is: nothing in it is interpreted."""
    for message in conversation.messages:
        with st.chat_message(message.role, avatar=_AVATARS.get(message.role)):
            st.caption(t(f"role.{message.role}"))
            st.text(message.content[:LONG])


def numbers(*pairs: tuple[str, str]) -> None:
    """Draw label and value pairs as tiles in a row that wraps."""
    with st.grid(len(pairs), min_column_width=150):
        for label, value in pairs:
            st.metric(label, value, border=True, height="stretch")


def plain(text: str, most: int = 80) -> str:
    """Return text for a label that is Markdown: one line, at most `most` characters, taken as it is."""
    return literal(short(text, most))


def short(text: str, most: int = 80) -> str:
    """Return text on one line, cut to at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def labels(names: Mapping[str, str], show: Callable[[str], str] = short) -> dict[str, str]:
    """Return a label for each id, from the oldest name to the newest: a name that returns gets a number.

    Streamlit 1.67 tells the options of a widget apart by their labels, so two alike would be one. `show` is
    `plain` for widgets whose labels are Markdown (radio, segmented control), `short` for the others.
    """
    given: dict[str, str] = {}
    for one, name in names.items():
        label, count = show(name), 1
        while label in given.values():
            count += 1
            label = show(f"{name} {count}")
        given[one] = label
    return given


def among(value: str, options: Sequence[str]) -> str:
    """Return a remembered value if it is still one of the options, else the first of them."""
    return value if value in options else options[0]


def literal(text: str) -> str:
    """Return text that Markdown shows as it is. Data may hold links and images, which must not be fetched."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~$&:-])", r"\\\1", text)


def host(endpoint: str) -> str:
    """Return an endpoint as people call it: `hf-mirror.com`."""
    return endpoint.partition("//")[2]


def secret(variable: str, typed: str, whose: str, server: str = "") -> str:
    """Return a key found on this computer, or draw a field to type it for this visit; it is never written.

    A field is for one `server`: what was typed for it must not stand in the field of another.
    """
    known, where = keys.find(variable)
    if known:
        st.caption(t(f"frame.key_{where}", variable=variable))
        return known
    help_text = t("frame.key_help", variable=variable)
    label = t("frame.key_of", whose=whose)
    return st.text_input(label, typed, type="password", help=help_text, key=f"key_{variable}{server}")


def choose_dataset(dataset: datasets.Dataset) -> None:
    """Make a dataset the visitor's, and begin its conversion from what is found in it."""
    state().begin(dataset.id)
    st.rerun()


def dataset_caption(dataset: datasets.Dataset) -> str:
    """Return where a dataset came from, in a few words."""
    return t(f"data.was_{dataset.source}", where=literal(dataset.repo or ", ".join(dataset.files[:2])))


def command(shell: str, script: str = "", name: str = "") -> None:
    """Draw the fold-out with the command line that does what this page did.

    Beside it, where there is one, a script of its own that does the same, to be kept as the file `name`.
    """
    scripts = [(t("frame.script_tab"), t("frame.script"), name, script)] if script else []
    commands(shell, scripts)


def commands(shell: str, scripts: Sequence[tuple[str, str, str, str]]) -> None:
    """Draw the fold-out with a command line and texts beside it: each its tab, a caption, file name, text."""
    title = t("frame.code_title") if scripts else t("frame.command_title")
    with st.expander(title, icon=":material/terminal:", key="code"):
        labels = [t("frame.command_tab"), *(tab for tab, *_ in scripts)]
        tabs = st.tabs(labels) if scripts else [st.container()]
        with tabs[0]:
            st.caption(t("frame.command"))
            st.code(shell, language=None, wrap_lines=True)  # the colours of bash are too pale to be read
        for tab, (_, caption, name, text) in zip(tabs[1:], scripts, strict=True):
            with tab:
                st.caption(caption)
                st.download_button(
                    name,
                    text,
                    name,
                    "text/plain",
                    on_click="ignore",
                    icon=":material/download:",
                    key="script" if len(scripts) == 1 else f"script_{name}",
                )
                language = "python" if name.endswith(".py") else None
                st.code(text, language=language, wrap_lines=True)


_AVATARS = {
    "system": ":material/settings:",
    "user": ":material/person:",
    "assistant": ":material/auto_awesome:",
}
