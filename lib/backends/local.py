"""Train on this computer: a job in our own list, done by lib/trainer in a process of its own."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import orjson

from lib import jobs, params, worker
from lib.backends.base import Backend, Model
from lib.errors import BackendError
from lib.params import Settings


class Local(Backend):
    """The computer that the app runs on."""

    name = "local"
    target = "trl"
    ranges = {name: (row.stops[0], row.stops[-1]) for name, row in params.PARAMS.items()}  # noqa: RUF012

    def missing(self) -> list[str]:
        """Return one key where a package of the trainer is not installed."""
        return ["error.backend.local.missing"] if worker.missing_packages() else []

    def defaults(self, model: Model) -> Settings:
        """Return the settings to start from; the practice model's own were measured."""
        return params.defaults(self.ranges, params.PRACTICE if model["kind"] == "practice" else None)

    def start(self, name: str, data: Path, model: Model, settings: Settings, system: str) -> jobs.Job:
        """Queue a training job. Its folder gets the data, so the conversion may be deleted meanwhile.

        A setting that is not given has its default.
        """
        settings = self.defaults(model) | settings
        asked = self.asked(data, _looked_at(model), settings, system)
        if self.missing():
            raise BackendError("backend.local.missing")
        return jobs.submit("train", name, asked, data=data)


def parameters(model: Model) -> int | None:
    """Return how many numbers a model has, from its weights' headers; None if it is not on this computer."""
    if model["kind"] not in ("path", "hub"):
        return None
    folder = Path(model["id"]).expanduser() if model["kind"] == "path" else worker.model_folder(model)
    try:
        sizes = [_parameters(path) for path in folder.glob("*.safetensors")]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error):
        return None  # not weights, or not whole; the trainer will say so
    return sum(sizes) or None


def _parameters(path: Path) -> int:
    # a safetensors file: 8 bytes of length, then JSON with every tensor's shape
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > 100_000_000:  # the format's own limit
            raise ValueError(path)
        header = orjson.loads(file.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")


def _looked_at(model: Model) -> Model:
    if model["kind"] not in ("practice", "path", "hub"):
        raise BackendError("backend.local.unknown_model", kind=model["kind"], id=model.get("id", ""))
    if model["kind"] != "path":
        return model
    folder = Path(model["id"]).expanduser().absolute()
    if not (folder / "config.json").is_file():
        raise BackendError("backend.local.no_model", path=str(folder))
    return model | {"id": str(folder)}
