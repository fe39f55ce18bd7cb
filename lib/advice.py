"""What is said of a value chosen: its band, the band's sentence, and whether it is known to hurt.

    fine     within the usual range
    unusual  outside it; there can be a reason
    hurts    known to spoil a run: marked on the page, and asked for twice before a job starts

The sentences are `says.NAME.BAND` in the text files. To add a band: its line in the function of that
hyperparameter in BANDS, and its sentence in each language. Where the numbers come from stands in
lib/params.py; those set here are named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from lib import params
from lib.estimate import Amount
from lib.params import Settings

FINE, UNUSUAL, HURTS = "fine", "unusual", "hurts"


@dataclass(frozen=True, slots=True)
class Advice:
    """What is said of one value: `key` is a text key, `weight` one of FINE, UNUSUAL, HURTS."""

    name: str
    band: str
    weight: str
    facts: dict[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The key of its sentence."""
        return f"says.{self.name}.{self.band}"


@dataclass(frozen=True, slots=True)
class Case:
    """What a value is judged by: all settings, the data, and whether the practice model is trained."""

    settings: Settings
    amount: Amount
    practice: bool

    def of(self, name: str) -> float:
        """Return a setting; where a place does not take it, its default."""
        return self.settings.get(name, params.PARAMS[name].default)

    @property
    def pile(self) -> int:
        """Rows for one correction."""
        return int(self.of("batch_size") * self.of("accumulation"))

    @property
    def steps(self) -> int:
        """Corrections in all."""
        return max(1, -(-self.amount.train // self.pile)) * int(self.of("epochs"))


def advise(name: str, case: Case) -> Advice | None:
    """Return what is to be said of a hyperparameter's value, or None where its value says it all."""
    if name not in BANDS:
        return None
    band, weight, facts = BANDS[name](case)
    return Advice(name, band, weight, facts)


def hurting(case: Case) -> list[Advice]:
    """Return what is known to hurt among the settings, in the order of the hyperparameters."""
    told = [advise(name, case) for name in params.PARAMS if name in case.settings]
    return [one for one in told if one and one.weight == HURTS]


def good_rate(case: Case) -> float:
    """Return the learning rate that usually does: a tenth of LoRA's where all of a model is trained."""
    start = params.PRACTICE["learning_rate"] if case.practice else params.PARAMS["learning_rate"].default
    return start / (10 if params.PARAMS["method"].show(case.of("method")) == "full" else 1)


def usual_epochs(rows: int, *, practice: bool) -> int:
    """Return how many epochs a number of rows usually wants.

    Source: OpenAI's cookbook, "How to fine-tune chat models", read 2026-11: three, more below 34 rows so that
    a hundred are seen, fewer above 8,333. The practice model's own were measured (lib/params.py).
    """
    start = int(params.PRACTICE["epochs"]) if practice else 3
    if rows * 3 < 100:
        return min(25, max(start, 100 // max(1, rows)))
    return max(1, 25_000 // rows) if rows * 3 > 25_000 else start


Band = tuple[str, str, dict[str, float]]


def _learning_rate(case: Case) -> Band:
    value, good = case.of("learning_rate"), good_rate(case)
    facts = {"times": _rounded(value / good), "part": _rounded(good / value)}
    # 3e-3, fifteen times LoRA's 2e-4, is where 72 of tinker's 80 diverged runs were; the practice model is
    # ruined at twenty times its own (lib/practice/model/README.md)
    if value >= 14 * good:
        return "breaks", HURTS, facts
    if value > 2.6 * good:
        return "bold", UNUSUAL, facts
    if value >= 0.24 * good:
        return "usual", FINE, facts
    return ("gentle", UNUSUAL, facts) if value > good / 25 else ("nothing", HURTS, facts)


def _rate_multiplier(case: Case) -> Band:
    value = case.of("rate_multiplier")
    facts = {"times": value}
    if value > 2:
        return "bold", UNUSUAL, facts
    return ("usual", FINE, facts) if value >= 0.5 else ("gentle", UNUSUAL, facts)


def _epochs(case: Case) -> Band:
    value, usual = case.of("epochs"), usual_epochs(case.amount.train, practice=case.practice)
    facts: dict[str, float] = {"n": value, "usual": usual, "seen": value * case.amount.train}
    if value > 3 * usual:
        return "heart", HURTS, facts
    if value > 1.7 * usual:
        return "many", UNUSUAL, facts
    if value < usual:
        return ("once", FINE, facts) if value == 1 else ("fewer", FINE, facts)
    return "usual", FINE, facts


def _batch_size(case: Case) -> Band:
    facts: dict[str, float] = {"pile": case.pile, "steps": case.steps, "n": case.steps}
    if case.steps < 10:
        return "few", HURTS, facts
    if case.pile == 1:
        return "one", UNUSUAL, facts
    if case.pile > 32:  # above which LoRA falls behind full training (TRL, "LoRA without regret", section 4)
        return "large", UNUSUAL, facts
    return ("small" if case.pile < 8 else "usual"), FINE, facts


def _accumulation(case: Case) -> Band:
    facts: dict[str, float] = {
        "pile": case.pile,
        "batch": case.of("batch_size"),
        "n": case.of("accumulation"),
    }
    return ("off" if case.of("accumulation") == 1 else "on"), FINE, facts


def _warmup_ratio(case: Case) -> Band:
    value = case.of("warmup_ratio")
    facts: dict[str, float] = {"share": value, "n": round(value * case.steps)}
    if not value:
        return "none", UNUSUAL, facts
    return ("long", UNUSUAL, facts) if value > 0.1 else ("usual", FINE, facts)


def _lora_rank(case: Case) -> Band:
    value = case.of("lora_rank")
    facts: dict[str, float] = {"n": value}
    if value < 4:
        return "thin", UNUSUAL, facts
    return ("wide", UNUSUAL, facts) if value > 32 else ("usual", FINE, facts)


def _lora_alpha(case: Case) -> Band:
    times = case.of("lora_alpha") / case.of("lora_rank")
    facts = {"times": times, "rank": case.of("lora_rank")}
    if times > 8:
        return "loud", HURTS, facts  # the adapter counts so many times that the learning rate is as good as
    if times > 4:
        return "strong", UNUSUAL, facts
    return ("usual", FINE, facts) if times >= 1 else ("quiet", UNUSUAL, facts)


def _lora_dropout(case: Case) -> Band:
    value = case.of("lora_dropout")
    facts = {"share": value}
    if value >= 0.5:
        return "half", HURTS, facts
    if value > 0.1:
        return "much", UNUSUAL, facts
    return ("usual" if value else "off"), FINE, facts


def _max_length(case: Case) -> Band:
    value, longest = case.of("max_length"), case.amount.longest
    mean = case.amount.tokens / max(1, case.amount.train)
    facts: dict[str, float] = {"longest": longest, "mean": mean, "most": value}
    if value < mean:
        return "cuts_most", HURTS, facts
    if value < longest:
        return "cuts_some", UNUSUAL, facts
    return "fits", FINE, facts


def _seed(_case: Case) -> Band:
    return "any", FINE, {}


def _early_stopping(case: Case) -> Band:
    value = case.of("early_stopping")
    facts: dict[str, float] = {"n": value}
    if value and not case.amount.validation:
        return "blind", UNUSUAL, facts
    return ("on" if value else "off"), FINE, facts


def _schedule(case: Case) -> Band:
    name = params.PARAMS["schedule"].show(case.of("schedule"))
    return name, (UNUSUAL if name == "constant" else FINE), {}


def _rounded(value: float) -> float:
    """Return a number as a person says it: to two digits."""
    return float(f"{value:.2g}")


BANDS: dict[str, Callable[[Case], Band]] = {
    "learning_rate": _learning_rate,
    "rate_multiplier": _rate_multiplier,
    "epochs": _epochs,
    "batch_size": _batch_size,
    "accumulation": _accumulation,
    "warmup_ratio": _warmup_ratio,
    "schedule": _schedule,
    "lora_rank": _lora_rank,
    "lora_alpha": _lora_alpha,
    "lora_dropout": _lora_dropout,
    "max_length": _max_length,
    "early_stopping": _early_stopping,
    "seed": _seed,
}
