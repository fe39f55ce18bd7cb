"""The bench of the trainer runs every engine on the same rows, and judges what was promised by medians."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import train as bench

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.trainer
def test_every_engine_trains_on_the_sample(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = [sys.executable, str(ROOT / "bench" / "train.py"), "--rounds", "1", "--epochs", "1"]
    command += ["--rows", "24", "--json", str(told)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    assert {row["name"]: row["said"] for row in found["rows"]} == dict.fromkeys(bench.ENGINES, "done"), found
    for row in found["rows"]:
        (run,) = row["runs"]
        assert 0 < run["first_step"] < run["seconds"]
        assert run["tokens_per_second"] > 0
    said = {one["target"]: one["said"] for one in found["targets"]}
    assert said["0.5B: memory under 4.5 GB"] == "not measured"
    assert said["practice: default job within 30 s"] != "not measured"
    assert ran.stdout.count("| ours |") == 1


def test_a_promise_is_judged_by_medians_and_an_engine_that_failed_is_no_measure() -> None:
    run = {"tokens_per_second": 1200.0, "first_step": 5.0, "seconds": 20.0, "peak": 4.6e9}
    rows = [
        bench.Row("practice", "ours", "done", [run, run | {"seconds": 90.0}, run | {"seconds": 33.0}]),
        bench.Row("practice", "TRL", "done", [run | {"tokens_per_second": 1000.0}]),
        bench.Row("practice", "loop", "failed: gone", [run]),
        bench.Row("0.5B", "ours", "done", [run]),
    ]
    said = {one["target"]: one["said"] for one in bench.judged(rows)}
    assert said["practice: first step within 6 s"] == "met"
    assert said["practice: default job within 30 s"] == "missed by 10.0%"
    assert said["practice: at least 1.2 times TRL's useful tokens a second"] == "met"
    assert said["practice: at least 0.85 of the hand-written loop's"] == "not measured"
    assert said["0.5B: not slower than TRL"] == "not measured"
    assert said["0.5B: memory under 4.5 GB"] == "missed by 2.2%"
    lines = list(bench.table(rows[:3]))
    assert "1.20×" in lines[3]


def test_the_engines_get_nine_tenths_of_the_sample(tmp_path: Path) -> None:
    train, held_back = bench.sample(1000)
    assert len(train) == 360
    assert not {json.dumps(turns) for turns in train} & {json.dumps(turns) for turns in held_back}
    bench.write(tmp_path, (train[:5], held_back[:2]))
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["messages"] for line in lines] == train[:5]
