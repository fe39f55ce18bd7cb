"""Checkpoints: find the newest whole one, so that an interrupted run goes on where it was; keep the best."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
from safetensors import SafetensorError, safe_open

from lib.jobfolder import JobFolder
from lib.workspace import read_json, write_json, writing

NEEDED = ("optimizer.pt", "scheduler.pt", "rng_state*.pth")  # the last has a number where there are several
NOTE = "best.json"


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


class Best:
    """The weights at the lowest validation loss so far, in a folder that is replaced as a whole.

    `save` writes them into the folder it is given. `step` is None until something was kept, be it by an
    earlier process of the same run.
    """

    def __init__(self, place: Path, save: Callable[[Path], None]) -> None:
        self.place = place
        self._save = save
        recover(place)
        known = read_json(place / NOTE)
        known = known if isinstance(known, dict) else {}
        self.step: int | None = known.get("step")
        self.loss: float = known.get("eval_loss", float("inf"))

    def look(self, step: int, loss: float) -> None:
        """Keep the weights of this step if they are better than what is kept."""
        if loss >= self.loss:
            return
        with replacing(self.place) as beside:
            self._save(beside)
            write_json(beside / NOTE, {"step": step, "eval_loss": loss})
        self.step, self.loss = step, loss


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which takes the place of `folder` when the block has succeeded.

    Where it has not, what was written so far is deleted.
    """
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    before = _before(folder)
    shutil.rmtree(before, ignore_errors=True)
    if folder.exists():
        folder.rename(before)
    beside.replace(folder)
    shutil.rmtree(before, ignore_errors=True)


def recover(folder: Path) -> None:
    """Take back what `folder` was where its process died just while it was replaced."""
    before = _before(folder)
    if before.exists() and not folder.exists():
        before.rename(folder)
    shutil.rmtree(before, ignore_errors=True)


def _before(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.before.part")


def _whole(path: Path) -> bool:
    state = read_json(path / "trainer_state.json")  # written last
    if not isinstance(state, dict) or state.get("global_step") != step_of(path):
        return False
    if not all(any(path.glob(name)) for name in NEEDED):
        return False
    index = read_json(path / "model.safetensors.index.json")
    shards = set(index["weight_map"].values()) if isinstance(index, dict) else ()
    files = [path / name for name in shards] or [
        path / name for name in ("adapter_model.safetensors", "model.safetensors") if (path / name).exists()
    ]
    return bool(files) and all(_opens(file) for file in files)


def _opens(file: Path) -> bool:
    try:
        with safe_open(file, "pt") as weights:
            return bool(weights.keys())
    except (OSError, SafetensorError):
        return False
