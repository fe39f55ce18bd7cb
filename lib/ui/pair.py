"""Two or three voices side by side: the base model and what was tuned from it, asked the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import streamlit as st

from lib import backends, jobs, judge, talk, votes
from lib.chat import Message
from lib.errors import AppError
from lib.ui import parts, platform
from lib.ui.state import State, Turn
from lib.ui.words import t

OFFERED = 6  # validation questions to click; more crowd out the answers
UNSURE = 0.05  # a lead that chance alone gives as often as this proves nothing
LENGTHS = (32, 64, 128, 256, 512, 1024)  # tokens of an answer


@dataclass(frozen=True, slots=True)
class Voice:
    """One model to ask. `key` is its name in a turn and in a vote: a job's id, or "base".

    `own`: the validation rows offered are its own, so their system prompts are those it was trained with.
    """

    key: str
    label: str
    system: str
    own: bool
    ask: Callable[[list[Message]], Iterator[str]]


def ready(job: jobs.Job) -> bool:
    """Return whether there is a tuned model to talk to."""
    place = backends.BACKENDS.get(job.backend)
    if isinstance(place, backends.Remote) and not place.answers:
        return False
    return bool(talk.tuned(job.folder) or (job.folder.result() or {}).get("tuned_model"))


def chosen(
    me: State, runs: Mapping[str, jobs.Job], names: Mapping[str, str]
) -> tuple[jobs.Job, jobs.Job | None]:
    """Draw the choice of one job, and of another to compare with; return both."""
    ids = list(runs)
    left, right = st.columns(2)
    with left:
        me.job = st.selectbox(
            t("compare.job"),
            ids,
            index=ids.index(me.job) if me.job in ids else 0,
            format_func=names.__getitem__,
            key="compare_job",
        )
    others = ["", *(one for one in ids if one != me.job)]
    if len(others) == 1:
        return runs[me.job], None
    with right:
        me.other = st.selectbox(
            t("compare.other"),
            others,
            index=others.index(me.other) if me.other in others else 0,
            format_func=lambda one: names[one] if one else t("compare.no_other"),
            help=t("compare.other_help"),
            key=f"compare_other_{me.job}",
        )
    return runs[me.job], runs.get(me.other)


def voices(
    me: State, first: jobs.Job, second: jobs.Job | None, names: Mapping[str, str]
) -> list[Voice] | None:
    """Return the base model, the first and the second tuned one; of the base there is one, the first's.

    Draws what is needed first (a key), and returns None until it is given.
    """
    jobs_here = [first, *([second] if second else [])]
    if not all(platform.key_of(me, job) for job in jobs_here if job.backend != "local"):
        return None
    found = []
    for job, which in ((first, "base"), (first, "tuned"), *([(second, "tuned")] if second else [])):
        label = t("compare.base") if which == "base" else names[job.id] if second else t("compare.tuned")
        system = str(job.folder.asked().get("system", ""))
        found.append(
            Voice(
                votes.BASE if which == "base" else job.id, label, system, job is first, _ask(me, job, which)
            )
        )
    return found


def sampling(me: State, first: jobs.Job, second: jobs.Job | None) -> None:
    """Draw how the next word is picked; say of which of the jobs' places the chat takes no seed."""
    places = dict.fromkeys(job.backend for job in (first, second) if job)
    seedless = [place for place in places if not backends.BACKENDS[place].takes_seed]
    with st.expander(t("compare.sampling"), icon=":material/tune:"):
        left, right = st.columns(2)
        with left:
            me.temperature = st.slider(
                t("compare.temperature"),
                0.0,
                1.5,
                me.temperature,
                0.1,
                help=t("compare.temperature_help"),
                key="temp",
            )
            me.memory = st.toggle(t("compare.memory"), me.memory, help=t("compare.memory_help"), key="memory")
        picks = me.temperature > 0
        with right:
            me.top_p = st.slider(
                t("compare.top_p"),
                0.05,
                1.0,
                me.top_p,
                0.05,
                help=t("compare.top_p_help"),
                disabled=not picks,
                key="top_p",
            )
            me.most_said = st.select_slider(
                t("compare.most"),
                LENGTHS,
                me.most_said if me.most_said in LENGTHS else 256,
                help=t("compare.most_help"),
                key="most_said",
            )
            me.talk_seed = int(
                st.number_input(
                    t("compare.seed"),
                    0,
                    9999,
                    me.talk_seed if 0 <= me.talk_seed <= 9999 else 0,
                    help=t("compare.seed_help"),
                    disabled=not picks or len(seedless) == len(places),
                    key="talk_seed",
                )
            )
        for place in seedless:
            st.caption(t("compare.no_seed", place=t(f"place.{place}.name")))


def offered(first: jobs.Job, second: jobs.Job | None) -> list[judge.HeldBack]:
    """Draw the validation questions as buttons; return those that are to be asked now."""
    rows = judge.held_back(first.folder, OFFERED)
    if not rows:
        return []
    pressed = []
    with st.container(border=True):
        parts.card_title(t("compare.offered_title"), t("compare.offered"))
        if second and not judge.same_rows(first.folder, second.folder):
            st.caption(t("compare.other_rows"))
        with st.container(horizontal=True, gap="small"):
            for number, row in enumerate(rows):
                if st.button(parts.plain(row.question), key=f"offered_{number}"):
                    pressed = [row]
        if st.button(t("compare.offered_all", n=len(rows)), icon=":material/checklist:", key="offered_all"):
            pressed = rows[::-1]  # the newest is shown first, so they stand in the order of the buttons
    return pressed


def add(me: State, voices: list[Voice], rows: list[judge.HeldBack], typed: str | None) -> None:
    """Put questions into the talk: those of validation rows, and one that was typed."""
    turns = _turns(me, voices)
    asked = [*rows, *([judge.HeldBack(typed, "")] if typed else [])]
    for row in asked:
        order = [voice.key for voice in voices]
        if me.blind:
            order = random.sample(order[-2:], 2)
        alone = bool(row.reference) or not me.memory
        turns.append(Turn(row.question, dict.fromkeys(order, ""), row.reference, row.system, alone, me.blind))


def answers(me: State, voices: list[Voice]) -> None:
    """Draw the talk so far, newest first; stream the answers that are still missing."""
    turns = _turns(me, voices)
    known = {voice.key: voice for voice in voices}
    for number in range(len(turns) - 1, -1, -1):
        if number < len(turns):  # one whose answer failed takes all unanswered ones with it
            with st.container(border=True, key=f"turn_{number}"):
                _turn(turns, number, known)
    if turns and st.button(t("compare.clear"), type="tertiary", icon=":material/delete:", key="clear"):
        turns.clear()
        st.rerun()


def tally(voices: list[Voice]) -> None:
    """Draw how the blind votes on the last two voices stand."""
    one, other = voices[-2:]
    count = votes.tally(one.key, other.key)
    if not count.votes:
        return
    with st.container(border=True):
        parts.card_title(t("compare.tally_title"), t("compare.tally"))
        parts.numbers(
            (one.label, str(count.one)), (other.label, str(count.other)), (t("compare.tie"), str(count.ties))
        )
        sure = "unsure" if count.by_chance > UNSURE else "sure"
        st.caption(t(f"compare.tally_{sure}", chance=count.by_chance))


def _turn(turns: list[Turn], number: int, voices: Mapping[str, Voice]) -> None:
    turn = turns[number]
    with st.chat_message("user", avatar=":material/person:"):
        st.text(turn.question)
    hidden = turn.blind and not turn.vote
    columns = st.columns(len(turn.answers), gap="medium")
    for place, (column, key) in enumerate(zip(columns, list(turn.answers), strict=True)):
        with column:
            st.caption(
                t("compare.hidden", letter="ABC"[place]) if hidden else parts.literal(voices[key].label)
            )
            with st.chat_message("assistant", avatar=":material/auto_awesome:"):
                if turn.answers[key]:
                    st.text(turn.answers[key])
                elif not _speak(turns, number, voices[key]):
                    return
    if turn.blind:
        _vote(turn, number, voices)
    if turn.reference and not hidden:
        with st.container(key=f"reference_{number}"):
            st.caption(t("compare.reference"))
            st.text(turn.reference)


def _vote(turn: Turn, number: int, voices: Mapping[str, Voice]) -> None:
    """Draw the vote on a turn, or what it was."""
    one, other = turn.answers
    if turn.answers[one] == turn.answers[other]:
        turn.vote = turn.vote or votes.TIE  # nothing to tell apart, so no vote is kept
        st.caption(t("compare.same"))
        return
    if turn.vote:
        better = t("compare.tie") if turn.vote == votes.TIE else voices[turn.vote].label
        st.caption(t("compare.voted", better=parts.literal(better)))
        return
    with st.container(horizontal=True, gap="small"):
        for key, label in ((one, "A"), (other, "B"), (votes.TIE, "")):
            text = t("compare.better", letter=label) if label else t("compare.tie")
            if st.button(text, key=f"vote_{number}_{label}"):
                votes.cast(turn.id, one, other, key, turn.question)
                turn.vote = key
                st.rerun()


def _speak(turns: list[Turn], number: int, voice: Voice) -> bool:
    """Stream one missing answer; return whether it is whole now. Where it fails, unanswered turns go."""
    turn = turns[number]
    # a row's own system prompt is what its job was trained with; another job has one of its own
    system = (turn.system or voice.system) if voice.own else (voice.system or turn.system)
    messages = [Message("system", system)] if system else []
    for earlier in [] if turn.alone else turns[:number]:
        if earlier.answers.get(voice.key):
            messages += [
                Message("user", earlier.question),
                Message("assistant", earlier.answers[voice.key]),
            ]
    messages.append(Message("user", turn.question))
    spot = st.empty()
    spot.caption(t("compare.loading"))
    answer = ""
    try:
        # st.text, never Markdown: an answer may hold links and images that must not be fetched
        for piece in voice.ask(messages):
            answer += piece
            spot.text(answer)
    except AppError as error:
        turns[:] = [one for one in turns if all(one.answers.values())]
        parts.trouble(error)
        return False
    # kept only when whole: whoever clicks on in mid-answer gets it asked again
    turn.answers[voice.key] = answer if answer.strip() else t("compare.silent")
    spot.text(turn.answers[voice.key])
    return True


def _turns(me: State, voices: list[Voice]) -> list[Turn]:
    return me.turns.setdefault(" ".join(voice.key for voice in voices), [])


def _ask(me: State, job: jobs.Job, which: str) -> Callable[[list[Message]], Iterator[str]]:
    picks = talk.Sampling(me.temperature, me.top_p, me.most_said, me.talk_seed)
    if job.backend == "local":
        models, folder = _loaded(talk.base_of(job.folder)), job.folder.path
        return lambda messages: models.reply(folder, which, messages, picks)
    backend = backends.BACKENDS[job.backend]
    key = platform.known_key(me, job)
    return lambda messages: backend.chat(job, which, messages, key=key, sampling=picks)


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda models: models.close())
def _loaded(base: str) -> talk.Talk:
    del base  # one for each, shared by all visitors
    return talk.Talk()
