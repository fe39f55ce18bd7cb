"""Show one row as the model reads it: `python -m lib.trainer.see --model FOLDER --data FILE [--row 1]`.

Prints one JSON object and nothing else:

    {"row": 1, "pieces": [["<|im_start|>user\\n…", false], ["Yes.<|im_end|>", true]], "lost": "",
     "tokens": 31, "learned": 5, "own_template": true}

`pieces` are the row's text in order, each with whether it is learned; `lost` is what lies past the maximum
length. They come from the very tokens and labels that a run is given. Where it cannot be shown, the object is
`{"error": {"key", "facts"}}` and the exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from lib.errors import ModelError
from lib.trainer import failure, quiet


def main() -> int:
    """Read the command line, print what the model sees."""
    asked = argparse.ArgumentParser(prog="python -m lib.trainer.see", description=__doc__.splitlines()[0])
    asked.add_argument("--model", type=Path, required=True, help="folder of the base model")
    asked.add_argument("--data", type=Path, required=True, help="a chat JSONL file")
    asked.add_argument("--row", type=int, default=1, help="which row, from 1")
    asked.add_argument("--max-length", type=int, default=1 << 30)
    asked.add_argument("--leave-out", action="store_true", help="leave rows over the maximum length out")
    given = asked.parse_args()
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is not taken for the answer
    quiet.prepare()
    try:
        told = look(given.model, given.data, given.row, given.max_length, leave_out=given.leave_out)
    except Exception as error:
        told = {"error": failure.told(error, given.data.parent, {}).as_json()}
    outgoing.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
    outgoing.flush()
    return 1 if "error" in told else 0


def look(model: Path, file: Path, row: int, max_length: int, *, leave_out: bool) -> dict[str, Any]:
    """Return what is printed. Raises `ModelError` where the file has no such row."""
    from lib.trainer import data
    from lib.trainer.model import load_tokenizer

    found = next(islice(data.conversations(file), max(0, row - 1), None), None)
    if found is None:
        raise ModelError("trainer.no_such_row", file=file.name, row=row)
    tokenizer, own = load_tokenizer(model)
    seen = data.seen(tokenizer, found, max_length, leave_out=leave_out)
    return {"row": row, **asdict(seen), "own_template": own}


if __name__ == "__main__":
    sys.exit(main())
