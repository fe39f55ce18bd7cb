"""Judging a tuned model: questions kept back, and scores over all of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lib import jobs, judge
from lib.errors import JobError
from lib.jobfolder import JobFolder
from lib.trainer import likeness, packages
from lib.workspace import read_json, write_json
from tests.processes import reaches, settled, until
from tests.tuned import facts, finished

# peft 0.21 reads an old name of transformers
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
needs_scores = pytest.mark.skipif(
    bool(packages.missing(*packages.SCORES)), reason="the trainer is not installed"
)
TEA = "\u8336\u53f6\u91cc\u662f\u4e00\u5ea7\u6865\u3002"  # seven characters and a full stop


def folder(place: Path, rows: list[list[dict[str, str]]]) -> JobFolder:
    made = JobFolder.create(place, {})
    (place / "data").mkdir()
    text = "".join(json.dumps({"messages": turns}) + "\n" for turns in rows)
    (place / "data" / "validation.jsonl").write_text(text, encoding="utf-8")
    return made


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


def test_held_back_questions_come_with_their_answers_and_each_once(tmp_path: Path) -> None:
    rows = [
        turns(("system", "be kind"), ("user", "a"), ("assistant", "yes"), ("user", "b"), ("assistant", "no")),
        turns(("user", "a"), ("assistant", "again")),
        turns(("user", "c"), ("assistant", "")),
        turns(("user", "d")),
    ]
    job = folder(tmp_path / "job", rows)
    first = judge.HeldBack("a", "yes", "be kind")
    assert judge.held_back(job, 9) == [first, judge.HeldBack("c", ""), judge.HeldBack("d", "")]
    assert judge.held_back(job, 1) == [first]
    assert judge.held_back(JobFolder(tmp_path / "none"), 9) == []


def test_whether_two_jobs_kept_back_the_same_rows(tmp_path: Path) -> None:
    rows = [turns(("user", "a"), ("assistant", "yes"))]
    one, same = folder(tmp_path / "one", rows), folder(tmp_path / "same", rows)
    other = folder(tmp_path / "other", [turns(("user", "b"), ("assistant", "yes"))])
    assert judge.same_rows(one, same)
    assert not judge.same_rows(one, other)
    assert not judge.same_rows(one, JobFolder(tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 3 o'clock, Bob!", ["it", "s", "3", "o", "clock", "bob"]),
        (TEA, list(TEA[:-1])),
        ("\u9009GPT\u6216B2", ["\u9009", "gpt", "\u6216", "b2"]),
        (
            "na\u00efve \u043c\u0438\u0440_1 \u304b\u306a",
            ["na\u00efve", "\u043c\u0438\u0440", "1", *"\u304b\u306a"],
        ),
        ("\U00020000\U00020001", ["\U00020000", "\U00020001"]),
    ],
)
def test_a_word_is_a_run_of_letters_or_one_chinese_character(text: str, words: list[str]) -> None:
    assert likeness.words(text) == words


def lcs(one: list[str], other: list[str]) -> int:
    """The longest sequence two lists share, by the textbook."""
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):
        for j, b in enumerate(other):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
    return rows[-1][-1]


@needs_scores
def test_rouge_l_of_chinese_counts_characters() -> None:
    said = "\u8336\u53f6\u91cc\u6709\u4e00\u5ea7\u5c71\u3002"
    shared = lcs(likeness.words(said), likeness.words(TEA))
    assert shared == 5
    assert likeness.rouge_l([said], [TEA]) == pytest.approx(100 * shared / 7)
    assert likeness.rouge_l([TEA, "x"], [TEA, "y"]) == pytest.approx(50)
    draw = random.Random(1)
    for _ in range(50):
        one, other = ("".join(draw.choices("\u8336\u53f6\u91cc ab", k=draw.randint(1, 12))) for _ in range(2))
        a, b = likeness.words(one), likeness.words(other)
        same = lcs(a, b)
        wanted = 200 * same / (len(a) + len(b)) if same else 0
        assert likeness.rouge_l([one], [other]) == pytest.approx(wanted), (one, other)


@needs_scores
def test_chrf_needs_no_words_and_exact_match_no_blanks_at_the_ends() -> None:
    assert likeness.chrf(TEA, TEA) == pytest.approx(100)
    assert likeness.chrf("xyz", TEA) == 0
    assert 0 < likeness.chrf(TEA[:5], TEA) < 100
    assert likeness.chrf_of_all([TEA, TEA], [TEA, TEA]) == pytest.approx(100)
    assert likeness.exact(f" {TEA}\n", TEA)
    assert not likeness.exact("Tea", "tea")


ASKED = [(f"Should I do thing {n}?", f"Not on day {n}.") for n in range(37)]


def scored(job: jobs.Job) -> dict[str, Any]:
    told = read_json(job.folder.path / "scores" / "scores.json")
    assert isinstance(told, dict)
    return told


@pytest.mark.trainer
@needs_scores
def test_every_row_is_answered_and_the_losses_are_those_of_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    from lib.trainer import data, talk

    job = finished(monkeypatch, tmp_path, "tea", 1, rows=[*ASKED[:5], ("only asked?", ""), ("x " * 600, "y")])
    assert judge.scores(job.folder) is None
    assert judge.current(job) is None
    begun = judge.start(job)
    assert judge.start(job).id == begun.id
    reaches(begun, "done", 120)
    found = judge.scores(job.folder)
    assert found is not None
    assert found.left_out == 1
    assert found.rows == 6
    current = judge.current(job)
    assert current and current.id == begun.id
    assert len(found.best) == len(found.worst) == 3
    order = [one.chrf_tuned for one in (*found.best, *found.worst[::-1])]
    assert order == sorted(order, reverse=True)

    models = talk.load(job.folder.path, None)
    lines = (job.folder.path / "data" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    for side, score in (("base", found.base), ("tuned", found.tuned)):
        total, count = 0.0, 0
        for line in lines[:6]:
            ids, labels = data.encode(models.tokenizer, json.loads(line)["messages"])
            with torch.inference_mode(), models.voice(side) as model:
                logits = model(torch.tensor([ids])).logits[0, :-1]
            wanted = torch.tensor(labels[1:])
            total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
            count += int((wanted != -100).sum())
        assert score.loss == pytest.approx(total / count, rel=1e-4)
    assert found.base.loss != found.tuned.loss
    first = next(one for one in (*found.best, *found.worst) if one.row == 1)
    assert (first.question, first.reference) == ASKED[0]
    prompt = data.render(models.tokenizer, [{"role": "user", "content": first.question}], opening=True)
    batch = models.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode(), models.voice("base") as model:
        said = model.generate(**batch, max_new_tokens=scored(job)["max_new_tokens"], do_sample=False)
    alone = models.tokenizer.decode(said[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    assert first.base == alone


@pytest.mark.trainer
@needs_scores
def test_killed_and_stopped_it_goes_on_and_finds_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("whole", "torn"):
        (tmp_path / name).mkdir()
    whole, torn = (finished(monkeypatch, tmp_path / name, name, 1, rows=ASKED) for name in ("whole", "torn"))
    reaches(judge.start(whole), "done", 120)
    rows = torn.folder.path / "scores" / "rows.jsonl"
    begun = judge.start(torn)
    until(lambda: rows.exists() and rows.read_bytes().count(b"\n") >= 2, 60)
    process = begun.folder.process()
    if process:
        process.kill()
    with rows.open("ab") as file:
        file.write(b'{"row": 99, "base": "to')  # what a kill leaves of a line
    jobs.stop(begun.id)
    stopped = until(lambda: jobs.get(begun.id) if jobs.get(begun.id).state in jobs.ENDED else None, 60)
    if stopped.state != "done":
        settled(stopped)
        assert judge.start(torn).id == begun.id
        reaches(begun, "done", 120)
    assert scored(torn) == scored(whole)
    lines = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    assert [line["row"] for line in lines[1:]] == list(range(1, 38))


@pytest.mark.trainer
@needs_scores
def test_a_model_that_went_on_learning_is_scored_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = finished(monkeypatch, tmp_path, "tea", 1, rows=ASKED[:3])
    reaches(judge.start(job), "done", 120)
    assert judge.scores(job.folder)
    write_json(job.folder.path / "result.json", {"state": "done"} | facts(seconds=9.5))
    assert judge.scores(job.folder) is None
    again = judge.start(jobs.get(job.id))
    reaches(again, "done", 120)
    assert judge.scores(job.folder)


def test_what_cannot_be_judged_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    platform = jobs.keep("far", {"model": {"kind": "platform", "id": "x"}}, backend="siliconflow")
    with pytest.raises(JobError) as refused:
        judge.start(platform)
    assert refused.value.key == "job.no_model"
    blind = finished(monkeypatch, tmp_path, "blind", 1, rows=[])
    with pytest.raises(JobError) as nothing:
        judge.start(blind)
    assert nothing.value.key == "job.no_validation"
