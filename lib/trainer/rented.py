"""A training on a rented machine: fetch the base model, train, take the result to the Hub.

    FIRSTTUNE_BASE=org/model FIRSTTUNE_REPO=me/firsttune-… HF_TOKEN=… python -m lib.trainer.rented JOB_FOLDER

Every metric is printed as a line that begins with METRIC, because the log is all that leaves such a machine
while it works. The result takes the place of `run/` in the repository, which held the data and this code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import orjson
from huggingface_hub import HfApi, snapshot_download

from lib.jobfolder import JobFolder

METRIC, FAILED = "firsttune-metric ", "firsttune-failed "
LOOK = 1.0  # seconds between two looks at the metrics
WANTED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken")  # no code of a model's own


def main(folder: JobFolder, base: str, repo: str) -> int:
    """Train; return 0 once the result is at the Hub, else 1 after a line that begins with FAILED."""
    model = base if Path(base).is_dir() else snapshot_download(base, allow_patterns=list(WANTED))
    over = threading.Event()
    told = threading.Thread(target=_tell, args=(folder, over))
    told.start()
    code = subprocess.call([sys.executable, "-m", "lib.trainer", str(folder.path), "--model", model])
    over.set()
    told.join()
    result = folder.result() or {}
    if code or result.get("state") != "done":
        print(FAILED + orjson.dumps(result).decode(), flush=True)
        return 1
    kept = folder.path / str(result.get("adapter") or result.get("model"))
    (kept / "firsttune.json").write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2))
    hub = HfApi()
    hub.upload_folder(repo_id=repo, folder_path=kept)
    hub.delete_folder("run", repo)
    return 0


def _tell(folder: JobFolder, over: threading.Event) -> None:
    """Print every metric once, until it is over and all are printed."""
    told = 0
    while True:
        last = over.wait(LOOK)
        rows = folder.metrics()
        for row in rows[told:]:
            print(METRIC + orjson.dumps(row).decode(), flush=True)
        told = len(rows)
        if last:
            return


if __name__ == "__main__":
    sys.exit(main(JobFolder(Path(sys.argv[1])), os.environ["FIRSTTUNE_BASE"], os.environ["FIRSTTUNE_REPO"]))
