"""What a model sees of one row, asked of a process of its own, since this one imports no transformers."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from lib.errors import ModelError
from lib.trainer.data import Seen

SECONDS = 120  # that loading a tokenizer may take on a cold disk
ROOT = Path(__file__).resolve().parent.parent


def look(model: Path, file: Path, row: int, max_length: int, *, leave_out: bool = False) -> tuple[Seen, bool]:
    """Return row `row` (from 1) of a chat JSONL file as a model folder's run would read it.

    Also whether the model brought its chat template. Takes a second or two, then is remembered until the file
    changes. Raises `ModelError` as the trainer would, and where its process says nothing.
    """
    told = _asked(model, file, file.stat().st_mtime_ns, row, max_length, leave_out)
    if "error" in told:
        raise ModelError(told["error"]["key"], **told["error"]["facts"])
    pieces = [(str(text), bool(learned)) for text, learned in told["pieces"]]
    return Seen(pieces, told["lost"], told["tokens"], told["learned"]), bool(told["own_template"])


@lru_cache(maxsize=64)
def _asked(
    model: Path, file: Path, changed: int, row: int, max_length: int, leave_out: bool
) -> dict[str, Any]:
    del changed  # it tells one state of the file from another
    command = [sys.executable, "-m", "lib.trainer.see", "--model", str(model), "--data", str(file)]
    command += ["--row", str(row), "--max-length", str(max_length)]
    command += ["--leave-out"] if leave_out else []
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=SECONDS, check=False)
        told = orjson.loads(ran.stdout)
    except (subprocess.TimeoutExpired, orjson.JSONDecodeError) as error:
        words = str(error) if isinstance(error, subprocess.TimeoutExpired) else ran.stderr.decode()[-200:]
        raise ModelError("trainer.see_failed", message=words.strip().rpartition("\n")[2]) from error
    assert isinstance(told, dict)
    return told
