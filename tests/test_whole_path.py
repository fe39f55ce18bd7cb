"""The whole path on a model of Qwen2's shape that is nobody's: train, score, take home, load without us."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib import jobs, judge, takehome
from lib.backends.local import Local
from lib.trainer import packages
from lib.trainer.settings import METHODS
from tests.processes import reaches, settled
from tests.test_takehome import trained
from tests.tiny import MARKED, SETTINGS, write

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft reads the old name
    pytest.mark.skipif(bool(packages.missing(*packages.SCORES)), reason="the trainer is not installed"),
]
QUESTION = "tea 3?"
RATES = {"lora": 5e-3, "dora": 5e-3, "full": 1e-3}


def ran(tiny: Path, place: Path, method: str) -> jobs.Job:
    """A training of the job list that has run to its end."""
    rows = [
        [{"role": "user", "content": f"tea {n}?"}, {"role": "assistant", "content": f"Yes, {n % 3} drinks."}]
        for n in range(44)
    ]
    write(place / "data" / "train.jsonl", rows[:40])
    write(place / "data" / "validation.jsonl", rows[40:])
    settings: dict[str, Any] = SETTINGS | {"learning_rate": RATES[method], "epochs": 3}
    settings["method"] = float(METHODS.index(method))
    job = Local().start(f"tea {method}", place / "data", {"kind": "path", "id": str(tiny)}, settings, "")
    settled(reaches(job, "done", 120))
    return jobs.get(job.id)


def answers(program: Path, *words: str) -> str:
    """Run a program of the export in a process of its own; return what it answers."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("FIRSTTUNE", "PYTHONPATH"))
    }
    done = subprocess.run(
        [sys.executable, str(program), QUESTION, *words],
        cwd=program.parent.parent,
        env=env | {"PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


@pytest.mark.parametrize("method", RATES)
def test_what_was_trained_is_scored_taken_home_and_loaded_without_us(
    tiny: Path, tmp_path: Path, method: str
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    job = ran(tiny, tmp_path, method)
    result = job.folder.result() or {}
    reaches(judge.start(job), "done", 120)
    scores = judge.scores(job.folder)
    assert scores and scores.rows == 4
    assert scores.tuned.loss == pytest.approx(result["eval_loss"], rel=1e-3)
    assert scores.base.loss == pytest.approx(result["eval_loss_before"], rel=1e-3)
    assert result["eval_loss"] < result["eval_loss_before"]

    out = takehome.pack(job, tmp_path / "home")
    if method == "full":
        assert not (out / "adapter").exists()
    else:
        reaches(takehome.merge(job, out), "done", 120)
    tokenizer = AutoTokenizer.from_pretrained(out / "merged")
    assert tokenizer.chat_template == MARKED
    asked = [{"role": "user", "content": QUESTION}]
    batch = tokenizer.apply_chat_template(
        asked, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    logits, answer = trained(job, asked=asked)
    base, _ = trained(job, "base", asked=asked)
    assert not torch.allclose(logits, base, atol=0.1)
    with torch.inference_mode():
        merged = AutoModelForCausalLM.from_pretrained(out / "merged", dtype=torch.float32).eval()
        assert float((merged(**batch).logits - logits).abs().max()) < 1e-4
        if method != "full":
            plain = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
            adapted = PeftModel.from_pretrained(plain, out / "adapter").eval()
            assert torch.equal(adapted(**batch).logits, logits)

    assert answers(out / "load_merged.py") == answer
    if method != "full":
        assert answers(out / "load_adapter.py", "--base", str(tiny)) == answer
