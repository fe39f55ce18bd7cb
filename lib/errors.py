"""Every error raised on purpose.

    AppError                a key and facts; the page or the command line says the sentence
    ├── UsageError          what was asked for cannot be (wrong value, unknown name)
    ├── WorkspaceError      the disk: full, not writable, a path that leaves its folder
    ├── HubError            the Hugging Face Hub or a mirror: network, access, broken bytes
    ├── RecordError         a data file that cannot be read as records
    ├── ConvertError        records that cannot become conversations
    ├── ModelError          a model folder, a tokenizer, the training itself
    ├── JobError            the job list: unknown job, a state that forbids what was asked
    └── BackendError        a place to train other than this computer

The sentence for key `hub.not_found` is `error.hub.not_found` in `lib/text/*.toml`; each ends in what
to do next. To add one: raise it with a new key here or there, and write its sentence in every language.
"""

from __future__ import annotations

from typing import Any

Fact = str | int | float | None


class AppError(Exception):
    """Carry a text key and the facts its sentence names.

    `key` is a dotted name without the leading `error.`; `facts` fill the sentence's blanks.
    Never put a token or a password into a fact: facts are written to job folders and shown.
    """

    def __init__(self, key: str, **facts: Fact) -> None:
        super().__init__(key, facts)
        self.key = key
        self.facts = facts

    def __str__(self) -> str:
        told = ", ".join(f"{name}={value}" for name, value in self.facts.items())
        return f"{self.key} ({told})" if told else self.key

    def __reduce__(self) -> tuple[Any, ...]:
        """Let an error cross from one process to another, which by default forgets its facts' names."""
        return _again, (type(self), self.key, self.facts)

    def as_json(self) -> dict[str, Any]:
        """Return `{"key", "facts"}`, the form kept in job folders."""
        return {"key": self.key, "facts": self.facts}


class UsageError(AppError):
    """What was asked for cannot be."""


class WorkspaceError(AppError):
    """The disk refused, or a path leaves its folder."""


class HubError(AppError):
    """The Hub or a mirror did not give what was asked."""


class RecordError(AppError):
    """A data file cannot be read as records."""


class ConvertError(AppError):
    """Records cannot become conversations."""


class ModelError(AppError):
    """A model cannot be loaded, trained or talked to."""


class JobError(AppError):
    """The job list cannot do what was asked."""


class BackendError(AppError):
    """A place to train answered with an error."""


def _again(kind: type[AppError], key: str, facts: dict[str, Fact]) -> AppError:
    return kind(key, **facts)
