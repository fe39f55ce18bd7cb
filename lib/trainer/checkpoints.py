"""Checkpoints: find the newest whole one, so that an interrupted run goes on where it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
from safetensors import SafetensorError, safe_open

from lib.jobfolder import JobFolder
from lib.workspace import read_json, writing

NEEDED = ("optimizer.pt", "scheduler.pt", "rng_state.pth")


def newest_whole(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in `folder`; broken ones are deleted.

    A checkpoint is not written at one stroke, and the libraries take the newest even if it is half there.
    """
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    for path in sorted(found, key=step_of, reverse=True):
        if _whole(path):
            return path
        shutil.rmtree(path, ignore_errors=True)
    return None


def step_of(checkpoint: Path) -> int:
    """Return the step at which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def forget_after(folder: JobFolder, step: int) -> None:
    """Drop the metric rows past `step`: those steps will be done again and come out the same."""
    rows = [row for row in folder.metrics() if row.get("step", 0) <= step]
    with writing(folder.path / "metrics.jsonl") as file:
        for row in rows:
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _whole(path: Path) -> bool:
    state = read_json(path / "trainer_state.json")  # written last
    if not isinstance(state, dict) or state.get("global_step") != step_of(path):
        return False
    if not all((path / name).exists() for name in NEEDED):
        return False
    try:
        with safe_open(path / "adapter_model.safetensors", "pt") as weights:
            return bool(weights.keys())
    except (OSError, SafetensorError):
        return False
