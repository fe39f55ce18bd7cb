"""The code that repeats a download: what is printed is run, and fetches the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lib import hub, script
from lib.script.download import patterns
from tests.fakehub import FakeHub
from tests.fakescope import FakeScope

REPO = "org/tea"
SECRET = "hf_SECRETsecretSECRET"
ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "README.md": b"# Tea\n",
    "a.json": b"[]",
    "data/it's $HOME \u8336 [1].jsonl": b'{"a": 1}\n' * 100,
    "data/it's $HOME \u8336 1.jsonl": b"not this one",
    "data/big.parquet": bytes(range(256)) * 5000,
}
CHOICES = {
    "all": list(FILES),
    "one": ["data/it's $HOME \u8336 [1].jsonl"],
    "some": ["data/it's $HOME \u8336 [1].jsonl", "data/big.parquet"],
}


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.add_repo(REPO, FILES)
        yield server


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    folder.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str(folder / "hf home"),
        "HF_TOKEN": SECRET,
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("HF_ENDPOINT", None)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def fetched(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("code", ["download", "hf_download", "python_download"])
@pytest.mark.skipif(os.name == "nt", reason="the command is for a POSIX shell")
def test_the_code_shown_fetches_the_same_bytes(fake: FakeHub, tmp_path: Path, code: str, choice: str) -> None:
    listing = hub.list_files(hub.Ref(REPO), fake.url)
    fake.add_repo(REPO, {"README.md": b"a later commit"})
    files = [file for file in listing.files if file.path in CHOICES[choice]]
    fake.log.clear()
    shown = getattr(script, code)(listing, files, Path("my tea"))
    command = [sys.executable, "-c", shown] if code == "python_download" else ["sh", "-c", shown]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stderr
    assert fetched(tmp_path / "my tea") == {path: FILES[path] for path in CHOICES[choice]}
    assert SECRET not in shown
    assert fake.log
    assert all("authorization" not in seen.headers for seen in fake.log)  # this is a mirror


def test_our_own_command_line_fetches_from_modelscope(tmp_path: Path) -> None:
    with FakeScope() as scope:
        scope.add_repo(REPO, FILES, revision="master")
        listing = hub.list_files(hub.Ref(REPO, "master", site="modelscope"), scope.url)
        files = [file for file in listing.files if file.path in CHOICES["some"]]
        shown = script.download(listing, files, Path("my tea"))
        assert "modelscope:org/tea" in shown
        done = run(["sh", "-c", shown], tmp_path)
        assert done.returncode == 0, done.stderr
        assert fetched(tmp_path / "my tea") == {path: FILES[path] for path in CHOICES["some"]}


def test_each_site_has_its_own_client_and_the_usual_endpoint_is_not_named(fake: FakeHub) -> None:
    listing = replace(hub.list_files(hub.Ref(REPO), fake.url), commit="c0ffee")
    there = replace(listing, endpoint="https://huggingface.co")
    folder = Path("tea")
    assert script.hf_download(there, there.files, folder) == (
        "hf download --repo-type dataset org/tea --revision c0ffee --local-dir tea"
    )
    assert script.python_download(there, there.files, folder) == (
        "from huggingface_hub import snapshot_download\n\n"
        'snapshot_download(\n    repo_id="org/tea",\n    repo_type="dataset",\n    revision="c0ffee",\n'
        '    local_dir="tea",\n)\n'
    )
    mirror = script.hf_download(there, there.files, folder, "https://hf-mirror.com")
    assert mirror.startswith("HF_ENDPOINT=https://hf-mirror.com ")
    scope = replace(there, ref=replace(listing.ref, site="modelscope"), endpoint="https://modelscope.cn")
    assert script.hf_download(scope, scope.files, folder) == (
        "modelscope download --dataset org/tea --revision c0ffee --local_dir tea"
    )
    shown = script.python_download(scope, scope.files[:1], folder, "https://www.modelscope.ai")
    assert shown.startswith("from modelscope import dataset_snapshot_download\n\n")
    assert 'dataset_id="org/tea"' in shown
    assert 'endpoint="https://www.modelscope.ai"' in shown
    model = replace(scope, ref=replace(scope.ref, kind="model"))
    assert script.hf_download(model, model.files, folder).startswith("modelscope download --model org/tea ")
    assert script.download(model, model.files, folder).split()[4] == "modelscope:models/org/tea"
    assert hub.parse("modelscope:models/org/tea") == replace(model.ref, revision="master")


def test_many_files_are_told_by_patterns_that_choose_exactly_them(fake: FakeHub) -> None:
    names = [f"{folder}/{n:02}.{ending}" for folder in "ab" for n in range(20) for ending in ("json", "txt")]
    fake.add_repo(REPO, dict.fromkeys(names, b"x"))
    listing = hub.list_files(hub.Ref(REPO), fake.url)
    for wanted, expected in [
        ([name for name in names if name.endswith("json")], ["*.json"]),
        ([name for name in names if name.startswith("b")], ["b/*"]),
        (names[:30], None),
        (names[:2], ["a/00.json", "a/00.txt"]),
        (names, []),
    ]:
        found = patterns(listing, [file for file in listing.files if file.path in wanted])
        assert expected is None or found == expected
        assert {file.path for file in hub.select(listing.files, found)} == set(wanted)


@pytest.mark.parametrize("flag", [["--resume-download"], ["--local-dir-use-symlinks", "False"]])
def test_todays_client_refuses_the_flags_of_old_articles(
    fake: FakeHub, tmp_path: Path, flag: list[str]
) -> None:
    command = ["hf", "download", "--repo-type", "dataset", REPO, *flag]
    done = run(["env", f"HF_ENDPOINT={fake.url}", *command], tmp_path)
    assert done.returncode == 2
    assert flag[0] in done.stderr
    assert not fake.asked("/resolve/")


def test_todays_client_has_no_program_of_the_old_name() -> None:
    assert (Path(sys.executable).parent / "hf").exists()
    assert not (Path(sys.executable).parent / "huggingface-cli").exists()
