"""Hyperparameters: what may be chosen, what is refused, what is said about it."""

from __future__ import annotations

import pytest

from lib import backends, params, words
from lib.errors import UsageError

LOCAL = backends.BACKENDS["local"].ranges
CONSOLE = backends.BACKENDS["siliconflow"].ranges


def test_every_default_is_a_stop_and_every_stop_ascends() -> None:
    for name, row in params.PARAMS.items():
        assert row.default in row.stops, name
        assert list(row.stops) == sorted(set(row.stops)), name


@pytest.mark.parametrize("ranges", [LOCAL, CONSOLE])
def test_only_what_a_place_accepts_can_be_chosen(ranges: params.Ranges) -> None:
    for name, (low, high) in ranges.items():
        stops = params.stops(name, ranges)
        assert stops, name
        assert all(low <= stop <= high for stop in stops)
    for instead in (params.PRACTICE, {}):
        for name, value in params.defaults(ranges, instead).items():
            assert value in params.stops(name, ranges)


def test_values_are_shown_as_a_person_writes_them() -> None:
    rate = params.PARAMS["learning_rate"]
    assert [rate.show(value) for value in (2e-4, 1.5e-4, 1e-3, 0.1)] == ["2e-4", "1.5e-4", "1e-3", "1e-1"]
    assert params.PARAMS["lora_dropout"].show(0.05) == "0.05"


def test_settings_from_the_command_line_become_numbers() -> None:
    assert params.checked({"epochs": "3", "learning_rate": "2e-4"}, LOCAL) == {
        "epochs": 3,
        "learning_rate": 2e-4,
    }


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"epoch": "3"}, "params.unknown"),
        ({"epochs": "0"}, "params.out_of_range"),
        ({"epochs": "2.5"}, "params.not_whole"),
        ({"learning_rate": "fast"}, "params.out_of_range"),
        ({"learning_rate": "nan"}, "params.out_of_range"),
    ],
)
def test_a_wrong_setting_is_named(given: dict[str, str], key: str) -> None:
    with pytest.raises(UsageError) as refused:
        params.checked(given, LOCAL)
    assert refused.value.key == key
    assert refused.value.facts["name"] in given


def test_the_settings_of_a_job_are_read_with_a_choice_by_its_place_or_by_its_name() -> None:
    numbers = {"learning_rate": 2e-4, "epochs": 3, "method": 1, "schedule": 2, "keep": 0}
    named = {"keep": "last", "schedule": "constant", "method": "dora", "epochs": "3", "learning_rate": "2e-4"}
    assert params.read({"settings": numbers}) == params.read({"settings": named}) == numbers
    assert params.read({"settings": {"epochs": 2.5}}) == {"epochs": 2.5}
    wrong = {"method": "magic", "schedule": 7, "keep": None, "epochs": [3], "seed": "nan", "of_another": 1}
    assert params.read({"settings": wrong}) == params.read({"settings": None}) == params.read({}) == {}


def test_every_hyperparameter_is_explained() -> None:
    for name, row in params.PARAMS.items():
        for part in ("name", "what", *(("exam", "lower", "higher", "usual") if row.source else ())):
            assert f"param.{name}.{part}" in words.catalog("en")


def test_the_nearest_stop_of_what_is_counted_in_ratios_is_the_nearest_by_ratio() -> None:
    assert params.nearest("lora_rank", 6, LOCAL) == 8  # 4 is as far in steps, farther in ratio
    assert params.nearest("learning_rate", 3.3e-4, LOCAL) == 5e-4
    assert params.nearest("lora_dropout", 0.07, LOCAL) == 0.05
    assert params.nearest("learning_rate", 0, LOCAL) == 1e-6


def test_every_unit_has_a_word() -> None:
    for row in params.PARAMS.values():
        assert not row.unit or f"settings.unit.{row.unit}" in words.catalog("en")
