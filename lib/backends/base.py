"""What every place to train says of itself, and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from lib import check, jobs, params
from lib.chat import Message
from lib.errors import BackendError
from lib.estimate import Price
from lib.params import Ranges, Settings
from lib.talk import LIKELIEST, Sampling

# A model as a job asks for it: `kind` is "practice", "path", "hub" or "platform", `id` says which one; one of
# the Hub has `revision` and `endpoint` too.
Model = dict[str, str]


class Backend(ABC):
    """One place to train.

    `manual`: it has no call that starts a job, so a person does, and sets the job's state by hand.
    `target`: its rules in `lib/targets.toml`, of which `changed_rules` are its own numbers. `ranges`: the
    hyperparameters it takes, with least and most.
    `key_variable`: the environment variable that may hold the visitor's key; "" where none is needed.
    `takes_seed`: whether its chat can be told a seed; temperature, top-p and length every one can.
    `price`: what it charges; None where that is nothing, or not published.
    """

    name: str
    target: str
    ranges: Ranges
    manual: bool = False
    key_variable: str = ""
    changed_rules: tuple[tuple[str, int], ...] = ()
    takes_seed: bool = True
    price: Price | None = None

    def missing(self) -> list[str]:
        """Return the text keys of what must be done before anything can start here."""
        return []

    def models(self) -> tuple[str, ...]:
        """Return the base models it offers by name; none where the visitor brings one."""
        return ()

    def defaults(self, model: Model) -> Settings:
        """Return the settings to start from here with a model."""
        del model
        return params.defaults(self.ranges)

    def check(self, data: Path) -> check.Report:
        """Check a conversion's training file against the rules of this place; remembered until it changes."""
        path = self.train_file(data)
        stat = path.stat()
        return _checked(path, stat.st_size, stat.st_mtime_ns, self.target, self.changed_rules)

    @abstractmethod
    def start(self, name: str, data: Path, model: Model, settings: Settings, system: str) -> jobs.Job:
        """Start a job on a conversion's folder, or put it into the list for a person to start."""

    def console_values(self, job: jobs.Job) -> list[tuple[str, str]]:
        """Return what to enter in the platform's form, in its order: field (`place.NAME.FIELD`) and value."""
        del job
        return []

    def name_tuned(self, job: jobs.Job, name: str) -> None:
        """Keep the tuned model's name, given by hand; "" takes it away again."""
        del name
        raise BackendError("backend.not_by_hand", name=job.name)

    def chat(
        self,
        job: jobs.Job,
        which: str,
        messages: Sequence[Message],
        *,
        key: str,
        sampling: Sampling = LIKELIEST,
    ) -> Iterator[str]:
        """Yield the answer of a job's "base" or "tuned" model piece by piece; `key` is used and not kept."""
        del which, messages, key, sampling
        raise BackendError("backend.no_chat", name=job.name)

    def picks(self, sampling: Sampling) -> dict[str, float]:
        """Return what a chat here is told of `sampling`, by the names that all wire shapes have for it."""
        told = {"temperature": sampling.temperature, "max_tokens": sampling.max_new_tokens}
        if sampling.temperature:  # said even where nothing is left out: some have another default
            told["top_p"] = sampling.top_p
            if self.takes_seed:
                told["seed"] = sampling.seed
        return told

    def train_file(self, data: Path) -> Path:
        """Return a conversion's training file. Raises `BackendError` where there is none or it is empty."""
        path = data / "train.jsonl"
        if not path.is_file() or not path.stat().st_size:
            raise BackendError("backend.no_data", folder=str(data))
        return path

    def asked(self, data: Path, model: Model, settings: Settings, system: str) -> dict[str, object]:
        """Return what goes into `job.json`, with every setting checked against `ranges`."""
        self.train_file(data)
        return {"model": model, "settings": params.checked(settings, self.ranges), "system": system}


@lru_cache(maxsize=8)
def _checked(
    path: Path, size: int, changed: int, target: str, rules: tuple[tuple[str, Any], ...]
) -> check.Report:
    del size, changed  # they tell one state of the file from another
    return check.check_file(path, replace(check.targets()[target], **dict(rules)))
