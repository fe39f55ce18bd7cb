"""The trainer: what is learned from a conversation, and whole runs in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from lib.errors import ModelError, WorkspaceError
from lib.jobfolder import JobFolder
from lib.trainer import checkpoints, data, failure
from tests.tiny import (
    LEARNED,
    MARKED,
    ROOT,
    SYSTEM,
    TURNS,
    UNMARKED,
    again,
    job,
    loss_of,
    start,
    train,
    until,
    write,
)


def learned(tokenizer: Any, turns: list[dict[str, str]]) -> list[str]:
    """The stretches that are learned, decoded."""
    ids, labels = data.encode(tokenizer, turns)
    assert all(label in (-100, token) for token, label in zip(ids, labels, strict=True))
    stretches: list[list[int]] = [[]]
    for label in labels:
        if label == -100:
            stretches += [[]] if stretches[-1] else []
        else:
            stretches[-1].append(label)
    return [tokenizer.decode(stretch) for stretch in stretches if stretch]


@pytest.mark.parametrize("template", [MARKED, UNMARKED], ids=["marked", "unmarked"])
def test_only_the_assistants_words_and_their_end_are_learned(tokenizer: Any, template: str) -> None:
    tokenizer.chat_template = template
    assert learned(tokenizer, TURNS) == LEARNED


def test_marks_and_prefixes_find_the_same_tokens(tokenizer: Any) -> None:
    tokenizer.chat_template = MARKED
    marked = data.encode(tokenizer, TURNS)
    tokenizer.chat_template = UNMARKED
    assert data.encode(tokenizer, TURNS) == marked


def test_a_model_without_a_template_gets_a_plain_one(tiny: Path, tmp_path: Path) -> None:
    from lib.trainer import model

    folder = tmp_path / "bare"
    shutil.copytree(tiny, folder)
    (folder / "chat_template.jinja").unlink()
    tokenizer, own = model.load_tokenizer(folder)
    assert not own
    assert learned(tokenizer, TURNS) == [" " + text for text in LEARNED]
    assert data.render(tokenizer, TURNS[:2], opening=True).endswith("\n\nAssistant:")


def test_an_answer_that_repeats_the_question_is_still_only_the_answer(tokenizer: Any) -> None:
    tokenizer.chat_template = UNMARKED
    turns = [{"role": "user", "content": "tea"}, {"role": "assistant", "content": "tea"}]
    assert learned(tokenizer, turns + turns) == ["tea<|im_end|>", "tea<|im_end|>"]


def test_what_a_template_writes_before_an_answer_is_learned_with_it(tokenizer: Any) -> None:
    think = "{% if loop.last and m['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    opened = SYSTEM.replace(" + m['content']", " }}" + think + "{{ m['content']")
    tokenizer.chat_template = UNMARKED.replace(SYSTEM, opened)
    assert learned(tokenizer, TURNS) == [LEARNED[0], "<think>\n\n</think>\n\n" + LEARNED[1]]


def test_a_template_that_rewrites_earlier_answers_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = UNMARKED.replace(
        "m['content']", "(m['content'] if loop.last or m['role'] != 'assistant' else 'cut')"
    )
    with pytest.raises(ModelError, match=r"trainer\.template_unclear"):
        data.encode(tokenizer, TURNS)


def test_a_template_that_refuses_a_role_says_so(tokenizer: Any) -> None:
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + UNMARKED
    )
    with pytest.raises(ModelError, match="no system role"):
        data.encode(tokenizer, TURNS)


def test_long_rows_are_cut_counted_and_left_out_when_nothing_remains(tokenizer: Any, tmp_path: Path) -> None:
    whole = len(data.encode(tokenizer, TURNS)[0])
    question = len(
        tokenizer(data.render(tokenizer, TURNS[:2], opening=True), add_special_tokens=False)["input_ids"]
    )
    file = tmp_path / "train.jsonl"
    write(file, [TURNS, TURNS[3:]])
    seen: list[int] = []
    rows = data.read_rows(file, tokenizer, whole - 1, seen.append)
    assert (rows.read, rows.cut, rows.left_out, rows.longest) == (2, 1, 0, whole)
    assert seen == [0]
    assert len(rows.input_ids[0]) == len(rows.labels[0]) == whole - 1
    rows = data.read_rows(file, tokenizer, question, seen.append)
    assert (rows.read, rows.cut, rows.left_out, len(rows.input_ids)) == (2, 1, 1, 1)
    rows = data.read_rows(file, tokenizer, whole - 1, seen.append, leave_out=True)
    assert (rows.read, rows.too_long, rows.cut, rows.left_out, len(rows.input_ids)) == (2, 1, 0, 1, 1)
    assert rows.longest == whole


def test_a_line_that_is_no_conversation_is_named(tokenizer: Any, tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"messages": []}\n{"text": "no"}\n', encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        data.read_rows(file, tokenizer, 64, lambda row: None)
    assert caught.value.key == "trainer.bad_line"
    assert caught.value.facts["line"] == 2


@pytest.mark.parametrize("broken", ["folder", "config", "weights", "half", "kind", "causal", "keys"])
def test_a_broken_model_folder_says_what_is_wrong(tiny: Path, tmp_path: Path, broken: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from lib.trainer import model

    folder = tmp_path / "model"
    shutil.copytree(tiny, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    told = json.loads(config.read_text())
    if broken == "folder":
        shutil.rmtree(folder)
    elif broken == "config":
        config.unlink()
    elif broken == "weights":
        weights.unlink()
    elif broken == "half":
        weights.write_bytes(weights.read_bytes()[:5000])
    elif broken == "kind":
        config.write_text(json.dumps(told | {"model_type": "nobody_knows"}))
    elif broken == "causal":
        config.write_text(json.dumps({"model_type": "vit"}))
    else:
        kept = load_file(weights)
        del kept["model.norm.weight"]
        save_file(kept, weights, {"format": "pt"})
    with pytest.raises(ModelError) as caught:
        model.load_model(folder, torch.float32)
    key = {
        "folder": "trainer.no_folder",
        "config": "trainer.no_config",
        "weights": "trainer.no_weights",
        "kind": "trainer.unknown_kind",
        "causal": "trainer.not_causal",
    }.get(broken, "trainer.bad_weights")
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (MemoryError(), "trainer.out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "trainer.out_of_memory"),
        (RuntimeError("PytorchStreamWriter failed writing file data/1"), "trainer.disk_full"),
        (OSError(28, "No space left on device"), "trainer.disk_full"),
        (WorkspaceError("workspace.disk_full", path="x", free=1), "trainer.disk_full"),
        (ModuleNotFoundError("no", name="trl"), "trainer.not_installed"),
        (ValueError("something else"), "trainer.unexpected"),
        (ModelError("trainer.no_rows", file="x"), "trainer.no_rows"),
    ],
)
def test_what_ends_a_run_becomes_a_sentence(error: Exception, key: str, tmp_path: Path) -> None:
    assert failure.told(error, tmp_path, {"batch_size": 8}).key == key
    try:
        raise ValueError("around it") from error
    except ValueError as around:
        wrapped = failure.told(around, tmp_path, {"batch_size": 8})
    assert wrapped.key == key


@pytest.mark.parametrize(("steps", "epochs"), [(360, 8), (3, 1), (9, 3), (1000, 30), (1, 1)])
def test_there_is_an_evaluation_at_every_epochs_end_and_the_last_step(steps: int, epochs: int) -> None:
    from lib.trainer.settings import evaluation_steps

    at = evaluation_steps(steps, epochs)
    assert {round(steps * epoch / epochs) for epoch in range(1, epochs + 1)} <= at
    assert min(at) >= 1
    assert max(at) == steps
    assert len(at) <= max(20, epochs)


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    for step in (20, 100, 110):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in checkpoints.NEEDED:
            (folder / name).write_bytes(b"x")
        save_file({"a": torch.zeros(2)}, folder / "adapter_model.safetensors")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (tmp_path / "checkpoint-110" / "trainer_state.json").write_text('{"global_st')
    found = checkpoints.newest_whole(tmp_path)
    assert found is not None
    assert checkpoints.step_of(found) == 100
    assert not (tmp_path / "checkpoint-110").exists()


@pytest.mark.trainer
def test_a_run_says_all_that_a_page_shows(whole: JobFolder) -> None:
    rows, result = whole.metrics(), whole.result() or {}
    assert rows[0]["step"] == 0
    assert "eval_loss" in rows[0]
    assert [row["step"] for row in rows if "loss" in row] == list(range(1, 81))
    ends = [row["step"] for row in rows if "eval_loss" in row]
    assert {20, 40, 60, 80} <= set(ends)
    assert not any("known_loss" in row for row in rows)  # only of the practice model is it known what it knew
    for row in rows:
        if "loss" in row:
            assert row["learning_rate"] >= 0
            assert min(row["grad_norm"], row["tokens_per_second"], row["memory"]) > 0
            assert 0 < row["epoch"] <= 4
    assert result["state"] == "done"
    assert result["adapter"] == "adapter"
    assert (result["step"], result["steps"], result["rows"], result["rows_validation"]) == (80, 80, 40, 4)
    assert result["eval_loss"] < result["eval_loss_before"]
    assert result["tokens_per_second"] > 0
    assert (result["method"], result["kept_step"], result["stopped_early"]) == ("lora", 80, None)
    assert (result["rows_too_long"], result["rows_cut"], result["rows_left_out"]) == (0, 0, 0)
    status = whole.status()
    assert (status["phase"], status["step"], status["steps"]) == ("saving", 80, 80)
    assert not (whole.path / "checkpoints").exists()


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 reads the old name
def test_plain_peft_loads_the_adapter_and_finds_the_same_loss(whole: JobFolder) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    adapter = whole.path / "adapter"
    model = AutoPeftModelForCausalLM.from_pretrained(adapter)  # finds the base model by itself
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    assert tokenizer.chat_template == MARKED
    found = loss_of(model, tokenizer, whole.path / "data" / "validation.jsonl")
    assert found == pytest.approx((whole.result() or {})["eval_loss"], rel=1e-4)


@pytest.mark.trainer
def test_stopped_killed_and_resumed_it_learns_the_same(whole: JobFolder, tmp_path: Path, tiny: Path) -> None:
    folder = job(tmp_path / "job", tiny)

    process = start("lib.trainer", str(folder.path))
    until(process, "step=10 ")
    folder.want_stop()
    process.communicate()
    stopped = folder.result() or {}
    assert (process.returncode, stopped["state"], stopped["adapter"]) == (0, "stopped", "adapter")
    assert 10 <= stopped["step"] < 80
    assert (folder.path / "adapter" / "adapter_model.safetensors").exists()

    again(folder)
    process = start("lib.trainer", str(folder.path))
    until(process, f"step={stopped['step'] + 8} ")
    process.kill()  # as a crash would: steps past the checkpoint are in metrics.jsonl
    process.communicate()
    assert folder.result() is None

    if os.name == "posix":
        process = start("lib.trainer", str(folder.path))
        until(process, f"step={stopped['step'] + 12} ")
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert (process.returncode, (folder.result() or {})["state"]) == (0, "stopped")
        again(folder)

    code, said = train(folder)
    assert code == 0, said
    assert (folder.result() or {})["resumed_at"] > stopped["step"]
    for name in ("loss", "eval_loss"):
        expected = [(row["step"], row[name]) for row in whole.metrics() if name in row]
        assert [(row["step"], row[name]) for row in folder.metrics() if name in row] == expected


@pytest.mark.trainer
def test_an_absurd_learning_rate_is_named_as_the_cause(tmp_path: Path, tiny: Path) -> None:
    folder = job(tmp_path / "job", tiny, learning_rate=1e30, warmup_ratio=0)
    code, _ = train(folder)
    result = folder.result() or {}
    assert (code, result["key"]) == (1, "trainer.diverged")
    assert result["facts"]["learning_rate"] == 1e30


@pytest.mark.trainer
def test_rows_that_are_all_too_long_say_what_to_change(tmp_path: Path, tiny: Path) -> None:
    folder = job(tmp_path / "job", tiny, max_length=4)
    code, _ = train(folder)
    result = folder.result() or {}
    assert (code, result["key"]) == (1, "trainer.all_too_long")
    assert result["facts"]["rows"] == 40
    assert result["facts"]["longest"] > 4


@pytest.mark.trainer
def test_a_folder_in_which_another_works_is_left_alone(tmp_path: Path, tiny: Path) -> None:
    folder = job(tmp_path / "job", tiny)
    with folder.working():
        code, _ = train(folder)
    assert code == 75
    assert folder.result() is None


@pytest.fixture
def talk(whole: JobFolder) -> Iterator[tuple[IO[str], IO[str]]]:
    env = os.environ | {"PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-m", "lib.trainer.talk", str(whole.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=env,
        cwd=ROOT,
    )
    assert process.stdin
    assert process.stdout
    yield process.stdin, process.stdout
    process.stdin.close()
    assert process.wait(30) == 0  # it ends with its input
    process.stdout.close()


@pytest.mark.trainer
def test_base_and_tuned_answer_differently_and_can_be_stopped(talk: tuple[IO[str], IO[str]]) -> None:
    to, back = talk
    ready = json.loads(back.readline())
    assert (ready["ready"], ready["tuned"]) == (True, True)

    def ask(number: int, **question: Any) -> None:
        turns = [{"role": "user", "content": "tea 3?"}]
        to.write(json.dumps({"id": number, "messages": turns, "max_new_tokens": 24} | question) + "\n")
        to.flush()

    def answer(number: int) -> tuple[str, dict[str, Any]]:
        text = ""
        while True:
            line = json.loads(back.readline())
            assert line["id"] == number
            if "text" not in line:
                return text, line
            text += line["text"]

    ask(1, which="tuned", temperature=0)
    tuned, end = answer(1)
    assert end["done"]
    assert 0 < end["tokens"] <= 24
    assert "is a drink" in tuned
    ask(2, which="base", temperature=0)
    assert answer(2)[0] != tuned
    ask(3, which="tuned", temperature=0)
    assert answer(3)[0] == tuned
    ask(4, which="base", temperature=1.5, seed=1)
    ask(5, which="base", temperature=1.5, seed=1)
    first, second = answer(4)[0], answer(5)[0]
    assert first == second
    ask(6, which="tuned", messages="no")
    assert answer(6)[1]["error"]["key"] == "trainer.bad_question"
    to.write(json.dumps({"stop": 7}) + "\n")
    ask(7, which="base", temperature=0, max_new_tokens=200)
    assert answer(7)[1]["tokens"] <= 1
