"""Write the practice model's pretraining text from the parts in `corpus.toml`.

Every text is a short chat. Most are an everyday question and a plain answer. Some carry a system prompt that
asks for a manner (an almanac, cards, clouds, stones), so that the model has seen that one topic can always
get the same sign. The manner of the bundled sample is not among them: that is what fine-tuning adds.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

Chat = list[dict[str, str]]

# How often each kind of chat comes, in the order of `_write`.
PLAIN, MANNER, SIGHT, TALK = 0.72, 0.16, 0.08, 0.04
MANNERS = ("almanac", "cards", "clouds", "stones")
SIGNS = {"cards": 0, "clouds": 1, "stones": 2}
MY = ("my", "my", "my", "the", "our", "his", "her")


def chats(seed: int) -> Iterator[Chat]:
    """Yield chats without end, the same ones for the same seed."""
    parts = tomllib.loads((Path(__file__).parent / "corpus.toml").read_text(encoding="utf-8"))
    dice = random.Random(seed)
    while True:
        yield _write(dice, parts, dice.choice(("en", "zh")))


def _write(dice: random.Random, parts: dict[str, Any], lang: str) -> Chat:
    words = parts[lang]
    kind = dice.random()
    if kind < TALK:
        question, answer = dice.choice(words["talk"])
        return _chat(question, answer)
    if kind < TALK + SIGHT:
        first, second = dice.sample(words["sights"], 2)
        return _chat(dice.choice(words["ask_sight"]), _fill(dice, dice.choice(words["sight"]), sight=first, sight2=second))
    topic = dice.choice(parts["topic"])
    if kind < TALK + SIGHT + MANNER:
        manner = dice.choice(MANNERS)
        frame = dice.choice(words[manner])
        system = dice.choice(words[f"{manner}_system"])
        return _chat(_question(dice, words, topic[lang]), _answer(dice, words, topic, lang, frame, manner), system)
    frame = dice.choice(words["answer"])
    return _chat(_question(dice, words, topic[lang]), _answer(dice, words, topic, lang, frame, "cards"))


def _question(dice: random.Random, words: dict[str, Any], topic: dict[str, Any]) -> str:
    do, do2 = dice.sample(topic["do"], 2)
    about, about2 = dice.sample(topic["about"], 2)
    frame = dice.choice(words["ask_do"] + words["ask_about"])
    picks = {name: dice.choice(words[name]) for name in ("who", "trade", "when", "feeling")}
    return _fill(dice, frame, do=do, do2=do2, about=about, about2=about2, **picks)


def _answer(
    dice: random.Random, words: dict[str, Any], topic: dict[str, Any], lang: str, frame: str, manner: str
) -> str:
    tip, tip2 = dice.sample(topic[lang]["tip"], 2)
    sign = topic[f"signs_{lang}"][SIGNS.get(manner, 0)]
    close, no = dice.choice(words["close"]), dice.choice(words["not"])
    return _fill(dice, frame, tip=tip, tip2=tip2, close=close, sign=sign, **{"not": no})


def _fill(dice: random.Random, frame: str, **blanks: str) -> str:
    """Fill a frame's blanks; `{Tip}` is `{tip}` with a capital, `{my}` inside a part becomes my, her, …"""
    names = [name for _, name, _, _ in Formatter().parse(frame) if name]
    filled = {name: blanks[name.lower()] for name in names}
    filled = {name: text[:1].upper() + text[1:] if name[0].isupper() else text for name, text in filled.items()}
    text = frame.format(**filled).replace("{my}", dice.choice(MY))
    return text[:1].upper() + text[1:]


def _chat(question: str, answer: str, system: str = "") -> Chat:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
