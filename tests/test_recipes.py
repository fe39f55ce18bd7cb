"""The same settings for other trainers: golden files, YAML that parses, and a TRL script that really runs."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import yaml

from lib import backends, jobs, params, practice
from lib.script.recipes import RECIPES, recipe

GOLDEN = Path(__file__).parent / "data" / "recipes"
START = {name: row.default for name, row in params.PARAMS.items() if row.here}
# every choice away from its default at once, and numbers that are easily written down wrong
OTHER = START | {
    **{"learning_rate": 1e-5, "epochs": 2.0, "batch_size": 4.0, "accumulation": 4.0, "seed": 3.0},
    **{"lora_dropout": 0.0, "max_length": 2048.0, "warmup_ratio": 0.1, "early_stopping": 3.0},
    **{"too_long": 1.0, "keep": 1.0, "method": 1.0, "gradient_checkpointing": 2.0, "quantised": 2.0},
    **{"schedule": 2.0},
}
CASES = {"default": (START, True), "other": (OTHER, True), "full": (START | {"method": 2.0}, False)}


def written(name: str, case: str) -> str:
    settings, validation = CASES[case]
    model = "Qwen/Qwen2.5-0.5B-Instruct"
    return recipe(name, model, PurePosixPath("my data"), settings, validation=validation)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_the_golden_ones(name: str, case: str) -> None:
    file = GOLDEN / f"{case}-{RECIPES[name].file}{'.txt' if name == 'trl' else ''}"  # no code of ours
    text = written(name, case)
    if os.environ.get("FIRSTTUNE_GOLDEN"):  # to write them anew, then read the difference
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_yaml_holds_the_numbers_as_numbers(case: str) -> None:
    settings = CASES[case][0]
    for name, rate, length in (
        ("llamafactory", "learning_rate", "cutoff_len"),
        ("axolotl", "learning_rate", "sequence_len"),
    ):
        told = yaml.safe_load(written(name, case))
        assert told[rate] == settings["learning_rate"]
        assert told[length] == settings["max_length"]
        assert told["seed"] == settings["seed"]
        assert isinstance(told["warmup_ratio"], float)


def test_the_file_that_names_the_data_to_llamafactory_is_json() -> None:
    line = next(line for line in written("llamafactory", "default").split("\n") if line.startswith('# {"'))
    told = json.loads(line[2:])
    assert {name: one["file_name"] for name, one in told.items()} == {
        "firsttune": "train.jsonl",
        "firsttune_held_back": "validation.jsonl",
    }
    assert yaml.safe_load(written("llamafactory", "default"))["dataset"] in told


def test_the_command_of_ms_swift_is_one_command() -> None:
    text = written("swift", "other")
    words = shlex.split(text, comments=True)
    words = [word for word in words if word.strip()]
    assert words[:2] == ["swift", "sft"]
    assert words[words.index("--learning_rate") + 1] == "0.00001"
    assert words[words.index("--dataset") + 1] == "my data/train.jsonl"


def test_a_model_whose_template_is_not_known_is_said_to_be_looked_up() -> None:
    text = recipe("llamafactory", "somebody/else-1B", PurePosixPath("d"), START, validation=True)
    assert "template: default" in text
    assert "README" in text


def test_settings_as_json_are_those_that_the_command_line_takes() -> None:
    told = json.loads(written("json", "other"))["settings"]
    assert params.checked(told, backends.BACKENDS["local"].ranges) == OTHER


@pytest.mark.parametrize("case", CASES)
def test_the_trl_script_is_a_program_that_uses_what_it_imports(case: str) -> None:
    tree = ast.parse(written("trl", case))
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported <= used


@pytest.mark.trainer
@pytest.mark.timeout(600)
def test_the_trl_script_trains_the_practice_model_to_a_loss_like_ours(
    tmp_path: Path, any_conversion: Callable[[], Path]
) -> None:
    data = any_conversion()
    settings = START | params.PRACTICE | {"epochs": 3.0}
    text = recipe("trl", str(practice.folder()), data, settings, validation=True)
    (tmp_path / "train_trl.py").write_text(text, encoding="utf-8")
    env = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "train_trl.py"]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = re.search(r"validation loss ([\d.]+)", ran.stdout)
    assert found, ran.stdout[-2000:]
    model = {"kind": "practice", "id": "practice"}
    job = jobs.wait(backends.local.Local().start("ours", data, model, settings, "").id)
    result = job.folder.result() or {}
    assert result["state"] == "done", result
    assert float(found[1]) == pytest.approx(result["eval_loss"], rel=0.08)
    assert result["eval_loss"] < 0.8 * result["eval_loss_before"]
    assert (tmp_path / "tuned" / "adapter_model.safetensors").is_file()
