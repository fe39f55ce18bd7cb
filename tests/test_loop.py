"""The training loop: the losses of a plain one with less padding; what was broken off goes on unharmed."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib.jobfolder import JobFolder
from lib.trainer import checkpoints, precision
from tests.tiny import again, done, failed, job, loss_of, losses, start, train, until, write

pytestmark = pytest.mark.trainer


def lengths(count: int) -> list[int]:
    """Lengths as chats have them: many short ones, a few long ones."""
    dice = random.Random(1)
    return [8 + int(dice.expovariate(1 / 60)) for _ in range(count)]


def piles(order: list[int], size: int) -> list[list[int]]:
    return [order[at : at + size] for at in range(0, len(order), size)]


def padding(order: list[int], size: int, long: list[int]) -> float:
    """The share of what is computed that is padding."""
    computed = sum(len(pile) * max(long[row] for row in pile) for pile in piles(order, size))
    return 1 - sum(long) / computed


@pytest.mark.parametrize("count", [1, 7, 64, 363])
def test_every_row_comes_once_an_epoch_in_an_order_of_the_seed_alone(count: int) -> None:
    from lib.trainer.loop import Piles

    long = lengths(count)
    order = Piles(long, 8, seed=3)
    first = list(order)
    assert sorted(first) == list(range(count))
    assert list(order) == list(Piles(long, 8, seed=3)) == first
    order.set_epoch(1)
    second = list(order)
    assert sorted(second) == list(range(count))
    again = Piles(long, 8, seed=3)
    again.set_epoch(1)
    assert list(again) == second
    if count > 8:
        assert second != first
        assert list(Piles(long, 8, seed=4)) != first
        assert {frozenset(pile) for pile in piles(first, 8)} != {frozenset(pile) for pile in piles(second, 8)}


def test_little_of_what_is_computed_is_padding() -> None:
    from lib.trainer.loop import Piles

    long = lengths(360)
    shuffled = list(range(360))
    random.Random(0).shuffle(shuffled)
    assert padding(shuffled, 8, long) > 0.5
    assert padding(list(Piles(long, 8, seed=0)), 8, long) < 0.2


def test_the_longest_row_comes_first_so_that_too_little_memory_shows_at_once() -> None:
    from lib.trainer.loop import Piles

    long = lengths(200)
    for seed in range(5):
        assert long.index(max(long)) in list(Piles(long, 8, seed))[:8]


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Any:
    """A loop over rows of very different lengths, and one padded batch of them."""
    import warnings

    from lib.trainer import data, model
    from lib.trainer.settings import read
    from lib.trainer.train import Loaded, loop_for
    from tests.tiny import SETTINGS

    place = tmp_path_factory.mktemp("mixed")
    turns = [
        [{"role": "user", "content": "tea " * n}, {"role": "assistant", "content": "drink " * (n % 5 + 1)}]
        for n in range(1, 17)
    ]
    write(place / "train.jsonl", turns)
    import torch

    tokenizer, own = model.load_tokenizer(tiny)
    rows = data.read_rows(place / "train.jsonl", tokenizer, 256, lambda row: None)
    settings = read(SETTINGS | {"lora_dropout": 0.0, "batch_size": 8})
    assert settings
    loaded = Loaded(model.load_model(tiny, torch.float32), tokenizer, own, "cpu", False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loop = loop_for(loaded, {"train": rows, "validation": rows}, settings, place, None, [], fresh=True)
        for parameter in loop.model.parameters():
            if parameter.requires_grad and not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)  # LoRA starts with nothing to see
        batch = next(iter(loop.get_train_dataloader()))
    return loop, batch


@pytest.mark.parametrize("tiles", [False, True])
def test_loss_and_gradient_are_those_of_the_plain_model(
    mixed: Any, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from lib.trainer import loop as looping

    loop, batch = mixed
    assert batch["attention_mask"].min() == 0, "the batch holds padding"
    monkeypatch.setattr(looping, "MOST_LOGITS", 0 if tiles else 1 << 26)
    loop.model.train()
    trained = [one for one in loop.model.parameters() if one.requires_grad]
    plain = loop.model(**batch).loss
    expected = torch.autograd.grad(plain, trained)
    ours = loop.compute_loss(loop.model, dict(batch))
    assert ours.item() == pytest.approx(plain.item(), rel=1e-5)
    for found, wanted in zip(torch.autograd.grad(ours, trained), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-6)
    learned = int((batch["labels"][:, 1:] != -100).sum())
    half = loop.compute_loss(loop.model, dict(batch), num_items_in_batch=torch.tensor(learned * 2))
    assert half.item() == pytest.approx(plain.item() / 2, rel=1e-5)


def test_nothing_is_learned_where_a_process_gets_no_row(mixed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from lib.trainer import loop as looping

    loop, batch = mixed
    filler = loop.data_collator([loop.train_dataset[len(loop.train_dataset) - 1]] * 2)
    learned = (batch["labels"][:, 1:] != -100).sum()
    trained = [one for one in loop.model.parameters() if one.requires_grad]
    for most in (0, 1 << 26):  # with TRL's tiles, and without
        monkeypatch.setattr(looping, "MOST_LOGITS", most)
        loss = loop.compute_loss(loop.model, dict(filler), num_items_in_batch=learned)
        assert loss.item() == 0
        assert not any(found.any() for found in torch.autograd.grad(loss, trained)), (
            "all have one, all nought"
        )


def test_an_evaluation_leaves_the_random_numbers_as_they_were(mixed: Any) -> None:
    import torch

    loop, _ = mixed
    before = torch.get_rng_state()
    first = loop.evaluate()
    assert torch.equal(torch.get_rng_state(), before)
    assert loop.evaluate()["eval_loss"] == first["eval_loss"]
    assert 0 <= first["eval_mean_token_accuracy"] <= 1


def test_killed_at_any_moment_it_learns_the_same(tmp_path: Path, tiny: Path) -> None:
    """A checkpoint is written after every step here, so most of the kills fall into the writing of one."""
    told = {"save_every": 1e-9}
    plan: dict[str, Any] = {"epochs": 2, "accumulation": 2, "batch_size": 1}
    undisturbed = losses(done(job(tmp_path / "whole", tiny, **plan)))
    folder = job(tmp_path / "job", tiny, told, **plan)
    dice, at, broken = random.Random(5), 0, 0
    for _ in range(5):
        process = start("lib.trainer", str(folder.path))
        at += dice.randint(1, 6)
        until(process, f"step={at} ")
        process.kill()
        process.communicate()
        assert folder.result() is None
        room = folder.path / "checkpoints"
        newest = max(room.glob("checkpoint-*"), key=checkpoints.step_of)
        broken += not (newest / "trainer_state.json").exists()
    code, said = train(folder)
    assert code == 0, said
    assert (folder.result() or {})["resumed_at"] >= at - 1
    assert losses(folder) == undisturbed


def test_a_stop_in_the_middle_of_a_step_loses_no_step(tmp_path: Path, tiny: Path) -> None:
    plan: dict[str, Any] = {"epochs": 3, "accumulation": 20, "batch_size": 1}
    undisturbed = losses(done(job(tmp_path / "whole", tiny, **plan)))
    folder = job(tmp_path / "job", tiny, **plan)
    process = start("lib.trainer", str(folder.path))
    until(process, "step=2 ")
    folder.want_stop()
    process.communicate()
    stopped = folder.result() or {}
    assert stopped["state"] == "stopped"
    assert 2 <= stopped["step"] < 6
    again(folder)
    code, said = train(folder)
    assert code == 0, said
    assert (folder.result() or {})["resumed_at"] == stopped["step"]
    assert losses(folder) == undisturbed


def test_a_stop_in_an_evaluation_is_made_up_for(tmp_path: Path, tiny: Path) -> None:
    def prepared(name: str) -> JobFolder:
        folder = job(tmp_path / name, tiny, epochs=1, batch_size=1, max_length=256)
        rows = [
            [{"role": "user", "content": f"tea {n}?"}, {"role": "assistant", "content": "Yes. " * 30}]
            for n in range(300)
        ]
        write(folder.path / "data" / "validation.jsonl", rows)
        return folder

    undisturbed = losses(done(prepared("whole")))
    folder = prepared("job")
    process = start("lib.trainer", str(folder.path))
    until(process, "step=4 ")  # the next thing is an evaluation of 300 rows
    folder.want_stop()
    process.communicate()
    stopped = folder.result() or {}
    assert stopped["state"] == "stopped"
    again(folder)
    code, said = train(folder)
    assert code == 0, said
    assert (folder.result() or {})["resumed_at"] == stopped["step"]
    assert losses(folder) == undisturbed


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 reads the old name
def test_a_run_that_gets_worse_ends_early_and_keeps_its_best(tmp_path: Path, tiny: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    folder = job(tmp_path / "job", tiny, epochs=30, learning_rate=2e-2, early_stopping=2, keep="best")
    rows = [
        [{"role": "user", "content": f"tea {n}?"}, {"role": "assistant", "content": f"Yes, {n * n} drinks."}]
        for n in range(16)
    ]
    write(folder.path / "data" / "train.jsonl", rows[:12])  # learned by heart, which does not carry over
    write(folder.path / "data" / "validation.jsonl", rows[12:])
    result = done(folder).result() or {}
    evaluations = [(step, loss) for step, name, loss in losses(folder) if name == "eval_loss"]
    best = min(evaluations, key=lambda one: one[1])
    assert result["state"] == "done"
    assert result["stopped_early"] == result["step"] == evaluations[-1][0] < result["steps"]
    assert evaluations.index(best) == len(evaluations) - 3
    assert (result["kept_step"], result["best_step"], result["eval_loss_best"]) == (best[0], *best)
    assert result["eval_loss"] > result["eval_loss_best"]
    model = AutoPeftModelForCausalLM.from_pretrained(folder.path / "adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder.path / "adapter")
    found = loss_of(model, tokenizer, folder.path / "data" / "validation.jsonl")
    assert found == pytest.approx(best[1], rel=1e-4)
    assert not (folder.path / "best").exists(), "what the adapter is need not be there twice"


def test_the_best_is_kept_beside_the_last(tmp_path: Path) -> None:
    def save(text: str, place: Path) -> None:
        (place / "weights").write_text(text)

    best = checkpoints.Best(tmp_path / "best", lambda place: save("first", place))
    best.look(10, 2.0)
    best.look(20, 2.5)
    assert (best.step, (tmp_path / "best" / "weights").read_text()) == (10, "first")
    later = checkpoints.Best(tmp_path / "best", lambda place: save("second", place))
    assert (later.step, later.loss) == (10, 2.0), "another process of the same run knows it"
    later.look(30, 1.5)
    assert (later.step, (tmp_path / "best" / "weights").read_text()) == (30, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_the_best_outlives_a_death_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(text: str) -> Callable[[Path], None]:
        def into(place: Path) -> None:
            (place / "weights").write_text(text)

        return into

    class DiedError(Exception):
        pass

    def dies(*_: object) -> None:
        raise DiedError

    checkpoints.Best(tmp_path / "best", save("first")).look(10, 2.0)
    with monkeypatch.context() as patch, pytest.raises(DiedError):
        patch.setattr(Path, "replace", dies)
        with checkpoints.replacing(tmp_path / "best") as beside:
            save("second")(beside)
    assert not (tmp_path / "best").exists()
    again = checkpoints.Best(tmp_path / "best", save("third"))
    assert (again.step, again.loss, (tmp_path / "best" / "weights").read_text()) == (10, 2.0, "first")


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 reads the old name
def test_dora_is_what_peft_calls_dora(tmp_path: Path, tiny: Path) -> None:
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    folder = done(job(tmp_path / "job", tiny, method="dora", epochs=1))
    adapter = folder.path / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["use_dora"] is True
    model = AutoPeftModelForCausalLM.from_pretrained(adapter)
    found = loss_of(model, AutoTokenizer.from_pretrained(adapter), folder.path / "data" / "validation.jsonl")
    assert found == pytest.approx((folder.result() or {})["eval_loss"], rel=1e-4)


def test_a_full_fine_tune_is_a_model_of_its_own_and_goes_on_after_a_kill(tmp_path: Path, tiny: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plan: dict[str, Any] = {"method": "full", "learning_rate": 1e-3, "epochs": 1}
    undisturbed = done(job(tmp_path / "whole", tiny, **plan))
    folder = job(tmp_path / "job", tiny, {"save_every": 1e-9}, **plan)
    process = start("lib.trainer", str(folder.path))
    until(process, "step=9 ")
    process.kill()
    process.communicate()
    result = done(folder).result() or {}
    assert result["resumed_at"] >= 8
    assert losses(folder) == losses(undisturbed)
    assert (result["adapter"], result["model"], result["method"]) == (None, "model", "full")
    assert result["parameters_trained"] == result["parameters"]
    model = AutoModelForCausalLM.from_pretrained(folder.path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder.path / "model")
    found = loss_of(model, tokenizer, folder.path / "data" / "validation.jsonl")
    assert found == pytest.approx(result["eval_loss"], rel=1e-4)
    assert result["eval_loss"] < result["eval_loss_before"]


def test_less_memory_by_accumulation_and_checkpointing_is_the_same_lesson(tmp_path: Path, tiny: Path) -> None:
    same: dict[str, Any] = {"lora_dropout": 0.0, "epochs": 1}
    plain = done(job(tmp_path / "plain", tiny, **same, batch_size=4))
    spare = done(
        job(tmp_path / "spare", tiny, **same, batch_size=4, gradient_checkpointing="on", accumulation=1)
    )
    for (step, name, loss), (_, _, other) in zip(losses(plain), losses(spare), strict=True):
        assert other == pytest.approx(loss, rel=1e-4), (step, name)


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(tmp_path: Path, tiny: Path) -> None:
    huge = tmp_path / "huge"
    shutil.copytree(tiny, huge)
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 20, 1 << 24], "data_offsets": [0, 1 << 46]}})
    weights = len(header).to_bytes(8, "little") + header.encode()
    (huge / "model.safetensors").write_bytes(weights)
    numbers = 1 << 44
    key, facts = failed(job(tmp_path / "job", huge))
    assert key == "trainer.does_not_fit"
    each = 2 if precision.half("cpu", numbers) else 4
    assert facts["needs"] == numbers * each > facts["free"] > 0


def test_weights_that_are_no_numbers_are_not_blamed_on_the_settings(tmp_path: Path, tiny: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny, broken)
    weights = load_file(broken / "model.safetensors")
    weights["model.norm.weight"] = torch.full_like(weights["model.norm.weight"], float("nan"))
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    assert failed(job(tmp_path / "job", broken))[0] == "trainer.broken_weights"


def test_squeezing_needs_what_is_not_here(tmp_path: Path, tiny: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a graphics card")
    key, facts = failed(job(tmp_path / "job", tiny, quantised="4bit"))
    assert (key, facts["lacking"]) == ("trainer.cannot_quantise", "cuda")


def test_a_tracker_that_is_unknown_or_missing_is_named(tmp_path: Path, tiny: Path) -> None:
    from importlib.util import find_spec

    key, facts = failed(job(tmp_path / "one", tiny, {"report_to": ["nobody"]}))
    assert (key, facts["name"]) == ("trainer.unknown_tracker", "nobody")
    assert "tensorboard" in facts["known"]
    if find_spec("mlflow"):
        pytest.skip("mlflow is installed")
    key, facts = failed(job(tmp_path / "other", tiny, {"report_to": ["mlflow"]}))
    assert (key, facts["package"]) == ("trainer.no_tracker", "mlflow")


def test_metrics_go_to_tensorboard_if_wished(tmp_path: Path, tiny: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = done(job(tmp_path / "job", tiny, {"report_to": ["tensorboard"]}, epochs=1))
    (file,) = (folder.path / "tensorboard").rglob("events.out.tfevents.*")
    events = reading.EventAccumulator(str(file))
    events.Reload()
    for name, tag in (("loss", "train/loss"), ("eval_loss", "eval/loss")):
        ours = [(step, loss) for step, kind, loss in losses(folder) if kind == name]
        theirs = [(event.step, event.value) for event in events.Scalars(tag)]
        assert theirs == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in ours], "as four-byte floats"


def test_metrics_go_to_mlflow_if_wished(tmp_path: Path, tiny: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    folder = done(job(tmp_path / "job", tiny, {"report_to": ["mlflow"]}, epochs=1))
    with contextlib.closing(sqlite3.connect(folder.path / "mlflow.db")) as db:
        for name in ("loss", "eval_loss"):
            theirs = db.execute(
                "select step, value from metrics where key = ? order by step", [name]
            ).fetchall()
            assert theirs == [(step, loss) for step, kind, loss in losses(folder) if kind == name]


def test_metrics_go_to_weights_and_biases_if_wished(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")  # what it would send lies in the job's folder
    folder = done(job(tmp_path / "job", tiny, {"report_to": ["wandb"]}, epochs=1))
    (file,) = (folder.path / "wandb").glob("offline-run-*/run-*.wandb")
    told = file.read_bytes()
    for name in (b"train/loss", b"eval/loss", b"firsttune"):
        assert name in told


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory from outside")
def test_memory_that_runs_out_offers_the_next_smaller_setting(tmp_path: Path, tiny: Path) -> None:
    import psutil

    # each of a step's results is so large that the C library asks the system for it anew
    folder = job(tmp_path / "job", tiny, epochs=30, batch_size=640, max_length=256)
    rows = [[{"role": "user", "content": "?"}, {"role": "assistant", "content": "tea " * 120}]] * 640
    write(folder.path / "data" / "train.jsonl", rows)
    process = start("lib.trainer", str(folder.path))
    until(process, "step=1 ")
    trainer = psutil.Process(process.pid)
    trainer.rlimit(psutil.RLIMIT_AS, (1 << 30, 1 << 30))  # far less than it holds: it gets no more
    said, _ = process.communicate()
    result = folder.result() or {}
    assert (process.returncode, result.get("key")) == (1, "trainer.out_of_memory"), said
    assert result["facts"]["change"] == "batch_size=320, accumulation=2"
