"""The tiny language model: guess the next character of an answer from the ones before it and the question.

    the last CONTEXT characters, WIDTH numbers each  ┐
    the question's words, as a bag of QUESTION numbers ┴─> HIDDEN (tanh) ─> a score for every character

That is Bengio's neural language model of 2003 with a bag of words beside it. The characters' numbers stay as
they were pretrained, so the inputs of every place in a text are made once, and training is two matrices and
two biases. numpy alone: no torch comes into the app's process.

A model knows only the characters that its texts need, so that scripts with thousands of them stay cheap. A
character that it never read begins with random numbers, the same ones everywhere.

`pretrain.py` makes the weights that are shipped beside this module.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from zlib import crc32

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]
Pair = tuple[str, str]  # a question and its answer

CONTEXT, WIDTH, QUESTION, HIDDEN = 12, 16, 48, 64
INPUTS = CONTEXT * WIDTH + QUESTION
LONGEST = 56  # characters of an answer that are learned; of Chinese a whole sentence, of English its first
END, RARE = "\n", "\N{WHITE SQUARE}"  # the end of an answer; a character that there was no room for
MOST_CHARACTERS = 700  # that one model knows: each costs time in every step

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Texts:
    """Answers, ready to be learned: one row for every place in them, text after text.

    `inputs`: (places, INPUTS); `targets`: (places,), the character that follows; `starts`: (texts + 1,),
    where each text's places begin.
    """

    inputs: Numbers
    targets: Places
    starts: Places

    def __len__(self) -> int:
        return len(self.starts) - 1

    def every(self, step: int) -> Texts:
        """Return only every so many places, for a loss that is nearly the same and quicker to get."""
        starts = -(-self.starts // step)
        return Texts(
            np.ascontiguousarray(self.inputs[::step]), np.ascontiguousarray(self.targets[::step]), starts
        )


class Model:
    """A model for some characters. `trained` holds all that training changes, in one row of numbers."""

    def __init__(self, characters: Sequence[str], embedding: Numbers, trained: Numbers) -> None:
        self.characters = characters
        self.index = {character: place for place, character in enumerate(characters)}
        self.embedding = embedding
        self.trained = trained
        size = len(characters)
        self.hidden, rest = _cut(trained, (INPUTS, HIDDEN))
        self.hidden_bias, rest = _cut(rest, (HIDDEN,))
        self.output, rest = _cut(rest, (HIDDEN, size))
        self.output_bias, _ = _cut(rest, (size,))

    def copy(self) -> Model:
        """Return a model with the same numbers of its own; those of the characters are shared."""
        return Model(self.characters, self.embedding, self.trained.copy())

    def texts(self, pairs: Iterable[Pair], longest: int = LONGEST) -> Texts:
        """Return answers ready to be learned, each cut to `longest` characters."""
        inputs, targets, starts = [], [], [0]
        for question, answer in pairs:
            tail = tidy(answer)[:longest]
            ids = self.ids(tail if len(tail) == longest else tail + END)
            inputs.append(self._inputs(ids, question))
            targets.append(ids)
            starts.append(starts[-1] + len(ids))
        empty = np.zeros((0, INPUTS), np.float32)
        return Texts(
            np.concatenate([empty, *inputs]),
            np.concatenate([np.zeros(0, np.int64), *targets]),
            np.array(starts, dtype=np.int64),
        )

    def ids(self, text: str) -> Places:
        """Return the places of a text's characters; RARE's for one that this model does not know."""
        rare = self.index[RARE]
        return np.array([self.index.get(character, rare) for character in text], dtype=np.int64)

    def loss(self, texts: Texts) -> float:
        """Return the mean loss over every place of some texts, in nats a character."""
        if not len(texts.targets):
            return float("nan")
        scores = np.tanh(texts.inputs @ self.hidden + self.hidden_bias) @ self.output + self.output_bias
        return _loss(scores, texts.targets)

    def slope(self, inputs: Numbers, targets: Places, into: Model) -> float:
        """Write into `into` how the loss of these places changes with each number; return that loss."""
        count = len(targets)
        hidden = np.tanh(inputs @ self.hidden + self.hidden_bias)
        scores = hidden @ self.output
        scores += self.output_bias
        scores -= scores.max(axis=1, keepdims=True)
        right = scores[np.arange(count), targets]
        np.exp(scores, out=scores)
        sums = scores.sum(axis=1, keepdims=True)
        loss = float((np.log(sums[:, 0]) - right).mean())
        scores /= sums * count
        scores[np.arange(count), targets] -= 1 / count
        np.matmul(hidden.T, scores, out=into.output)
        scores.sum(axis=0, out=into.output_bias)
        back = scores @ self.output.T
        back *= 1 - hidden * hidden
        np.matmul(inputs.T, back, out=into.hidden)
        back.sum(axis=0, out=into.hidden_bias)
        return loss

    def slope_of_inputs(self, inputs: Numbers, targets: Places) -> Numbers:
        """Return how the mean loss of these places changes with each of their inputs; for pretraining."""
        count = len(targets)
        hidden = np.tanh(inputs @ self.hidden + self.hidden_bias)
        scores = hidden @ self.output + self.output_bias
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        shares[np.arange(count), targets] -= 1
        back: Numbers = ((shares / count) @ self.output.T * (1 - hidden * hidden)) @ self.hidden.T
        return back

    def answer(self, question: str, most: int = LONGEST) -> str:
        """Return what the model says to a question, always its best guess, at most so many characters."""
        said: list[str] = []
        bag = question_numbers(question)
        ids = [self.index[END]] * CONTEXT
        for _ in range(most):
            row = np.concatenate([self.embedding[ids[-CONTEXT:]].ravel(), bag])
            scores = np.tanh(row @ self.hidden + self.hidden_bias) @ self.output + self.output_bias
            ids.append(int(scores.argmax()))
            if self.characters[ids[-1]] == END:
                break
            said.append(self.characters[ids[-1]])
        return "".join(said)

    def _inputs(self, ids: Places, question: str) -> Numbers:
        before = np.concatenate([np.full(CONTEXT, self.index[END]), ids])
        windows = np.lib.stride_tricks.sliding_window_view(before, CONTEXT)[: len(ids)]
        letters = self.embedding[windows].reshape(len(ids), CONTEXT * WIDTH)
        bag = np.broadcast_to(question_numbers(question), (len(ids), QUESTION))
        return np.concatenate([letters, bag], axis=1)


def tidy(text: str) -> str:
    """Return text on one line: END is what ends an answer."""
    return " ".join(text.split())


def characters_of(pairs: Iterable[Pair]) -> list[str]:
    """Return the characters that a model for these answers must know, in order, the rarest left out."""
    counts = Counter(character for _, answer in pairs for character in tidy(answer)[:LONGEST])
    common = sorted(counts, key=lambda character: (-counts[character], character))
    return sorted({*common[:MOST_CHARACTERS], END, RARE})


def pretrained(characters: Sequence[str]) -> Model:
    """Return the shipped model for some characters."""
    known, weights = _weights()
    places = np.array([known.get(character, -1) for character in characters])
    there = places >= 0
    size = len(characters)
    embedding = np.stack([_random(character, WIDTH) for character in characters]) * EMBEDDED
    embedding[there] = weights["embedding"][places[there]]
    output = np.stack([_random(f"{character} out", HIDDEN) for character in characters], axis=1) * FIRST
    output[:, there] = weights["output"][:, places[there]]
    # one never read is as likely as those that were are on average, not less than any of them
    bias = np.full(size, weights["output_bias"].mean(), np.float32)
    bias[there] = weights["output_bias"][places[there]]
    parts = (weights["hidden"].ravel(), weights["hidden_bias"], output.ravel(), bias)
    return Model(characters, embedding, np.concatenate(parts).astype(np.float32))


def known_pairs(chinese: bool, other: bool) -> list[Pair]:
    """Return questions and answers like those of the pretraining, never trained on, by their language."""
    told = json.loads((FOLDER / "known.json").read_text(encoding="utf-8"))
    return [(q, a) for lang, wanted in (("zh", chinese), ("en", other)) if wanted for q, a in told[lang]]


EMBEDDED, FIRST = 0.3, 0.05  # how large random numbers are, of a character's own and of its scores


@lru_cache(maxsize=4096)
def question_numbers(question: str) -> Numbers:
    """Return a question as QUESTION numbers: the sum of one random direction for each of its words.

    Latin words count as one each, of other scripts every character and every two in a row.
    """
    found: list[str] = []
    for word in re.findall(r"[a-z0-9']+|[^\W\d_a-z]+", question.lower()):
        found += [word] if word.isascii() else [*word, *(word[i : i + 2] for i in range(len(word) - 1))]
    total = np.sum([_random(word, QUESTION) for word in found], axis=0) if found else np.zeros(QUESTION)
    numbers: Numbers = (total / max(1.0, len(found) ** 0.5)).astype(np.float32)
    numbers.flags.writeable = False
    return numbers


@lru_cache(maxsize=16384)
def _random(word: str, size: int) -> Numbers:
    """Return random numbers for a word, the same in every process."""
    dice = np.random.default_rng(crc32(word.encode("utf-8", "surrogatepass")))
    return dice.standard_normal(size, np.float32)


@cache
def _weights() -> tuple[dict[str, int], dict[str, Numbers]]:
    with np.load(FOLDER / "weights.npz") as file:
        weights = {name: file[name].astype(np.float32) for name in file.files if name != "characters"}
        characters = "".join(map(chr, file["characters"]))
    return {character: place for place, character in enumerate(characters)}, weights


def _cut(row: Numbers, shape: tuple[int, ...]) -> tuple[Numbers, Numbers]:
    """Return the beginning of a row in a shape, and the rest; both are views."""
    size = int(np.prod(shape))
    return row[:size].reshape(shape), row[size:]


def _loss(scores: Numbers, targets: Places) -> float:
    scores -= scores.max(axis=1, keepdims=True)
    right = scores[np.arange(len(targets)), targets]
    return float((np.log(np.exp(scores).sum(axis=1)) - right).mean())
