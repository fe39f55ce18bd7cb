"""The practice model: what it has read, what it is, and that it learns the bundled sample."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lib import params, practice
from lib.jobfolder import JobFolder
from lib.practice.corpus import chats

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT / "lib" / "sample").glob("fortune-*.json"))


def sample() -> list[dict[str, str]]:
    return [row for file in SAMPLES for row in json.loads(file.read_text(encoding="utf-8"))]


def test_asking_where_it_is_imports_no_torch() -> None:
    script = "import sys; from lib import practice; practice.folder(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_the_model_is_whole_and_small() -> None:
    folder = practice.folder()
    names = {path.name for path in folder.iterdir()}
    assert {"README.md", "config.json", "generation_config.json", "model.safetensors"} <= names
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"} <= names
    assert (folder / "model.safetensors").stat().st_size < 3_000_000
    assert "{%- generation %}" in (folder / "chat_template.jinja").read_text(encoding="utf-8")


def test_one_seed_writes_one_corpus() -> None:
    first, second = (list(itertools.islice(chats(5), 200)) for _ in range(2))
    assert first == second
    assert first != list(itertools.islice(chats(6), 200))
    assert {chat[-1]["role"] for chat in first} == {"assistant"}
    assert not any("{" in turn["content"] for chat in first for turn in chat)


def test_nothing_of_the_bundled_sample_was_read() -> None:
    read = {turn["content"] for chat in itertools.islice(chats(20261123), 20_000) for turn in chat}
    assert not any("The leaves show" in text or "\u8336\u53f6\u91cc\u662f" in text for text in read)
    assert not read & {row[key] for row in sample() for key in ("Question", "Response")}


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 reads the old name
def test_two_epochs_of_the_sample_change_its_manner(tmp_path: Path) -> None:
    import torch

    from lib.practice.measure import MANNER
    from lib.trainer import data, talk

    settings = {name: row.default for name, row in params.PARAMS.items()} | params.PRACTICE | {"epochs": 2}
    model = {"kind": "practice", "id": "practice"}
    folder = JobFolder.create(tmp_path / "job", {"model": model, "settings": settings})
    (folder.path / "data").mkdir()
    rows = sample()[::2]
    for name, some in (("train", rows[20:]), ("validation", rows[:20])):
        lines = [
            {
                "messages": [
                    {"role": "user", "content": row["Question"]},
                    {"role": "assistant", "content": row["Response"]},
                ]
            }
            for row in some
        ]
        (folder.path / "data" / f"{name}.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
        )
    subprocess.run([sys.executable, "-m", "lib.trainer", str(folder.path)], cwd=ROOT, check=True)
    result = folder.result() or {}
    assert result["eval_loss"] < result["eval_loss_before"] * 0.75

    pair = talk.load(folder.path, None)
    question = [{"role": "user", "content": rows[0]["Question"]}]
    prompt: Any = pair.tokenizer(data.render(pair.tokenizer, question, opening=True), return_tensors="pt")
    start = prompt["input_ids"].shape[1]

    def answer() -> str:
        with torch.inference_mode():
            said = pair.model.generate(**prompt, max_new_tokens=80, do_sample=False)
        return str(pair.tokenizer.decode(said[0, start:], skip_special_tokens=True))

    with pair.model.disable_adapter():
        before = answer()
    assert before
    assert not MANNER.fullmatch(before)
    assert MANNER.match(answer())
