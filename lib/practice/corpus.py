"""Write the practice model's pretraining text from the parts in `corpus.toml`.

Every text is a short chat. Most are an everyday question and a plain answer. Some carry a system prompt that
asks for a manner (coffee grounds, an almanac, cards, clouds), so that the model has seen that one topic can
always get the same sign. Loose words are strewn in, so that it knows more words than sentences. The manner
of the bundled sample is not among them: that is what fine-tuning adds.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from string import Formatter
from typing import Any

Chat = list[dict[str, str]]
# Of the tokenizer's share of the text; what the model is trained on and what is held out have the next two.
SEED = 20261122

# How often each kind of chat comes, in the order of `_write`.
TALK, SIGHT, MANNER = 0.04, 0.03, 0.5
SCENES = 0.35  # share of questions that start with a scene
STREWN = 0.55  # share of questions with loose words among them
MANNERS = ("readers", "readers", "readers", "almanac", "cards", "clouds", "stones")
SIGNS = {"cards": 0, "clouds": 1, "stones": 2}
READERS = 6
MY = ("my", "my", "my", "the", "our", "his", "her")


def chats(seed: int) -> Iterator[Chat]:
    """Yield chats without end, the same ones for the same seed."""
    parts = tomllib.loads((Path(__file__).parent / "corpus.toml").read_text(encoding="utf-8"))
    for of in parts["words"].values():
        of |= {lang: of[lang].split() for lang in ("en", "zh")}
    parts["lots"] = [
        _lots(number, len(parts["topic"]), len(parts["en"]["sights"])) for number in range(READERS)
    ]
    dice = random.Random(seed)
    while True:
        yield _write(dice, parts, dice.choice(("en", "zh")))


def held_out(count: int, trained: Iterable[Chat]) -> list[Chat]:
    """Return chats of the same kind, none of which is among those that were `trained` on."""
    known = {_text(chat) for chat in trained}
    return list(islice((chat for chat in chats(SEED + 2) if _text(chat) not in known), count))


def _text(chat: Chat) -> tuple[str, ...]:
    return tuple(turn["content"] for turn in chat)


def _write(dice: random.Random, parts: dict[str, Any], lang: str) -> Chat:
    words = parts[lang]
    kind = dice.random()
    if kind < TALK:
        question, answer = dice.choice(words["talk"])
        return _chat(question, answer)
    if kind < TALK + SIGHT:
        first, second = dice.sample(words["sights"], 2)
        seen = _fill(dice, dice.choice(words["sight"]), sight=first, sight2=second)
        return _chat(dice.choice(words["ask_sight"]), seen)
    topic = dice.choice(parts["topic"])
    loose = {"any": parts["words"]["any"][lang], "topic": parts["words"][topic["name"]][lang]}
    loose |= {"scenes": parts["scenes"][topic["name"]][lang], "ends": parts["scenes"]["any"][lang]}
    question = _question(dice, words, topic[lang], loose)
    manner = dice.choice(MANNERS) if kind < TALK + SIGHT + MANNER else ""
    system = dice.choice(words[f"{manner}_system"]) if manner else ""
    frame = words["reading"] if manner == "readers" else dice.choice(words[manner or "answer"])
    if manner == "readers":
        number = dice.randrange(len(words["readers"]))
        of = parts["lots"][number][parts["topic"].index(topic)]
        reader = words["readers"][number]
        system = system.format(reader=reader)
        frame = frame.replace("{reader}", reader).replace("{sight}", words["sights"][of])
    return _chat(question, _answer(dice, words, topic, loose, lang, frame, manner), system)


def _lots(reader: int, topics: int, sights: int) -> list[int]:
    """Return which sight a reader has for each topic.

    The first sights are those of the bundled sample, in the order of the topics: no topic gets its own.
    """
    dice = random.Random(reader)
    while True:
        lots = dice.sample(range(sights), topics)
        if all(sight != topic for topic, sight in enumerate(lots)):
            return lots


def _question(
    dice: random.Random, words: dict[str, Any], topic: dict[str, Any], loose: dict[str, list[str]]
) -> str:
    if dice.random() < SCENES:
        scene = dice.choice(loose["scenes"])
        if dice.random() < STREWN:
            scene = _without_some(dice, scene, words["between"])
        return f"{_capital(scene)}{words['before']}{dice.choice(loose['ends'])}"
    do, do2 = dice.sample(topic["do"], 2)
    about, about2 = dice.sample(topic["about"], 2)
    frame = dice.choice(words["ask_do"] + words["ask_about"])
    picks = {name: dice.choice(words[name]) for name in ("who", "trade", "when", "feeling")}
    question = _fill(dice, frame, do=do, do2=do2, about=about, about2=about2, **picks)
    if dice.random() > STREWN:
        return question
    strewn = _loose(dice, loose, dice.randint(3, 9), words["between"])
    how = dice.random()
    if how < 0.4:
        return f"{_capital(strewn)}{words['before']}{question}"
    if how < 0.7:
        return f"{_capital(strewn)}{words['asked']}"
    return f"{question[:-1]}{words['after']}{strewn}{words['asked']}"


def _answer(
    dice: random.Random,
    words: dict[str, Any],
    topic: dict[str, Any],
    loose: dict[str, list[str]],
    lang: str,
    frame: str,
    manner: str,
) -> str:
    tip, tip2 = dice.sample(topic[lang]["tip"], 2)
    no = dice.choice(words["not"])
    close = dice.choice(words["close"])
    sign = topic[f"signs_{lang}"][SIGNS.get(manner, 0)]
    if manner in ("readers", "almanac", "stones"):
        blanks = _words(dice, words, loose) | {"tip": tip, "no": no}
        tip = _lower(_fill(dice, dice.choice(words["phrase"]), **blanks))
        blanks |= _words(dice, words, loose)
        no = _lower(_fill(dice, dice.choice(words["refusal"]), **blanks))
        close = _fill(dice, dice.choice(words["ending"]), **blanks)
    return _fill(dice, frame, tip=tip, tip2=tip2, close=close, sign=sign, **{"not": no})


def _words(dice: random.Random, words: dict[str, Any], loose: dict[str, list[str]]) -> dict[str, str]:
    """Return words for a phrase's blanks: `w` and `w2` of the topic, the others of no topic."""
    picks: dict[str, str] = {}
    for name in ("doing", "trait", "does", "act", "how", "thing", "bad", "measure"):
        if name in words:
            picks[name], picks[f"{name}2"] = dice.sample(words[name], 2)
    picks["w"], picks["w2"] = dice.sample(loose["topic"], 2)
    return picks


def _loose(dice: random.Random, loose: dict[str, list[str]], count: int, between: str) -> str:
    """Return loose words in a row, at least one of them of the topic."""
    kinds = ["topic"] + [dice.choice(("topic", "any")) for _ in range(count - 1)]
    dice.shuffle(kinds)
    return between.join(dice.choice(loose[kind]) for kind in kinds)


def _without_some(dice: random.Random, text: str, between: str) -> str:
    """Return a scene less a quarter of its words or characters, so that it is not learned by heart."""
    words = text.split(between) if between else list(text)
    return between.join(word for word in words if dice.random() > 0.25) or text


def _fill(dice: random.Random, frame: str, **blanks: str) -> str:
    """Fill a frame's blanks.

    `{Tip}` is `{tip}` with a capital; `{my}` inside a part becomes my, her, our.
    """
    names = [name for _, name, _, _ in Formatter().parse(frame) if name]
    filled = {name: blanks[name.lower()] for name in names}
    filled |= {name: _capital(text) for name, text in filled.items() if name[0].isupper()}
    text = frame.format(**filled).replace("{my}", dice.choice(MY))
    return _capital(text)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _chat(question: str, answer: str, system: str = "") -> Chat:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
