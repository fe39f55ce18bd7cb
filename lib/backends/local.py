"""Train on this computer: a job in our own list, done by lib/trainer in a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lib import jobs, params, practice
from lib.backends.base import Backend, Model
from lib.errors import BackendError
from lib.params import Settings
from lib.trainer import memory, packages, trackers
from lib.trainer import settings as trained
from lib.workspace import inside, room


class Local(Backend):
    """The computer that the app runs on."""

    name = "local"
    target = "trl"
    ranges = {name: (row.stops[0], row.stops[-1]) for name, row in params.PARAMS.items() if row.here}  # noqa: RUF012

    def missing(self) -> list[str]:
        """Return one key where a package of the trainer is not installed."""
        return ["error.backend.local.missing"] if packages.missing() else []

    def defaults(self, model: Model) -> Settings:
        """Return the settings to start from; the practice model's own were measured."""
        return params.defaults(self.ranges, params.PRACTICE if model["kind"] == "practice" else None)

    def start(
        self,
        name: str,
        data: Path,
        model: Model,
        settings: Settings,
        system: str,
        *,
        report_to: Sequence[str] = (),
    ) -> jobs.Job:
        """Queue a training job. Its folder gets the data, so the conversion may be deleted meanwhile.

        A setting that is not given has its default. `report_to`: names of `lib/trainer/trackers.py`. Raises
        `ModelError` for one of these that is unknown or not installed.
        """
        reported = trackers.known(report_to)
        settings = self.defaults(model) | settings
        asked = self.asked(data, _looked_at(model), settings, system)
        if reported:
            asked["report_to"] = reported
        if self.missing():
            raise BackendError("backend.local.missing")
        return jobs.submit("train", name, asked, data=data)


def folder(model: Model) -> Path | None:
    """Return where a model lies on this computer; None if it does not (yet)."""
    if model["kind"] == "practice":
        return practice.folder()
    place = _place(model)
    return place if place and (place / "config.json").is_file() else None


def hub_folder(model: Model) -> Path:
    """Return where a model of the Hub lies, or will: `models/ORG--NAME`, `@REVISION` where it is not main."""
    revision = model.get("revision") or "main"
    name = model["id"].replace("/", "--") + ("" if revision == "main" else f"@{revision.replace('/', '--')}")
    return inside(room("models"), name)


def parameters(model: Model) -> int | None:
    """Return how many numbers a model has, from its weights' headers; None if it is not on this computer."""
    place = folder(model)
    return memory.parameters(place) if place else None


def smaller(job: jobs.Job) -> Settings:
    """Return the settings that a job which ran out of memory can be tried again with, `{}` if it cannot."""
    if (job.error or {}).get("key") != "trainer.out_of_memory":
        return {}
    settings = params.read(job.folder.asked())
    change = trained.smaller(settings)
    return settings | change if change else {}


def again_smaller(job: jobs.Job) -> jobs.Job:
    """Queue a job that ran out of memory once more, with the next smaller settings and its own data."""
    settings, asked = smaller(job), job.folder.asked()
    if not settings:
        raise BackendError("backend.local.nothing_smaller", name=job.name)
    kept = {name: value for name, value in asked.items() if name in ("model", "system", "report_to")}
    kept["settings"] = params.checked(settings, Local.ranges)
    return jobs.submit("train", job.name, kept, data=job.folder.path / "data")


def _place(model: Model) -> Path | None:
    """Return where a model that the visitor brings lies, or will."""
    if model["kind"] not in ("path", "hub"):
        return None
    return Path(model["id"]).expanduser() if model["kind"] == "path" else hub_folder(model)


def _looked_at(model: Model) -> Model:
    if model["kind"] not in ("practice", "path", "hub"):
        raise BackendError("backend.local.unknown_model", kind=model["kind"], id=model.get("id", ""))
    if model["kind"] != "path":
        return model
    folder = Path(model["id"]).expanduser().absolute()
    if not (folder / "config.json").is_file():
        raise BackendError("backend.local.no_model", path=str(folder))
    return model | {"id": str(folder)}
