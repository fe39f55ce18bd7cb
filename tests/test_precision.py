"""Where bf16 is used, and that a run in it learns the same lesson."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lib.trainer import memory, precision
from tests.tiny import done, job, loss_of, losses, random_model

BIG = precision.LEAST


def told_by_the_kernel(place: Path, flags: str) -> Path:
    """A file as Linux would have it on a computer whose processor can do this."""
    (place / "cpuinfo").write_text(
        f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n"
    )
    return place / "cpuinfo"


@pytest.mark.parametrize(
    ("flags", "device", "parameters", "half"),
    [
        ("fpu avx2 avx512_bf16", "cpu", BIG, True),
        ("amx_bf16 avx2", "cpu", BIG, True),
        ("fpu avx2 avx512f", "cpu", BIG, False),
        ("avx512_bf16", "cpu", BIG - 1, False),
        ("avx512_bf16", "cpu", None, False),
        ("avx512_bf16", "mps", BIG, False),
        (None, "cpu", BIG, False),
    ],
)
def test_it_is_used_where_the_processor_has_instructions_for_it(
    flags: str | None,
    device: str,
    parameters: int | None,
    half: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = told_by_the_kernel(tmp_path, flags) if flags else tmp_path / "another system"
    monkeypatch.setattr(precision, "_PROCESSOR", place)
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
