"""Talking to a base model and what was tuned from it: one process for all, each with its own template."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import practice
from lib.chat import Message
from lib.errors import ModelError
from lib.jobfolder import JobFolder
from lib.talk import Sampling, Talk, base_of, tuned
from tests.processes import until
from tests.tuned import facts, job_folder

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft reads the old name
]

ASKED = [Message("user", "Should I sleep more?")]
SHORT = Sampling(max_new_tokens=24)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[JobFolder]:
    place = tmp_path_factory.mktemp("two jobs")
    return [job_folder(place / f"job {seed}", seed) for seed in (1, 2)]


@pytest.fixture
def talk() -> Iterator[Talk]:
    one = Talk()
    yield one
    one.close()


def say(talk: Talk, job: JobFolder, which: str, sampling: Sampling = SHORT) -> str:
    return "".join(talk.reply(job.path, which, ASKED, sampling))


def test_jobs_of_one_base_share_its_process_and_are_not_mistaken(talk: Talk, two: list[JobFolder]) -> None:
    assert base_of(two[0]) == base_of(two[1]) == "practice"
    first, base, second = say(talk, two[0], "tuned"), say(talk, two[0], "base"), say(talk, two[1], "tuned")
    process = talk._process
    assert len({first, base, second}) == 3
    assert say(talk, two[1], "base") == base
    assert say(talk, two[0], "tuned") == first
    assert talk._process is process


def test_only_the_likeliest_words_are_picked_from(talk: Talk, two: list[JobFolder]) -> None:
    likeliest = say(talk, two[0], "base")
    hot = Sampling(temperature=1.5, max_new_tokens=24, seed=7)
    free = say(talk, two[0], "base", hot)
    assert free != likeliest
    assert say(talk, two[0], "base", hot) == free
    assert say(talk, two[0], "base", Sampling(1.5, 0.01, 24, 7)) == likeliest
    assert len(say(talk, two[0], "base", Sampling(max_new_tokens=2))) < len(likeliest)


def test_models_leave_the_memory_when_idle_and_come_back(two: list[JobFolder]) -> None:
    talk = Talk(idle_minutes=0.01)
    try:
        said = say(talk, two[0], "tuned")
        until(lambda: not talk.loaded, 30)
        assert say(talk, two[0], "tuned") == said
    finally:
        talk.close()


def test_a_job_of_another_base_is_refused(talk: Talk, two: list[JobFolder], tmp_path: Path) -> None:
    other = tmp_path / "other base"
    shutil.copytree(practice.folder(), other)
    job = job_folder(tmp_path / "job", 3, base=other)
    assert base_of(job) == str(other)
    said = say(talk, two[0], "tuned")
    with pytest.raises(ModelError) as refused:
        say(talk, job, "tuned")
    assert refused.value.key == "trainer.other_base"
    assert say(talk, two[0], "tuned") == said


def test_an_answer_that_is_broken_off_leaves_the_next_one_whole(talk: Talk, two: list[JobFolder]) -> None:
    said = say(talk, two[0], "base", Sampling(max_new_tokens=200))
    piece = talk.reply(two[0].path, "base", ASKED, Sampling(max_new_tokens=200))
    assert next(piece)
    piece.close()  # type: ignore[attr-defined]
    assert say(talk, two[0], "base", Sampling(max_new_tokens=200)) == said


def test_a_model_that_went_on_learning_is_loaded_anew(
    talk: Talk, two: list[JobFolder], tmp_path: Path
) -> None:
    job = job_folder(tmp_path / "job", 1)
    first = say(talk, job, "tuned")
    assert first == say(talk, two[0], "tuned")
    shutil.rmtree(job.path / "adapter")
    shutil.copytree(two[1].path / "adapter", job.path / "adapter", copy_function=shutil.copy)
    assert say(talk, job, "tuned") == say(talk, two[1], "tuned") != first


def test_a_model_trained_whole_speaks_beside_adapters(
    talk: Talk, two: list[JobFolder], tmp_path: Path
) -> None:
    import torch

    from lib.trainer import model

    asked = {"kind": "train", "model": {"kind": "practice", "id": "practice"}, "settings": {}}
    whole = JobFolder.create(tmp_path / "whole", asked)
    torch.manual_seed(0)
    changed = model.load_model(practice.folder(), torch.float32)
    with torch.no_grad():
        for weight in changed.parameters():
            weight.add_(torch.randn_like(weight) * 0.05)
    changed.save_pretrained(whole.path / "model")
    model.load_tokenizer(practice.folder())[0].save_pretrained(whole.path / "model")
    whole.finish(**facts(adapter=None, model="model"))
    assert tuned(whole) == whole.path / "model"
    adapted, base = say(talk, two[0], "tuned"), say(talk, two[0], "base")
    assert say(talk, whole, "tuned") not in (adapted, base)
    assert say(talk, whole, "base") == base
    assert say(talk, two[0], "tuned") == adapted


def test_the_oldest_adapters_make_room(
    two: list[JobFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from lib.trainer import talk

    monkeypatch.setattr(talk, "ADAPTERS", 2)
    models = talk.load(two[0].path, None)
    ids = torch.tensor([models.tokenizer("Should I sleep?")["input_ids"]])

    def logits(job: JobFolder, which: str) -> torch.Tensor:
        models.turn_to(job.path)
        with torch.inference_mode(), models.voice(which) as model:
            found = model(ids).logits
        assert isinstance(found, torch.Tensor)
        return found

    third = job_folder(tmp_path / "third", 3)
    first, second, base = logits(two[0], "tuned"), logits(two[1], "tuned"), logits(two[0], "base")
    assert not torch.equal(first, second)
    logits(third, "tuned")
    assert len(models.model.peft_config) == 2
    assert torch.equal(logits(two[0], "tuned"), first)
    assert torch.equal(logits(two[1], "tuned"), second)
    assert torch.equal(logits(third, "base"), base)


def test_a_job_without_a_tuned_model_has_only_its_base(talk: Talk, tmp_path: Path) -> None:
    asked = {"kind": "train", "model": {"kind": "practice", "id": "practice"}, "settings": {}}
    bare = JobFolder.create(tmp_path / "bare", asked)
    bare.halt(step=0, adapter=None)
    assert tuned(bare) is None
    assert say(talk, bare, "base")
    with pytest.raises(ModelError) as refused:
        say(talk, bare, "tuned")
    assert refused.value.key == "trainer.no_adapter"
