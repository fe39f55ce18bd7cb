"""The download against every fault, killed at any moment, at several endpoints; what it leaves behind."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest
from huggingface_hub import HfApi, constants

from lib import hub
from lib.errors import AppError, HubError, WorkspaceError
from lib.hub.hashes import LARGE
from lib.hub.route import KEPT
from tests.fakehub import FakeHub

ROOT = Path(__file__).resolve().parent.parent
REPO = "Conard/fortune-telling"
REF = hub.Ref(REPO)
SECRET = "hf_SECRETsecretSECRET"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


@pytest.fixture
def mirror() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


BIG = noise(1_200_000)
# Of three sizes, so that one worker takes them in this order.
FILES = {"big.parquet": BIG, "data/middle.parquet": noise(300_000, 2), "last.parquet": noise(90_000, 3)}
SMALL = {"README.md": b"# Tea\n", "empty.txt": b""}


def listed(fake: FakeHub, **how: Any) -> hub.Listing:
    return hub.list_files(REF, fake.url, **how)


def fetch(listing: hub.Listing, folder: Path, **how: Any) -> list[hub.Progress]:
    """Download all that is listed; return what was told on the way."""
    told: list[hub.Progress] = []
    how = {"pause": 0.01, "timeout": 5, "progress": told.append, **how}
    hub.download(listing, how.pop("files", listing.files), folder, **how)
    return told


def error_of(call: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as caught:
        call()
    return caught.value


def there(folder: Path) -> dict[str, bytes]:
    """Return every file that is not ours."""
    found = (path for path in folder.rglob("*") if path.is_file() and ".hub" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def left_over(folder: Path) -> list[str]:
    """Return what only an unfinished download has."""
    own = [path.name for path in (folder / ".hub").iterdir() if path.name not in ("lock", "manifest.json")]
    return own + [path.name for path in folder.rglob("*.part")]


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


# Every fault, at the first byte of the first file, in the middle, at the last byte of the last file

PLACES = {
    "first": ("big.parquet", 0),
    "middle": ("data/middle.parquet", 150_000),
    "last": ("last.parquet", 89_999),
}
FAULTS: dict[str, dict[str, Any]] = {
    "reset": {"kind": "reset"},
    "truncate": {"kind": "truncate"},
    "stall": {"kind": "stall"},
    "no_range": {"kind": "no_range"},
    "no_length": {"kind": "no_length"},
    "429": {"kind": "status", "status": 429, "retry_after": 1},
    "503": {"kind": "status", "status": 503},
    "expired link": {"kind": "status", "status": 403},
    "corrupt": {"kind": "corrupt"},
    "silent": {"kind": "silent"},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_survived_wherever_it_strikes(
    fake: FakeHub, tmp_path: Path, fault: str, place: str
) -> None:
    commit = fake.add_repo(REPO, FILES)
    name, at = PLACES[place]
    listing = listed(fake)
    [file] = [one for one in listing.files if one.path == name]
    if fault == "no_range":
        at = max(at, 1)  # from the first byte on nobody asks for a range
    how = FAULTS[fault] | {"at": at}
    stored, home = f"{file.sha256}/{name}", f"{commit}/{name}"
    if how["kind"] not in ("reset", "truncate", "stall", "corrupt") and at:
        fake.fault(stored, "reset", at=at)  # it comes when the beginning is there
        error_of(lambda: fetch(listing, tmp_path, workers=1, tries=1))
        assert (tmp_path / f"{name}.part").stat().st_size == at
    fake.fault(home if fault in ("429", "503") else stored, **how)
    if fault == "no_length":
        fake.fault(stored, "truncate", at=max(at, 10))
    told = fetch(listing, tmp_path, workers=1, timeout=0.4)
    assert there(tmp_path) == FILES
    assert not left_over(tmp_path)
    assert not [planned for planned in fake.faults if planned.times], "every fault has struck"
    sent, once = fake.sent(stored), file.size
    if fault == "corrupt":
        assert sent == 2 * once
        assert "corrupt" in {one.what for one in told[-1].told}
    elif fault == "no_range":
        assert sent == at + once
    else:
        assert once <= sent <= 1.01 * once
    whole = sum(map(len, FILES.values()))
    assert fake.sent("/cdn/") - sent == whole - once, "the other files come once"


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_a_link_cut_every_few_bytes_costs_at_most_a_hundredth_more(
    fake: FakeHub, tmp_path: Path, kind: str
) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault("/cdn/", kind, each=50_000, times=40)
    fetch(listed(fake), tmp_path)
    assert there(tmp_path) == FILES
    whole = sum(map(len, FILES.values()))
    assert whole <= fake.sent("/cdn/") <= 1.01 * whole


def test_a_large_file_is_checked_while_it_comes_and_a_wrong_byte_in_it_is_found(
    fake: FakeHub, tmp_path: Path
) -> None:
    data = noise(LARGE + 300_000, 5)
    fake.add_repo(REPO, {"big.parquet": data})
    fake.fault("/cdn/", "reset", at=LARGE // 2)
    fake.fault("/cdn/", "corrupt", at=LARGE, times=2)  # the first try does not get so far
    fetch(listed(fake), tmp_path)
    assert there(tmp_path) == {"big.parquet": data}
    assert fake.sent("/cdn/") == 2 * len(data)


def test_a_beginning_with_wrong_bytes_is_thrown_away_at_the_end(fake: FakeHub, tmp_path: Path) -> None:
    data = noise(LARGE + 300_000, 5)
    fake.add_repo(REPO, {"big.parquet": data})
    fake.fault("/cdn/", "reset", at=LARGE)
    error_of(lambda: fetch(listed(fake), tmp_path, tries=1))
    part = tmp_path / "big.parquet.part"
    part.write_bytes(bytes(4096) + data[4096:LARGE])  # what a power cut can leave
    fetch(listed(fake), tmp_path)
    assert there(tmp_path) == {"big.parquet": data}
    assert not left_over(tmp_path)


def test_many_small_files_use_few_connections(fake: FakeHub, tmp_path: Path) -> None:
    files = {f"{n % 5}/{n}.json": noise(900, n) for n in range(60)}
    fake.add_repo(REPO, files)
    listing = listed(fake)
    before = fake.connections
    told = fetch(listing, tmp_path)
    assert there(tmp_path) == files
    assert fake.connections - before <= 8
    assert max(len(one.fetching) for one in told) <= 8


# Several endpoints


def both(fake: FakeHub, mirror: FakeHub, files: dict[str, bytes]) -> hub.Listing:
    assert fake.add_repo(REPO, files) == mirror.add_repo(REPO, files)
    return listed(fake)


def switches(told: list[hub.Progress]) -> list[str]:
    return [one.endpoint for one in told[-1].told if one.what == "switch"]


def test_what_one_endpoint_began_another_finishes_at_the_same_byte(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path
) -> None:
    listing = both(fake, mirror, {"big.parquet": BIG})
    fake.fault("/cdn/", "reset", at=700_000, times=None)  # and it never gets further
    told = fetch(listing, tmp_path, others=[mirror.url])
    assert there(tmp_path) == {"big.parquet": BIG}
    [seen] = mirror.asked("/cdn/")
    assert seen.headers["range"] == "bytes=700000-"
    assert f"/resolve/{listing.commit}/" in mirror.asked("/resolve/")[0].path
    assert (len(fake.asked("/cdn/")), fake.sent("/cdn/") + mirror.sent("/cdn/")) == (3, len(BIG))
    assert switches(told) == [mirror.url]
    assert told[-1].endpoint == mirror.url
    there_too = HfApi(endpoint=mirror.url, token=False).verify_repo_checksums(
        REPO, repo_type="dataset", local_dir=tmp_path
    )
    assert (there_too.checked_count, there_too.mismatches) == (1, [])


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        ({"kind": "status", "status": 503}, "hub.server_error"),
        ({"kind": "status", "status": 400}, "hub.server_error"),
        ({"kind": "status", "status": 429, "retry_after": 7200}, "hub.rate_limited"),
        ({"kind": "status", "status": 429, "retry_after": 60}, "hub.rate_limited"),
        ({"kind": "status", "status": 404, "code": "EntryNotFound"}, "hub.file_not_found"),
        ({"kind": "status", "status": 403}, "hub.forbidden"),
        ({"kind": "html"}, "hub.not_a_hub"),
        ({"kind": "bounce"}, "hub.bounced"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_that_lasts_sends_all_to_the_next_endpoint_at_once(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path, fault: dict[str, Any], key: str
) -> None:
    listing = both(fake, mirror, {f"{n}.json": noise(900, n) for n in range(20)})
    if fault["kind"] == "bounce":
        fault = fault | {"to": f"http://localhost:{dead_port()}"}
    fake.fault("/resolve/", times=None, **fault)
    began = time.monotonic()
    told = fetch(listing, tmp_path, others=[mirror.url], workers=2, pause=30)
    assert time.monotonic() - began < 10, "nobody has paused"
    assert len(there(tmp_path)) == 20
    assert 1 <= len(fake.asked("/resolve/")) <= 2, "each worker asks there once at most"
    assert (switches(told), told[-1].told[0].key) == ([mirror.url], key)


@pytest.mark.parametrize("address", ["http://no-such-host.invalid", "http://127.0.0.1:{port}"])
def test_an_endpoint_that_cannot_be_reached_is_left_at_once(
    mirror: FakeHub, tmp_path: Path, address: str
) -> None:
    mirror.add_repo(REPO, FILES)
    listing = replace(listed(mirror), endpoint=address.format(port=dead_port()))
    told = fetch(listing, tmp_path, others=[mirror.url], pause=30)
    assert there(tmp_path) == FILES
    assert switches(told) == [mirror.url]


def test_after_the_last_endpoint_the_first_is_asked_again(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path
) -> None:
    listing = both(fake, mirror, {"big.parquet": BIG})
    fake.fault("/resolve/", "drop", times=3)
    mirror.fault("/cdn/", "reset", at=500_000, times=None)
    told = fetch(listing, tmp_path, others=[mirror.url])
    assert there(tmp_path) == {"big.parquet": BIG}
    assert switches(told) == [mirror.url, fake.url]
    assert fake.asked("/cdn/")[-1].headers["range"] == "bytes=500000-"
    assert fake.sent("/cdn/") + mirror.sent("/cdn/") == len(BIG)


def test_a_file_fails_when_its_tries_are_used_up_everywhere(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path
) -> None:
    listing = both(fake, mirror, {"big.parquet": BIG})
    fake.fault("/resolve/", "drop", times=None)
    mirror.fault("/resolve/", "drop", times=None)
    error = error_of(lambda: fetch(listing, tmp_path, others=[mirror.url], tries=4))
    assert (error.key, error.facts["why"]) == ("hub.no_connection", "reset")
    assert (len(fake.asked("/resolve/")), len(mirror.asked("/resolve/"))) == (4, 4)


def test_what_an_endpoint_refuses_for_good_is_not_asked_there_again(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path
) -> None:
    listing = both(fake, mirror, {"big.parquet": BIG})
    fake.fault("/resolve/", "status", status=404, code="EntryNotFound", times=None)
    mirror.fault("/resolve/", "drop", times=None)
    error = error_of(lambda: fetch(listing, tmp_path, others=[mirror.url], tries=5))
    assert (error.key, error.facts["endpoint"]) == ("hub.no_connection", mirror.url)
    assert (len(fake.asked("/resolve/")), len(mirror.asked("/resolve/"))) == (1, 5)


def test_wrong_bytes_are_fetched_from_another_endpoint(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path
) -> None:
    listing = both(fake, mirror, {"big.parquet": BIG})
    fake.fault("/cdn/", "corrupt", at=5, times=None)
    told = fetch(listing, tmp_path, others=[mirror.url])
    assert there(tmp_path) == {"big.parquet": BIG}
    assert [one.what for one in told[-1].told] == ["corrupt", "switch"]
    assert (fake.sent("/cdn/"), mirror.sent("/cdn/")) == (len(BIG), len(BIG))


def test_a_server_that_asks_for_a_short_wait_is_not_left(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path
) -> None:
    listing = both(fake, mirror, FILES)
    fake.fault("/resolve/", "status", status=429, retry_after=1)
    told = fetch(listing, tmp_path, others=[mirror.url])
    [wait] = told[-1].told
    assert (wait.what, wait.seconds, wait.endpoint) == ("wait", 1, fake.url)
    assert not mirror.log


def test_what_is_the_same_everywhere_ends_at_once(fake: FakeHub, mirror: FakeHub, tmp_path: Path) -> None:
    listing = both(fake, mirror, FILES)
    fake.bps = 1_000_000
    error = error_of(lambda: fetch(listing, tmp_path, others=[mirror.url], stop=lambda: True))
    assert error.key == "hub.stopped"
    huge = [hub.RemoteFile("huge.bin", 1 << 60)]
    with pytest.raises(WorkspaceError):
        fetch(listing, tmp_path, files=huge, others=[mirror.url])
    assert not mirror.log


@pytest.mark.parametrize("anywhere", [False, True])
def test_the_token_goes_to_the_endpoints_the_visitor_said_and_to_no_storage_host(
    fake: FakeHub, mirror: FakeHub, tmp_path: Path, anywhere: bool
) -> None:
    fake.tokens.add(SECRET)
    mirror.tokens.add(SECRET)
    listing = both(fake, mirror, FILES)
    fake.fault("/cdn/", "reset", at=700_000, times=None)
    told = fetch(listing, tmp_path, others=[mirror.url], token=SECRET, anywhere=anywhere)
    for seen in (*fake.asked("/resolve/"), *mirror.asked("/resolve/")):
        assert (seen.headers.get("authorization") == f"Bearer {SECRET}") is anywhere
    assert fake.asked("/cdn/")
    assert mirror.asked("/cdn/")
    for seen in (*fake.asked("/cdn/"), *mirror.asked("/cdn/")):
        assert "authorization" not in seen.headers
    kept = b"".join(path.read_bytes() for path in (tmp_path / ".hub").iterdir())
    assert SECRET.encode() not in kept
    assert SECRET not in repr(told)


# Progress


def test_progress_names_the_files_in_flight_and_where_they_come_from(tmp_path: Path) -> None:
    with FakeHub(bps=1_500_000) as fake:
        fake.add_repo(REPO, FILES | SMALL)
        told = fetch(listed(fake), tmp_path)
        flying = [one for progress in told for one in progress.fetching if one.path == "big.parquet"]
        done = [one.done for one in flying]
        assert len(set(done)) > 1
        assert done == sorted(done)
        assert {one.size for one in flying} == {len(BIG)}
        assert {one.endpoint for one in told} == {fake.url}
        assert not told[-1].fetching


def test_what_happened_is_told_in_order_and_only_the_last_of_it(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault("/cdn/", "reset", each=18_000, times=60)
    told = fetch(listed(fake), tmp_path, pause=0)
    events = told[-1].told
    assert told[-1].retries == 60
    assert len(events) == KEPT
    assert [one.at for one in events] == sorted(one.at for one in events)
    assert {(one.what, one.key, one.file) for one in events} == {
        ("retry", "hub.no_connection", "big.parquet")
    }
    assert len(orjson.dumps(asdict(told[-1]))) < 12_000, "it is written into a job's folder again and again"


# What is left behind


def test_the_manifest_says_what_is_here_and_where_from(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES | SMALL, license="mit")
    listing = listed(fake)
    chosen = [file for file in listing.files if file.path.endswith(".parquet")]
    fetch(listing, tmp_path, files=chosen, token=SECRET)
    told = json.loads((tmp_path / ".hub" / "manifest.json").read_text(encoding="utf-8"))
    about = {"site": "hub", "repo": REPO, "kind": "dataset", "revision": "main", "license": "mit"}
    about |= {"commit": listing.commit, "endpoint": fake.url}
    assert {key: told[key] for key in about} == about
    rows = {row["path"]: row for row in told["files"]}
    assert {path for path, row in rows.items() if row["here"]} == set(FILES)
    assert set(rows) == {*FILES, *SMALL}
    assert rows["big.parquet"]["size"] == len(BIG)
    assert rows["big.parquet"]["sha256"]
    assert rows["README.md"]["git_sha1"]
    assert not left_over(tmp_path)
    assert hub.finished(tmp_path, REF) == listing


def test_a_second_run_asks_the_network_once_and_fetches_nothing(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES | SMALL)
    fetch(listed(fake), tmp_path)
    fake.log.clear()
    known = hub.finished(tmp_path, REF)
    listing = listed(fake, known=known)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "lock"}
    told = fetch(listing, tmp_path)
    assert listing == known
    assert [seen.path for seen in fake.log] == [f"/api/datasets/{REPO}/revision/main"]
    assert (told[-1].done, told[-1].files_done) == (listing.size, len(listing.files))
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "lock"}


def test_a_finished_download_is_checked_by_its_hashes(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES | SMALL)
    listing = listed(fake)
    fetch(listing, tmp_path)
    path = tmp_path / "last.parquet"
    before = path.stat()
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    known = hub.finished(tmp_path, REF)
    assert known
    fake.log.clear()
    fetch(known, tmp_path)
    assert there(tmp_path) == FILES | SMALL
    assert {seen.path.rpartition("/")[2] for seen in fake.log} == {"last.parquet"}


def test_after_a_push_the_repository_is_listed_anew_and_only_what_changed_is_fetched(
    fake: FakeHub, tmp_path: Path
) -> None:
    fake.add_repo(REPO, FILES | SMALL)
    fetch(listed(fake), tmp_path)
    files = FILES | SMALL | {"README.md": b"# Coffee\n"}
    commit = fake.add_repo(REPO, files)
    fake.log.clear()
    listing = listed(fake, known=hub.finished(tmp_path, REF))
    fetch(listing, tmp_path)
    assert there(tmp_path) == files
    assert not fake.asked("/cdn/")
    now = hub.finished(tmp_path, REF)
    assert now
    assert now.commit == listing.commit == commit


def test_what_is_listed_of_another_repository_is_not_taken_for_this_one(
    fake: FakeHub, tmp_path: Path
) -> None:
    fake.add_repo(REPO, FILES)
    fake.add_repo("a/b", FILES)
    assert fake.repos["dataset", REPO].revisions != fake.repos["dataset", "a/b"].revisions
    fake.repos["dataset", "a/b"] = replace(fake.repos["dataset", REPO], id="a/b")
    fetch(listed(fake), tmp_path)
    known = hub.finished(tmp_path, REF)
    fake.log.clear()
    assert hub.list_files(hub.Ref("a/b"), fake.url, known=known).ref == hub.Ref("a/b")
    assert fake.asked("/tree/")


def test_a_folder_is_finished_only_with_all_its_files_and_no_beginnings(
    fake: FakeHub, tmp_path: Path
) -> None:
    fake.add_repo(REPO, FILES | SMALL)
    assert hub.finished(tmp_path, REF) is None
    fake.fault("/cdn/", "reset", at=700_000, times=None)
    error_of(lambda: fetch(listed(fake), tmp_path, tries=1))
    assert hub.finished(tmp_path, REF) is None
    fake.faults.clear()
    listing = listed(fake)
    fetch(listing, tmp_path)
    assert hub.finished(tmp_path, REF) == listing
    pointed = replace(REF, path="data")
    assert hub.finished(tmp_path, pointed) == replace(listing, ref=pointed)
    assert hub.finished(tmp_path, replace(REF, revision=listing.commit))
    for other in (hub.Ref("a/b"), replace(REF, kind="model"), replace(REF, revision="dev")):
        assert hub.finished(tmp_path, other) is None
    (tmp_path / "README.md").unlink()
    assert hub.finished(tmp_path, REF) is None
    fetch(listing, tmp_path)
    for mangled in (b"", b"[]", b"{}", b'{"files": [1]}', b'{"files": [{"here": true}]}'):
        (tmp_path / ".hub" / "manifest.json").write_bytes(mangled)
        assert hub.finished(tmp_path, REF) is None
    fetch(listing, tmp_path)
    assert hub.finished(tmp_path, REF) == listing


def test_files_chosen_later_are_added_to_the_manifest(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES | SMALL)
    listing = listed(fake)
    fetch(listing, tmp_path, files=[file for file in listing.files if file.path == "big.parquet"])
    fake.fault("last.parquet", "reset", at=400)
    error_of(
        lambda: fetch(listing, tmp_path, files=[one for one in listing.files if "last" in one.path], tries=1)
    )
    assert hub.finished(tmp_path, REF) is None
    fetch(listing, tmp_path, files=[file for file in listing.files if file.path == "README.md"])
    assert hub.finished(tmp_path, REF) is None, "the beginning of another file is kept"
    assert (tmp_path / "last.parquet.part").stat().st_size == 400
    fetch(listing, tmp_path, files=[file for file in listing.files if "last" in file.path])
    assert fake.asked("/cdn/")[-1].headers["range"] == "bytes=400-"
    assert hub.finished(tmp_path, REF) == listing
    told = json.loads((tmp_path / ".hub" / "manifest.json").read_bytes())
    here = {row["path"] for row in told["files"] if row["here"]}
    assert here == {"big.parquet", "README.md", "last.parquet"}


# Other processes

# Loads the library once, then downloads in forked children: a kill costs nothing else.
FORKER = """
import json, os, resource, sys
from pathlib import Path
from lib import hub
print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if "wait" in asked:
        print(os.waitstatus_to_exitcode(os.waitpid(asked["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child:
        print(child, flush=True)
        continue
    try:
        listing = hub.Listing.from_json(asked["listing"])
        hub.download(listing, listing.files, Path(asked["folder"]), pause=0.01)
        if asked.get("peak"):
            [most] = [row for row in open("/proc/self/status") if row.startswith("VmHWM")]
            Path(asked["peak"]).write_text(most.split()[1])
        os._exit(0)
    finally:
        os._exit(1)
"""


class Forker:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", FORKER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.told() == "ready"

    def told(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def ask(self, **asked: Any) -> int:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return int(self.told())

    def start(self, listing: hub.Listing, folder: Path, peak: Path | None = None) -> int:
        return self.ask(listing=listing.as_json(), folder=str(folder), peak=peak and str(peak))

    def end(self, child: int) -> int:
        """Wait for a child; return its exit code."""
        return self.ask(wait=child)


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    if not hasattr(os, "fork"):
        pytest.skip("forks")
    made = Forker()
    yield made
    assert made.process.stdin
    assert made.process.stdout
    made.process.stdin.close()
    made.process.wait(10)
    made.process.stdout.close()


def test_a_download_killed_at_any_moment_goes_on_and_leaves_nothing_behind(
    forker: Forker, tmp_path: Path
) -> None:
    files = FILES | SMALL | {f"some/{n}.json": noise(3000, n) for n in range(12)}
    whole = sum(map(len, files.values()))
    random, killed, held_any = Random(20), 0, 0
    with FakeHub() as fake:
        fake.add_repo(REPO, files)
        listing = listed(fake)
        for number in range(20):
            folder = tmp_path / f"{number}"
            fake.log.clear()
            fake.bps = 2_500_000
            until, later = random.random() * whole, random.choice((0, 0.002, 0.02))
            child = forker.start(listing, folder)
            deadline = time.monotonic() + 20
            while fake.sent() < until:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(later)  # not only while bytes come
            os.kill(child, 9)
            killed += forker.end(child) == -9
            found = [path for path in folder.rglob("*.part") if path.parent.name != ".hub"]
            parts = {path: path.stat().st_size for path in found}
            fake.log.clear()
            fake.bps = None
            fetch(listing, folder)
            assert there(folder) == files, f"kill {number}"
            assert not left_over(folder), f"kill {number}"
            assert hub.finished(folder, REF) == listing
            for path, held in parts.items():
                if 0 < held < path.with_suffix("").stat().st_size:
                    asked = [seen for seen in fake.log if seen.path.endswith(path.with_suffix("").name)]
                    assert {seen.headers.get("range") for seen in asked} == {f"bytes={held}-"}
                    held_any += 1
    assert killed >= 15
    assert held_any >= 10


def test_two_processes_in_one_folder_end_well_and_fetch_nothing_twice(forker: Forker, tmp_path: Path) -> None:
    files = FILES | SMALL
    with FakeHub(bps=3_000_000) as fake:
        fake.add_repo(REPO, files)
        listing = listed(fake)
        fake.log.clear()
        children = [forker.start(listing, tmp_path) for _ in range(2)]
        assert [forker.end(child) for child in children] == [0, 0]
        assert there(tmp_path) == files
        assert not left_over(tmp_path)
        whole = sum(map(len, FILES.values()))
        assert (fake.sent("/cdn/"), len(fake.asked("/cdn/"))) == (whole, len(FILES))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks the kernel for the most memory")
def test_a_large_file_takes_little_memory(forker: Forker, tmp_path: Path) -> None:
    source, piece = tmp_path / "source.bin", noise(1 << 20)
    with source.open("wb") as file:
        for number in range(300):
            file.write(number.to_bytes(4) + piece[4:])
    with FakeHub() as fake:
        fake.add_repo(REPO, {"huge.bin": source})
        folder, peak = tmp_path / "here", tmp_path / "peak"
        assert forker.end(forker.start(listed(fake), folder, peak)) == 0
        assert (folder / "huge.bin").stat().st_size == 300 << 20
        assert int(peak.read_text()) * 1024 < 150_000_000


def test_a_note_half_written_at_a_kill_is_swept(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    (tmp_path / ".hub").mkdir()
    (tmp_path / ".hub" / ".parts.json.123.abc.part").write_bytes(b"{")
    (tmp_path / ".hub" / "parts.json").write_bytes(b"{")
    fetch(listed(fake), tmp_path)
    assert not left_over(tmp_path)


def test_an_endpoint_that_is_no_address_is_refused_before_anything_is_asked(
    fake: FakeHub, tmp_path: Path
) -> None:
    fake.add_repo(REPO, FILES)
    listing = listed(fake)
    before = len(fake.log)
    error = error_of(lambda: fetch(listing, tmp_path, others=["ftp://nowhere"]))
    assert isinstance(error, HubError)
    assert (error.key, len(fake.log)) == ("hub.bad_endpoint", before)
