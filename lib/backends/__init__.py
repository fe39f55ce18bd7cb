"""The places where a job can be done: this computer, and platforms.

    base.py          the seam: what a place says of itself and what it must do
    local.py         this computer: lib/jobs.py and lib/trainer
    siliconflow.py   a platform whose fine-tunes are started by hand in its console

To add a platform: one file here with a `Backend`, its row in BACKENDS, its rules in `lib/targets.toml`, its
words `place.NAME.*` in each language. Pages, command line and checks follow from those.
"""

from lib.backends import local, siliconflow
from lib.backends.base import Backend, Model

__all__ = ["BACKENDS", "Backend", "Model", "local", "siliconflow"]

BACKENDS: dict[str, Backend] = {place.name: place for place in (local.Local(), siliconflow.SiliconFlow())}
