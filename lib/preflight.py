"""The card before a start: what a run will take, and whether anything speaks against it.

Steps, checks and rows are exact. Tokens are counted with the model's own tokenizer where it lies on this
computer, and estimated from the text elsewhere; time, memory and money are estimates, each with its source.
 `keep` writes them into the job's folder, and `compared` sets them beside what the job really took.

Every finding is green, amber or red and has a sentence `preflight.FINDING` that says why and what to change.
"""

from __future__ import annotations

import heapq
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from jinja2 import TemplateError

from lib import advice, estimate, jobs, ollama, params
from lib.advice import Case
from lib.backends import local
from lib.estimate import Amount, Price
from lib.jobfolder import JobFolder
from lib.params import Settings
from lib.trainer import memory, precision
from lib.trainer.settings import evaluation_steps
from lib.trainer.settings import read as read_settings
from lib.workspace import read_json, write_json

GREEN, AMBER, RED = "green", "amber", "red"
COUNTED = 400  # rows that the tokenizer reads; of more, every so many-th, and the longest
LONGEST = 16  # rows that are tried for being the longest, by their text
FEW, ENOUGH = 20, 100  # steps. Source for 100: tinker's skills/research/references/hyperparams.md, 2026-11
LONG = 3 * 3600.0  # seconds: more than an evening
TIGHT = 0.8  # of the free memory
ASKED_EVERY = 30  # seconds: how old the graphics card's answer may be

# Memory of a LoRA run beside the weights: what is loaded, and for each token of a batch in fp32. In bf16 a
# token takes half: 2.2, 2.7 and 3.8 GB with one, two and four rows, measured 2026-12 as the others here.
# Source: measured 2026-11 with Qwen2.5-0.5B's shape on two cores: 4.2 GB with one row of 256 tokens, 5.3 GB
# with two; 3.4 and 4.1 GB with gradient checkpointing; all of the model 9.3 GB. The practice model, whose
# weights are nothing beside what is loaded, takes 0.55 GB with small batches (2026-12). A larger model's
# tokens take more, about as width and depth grow: with the power 0.6 of its parameters.
BASE = 0.6e9
PER_TOKEN, PER_TOKEN_AGAIN = 4.3e6, 2.7e6
MEASURED_WITH, GROWS = 494e6, 0.6


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one epoch and of the longest row. `counted`: by the model's own tokenizer."""

    total: int
    longest: int
    counted: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say: `color`, its text key under `preflight`, and its facts. `advice`: of one setting."""

    color: str
    key: str
    facts: dict[str, Any] = field(default_factory=dict)
    advice: advice.Advice | None = None


@dataclass(frozen=True, slots=True)
class Card:
    """What a run will take. None stands where nothing is known, and is said to be.

    `checks`: how often the mock exam is held, the one before the first step included. `seconds_from`,
    `memory_from`: "here" where a run on this computer was measured, else "table".
    """

    rows: int
    validation: int
    tokens: Tokens
    trained: int
    steps: int
    per_epoch: int
    checks: int
    seconds: float | None
    seconds_from: str
    memory: float | None
    memory_from: str
    free: float | None
    money: float | None
    price: Price | None
    findings: tuple[Finding, ...] = ()

    @property
    def color(self) -> str:
        """The worst of the findings' colours."""
        worst = {finding.color for finding in self.findings}
        return RED if RED in worst else AMBER if AMBER in worst else GREEN


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the model and the place: see `card`."""

    practice: bool = False
    local: bool = True
    parameters: int | None = None
    tokenizer: Path | None = None  # the model's folder
    speed: float | None = None  # tokens a second, by the text, of a run measured here
    memory: tuple[float, float] | None = None  # bytes a run here took, and tokens of its largest batch
    price: Price | None = None
    broken_rules: int = 0  # that the training file breaks at this place
    wanted: frozenset[str] = frozenset()  # settings known to hurt that the visitor wants all the same


def card(data: Path, settings: Settings, known: Known) -> Card:
    """Return the card for training the rows in `data` with `settings`."""
    amount = estimate.amount(data)
    plan = estimate.plan(
        amount, settings, speed=known.speed, parameters=known.parameters, practice=known.practice
    )
    tokens = count(data, known.tokenizer)
    most = int(settings.get("max_length", tokens.longest))
    trained = round(min(tokens.total, amount.train * most) * settings["epochs"])
    needed = _memory(settings, known, min(tokens.longest, most)) if known.local else None
    checks = len(evaluation_steps(plan.steps, settings["epochs"])) + 1 if amount.validation else 0
    told = Card(
        rows=amount.train,
        validation=amount.validation,
        tokens=tokens,
        trained=trained,
        steps=plan.steps,
        per_epoch=plan.steps_per_epoch,
        checks=checks if known.local else 0,
        seconds=plan.seconds if known.local else None,
        seconds_from="here" if plan.measured_here else "table",
        memory=needed,
        memory_from="here" if known.memory else "table",
        free=free_memory(practice=known.practice) if known.local else None,
        money=known.price.of(trained) if known.price else None,
        price=known.price,
    )
    counted = Amount(amount.train, amount.validation, tokens.total, tokens.longest)
    case = Case(settings, counted, known.practice)
    return replace(told, findings=tuple(_findings(told, case, known)))


def known(
    place: str,
    model: dict[str, str] | None,
    *,
    broken_rules: int = 0,
    wanted: frozenset[str] = frozenset(),
    price: Price | None = None,
) -> Known:
    """Return what is known of a model and a place (a name in `backends.BACKENDS`)."""
    of_any = Known(local=place == "local", price=price, broken_rules=broken_rules, wanted=wanted)
    if place != "local" or model is None:
        return of_any
    return replace(
        of_any,
        practice=model["kind"] == "practice",
        parameters=local.parameters(model),
        tokenizer=local.folder(model),
        speed=jobs.measured_speed(model),
        memory=measured_memory(model),
    )


def count(data: Path, model: Path | None) -> Tokens:
    """Return the tokens of a conversion's training rows; with the tokenizer in `model`, where it has one."""
    path = data / "train.jsonl"
    amount = estimate.amount(data)
    if model and (model / "tokenizer.json").is_file() and path.is_file():
        stat = path.stat()
        found = _counted(path, stat.st_size, stat.st_mtime_ns, model)
        if found:
            return found
    return Tokens(amount.tokens, amount.longest, counted=False)


def measured_memory(model: dict[str, str]) -> tuple[float, float] | None:
    """Return the bytes that the last finished run of a model here took, and its largest batch's tokens."""
    for job in jobs.finished_runs(model):
        settings, result = params.read(job.folder.asked()), job.folder.result() or {}
        if result.get("memory"):
            longest = count(job.folder.path / "data", None).longest
            tokens = settings["batch_size"] * min(longest, settings["max_length"])
            return float(result["memory"]), float(tokens)
    return None


def keep(folder: JobFolder, told: Card) -> None:
    """Write a card into a job's folder, for `compared`."""
    write_json(folder.path / "estimate.json", asdict(told) | {"findings": []})


def compared(folder: JobFolder) -> list[tuple[str, float, float]]:
    """Return what was estimated beside what a finished job took: name, estimate, real; [] before the end."""
    told, result = read_json(folder.path / "estimate.json"), folder.result()
    if not isinstance(told, dict) or not result or result.get("state") != "done":
        return []
    if result.get("resumed_at") or result.get("stopped_early"):
        result = result | {"seconds": None}  # its time is that of a part
    tokens = result.get("tokens")
    real = {
        "rows": result.get("rows"),
        "tokens": tokens * result["epochs"] if tokens and result.get("epochs") else None,
        "steps": result.get("steps"),
        "seconds": result.get("seconds"),
        "memory": result.get("memory"),
    }
    guessed = told | {"tokens": told.get("trained")}
    return [
        (name, float(guessed[name]), float(value))
        for name, value in real.items()
        if value is not None and guessed.get(name) is not None
    ]


def error(estimated: float, real: float) -> float:
    """Return how far an estimate was off, as a share of what was real."""
    return (estimated - real) / real if real else 0.0


def free_memory(*, practice: bool) -> float:
    """Return the bytes a run may take here: of a graphics card where there is one, else of the computer.

    The practice model is trained on the processor in any case.
    """
    return (0.0 if practice else _card_memory()) or float(memory.free("cpu"))


def _findings(told: Card, case: Case, known: Known) -> list[Finding]:
    found: list[Finding] = []

    def say(color: str, key: str, **facts: Any) -> None:
        found.append(Finding(color, key, facts))

    if known.broken_rules:
        say(RED, "rules", n=known.broken_rules)
    if told.memory is not None and told.free is not None:
        facts = {"memory": told.memory, "free": told.free}
        if told.memory > told.free:
            say(RED, "no_memory", **facts)
        elif told.memory > TIGHT * told.free:
            say(AMBER, "tight", **facts)
    if not told.steps:
        say(AMBER, "steps_unknown")  # the platform fills its batches by tokens
    elif told.steps < FEW // 2 and "batch_size" not in known.wanted:
        say(RED, "hardly_any", n=told.steps)
    elif told.steps < FEW or (told.steps < ENOUGH and not known.practice):
        say(AMBER, "few", n=told.steps)
    if not told.validation:
        say(AMBER, "blind")
    if told.tokens.longest > case.of("max_length"):
        say(AMBER, "cut", longest=told.tokens.longest, most=case.of("max_length"))
    if told.seconds is not None and told.seconds > LONG:
        say(AMBER, "long", seconds=told.seconds)
    if known.local and told.seconds is None:
        say(AMBER, "no_time")
    if told.price and told.money is None:
        say(AMBER, "no_price", checked=told.price.checked)
    for name in params.PARAMS:
        one = advice.advise(name, case) if name in case.settings else None
        if one and one.weight == advice.HURTS and (name, one.band) != ("batch_size", "few"):
            color = AMBER if name in known.wanted else RED
            found.append(Finding(color, "setting", {}, one))
        elif one and one.weight == advice.UNUSUAL and name != "max_length":
            found.append(Finding(AMBER, "setting", {}, one))
    return found or [Finding(GREEN, "good")]


def _memory(settings: Settings, known: Known, longest: int) -> float | None:
    batch = settings["batch_size"] * longest
    if known.parameters is None:
        return None
    asked = read_settings(params.PLAIN | dict(settings))
    assert asked
    each = PER_TOKEN_AGAIN if asked.gradient_checkpointing == "on" else PER_TOKEN
    each *= float((known.parameters / MEASURED_WITH) ** GROWS)
    if known.memory:
        then, tokens = known.memory
        return max(then / 2, then + (batch - tokens) * each)
    half = not known.practice and (_card_memory() > 0 or precision.half("cpu", known.parameters))
    each *= 0.5 if half else 1.0
    return BASE + memory.needed(known.parameters, asked, half=half) + batch * each


@lru_cache(maxsize=16)
def _counted(path: Path, size: int, changed: int, model: Path) -> Tokens | None:
    del size, changed  # they tell one state of the file from another
    try:
        from tokenizers import Tokenizer  # comes with the trainer; the app alone does without
    except ImportError:
        return None
    template, special = ollama.template_of(model)
    render = ollama.renderer(template, special) if template else None
    try:
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    except Exception:  # the library's own kind for a broken file; the job will say so
        return None

    def length(line: bytes) -> int:
        turns = [(turn["role"], turn.get("content") or "") for turn in orjson.loads(line)["messages"]]
        text = "\n".join(f"{role}\n{said}" for role, said in turns)
        if render:
            with suppress(TemplateError):  # it takes no such conversation; the job will say so
                text = render(turns, False)
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    def guess(line: bytes) -> float:
        return sum(estimate.tokens(turn.get("content") or "") for turn in orjson.loads(line)["messages"])

    amount = estimate.amount(path.parent)
    step = max(1, amount.train // COUNTED)
    counted, guessed, rows = 0, 0.0, 0
    longest: list[tuple[int, int, bytes]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file):
            # a byte is about as many tokens in every script, so the longest rows are found without parsing
            if len(longest) < LONGEST or len(line) > longest[0][0]:
                heapq.heappush(longest, (len(line), number, line))
                if len(longest) > LONGEST:
                    heapq.heappop(longest)
            if number % step == 0:
                counted, guessed, rows = counted + length(line), guessed + guess(line), rows + 1
    if not rows:
        return None
    rest = amount.tokens - guessed
    whole = counted if step == 1 else round(counted + rest * counted / max(1.0, guessed))
    return Tokens(whole, max(length(line) for _, _, line in longest), counted=True)


def _card_memory() -> float:
    """Return the free bytes of the first NVIDIA card, 0 where there is none or nobody can say."""
    return _asked_card(int(time.monotonic() // ASKED_EVERY))


@lru_cache(maxsize=1)
def _asked_card(_now: int) -> float:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0.0
    command = [tool, "--query-gpu=memory.free", "--format=csv,noheader,nounits"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
        return float(ran.stdout.split("\n")[0]) * 1024 * 1024
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0.0
