"""Where a visitor is: the furthest step they can go on from."""

from __future__ import annotations

from lib import conversions, datasets, joblist, jobs
from lib.errors import AppError
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import t


def furthest(visitor: State) -> str:
    """Return the step to continue with, or "" for somebody who has nothing on disk yet."""
    job = _job(visitor)
    if job:
        return "compare" if job.state == "done" else "jobs"
    if conversions.manifest(visitor.conversion):
        return "settings"
    return "convert" if dataset(visitor) else ""


def told(visitor: State) -> str:
    """Say what the visitor has so far, in a sentence."""
    job = _job(visitor)
    if job:
        state = t(f"state.{joblist.standing(job).state}")
        return t("welcome.has_job", name=parts.plain(job.name), state=state)
    found = dataset(visitor)
    name = parts.plain(found.name) if found else ""
    if conversions.manifest(visitor.conversion):
        return t("welcome.has_conversion", name=name)
    return t("welcome.has_dataset", name=name)


def dataset(visitor: State) -> datasets.Dataset | None:
    """Return the visitor's dataset, or None where none is chosen or it is gone from the disk."""
    try:
        return datasets.get(visitor.dataset) if visitor.dataset else None
    except AppError:
        return None


def name(visitor: State) -> str:
    """Return a name for what the visitor starts: that of the run they begin again, or their dataset's."""
    if visitor.run_name:
        return visitor.run_name
    found = dataset(visitor)
    return found.name if found else t("settings.job_name")


def _job(visitor: State) -> jobs.Job | None:
    try:
        return jobs.get(visitor.job) if visitor.job else None
    except AppError:
        return None
