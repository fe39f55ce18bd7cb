"""What settings mean for a dataset before anything runs: optimiser steps, tokens, time, money.

Steps are exact. Tokens are an estimate from the text; time is taken from the last finished job with the
same model on this computer where there is one, else from a measured figure. Both are said to be estimates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from lib.params import Settings
from lib.trainer import precision

if TYPE_CHECKING:  # only for its types: it starts threads, and the runner of jobs is better without
    import numpy as np
    import numpy.typing as npt

    Counts = npt.NDArray[np.int64]

# Rough tokens per character: CJK 0.7, everything else a quarter. Source: measured against a 32k BPE on mixed
# Chinese and English rows, 2026-11: 5 % off per row, 2 % in total.
CJK, OTHER = 0.7, 0.25
_CJK, _OTHER = round(CJK * 1000), round(OTHER * 1000)
# Trained tokens per second of a LoRA run of a 494M-parameter model, 2 CPU cores, batch 1, 256 tokens: in fp32
# and, where the processor has instructions for it, in bf16. Source: bench/train.py, 2026-11 and 2026-12
# (Qwen2.5-0.5B's shape, AMD EPYC with AVX512_BF16); other sizes are scaled by their parameters.
CPU_TOKENS, CPU_TOKENS_BF16 = 55.0, 170.0
CPU_PARAMETERS = 494e6
# The practice model: tokens per second on one thread, in the tokens counted here (6,100 of its own), and the
# seconds until a first step, mostly imports. Source: lib.practice.measure on two cores, 2026-11.
PRACTICE_TOKENS = 4000.0
START_SECONDS = 4.0


@dataclass(frozen=True, slots=True)
class Amount:
    """How much text a conversion holds. `tokens` is an estimate; `longest` is of one row."""

    train: int
    validation: int
    tokens: int
    longest: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run will take. `seconds` is None where nothing measured speaks for this model and machine.

    `steps` are 0 where a platform fills its batches by tokens, so that they cannot be counted before.
    """

    steps: int
    steps_per_epoch: int
    tokens: int
    seconds: float | None
    measured_here: bool


@dataclass(frozen=True, slots=True)
class Price:
    """What a place charges for a million trained tokens, and at least for a job; None where nobody says.

    It was read at `source` on the day `checked`. `minimum` is up to `minimum_most` by model. With `models`
    the price of tokens is known for these alone.
    """

    currency: str
    source: str
    checked: str
    million: float | None = None
    minimum: float | None = None
    minimum_most: float | None = None
    models: tuple[str, ...] = ()

    def of(self, tokens: int, model: str = "") -> float | None:
        """Return what a job that trains so many tokens of a model costs, None where that is not known."""
        if self.million is None or (self.models and model not in self.models):
            return None
        return max(tokens / 1e6 * self.million, self.minimum or 0.0)


def tokens(text: str) -> float:
    """Return about how many tokens a text is, from its length and its size in UTF-8.

    A character of one byte counts as OTHER, of three as CJK, of two (Cyrillic, Greek, accents) half way
    between, and none as more than CJK. Beside looking at every character, which takes 25 times as long, this
    is the same for ASCII, Han, kana and Hangul; a curly quote, a dash or an emoji counts 0.45 more. Source:
    measured 2026-11: 0.1 % more in total, at most 6 % in one text, on the sample's 1,200 texts; 1 % more and
    at most 23 % in one on notes and sentences of mixed languages; but up to 1.8 times as many in text all
    in Cyrillic, Greek or Arabic, 2.8 times in Thai or Hindi, which a quarter token a character undercounts.
    """
    characters = len(text)
    if text.isascii():
        return characters * OTHER
    size = len(text.encode("utf-8", "surrogatepass"))
    return min(characters * OTHER + (size - characters) * (CJK - OTHER) / 2, characters * CJK)


def whole_tokens(characters: Counts, sizes: Counts) -> Counts:
    """Return what `tokens` says, to the nearest whole one, of texts so long and of so many bytes in UTF-8."""
    linear = _OTHER * characters + (_CJK - _OTHER) // 2 * (sizes - characters)
    return (linear.clip(max=_CJK * characters) + 500) // 1000


def amount(folder: Path) -> Amount:
    """Count the rows and estimate the tokens of a conversion folder; remembered until its files change."""
    files = folder / "train.jsonl", folder / "validation.jsonl"
    stamps = tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) if f.exists() else None for f in files)
    return _amount(*stamps)


def plan(
    amount: Amount,
    settings: Settings,
    *,
    speed: float | None = None,
    parameters: int | None = None,
    practice: bool = False,
) -> Plan:
    """Say what `settings` take for `amount`.

    `speed`: trained tokens per second of an earlier run with the same model here; else `parameters` of a
    model that will train on this CPU, or the practice model's own figure.
    """
    pile = settings.get("batch_size", 0) * settings.get("accumulation", 1)
    per_epoch = max(1, math.ceil(amount.train / pile)) if pile else 0
    trained = round(amount.tokens * settings["epochs"])
    measured_here = speed is not None
    if speed is None and practice:
        speed = PRACTICE_TOKENS
    elif speed is None and parameters:
        quick = precision.half("cpu", parameters)
        speed = (CPU_TOKENS_BF16 if quick else CPU_TOKENS) * CPU_PARAMETERS / parameters
    return Plan(
        steps=round(per_epoch * settings["epochs"]),
        steps_per_epoch=per_epoch,
        tokens=trained,
        seconds=START_SECONDS + trained / speed if speed else None,
        measured_here=measured_here,
    )


@lru_cache(maxsize=32)
def _amount(train: tuple[str, int, int] | None, validation: tuple[str, int, int] | None) -> Amount:
    rows, total, longest = 0, 0.0, 0.0
    if train:
        with Path(train[0]).open("rb") as file:
            for line in file:
                size = sum(tokens(message["content"]) for message in orjson.loads(line)["messages"])
                rows, total, longest = rows + 1, total + size, max(longest, size)
    held_back = 0
    if validation:
        with Path(validation[0]).open("rb") as file:
            held_back = sum(1 for _ in file)
    return Amount(rows, held_back, round(total), round(longest))
