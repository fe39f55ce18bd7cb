"""Measure what the practice model learns from the bundled sample: `python -m lib.practice.measure`.

Trains on nine tenths of `lib/sample/fortune-*.json` with the settings given (`--set learning_rate=5e-3`) or
the defaults, in a process of its own as a job would, then asks the base and the tuned model the questions of
forty trained and of all held-back rows. An answer is in the manner when it has the shape of the sample's
answers; its image is right when it is the one of the reference answer.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from lib import params
from lib.jobfolder import JobFolder
from lib.trainer import quiet
from lib.workspace import writing

SAMPLE = Path(__file__).parent.parent / "sample"
MANNER = re.compile(
    r"The leaves show (?P<en>[^.]+)\. Good for: [^.]+\. Not for: [^.]+\. \S.*"
    r"|\u8336\u53f6\u91cc\u662f(?P<zh>[^\u3002]+)\u3002\u5b9c[^\u3002\uff0c]+\uff0c\u5fcc[^\u3002]+\u3002\S+"
)
ASKED = 40

Row = tuple[str, str]


def main() -> None:
    """Train, ask, count, print."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    asked.add_argument("--model", help="another model folder than the practice model's")
    asked.add_argument("--show", type=int, default=3, help="how many answers to print")
    given = asked.parse_args()
    settings = {name: row.default for name, row in params.PARAMS.items()} | params.PRACTICE
    settings |= {name: float(value) for name, value in (pair.split("=") for pair in given.set)}
    model = {"kind": "path", "id": given.model} if given.model else {"kind": "practice", "id": "practice"}
    rows = [
        (row["Question"], row["Response"])
        for file in sorted(SAMPLE.glob("fortune-*.json"))
        for row in json.loads(file.read_text(encoding="utf-8"))
    ]
    random.Random(0).shuffle(rows)
    unseen, seen = rows[: len(rows) // 10], rows[len(rows) // 10 :]
    with tempfile.TemporaryDirectory() as place:
        folder = JobFolder.create(
            Path(place) / "job", {"kind": "train", "model": model, "settings": settings}
        )
        _write(folder.path / "data" / "train.jsonl", seen)
        _write(folder.path / "data" / "validation.jsonl", unseen)
        command = [sys.executable, "-m", "lib.trainer", str(folder.path)]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
        result = folder.result() or {}
        if result.get("state") != "done":
            print(result)
            return
        print(
            f"{result['seconds']} s, loss {result['loss']:.2f}, validation loss "
            f"{result['eval_loss_before']:.2f} -> {result['eval_loss']:.2f} "
            f"(best {result['eval_loss_best']:.2f})"
        )
        _ask(folder.path, {"trained": seen[:ASKED], "unseen": unseen}, given.show)


def _write(path: Path, rows: list[Row]) -> None:
    with writing(path) as file:
        for question, answer in rows:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}, ensure_ascii=False).encode() + b"\n")


def _ask(folder: Path, groups: dict[str, list[Row]], show: int) -> None:
    import contextlib

    import torch

    from lib.trainer import data, talk

    pair = talk.load(folder, None)
    pair.tokenizer.padding_side = "left"
    for which in ("base", "tuned"):
        for name, rows in groups.items():
            prompts = [
                data.render(pair.tokenizer, [{"role": "user", "content": question}], opening=True)
                for question, _ in rows
            ]
            batch = pair.tokenizer(prompts, padding=True, add_special_tokens=False, return_tensors="pt")
            alone = pair.model.disable_adapter() if which == "base" else contextlib.nullcontext()
            with torch.inference_mode(), alone:
                said = pair.model.generate(**batch, max_new_tokens=100, do_sample=False)
            texts = pair.tokenizer.batch_decode(
                said[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
            )
            shaped = [MANNER.fullmatch(text) for text in texts]
            wanted = [MANNER.fullmatch(answer) for _, answer in rows]
            right = sum(
                bool(a and b and a.groups() == b.groups()) for a, b in zip(shaped, wanted, strict=True)
            )
            same = sum(text == answer for text, (_, answer) in zip(texts, rows, strict=True))
            manner = sum(map(bool, shaped))
            print(
                f"{which}, {name}: of {len(rows)} {manner} in the manner, {right} right image, {same} exact"
            )
            for (question, _), text in list(zip(rows, texts, strict=True))[:show]:
                print(f"    {question}\n      {text}")


if __name__ == "__main__":
    quiet.prepare()
    main()
