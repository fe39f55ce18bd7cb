"""What is taken home works without FirstTune, and tells nothing of this computer."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from lib import handover, jobs, judge, practice, takehome, words
from lib.errors import HubError, JobError, UsageError
from lib.trainer import packages
from lib.workspace import read_json, root, write_json
from tests.fakeupload import FakeUpload
from tests.processes import reaches, settled, until
from tests.test_cli import answer, run
from tests.tuned import facts, finished

pytestmark = [
    pytest.mark.trainer,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning"),  # peft reads the old name
]
QUESTION = "Should I sleep more?"
SYSTEM = "Be kind.\n`\u8336`"


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> jobs.Job:
    return finished(monkeypatch, tmp_path, "tea [1](x)", 1, system=SYSTEM)


def trained(
    job: jobs.Job, which: str = "tuned", *, asked: list[dict[str, str]] | None = None
) -> tuple[Any, str]:
    """The logits and the answer of the trainer's own model."""
    import torch

    from lib.trainer import data, talk

    models = talk.load(job.folder.path, None)
    asked = asked or [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    prompt = data.render(models.tokenizer, asked, opening=True)
    batch = models.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode(), models.voice(which) as model:
        said = model.generate(**batch, max_new_tokens=256, do_sample=False)
        logits = model(**batch).logits
    answer = models.tokenizer.decode(said[0, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return logits, str(answer)


def loaded(program: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> tuple[Any, str]:
    """The logits and the answer of a program of the export, run in this process to look into it."""
    import torch

    monkeypatch.setattr(sys, "argv", [str(program), QUESTION])
    names = runpy.run_path(str(program))
    said = capsys.readouterr().out
    with torch.inference_mode():
        return names["model"](**names["prompt"]).logits, said.removesuffix("\n")


def test_the_code_in_the_folder_loads_the_same_model(
    job: jobs.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import torch

    out = takehome.pack(job, tmp_path / "home")
    reaches(takehome.merge(job, out, "float32"), "done", 120)
    home = tmp_path / "moved elsewhere"
    out.rename(home)
    logits, answer = trained(job)
    base, _ = trained(job, "base")
    capsys.readouterr()
    assert not torch.allclose(logits, base, atol=0.1)

    found, said = loaded(home / "load_adapter.py", monkeypatch, capsys)
    assert torch.equal(found, logits)
    assert said == answer
    found, said = loaded(home / "load_merged.py", monkeypatch, capsys)
    # added up in another order: float32 rounds otherwise, and this adapter is a large one
    assert float((found - logits).abs().max()) < 1e-3
    assert said == answer


def test_a_program_of_the_folder_runs_alone(job: jobs.Job, tmp_path: Path) -> None:
    out = takehome.pack(job, tmp_path / "home")
    _, answer = trained(job)
    env = {name: value for name, value in os.environ.items() if not name.startswith("FIRSTTUNE")}
    done = subprocess.run(
        [sys.executable, str(out / "load_adapter.py"), QUESTION],
        cwd=tmp_path,
        env=env | {"PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.removesuffix("\n") == answer


def test_no_path_of_this_computer_leaves_it(job: jobs.Job, tmp_path: Path) -> None:
    out = takehome.pack(job, tmp_path / "home")
    reaches(takehome.merge(job, out), "done", 120)
    places = [str(root()), str(tmp_path), str(practice.folder())]
    for path in out.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            assert not [place for place in places if place.encode() in held], path
    assert (read_json(out / "adapter" / "adapter_config.json"))["base_model_name_or_path"] == "base"


def test_merged_weights_are_written_as_the_base_lies_unless_wished(job: jobs.Job, tmp_path: Path) -> None:
    from safetensors import safe_open

    def kinds(out: Path) -> set[str]:
        with safe_open(out / "merged" / "model.safetensors", "pt") as weights:
            return {str(weights.get_tensor(name).dtype) for name in weights.keys()}  # noqa: SIM118

    one, other = takehome.pack(job, tmp_path / "one"), takehome.pack(job, tmp_path / "other")
    reaches(takehome.merge(job, one), "done", 120)
    assert kinds(one) == {"torch.float16"}
    reaches(takehome.merge(job, other, "bfloat16"), "done", 120)
    assert kinds(other) == {"torch.bfloat16"}
    assert read_json(other / "merged" / "config.json")["dtype"] == "bfloat16"


def test_an_export_is_written_anew_and_nothing_else_is_touched(job: jobs.Job, tmp_path: Path) -> None:
    out = takehome.pack(job)
    assert out == takehome.folder(job) == takehome.packed(job)
    reaches(takehome.merge(job, out), "done", 120)
    takehome.pack(job)
    assert (out / "merged" / "config.json").is_file()
    write_json(job.folder.path / "result.json", {"state": "done"} | facts(seconds=9.5))
    job = jobs.get(job.id)
    assert takehome.packed(job) is None
    takehome.pack(job)
    assert takehome.packed(job) == out
    assert not (out / "merged").exists()

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all I have", encoding="utf-8")
    with pytest.raises(UsageError) as refused:
        takehome.pack(job, mine)
    assert refused.value.key == "takehome.not_empty"
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]


def test_the_zip_holds_all_but_the_merged_weights(job: jobs.Job) -> None:
    out = takehome.pack(job)
    reaches(takehome.merge(job, out), "done", 120)
    takehome.zipped(out)
    with zipfile.ZipFile(takehome.zipped(out)) as archive:
        names = set(archive.namelist())
    assert {"README.md", "Modelfile", "load_adapter.py", "adapter/adapter_model.safetensors"} <= names
    assert "base/model.safetensors" in names
    assert not [name for name in names if name.startswith("merged") or name.endswith(".zip")]


def test_a_model_trained_whole_is_taken_home_as_it_is(
    job: jobs.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    import torch

    shutil.rmtree(job.folder.path / "adapter")
    shutil.copytree(practice.folder(), job.folder.path / "model")
    write_json(job.folder.path / "result.json", {"state": "done"} | facts(adapter=None, model="model"))
    job = jobs.get(job.id)
    out = takehome.pack(job, tmp_path / "home")
    assert not (out / "adapter").exists() and not (out / "load_adapter.py").exists()
    logits, answer = trained(job)
    capsys.readouterr()
    found, said = loaded(out / "load_merged.py", monkeypatch, capsys)
    assert torch.equal(found, logits)
    assert said == answer


@pytest.mark.parametrize("lang", list(words.languages()))
def test_the_card_says_what_was_done(job: jobs.Job, lang: str) -> None:
    for step in range(0, 41):
        job.folder.metric(step=step, epoch=step / 20, loss=4.0 - step / 20)
        if step % 2 == 0:
            job.folder.metric(step=step, epoch=step / 20, eval_loss=5.0 - step / 20)
    write_json(
        job.folder.path / "data" / "manifest.json",
        {
            "counts": {"train": 8, "validation": 2},
            "sources": [{"file": "rows.json", "path": "/secret/place/rows.json", "bytes": 1234}],
        },
    )
    write_json(
        job.folder.path / "scores" / "scores.json",
        {"trained": [10, 1.5], "rows": 2, "left_out": 0}
        | {
            side: {"loss": 1.25, "exact": 0.5, "chrf": chrf, "rouge_l": 44.4}
            for side, chrf in (("base", 11.1), ("tuned", 22.2))
        }
        | {
            "best": [
                {"row": 1, "question": "q ``` q", "reference": "r", "base": "b", "tuned": "t"}
                | {"chrf_base": 1, "chrf_tuned": 99.4}
            ],
            "worst": [],
        },
    )
    assert judge.scores(job.folder)
    text = takehome.card(job, lang)
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "peft"
    assert "base_model" not in front and "license" not in front
    assert "/secret" not in text
    assert "rows.json" in text and SYSTEM in text
    assert "| learning_rate | 5e-3 |" in text
    computed = words.say(lang, "card.computed", device="cuda", precision="bf16", processes=2)
    assert computed not in text, "of an older run nobody knows"
    result = facts(device="cuda", bf16=True, processes=2)
    write_json(job.folder.path / "result.json", {"state": "done"} | result)
    assert computed in takehome.card(job, lang)
    curve = [line for line in text.splitlines() if line.startswith("| ") and line.count("|") == 5]
    assert len([line for line in curve if line[2].isdigit()]) <= takehome.CURVE_ROWS + 1
    assert "| 0 | 0.00 | 4.000 | 5.000 |" in curve
    assert "| 40 | 2.00 | 2.000 | 3.000 |" in curve
    assert "22.2" in text and "50.0%" in text
    assert "````text\nq ``` q\n````" in text


def test_the_card_reads_a_choice_by_its_name(job: jobs.Job) -> None:
    asked = job.folder.asked()
    asked["settings"] |= {"method": "lora", "schedule": "linear", "too_long": 1}
    write_json(job.folder.path / "job.json", asked)
    text = takehome.card(job)
    for row in ("| method | lora |", "| schedule | linear |", "| too_long | leave_out |"):
        assert row in text


def test_a_model_of_the_hub_is_named_and_its_data_too(job: jobs.Job) -> None:
    asked = job.folder.asked() | {"model": {"kind": "hub", "id": "org/base", "revision": "main"}}
    write_json(job.folder.path / "job.json", asked)
    text = takehome.card(job)
    assert yaml.safe_load(text.split("---")[1])["base_model"] == "org/base"


def test_what_cannot_be_taken_home_is_refused(tmp_path: Path) -> None:
    far = jobs.keep("far", {"model": {"kind": "platform", "id": "x"}}, backend="siliconflow")
    with pytest.raises(JobError) as refused:
        takehome.pack(far, tmp_path / "home")
    assert refused.value.key == "job.no_model"
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("kept", "emptied"), [("adapter", False), ("adapter", True), ("model", False)])
def test_a_model_whose_folder_somebody_deleted_is_named_and_an_export_stays(
    job: jobs.Job, tmp_path: Path, kept: str, emptied: bool
) -> None:
    out = takehome.pack(job, tmp_path / "home")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    shutil.rmtree(job.folder.path / "adapter")
    if emptied:
        (job.folder.path / kept).mkdir()
    if kept == "model":
        write_json(job.folder.path / "result.json", {"state": "done"} | facts(adapter=None, model="model"))
    with pytest.raises(JobError) as refused:
        takehome.pack(job, out)
    gone = str(job.folder.path / kept)
    assert (refused.value.key, refused.value.facts["folder"]) == ("job.model_gone", gone)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    said = run("export", job.id, "--out", out, code=1).stderr
    assert said == f"firsttune: {words.explain('en', refused.value)}\n"
    assert run("chat", "tea?", "--job", job.id, code=1).stderr == said, "nor is it talked to"
    assert run("score", job.id, code=1).stderr == said, "or judged"


def test_an_upload_is_a_job_that_outlives_the_app_and_keeps_the_token_nowhere(
    job: jobs.Job, tmp_path: Path
) -> None:
    secret = "hf_writes"
    out = takehome.pack(job, tmp_path / "home")
    with pytest.raises(HubError, match=r"hub\.no_token"):
        takehome.upload(job, out, "me/tea", token=None)
    assert takehome.uploading(job) is None
    with FakeUpload() as fake:
        fake.open.clear()
        made = takehome.upload(job, out, "me/tea", fake.url, token=secret, anywhere=True)
        until(lambda: made.folder.status().get("phase") == "sending", 60)
        handover.withdraw(made.folder)  # as when the app is gone
        found = takehome.uploading(job)
        assert found and found.id == made.id, "who comes later finds it"
        assert takehome.upload(job, out, "me/other", fake.url, token=secret, anywhere=True).id == made.id
        process = made.folder.process()
        assert process
        assert secret not in " ".join([*process.cmdline(), *process.environ().values()])
        fake.open.set()
        done = reaches(made, "done", 60)
        settled(done)
        assert (done.folder.result() or {})["page"] == f"{fake.url}/me/tea"
        assert fake.repos["me/tea"].private
        assert "adapter/adapter_model.safetensors" in fake.repos["me/tea"].files
    for path in [*root().rglob("*"), *out.rglob("*")]:
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_a_stopped_upload_has_committed_nothing(job: jobs.Job, tmp_path: Path) -> None:
    out = takehome.pack(job, tmp_path / "home")
    with FakeUpload() as fake:
        fake.open.clear()
        made = takehome.upload(job, out, "me/tea", fake.url, token="hf_writes", anywhere=True)
        until(lambda: made.folder.status().get("phase") == "sending", 60)
        jobs.stop(made.id)
        reaches(made, "stopped", 60)
        assert fake.repos["me/tea"].commits == 0


def test_on_the_command_line_it_is_packed_merged_and_uploaded(
    job: jobs.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    with FakeUpload() as fake:
        hub = ["--to-hub", "me/tea", "--endpoint", fake.url]
        told = answer("export", job.id, "--out", tmp_path / "home", "--merged", *hub, "--token-anywhere")
        repo = fake.repos["me/tea"]
    assert told["page"] == f"{fake.url}/me/tea"
    assert repo.private
    assert {"README.md", "adapter/adapter_model.safetensors", "merged/model.safetensors"} <= set(repo.files)
    assert "export.json" not in repo.files
    assert set(repo.files) < set(told["files"])
    assert run("export", job.id, "--dtype", "int3", code=2).stderr


@pytest.mark.skipif(bool(packages.missing(*packages.SCORES)), reason="the trainer is not installed")
def test_on_the_command_line_it_is_scored(job: jobs.Job) -> None:
    told = answer("score", job.id)
    assert told["rows"] == 2
    assert told == answer("score", job.id)
    assert "ROUGE-L" in run("score", job.id).stdout
