"""Train what a job folder asks for: `python -m lib.trainer JOB_FOLDER [--model FOLDER]`.

`--model` is the folder where a Hub model's files were put. Exit code 0: done or stopped; 1: failed, and
`result.json` in the job folder says why.
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
    given = asked.parse_args()
    quiet.prepare()
    from lib.jobfolder import JobFolder
    from lib.trainer.train import work

    return work(JobFolder(given.job_folder.resolve()), given.model)


if __name__ == "__main__":
    sys.exit(main())
