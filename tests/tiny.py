"""A tiny random model of Qwen2's shape with a tokenizer and a template of its own, and jobs that train it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib.jobfolder import JobFolder

ROOT = Path(__file__).parent.parent
SYSTEM = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
UNMARKED = (
    "{% for m in messages %}" + SYSTEM + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}{{ m['content'] + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TURNS = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is tea? \u8336\u662f\u4ec0\u4e48\uff1f"},
    {"role": "assistant", "content": "Tea is a drink. \u8336\u662f\u996e\u6599\u3002"},
    {"role": "user", "content": "And tea is a drink, is it?"},
    {"role": "assistant", "content": "Yes."},
]
LEARNED = ["Tea is a drink. \u8336\u662f\u996e\u6599\u3002<|im_end|>", "Yes.<|im_end|>"]
SETTINGS = {
    "learning_rate": 5e-3,
    "epochs": 4,
    "batch_size": 2,
    "lora_rank": 4,
    "lora_alpha": 8,
    "lora_dropout": 0.1,
    "max_length": 64,
    "accumulation": 1,
    "warmup_ratio": 0.05,
    "seed": 3,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model."""
    return random_model(tmp_path_factory.mktemp("tiny"), width=32, inner=64, layers=2)


def random_model(folder: Path, *, width: int, inner: int, layers: int) -> Path:
    """Make a random model there, of Qwen2's shape, with a tokenizer and a template of its own."""
    from lib.practice import making

    tokenizer = making.tokenizer([turn["content"] for turn in TURNS] * 3, 300, MARKED)
    tokenizer.save_pretrained(folder)
    model = making.model(
        len(tokenizer),
        tokenizer.eos_token_id,
        width=width,
        inner=inner,
        layers=layers,
        heads=2,
        seed=0,
        num_key_value_heads=2,
        max_position_embeddings=256,
    )
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def write(file: Path, rows: list[list[dict[str, str]]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"messages": turns}) for turns in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def job(place: Path, tiny: Path, also: dict[str, Any] | None = None, **settings: Any) -> JobFolder:
    """A job folder with 44 short rows and a model that is nothing but random; `also` goes into job.json."""
    asked = {"model": {"kind": "path", "id": str(tiny)}, "settings": SETTINGS | settings}
    folder = JobFolder.create(place, asked | (also or {}))
    rows = [
        [
            {"role": "user", "content": f"tea {n}?"},
            {"role": "assistant", "content": f"Yes, {n % 7} is a drink."},
        ]
        for n in range(44)
    ]
    write(place / "data" / "train.jsonl", rows[:40])
    write(place / "data" / "validation.jsonl", rows[40:])
    return folder


def start(module: str, *words: str) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONUTF8": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *words]
    out = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=out, stdout=out, stderr=subprocess.STDOUT, text=True, env=env, cwd=ROOT
    )


def train(folder: JobFolder) -> tuple[int, str]:
    process = start("lib.trainer", str(folder.path))
    said, _ = process.communicate()
    return process.returncode, said


def until(process: subprocess.Popen[str], sign: str) -> str:
    """Read what a process prints until a line holds `sign`."""
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if sign in line:
            return said
    raise AssertionError(said)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> JobFolder:
    """A run that nobody disturbed."""
    return done(job(tmp_path_factory.mktemp("whole") / "job", tiny))


def again(folder: JobFolder) -> None:
    for name in ("stop", "result.json"):
        (folder.path / name).unlink(missing_ok=True)


def done(folder: JobFolder) -> JobFolder:
    """Train a job to its end."""
    code, said = train(folder)
    assert code == 0, said
    return folder


def failed(folder: JobFolder) -> tuple[str, dict[str, Any]]:
    """Train a job that must fail; return the key and the facts that it says why with."""
    code, said = train(folder)
    assert code == 1, said
    return failed_with(folder)


def failed_with(folder: JobFolder) -> tuple[str, dict[str, Any]]:
    """The key and the facts that a job has failed with."""
    result = folder.result() or {}
    assert result.get("state") == "failed", result
    return result["key"], result["facts"]


def loss_of(model: Any, tokenizer: Any, file: Path) -> float:
    """The mean loss over the learned tokens of a file, one row at a time and without our trainer."""
    import torch

    from lib.trainer import data

    total, count = 0.0, 0
    for line in file.read_text(encoding="utf-8").splitlines():
        ids, labels = data.encode(tokenizer, json.loads(line)["messages"])
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0, :-1]
        picked = torch.tensor(labels[1:])
        total += float(torch.nn.functional.cross_entropy(logits, picked, ignore_index=-100, reduction="sum"))
        count += int((picked != -100).sum())
    return total / count


def losses(folder: JobFolder) -> list[tuple[int, str, float]]:
    """Every loss of a job, exactly, in order."""
    rows = [(row["step"], name, row.get(name)) for row in folder.metrics() for name in ("loss", "eval_loss")]
    return [(step, name, loss) for step, name, loss in rows if loss is not None]
