"""The visitor's language on the page."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lib import words
from lib.errors import AppError
from lib.ui.state import state


def t(key: str, **facts: Any) -> str:
    """Return the sentence `key` in the visitor's language."""
    return words.say(state().lang, key, **facts)


def explain(error: AppError | dict[str, Any]) -> str:
    """Return an error's sentence in the visitor's language."""
    return words.explain(state().lang, error)


def language_switch() -> None:
    """Draw the language switch. Choosing a language keeps everything else as it is."""
    lang = st.segmented_control(
        t("frame.language"),
        list(words.languages()),
        format_func=words.languages().__getitem__,
        default=state().lang,
        required=True,
        label_visibility="collapsed",
        key="language",
    )
    if lang and lang != state().lang:
        state().lang = st.query_params["lang"] = lang
        st.rerun()
