"""Training jobs that are done without having trained: a random adapter on the practice model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from lib import jobs, practice
from lib.jobfolder import JobFolder
from tests.processes import reaches, settled

ROWS = [
    ("Should I move?", "Not yet."),
    ("\u8be5\u642c\u5bb6\u5417\uff1f", "\u8fd8\u4e0d\u662f\u65f6\u5019\u3002"),
]
SETTINGS = {"learning_rate": 5e-3, "epochs": 2, "batch_size": 8, "lora_rank": 4, "lora_alpha": 32}
# What the job's process does in place of training: it says that it is done.
DONE = """
import sys
from pathlib import Path
from lib.jobfolder import JobFolder
folder = JobFolder(Path(sys.argv[1]))
with folder.working():
    folder.finish(**folder.asked()["facts"])
"""


def adapter(folder: Path, seed: int, base: Path | None = None) -> None:
    """Write a LoRA adapter of random numbers, large enough to be heard, with the tokenizer, into `folder`."""
    import torch
    from peft import LoraConfig, get_peft_model

    from lib.trainer import model

    base = base or practice.folder()
    torch.manual_seed(seed)
    config = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft 0.21 reads an old name of transformers
        tuned = get_peft_model(model.load_model(base, torch.float32), config)
    tuned.peft_config["default"].base_model_name_or_path = str(base)
    tuned.save_pretrained(folder)
    model.load_tokenizer(base)[0].save_pretrained(folder)


def job_folder(place: Path, seed: int, base: Path | None = None) -> JobFolder:
    """Return the folder of such a job that no list knows."""
    kind = {"kind": "path", "id": str(base)} if base else {"kind": "practice", "id": "practice"}
    folder = JobFolder.create(place, {"kind": "train", "model": kind, "settings": SETTINGS, "system": ""})
    adapter(folder.path / "adapter", seed, base)
    folder.finish(**facts(base))
    return folder


def facts(base: Path | None = None, **more: Any) -> dict[str, Any]:
    """Return what such a job says when it is done."""
    told = {"step": 10, "steps": 10, "seconds": 1.5, "adapter": "adapter", "rows": 8, "rows_validation": 2}
    return told | {"base": str(base or practice.folder()), "versions": {"peft": "0"}} | more


def finished(
    patch: pytest.MonkeyPatch,
    place: Path,
    name: str,
    seed: int,
    *,
    rows: list[tuple[str, str]] | None = None,
    system: str = "",
    base: Path | None = None,
) -> jobs.Job:
    """Return such a job, in the list. `rows` are the questions and answers kept back."""
    data, script = place / f"data {seed}", place / "done.py"
    data.mkdir()
    script.write_text(DONE, encoding="utf-8")
    first = [{"role": "system", "content": system}] if system else []
    lines = [
        {"messages": [*first, {"role": "user", "content": asked}, {"role": "assistant", "content": said}]}
        for asked, said in (rows if rows is not None else ROWS)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (data / "validation.jsonl").write_text(text, encoding="utf-8")
    (data / "train.jsonl").write_text(text, encoding="utf-8")
    kind = {"kind": "path", "id": str(base)} if base else {"kind": "practice", "id": "practice"}
    asked = {"model": kind, "settings": SETTINGS, "system": system, "facts": facts(base)}
    with patch.context() as patched:
        patched.setitem(jobs.KINDS, "train", jobs.Kind("compute", 1, (str(script),)))
        job = jobs.submit(
            "train", name, asked, data=data, before=lambda made: adapter(made.path / "adapter", seed, base)
        )
    reaches(job, "done", 60)
    settled(job)
    return jobs.get(job.id)
