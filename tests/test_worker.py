"""What a job's process does: real downloads from a loopback Hub, real conversions, a real training."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from lib import backends, conversions, convert, datasets, formats, hub, jobs, worker
from lib.backends import local
from lib.errors import JobError
from lib.jobfolder import BUSY, JobFolder
from lib.jobs import Job
from lib.trainer import packages
from lib.workspace import room
from tests.conftest import ROOT
from tests.fakehub import FakeHub
from tests.processes import reaches, settled, until

MAPPING = formats.Mapping("qa", {"user": "Question", "assistant": "Response"}, "Be kind.")
ROWS = [{"Question": f"q {n}?", "Response": f"a {n}."} for n in range(40)]
LARGE = orjson.dumps(ROWS * 2000)
needs_trainer = pytest.mark.skipif(bool(packages.missing()), reason="the trainer is not installed")


def asks(kind: str, **asked: object) -> JobFolder:
    """Return a job folder that no list knows."""
    return JobFolder.create(room("jobs") / "alone", {"kind": kind, "name": "alone"} | asked)


@contextmanager
def a_stopped_download() -> Iterator[tuple[FakeHub, hub.Listing, Job]]:
    """Give a hub, what it lists, and the job whose download was stopped; the hub is fast from now on."""
    with FakeHub(bps=len(LARGE) // 4) as fake:
        fake.add_repo("org/tea", {"all.json": LARGE})
        listing = hub.list_files(hub.parse("org/tea"), fake.url)
        job = datasets.fetch(listing, listing.files)
        until(lambda: job.folder.status().get("done", 0) > 1000)
        jobs.stop(job.id)
        settled(reaches(job, "stopped"))
        fake.bps = None
        yield fake, listing, job


def failure(folder: JobFolder) -> str:
    result = folder.result() or {}
    assert result["state"] == "failed", result
    return str(result["key"])


def test_a_download_becomes_a_dataset() -> None:
    with FakeHub() as fake:
        files = {"README.md": b"# tea", "data/all.json": orjson.dumps(ROWS), "other.json": b"[]"}
        commit = fake.add_repo("org/tea", files, license="cc0-1.0")
        listing = hub.list_files(hub.parse("org/tea"), fake.url)
        job = reaches(datasets.fetch(listing, hub.select(listing.files, ["data/*", "*.md"])), "done")
    made = datasets.get((job.folder.result() or {})["dataset"])
    assert datasets.listing() == [made]
    assert (made.name, made.source, made.repo, made.commit) == ("org/tea", "hub", "org/tea", commit)
    assert (made.license, made.endpoint, made.revision) == ("cc0-1.0", fake.url, "main")
    assert set(made.files) == {"README.md", "data/all.json"}
    (path,) = datasets.files(made)
    assert path.read_bytes() == files["data/all.json"]
    status = job.folder.status()
    assert status["done"] == status["total"] and status["files_done"] == status["files"] == 2
    assert status["speed"] >= 0


def test_a_killed_download_goes_on_behind_its_last_byte() -> None:
    with FakeHub(bps=len(LARGE) // 2) as fake:
        fake.add_repo("org/tea", {"all.json": LARGE})
        listing = hub.list_files(hub.parse("org/tea"), fake.url)
        job = datasets.fetch(listing, listing.files)
        until(lambda: job.folder.status().get("done", 0) > 100_000)
        process = job.folder.process()
        assert process
        process.kill()
        fake.bps = None
        assert reaches(job, "done").attempt == 2
        assert any(seen.headers.get("range", "bytes=0-") != "bytes=0-" for seen in fake.log)
    (path,) = datasets.files(datasets.listing()[0])
    assert path.read_bytes() == LARGE


def test_a_stopped_download_is_no_dataset_yet_and_can_go_on() -> None:
    with a_stopped_download() as (_, _, job):
        assert datasets.listing() == []
        jobs.resume(job.id)
        reaches(job, "done")
    assert [one.repo for one in datasets.listing()] == ["org/tea"]


def test_a_download_that_cannot_be_fails_with_the_hubs_reason() -> None:
    with FakeHub() as fake:
        fake.add_repo("org/tea", {"all.json": b"[]"})
        listing = hub.list_files(hub.parse("org/tea"), fake.url)
        fake.fault("/resolve/", "status", status=404, code="EntryNotFound", times=None)
        job = reaches(datasets.fetch(listing, listing.files), "failed")
    assert (job.error or {})["key"].startswith("hub.")
    assert job.attempt == 1
    assert datasets.listing() == []


def test_a_download_asked_for_again_goes_on_with_the_one_that_was_stopped() -> None:
    with a_stopped_download() as (fake, listing, _):
        assert datasets.fetched(listing, listing.files) is None
        reaches(datasets.fetch(listing, listing.files), "done")
        assert fake.sent("/cdn/") + fake.sent("/resolve-cache/") < 1.05 * len(LARGE) + 300_000
    made = datasets.fetched(listing, listing.files)
    assert made and made.repo == "org/tea"


def test_a_download_goes_on_at_the_other_endpoint_and_tells() -> None:
    with FakeHub(bps=len(LARGE) // 3) as first, FakeHub() as second:
        for fake in (first, second):
            fake.add_repo("org/tea", {"all.json": LARGE})
        listing = hub.list_files(hub.parse("org/tea"), first.url)
        first.fault("all.json", "reset", at=len(LARGE) // 2)
        job = datasets.fetch(listing, listing.files, others=[second.url])
        until(lambda: job.folder.status().get("done", 0) > 100_000)
        first.fault("", "drop", times=None)
        reaches(job, "done")
        assert second.sent() < len(LARGE)
    told = job.folder.status()["told"]
    assert [one["endpoint"] for one in told if one["what"] == "switch"] == [second.url]
    assert datasets.files(datasets.listing()[0])[0].read_bytes() == LARGE


def test_a_typed_token_reaches_the_job_and_no_file(workspace: Path) -> None:
    token = "hf_" + "Marked" * 6
    with FakeHub() as fake:
        fake.tokens.add(token)
        fake.add_repo("org/tea", {"all.json": orjson.dumps(ROWS)}, gated=True)
        listing = hub.list_files(hub.parse("org/tea"), fake.url, token=token, anywhere=True)
        job = reaches(datasets.fetch(listing, listing.files, token=token, anywhere=True), "done")
        assert any(token in seen.headers.get("authorization", "") for seen in fake.asked("/resolve/"))
    written = [path for path in workspace.rglob("*") if path.is_file()]
    assert job.folder.path / "job.json" in written
    assert not [path for path in written if token.encode() in path.read_bytes()]


def test_a_download_whose_token_is_gone_says_so_and_takes_a_new_one() -> None:
    token = "hf_" + "Marked" * 6
    with FakeHub() as fake:
        fake.tokens.add(token)
        fake.add_repo("org/tea", {"all.json": orjson.dumps(ROWS)}, gated=True)
        listing = hub.list_files(hub.parse("org/tea"), fake.url, token=token, anywhere=True)
        asked = {"listing": listing.as_json(), "dataset": "one", "anywhere": True, "typed_token": True}
        job = reaches(jobs.submit("download", "org/tea", asked), "failed")
        assert (job.error or {})["key"] == "job.secret_gone"
        settled(job)
        reaches(datasets.go_on(job.id, token), "done")
    assert datasets.get("one").repo == "org/tea"


def test_a_conversion_is_a_job(tmp_path: Path) -> None:
    source = tmp_path / "tea.json"
    source.write_bytes(orjson.dumps(ROWS))
    request = convert.Request((source,), tmp_path / "unused", MAPPING, validation=0.25, seed=3)
    job = reaches(conversions.start(request, "tea"), "done")
    counts = (job.folder.result() or {})["counts"]
    assert (counts["read"], counts["train"], counts["validation"], counts["set_aside"]) == (40, 30, 10, 0)
    out = Path((job.folder.result() or {})["out"])
    assert conversions.folder(out.name) == out
    first = orjson.loads((out / "train.jsonl").read_bytes().splitlines()[0])
    assert first["messages"][0] == {"role": "system", "content": "Be kind."}
    manifest = conversions.manifest(out.name)
    assert manifest and manifest["counts"]["train"] == 30 and manifest["seed"] == 3


def test_a_conversion_that_cannot_be_fails_with_its_reason(tmp_path: Path) -> None:
    source = tmp_path / "tea.json"
    source.write_bytes(b"<html>not found</html>")
    job = reaches(conversions.start(convert.Request((source,), tmp_path, MAPPING), "tea"), "failed")
    assert (job.error or {})["key"].startswith("record.")
    assert job.attempt == 1


def test_a_conversion_stops_in_its_middle(tmp_path: Path) -> None:
    class StopsAtTheFirstReport(JobFolder):
        def stop_wanted(self) -> bool:
            return bool(self.status())

    source, out = tmp_path / "tea.jsonl", tmp_path / "out"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in ROWS * 2500))
    asked = {"files": [str(source)], "out": str(out), "validation": 0.1, "seed": 0, "target": "trl"}
    mapping = {"format": "qa", "fields": MAPPING.fields, "system": "", "reasoning": "drop"}
    folder = asks("convert", mapping=mapping, **asked)
    assert worker.main(StopsAtTheFirstReport(folder.path)) == 0
    assert folder.result() == {"state": "stopped"}
    assert folder.status()["phase"] == "converting"
    assert not (out / "train.jsonl").exists()


def test_what_nobody_foresaw_fails_with_its_traceback_in_the_log() -> None:
    folder = asks("download", dataset="x")  # without a listing
    done = subprocess.run(
        [sys.executable, "-m", "lib.worker", str(folder.path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert failure(folder) == "job.unexpected"
    assert (folder.result() or {})["facts"] == {"error": "KeyError: 'listing'"}
    assert "Traceback" in done.stderr


def test_a_second_process_leaves_the_folder_alone() -> None:
    folder = asks("convert")
    with folder.working():
        done = subprocess.run(
            [sys.executable, "-m", "lib.worker", str(folder.path)], cwd=ROOT, capture_output=True, text=True
        )
    assert done.returncode == BUSY
    assert folder.result() is None


def test_a_job_that_has_ended_or_is_to_stop_does_nothing() -> None:
    folder = asks("convert")
    folder.finish(said="before")
    assert worker.main(folder) == 0
    assert folder.result() == {"state": "done", "said": "before"}
    (folder.path / "result.json").unlink()
    folder.want_stop()
    assert worker.main(folder) == 0
    assert folder.result() == {"state": "stopped"}


def test_a_folder_that_is_not_whole_fails() -> None:
    folder = asks("convert")
    (folder.path / "job.json").write_bytes(b"{")
    assert worker.main(folder) == 1
    assert failure(folder) == "job.folder_broken"


def test_training_without_its_packages_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "TRAINER", ("requests", "surely_not_there"))
    folder = asks("train", model={"kind": "practice", "id": "practice"})
    assert worker.main(folder) == 1
    assert failure(folder) == "trainer.not_installed"
    assert (folder.result() or {})["facts"] == {"package": "surely_not_there"}


def test_a_model_is_fetched_once_and_then_needs_no_network() -> None:
    weights, config = b"w" * 3000, b'{"model_type": "qwen2"}'
    with FakeHub() as fake:
        files = {
            "config.json": config,
            "model.safetensors": weights,
            "tokenizer.json": b"{}",
            "merges.txt": b"a b",
            "chat_template.jinja": b"{{ x }}",
            "pytorch_model.bin": b"pickle",
            "onnx/model.onnx": b"onnx",
            "picture.png": b"png",
        }
        fake.add_repo("org/tiny", files, kind="model")
        fake.add_repo("org/pickles", {"config.json": config, "pytorch_model.bin": b"pickle"}, kind="model")
        model = {"kind": "hub", "id": "org/tiny", "revision": "main", "endpoint": fake.url}
        folder = asks("train", model=model)
        home = worker.fetched_model(folder, model)
        assert home == local.hub_folder(model) == room("models") / "org--tiny"
        names = {"config.json", "model.safetensors", "tokenizer.json", "merges.txt", "chat_template.jinja"}
        assert {path.name for path in home.iterdir() if path.is_file()} == names
        assert folder.status()["phase"] == "downloading"
        (home / "config.json").write_bytes(b"")  # somebody's accident
        assert worker.fetched_model(folder, model) == home
        assert (home / "config.json").read_bytes() == config
        pickles = model | {"id": "org/pickles"}
        with pytest.raises(Exception, match="model_without_weights"):
            worker.fetched_model(folder, pickles)
        before = len(fake.log)
    assert worker.fetched_model(folder, model) == home
    assert len(fake.log) == before
    assert local.hub_folder(model | {"revision": "refs/pr/1"}).name == "org--tiny@refs--pr--1"


@needs_trainer
@pytest.mark.trainer
def test_a_model_of_the_hub_is_fetched_and_trained_and_a_stop_can_be_taken_back(tmp_path: Path) -> None:
    source = tmp_path / "tea.json"
    source.write_bytes(orjson.dumps(ROWS))
    convert.convert(convert.Request((source,), tmp_path / "tea", formats.Mapping("qa", MAPPING.fields)))
    local = backends.BACKENDS["local"]
    settings = local.defaults({"kind": "practice"}) | {"epochs": 30, "batch_size": 4}
    practice = ROOT / "lib" / "practice" / "model"
    with FakeHub() as fake:
        fake.add_repo("org/tiny", {path.name: path for path in practice.iterdir()}, kind="model")
        model = {"kind": "hub", "id": "org/tiny", "revision": "main", "endpoint": fake.url}
        job = local.start("tea", tmp_path / "tea", model, settings, "")
        until(lambda: job.folder.status().get("step", 0) > 2, 60)
        with pytest.raises(JobError, match=r"job\.busy"), job.folder.working():
            pass  # the trainer, which this process became, holds the folder
        jobs.stop(job.id)
    stopped = reaches(job, "stopped", 30).folder.result() or {}
    assert 0 < stopped["step"] < stopped["steps"]
    settled(job)
    jobs.resume(job.id)
    done = reaches(job, "done", 60)
    result = done.folder.result() or {}
    assert result["step"] == result["steps"] and result["resumed_at"] >= stopped["step"]
    assert [event.state for event in jobs.events(job.id)].count("running") == 2
    assert jobs.validation_questions(done, 3)
    assert jobs.measured_speed(model) is None  # of a resumed run only the last part was timed
    assert backends.local.parameters(model) == result["parameters"] - result["parameters_trained"]
