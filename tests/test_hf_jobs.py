"""Our trainer on a rented machine: what is laid out for it, trained for real with nothing else at hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from lib import backends, jobs, params, practice
from lib.backends import hf_jobs
from lib.trainer.rented import FAILED, METRIC
from lib.workspace import read_json
from tests.fakeupload import FakeUpload, Repo

PLACE = backends.BACKENDS["hf_jobs"]
TOKEN = "hf_writes"


def packed(data: Path, base: str, there: Path) -> Path:
    settings = params.defaults(PLACE.ranges, params.PRACTICE | {"epochs": 1})
    asked = {"model": {"kind": "platform", "id": base}, "settings": settings, "system": "Be kind."}
    job = jobs.keep("rented", asked | {"address": "https://huggingface.co"}, backend="hf_jobs", data=data)
    hf_jobs.pack(job.folder, there / "run")
    return there / "run"


def rented(run: Path, base: str, endpoint: str) -> subprocess.CompletedProcess[str]:
    """Be the rented machine: only what was laid out, this environment's packages, no path of the project."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "FIRSTTUNE_HOME")}
    env |= {"FIRSTTUNE_BASE": base, "FIRSTTUNE_REPO": "me/firsttune-1", "HF_TOKEN": TOKEN}
    env |= {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "lib.trainer.rented", "job"]
    return subprocess.run(command, cwd=run, env=env, capture_output=True, text=True, timeout=280)


@pytest.mark.trainer
def test_what_is_packed_trains_and_its_result_takes_the_datas_place(
    any_conversion: Callable[..., Path], tmp_path: Path
) -> None:
    base = str(practice.folder())
    run = packed(any_conversion(48), base, tmp_path)
    assert b"https://huggingface.co" not in (run / "job" / "job.json").read_bytes()
    assert (run / "requirements.txt").read_text(encoding="utf-8").count("torch==") == 1
    with FakeUpload() as hub:
        hub.repos["me/firsttune-1"] = Repo(True, {"run/job/data/train.jsonl": b"{}", ".gitattributes": b""})
        done = rented(run, base, hub.url)
        assert done.returncode == 0, done.stdout + done.stderr
        files = hub.repos["me/firsttune-1"].files
    rows = [orjson.loads(line.removeprefix(METRIC)) for line in done.stdout.splitlines() if METRIC in line]
    assert [row for row in rows if "loss" in row]
    assert not [path for path in files if path.startswith("run/")]
    assert {"adapter_config.json", "adapter_model.safetensors", "firsttune.json"} <= set(files)
    told = orjson.loads(files["firsttune.json"])
    assert told["state"] == "done"
    assert TOKEN not in done.stdout + done.stderr
    assert all(TOKEN.encode() not in path.read_bytes() for path in run.rglob("*") if path.is_file())


@pytest.mark.trainer
def test_a_training_that_fails_there_says_why(any_conversion: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "no model").mkdir()
    run = packed(any_conversion(12), "org/none", tmp_path)
    done = rented(run, str(tmp_path / "no model"), "http://127.0.0.1:9")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(FAILED)]
    assert orjson.loads(line.removeprefix(FAILED))["state"] == "failed"
    assert read_json(run / "job" / "result.json")["state"] == "failed"
