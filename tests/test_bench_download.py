"""The bench of the download runs with whatever is installed; every client's bytes are the server's."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import download as bench

ROOT = Path(__file__).resolve().parent.parent
SIZE, FILES, CUT = 1_000_000, 12, 300_000


def test_every_client_that_is_installed_fetches_what_was_served(tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    command = [sys.executable, str(ROOT / "bench" / "download.py"), "--rounds", "1", "--json", str(told)]
    command += [
        "--size",
        str(SIZE),
        "--files",
        str(FILES),
        "--cut",
        str(CUT),
        "--folder",
        str(tmp_path / "b"),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    found: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    said = {(row["repo"], row["name"]): row["said"] for row in found["rows"]}
    aria2c = [one.name for one in bench.CLIENTS if one.program == "aria2c"]
    assert {said[repo, "ours"] for repo in bench.REPOS} == {"same"}, said
    assert {said[repo, "hf download"] for repo in ("large", "small")} == {"same"}, said
    assert {said["large", name] for name in aria2c} == {"same" if shutil.which("aria2c") else "not installed"}
    runs = {(row["repo"], row["name"]): row["runs"] for row in found["rows"]}
    for repo in ("large", "reset", "close"):
        assert runs[repo, "ours"][0]["sent"] == SIZE
    assert runs["large", "ours"][0]["requests"] == 4  # the revision, the tree, the file, its storage
    assert runs["small", "ours"][0]["sent"] == FILES * bench.SMALL
    kept = {one["target"]: one["said"] for one in found["targets"]}
    assert kept["reset: at most 1 % more bytes than the file has"] == "met"
    assert kept["large: memory under 150 MB"] == "met"
    assert ran.stdout.count("| ours |") == len(bench.REPOS)
    assert not list((tmp_path / "b").glob("run-*")), "what the runs wrote is gone"


def test_a_promise_is_judged_by_medians_and_a_client_that_failed_is_no_measure() -> None:
    run = {"seconds": 2.0, "cpu": 1.0, "peak": 151e6, "sent": 1020.0, "requests": 1.0, "connections": 1.0}
    rows = [
        bench.Row("large", "ours", "same", [run, run | {"seconds": 9.0}, run | {"seconds": 1.0}]),
        bench.Row("large", "hf download", "same", [run | {"seconds": 1.6}]),
        bench.Row("large", "aria2c, 1 connection", "failed: gone", [run]),
        bench.Row("reset", "ours", "same", [run]),
        bench.Row("close", "ours", "DIFFERS: data.bin", [run]),
    ]
    found = {one["target"]: one for one in bench.judged(rows, 1000)}
    assert found["large: not slower than hf download"]["said"] == "missed by 25.0%"
    assert found["large: not slower than aria2c, 1 connection"]["said"] == "not measured"
    assert found["large: memory under 150 MB"]["said"] == "missed by 0.7%"
    assert found["reset: at most 1 % more bytes than the file has"]["said"] == "missed by 100.0%"
    assert found["close: at most 1 % more bytes than the file has"]["said"] == "not measured"
    lines = list(bench.table("large", 1000, 2, 300, rows[:3]))
    assert "1.020×" in lines[-3]
    assert lines[-1].endswith("|  | 1 | failed: gone |"), "a ratio to what failed says nothing"
