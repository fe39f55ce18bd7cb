"""Answer and score every validation row of a training job: `python -m lib.trainer.score JOB_FOLDER`.

JOB_FOLDER is that of the scoring; its job.json names the training job's as `folder`, and may set
`max_new_tokens`. In the training job's folder this writes

    scores/rows.jsonl      what was scored, then one line a row: both answers, both losses; it grows
    scores/scores.json     written last: both models' scores, the best and the worst rows

Each row is asked up to its last answer and answered with the likeliest words, by the base model and the tuned
one; the loss is over all its learned words, as in training. Stopped or killed, it goes on after the last row
that is whole, unless the model has been trained further meanwhile: then it begins anew.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lib.errors import ModelError
from lib.jobfolder import JobFolder
from lib.trainer import failure, process
from lib.workspace import told, write_json

SHOWN = 5  # the best rows, and as many of the worst
AT_ONCE = 16  # rows answered together; half as many whenever the memory does not hold them
ROOM = 64_000_000  # numbers the scores of all possible next words may take at a time: 256 MB
LONGEST_ANSWER = 512  # tokens; an answer in the data may be longer, but nobody wants to wait for its like

SIDES = ("base", "tuned")

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """One validation row: what is asked, what the data answer, its tokens and which of them are learned."""

    number: int
    question: str
    prompt: str
    reference: str
    ids: list[int]
    labels: list[int]


def main() -> int:
    """Score, and leave the result in the job's folder. Returns the exit code."""
    return process.main("score", __doc__, _run)


def _run(folder: JobFolder) -> None:
    from lib.trainer import talk
    from lib.trainer.progress import Stop

    folder.report("loading")
    stop = Stop(folder)
    asked = folder.asked()
    trained = JobFolder(Path(asked["folder"]))
    models = talk.load(trained.path, None)
    if not models.tuned:
        raise ModelError("trainer.no_adapter")
    rows, left_out = _rows(trained, models)
    if not rows:
        raise ModelError("trainer.nothing_to_score", rows=left_out)
    most = int(asked.get("max_new_tokens") or 0) or _longest_answer(rows, models.tokenizer)
    mark = {"trained": _trained(trained), "rows": len(rows), "max_new_tokens": most}
    path = trained.path / "scores" / "rows.jsonl"
    lines = _begun(path, mark)
    at_once, begun, behind = AT_ONCE, time.monotonic(), len(lines)
    while len(lines) < len(rows):
        speed = (len(lines) - behind) / max(1e-9, time.monotonic() - begun)
        left = round((len(rows) - len(lines)) / speed, 1) if speed else None
        folder.report("answering", done=len(lines), total=len(rows), seconds_left=left)
        piece = rows[len(lines) : len(lines) + at_once]
        try:
            answered = [_answers(models, piece, side, most, stop) for side in SIDES]
            losses = [_losses(models, piece, side) for side in SIDES]
        except Exception as error:
            if at_once > 1 and failure.told(error, folder.path, {}).key == "trainer.no_memory_to_talk":
                at_once //= 2
                continue
            raise
        if stop.wanted():
            folder.halt(done=len(lines), total=len(rows))  # the piece in hand was cut short: not kept
            return
        lines += _keep(path, piece, answered, losses)
    folder.report("counting", done=len(rows), total=len(rows))
    write_json(path.with_name("scores.json"), mark | {"left_out": left_out} | _scores(rows, lines))
    folder.finish(scores=str(path.with_name("scores.json")), rows=len(rows), left_out=left_out)


def _rows(trained: JobFolder, models: Any) -> tuple[list[Row], int]:
    """Return the rows that can be scored, and how many cannot: too long, or without an answer."""
    from lib.trainer import data, model

    most = model.longest(models.model)
    rows, left_out = [], 0
    for number, messages in enumerate(data.conversations(trained.path / "data" / "validation.jsonl"), 1):
        last = max((n for n, turn in enumerate(messages) if turn["role"] == "assistant"), default=0)
        ids, labels = data.encode(models.tokenizer, messages) if last else ([], [])
        if not last or len(ids) > most:
            left_out += 1
            continue
        asked = next((turn["content"] for turn in reversed(messages[:last]) if turn["role"] == "user"), "")
        prompt = data.render(models.tokenizer, messages[:last], opening=True)
        rows.append(Row(number, asked, prompt, messages[last]["content"], ids, labels))
    return rows, left_out


def _longest_answer(rows: list[Row], tokenizer: Any) -> int:
    """Return how many tokens an answer may have: a quarter more than the longest of the data."""
    longest = max(len(tokenizer(row.reference, add_special_tokens=False)["input_ids"]) for row in rows)
    return min(LONGEST_ANSWER, max(16, math.ceil(1.25 * longest)))


def _answers(models: Any, piece: list[Row], side: str, most: int, stop: Any) -> list[str]:
    import torch
    from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

    class Heard(StoppingCriteria):  # type: ignore[misc]
        def __call__(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
            return torch.full((input_ids.shape[0],), stop.wanted(), device=input_ids.device)

    tokenizer = models.tokenizer
    batch = tokenizer(
        [row.prompt for row in piece],
        add_special_tokens=False,
        padding=True,
        padding_side="left",
        return_tensors="pt",
    ).to(models.device)
    config = GenerationConfig(
        max_new_tokens=most,
        do_sample=False,
        eos_token_id=models.ends(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.inference_mode(), models.voice(side) as speaking:
        said = speaking.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            generation_config=config,
            stopping_criteria=StoppingCriteriaList([Heard()]),
        )
    texts = tokenizer.batch_decode(said[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [str(text) for text in texts]


def _losses(models: Any, piece: list[Row], side: str) -> list[tuple[float, int]]:
    """Return of each row the sum of its losses, and over how many tokens."""
    import torch

    width = models.model.get_output_embeddings().weight.shape[0]
    longest = max(len(row.ids) for row in piece)
    at_once = max(1, ROOM // (width * longest))
    found = []
    with torch.inference_mode(), models.voice(side) as speaking:
        for first in range(0, len(piece), at_once):
            some = piece[first : first + at_once]
            longest = max(len(row.ids) for row in some)
            ids = torch.tensor([row.ids + [0] * (longest - len(row.ids)) for row in some])
            labels = torch.tensor([row.labels + [-100] * (longest - len(row.ids)) for row in some])
            mask = torch.tensor([[1] * len(row.ids) + [0] * (longest - len(row.ids)) for row in some])
            read = {"input_ids": ids.to(models.device), "attention_mask": mask.to(models.device)}
            logits = speaking(**read).logits[:, :-1]
            wanted = labels[:, 1:].to(models.device)
            each = torch.nn.functional.cross_entropy(
                logits.float().transpose(1, 2), wanted, ignore_index=-100, reduction="none"
            )
            counts = (wanted != -100).sum(1)
            found += [(float(total), int(n)) for total, n in zip(each.sum(1), counts, strict=True)]
    return found


def _trained(job: JobFolder) -> list[Any]:
    """Return what tells one state of a job's model from another: how far it was trained, and in what time."""
    result = job.result() or {}
    return [result.get("step"), result.get("seconds")]


def _begun(path: Path, mark: Line) -> list[Line]:
    """Return the rows that an earlier run has answered of the same; else begin the file anew."""
    lines: list[Line] = []
    whole = 0
    if path.exists():
        with path.open("rb") as file:
            for raw in file:
                try:
                    lines.append(orjson.loads(raw))
                except orjson.JSONDecodeError:
                    break  # a kill left half a line; it and all after it is asked again
                whole += len(raw)
    with told(path):
        if lines and lines[0] == mark:
            with path.open("r+b") as file:
                file.truncate(whole)
            return lines[1:]
        path.parent.mkdir(exist_ok=True)
        path.with_name("scores.json").unlink(missing_ok=True)
        path.write_bytes(orjson.dumps(mark, option=orjson.OPT_APPEND_NEWLINE))
    return []


def _keep(
    path: Path, piece: list[Row], answered: list[list[str]], losses: list[list[tuple[float, int]]]
) -> list[Line]:
    lines = []
    for place, row in enumerate(piece):
        line: Line = {"row": row.number}
        for side, texts, sums in zip(SIDES, answered, losses, strict=True):
            total, tokens = sums[place]
            line |= {side: texts[place], f"loss_{side}": total, "tokens": tokens}
        lines.append(line)
    with told(path), path.open("ab") as file:
        file.write(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    return lines


def _scores(rows: list[Row], lines: list[Line]) -> Line:
    from lib.trainer import likeness

    references = [row.reference for row in rows]
    tokens = sum(line["tokens"] for line in lines)
    each: dict[str, list[float]] = {}
    found: Line = {}
    for side in SIDES:
        answers = [line[side] for line in lines]
        both = list(zip(answers, references, strict=True))
        each[side] = [likeness.chrf(*one) for one in both]
        found[side] = {
            "loss": sum(line[f"loss_{side}"] for line in lines) / tokens if tokens else None,
            "exact": sum(likeness.exact(*one) for one in both) / len(both),
            "chrf": likeness.chrf_of_all(answers, references),
            "rouge_l": likeness.rouge_l(answers, references),
        }
    order = sorted(range(len(rows)), key=lambda place: -each["tuned"][place])
    shown = min(SHOWN, len(rows) // 2)

    def example(place: int) -> Line:
        row, line = rows[place], lines[place]
        return {
            "row": row.number,
            "question": row.question,
            "reference": row.reference,
            "base": line["base"],
            "tuned": line["tuned"],
            "chrf_base": each["base"][place],
            "chrf_tuned": each["tuned"][place],
        }

    found["best"] = [example(place) for place in order[:shown]]
    found["worst"] = [example(place) for place in reversed(order[len(order) - shown :])]
    return found | {"counted_with": likeness.how()}


if __name__ == "__main__":
    sys.exit(main())
