"""The hyperparameters: one row each, with its default, its stops and where the numbers come from.

To add one: a row in PARAMS, an entry `[param.NAME]` in each language, and, where the trainer reads it, a
field in `lib/trainer/settings.py`. The page, the command line and the checks follow from the row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lib.errors import UsageError
from lib.trainer.settings import CHOICES, MOST_ACCUMULATED, SHORTEST

Settings = dict[str, float]
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Param:
    """One hyperparameter. `stops` are the values a slider offers, ascending; `main` ones come first.

    `unit`: what is counted (texts `settings.unit.UNIT`), "" for a bare number. `log`: two values are as far
    apart as their ratio says. `source`: who says what is usual, read in READ; with one, it is taught, by the
    texts exam, lower, higher and usual beside its name and what it is.

    A choice among named things has the names in `choices` (texts `param.NAME.choice.CHOICE`); its values are
    their places there. `here`: the trainer on this computer takes it too.
    """

    name: str
    default: float
    stops: tuple[float, ...]
    main: bool = False
    whole: bool = True
    unit: str = ""
    log: bool = False
    source: str = ""
    choices: tuple[str, ...] = ()
    here: bool = True

    def show(self, value: float) -> str:
        """Return the value as a person writes it: `2e-4`, `16`, `0.05`, `dora`."""
        if self.choices:
            return self.choices[int(value)]
        if self.name == "learning_rate":
            digits, power = f"{value:.1e}".split("e")
            return f"{float(digits):g}e{int(power)}"
        return f"{value:g}"


def _choice(name: str, default: str, *, source: str = "") -> Param:
    names = CHOICES[name]
    return Param(name, names.index(default), tuple(range(len(names))), source=source, choices=names)


READ = "2026-11"  # when the sources below were read; they are named to the visitor

# Defaults for LoRA on a real model. In tinker's sweep 72 of 80 diverged runs were at a learning rate of 3e-3.
PARAMS: dict[str, Param] = {
    row.name: row
    for row in (
        Param(
            "learning_rate",
            2e-4,
            (1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1),
            main=True,
            whole=False,
            log=True,
            source="TRL, peft_integration.md; Unsloth, LoRA guide; QLoRA; tinker, hyperparam_utils.py",
        ),
        Param(
            "rate_multiplier",
            1,
            (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
            main=True,
            whole=False,
            log=True,
            here=False,
            source="the platforms' own documents (lib/backends/profiles.toml)",
        ),
        Param(
            "epochs",
            3,
            (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30),
            main=True,
            log=True,
            source="LLaMA-Factory, ms-swift: 3; Together, H2O: 1; Unsloth, LoRA guide",
        ),
        Param(
            "batch_size",
            8,
            (1, 2, 4, 8, 16, 32),
            main=True,
            unit="rows",
            log=True,
            source="SiliconFlow, fine-tune guide: 8; Unsloth, LLaMA Board: 2 × 8",
        ),
        Param("lora_rank", 16, (1, 2, 4, 8, 16, 32, 64), log=True, source="Axolotl, Unsloth Studio"),
        Param("lora_alpha", 32, (1, 2, 4, 8, 16, 32, 64, 128), log=True, source="Axolotl, Unsloth Studio"),
        Param("lora_dropout", 0.05, (0, 0.05, 0.1, 0.2, 0.3, 0.5), whole=False, source="QLoRA; Unsloth"),
        Param(
            "max_length",
            1024,
            (SHORTEST, 128, 256, 512, 1024, 2048, 4096),
            unit="tokens",
            log=True,
            source="TRL: 1024; LLaMA Board, Unsloth Studio, Axolotl: 2048",
        ),
        Param(
            "accumulation",
            1,
            (1, 2, 4, 8, 16, MOST_ACCUMULATED),
            unit="batches",
            log=True,
            source="Unsloth; LLaMA Board",
        ),
        Param(
            "warmup_ratio",
            0.05,
            (0, 0.03, 0.05, 0.1, 0.2),
            whole=False,
            source="QLoRA: 3 %; Unsloth: 5 to 10 %; Axolotl: 10 %; Google, tuning_playbook",
        ),
        _choice("schedule", "cosine", source="Google, tuning_playbook; Unsloth; Axolotl"),
        Param("seed", 0, tuple(range(10)), source="ours"),
        _choice("too_long", "cut"),
        Param("early_stopping", 0, (0, 2, 3, 5, 10), unit="exams"),
        _choice("keep", "last"),
        _choice("method", "lora"),
        _choice("gradient_checkpointing", "auto"),
        _choice("quantised", "no"),
    )
}

# The practice model is thousands of times smaller than a real one and wants larger steps; measured with
# lib/practice/pretrain.py's model on the bundled sample (lib/practice/model/README.md has the figures).
PRACTICE: Settings = {"learning_rate": 5e-3, "epochs": 5, "max_length": 256, "lora_dropout": 0}


# What each preset makes of the settings to start from: factors, and values in place of others. Ours: quick is
# for a look at whether it works at all, thorough reads more often, more gently, and keeps the best state.
PRESETS: dict[str, tuple[Settings, Settings]] = {
    "quick": ({"epochs": 0.34, "lora_rank": 0.5, "lora_alpha": 0.5}, {}),
    "standard": ({}, {}),
    "thorough": (
        {"epochs": 1.6, "learning_rate": 0.5, "lora_rank": 2, "lora_alpha": 2},
        {"early_stopping": 3, "keep": CHOICES["keep"].index("best")},
    ),
}


def preset(name: str, start: Settings, ranges: Ranges) -> Settings:
    """Return a preset, made from the settings to `start` from at a place that allows `ranges`."""
    factors, instead = PRESETS[name]
    wished = {one: instead.get(one, value * factors.get(one, 1)) for one, value in start.items()}
    return {one: nearest(one, value, ranges) for one, value in wished.items()}


PLAIN: Settings = {name: row.default for name, row in PARAMS.items()}
"""Every hyperparameter's default, for what looks at all of them where a place takes only some."""


def defaults(ranges: Ranges, instead: Settings | None = None) -> Settings:
    """Return the settings to start from at a place that allows `ranges`, each at its nearest stop.

    `instead`: values that suit this place or model better than the rows' own.
    """
    wished = PLAIN | (instead or {})
    return {name: nearest(name, wished[name], ranges) for name in PARAMS if name in ranges}


def stops(name: str, ranges: Ranges) -> tuple[float, ...]:
    """Return the stops of a hyperparameter that a place accepts; never empty for a name in `ranges`."""
    low, high = ranges[name]
    return tuple(stop for stop in PARAMS[name].stops if low <= stop <= high)


def nearest(name: str, value: float, ranges: Ranges) -> float:
    """Return the allowed stop nearest to `value`."""
    if PARAMS[name].log and value > 0:
        return min(stops(name, ranges), key=lambda stop: abs(math.log(stop / value)))
    return min(stops(name, ranges), key=lambda stop: abs(stop - value))


def checked(settings: Mapping[str, str | float], ranges: Ranges) -> Settings:
    """Return `settings` as numbers; raise `UsageError` naming the first that is unknown or out of range."""
    result: Settings = {}
    for name, given in settings.items():
        if name not in ranges:
            raise UsageError("params.unknown", name=name, known=", ".join(n for n in PARAMS if n in ranges))
        low, high = ranges[name]
        choices, value = PARAMS[name].choices, _number(name, given)
        if choices and value not in PARAMS[name].stops:
            raise UsageError("params.no_choice", name=name, value=str(given), known=", ".join(choices))
        whole = PARAMS[name].whole
        if not low <= value <= high or (whole and value != int(value)):
            raise UsageError(
                "params.not_whole" if whole and low <= value <= high else "params.out_of_range",
                name=name,
                value=str(given),
                low=PARAMS[name].show(low),
                high=PARAMS[name].show(high),
            )
        result[name] = int(value) if whole else value
    return result


def read(asked: Mapping[str, Any]) -> Settings:
    """Return the settings in what a job was `asked`, in our order, as numbers; a choice may be named.

    What is no hyperparameter, or nothing that it can be, is left out: someone else may have written the job.
    """
    given = asked.get("settings")
    found: Settings = {}
    for name, row in PARAMS.items():
        value = _number(name, given.get(name)) if isinstance(given, dict) else math.nan
        if math.isfinite(value) and (not row.choices or value in row.stops):
            found[name] = int(value) if row.whole and value == int(value) else value
    return found


def _number(name: str, given: Any) -> float:
    """Return a setting as a number, a choice's name as its place; NaN for what is none."""
    choices = PARAMS[name].choices
    try:
        return float(choices.index(given) if given in choices else given)
    except (TypeError, ValueError):
        return math.nan
