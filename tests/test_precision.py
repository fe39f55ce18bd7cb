"""Where bf16 is used, and that a run in it learns the same lesson."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lib.trainer import memory, precision
from tests.tiny import done, job, loss_of, losses, random_model

BIG = precision.LEAST


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Nothing is remembered of this computer, and nothing of another one afterwards."""
    precision._flags.cache_clear()
    yield
    precision._flags.cache_clear()


@pytest.mark.parametrize(
    ("told", "device", "parameters", "half"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16\n", "cpu", BIG, True),
        ("processor: 0\nflags: amx_bf16 avx2\nprocessor: 1\nflags: amx_bf16 avx2\n", "cpu", BIG, True),
        ("flags: fpu avx2 avx512f\n", "cpu", BIG, False),
        ("flags: avx512_bf16\n", "cpu", BIG - 1, False),
        ("flags: avx512_bf16\n", "cpu", None, False),
        ("flags: avx512_bf16\n", "mps", BIG, False),
        ("Features: fp asimd bf16\n", "cpu", BIG, False),
        (None, "cpu", BIG, False),
    ],
)
def test_it_is_used_where_the_processor_has_instructions_for_it(
    told: str | None,
    device: str,
    parameters: int | None,
    half: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if told is not None:
        (tmp_path / "cpuinfo").write_text(told)
    monkeypatch.setattr(precision, "_PROCESSOR", tmp_path / "cpuinfo")
    assert precision.half(device, parameters) is half


@pytest.mark.trainer
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 reads the old name
def test_a_run_of_a_larger_model_learns_the_same_with_it(method: str, tmp_path: Path) -> None:
    """In bf16 where this computer has it, in fp32 elsewhere: the losses are those of fp32 to a hundredth."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = random_model(tmp_path / "model", width=512, inner=2048, layers=8)
    numbers = memory.parameters(place)
    assert numbers and numbers >= BIG
    plan: dict[str, Any] = {"epochs": 1, "batch_size": 8, "method": method, "learning_rate": 1e-3}
    folder = done(job(tmp_path / "job", place, **plan))
    result = folder.result() or {}
    assert result["bf16"] is precision.half("cpu", numbers)
    (first, *_), data = losses(folder), folder.path / "data" / "validation.jsonl"
    tokenizer = AutoTokenizer.from_pretrained(place)
    plain = AutoModelForCausalLM.from_pretrained(place)
    assert first[:2] == (0, "eval_loss")
    assert first[2] == pytest.approx(loss_of(plain, tokenizer, data), rel=0.01)
    if method == "full":
        tuned = AutoModelForCausalLM.from_pretrained(folder.path / "model")
    else:
        from peft import AutoPeftModelForCausalLM

        tuned = AutoPeftModelForCausalLM.from_pretrained(folder.path / "adapter")
    assert loss_of(tuned, tokenizer, data) == pytest.approx(result["eval_loss"], rel=0.01)
    assert result["eval_loss"] < first[2] - 0.1, "it has learned something"
    assert losses(done(job(tmp_path / "again", place, **plan))) == losses(folder)
