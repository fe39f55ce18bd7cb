"""Runs beside one another: what was set differently, in words, and which came out best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lib import contrast, words
from lib.jobs import Job
from lib.workspace import write_json
from tests.finished import finished


def told(*jobs: Job) -> list[contrast.Difference]:
    return contrast.differences(contrast.runs(jobs))


def verdict(*jobs: Job) -> contrast.Verdict:
    return contrast.best(contrast.runs(jobs))


@pytest.mark.parametrize(
    ("settings", "how", "n"),
    [
        ({"learning_rate": 1e-4}, "half", 2),
        ({"learning_rate": 4e-4}, "double", 2),
        ({"epochs": 9}, "times", 3),
        ({"batch_size": 2}, "part", 4),
        ({"learning_rate": 5e-4}, "instead", 0),
        ({"lora_dropout": 0}, "instead", 0),
        ({"seed": 2}, "instead", 0),
        ({"max_length": 512}, "half", 2),
    ],
)
def test_a_difference_is_told_in_words(settings: Mapping[str, float], how: str, n: int) -> None:
    (one,) = told(finished("a"), finished("b", settings))
    ((name, value),) = settings.items()
    assert (one.letter, one.first, one.what, one.how, one.n, one.value) == ("B", "A", name, how, n, value)
    for lang in words.languages():
        said = contrast.say(lang, one)
        assert contrast.shown(lang, name, value) in said and "{" not in said


def test_the_sentence_names_the_setting_in_the_middle_of_a_sentence() -> None:
    (rate,) = told(finished("a"), finished("b", {"learning_rate": 1e-4}))
    assert "half the learning rate of **A** (1e-4 instead of 2e-4)" in contrast.say("en", rate)
    (rank,) = told(finished("a"), finished("b", {"lora_rank": 32}))
    assert "twice the LoRA rank of **A**" in contrast.say("en", rank)


def test_a_value_between_the_stops_is_not_rounded() -> None:
    assert contrast.shown("en", "learning_rate", 1.25e-4) == "0.000125"
    assert contrast.shown("en", "learning_rate", 2e-4) == "2e-4"


def test_runs_are_lettered_by_age_and_compared_with_the_first() -> None:
    a, b, c = finished("a"), finished("b", {"epochs": 6}), finished("c", {"epochs": 6, "seed": 1})
    runs = contrast.runs([c, a, b])
    assert [(run.letter, run.job.id) for run in runs] == [("A", a.id), ("B", b.id), ("C", c.id)]
    assert [(one.letter, one.what) for one in contrast.differences(runs)] == [
        ("B", "epochs"),
        ("C", "epochs"),
        ("C", "seed"),
    ]


def test_runs_told_the_same_say_so() -> None:
    (one,) = told(finished("a"), finished("b"))
    assert one.how == "same"


def test_a_setting_that_came_later_is_at_its_default_in_an_older_run() -> None:
    older = finished("a")
    asked = older.folder.asked()
    del asked["settings"]["warmup_ratio"]
    write_json(older.folder.path / "job.json", asked)
    (one,) = told(older, finished("b"))
    assert one.how == "same"


def test_a_choice_may_be_written_by_its_name_or_by_its_place() -> None:
    first = finished("a", {"method": "lora", "schedule": 0})
    (one,) = told(first, finished("b", {"schedule": "cosine"}))
    assert one.how == "same"
    (one,) = told(first, finished("c", {"method": "dora"}))
    assert one.what == "method"
    for lang in words.languages():
        said = contrast.say(lang, one)
        assert all(words.say(lang, f"param.method.choice.{name}") in said for name in ("lora", "dora"))


def test_other_rows_and_another_model_are_told_and_not_ranked(tmp_path: Path) -> None:
    data: list[Path] = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        for part in ("train", "validation"):
            (folder / f"{part}.jsonl").write_text(f'{{"messages": ["{name}"]}}\n')
        data.append(folder)
    a, b, c = finished("a", data=data[0]), finished("b", data=data[1]), finished("c", data=data[0])
    assert [one.what for one in told(a, b)] == ["rows"]
    assert verdict(a, b).why == "other_rows"
    assert verdict(a, c).why in ("close", "lowest")
    model = {"kind": "path", "id": "/models/[a](b)"}
    other = finished("d", model=model, data=data[0])
    (one,) = told(a, other)
    assert (one.how, one.value, one.before) == ("model", "/models/[a](b)", "practice")
    assert "\\[" in contrast.say("en", one, lambda text: text.replace("[", "\\["))
    assert verdict(a, other).why == "other_model"
    # a copy of the same rows measures the same
    copy = tmp_path / "copy"
    copy.mkdir()
    for part in ("train", "validation"):
        (copy / f"{part}.jsonl").write_bytes((data[0] / f"{part}.jsonl").read_bytes())
    assert [one.how for one in told(a, finished("e", data=copy))] == ["same"]


@pytest.mark.parametrize(
    ("kept", "why", "letter"),
    [((1.5, 1.2), "lowest", "B"), ((1.0, 1.2), "lowest", "A"), ((1.2, 1.19), "close", "B")],
)
def test_the_lowest_kept_loss_is_best_unless_chance_could_turn_it(
    kept: tuple[float, float], why: str, letter: str
) -> None:
    a, b = (finished(name, validation=(3.0, loss)) for name, loss in zip("ab", kept, strict=True))
    found = verdict(a, b)
    assert (found.why, found.letter, found.passed) == (why, letter, "")
    assert found.facts["loss"] == min(kept) and found.facts["other_loss"] == max(kept)


def test_a_run_that_was_better_on_its_way_is_named() -> None:
    steady, turned = finished("a", validation=(3.0, 1.5, 1.2)), finished("b", validation=(3.0, 0.9, 1.6))
    found = verdict(steady, turned)
    assert (found.letter, found.passed) == ("A", "B")
    assert (found.facts["passed_loss"], found.facts["epoch"]) == (0.9, 2.0)
    for lang in words.languages():
        assert "{" not in words.say(lang, f"contrast.best.{found.why}", **found.facts)
        assert "{" not in words.say(lang, "contrast.passed", **found.facts)


def test_what_was_not_measured_is_not_ranked() -> None:
    assert verdict(finished("a", validation=()), finished("b")).why == "unmeasured"
    told = contrast.figures(contrast.runs([finished("c", validation=())])[0])
    assert (told.first, told.best, told.kept, told.steps) == (None, None, None, 40)


def test_figures_are_those_of_the_run() -> None:
    run = contrast.runs([finished("a", validation=(3.0, 0.9, 1.6), kept_step=20)])[0]
    expected: dict[str, Any] = {"steps": 40, "first": 3.0, "best": 0.9, "best_epoch": 2.0, "kept": 0.9}
    expected |= {"tokens_per_second": 1000.0, "seconds": 12.0, "training": 0.6}
    figures = contrast.figures(run)
    assert {name: getattr(figures, name) for name in expected} == pytest.approx(expected)
