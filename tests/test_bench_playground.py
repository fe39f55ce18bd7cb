"""The bench of the playground times moves of the whole grid, and judges what was promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from bench import playground as bench
from tests.conftest import ROOT


def test_the_grid_is_every_stop() -> None:
    settings = bench.grid()
    assert len(settings) == len(set(settings)) == 3 * 16 * 11 * 6


def test_moves_are_timed_quiet_and_busy(tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    command = [sys.executable, str(ROOT / "bench" / "playground.py"), "--share", "0.002", "--json", str(out)]
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=True)
    assert ran.stdout.count("target on busy cores") == 2
    found = json.loads(out.read_text(encoding="utf-8"))
    assert len(found["quiet"]) == 6
    assert all(seconds > 0 for seconds in found["quiet"] + found["busy"])


def test_the_table_names_the_median_and_the_worst() -> None:
    assert bench.told("x", [0.1, 0.2, 0.9]) == "| x | 3 | 0.200 | 0.900 | 0.900 |"
