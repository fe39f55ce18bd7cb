"""The page of a long run is drawn about as quickly as that of a short one."""

from __future__ import annotations

import json
from pathlib import Path

from bench import curves as bench
from lib.curves import Curves


def test_a_run_of_a_hundred_thousand_points_is_read_and_drawn_quickly() -> None:
    bench.looks(1000)  # once for what is loaded at the first look at any run
    first, later = bench.looks(100_000)
    assert first < 1.0, first  # 0.13 s where nothing else runs
    assert later < 0.6, later


def test_the_rows_are_those_of_a_run(tmp_path: Path) -> None:
    lines = bench.rows(100)
    (tmp_path / "metrics.jsonl").write_bytes(b"".join(lines))
    curves = Curves(tmp_path)
    curves.read()
    assert (len(curves.series("loss")), len(curves.series("eval_loss")), curves.epoch) == (100, 11, 10.0)
    assert not curves.broken
    assert all(json.loads(line)["step"] <= 100 for line in lines)
