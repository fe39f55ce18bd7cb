"""A secret reaches the job's process and nothing else."""

from __future__ import annotations

import subprocess
import sys
import threading
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from pathlib import Path

import pytest

from lib import handover
from lib.errors import JobError
from lib.jobfolder import JobFolder
from lib.workspace import read_json, room
from tests.conftest import ROOT
from tests.processes import until

TOKEN = "hf_MarkedMarkedMarkedMarkedMarked"


@pytest.fixture
def folder(workspace: Path) -> JobFolder:
    return JobFolder.create(room("jobs") / "one", {"kind": "download"})


def test_another_process_gets_it_as_often_as_it_asks(folder: JobFolder) -> None:
    handover.offer(folder, TOKEN)
    code = (
        "import sys; from pathlib import Path; from lib import handover; from lib.jobfolder import JobFolder;"
        "print(handover.take(JobFolder(Path(sys.argv[1]))))"
    )
    for _ in range(2):
        asked = [sys.executable, "-c", code, str(folder.path)]
        told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
        assert told.stdout.strip() == TOKEN


def test_it_lies_nowhere_on_disk(folder: JobFolder, workspace: Path) -> None:
    handover.offer(folder, TOKEN)
    assert handover.take(folder) == TOKEN
    written = [path for path in workspace.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_without_the_key_there_is_no_answer(folder: JobFolder) -> None:
    handover.offer(folder, TOKEN)
    known = read_json(folder.path / "handover.json")
    with pytest.raises(AuthenticationError):
        Client(known["address"], authkey=b"guessed")
    assert handover.take(folder) == TOKEN


def test_once_withdrawn_or_gone_it_is_told(folder: JobFolder) -> None:
    with pytest.raises(JobError) as never:
        handover.take(folder)
    assert never.value.key == "job.secret_gone"
    handover.offer(folder, TOKEN)
    handover.withdraw(folder)
    with pytest.raises(JobError) as gone:
        handover.take(folder)
    assert gone.value.key == "job.secret_gone"


def test_nobody_waits_for_what_was_withdrawn(folder: JobFolder) -> None:
    def waiting() -> int:
        return sum(thread.name == "handover" for thread in threading.enumerate())

    before = waiting()
    for number in range(20):
        handover.offer(folder, f"{number}")  # each withdraws the one before
        assert handover.take(folder) == f"{number}"
    until(lambda: waiting() == before + 1)
    address = Path(read_json(folder.path / "handover.json")["address"])
    assert address.exists()
    handover.withdraw(folder)
    handover.withdraw(folder)
    until(lambda: waiting() == before)
    assert not address.exists()


def test_who_leaves_without_an_answer_spoils_it_for_nobody(folder: JobFolder) -> None:
    handover.offer(folder, TOKEN)
    address = read_json(folder.path / "handover.json")["address"]
    for _ in range(50):
        Client(address).close()
    assert handover.take(folder) == TOKEN


def test_a_new_offer_takes_the_place_of_the_old_one(folder: JobFolder) -> None:
    handover.offer(folder, "old")
    handover.offer(folder, TOKEN)
    assert handover.take(folder) == TOKEN
