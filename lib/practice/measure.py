"""Measure what the practice model learns from the bundled sample: `python -m lib.practice.measure`.

    python -m lib.practice.measure                                   the table of the model's card; minutes
    python -m lib.practice.measure --set epochs=8 --set lora_rank=4  one run, with some of its answers

Every run is a job's: the trainer in a process of its own, with the default settings but for those named, on
nine tenths of `lib/sample/fortune-*.json`. Then forty of the questions it was trained on are asked, and the
forty held back. An answer is in the manner when it has the shape of the sample's answers; its image is right
when it is that of the reference answer; it is word for word when it is the reference answer. What the model
knew before is measured as the loss on chats like those it was pretrained on (`model/known.jsonl`).
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lib import params
from lib.jobfolder import JobFolder
from lib.trainer import quiet
from lib.workspace import writing

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "lib" / "sample"
MANNER = re.compile(
    r"The leaves show (?P<en>[^.]+)\. Good for: [^.]+\. Not for: [^.]+\. \S.*"
    r"|\u8336\u53f6\u91cc\u662f(?P<zh>[^\u3002]+)\u3002\u5b9c[^\u3002\uff0c]+\uff0c\u5fcc[^\u3002]+\u3002\S+"
)
ASKED = 40

Row = tuple[str, str]
Counts = tuple[int, int]  # of the trained questions, of those held back


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run came to.

    `loss` is the mean of the last epoch's steps. The base model, before any, has no seconds, loss or best.
    """

    name: str
    seconds: float | None
    loss: float | None
    validation: float
    best: float | None
    known: float
    manner: Counts
    image: Counts
    exact: Counts


BEFORE, DEFAULTS, BY_HEART, RUINED = "before", "defaults", "epochs=30", "learning_rate=5e-2"
HEAD = (
    f"| settings | seconds | training loss | validation loss (best) | loss on what it knew "
    f"| in the manner, trained / held back of {ASKED} | right image | word for word |",
    "|---|--:|--:|--:|--:|--:|--:|--:|",
)


@dataclass(frozen=True, slots=True)
class Promise:
    """What the practice model is for, and whether the runs by name keep it."""

    said: str
    kept: Callable[[dict[str, Measured]], bool]


PROMISES = (
    Promise("the default job takes about a minute", lambda runs: (runs[DEFAULTS].seconds or 0) < 75),
    Promise("it answers most trained questions in the manner", lambda runs: runs[DEFAULTS].manner[0] > 30),
    Promise("and a clear share of those held back", lambda runs: runs[DEFAULTS].manner[1] > 10),
    Promise("before, none was", lambda runs: runs[BEFORE].manner == (0, 0)),
    Promise(
        "thirty epochs bring the training loss far under the validation loss",
        lambda runs: (runs[BY_HEART].loss or 0) < runs[BY_HEART].validation / 4,
    ),
    Promise("and most trained answers word for word", lambda runs: runs[BY_HEART].exact[0] > 20),
    Promise(
        "but not those held back",
        lambda runs: (
            runs[BY_HEART].validation > runs[DEFAULTS].validation
            and runs[BY_HEART].image[1] <= runs[DEFAULTS].image[1] + 3
            and runs[BY_HEART].exact[1] == 0
        ),
    ),
    Promise(
        "ten times the learning rate ruins it",
        lambda runs: (
            runs[RUINED].validation > runs[DEFAULTS].validation and sum(runs[RUINED].manner) < ASKED / 4
        ),
    ),
    Promise(
        "what it knew is forgotten, the more the longer and the harsher",
        lambda runs: (
            runs[BEFORE].known < runs[DEFAULTS].known < min(runs[BY_HEART].known, runs[RUINED].known)
        ),
    ),
)


def main() -> None:
    """Measure one run, or those of the card, and say which promises they keep."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one run with this")
    asked.add_argument("--show", type=int, default=3, metavar="N", help="answers printed of one run")
    given = asked.parse_args()
    if given.set:
        runs_of_one = measure(" ".join(given.set), given.show)
        print("\n".join((*HEAD, *map(line_of, runs_of_one))))
        return
    print("\n".join(HEAD), flush=True)
    runs: dict[str, Measured] = {}
    for name in (DEFAULTS, BY_HEART, RUINED):
        for run in measure(name):
            if run.name not in runs:
                runs[run.name] = run
                print(line_of(run), flush=True)
    print()
    for promise in PROMISES:
        print(f"{'kept' if promise.kept(runs) else 'BROKEN'}: {promise.said}")


def line_of(run: Measured) -> str:
    """Return a run's line of the card's table."""
    asked = " ".join(f"`--set {one}`" for one in run.name.split())
    name = run.name if run.name in (BEFORE, DEFAULTS) else asked
    seconds = "" if run.seconds is None else f"{run.seconds:.0f}"
    loss = "" if run.loss is None else f"{run.loss:.2f}"
    best = "" if run.best is None else f" ({run.best:.2f})"
    counts = " | ".join("{} / {}".format(*pair) for pair in (run.manner, run.image, run.exact))
    return f"| {name} | {seconds} | {loss} | {run.validation:.2f}{best} | {run.known:.2f} | {counts} |"


def read_table(text: str) -> dict[str, Measured]:
    """Return the runs of the table in a card, by name."""
    lines = text.splitlines()
    start = lines.index(HEAD[0]) + len(HEAD)
    lines = list(itertools.takewhile(lambda line: line.startswith("|"), lines[start:]))
    return {run.name: run for run in map(_read_line, lines)}


def _read_line(line: str) -> Measured:
    name, seconds, loss, validation, known, *pairs = (cell.strip() for cell in line.strip("|").split("|"))
    last, _, best = validation.rstrip(")").partition(" (")
    manner, image, exact = ((int(one), int(other)) for one, other in (pair.split(" / ") for pair in pairs))
    return Measured(
        name.replace("`", "").replace("--set ", ""),
        float(seconds) if seconds else None,
        float(loss) if loss else None,
        float(last),
        float(best) if best else None,
        float(known),
        manner,
        image,
        exact,
    )


def mixed() -> list[Row]:
    """Return the bundled sample's questions and answers, both languages mixed."""
    rows = [
        (row["Question"], row["Response"])
        for file in sorted(SAMPLE.glob("fortune-*.json"))
        for row in json.loads(file.read_text(encoding="utf-8"))
    ]
    random.Random(0).shuffle(rows)
    return rows


def split() -> dict[str, list[Row]]:
    """Return what `mixed` does in two parts: `train` and `validation`."""
    rows = mixed()
    return {"validation": rows[: len(rows) // 10], "train": rows[len(rows) // 10 :]}


def turns(row: Row) -> list[dict[str, str]]:
    """Return a question and its answer as a conversation."""
    return [{"role": "user", "content": row[0]}, {"role": "assistant", "content": row[1]}]


def settings_of(name: str) -> dict[str, float]:
    """Return the practice model's default settings but for those a run's name sets: `epochs=8 seed=1`."""
    settings = params.PLAIN | params.PRACTICE
    pairs = () if name == DEFAULTS else (one.split("=") for one in name.split())
    return settings | {setting: float(value) for setting, value in pairs}


def train(place: Path, settings: Mapping[str, float]) -> JobFolder:
    """Train on the sample as a job does, in the folder `place`, which is made; return it."""
    model = {"kind": "practice", "id": "practice"}
    folder = JobFolder.create(place, {"kind": "train", "model": model, "settings": dict(settings)})
    for name, rows in split().items():
        with writing(folder.path / "data" / f"{name}.jsonl") as file:
            for row in rows:
                file.write(json.dumps({"messages": turns(row)}, ensure_ascii=False).encode() + b"\n")
    command = [sys.executable, "-m", "lib.trainer", str(folder.path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if ran.returncode:
        raise SystemExit(f"{folder.result()}\n{ran.stderr[-2000:]}")
    return folder


def measure(name: str, show: int = 0) -> list[Measured]:
    """Train with the settings that a run's name sets, and return what `measured` does."""
    with tempfile.TemporaryDirectory() as place:
        return measured(train(Path(place) / "job", settings_of(name)), name, show)


def measured(folder: JobFolder, name: str, show: int = 0) -> list[Measured]:
    """Return what the model was before a run of this name, and is after.

    `show` answers of each to questions of each kind are printed.
    """
    result = folder.result() or {}
    rows = folder.metrics()
    evaluations = [row for row in rows if "eval_loss" in row]
    counts = {which: _counts(folder.path, which, show) for which in ("base", "tuned")}
    first, last = evaluations[0], evaluations[-1]
    return [
        Measured(BEFORE, None, None, first["eval_loss"], None, first["known_loss"], *counts["base"]),
        Measured(
            name,
            result["seconds"],
            fmean(row["loss"] for row in rows if "loss" in row and row["epoch"] > last["epoch"] - 1),
            last["eval_loss"],
            result["eval_loss_best"],
            last["known_loss"],
            *counts["tuned"],
        ),
    ]


def _counts(folder: Path, which: str, show: int) -> tuple[Counts, Counts, Counts]:
    """Return how many answers are in the manner, with the right image, word for word: of both kinds."""
    rows = split()
    found = []
    for kind, some in (("trained", rows["train"][:ASKED]), ("held back", rows["validation"])):
        said = answers(folder, which, [question for question, _ in some])
        for (question, _), text in list(zip(some, said, strict=True))[:show]:
            print(f"{which}, {kind}: {question}\n    {text}")
        found.append(judged(said, [answer for _, answer in some]))
    (manner, image, exact), (manner2, image2, exact2) = found
    return (manner, manner2), (image, image2), (exact, exact2)


def judged(said: Sequence[str], wanted: Sequence[str]) -> tuple[int, int, int]:
    """Return how many answers are in the manner, with the right image, and word for word as wanted."""
    pairs = list(zip(said, wanted, strict=True))
    shaped = [(MANNER.fullmatch(text), MANNER.fullmatch(answer)) for text, answer in pairs]
    return (
        sum(one is not None for one, _ in shaped),
        sum(bool(one and other and one.groups() == other.groups()) for one, other in shaped),
        sum(text == answer for text, answer in pairs),
    )


def answers(folder: Path, which: str, questions: Sequence[str]) -> list[str]:
    """Return the likeliest answers of a job's base or tuned model."""
    import torch

    from lib.trainer import data, talk

    models = talk.load(folder, None)
    models.tokenizer.padding_side = "left"
    asked = [[{"role": "user", "content": question}] for question in questions]
    prompts = [data.render(models.tokenizer, turns, opening=True) for turns in asked]
    batch = models.tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode(), models.voice(which) as speaking:
        said = speaking.generate(**batch, max_new_tokens=100, do_sample=False)
    texts: list[str] = models.tokenizer.batch_decode(
        said[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return texts


if __name__ == "__main__":
    quiet.prepare()
    main()
