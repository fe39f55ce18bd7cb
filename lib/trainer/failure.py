"""Say what went wrong in a run as an `AppError`, so that a visitor reads a sentence and not a traceback."""

from __future__ import annotations

import errno
import shutil
import traceback
from collections.abc import Iterator
from pathlib import Path

from lib.errors import AppError, ModelError, WorkspaceError


def told(error: BaseException, folder: Path, settings: dict[str, float]) -> AppError:
    """Return the `AppError` for anything that ended a run; what was not foreseen goes to the log in full.

    `settings` are the run's hyperparameters; empty where models are only talked to.
    """
    for cause in _causes(error):
        if isinstance(cause, AppError):
            return cause
        if _no_room(cause):
            return WorkspaceError(
                "workspace.disk_full", path=str(folder), free=shutil.disk_usage(folder).free
            )
        if _no_memory(cause) and not settings:
            return ModelError("trainer.no_memory_to_talk")
        if _no_memory(cause):
            return ModelError(
                "trainer.out_of_memory",
                batch_size=settings.get("batch_size"),
                max_length=settings.get("max_length"),
            )
        if isinstance(cause, ModuleNotFoundError):
            return ModelError("trainer.not_installed", package=str(cause.name))
    traceback.print_exception(error)
    message = (str(error).strip() or "no message").splitlines()[0][:300]
    return ModelError("trainer.unexpected", type=type(error).__name__, message=message)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _no_room(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)  # torch and safetensors write in C++ and Rust and raise errors of their own
    return any(
        sign in text for sign in ("No space left", "PytorchStreamWriter failed writing", "os error 28")
    )


def _no_memory(error: BaseException) -> bool:
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text))
    )
