"""Say what went wrong in a run as an `AppError`, so that a visitor reads a sentence and not a traceback."""

from __future__ import annotations

import errno
import shutil
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lib.errors import AppError, Fact, ModelError, WorkspaceError
from lib.trainer.settings import CHOICES, smaller


def told(error: BaseException, folder: Path, settings: Mapping[str, Any]) -> AppError:
    """Return the `AppError` for anything that ended a run; what was not foreseen goes to the log in full.

    `settings` are the run's hyperparameters; empty where models are only talked to.
    """
    for cause in _causes(error):
        if _no_room(cause):
            facts: dict[str, Fact] = {"path": str(folder), "free": shutil.disk_usage(folder).free}
            if isinstance(cause, AppError):
                facts = cause.facts
            if settings:
                return ModelError("trainer.disk_full", **facts)
            return WorkspaceError("workspace.disk_full", **facts)
        if isinstance(cause, AppError):
            return cause
        if _no_memory(cause) and not settings:
            return ModelError("trainer.no_memory_to_talk")
        if _no_memory(cause):
            return _out_of_memory(settings)
        if isinstance(cause, ModuleNotFoundError):
            return ModelError("trainer.not_installed", package=str(cause.name))
    traceback.print_exception(error)
    message = (str(error).strip() or "no message").splitlines()[0][:300]
    return ModelError("trainer.unexpected", type=type(error).__name__, message=message)


def _out_of_memory(settings: Mapping[str, Any]) -> ModelError:
    """Return the error that offers the next smaller settings."""
    now = {name: settings.get(name) for name in ("batch_size", "max_length")}
    change = smaller(settings)
    if not change:
        return ModelError("trainer.out_of_memory_smallest", **now)
    told = {name: CHOICES[name][int(value)] if name in CHOICES else value for name, value in change.items()}
    return ModelError(
        "trainer.out_of_memory", change=", ".join(f"{name}={value}" for name, value in told.items()), **now
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_room(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    if isinstance(error, AppError):
        return error.key == "workspace.disk_full"
    text = str(error)  # torch and safetensors write in C++ and Rust and raise errors of their own
    return any(sign in text for sign in _FULL)


def _no_memory(error: BaseException) -> bool:
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text))
    )


# The last two are torch's, the very last of a file that it closes after too little of it could be written.
_FULL = (
    "No space left",
    "os error 28",
    "PytorchStreamWriter failed writing",
    ". unexpected pos ",
)
