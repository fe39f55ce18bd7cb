"""What a run can be told, as `job.json` holds it under `settings`; lib/params.py says what each is.

A choice is kept as its place in its row of CHOICES, so that every setting is a number; its name is read too.
To add one: a field in `Settings`, for a choice its names here, and the row in lib/params.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

METHODS = ("lora", "dora", "full")
TOO_LONG = ("cut", "leave_out")
KEEP = ("last", "best")
CHECKPOINTING = ("auto", "off", "on")
QUANTISED = ("no", "8bit", "4bit")
SCHEDULES = ("cosine", "linear", "constant")
CHOICES: dict[str, tuple[str, ...]] = {
    "method": METHODS,
    "too_long": TOO_LONG,
    "keep": KEEP,
    "gradient_checkpointing": CHECKPOINTING,
    "quantised": QUANTISED,
    "schedule": SCHEDULES,
}
MOST_ACCUMULATED = 32
EVALUATIONS = 10  # about as many a run
SHORTEST = 64  # tokens; rows cut shorter than this rarely hold an answer


@dataclass(frozen=True, slots=True)
class Settings:
    """A run's settings. Those with a default were added later: a job folder may have been made before."""

    learning_rate: float
    epochs: float
    batch_size: int
    accumulation: int
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    max_length: int
    warmup_ratio: float
    seed: int
    method: str = "lora"
    too_long: str = "cut"
    keep: str = "last"
    early_stopping: int = 0
    gradient_checkpointing: str = "auto"
    quantised: str = "no"
    schedule: str = "cosine"

    @property
    def scheduler(self) -> str:
        """What transformers calls the schedule; its plain "constant" would leave the warm-up out."""
        return "constant_with_warmup" if self.schedule == "constant" else self.schedule


def read(given: object) -> Settings | None:
    """Return the settings in `given`; None where one is missing or is nothing that it can be."""
    if not isinstance(given, dict):
        return None
    values: dict[str, Any] = {}
    for field in fields(Settings):
        if field.name in given:
            try:
                values[field.name] = _value(field.name, str(field.type), given[field.name])
            except (TypeError, ValueError, KeyError):
                return None
        elif field.default is MISSING:
            return None
    return Settings(**values)


def smaller(given: Mapping[str, Any]) -> dict[str, float]:
    """Return what to change so that a run needs less memory, `{}` where nothing smaller is left.

    First fewer rows at a time, as many for one correction; then activations computed again instead of kept,
    which costs a third of the speed; then rows half as long.
    """
    batch, accumulation = int(given.get("batch_size", 1)), int(given.get("accumulation", 1))
    if batch > 1:
        return {"batch_size": batch // 2, "accumulation": min(MOST_ACCUMULATED, accumulation * 2)}
    on = CHECKPOINTING.index("on")
    if given.get("gradient_checkpointing", 0) not in (on, "on"):
        return {"gradient_checkpointing": on}
    length = int(given.get("max_length", SHORTEST))
    return {"max_length": max(SHORTEST, length // 2)} if length > SHORTEST else {}


def evaluation_steps(steps: int, epochs: float) -> set[int]:
    """Return after which steps to evaluate: the end of every epoch and so many between as make about ten."""
    parts = max(1, round(epochs)) * max(1, math.ceil(EVALUATIONS / max(1, round(epochs))))
    return {max(1, round(steps * part / parts)) for part in range(1, parts + 1)} | {steps}


def _value(name: str, kind: str, given: Any) -> Any:
    if name in CHOICES:
        names = CHOICES[name]
        return given if given in names else dict(enumerate(names))[int(given)]
    return int(given) if kind == "int" else float(given)
