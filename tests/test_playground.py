"""The playground: a real fine-tune at every move, and what the settings are known to do can be seen in it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lib import convert, formats, params, playground, words
from lib.curves import Series
from lib.playground import Chosen, Played, Sample, model, tune
from lib.playground.adam import Adam
from lib.practice.measure import mixed
from tests.conftest import ROOT

GOOD = playground.rate(2e-4, practice=False, method="lora")


@pytest.fixture(scope="module")
def rows() -> Sample:
    drawn = mixed()
    return Sample(tuple(drawn[:96]), tuple(drawn[96:120]))


def played(rows: Sample, rate: float = GOOD, epochs: int = 3, pile: int = 8) -> Played:
    return playground.play(rows, Chosen(rate, epochs, pile))


def fell(curve: Series) -> float:
    return float(1 - curve.values[-1] / curve.values[0])


def test_too_low_a_rate_learns_nothing(rows: Sample) -> None:
    run = played(rows, playground.rate(2e-6, practice=False, method="lora"), epochs=3)
    assert run.verdict == "nothing"
    assert abs(fell(run.validation)) < 0.05


def test_a_good_rate_learns_the_manner_and_keeps_what_was_known(rows: Sample) -> None:
    run = played(rows, epochs=5)
    assert run.verdict == "learning"
    assert fell(run.validation) > 0.3
    assert run.known.values[-1] < run.validation.values[0] - fell(run.validation)
    assert run.answers[0] != run.answers[1]


def test_a_high_rate_forgets_and_a_higher_one_falls_apart(rows: Sample) -> None:
    good = played(rows)
    high = played(rows, playground.rate(1e-3, practice=False, method="lora"))
    ruined = played(rows, playground.rate(1e-2, practice=False, method="lora"))
    assert (high.verdict, ruined.verdict) == ("forgetting", "apart")
    assert high.known.values[-1] > good.known.values[-1] * 1.3
    assert ruined.validation.values[-1] > ruined.validation.values[0] * 1.5
    assert ruined.facts["first"] == ruined.validation.values[0]
    assert ruined.facts["last"] == ruined.validation.values[-1]


def test_too_few_epochs_leave_it_half_learned(rows: Sample) -> None:
    once, usual = played(rows, epochs=1), played(rows, epochs=5)
    assert "few" in once.notes
    assert fell(once.validation) < fell(usual.validation) - 0.1


def test_too_many_epochs_are_learned_by_heart(rows: Sample) -> None:
    run = played(rows, epochs=30)
    assert run.verdict == "memorising"
    assert 2 < run.facts["epoch"] < 25
    assert run.loss.values[-20:].mean() < run.validation.values[-1] / 2
    assert run.validation.values[-1] > run.validation.values.min()


def test_one_large_batch_leaves_nine_steps(rows: Sample) -> None:
    run, usual = played(rows, pile=32), played(rows, pile=8)
    assert run.steps == 9
    assert "few" in run.notes
    assert run.validation.values[-1] > usual.validation.values[-1] + 0.2


def test_a_batch_of_one_is_noisy(rows: Sample) -> None:
    one, eight = played(rows, pile=1), played(rows, pile=8)
    assert "noisy" in one.notes
    assert "noisy" not in eight.notes
    assert np.diff(one.loss.values).std() > 2 * np.diff(eight.loss.values[12:]).std()


def test_twenty_rows_are_learned_by_heart(rows: Sample) -> None:
    few = Sample(rows.trained[:20], rows.held_back)
    run = playground.play(few, Chosen(GOOD, 30, 1))
    assert run.verdict == "memorising"
    assert run.loss.values[-20:].mean() < 0.3
    assert run.validation.values[-1] > 5 * run.loss.values[-20:].mean()
    question, answer = few.trained[0]
    assert tune.answer(few, Chosen(GOOD, 30, 1), question)[:8] == answer[:8]


def test_the_same_settings_give_the_same_curves_and_another_seed_others(rows: Sample) -> None:
    first = tune._play(rows, Chosen(GOOD, 2, 8))
    again = tune._play(rows, Chosen(GOOD, 2, 8))
    other = tune._play(rows, Chosen(GOOD, 2, 8, seed=1))
    assert first.loss.values.tolist() == again.loss.values.tolist()
    assert first.known.values.tolist() == again.known.values.tolist()
    assert first.loss.values.tolist() != other.loss.values.tolist()
    assert playground.play(rows, Chosen(GOOD, 2, 8)) is playground.play(rows, Chosen(GOOD, 2, 8))


def test_the_slope_is_the_one_that_differences_show(rows: Sample) -> None:
    start, trained, _, _ = tune._prepared(rows)
    wide = model.Model(start.characters, start.embedding.astype(float), start.trained.astype(float))
    slope = wide.copy()
    inputs, targets = trained.inputs[:50].astype(float), trained.targets[:50]
    wide.slope(inputs, targets, slope)
    dice = np.random.default_rng(0)
    for place in [*dice.integers(0, wide.trained.size, 20), wide.trained.size - 1]:
        kept, losses = wide.trained[place], []
        for step in (1e-5, -1e-5):
            wide.trained[place] = kept + step
            losses.append(wide.slope(inputs, targets, wide.copy()))
        wide.trained[place] = kept
        assert slope.trained[place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-3, abs=1e-8)


def test_adam_steps_are_those_of_its_paper() -> None:
    numbers, slopes = np.array([1.0, -2.0], np.float32), ([0.3, -0.1], [0.1, 0.2])
    adam, mean, square, expected = Adam(2), np.zeros(2), np.zeros(2), numbers.astype(float)
    for step, slope in enumerate(slopes, 1):
        adam.step(numbers, np.array(slope, np.float32), 0.01)
        mean = 0.9 * mean + 0.1 * np.array(slope)
        square = 0.999 * square + 0.001 * np.array(slope) ** 2
        expected -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    assert numbers == pytest.approx(expected, rel=1e-5)


def test_a_long_run_is_the_beginning_of_itself_and_says_so(rows: Sample) -> None:
    run = played(rows, epochs=30, pile=1)
    assert (run.steps, run.wanted) == (playground.MOST_STEPS, 2880)
    assert "cut" in run.notes
    assert run.loss.epochs[-1] == pytest.approx(playground.MOST_STEPS / 96)


def test_any_script_and_hardly_any_rows_can_be_played_with() -> None:
    cyrillic = tuple((f"q{n}", "".join(map(chr, range(0x430, 0x440)))) for n in range(3))
    for rows in (Sample(cyrillic, ()), Sample((("", "x"),), (("", "\ud800"), ("", "y")))):
        run = played(rows, epochs=2)
        assert run.verdict
        assert np.isfinite(run.loss.values).all()


def test_what_it_knew_was_never_trained_on() -> None:
    known = model.known_pairs(chinese=True, other=True)
    assert len(known) == 2 * 24
    start = model.pretrained(model.characters_of(known))
    blind = np.log(len(start.characters))
    assert start.loss(start.texts(known)) < 0.4 * blind


def test_the_script_that_made_the_model_writes_what_is_shipped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lib.playground.pretrain", "--steps", "2", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    known = (tmp_path / "known.json").read_bytes()
    assert known == (model.FOLDER / "known.json").read_bytes()
    with np.load(tmp_path / "weights.npz") as made, np.load(model.FOLDER / "weights.npz") as shipped:
        assert {name: made[name].shape for name in made} == {name: shipped[name].shape for name in shipped}
        assert made["characters"].tolist() == shipped["characters"].tolist()
    assert (model.FOLDER / "weights.npz").stat().st_size < 200_000


def test_the_rows_are_the_visitors_own_and_the_mock_exam_is_held_back(tmp_path: Path) -> None:
    source = tmp_path / "rows.json"
    source.write_text(json.dumps([{"q": f"question {n}", "a": f"answer {n}"} for n in range(300)]))
    mapping = formats.Mapping("qa", {"user": "q", "assistant": "a"})
    for share in (0.1, 0.0):
        out = tmp_path / f"kept {share}"
        convert.convert(convert.Request((source,), out, mapping, validation=share))
        rows = playground.sample(out)
        assert (len(rows.trained), len(rows.held_back)) == (96, 24)
        assert not set(rows.trained) & set(rows.held_back)
        few = playground.sample(out, 20)
        assert few.trained == rows.trained[:20]
        assert few.held_back == rows.held_back


def test_other_threads_go_on_meanwhile(rows: Sample) -> None:
    waits: list[float] = []
    done = threading.Event()

    def page() -> None:
        last = time.perf_counter()
        while not done.is_set():
            time.sleep(0.002)
            now = time.perf_counter()
            waits.append(now - last)
            last = now

    thread = threading.Thread(target=page)
    thread.start()
    for seed in range(3):
        tune._play(rows, Chosen(GOOD, 15, 4, seed=seed))
    done.set()
    thread.join()
    assert len(waits) > 20
    assert sorted(waits)[len(waits) * 9 // 10] < 0.1


def test_every_verdict_and_note_has_its_sentence() -> None:
    for verdict in ("apart", "nothing", "memorising", "forgetting", "learning"):
        assert words.has(f"playground.said.{verdict}")
    for note in ("few.other", "noisy", "cut"):
        assert words.has(f"playground.note.{note}")


def test_every_stop_of_the_sliders_can_be_played(rows: Sample) -> None:
    few = Sample(rows.trained[:20], rows.held_back[:4])
    grid = product(params.PARAMS["learning_rate"].stops, (1, 30), (1, 32))
    for value, epochs, pile in grid:
        run = played(few, playground.rate(value, practice=False, method="full"), epochs, pile)
        assert run.verdict
        assert len(run.loss) == run.steps
