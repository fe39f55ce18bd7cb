"""Make the playground's model from nothing: `python -m lib.playground.pretrain [--out FOLDER]`.

Reads the same generated chats as the practice model (`lib/practice/corpus.py`), those without a system
prompt, and writes `weights.npz` and, from chats it has not read, `known.json`. One seed; a few minutes on one
core. Prints its loss on chats that were never trained on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lib.playground import model
from lib.playground.adam import Adam
from lib.playground.model import CONTEXT, END, FOLDER, HIDDEN, INPUTS, RARE, WIDTH, Model, Pair
from lib.practice.corpus import chats

SEED = 20261201
READ = 24_000  # chats
STEPS, PLACES, RATE = 12_000, 384, 3e-3
OFTEN = 20  # times that a character must be read to be learned
KNOWN = 24  # chats of each language that tell whether old knowledge is still there


def plain(seed: int) -> Iterator[Pair]:
    """Yield questions and answers of chats without a system prompt."""
    for chat in chats(seed):
        if chat[0]["role"] == "user":
            yield chat[0]["content"], chat[1]["content"]


def known(seed: int) -> dict[str, list[Pair]]:
    """Return KNOWN pairs of each language, each answer once."""
    found: dict[str, dict[str, str]] = {"en": {}, "zh": {}}
    for question, answer in plain(seed):
        of = found["en" if answer.isascii() else "zh"]
        if len(of) < KNOWN:
            of.setdefault(answer, question)
        if all(len(of) == KNOWN for of in found.values()):
            break
    return {lang: [(question, answer) for answer, question in of.items()] for lang, of in found.items()}


def main() -> None:
    """Train the model, write it."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    asked.add_argument("--out", type=Path, default=FOLDER)
    asked.add_argument("--steps", type=int, default=STEPS)
    given = asked.parse_args()
    begun = time.monotonic()
    pairs = list(itertools.islice(plain(SEED), READ))
    counts = Counter(character for _, answer in pairs for character in answer)
    characters = sorted({c for c, n in counts.items() if n >= OFTEN} | {END, RARE})
    dice = np.random.default_rng(SEED)
    size = len(characters)
    embedding = dice.standard_normal((size, WIDTH), np.float32) * model.EMBEDDED
    hidden = dice.standard_normal((INPUTS, HIDDEN), np.float32) * (2 / INPUTS) ** 0.5
    output = dice.standard_normal((HIDDEN, size), np.float32) * model.FIRST
    start = (hidden.ravel(), np.zeros(HIDDEN, np.float32), output.ravel(), np.zeros(size, np.float32))
    tiny = Model(characters, embedding, np.concatenate(start))
    _train(tiny, pairs, dice, given.steps, begun)
    held_back = known(SEED + 1)
    told = {lang: round(tiny.loss(tiny.texts(of)), 3) for lang, of in held_back.items()}
    print(f"on unseen chats: loss {told}, {time.monotonic() - begun:.0f} s", flush=True)
    np.savez_compressed(
        given.out / "weights.npz",
        characters=np.array(list(map(ord, characters)), dtype=np.int32),
        embedding=embedding.astype(np.float16),
        hidden=tiny.hidden.astype(np.float16),
        hidden_bias=tiny.hidden_bias.astype(np.float16),
        output=tiny.output.astype(np.float16),
        output_bias=tiny.output_bias.astype(np.float16),
    )
    text = json.dumps(held_back, ensure_ascii=False, indent=1)
    (given.out / "known.json").write_text(text + "\n", encoding="utf-8")


def _train(tiny: Model, pairs: list[Pair], dice: np.random.Generator, steps: int, begun: float) -> None:
    """Train the model and the numbers of its characters, which fine-tuning leaves as they are."""
    ids = [tiny.ids(model.tidy(answer) + END) for _, answer in pairs]
    before = np.full(CONTEXT, tiny.index[END])
    windows = np.concatenate(
        [np.lib.stride_tricks.sliding_window_view(np.concatenate([before, one]), CONTEXT)[:-1] for one in ids]
    )
    targets = np.concatenate(ids)
    bags = np.stack([model.question_numbers(question) for question, _ in pairs])
    owner = np.repeat(np.arange(len(ids)), [len(one) for one in ids])
    slope = Model(tiny.characters, tiny.embedding, np.zeros_like(tiny.trained))
    adam, adam_characters = Adam(tiny.trained.size), Adam(tiny.embedding.size)
    for step in range(steps):
        some = dice.integers(0, len(targets), PLACES)
        letters = tiny.embedding[windows[some]].reshape(PLACES, -1)
        inputs = np.concatenate([letters, bags[owner[some]]], axis=1)
        loss = tiny.slope(inputs, targets[some], slope)
        back = tiny.slope_of_inputs(inputs, targets[some])[:, : CONTEXT * WIDTH]
        of_characters = np.zeros_like(tiny.embedding)
        np.add.at(of_characters, windows[some].ravel(), back.reshape(-1, WIDTH))
        rate = RATE * min(1.0, (step + 1) / 100) * 0.5 * (1 + np.cos(np.pi * step / steps))
        adam.step(tiny.trained, slope.trained, rate)
        adam_characters.step(tiny.embedding.reshape(-1), of_characters.reshape(-1), rate)
        if step % 500 == 0 or step == steps - 1:
            print(f"step {step} loss {loss:.3f} after {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
