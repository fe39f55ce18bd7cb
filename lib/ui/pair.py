"""Two voices side by side: the base model and the tuned one, asked the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from lib import backends, jobs, talk
from lib.chat import Message
from lib.errors import AppError
from lib.ui import parts
from lib.ui.state import State, Turn
from lib.ui.words import explain, t

Voice = Callable[[list[Message]], Iterator[str]]
OFFERED = 6  # validation questions to click; more crowd out the answers


@dataclass(frozen=True, slots=True)
class Voices:
    """How to reach the two models, and the system prompt both are given."""

    base: Voice
    tuned: Voice
    system: str


def ready(job: jobs.Job) -> bool:
    """Return whether there is a tuned model to talk to."""
    result = job.folder.result() or {}
    return bool(result.get("adapter") or result.get("tuned_model"))


def voices(job: jobs.Job, me: State) -> Voices | None:
    """Return the two voices of a job; draws what is needed first (a key), and None until it is given."""
    system = str(job.folder.asked().get("system", ""))
    if job.backend == "local":
        pair = _loaded(str(job.folder.path))

        def local(which: str) -> Voice:
            return lambda messages: pair.reply(which, messages, temperature=me.temperature)

        return Voices(local("base"), local("tuned"), system)
    backend = backends.BACKENDS[job.backend]
    me.api_key = parts.secret(backend.key_variable, me.api_key)
    if not me.api_key:
        return None

    def remote(which: str) -> Voice:
        return lambda messages: backend.chat(job, which, messages, key=me.api_key, temperature=me.temperature)

    return Voices(remote("base"), remote("tuned"), system)


def offered(job: jobs.Job) -> str | None:
    """Draw the validation questions as buttons; return the one that was pressed."""
    questions = jobs.validation_questions(job, OFFERED)
    if not questions:
        return None
    pressed = None
    with st.container(border=True):
        parts.card_title(t("compare.offered_title"), t("compare.offered"))
        with st.container(horizontal=True, gap="small"):
            for number, question in enumerate(questions):
                if st.button(parts.plain(question), key=f"offered_{number}"):
                    pressed = question
    return pressed


def answers(job: jobs.Job, voices: Voices | None, me: State, question: str | None) -> None:
    """Draw the talk so far, newest first, and stream both answers to `question`."""
    turns = me.turns.setdefault(job.id, [])
    if question and voices:
        turns.append(Turn(question))
    for number in range(len(turns) - 1, -1, -1):
        turn = turns[number]
        with st.container(border=True, key=f"turn_{number}"):
            with st.chat_message("user", avatar=":material/person:"):
                st.text(turn.question)
            left, right = st.columns(2, gap="medium")
            for column, which in ((left, "base"), (right, "tuned")):
                with column:
                    st.caption(t(f"compare.{which}"))
                    with st.chat_message("assistant", avatar=":material/auto_awesome:"):
                        if getattr(turn, which) or voices is None:
                            st.text(getattr(turn, which))
                        else:
                            _speak(voices, turns, number, which, me)
    if turns and st.button(t("compare.clear"), type="tertiary", icon=":material/delete:", key="clear"):
        turns.clear()
        st.rerun()


def _speak(voices: Voices, turns: list[Turn], number: int, which: str, me: State) -> None:
    messages = [Message("system", voices.system)] if voices.system else []
    for earlier in turns[:number] if me.memory else []:
        messages += [Message("user", earlier.question), Message("assistant", getattr(earlier, which))]
    messages.append(Message("user", turns[number].question))
    spot = st.empty()
    spot.caption(t("compare.loading"))
    answer = ""
    try:
        # st.text, never Markdown: an answer may hold links and images that must not be fetched
        for piece in getattr(voices, which)(messages):
            answer += piece
            spot.text(answer)
    except AppError as error:
        del turns[number:]
        parts.sorry(explain(error))
        return
    # kept only when whole: whoever clicks on in mid-answer gets it asked again
    setattr(turns[number], which, answer if answer.strip() else t("compare.silent"))
    spot.text(getattr(turns[number], which))


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda pair: pair.close())
def _loaded(folder: str) -> talk.Talk:
    return talk.Talk(Path(folder))
