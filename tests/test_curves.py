"""Curves are read as they grow, and drawn with few points and all their extremes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest
from pyarrow import json

from lib.curves import MOST_POINTS, Curves, Series, lowest, smoothed, thinned
from lib.jobfolder import JobFolder


def series(values: list[float]) -> Series:
    steps = np.arange(1, len(values) + 1, dtype=np.float64)
    return Series(steps, steps / 100, np.array(values, dtype=np.float64))


def row(step: int, **more: object) -> bytes:
    return orjson.dumps({"step": step, "epoch": step / 10} | more) + b"\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def test_a_run_without_metrics_has_empty_curves(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    curves.read()
    assert len(curves.series("loss")) == 0
    assert (curves.last("loss"), curves.epoch, curves.broken) == (None, 0.0, False)
    assert lowest(curves.series("loss")) is None
    assert len(thinned(curves.series("loss"))) == len(smoothed(curves.series("loss"), 0.9)) == 0


def test_what_a_job_folder_writes_is_read_column_by_column(tmp_path: Path) -> None:
    folder = JobFolder(tmp_path)
    folder.metric(step=0, epoch=0.0, eval_loss=3.5, eval_accuracy=0.1)
    folder.metric(step=10, epoch=0.5, loss=3.0, learning_rate=1e-3, grad_norm=2, tokens_per_second=None)
    folder.metric(step=20, epoch=1.0, loss=2.0, learning_rate=5e-4, grad_norm=1.5, memory=5e8)
    curves = Curves(tmp_path)
    curves.read()
    loss = curves.series("loss")
    assert (loss.steps.tolist(), loss.epochs.tolist(), loss.values.tolist()) == ([10, 20], [0.5, 1], [3, 2])
    assert curves.series("eval_loss").steps.tolist() == [0]
    assert (curves.last("learning_rate"), curves.last("grad_norm")) == (5e-4, 1.5)
    assert (curves.last("memory"), curves.last("tokens_per_second"), curves.epoch) == (5e8, None, 1.0)


def test_only_what_is_new_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_bytes(b"".join(row(n, loss=float(n)) for n in range(1000)))
    curves = Curves(file.parent)
    curves.read()
    seen: list[int] = []
    read_json = json.read_json

    def counting(text: pa.BufferReader, *how: object) -> pa.Table:
        seen.append(text.size())
        return read_json(text, *how)

    monkeypatch.setattr(json, "read_json", counting)
    curves.read()
    assert seen == []
    with file.open("ab") as more:
        more.write(row(1000, loss=7.0))
    curves.read()
    assert sum(seen) < 100
    assert len(curves.series("loss")) == 1001
    assert curves.last("loss") == 7.0


def test_a_line_that_is_being_written_is_left_for_next_time(file: Path) -> None:
    whole, half = row(1, loss=1.0), row(2, loss=2.0)
    curves = Curves(file.parent)
    for cut in range(len(half)):
        file.write_bytes(whole + half[:cut])
        curves.read()
        assert curves.series("loss").values.tolist() == [1.0]
    file.write_bytes(whole + half)
    curves.read()
    assert curves.series("loss").values.tolist() == [1.0, 2.0]


def test_a_half_line_in_the_middle_is_passed_over(file: Path) -> None:
    for broken in (b'{"step": 2, "lo\n5\n', b'[1]\n\n{"step": 2, "loss": "low", "eval_loss": 4}\n'):
        file.write_bytes(row(1, loss=1.0) + broken + row(3, loss=3.0) + b'{"loss": 9.0}\n')
        curves = Curves(file.parent)
        curves.read()
        assert curves.series("loss").steps.tolist() == [1, 3]
        assert (curves.last("loss"), curves.epoch, curves.broken) == (3.0, 0.3, False)


@pytest.mark.parametrize("shorter", [True, False])
def test_a_run_that_goes_on_from_its_checkpoint_is_read_anew(file: Path, shorter: bool) -> None:
    file.write_bytes(b"".join(row(n, loss=float(n)) for n in range(20)))
    curves = Curves(file.parent)
    curves.read()
    beside = file.with_name("new")
    rows = range(10) if shorter else range(50)
    beside.write_bytes(b"".join(row(n, loss=float(n) if n < 10 else -1.0) for n in rows))
    beside.replace(file)
    curves.read()
    assert len(curves.series("loss")) == len(rows)
    assert curves.last("loss") == (9.0 if shorter else -1.0)
    file.unlink()
    curves.read()
    assert len(curves.series("loss")) == 0


def test_a_loss_that_is_no_number_is_noticed_and_not_drawn(file: Path) -> None:
    file.write_bytes(row(1, loss=1.0) + row(2, loss=None) + row(3, eval_loss=2.0))
    curves = Curves(file.parent)
    curves.read()
    assert curves.broken
    assert len(curves.series("loss")) == 1


@pytest.mark.parametrize("count", [1001, 1500, 12_345, 100_000])
def test_thinning_keeps_the_extremes_and_both_ends(count: int) -> None:
    noise = np.random.default_rng(count)
    values = noise.normal(size=count)
    high, low = noise.choice(np.arange(1, count - 1), 2, replace=False)
    values[high], values[low] = 100, -100
    whole = series(values.tolist())
    few = thinned(whole)
    assert len(few) <= MOST_POINTS
    assert (few.steps[0], few.steps[-1]) == (1, count)
    assert {100.0, -100.0} <= set(few.values.tolist())
    assert (np.diff(few.steps) > 0).all()
    kept = np.searchsorted(whole.steps, few.steps)
    assert (whole.values[kept] == few.values).all()
    # every stretch of a fiftieth keeps its own highest point, to within what lies on its edges
    for part in np.array_split(np.arange(1, count - 1), 50):
        inside = few.values[(few.steps > part[0]) & (few.steps <= part[-1] + 1)]
        assert inside.max() >= np.sort(whole.values[part])[-max(2, len(part) // 50)]


def test_few_points_are_drawn_as_they_are() -> None:
    few = series([3.0, 1.0, 2.0])
    assert thinned(few) is few
    assert lowest(few) == 1


def test_smoothing_calms_without_bending_the_beginning() -> None:
    flat = smoothed(series([5.0] * 50), 0.9)
    assert np.allclose(flat.values, 5.0)
    noise = np.random.default_rng(0).normal(size=2000)
    calm = smoothed(series((noise + 3).tolist()), 0.95)
    assert calm.values[200:].std() < 0.25 * noise.std()
    assert abs(calm.values[200:].mean() - 3) < 0.1
    mean, expected = 0.0, []
    for place, value in enumerate(noise.tolist(), 1):
        mean = 0.9 * mean + 0.1 * value
        expected.append(mean / (1 - 0.9**place))
    for count in (1, 2, 99, 100, 101, 2000):
        assert np.allclose(smoothed(series(noise[:count].tolist()), 0.9).values, expected[:count])
    bare = series([1.0, 2.0])
    assert smoothed(bare, 0) is bare


def test_a_hundred_thousand_rows_are_read_and_thinned_quickly(file: Path) -> None:
    rows = (
        row(n, loss=2.0 + (n * 7919 % 1000) / 1000, learning_rate=1e-4, grad_norm=1.25, seconds=n / 10)
        for n in range(100_000)
    )
    file.write_bytes(b"".join(rows))
    curves = Curves(file.parent)
    begun = time.thread_time()
    curves.read()
    read = time.thread_time() - begun
    begun = time.thread_time()
    for _ in range(5):
        curves.read()
        loss = curves.series("loss")
        assert len(thinned(smoothed(loss, 0.9))) + len(thinned(loss)) <= 2 * MOST_POINTS
    look = (time.thread_time() - begun) / 5
    assert read < 0.5, read  # 0.07 s where nothing else runs; once for each run
    assert look < 0.2, look
