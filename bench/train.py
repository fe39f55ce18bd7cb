"""Measure the trainer: alone, on a busy machine, and beside a plain TRL script and a hand-written loop.

    python bench/train.py                        every part, about fifteen minutes on two cores
    python bench/train.py --only job,busy        some of them
    python bench/train.py --only engines --rounds 1 --epochs 1 --rows 80 --json all.json

    job       the default job on the bundled sample, through the list of jobs, as a click starts it: into a
              workspace where nothing runs yet, the process that works the list off started with it
    busy      the default job for fewer epochs, alone and while every core is kept busy by another process
    engines   the same rows and settings for `ours` (`python -m lib.trainer`), `TRL` and `loop`
    step      the same three on a model of Qwen2.5-0.5B's shape with random weights, LoRA, rows of 256 tokens
              (5 GB of memory and 2 GB of disk)

`TRL` is what its documentation shows, an `SFTTrainer` with `assistant_only_loss`, piles of shuffled rows and
torch's own number of threads; `loop` is PyTorch, peft and AdamW without a framework, with shuffled rows
padded to the longest of their pile and as many threads as ours. All train LoRA on all linear layers, in fp32
or, where that is quick (lib/trainer/precision.py), in bf16.

A useful token is one that is not padding: tokens a second are those of all epochs over the seconds from the
first step's begin to the last one's end, evaluations left out. `first step` is from the click, or the start
of the process, to the end of the first step, as the visitor waits for it, for `ours` with its evaluation
before that; `whole` to the end. Every run is a fresh process; engines take turns, round by round; the medians
count. What a busy machine takes away is what `loop`, with its one thread, loses on it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lib import jobs, practice  # noqa: E402
from lib.backends.local import Local  # noqa: E402
from lib.jobfolder import JobFolder  # noqa: E402
from lib.practice.measure import split, turns  # noqa: E402
from lib.trainer import memory, precision, quiet  # noqa: E402

ENGINES = ("ours", "TRL", "loop")
LONG = 256  # tokens of a row of the 0.5B-shaped model
LONG_ROWS = 6  # of it; one is a step
BUSY_EPOCHS = 2.0

Messages = list[dict[str, str]]
Rows = tuple[list[Messages], list[Messages]]  # to train on, held back
Run = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """What one engine did: `runs` hold each run's figures, `said` is "done" or what went wrong."""

    task: str
    name: str
    said: str
    runs: list[Run] = field(default_factory=list)

    def of(self, figure: str) -> float:
        """Return the median of a figure."""
        return median(run[figure] for run in self.runs)


# The data


def sample(most: int) -> Rows:
    """Return the bundled sample as conversations, both languages mixed; at most so many to train on."""
    rows = {name: [turns(row) for row in part] for name, part in split().items()}
    return rows["train"][:most], rows["validation"]


def write(place: Path, rows: Rows) -> None:
    """Write both parts as chat JSONL, where a job folder has them."""
    place.mkdir(parents=True, exist_ok=True)
    for name, some in zip(("train", "validation"), rows, strict=True):
        lines = (json.dumps({"messages": turns}, ensure_ascii=False) for turns in some)
        (place / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


# The engines: each in a process of its own, which prints one line of JSON at its end


class Steps:
    """When steps began and ended, by the clock of this computer."""

    def __init__(self) -> None:
        self.begun: float | None = None
        self.ends: list[float] = []

    def begin(self) -> None:
        """Note that the first step begins now."""
        self.begun = self.begun or time.time()

    def end(self) -> None:
        """Note the end of a step."""
        self.ends.append(time.time())

    def told(self, tokens: int) -> dict[str, float]:
        """Return the figures of a run in which `tokens` were read, padding not counted."""
        assert self.begun
        seconds = self.ends[-1] - self.begun
        return {"first": self.ends[0], "tokens_per_second": tokens / seconds}


def plain_trl(data: Path, model: Path, settings: dict[str, float]) -> dict[str, float]:
    """Train as TRL's documentation shows it."""
    os.environ["HF_DATASETS_CACHE"] = str(data / "cache")
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = load_dataset("json", data_files=str(data / "train.jsonl"), split="train")
    steps = Steps()

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            steps.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            steps.end()

    config = SFTConfig(
        output_dir=str(data / "trl"),
        learning_rate=settings["learning_rate"],
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=int(settings["batch_size"]),
        max_length=int(settings["max_length"]),
        assistant_only_loss=True,
        activation_checkpointing=False,
        bf16=_half(model),
        use_cpu=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=_kind(model)),
        args=config,
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=LoraConfig(**_lora(settings)),
        callbacks=[Watch()],
    )
    tokens = sum(map(len, trainer.train_dataset["input_ids"]))
    trainer.train()
    return steps.told(round(tokens * settings["epochs"]))


def plain_loop(data: Path, model: Path, settings: dict[str, float]) -> dict[str, float]:
    """Train with PyTorch and peft alone."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lib.trainer import data as rows

    torch.set_num_threads(quiet.threads(model == practice.folder()))
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model)
    length = int(settings["max_length"])
    coded = [rows.encode(tokenizer, turns) for turns in rows.conversations(data / "train.jsonl")]
    weights = AutoModelForCausalLM.from_pretrained(model, dtype=_kind(model))
    weights = get_peft_model(weights, LoraConfig(**_lora(settings)))
    weights.train()
    trained = [one for one in weights.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=settings["learning_rate"], weight_decay=0.0)
    size, dice, steps, tokens = int(settings["batch_size"]), Random(0), Steps(), 0
    half = _half(model)  # read from the weights' headers: not within the steps that are timed
    for _ in range(int(settings["epochs"])):
        dice.shuffle(coded)
        for at in range(0, len(coded), size):
            steps.begin()
            pile = [(ids[:length], labels[:length]) for ids, labels in coded[at : at + size]]
            wide = max(len(ids) for ids, _ in pile)
            read, wanted, there = (torch.full((len(pile), wide), value) for value in (0, -100, 0))
            for place, (ids, labels) in enumerate(pile):
                read[place, : len(ids)] = torch.tensor(ids)
                wanted[place, : len(ids)] = torch.tensor(labels)
                there[place, : len(ids)] = 1
                tokens += len(ids)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = weights(input_ids=read, attention_mask=there, labels=wanted).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            steps.end()
    return steps.told(tokens)


def _half(model: Path) -> bool:
    return precision.half("cpu", memory.parameters(model))


def _kind(model: Path) -> Any:
    import torch

    return torch.bfloat16 if _half(model) else torch.float32


def _lora(settings: dict[str, float]) -> dict[str, Any]:
    return {
        "r": int(settings["lora_rank"]),
        "lora_alpha": settings["lora_alpha"],
        "lora_dropout": settings["lora_dropout"],
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
    }


SCRIPTS: dict[str, Callable[[Path, Path, dict[str, float]], dict[str, float]]] = {
    "TRL": plain_trl,
    "loop": plain_loop,
}


def ours(place: Path, rows: Rows, model: Path, settings: dict[str, float]) -> Run | str:
    """Run our trainer in a process of its own; return its figures, or why there are none."""
    asked = {"kind": "practice"} if model == practice.folder() else {"kind": "path", "id": str(model)}
    folder = JobFolder.create(place / "job", {"model": asked, "settings": settings})
    write(folder.path / "data", rows)
    begun = time.time()
    command = [sys.executable, "-m", "lib.trainer", str(folder.path)]
    ran, peak, first = _watched(command, lambda: any("loss" in row for row in folder.metrics()))
    seconds = time.time() - begun
    result = folder.result() or {}
    if ran.returncode or result.get("state") != "done":
        return f"failed: {result or ran.stderr[-300:]}"
    return {
        "seconds": seconds,
        "first_step": first - begun,
        "tokens_per_second": result["tokens_per_second"],
        "peak": peak,
    }


def script(name: str, place: Path, rows: Rows, model: Path, settings: dict[str, float]) -> Run | str:
    """Run another engine in a process of its own; return its figures, or why there are none."""
    write(place, rows)
    command = [sys.executable, str(Path(__file__)), "--engine", name, "--model", str(model)]
    command += ["--data", str(place), "--settings", json.dumps(settings)]
    begun = time.time()
    ran, peak, _ = _watched(command)
    if ran.returncode:
        return f"failed: {ran.stderr.strip()[-300:]}"
    told = json.loads(ran.stdout.strip().rpartition("\n")[2])
    return {
        "seconds": time.time() - begun,
        "first_step": told["first"] - begun,
        "tokens_per_second": told["tokens_per_second"],
        "peak": peak,
    }


def _watched(
    command: list[str], happened: Callable[[], bool] | None = None
) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """Run a process; return it, the most memory it held (Linux; else 0), and when something `happened`."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        peak = when = 0.0
        while True:
            peak = max(peak, _held(process.pid))
            if happened and not when and happened():
                when = time.time()
            try:
                process.wait(0.05)
                break
            except subprocess.TimeoutExpired:
                continue
        out.seek(0)
        err.seek(0)
        ran = subprocess.CompletedProcess(command, process.returncode, out.read(), err.read())
        return ran, peak, when or time.time()


def _held(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
    return float(lines[0][1]) * 1024 if lines else 0.0


def clicked(place: Path, rows: Rows, settings: dict[str, float]) -> Run | str:
    """Submit the default job as a click does, in a workspace of its own; return its figures, or why none."""
    os.environ["FIRSTTUNE_HOME"] = str(place / "home")
    write(place / "data", rows)
    local, begun = Local(), time.time()
    job = local.start("bench", place / "data", {"kind": "practice", "id": ""}, settings, "")
    returned = time.time()
    try:
        first = 0.0
        while job.state not in jobs.ENDED:
            if not first and any("loss" in row for row in job.folder.metrics()):
                first = time.time()
            time.sleep(0.02)
            job = jobs.get(job.id)
        ended = time.time()
        if job.state != "done":
            return f"{job.state}: {job.error}"
        running = next(event.at for event in jobs.events(job.id) if event.state == "running")
        return {
            "returned": returned - begun,
            "running": running - begun,
            "first_step": first - begun,
            "seconds": ended - begun,
            "tokens_per_second": (job.folder.result() or {})["tokens_per_second"],
        }
    finally:
        runner = JobFolder(place / "home" / "runner").process()
        if runner:
            runner.terminate()
            runner.wait(10)


@contextmanager
def burning() -> Iterator[None]:
    """Keep every core busy with a process that does nothing but count."""
    cores = os.cpu_count() or 1
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


# The tasks


def practice_settings(epochs: float | None) -> dict[str, float]:
    """Return the practice model's default settings, with other epochs if wished."""
    settings = Local().defaults({"kind": "practice", "id": ""})
    return settings | ({"epochs": epochs} if epochs else {})


def half_billion(place: Path) -> Path:
    """Write a model of Qwen2.5-0.5B's shape with random weights and the practice model's tokenizer."""
    from transformers import AutoTokenizer
    from transformers.utils import logging

    from lib.practice import making

    logging.disable_progress_bar()
    model = making.model(
        151_936,
        2,
        width=896,
        inner=4864,
        layers=24,
        heads=14,
        seed=0,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
    )
    model.save_pretrained(place)
    AutoTokenizer.from_pretrained(practice.folder()).save_pretrained(place)
    return place


def long_rows(count: int) -> list[Messages]:
    """Return rows of just over LONG tokens of the practice model, so that each is cut to that."""
    rows, _ = sample(1000)
    texts = [" ".join(turn["content"] for turn in turns) for turns in rows]
    return [
        [
            {"role": "user", "content": texts[n]},
            {"role": "assistant", "content": " ".join(texts[n + 1 : n + 9])},
        ]
        for n in range(count)
    ]


def started(name: str, place: Path, rows: Rows, model: Path, settings: dict[str, float]) -> Run | str:
    """Run one of ENGINES."""
    if name == "ours":
        return ours(place, rows, model, settings)
    return script(name, place, rows, model, settings)


def measure(task: str, ways: Mapping[str, Callable[[Path], Run | str]], rounds: int) -> list[Row]:
    """Go every way `rounds` times, taking turns, each time in an empty folder; return their rows in order."""
    found: dict[str, list[Run]] = {name: [] for name in ways}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, go in ways.items():
            with tempfile.TemporaryDirectory() as place:
                told = go(Path(place))
            if isinstance(told, str):
                failed[name] = told
            else:
                found[name].append(told)
    return [Row(task, name, failed.get(name, "done"), found[name]) for name in ways]


def job_part(asked: argparse.Namespace) -> list[Row]:
    """Measure the default job from the click on."""
    settings, rows = practice_settings(asked.epochs), sample(asked.rows)
    return measure("job", {"ours": lambda place: clicked(place, rows, settings)}, asked.rounds)


def busy_part(asked: argparse.Namespace) -> list[Row]:
    """Measure `ours` and `loop` alone and among processes that want every core."""
    settings, rows = practice_settings(asked.epochs or BUSY_EPOCHS), sample(asked.rows)

    def way(name: str, *, busy: bool) -> Callable[[Path], Run | str]:
        def go(place: Path) -> Run | str:
            if not busy:
                return started(name, place, rows, practice.folder(), settings)
            with burning():
                return started(name, place, rows, practice.folder(), settings)

        return go

    ways = {f"{name}, {how}": way(name, busy=how == "busy") for name in BUSY for how in ("alone", "busy")}
    return measure("busy", ways, asked.rounds)


def engines_part(asked: argparse.Namespace) -> list[Row]:
    """Measure three engines on the practice model."""
    settings, rows = practice_settings(asked.epochs), sample(asked.rows)
    return measure("engines", _ways(asked, rows, practice.folder(), settings), asked.rounds)


def step_part(asked: argparse.Namespace) -> list[Row]:
    """Measure three engines on a model of half a billion numbers, once."""
    settings = practice_settings(1) | {"batch_size": 1, "max_length": LONG, "learning_rate": 2e-4}
    with tempfile.TemporaryDirectory() as place:
        model = half_billion(Path(place))
        return measure("step", _ways(asked, (long_rows(LONG_ROWS), []), model, settings), 1)


def _ways(
    asked: argparse.Namespace, rows: Rows, model: Path, settings: dict[str, float]
) -> dict[str, Callable[[Path], Run | str]]:
    names = [name for name in ENGINES if name in asked.engines.split(",")]
    return {name: partial(started, name, rows=rows, model=model, settings=settings) for name in names}


PARTS: dict[str, Callable[[argparse.Namespace], list[Row]]] = {
    "job": job_part,
    "busy": busy_part,
    "engines": engines_part,
    "step": step_part,
}


# What was promised

# figure of a run -> its column, and how it is shown
FIGURES = {
    "tokens_per_second": ("useful tokens/s", "{:,.0f}"),
    "returned": ("click answered s", "{:.2f}"),
    "running": ("running s", "{:.2f}"),
    "first_step": ("first step s", "{:.1f}"),
    "seconds": ("whole s", "{:.1f}"),
    "peak": ("peak bytes", "{:,.0f}"),
}


def table(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of one part's table: medians, and how much faster ours is than each."""
    first = next((row for row in rows if row.runs), None)
    names = [name for name in FIGURES if first and name in first.runs[0]]
    heads = [FIGURES[name][0] for name in names]
    yield "| " + " | ".join(["", *heads, "ours ÷ it", "rounds", "result"]) + " |"
    yield "|---" + "|--:" * (len(names) + 2) + "|---|"
    ours = next((row for row in rows if row.name == "ours" and row.runs), None)
    for row in rows:
        shown = [FIGURES[name][1].format(row.of(name)) if row.runs else "" for name in names]
        ratio = f"{_speed(ours, row):.2f}×" if ours and row.runs else ""
        yield "| " + " | ".join([row.name, *shown, ratio, str(len(row.runs)), row.said]) + " |"


@dataclass(frozen=True, slots=True)
class Target:
    """A promise of a part: `value` of the rows called `of` is at most, or at least, `limit`."""

    task: str
    text: str
    value: Callable[..., float]
    limit: float
    of: tuple[str, ...] = ("ours",)
    at_least: bool = False
    show: str = "{:.2f} times"


def _speed(one: Row, other: Row) -> float:
    return one.of("tokens_per_second") / other.of("tokens_per_second")


def _lost_beyond(alone: Row, busy: Row, loop_alone: Row, loop_busy: Row) -> float:
    """Return how many times slower a busy machine makes us, over how many times slower it makes the loop."""
    return _speed(alone, busy) / _speed(loop_alone, loop_busy)


def _figure(name: str, unit: float = 1.0) -> Callable[[Row], float]:
    return lambda row: row.of(name) / unit


BUSY = ("ours", "loop")
_BOTH = ("ours, alone", "ours, busy", "loop, alone", "loop, busy")
TARGETS = (
    Target("job", "running within 0.5 s", _figure("running"), 0.5, show="{:.2f} s"),
    Target("job", "first step within 6 s", _figure("first_step"), 6, show="{:.1f} s"),
    Target("job", "default job within 30 s", _figure("seconds"), 30, show="{:.1f} s"),
    # two runs of one thing on shared cores differ by up to a tenth each
    Target("busy", "slower by what is taken away and no more", _lost_beyond, 1.2, _BOTH),
    Target("engines", "at least 1.2 times TRL's useful tokens a second", _speed, 1.2, ("ours", "TRL"), True),
    Target("engines", "at least 0.85 of the hand-written loop's", _speed, 0.85, ("ours", "loop"), True),
    Target("step", "not slower than TRL", _speed, 1, ("ours", "TRL"), True),
    Target("step", "memory under 4.5 GB", _figure("peak", 1e9), 4.5, show="{:.2f} GB"),
)


def judged(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return every promise with what was measured; `said` is "met", "missed by …" or "not measured"."""
    good = {(row.task, row.name): row for row in rows if row.said == "done" and row.runs}
    found = []
    for target in TARGETS:
        measured = [good[target.task, name] for name in target.of if (target.task, name) in good]
        said, shown = "not measured", ""
        if len(measured) == len(target.of):
            value = target.value(*measured)
            met = value >= target.limit if target.at_least else value <= target.limit
            said = "met" if met else f"missed by {abs(value / target.limit - 1):.1%}"
            shown = target.show.format(value)
        found.append({"target": f"{target.task}: {target.text}", "said": said, "shown": shown})
    return found


def _machine() -> Iterator[str]:
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    yield f"{os.cpu_count()} cores ({platform.processor() or platform.machine()}); load {load}"
    told = (f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "trl", "peft"))
    yield f"Python {platform.python_version()}, {', '.join(told)}"


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "bench/train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", default=",".join(PARTS), help=f"which of {','.join(PARTS)}")
    add("--rounds", type=int, default=3)
    add("--epochs", type=float, help=f"other than the default job's, and than {BUSY_EPOCHS:.0f} of `busy`")
    add("--rows", type=int, default=360, help="fewer rows than nine tenths of the sample")
    add("--engines", default=",".join(ENGINES), help=f"which of {','.join(ENGINES)}")
    add("--json", type=Path, help="write every single figure to this file")
    add("--engine", help=argparse.SUPPRESS)
    add("--model", type=Path, help=argparse.SUPPRESS)
    add("--data", type=Path, help=argparse.SUPPRESS)
    add("--settings", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    unknown = set(asked.only.split(",")) - set(PARTS) or set(asked.engines.split(",")) - set(ENGINES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for; print tables."""
    asked = _asked(arguments)
    if asked.engine:
        if asked.engine == "loop":
            quiet.prepare()
        print(json.dumps(SCRIPTS[asked.engine](asked.data, asked.model, asked.settings)))
        return
    print("\n\n".join([f"`{' '.join(['python bench/train.py', *sys.argv[1:]])}`", *_machine()]))
    rows: list[Row] = []
    for name in PARTS:
        if name in asked.only.split(","):
            part = PARTS[name](asked)
            print(f"\n### {name}\n\n" + "\n".join(table(part)), flush=True)
            rows += part
    found = [one for one in judged(rows) if one["target"].partition(":")[0] in asked.only.split(",")]
    print("\n" + "\n".join(f"- {one['target']}: **{one['said']}** {one['shown']}".rstrip() for one in found))
    if asked.json:
        told = {
            "rows": [{"task": row.task, "name": row.name, "said": row.said, "runs": row.runs} for row in rows]
        }
        asked.json.write_text(json.dumps(told | {"targets": found}, indent=1))


if __name__ == "__main__":
    main()
