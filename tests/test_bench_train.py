"""The bench of the trainer runs every part for real, and judges what was promised by medians."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import train as bench

ROOT = Path(__file__).resolve().parent.parent


def ran(tmp_path: Path, *words: str) -> tuple[dict[str, Any], str]:
    """Run the bench; return the figures it writes and what it prints."""
    told = tmp_path / "told.json"
    command = [sys.executable, str(ROOT / "bench" / "train.py"), "--rounds", "1", "--json", str(told), *words]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return json.loads(told.read_text(encoding="utf-8")), done.stdout


@pytest.mark.trainer
def test_every_engine_trains_on_the_sample(tmp_path: Path) -> None:
    found, printed = ran(tmp_path, "--only", "engines", "--epochs", "1", "--rows", "24")
    assert {row["name"]: row["said"] for row in found["rows"]} == dict.fromkeys(bench.ENGINES, "done"), found
    for row in found["rows"]:
        (run,) = row["runs"]
        assert 0 < run["first_step"] < run["seconds"]
        assert run["tokens_per_second"] > 0
    assert "not measured" not in {one["said"] for one in found["targets"]}
    assert len(found["targets"]) == 2, "no other part is judged"
    assert printed.count("| ours |") == 1


@pytest.mark.trainer
def test_the_job_is_measured_from_the_click_and_among_busy_processes(tmp_path: Path) -> None:
    found, _ = ran(tmp_path, "--only", "job,busy", "--epochs", "1", "--rows", "16")
    assert {row["said"] for row in found["rows"]} == {"done"}, found
    assert [row["name"] for row in found["rows"]] == ["ours", *bench._BOTH]
    (run,) = found["rows"][0]["runs"]
    assert 0 < run["running"] < run["first_step"] < run["seconds"]
    assert run["returned"] < run["first_step"]
    assert "not measured" not in {one["said"] for one in found["targets"]}


def test_a_promise_is_judged_by_medians_and_an_engine_that_failed_is_no_measure() -> None:
    run = {"tokens_per_second": 1200.0, "first_step": 5.0, "seconds": 20.0, "peak": 4.6e9, "running": 0.4}
    rows = [
        bench.Row("job", "ours", "done", [run, run | {"seconds": 90.0}, run | {"seconds": 33.0}]),
        bench.Row("engines", "ours", "done", [run]),
        bench.Row("engines", "TRL", "done", [run | {"tokens_per_second": 1000.0}]),
        bench.Row("engines", "loop", "failed: gone", [run]),
        bench.Row("step", "ours", "done", [run]),
        bench.Row("busy", "ours, alone", "done", [run]),
        bench.Row("busy", "ours, busy", "done", [run | {"tokens_per_second": 400.0}]),
        bench.Row("busy", "loop, alone", "done", [run]),
        bench.Row("busy", "loop, busy", "done", [run | {"tokens_per_second": 600.0}]),
    ]
    said = {one["target"]: one["said"] for one in bench.judged(rows)}
    assert said["job: first step within 6 s"] == "met"
    assert said["job: default job within 30 s"] == "missed by 10.0%"
    assert said["engines: at least 1.2 times TRL's useful tokens a second"] == "met"
    assert said["engines: at least 0.85 of the hand-written loop's"] == "not measured"
    assert said["step: not slower than TRL"] == "not measured"
    assert said["step: memory under 4.5 GB"] == "missed by 2.2%"
    assert said["busy: slower by what is taken away and no more"] == "missed by 25.0%", "three times, not two"
    lines = list(bench.table(rows[1:4]))
    assert "1.20×" in lines[3]


def test_the_engines_get_nine_tenths_of_the_sample(tmp_path: Path) -> None:
    train, held_back = bench.sample(1000)
    assert len(train) == 360
    assert not {json.dumps(turns) for turns in train} & {json.dumps(turns) for turns in held_back}
    bench.write(tmp_path, (train[:5], held_back[:2]))
    lines = (tmp_path / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["messages"] for line in lines] == train[:5]
