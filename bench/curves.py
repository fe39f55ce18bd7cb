"""Measure what the server works to read a long run and draw its page, beside a short one.

    python bench/curves.py                     1,000 and 100,000 points
    python bench/curves.py --points 1000000

The page of jobs itself, run by Streamlit's own test runner: the first look reads all points, later ones (one
a second while a run goes on) only what is new. Seconds are of the processor, the least of several rounds.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from streamlit.testing.v1 import AppTest  # noqa: E402

from lib import joblist, jobs, params  # noqa: E402
from lib.jobfolder import JobFolder  # noqa: E402
from lib.workspace import new_id, room  # noqa: E402

POINTS = (1_000, 100_000)
LIMIT = 0.2  # seconds for a first look at 100,000 points
ROUNDS = 3


def main() -> None:
    """Measure, print the table, say whether what was promised was kept."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--points", type=int, nargs="*", default=POINTS)
    given = asked.parse_args()
    print("| points | first look s | later looks s |\n|--:|--:|--:|")
    for points in given.points:
        rounds = [looks(points) for _ in range(ROUNDS)]
        first, later = (min(times) for times in zip(*rounds, strict=True))
        print(f"| {points:,} | {first:.3f} | {later:.3f} |", flush=True)
        if points == POINTS[-1]:
            print(f"first look under {LIMIT} s: {'met' if first < LIMIT else 'missed'}", file=sys.stderr)


def looks(points: int) -> tuple[float, float]:
    """Return the processor's seconds for the first look at a run of so many points, and for the next."""
    with tempfile.TemporaryDirectory() as home:
        known = os.environ.get("FIRSTTUNE_HOME")
        os.environ["FIRSTTUNE_HOME"] = home
        try:
            enter(points)
            page = AppTest.from_file(str(ROOT / "pages" / "frame.py"), default_timeout=60).run()
            page.switch_page("steps/jobs.py")
            return _look(page), _look(page)
        finally:
            os.environ.pop("FIRSTTUNE_HOME")
            if known is not None:
                os.environ["FIRSTTUNE_HOME"] = known


def enter(points: int) -> None:
    """Enter a run that has ended, with as many rows of metrics, eleven of them measurements."""
    asked = {
        "model": {"kind": "practice", "id": "practice"},
        "settings": {name: row.default for name, row in params.PARAMS.items()},
    }
    path, kind = room("jobs") / new_id("long"), jobs.KINDS["train"]
    folder = JobFolder.create(path, asked | {"kind": "train", "name": "long", "backend": "local"})
    (path / "metrics.jsonl").write_bytes(b"".join(rows(points)))
    folder.report("saving", step=points, steps=points)
    folder.finish(step=points, steps=points, eval_loss=1.0, eval_loss_before=2.0, seconds=60.0)
    values = {"id": path.name, "kind": "train", "name": "long", "backend": "local", "created": time.time()}
    values |= {"lane": kind.lane, "grace": kind.grace, "command": orjson.dumps(kind.command)}
    with joblist.opened(write=True) as db:
        joblist.change(db, joblist.enter(db, values), "done")


def rows(points: int) -> Sequence[bytes]:
    """Return the lines of a run's metrics as the trainer writes them."""
    lines = []
    for step in range(points + 1):
        where = {"step": step, "epoch": round(10 * step / points, 4)}
        if step:
            noise = step * 7919 % 1000 / 1000
            told = {"loss": 1 / (1 + step / points) + noise, "learning_rate": 2e-4 * (1 - step / points)}
            told |= {"grad_norm": 1 + noise, "tokens_per_second": 5000 + noise, "memory": 500_000_000 + step}
            lines.append(where | told | {"seconds": round(step / 10, 3)})
        if step % max(1, points // 10) == 0:
            lines.append(where | {"eval_loss": 2 - step / points, "eval_accuracy": 0.5, "seconds": step / 10})
    return [orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines]


def _look(page: AppTest) -> float:
    begun = time.process_time()
    page.run()
    seconds = time.process_time() - begun
    assert not page.exception, page.exception
    assert page.get("vega_lite_chart")
    return seconds


if __name__ == "__main__":
    main()
