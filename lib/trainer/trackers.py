"""Trackers: write a run's metrics to a tool that the visitor uses already. Off unless asked for, by name.

All of them keep their files in the job's folder; only W&B is a service, and reaches for the network.

To add one: a row in TRACKERS, under the name that transformers knows it by.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from lib.errors import ModelError

# tracker -> the modules it needs, its own package's first, and the environment variables that say where it
# writes. mlflow-skinny brings MLflow's module, too, but no database.
TRACKERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "tensorboard": (("tensorboard",), {"TENSORBOARD_LOGGING_DIR": "{folder}/tensorboard"}),
    "trackio": (("trackio",), {"TRACKIO_DIR": "{folder}/trackio"}),
    "mlflow": (("mlflow", "sqlalchemy"), {"MLFLOW_TRACKING_URI": "sqlite:///{folder}/mlflow.db"}),
    "wandb": (("wandb",), {"WANDB_DIR": "{folder}", "WANDB_PROJECT": "firsttune"}),
}


def known(asked: Iterable[object]) -> list[str]:
    """Return the names of the trackers to report to. Imports none of them.

    Raises `ModelError` for one that is unknown or whose package is not installed.
    """
    names = [str(name) for name in asked]
    for name in names:
        if name not in TRACKERS:
            raise ModelError("trainer.unknown_tracker", name=name, known=", ".join(TRACKERS))
        modules, _ = TRACKERS[name]
        if any(find_spec(module) is None for module in modules):
            raise ModelError("trainer.no_tracker", name=name, package=modules[0])
    return names


def prepare(asked: Iterable[object], folder: Path) -> list[str]:
    """Return the same; where they write is set unless the environment says otherwise."""
    names = known(asked)
    for name in names:
        for variable, place in TRACKERS[name][1].items():
            os.environ.setdefault(variable, place.format(folder=folder))
    return names
