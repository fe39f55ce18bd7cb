"""Train what a job folder asks for: `python -m lib.trainer JOB_FOLDER [--model FOLDER]`.

`--model` is the folder where a Hub model's files were put; `--processes` how many processes may share a step
(lib/trainer/ranks.py). Exit code 0: done or stopped; 1: failed, and `result.json` in the job folder says why.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lib.trainer import quiet


def main() -> int:
    """Read the command line and train."""
    asked = argparse.ArgumentParser(prog="python -m lib.trainer", description=__doc__.splitlines()[0])
    asked.add_argument("job_folder", type=Path)
    asked.add_argument("--model", type=Path, help="folder of the base model, for a model named by its Hub id")
    asked.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="how many processes may share each step's rows (default: one for each NVIDIA card to be seen)",
    )
    asked.add_argument("--follow", type=int, nargs=3, help=argparse.SUPPRESS)  # lib/trainer/ranks.py
    given = asked.parse_args()
    quiet.prepare(one_card=False)
    from lib.jobfolder import JobFolder
    from lib.trainer import ranks, train

    folder = JobFolder(given.job_folder.resolve())
    if given.follow:
        train.follow(folder, given.model, ranks.Rank(*given.follow))
    return train.work(folder, given.model, given.processes)


if __name__ == "__main__":
    sys.exit(main())
