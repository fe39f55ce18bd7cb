"""The command line, run as a person would: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
import pytest

from lib import words
from lib.trainer import trackers
from tests.conftest import ROOT
from tests.fakehub import FakeHub
from tests.finished import finished

SAMPLE = sorted((ROOT / "lib" / "sample").glob("*.json"))


def run(*args: str | Path, code: int = 0, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "lib", *map(str, args)],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=200,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done


def answer(*args: str | Path, code: int = 0) -> Any:
    return orjson.loads(run(*args, "--json", code=code).stdout)


@pytest.mark.trainer
def test_from_the_sample_to_a_chat(tmp_path: Path) -> None:
    ledger = answer("convert", *SAMPLE, "--out", tmp_path / "tea")
    assert (ledger["read"], ledger["train"], ledger["validation"], ledger["set_aside"]) == (400, 360, 40, 0)
    assert answer("check", tmp_path / "tea" / "train.jsonl")["findings"] == []
    job = answer("train", "--data", tmp_path / "tea", "--wait")
    assert job["state"] == "done"
    result = job["result"]
    assert result["eval_loss"] < 0.7 * result["eval_loss_before"]
    assert result["seconds"] < 240  # it ends; how fast is for a quiet machine to say
    assert [row["id"] for row in answer("jobs", "list")] == [job["id"]]
    assert answer("jobs", "show", job["id"])["state"] == "done"
    question = "Should I move house before winter?"
    tuned = answer("chat", "--job", job["id"], question)["answer"]
    base = answer("chat", "--job", job["id"], "--base", question)["answer"]
    assert tuned.startswith("The leaves show")
    assert not base.startswith("The leaves show")
    assert run("jobs", "log", job["id"]).stdout


def test_settings_are_planned_played_and_written_down_without_a_start(tmp_path: Path) -> None:
    run("convert", *SAMPLE, "--out", tmp_path / "tea")
    told = answer("plan", "--data", tmp_path / "tea")
    assert (told["color"], told["steps"], told["checks"]) == ("green", 225, 11)
    red = run("plan", "--data", tmp_path / "tea", "--set", "learning_rate=0.1").stdout
    assert red.startswith("red: 360 rows")
    played = answer("play", "--data", tmp_path / "tea", "--set", "learning_rate=1e-2")
    assert played["verdict"] == "apart"
    assert len(played["loss"]["values"]) == played["steps"] == 36
    script = run("recipe", "trl", "--data", tmp_path / "tea", "--set", "epochs=2").stdout
    assert "num_train_epochs=2," in script
    assert "SFTTrainer(" in script
    run("recipe", "else", "--data", tmp_path / "tea", code=2)
    (tmp_path / "none").mkdir()
    for nowhere in (tmp_path / "none", tmp_path / "nowhere"):
        refused = run("recipe", "trl", "--data", nowhere, code=1)
        assert (refused.stdout, refused.stderr) == ("", run("plan", "--data", nowhere, code=1).stderr)
        assert str(nowhere) in refused.stderr
    run("play", "--data", tmp_path / "none", code=2)
    assert run("play", "--data", SAMPLE[0], code=2).stderr.startswith("firsttune: ")
    assert answer("jobs", "list") == []


def test_a_tracker_that_is_unknown_or_missing_is_refused_before_there_is_a_job(
    any_conversion: Callable[[], Path],
) -> None:
    train = ("train", "--data", any_conversion(), "--report-to")
    known = ", ".join(trackers.TRACKERS)
    said = words.say("en", "error.trainer.unknown_tracker", name="nobody", known=known)
    assert run(*train, "nobody", code=1).stderr == f"firsttune: {said}\n"
    for name, (modules, _) in trackers.TRACKERS.items():
        if not all(map(find_spec, modules)):
            said = words.say("en", "error.trainer.no_tracker", name=name, package=modules[0])
            assert run(*train, name, code=1).stderr == f"firsttune: {said}\n"
    assert answer("jobs", "list") == []


def test_inspect_says_what_is_in_a_file() -> None:
    told = answer("inspect", SAMPLE[0], "--rows", "2")
    assert told["rows"] == 200
    assert told["fields"] == {"user": "Question", "assistant": "Response", "reasoning": "Complex_CoT"}
    assert len(told["head"]) == 2


def test_download_from_a_hub_and_convert_what_came(tmp_path: Path) -> None:
    rows = [{"Question": f"q{n}?", "Response": f"a{n}"} for n in range(20)]
    with FakeHub() as fake:
        fake.add_repo("org/tea", {"README.md": b"# tea", "data/all.json": orjson.dumps(rows)})
        got = answer(
            "download", "org/tea", "--endpoint", fake.url, "--include", "*.json", "--to", tmp_path / "got"
        )
        assert [file["path"] for file in got["files"]] == ["data/all.json"]
        again = answer("download", "org/tea", "--endpoint", fake.url, "--to", tmp_path / "got")
        assert len(again["files"]) == 2
        asked = len(fake.log)
        answer("download", "org/tea", "--to", tmp_path / "got")
        assert [seen.path for seen in fake.log[asked:]] == ["/api/datasets/org/tea/revision/main"]
    ledger = answer("convert", tmp_path / "got" / "data" / "all.json", "--out", tmp_path / "out")
    assert ledger["train"] + ledger["validation"] == 20


def test_before_a_download_one_can_ask_and_look(tmp_path: Path) -> None:
    rows = [{"Question": f"q{n}?", "Response": f"a{n}"} for n in range(200)]
    with FakeHub() as fake, FakeHub() as behind:
        fake.add_repo("org/tea", {"README.md": b"# tea", "all.json": orjson.dumps(rows)}, license="mit")
        behind.fault("", "html", times=None)
        both = ("--endpoint", behind.url, "--endpoint", fake.url, "--to", tmp_path / "got")
        found = answer("download", "org/tea", *both, "--doctor")
        assert found["order"] == [fake.url]
        assert [visit["verdict"] for visit in found["visits"]] == ["portal", "fast"]
        listed = answer("download", "org/tea", *both, "--files")
        assert (listed["site"], listed["license"]) == ("hub", "mit")
        assert [file["path"] for file in listed["files"]] == ["README.md", "all.json"]
        seen = answer("download", "org/tea", *both, "--look")
        assert seen["file"] == "all.json"
        assert seen["head"][0]["value"] == rows[0]
        assert not (tmp_path / "got").exists()


def test_the_job_list_is_kept_in_order(tmp_path: Path) -> None:
    first, second = finished("tea", validation=(3.0, 1.5)), finished("tea", {"learning_rate": 1e-4})
    assert answer("jobs", "rename", first.id, "green tea")["name"] == "green tea"
    assert answer("jobs", "note", first.id, "the best")["note"] == "the best"
    assert [row["id"] for row in answer("jobs", "list", "--search", "BEST")] == [first.id]
    assert len(answer("jobs", "list")) == 2
    assert words.say("en", "reading.falling", first=3.0, last=1.5) in run("jobs", "show", first.id).stdout
    told = answer("jobs", "compare", first.id, second.id)
    assert [(one["letter"], one["what"], one["how"]) for one in told["differences"]] == [
        ("B", "learning_rate", "half")
    ]
    assert (told["best"]["why"], told["best"]["letter"]) == ("lowest", "B")
    out = run("jobs", "compare", first.id, second.id).stdout
    assert "B used half the learning rate of A (1e-4 instead of 2e-4)." in out
    packed = answer("jobs", "export", first.id, "--out", tmp_path / "tea.zip")
    assert packed["bytes"] == (tmp_path / "tea.zip").stat().st_size
    freed = answer("jobs", "delete", first.id)["freed"]
    assert freed > 0 and not first.folder.path.exists()
    assert [row["id"] for row in answer("jobs", "list")] == [second.id]
    for args in (("show", first.id), ("move", second.id, "first"), ("resume", second.id)):
        assert run("jobs", *args, code=1).stderr.startswith("firsttune: ")
    for args in (("move", second.id, "sideways"), ("compare", second.id), ("rename", second.id, "")):
        assert run("jobs", *args, code=2).stderr.startswith("firsttune: ")


def test_stars_of_the_visitors_own_stay_and_those_of_our_sentences_go(tmp_path: Path) -> None:
    first, second = finished("green **tea**"), finished("tea", {"learning_rate": 1e-4})
    names, *said = run("jobs", "compare", first.id, second.id).stdout.splitlines()
    assert names == f"A  {first.id}  green **tea**"
    assert said and "**" not in "".join(said)
    rows = [{"Question": f"What is **{n}**?", "Response": f"It is *{n}*, **or so**."} for n in range(40)]
    (tmp_path / "rows.json").write_bytes(orjson.dumps(rows))
    run("convert", tmp_path / "rows.json", "--out", tmp_path / "out")
    sentence, *rest = run("play", "--data", tmp_path / "out").stdout.splitlines()
    assert "**" not in sentence
    assert answer("play", "--data", tmp_path / "out")["question"] in rest
    assert any(f"What is **{n}**?" in rest for n in range(40))


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"", "record.empty"),
        (b"<!doctype html><title>Sign in</title>", "record.html"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00", "record.not_records"),
    ],
)
def test_a_file_that_is_not_records_is_one_line_and_exit_1(tmp_path: Path, content: bytes, key: str) -> None:
    (tmp_path / "bad.json").write_bytes(content)
    for command in (("inspect",), ("convert", "--out", str(tmp_path / "out"))):
        failed = run(command[0], tmp_path / "bad.json", *command[1:], code=1)
        assert failed.stdout == ""
        assert len(failed.stderr.strip().splitlines()) == 1
        assert "bad.json" in failed.stderr
        start = words.catalog("en")[f"error.{key}"].partition("{")[0]
        assert f"firsttune: {start}" in failed.stderr
    assert not (tmp_path / "out").exists()


def test_a_file_or_folder_in_the_way_is_one_line_and_exit_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    (tmp_path / "out" / "train.jsonl").mkdir(parents=True)
    (tmp_path / "folder").mkdir()
    job = finished("tea")
    for args in (
        ("convert", SAMPLE[0], "--out", tmp_path / "file"),
        ("convert", SAMPLE[0], "--out", tmp_path / "file" / "out"),
        ("convert", SAMPLE[0], "--out", tmp_path / "out"),
        ("jobs", "export", job.id, "--out", tmp_path / "folder"),
        ("jobs", "export", job.id, "--out", tmp_path / "file" / "tea.zip"),
    ):
        failed = run(*args, code=1)
        assert failed.stderr.startswith("firsttune: ")
        assert words.catalog("en")["error.workspace.in_the_way"].partition("{path}")[2] in failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1, failed.stderr
    assert (tmp_path / "file").read_bytes() == b"kept"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["train.jsonl"]
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize(
    "args",
    [
        ("convert",),
        ("train", "--data", "nowhere", "--set", "epochs"),
        ("train", "--data", "nowhere", "--set", "epochs=many"),
        ("train", "--data", "nowhere", "--set", "speed=3"),
        ("convert", str(SAMPLE[0]), "--out", "x", "--reasoning", "loud"),
        ("convert", str(SAMPLE[0]), "--out", "x", "--map", "nobody=Question"),
        ("check", str(SAMPLE[0]), "--target", "nobody"),
        ("fly",),
    ],
)
def test_wrong_usage_is_exit_2(args: tuple[str, ...], tmp_path: Path) -> None:
    assert run(*args, code=2, cwd=tmp_path).stderr


@pytest.mark.parametrize("command", ["download", "inspect", "check", "convert", "train", "jobs", "chat"])
def test_every_command_explains_itself(command: str) -> None:
    assert "Usage" in run(command, "--help").stdout


def test_unknown_things_are_one_line_and_exit_1(tmp_path: Path) -> None:
    for args in (
        ("jobs", "show", "nobody"),
        ("chat", "--job", "nobody", "hello"),
        ("train", "--data", str(tmp_path)),
        ("train", "--data", str(tmp_path), "--model", str(tmp_path / "none")),
        ("inspect", str(tmp_path / "none.json")),
        ("download", "org/none", "--endpoint", "http://127.0.0.1:9"),
        ("download", "not a dataset id at all"),
    ):
        failed = run(*args, code=1)
        assert len(failed.stderr.strip().splitlines()) == 1, failed.stderr
        assert failed.stderr.startswith("firsttune: ")
