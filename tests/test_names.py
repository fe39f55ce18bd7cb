"""Where files would lie, and all that keeps them from it, told before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lib import hub, workspace
from lib.hub.failures import Asked
from lib.hub.names import LONGEST_PATH, places

REF = hub.Ref("Conard/fortune-telling")
HOME = "https://huggingface.co"


def preflight(folder: Path, *names: str, size: int = 3) -> list[tuple[str, object]]:
    """Return the key of each problem and the file or path it names; nothing was written."""
    files = [hub.RemoteFile(name, size) for name in names]
    before = sorted(folder.parent.rglob("*"))
    problems = hub.preflight(hub.Listing(REF, HOME, "c" * 40, tuple(files)), files, folder)
    assert sorted(folder.parent.rglob("*")) == before
    return [(problem.key, problem.facts.get("file", problem.facts.get("path"))) for problem in problems]


def test_nothing_stands_in_the_way_of_ordinary_files(tmp_path: Path) -> None:
    names = ("README.md", "data/a.json", "data/a.json.part", "\u6570\u636e/\u95ee 1.json", "data/b/c.json")
    assert preflight(tmp_path / "not" / "there", *names) == []


def test_all_problems_are_told_not_only_the_first(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "outside").mkdir()
    (here / "link").symlink_to(tmp_path / "outside")
    (here / "taken.json").mkdir()
    (here / "file").write_bytes(b"")
    names = ("../up", "good.json", "con.txt", "link/a.json", "taken.json", "file/x.json", "A.txt", "a.txt")
    assert preflight(here, *names, size=1 << 60) == [
        ("hub.unsafe_name", "../up"),
        ("hub.unsafe_name", "con.txt"),
        ("workspace.outside", None),
        ("hub.name_clash", "taken.json"),
        ("hub.name_clash", "file/x.json"),
        ("hub.case_clash", "a.txt"),
        ("workspace.disk_full", str(here)),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../up.json",
        "/etc/passwd",
        "C:\\x",
        "a//b",
        "aux.json",
        "x/COM1",
        "a\nb",
        ".hub/lock",
        ".HUB/x",
        "",
        "\u5b57" * 90,
        "\ud800.json",
        "/".join(["x" * 200] * (LONGEST_PATH // 200)),
    ],
)
def test_a_name_that_is_a_trap_is_told_and_can_be_shown(tmp_path: Path, name: str) -> None:
    ((key, shown),) = preflight(tmp_path / "here", name)
    assert key == "hub.unsafe_name"
    str(shown).encode()


def test_links_in_the_way_are_told_wherever_they_lead(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "real").mkdir(parents=True)
    (here / "inside").symlink_to(here / "real")
    (here / "round").symlink_to(here / "round")
    (here / "ring").symlink_to(here / "ring")
    (here / "a.json").symlink_to(tmp_path / "nowhere")
    (here / "b.json.part").symlink_to(here / "real" / "x")
    names = ("inside/x.json", "ring/x.json", "round", "a.json", "b.json", "real/good.json")
    assert [key for key, _ in preflight(here, *names)] == [
        "hub.unsafe_name",
        "hub.unsafe_name",
        "hub.unsafe_name",
        "workspace.outside",
        "hub.unsafe_name",
    ]


def test_a_folder_of_ours_that_is_a_link_or_a_file_is_told(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / ".hub").symlink_to(tmp_path)
    assert [key for key, _ in preflight(here, "a.json")] == ["workspace.outside"]
    (here / ".hub").unlink()
    (here / ".hub").write_bytes(b"")
    assert [key for key, _ in preflight(here, "a.json")] == ["hub.name_clash"]


def test_a_target_that_is_itself_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "here").symlink_to(tmp_path / "disk")
    assert preflight(tmp_path / "here", "data/a.json") == []


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert ("workspace.not_writable", str(tmp_path / "file")) in preflight(
        tmp_path / "file" / "here", "a.json"
    )
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    if not os.access(closed, os.W_OK):  # root may write everywhere
        assert preflight(closed / "here", "a.json") == [("workspace.not_writable", str(closed))]


def test_names_that_differ_in_case_alone_are_a_warning_here_and_refused_on_a_disk_that_is_blind_to_it(
    tmp_path: Path,
) -> None:
    names = ("Data/A.json", "data/a.json", "Caf\u00e9", "Cafe\u0301", "x", "X/y")
    assert preflight(tmp_path / "here", *names) == [
        ("hub.case_clash", "data/a.json"),
        ("hub.case_clash", "Cafe\u0301"),
    ]
    assert {key for key, _ in preflight(tmp_path / "here", *names)} <= set(hub.WARNINGS)
    here = tmp_path / "here"
    (here / "AB").mkdir(parents=True)
    (here / "ab").symlink_to(here / "AB")  # one folder under both names, as such a disk has it
    assert preflight(here, *names) == [
        ("hub.name_clash", "data/a.json"),
        ("hub.name_clash", "Cafe\u0301"),
        ("hub.name_clash", "X/y"),
    ]


def test_what_is_there_already_needs_no_room(tmp_path: Path) -> None:
    free = workspace.free_bytes(tmp_path)
    (tmp_path / "a.bin.part").touch()
    os.truncate(tmp_path / "a.bin.part", free)  # a file with a hole takes no room
    assert preflight(tmp_path, "a.bin", size=free + 1000) == []
    assert preflight(tmp_path, "b.bin", size=2 * free) == [("workspace.disk_full", str(tmp_path))]
    (tmp_path / "b.bin").touch()
    os.truncate(tmp_path / "b.bin", 2 * free)
    assert preflight(tmp_path, "b.bin", size=2 * free) == []


def test_nothing_chosen_is_told(tmp_path: Path) -> None:
    assert [key for key, _ in preflight(tmp_path)] == ["hub.no_files"]


def test_the_beginning_of_a_file_has_a_name_that_no_other_has(tmp_path: Path) -> None:
    files = [hub.RemoteFile(name, 1) for name in ("a", "a.part", "a.part.part")]
    found = places(files, tmp_path, Asked(REF, HOME, 1.0))
    every = [path.name for pair in found.values() for path in pair]
    assert len(every) == len(set(every)) == 6
