"""The bench of kills kills for real, and sees what is wrong where something is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import kills as bench
from lib import joblist
from tests.conftest import ROOT
from tests.finished import finished


@pytest.mark.trainer
def test_a_few_kills_leave_nothing_wrong(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = [sys.executable, "bench/kills.py", "--kills", "4", "--seed", "2", "--json", str(told)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(told.read_text(encoding="utf-8"))
    kills = [kill for outcome in found["outcomes"] for kill in outcome["kills"]]
    # one that takes everybody at once can go over the number asked for
    assert sum(kill["processes"] for kill in kills) == found["killed"] >= 4
    assert {kill["victim"] for kill in kills} <= set(bench.VICTIMS)


def complete(name: str) -> joblist.Job:
    job = finished(name)
    (job.folder.path / "adapter").mkdir()
    (job.folder.path / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    return job


def test_what_came_out_otherwise_is_seen() -> None:
    calm, other = complete("calm"), complete("other")
    assert list(bench.differences(other, calm)) == []
    (other.folder.path / "adapter" / "adapter_model.safetensors").write_bytes(b"others")
    assert list(bench.differences(other, calm)) == ["other weights"]
    shutil.copytree(calm.folder.path / "adapter", other.folder.path / "adapter", dirs_exist_ok=True)
    other.folder.metric(step=41, epoch=4, loss=1.0)
    assert "other losses: 46 rows instead of 45" in next(bench.differences(other, calm))
    shutil.copy(calm.folder.path / "metrics.jsonl", other.folder.path)
    (other.folder.path / ".status.json.1.ab.part").touch()
    with (other.folder.path / "events.jsonl").open("ab") as file:
        file.write(b'{"at": 1')
    assert list(bench.differences(other, calm)) == [
        "files too many ['.status.json.1.ab.part'], too few []",
        "events.jsonl is not whole",
    ]
    assert "it is failed" in next(bench.differences(finished("bad", state="failed"), calm))
