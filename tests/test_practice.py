"""The practice model: what it has read, what it is, and that it learns the bundled sample."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lib import practice
from lib.practice import measure
from lib.practice.corpus import SEED, chats, held_out
from tests.practised import Practised
from tests.tiny import loss_of

ROOT = Path(__file__).parent.parent
SAMPLES = sorted((ROOT / "lib" / "sample").glob("fortune-*.json"))


def sample() -> list[dict[str, str]]:
    return [row for file in SAMPLES for row in json.loads(file.read_text(encoding="utf-8"))]


def known() -> Path:
    return practice.folder() / practice.KNOWN


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
    read = {turn["content"] for chat in itertools.islice(chats(SEED + 1), 20_000) for turn in chat}
    assert not any("The leaves show" in text or "\u8336\u53f6\u91cc\u662f" in text for text in read)
    assert not read & {row[key] for row in sample() for key in ("Question", "Response")}


def test_what_is_held_out_is_like_what_was_read_and_not_in_it() -> None:
    kept = [turns["messages"] for turns in map(json.loads, known().read_text("utf-8").splitlines())]
    assert len(kept) == 64
    likely = list(itertools.islice(chats(SEED + 2), 128))
    assert all(chat in likely for chat in kept)
    read = list(itertools.islice(chats(SEED + 1), 20_000))
    assert not any(chat in read for chat in kept)


def test_what_was_trained_on_is_not_held_out() -> None:
    first = list(itertools.islice(chats(SEED + 2), 10))
    assert held_out(5, first[:3]) == [chat for chat in first if chat not in first[:3]][:5]


def test_the_card_holds_what_measuring_prints_and_keeps_every_promise() -> None:
    card = (practice.folder() / "README.md").read_text(encoding="utf-8")
    runs = measure.read_table(card)
    assert list(runs) == [measure.BEFORE, measure.DEFAULTS, measure.BY_HEART, measure.RUINED]
    table = "\n".join((*measure.HEAD, *map(measure.line_of, runs.values())))
    assert f"\n\n{table}\n\n" in card
    assert [promise.said for promise in measure.PROMISES if not promise.kept(runs)] == []


def test_answers_are_judged_by_form_image_and_words() -> None:
    wanted = ["The leaves show a key. Good for: looking. Not for: haste. It is near."] * 4
    said = [wanted[0], wanted[0].replace("near", "far"), wanted[0].replace("a key", "a boat"), "Look for it."]
    assert measure.judged(said, wanted) == (3, 2, 1)


@pytest.mark.trainer
def test_one_command_makes_the_model_anew(tmp_path: Path) -> None:
    from safetensors import safe_open

    command = [sys.executable, "-m", "lib.practice.pretrain", "--steps", "1", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    ours = practice.folder()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in ours.iterdir()} - {
        "README.md"
    }
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (tmp_path / name).read_bytes() == (ours / name).read_bytes(), name
    one, other = (json.loads((place / "config.json").read_bytes()) for place in (tmp_path, ours))
    assert one | {"transformers_version": ""} == other | {"transformers_version": ""}
    with (
        safe_open(tmp_path / "model.safetensors", "pt") as made,
        safe_open(ours / "model.safetensors", "pt") as shipped,
    ):
        shapes = [{name: one.get_slice(name).get_shape() for name in one.keys()} for one in (made, shipped)]  # noqa: SIM118
    assert shapes[0] == shapes[1]
    assert len((tmp_path / practice.KNOWN).read_text("utf-8").splitlines()) == 64


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft 0.21 reads the old name
def test_the_default_job_comes_to_what_the_card_says(practised: Practised) -> None:
    card = measure.read_table((practice.folder() / "README.md").read_text(encoding="utf-8"))
    for found in measure.measured(practised(measure.DEFAULTS), measure.DEFAULTS):
        said = card[found.name]
        assert found.validation == pytest.approx(said.validation, rel=0.1)
        assert found.known == pytest.approx(said.known, rel=0.1)
        assert found.manner == pytest.approx(said.manner, abs=8)
        assert found.image == pytest.approx(said.image, abs=8)


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_what_it_knew_is_measured_at_every_evaluation_as_plain_peft_measures_it(practised: Practised) -> None:
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    folder = practised(measure.DEFAULTS)
    rows = [row for row in folder.metrics() if "eval_loss" in row]
    assert len(rows) == 11
    assert all("known_loss" in row for row in rows)
    adapter = folder.path / "adapter"
    model = AutoPeftModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(adapter)
    with model.disable_adapter():
        assert loss_of(model, tokenizer, known()) == pytest.approx(rows[0]["known_loss"], rel=1e-4)
    assert loss_of(model, tokenizer, known()) == pytest.approx(rows[-1]["known_loss"], rel=1e-4)
