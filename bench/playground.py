"""Measure how long a move of a slider takes in the playground: `python bench/playground.py`.

Every setting of the whole grid of learning rates, epochs, batches and rows to learn from is played once, on
the bundled sample (both languages, the slowest kind: it has the most characters), in a process that has
loaded the app's library and nothing else. Then a share of the grid once more while as many processes as there
are cores do nothing but count. Nothing is remembered between two moves.

    --share 0.1     of the grid, drawn with one seed
    --json FILE     every time, too
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import statistics
import sys
import time
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import lib  # noqa: E402, F401  (before numpy: it sets how many threads numpy takes)
from lib import params, playground  # noqa: E402
from lib.playground import Chosen, Sample, tune  # noqa: E402
from lib.practice.measure import mixed  # noqa: E402

MEDIAN, WORST = 0.3, 1.0  # seconds: the targets, on busy cores
BUSY_SHARE = 0.1  # of the grid that is played on busy cores


def sample() -> Sample:
    """Return rows of the bundled sample, both languages mixed."""
    rows = mixed()
    held_back = playground.TRAINED + playground.HELD_BACK
    return Sample(tuple(rows[: playground.TRAINED]), tuple(rows[playground.TRAINED : held_back]))


def grid() -> list[tuple[int, Chosen]]:
    """Return every setting that the sliders can have, with the rows to learn from."""
    names = ("learning_rate", "epochs", "batch_size")
    stops = [params.PARAMS[name].stops for name in names]
    return [
        (rows, Chosen(playground.rate(rate, practice=False, method="lora"), int(epochs), int(pile)))
        for rows in (20, 48, playground.TRAINED)
        for rate, epochs, pile in product(*stops)
    ]


def moves(rows: Sample, settings: list[tuple[int, Chosen]]) -> list[float]:
    """Return the seconds that each move took."""
    seconds = []
    for count, chosen in settings:
        some = Sample(rows.trained[:count], rows.held_back)
        begun = time.perf_counter()
        tune._play(some, chosen)
        seconds.append(time.perf_counter() - begun)
    return seconds


def busy() -> None:
    """Count until ended from outside."""
    count = 0
    while True:
        count += 1


def told(name: str, seconds: list[float]) -> str:
    """Return a line of the table, with the slowest of 20 that are left when one of 20 is taken away."""
    ordered = sorted(seconds)
    high = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return (
        f"| {name} | {len(seconds):,} | {statistics.median(seconds):.3f} | {high:.3f} | {ordered[-1]:.3f} |"
    )


def main() -> None:
    """Play the grid, print the table and whether the targets are met."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("--share", type=float, default=1.0)
    asked.add_argument("--json", type=Path)
    given = asked.parse_args()
    rows, settings = sample(), grid()
    random.Random(0).shuffle(settings)
    settings = settings[: max(4, round(len(settings) * given.share))]
    moves(rows, [(count, settings[0][1]) for count in (20, 48, playground.TRAINED)])  # loads what is kept
    quiet = moves(rows, settings)
    cores = os.cpu_count() or 1
    fork = multiprocessing.get_context("spawn")
    others = [fork.Process(target=busy, daemon=True) for _ in range(cores)]
    for other in others:
        other.start()
    time.sleep(1.5)  # until they have come up
    loaded = moves(rows, settings[: max(4, round(len(settings) * BUSY_SHARE))])
    for other in others:
        other.terminate()
    print(f"{platform.processor() or platform.machine()}, {cores} cores, {time.strftime('%Y-%m-%d')}\n")
    print("| one move | moves | median s | 95 % s | worst s |\n|---|--:|--:|--:|--:|")
    print(told("cores as they were", quiet))
    print(told(f"{cores} other processes counting", loaded))
    for target, limit, value in (
        ("median", MEDIAN, statistics.median(loaded)),
        ("worst", WORST, max(loaded)),
    ):
        said = "met" if value <= limit else f"missed by {value / limit - 1:.0%}"
        print(f"target on busy cores, {target} within {limit} s: {said}")
    if given.json:
        given.json.write_text(json.dumps({"quiet": quiet, "busy": loaded}), encoding="utf-8")


if __name__ == "__main__":
    main()
