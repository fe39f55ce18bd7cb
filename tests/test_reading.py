"""Curves of every kind are read as what they are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lib import words
from lib.curves import Curves, Series
from lib.jobfolder import JobFolder
from lib.reading import Reading, forgetting, read
from tests.practised import Practised

STEPS, EPOCHS = 200, 10
VERDICTS = (
    *("early", "short", "diverged", "nothing", "memorising", "learning", "falling", "settled", "blind"),
    "forgetting",
)


def curve(values: np.ndarray, epochs: float = EPOCHS) -> Series:
    share = np.linspace(0, 1, len(values))
    return Series(share * STEPS, share * epochs, values.astype(np.float64))


def noisy(values: np.ndarray, seed: int, noise: float = 0.15) -> Series:
    return curve(values * np.random.default_rng(seed).normal(1, noise, len(values)))


def fall(start: float, end: float, points: int, pace: float = 4) -> np.ndarray:
    return end + (start - end) * np.exp(-pace * np.linspace(0, 1, points))


def u_turn(best: int = 4, points: int = 11) -> np.ndarray:
    down, up = np.linspace(3, 1, best + 1), np.linspace(1, 1.6, points - best)[1:]
    return np.concatenate((down, up))


@pytest.mark.parametrize("seed", range(20))
def test_falling_curves_are_learning(seed: int) -> None:
    loss, validation = noisy(fall(3, 0.8, STEPS, 2), seed), curve(fall(3, 1, 11, 2))
    assert read(loss, validation, ended=False).verdict == "learning"
    assert read(loss, validation, ended=True).verdict == "falling"


@pytest.mark.parametrize("seed", range(20))
def test_flat_by_now_is_settled(seed: int) -> None:
    told = read(noisy(fall(3, 0.9, STEPS, 12), seed), curve(fall(3, 1, 11, 12)), ended=True)
    assert told.verdict == "settled"


def test_flat_where_the_learning_rate_is_almost_nothing_is_not_settled() -> None:
    share = np.linspace(0, 1, STEPS)
    cosine = curve(1 + np.cos(np.pi * share))
    way = (share + np.sin(np.pi * share) / np.pi)[:: STEPS // 10]  # how far the learning has come at a cosine
    loss, validation = noisy(fall(3, 2, STEPS, 2), 0), curve(3 - way)
    assert read(loss, validation, ended=True).verdict == "settled"
    assert read(loss, validation, cosine, ended=True).verdict == "falling"
    assert read(loss, curve(fall(3, 1, 11, 20)), cosine, ended=True).verdict == "settled"


@pytest.mark.parametrize("seed", range(20))
def test_a_turn_of_validation_is_memorising_since_that_epoch(seed: int) -> None:
    told = read(noisy(fall(3, 0.05, STEPS), seed), curve(u_turn()), ended=True)
    assert told == Reading("memorising", {"first": 3.0, "best": 1.0, "last": 1.6, "epoch": 4.0})


def test_one_measurement_a_little_higher_is_no_memorising() -> None:
    validation = np.append(fall(3, 1, 10, 5), 1.05)
    validation[-1] = validation[-2] * 1.03
    assert read(noisy(fall(3, 0.8, STEPS), 0), curve(validation), ended=True).verdict != "memorising"


@pytest.mark.parametrize("seed", range(20))
def test_flat_curves_learned_nothing(seed: int) -> None:
    flat = noisy(np.full(STEPS, 3.0), seed)
    validation = curve(3.0 - np.linspace(0, 0.02, 11))
    assert read(flat, validation, ended=True).verdict == "nothing"
    assert read(flat, validation, ended=False, share=0.1).verdict == "early"  # it may be the warm-up
    assert read(flat, validation, ended=False, share=0.5).verdict == "nothing"
    assert read(flat, curve(np.array([])), ended=True).verdict == "nothing"


@pytest.mark.parametrize("seed", range(20))
def test_a_loss_that_grows_has_diverged(seed: int) -> None:
    rising = noisy(np.linspace(3, 9, STEPS), seed)
    burst = noisy(np.concatenate((fall(3, 1, 80), np.full(120, 2.6))), seed)
    for loss in (rising, burst):
        assert read(loss, curve(np.linspace(3, 8, 6)), ended=True).verdict == "diverged"
        assert read(loss, curve(np.array([])), ended=False, share=0.5).verdict == "diverged"


def test_a_loss_that_is_no_number_has_diverged() -> None:
    empty = curve(np.array([]))
    assert read(empty, empty, ended=True, broken=True).verdict == "diverged"


def test_a_run_that_begins_is_too_early_to_read() -> None:
    empty = curve(np.array([]))
    assert read(empty, empty, ended=False, share=0).verdict == "early"
    assert read(noisy(fall(3, 2, 5), 0), curve(np.array([3.0])), ended=False, share=0.02).verdict == "early"
    assert read(noisy(fall(3, 2, 50), 0), curve(np.array([3.0])), ended=False, share=0.2).verdict == "early"


def test_a_run_of_few_steps_is_too_short_to_read() -> None:
    assert read(noisy(fall(3, 2, 3), 0), curve(np.array([3.0, 2.5])), ended=True).verdict == "short"
    # but several measurements of few long steps can be read
    assert read(noisy(fall(3, 2, 5), 0), curve(u_turn(2, 6)), ended=True).verdict == "memorising"


@pytest.mark.parametrize("seed", range(20))
def test_without_validation_only_so_much_can_be_said(seed: int) -> None:
    told = read(noisy(fall(3, 0.5, STEPS), seed), curve(np.array([])), ended=True)
    assert told.verdict == "blind"
    assert told.facts["last"] < 0.8 < 2 < told.facts["first"]


@pytest.mark.parametrize("points", [8, 20, 200, 100_000])
def test_noise_alone_never_has_diverged(points: int) -> None:
    flat = (noisy(np.full(points, 2.0), seed, noise=0.3) for seed in range(200 if points < 1000 else 5))
    told = [read(loss, curve(np.full(5, 2.0)), ended=True).verdict for loss in flat]
    assert told.count("nothing") >= 0.95 * len(told), told


def test_forgetting_is_told_where_it_is_measured_and_much() -> None:
    assert forgetting(curve(np.array([1.0, 1.8, 2.5]))) == Reading("forgetting", {"first": 1.0, "last": 2.5})
    for little in ([1.0, 1.1, 1.2], [1.0, 2.0, 1.1], [2.0, 1.0], [1.0], []):
        assert forgetting(curve(np.array(little))) is None


def drawn(folder: JobFolder, share: float = 1.0) -> Reading:
    """Read a real run's curves, up to a share of its steps."""
    curves = Curves(folder.path)
    curves.read()
    last = share * curves.series("loss").steps[-1]
    loss, validation, rates = (
        one.at(one.steps <= last) for one in map(curves.series, ("loss", "eval_loss", "learning_rate"))
    )
    return read(loss, validation, rates, ended=share == 1, share=share, broken=curves.broken)


# What a run is told, what it must be read as at its end, and after a part of its steps.
REAL = {
    "epochs=1 learning_rate=1e-6": ("nothing", 0.4, "nothing"),
    "epochs=1": ("falling", 0.4, "learning"),
    "defaults": ("memorising", 0.2, "learning"),
    "epochs=1 learning_rate=1e-1": ("diverged", 0.4, "diverged"),
}


@pytest.mark.trainer
@pytest.mark.parametrize("name", REAL)
def test_a_real_run_is_read_as_what_it_is(practised: Practised, name: str) -> None:
    verdict, share, midway_verdict = REAL[name]
    told, midway = drawn(practised(name)), drawn(practised(name), share)
    assert (told.verdict, midway.verdict) == (verdict, midway_verdict), (told, midway)
    for lang in words.languages():
        for one in (told, midway):
            said = words.say(lang, f"reading.{one.verdict}", **one.facts)
            named = re.findall(r"\d+\.\d\d", said)
            assert set(named) <= {f"{fact:.2f}" for fact in one.facts.values()}
            assert named or one.verdict in ("nothing", "diverged")


@pytest.mark.trainer
def test_a_real_run_learns_by_heart_since_the_epoch_of_its_best_measurement(practised: Practised) -> None:
    rows = [row for row in practised("defaults").metrics() if "eval_loss" in row]
    best = min(rows, key=lambda row: row["eval_loss"])
    told = drawn(practised("defaults"))
    assert told.facts["epoch"] == pytest.approx(best["epoch"], abs=0.01)
    assert 1 < best["epoch"] < 5
    assert (told.facts["best"], told.facts["last"]) == (best["eval_loss"], rows[-1]["eval_loss"])
    for lang in words.languages():
        said = words.say(lang, "reading.memorising", **told.facts)
        assert f"{best['eval_loss']:.2f}" in said
        assert f"{best['epoch']:.2g}" in said


@pytest.mark.trainer
def test_real_runs_forget_the_more_the_higher_the_rate(practised: Practised) -> None:
    def knew(name: str) -> Series:
        curves = Curves(practised(name).path)
        curves.read()
        return curves.series("known_loss")

    assert forgetting(knew("epochs=1 learning_rate=1e-6")) is None
    told, ruined = forgetting(knew("defaults")), forgetting(knew("epochs=1 learning_rate=1e-1"))
    assert told
    assert ruined
    assert told.facts["first"] == ruined.facts["first"] < told.facts["last"] < ruined.facts["last"]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_has_its_sentence(verdict: str) -> None:
    facts = {"first": 3.0, "best": 1.0, "last": 1.5, "epoch": 4.0}
    for lang in words.languages():
        assert "{" not in words.say(lang, f"reading.{verdict}", **facts)
    known = {key.removeprefix("reading.") for key in words.catalog("en") if key.startswith("reading.")}
    assert known == set(VERDICTS)
