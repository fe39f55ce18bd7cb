"""Datasets on this computer: kept whole, found again, and nothing written where it should not be."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from lib import datasets, records
from lib.errors import AppError, UsageError

ROWS = b'[{"Question": "q", "Response": "a"}]'


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(AppError) as error:
        act()
    return error.value.key


def test_the_sample_is_read_where_it_lies(workspace: Path) -> None:
    sample = datasets.sample()
    assert (sample.id, sample.source) == ("sample", "sample")
    assert datasets.files(sample) == sorted(datasets.SAMPLE.glob("*.json"))
    assert len(sample.files) == 2
    assert datasets.sample() == sample
    assert datasets.listing() == [sample]
    assert sorted(path.name for path in workspace.rglob("*") if path.is_file()) == ["dataset.json"]


def test_an_upload_is_kept_under_its_name() -> None:
    made = datasets.from_upload("my tea \u8336.json", io.BytesIO(ROWS))
    assert (made.name, made.source) == ("my tea \u8336.json", "upload")
    (path,) = datasets.files(made)
    assert path.name == "my tea \u8336.json" and path.read_bytes() == ROWS
    assert datasets.get(made.id) == made


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd.json", "passwd.json"),
        ("C:\\Users\\me\\data.csv", "data.csv"),
        ('a<b>:"c|d?e*.json', "a_b___c_d_e_.json"),
        ("..json", "json"),
        ("con.jsonl", "_con.jsonl"),
        ("line\nbreak\0.json", "line_break_.json"),
        (" .hidden.json. ", "hidden.json"),
        ("\u8336" * 300 + ".parquet", "\u8336" * 52 + ".parquet"),
        ("noending", "noending"),
        ("", "data"),
        ("...", "data"),
    ],
)
def test_names_are_made_safe(given: str, kept: str) -> None:
    assert datasets.safe_name(given) == kept
    assert len(kept.encode()) < 255


def test_what_cannot_be_uploaded_leaves_nothing(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "UPLOAD_LIMIT", 1000)
    assert refused(lambda: datasets.from_upload("big.json", bytes(1001))) == "dataset.too_large"
    assert refused(lambda: datasets.from_upload("none.json", b"")) == "dataset.empty"
    assert refused(lambda: datasets.from_upload("program.exe", b"MZ")) == "dataset.not_data"

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        datasets.from_upload("cut.json", Broken())
    assert list((workspace / "datasets").iterdir()) == []
    assert datasets.listing() == []
    assert datasets.from_upload("just.json", bytes(1000)).files == ("just.json",)


def test_a_path_is_taken_as_people_paste_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "my data.json"
    path.write_bytes(ROWS)
    first = datasets.from_path(path)
    for text in (f'"{path}"', f"  '{path}' ", "~/my data.json", path.as_uri()):
        assert datasets.from_path(text) == first
    assert datasets.files(first) == [path]
    assert (first.source, first.name) == ("path", "my data.json")
    assert datasets.listing() == [first]


def test_a_folder_is_its_data_files_and_follows_them(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.json", "README.md", ".hidden.json", "sub/c.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(ROWS)
    made = datasets.from_path(tmp_path)
    assert datasets.files(made) == records.find(tmp_path)
    assert [path.name for path in datasets.files(made)] == ["a.json", "b.jsonl", "c.csv"]
    (tmp_path / "b.jsonl").unlink()
    assert refused(lambda: datasets.files(made)) == "dataset.file_gone"
    again = datasets.from_path(tmp_path)
    assert again.id == made.id
    assert [path.name for path in datasets.files(again)] == ["a.json", "c.csv"]


def test_paths_that_lead_nowhere_are_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for text in ("", "  ", "''", str(tmp_path / "nowhere"), "a\0b", "x" * 5000, "~nobody-here/data.json"):
        assert refused(lambda text=text: datasets.from_path(text)) == "dataset.no_such_path"  # type: ignore[misc]
    assert refused(lambda: datasets.from_path(tmp_path / "empty")) == "dataset.no_data"
    assert datasets.listing() == []


def test_the_newest_is_first_and_a_mangled_one_is_passed_over(workspace: Path) -> None:
    made = [datasets.from_upload(f"{name}.json", ROWS) for name in "abc"]
    assert [one.name for one in datasets.listing()] == ["c.json", "b.json", "a.json"]
    for content in (b'{"name": "x", "fi', b"[]", b"{}", b'{"files": [1], "name": "x", "source": "upload"}'):
        (workspace / "datasets" / made[1].id / "dataset.json").write_bytes(content)
        assert [one.name for one in datasets.listing()] == ["c.json", "a.json"]
        assert refused(lambda: datasets.get(made[1].id)) == "dataset.unknown"


def test_a_dataset_cannot_lead_out_of_its_folder(workspace: Path) -> None:
    made = datasets.from_upload("a.json", ROWS)
    path = workspace / "datasets" / made.id / "dataset.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"files": ["../../../secret"]}))
    assert refused(lambda: datasets.files(datasets.get(made.id))) == "workspace.outside"
    for name in ("..", "../jobs", "/etc", ""):
        assert refused(lambda name=name: datasets.get(name)).startswith("workspace.")  # type: ignore[misc]
    with pytest.raises(UsageError):
        datasets.get("nothing")


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read everything")
def test_a_path_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    assert refused(lambda: datasets.from_path(closed / "data.json")) == "dataset.not_readable"


def test_several_uploads_are_one_dataset(tmp_path: Path) -> None:
    made = datasets.from_uploads(
        [
            ("gsm/main/train.json", io.BytesIO(ROWS)),
            ("gsm/main/test.json", io.BytesIO(ROWS)),
            ("gsm/README.md", io.BytesIO(b"---\nconfigs:\n- config_name: m\n  data_files: main/t*\n---\n")),
            ("gsm/look.png", io.BytesIO(b"PNG")),
            ("gsm/extra.jsonl", io.BytesIO(ROWS)),
        ]
    )
    assert (made.name, made.source) == ("train.json + 2", "upload")
    assert made.files == ("main/train.json", "main/test.json", "extra.jsonl")
    home = datasets.folder(made.id) / "files"
    assert datasets.files(made) == [home / name for name in made.files]
    assert sorted(path.name for path in home.iterdir()) == ["README.md", "extra.jsonl", "main"]
    assert [(part.config, part.split, len(part.files)) for part in datasets.parts(made)] == [
        ("m", "train", 2),
        ("", "", 1),
    ]
    assert datasets.get(made.id) == made


def test_uploads_of_the_same_name_are_all_kept() -> None:
    made = datasets.from_uploads(
        [(name, io.BytesIO(ROWS)) for name in ("a.jsonl", "A.jsonl", "a.jsonl", "a-2.jsonl")]
    )
    assert made.files == ("a.jsonl", "A-2.jsonl", "a-3.jsonl", "a-2-2.jsonl")
    for path in datasets.files(made):
        assert path.read_bytes() == ROWS


@pytest.mark.parametrize("name", ["../../../x.json", "/etc/x.json", "a\\..\\..\\x.json", "./.../x.json"])
def test_no_upload_leaves_its_folder(workspace: Path, name: str) -> None:
    made = datasets.from_uploads([(name, io.BytesIO(ROWS)), ("b/y.json", io.BytesIO(ROWS))])
    for path in datasets.files(made):
        assert path.is_relative_to(workspace / "datasets" / made.id / "files")


def test_uploads_count_together_against_the_limit(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "UPLOAD_LIMIT", 1000)
    some = [("a.json", io.BytesIO(bytes(600))), ("b.json", io.BytesIO(bytes(401)))]
    assert refused(lambda: datasets.from_uploads(some)) == "dataset.too_large"
    some = [("a.json", io.BytesIO(bytes(600))), ("b.json", io.BytesIO(b""))]
    assert refused(lambda: datasets.from_uploads(some)) == "dataset.empty"
    assert refused(lambda: datasets.from_uploads([("a.png", io.BytesIO(b"x"))])) == "dataset.not_data"
    assert refused(lambda: datasets.from_uploads([])) == "dataset.not_data"
    assert list((workspace / "datasets").iterdir()) == []


def test_a_compressed_file_keeps_both_endings() -> None:
    assert datasets.safe_name("x" * 100 + ".jsonl.gz").endswith("x.jsonl.gz")
    assert datasets.safe_name("train.json.zst") == "train.json.zst"
    assert len(datasets.safe_name("x" * 100 + "." + "y" * 100 + ".gz")) <= datasets.NAME_LIMIT


def test_what_is_made_of_a_dataset_lies_in_the_workspace(tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "a.json").write_bytes(ROWS)
    for made in (datasets.from_path(tmp_path), datasets.sample(), datasets.from_upload("a.json", ROWS)):
        home = workspace / "datasets" / made.id
        assert datasets.keep_folder(made) == home / "index"
        assert datasets.edits_file(made) == home / "edits.jsonl"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.json"]


def test_parts_are_found_in_every_source(tmp_path: Path) -> None:
    for name in ("en/train.jsonl", "zh/train.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(ROWS)
    made = datasets.from_path(tmp_path)
    assert [(part.config, part.split) for part in datasets.parts(made)] == [("en", "train"), ("zh", "train")]
    single = datasets.from_path(tmp_path / "zh" / "train.jsonl")
    assert [(part.config, part.split) for part in datasets.parts(single)] == [("", "train")]
    assert [len(part.files) for part in datasets.parts(datasets.sample())] == [2]
