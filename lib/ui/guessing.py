"""Guess first: the rounds on the page, whose progress is kept; it can be left alone."""

from __future__ import annotations

from pathlib import Path

import altair as alt
import streamlit as st

from lib import guessing, playground
from lib.guessing import Outcome, Round
from lib.ui import parts, playing
from lib.ui.state import State, Tried
from lib.ui.words import t

RIGHT, WRONG = ":green[:material/check_circle:]", ":orange[:material/lightbulb:]"


def fold_out(me: State, data: Path) -> None:
    """Draw the fold-out with the rounds."""
    rows = playground.sample(data)
    if not rows.trained:
        return
    rounds = guessing.here(rows)
    done = [asked for asked in rounds if asked.name in me.guesses]
    with st.expander(t("guess.title"), icon=":material/quiz:", key="guess", on_change="rerun") as folded:
        if not folded.open:
            return  # nothing is trained for somebody who leaves it alone
        st.caption(t("guess.lead", n=len(done), of=len(rounds)))
        asked = guessing.next_round(me.guesses, rounds)
        if me.guessed and me.guessed in me.guesses:
            asked = next(one for one in rounds if one.name == me.guessed)
        if asked is None:
            _end(me, rounds, rows)
        elif asked.name in me.guesses:
            _told(me, asked, guessing.outcome(asked, rows))
        else:
            _ask(me, asked, rounds, rows)


def _ask(me: State, asked: Round, rounds: tuple[Round, ...], rows: playground.Sample) -> None:
    place = rounds.index(asked) + 1
    st.markdown(f"**{t('guess.round', n=place, of=len(rounds))}** {t(f'guess.{asked.name}.question')}")
    if asked.kind == "which":
        _pair(guessing.outcome(asked, rows), asked.name)
    guess = st.radio(
        t("guess.yours"),
        asked.options(),
        index=None,
        format_func=_option,
        horizontal=asked.kind != "verdict",
        key=f"guess_{asked.name}",
    )
    if st.button(t("guess.run"), icon=":material/play_arrow:", disabled=guess is None, key="guess_run"):
        assert guess
        me.guesses[asked.name], me.guessed = guess, asked.name
        st.rerun()


def _told(me: State, asked: Round, outcome: Outcome) -> None:
    guess = me.guesses[asked.name]
    right = guess == outcome.answer
    st.markdown(t(f"guess.{asked.name}.question"))
    said = t("guess.right" if right else "guess.wrong", guess=_option(guess), answer=_option(outcome.answer))
    st.markdown(f"{RIGHT if right else WRONG} {said}")
    if asked.kind == "which":
        _pair(outcome, asked.name)
    else:
        run = outcome.runs[0]
        chosen = asked.chosen()[0]
        now = Tried(chosen, asked.rates[0], asked.rows)
        playing.curves(run, now, (), key=f"guess_{asked.name}_curve")
        st.markdown(playing.said(run))
    st.markdown(t(f"guess.{asked.name}.why"))
    if st.button(t("guess.next"), icon=":material/arrow_forward:", key="guess_next"):
        me.guessed = ""
        st.rerun()


def _end(me: State, rounds: tuple[Round, ...], rows: playground.Sample) -> None:
    right = sum(guessing.outcome(asked, rows).answer == me.guesses[asked.name] for asked in rounds)
    st.markdown(t("guess.done", n=right, of=len(rounds)))
    if st.button(t("guess.again"), icon=":material/refresh:", key="guess_again"):
        me.guesses, me.guessed = {}, ""
        st.rerun()


def _pair(outcome: Outcome, name: str) -> None:
    """Draw two runs' exercises and mock exams side by side, as A and B, on one scale."""
    values = [value for run in outcome.runs for value in (*run.loss.values, *run.validation.values)]
    scale = alt.Scale(domain=[0, float(max(values))])
    st.caption(t("guess.legend"))
    with st.grid(2, min_column_width=260):
        for letter, run in zip(guessing.PAIR, outcome.runs, strict=True):
            with st.container(border=True):
                st.markdown(f"**{letter.upper()}**")
                drawing = playing.two(run, scale).properties(height=220)
                exam = run.validation if len(run.validation) else run.loss
                jumps = abs(run.loss.values[1:] - run.loss.values[:-1])
                words = t(
                    "guess.alt",
                    letter=letter.upper(),
                    first=float(exam.values[0]),
                    last=float(exam.values[-1]),
                    jump=float(jumps.mean()) if len(jumps) else 0.0,
                )
                st.altair_chart(drawing, key=f"guess_{name}_{letter}", alt=words)
                st.caption(parts.literal(words))


def _option(option: str) -> str:
    if option in guessing.VERDICTS:
        return t(f"guess.verdict.{option}")
    return t("guess.steps", n=int(option)) if option.isdigit() else option.upper()
