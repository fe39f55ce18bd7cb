"""What a run can be told, the next smaller run where memory ran out, and what memory a run takes."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lib import backends, joblist, jobs, params, practice, words
from lib.backends import local
from lib.errors import BackendError, ModelError, UsageError
from lib.jobfolder import JobFolder
from lib.jobs import Job
from lib.trainer import failure, memory, quiet
from lib.trainer import settings as trained
from lib.workspace import root
from tests.finished import finished
from tests.test_pages import app, me, visit
from tests.tiny import SETTINGS

RANGES = backends.BACKENDS["local"].ranges


def test_every_hyperparameter_of_this_computer_is_a_setting_of_the_trainer() -> None:
    read = trained.read(params.defaults(RANGES))
    assert read
    assert set(asdict(read)) == set(RANGES)


def test_a_folder_made_before_a_setting_was_there_is_read_with_its_default() -> None:
    read = trained.read(SETTINGS)
    assert read
    assert (read.method, read.too_long, read.early_stopping) == ("lora", "cut", 0)
    assert isinstance(read.batch_size, int)


@pytest.mark.parametrize("wrong", [{"epochs": "many"}, {"method": 7}, {"method": -1}, {"keep": "all"}])
def test_settings_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    assert trained.read(SETTINGS | wrong) is None
    assert trained.read({}) is trained.read(None) is None


def test_a_choice_is_named_on_the_command_line_and_kept_as_its_place() -> None:
    assert params.checked({"method": "dora", "too_long": "leave_out"}, RANGES) == {"method": 1, "too_long": 1}
    for name, value in (("method", 1), ("method", "dora")):
        read = trained.read(SETTINGS | {name: value})
        assert read
        assert read.method == "dora" == params.PARAMS["method"].show(1)
    with pytest.raises(UsageError) as refused:
        params.checked({"method": "magic"}, RANGES)
    assert refused.value.key == "params.no_choice"
    assert "dora" in str(refused.value.facts["known"])


@pytest.mark.parametrize("lang", list(words.languages()))
def test_every_choice_has_a_name_of_its_own(lang: str) -> None:
    for name, choices in trained.CHOICES.items():
        said = [words.say(lang, f"param.{name}.choice.{choice}") for choice in choices]
        assert len(set(said)) == len(choices)


def test_smaller_runs_end_at_the_smallest_and_each_can_be_chosen() -> None:
    settings = params.defaults(RANGES) | {"batch_size": 32}
    seen = []
    while change := trained.smaller(settings):
        settings = params.checked(settings | change, RANGES)
        seen.append(set(change))
        assert settings["batch_size"] * settings["accumulation"] == 32, "as many rows for one correction"
    assert settings["batch_size"] == 1
    assert settings["max_length"] == trained.SHORTEST
    assert {"gradient_checkpointing"} in seen
    assert seen[0] == {"batch_size", "accumulation"}


def test_where_nothing_smaller_is_left_the_sentence_says_so(tmp_path: Path) -> None:
    error = failure.told(MemoryError(), tmp_path, {"batch_size": 8, "max_length": 512})
    assert (error.key, error.facts["change"]) == ("trainer.out_of_memory", "batch_size=4, accumulation=2")
    error = failure.told(MemoryError(), tmp_path, {"batch_size": 1, "max_length": 512})
    assert error.facts["change"] == "gradient_checkpointing=on"
    least = {"batch_size": 1, "max_length": 64, "gradient_checkpointing": "on"}
    assert failure.told(MemoryError(), tmp_path, least).key == "trainer.out_of_memory_smallest"


def test_a_job_that_ran_out_of_memory_can_be_tried_again_smaller(any_conversion: Callable[[], Path]) -> None:
    runner = JobFolder(root() / "runner")
    runner.path.mkdir(parents=True)
    with runner.working():  # in name, so that nothing starts
        place, model = backends.local.Local(), {"kind": "practice", "id": "practice"}
        job = place.start("tea", any_conversion(), model, {"batch_size": 8}, "Be kind.")

        def ended(error: ModelError) -> Job:
            return replace(job, error=error.as_json())

        again = local.again_smaller(ended(ModelError("trainer.out_of_memory")))
        asked, before = again.folder.asked(), job.folder.asked()
        assert (asked["settings"]["batch_size"], asked["settings"]["accumulation"]) == (4, 2)
        assert (asked["model"], asked["system"], again.name) == (before["model"], "Be kind.", "tea")
        for name in ("train.jsonl", "validation.jsonl"):
            files = [one.folder.path / "data" / name for one in (job, again)]
            assert files[0].read_bytes() == files[1].read_bytes()
        with pytest.raises(BackendError) as refused:
            local.again_smaller(ended(ModelError("trainer.no_rows", file="x")))
        assert refused.value.key == "backend.local.nothing_smaller"
        assert len(jobs.listing("train")) == 2
        (runner.path / "process.json").unlink()


def test_a_model_is_counted_by_its_headers(tmp_path: Path) -> None:
    assert memory.parameters(practice.folder()) == 1_165_312
    assert memory.parameters(tmp_path) is None
    header = json.dumps({"__metadata__": {}, "a": {"shape": [3, 5]}, "b": {"shape": []}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert memory.parameters(tmp_path) == 16
    (tmp_path / "more.safetensors").write_bytes(b"\xff" * 20)
    assert memory.parameters(tmp_path) is None


@pytest.mark.parametrize(
    ("method", "quantised", "half", "each"),
    [
        ("lora", "no", False, 4),
        ("lora", "no", True, 2),
        ("dora", "8bit", True, 1),
        ("lora", "4bit", True, 0.5),
        ("full", "no", True, 16),
    ],
)
def test_the_least_memory_of_a_run(method: str, quantised: str, half: bool, each: float) -> None:
    settings = trained.read(SETTINGS | {"method": method, "quantised": quantised})
    assert settings
    assert memory.needed(1000, settings, half=half) == 1000 * each


def test_memory_is_measured() -> None:
    assert memory.used("cpu") > 1_000_000
    assert 0 < memory.free("cpu") < 1 << 62


@pytest.mark.parametrize(("visible", "used"), [(None, "0"), ("", ""), ("2,3", "2"), ("GPU-a", "GPU-a")])
def test_a_process_that_is_not_one_of_several_sees_one_card(
    visible: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    quiet.see_one_card()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == used


@pytest.mark.parametrize("lang", list(words.languages()))
def test_the_page_offers_the_smaller_run_and_watches_it(
    lang: str, any_conversion: Callable[[], Path]
) -> None:
    runner = JobFolder(root() / "runner")
    runner.path.mkdir(parents=True)
    with runner.working():
        by_name = {"method": "dora", "schedule": "linear"}
        job = finished("tea", {"batch_size": 8} | by_name, data=any_conversion(), state="failed")
        error = ModelError("trainer.out_of_memory", batch_size=8, max_length=256, change="x").as_json()
        with joblist.opened(write=True) as db:
            joblist.change(db, joblist.row_of(db, job.id), "failed", error=error)
        at = app(lang)
        me(at).job = job.id
        at = visit(at, "jobs")
        button = at.button(key=f"smaller_{job.id}")
        assert all(
            words.say(lang, f"param.{name}.name") in button.label for name in ("batch_size", "accumulation")
        )
        button.click().run()
        assert not at.exception
        again = jobs.get(me(at).job)
        assert again.id != job.id
        asked = again.folder.asked()["settings"]
        assert (asked["batch_size"], asked["method"], asked["schedule"]) == (4, 1, 1)
        (runner.path / "process.json").unlink()
