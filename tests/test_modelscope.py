"""ModelScope: what people paste of it, its lists, and the same download as from the Hub."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lib import hub, words
from lib.errors import AppError
from lib.hub.endpoint import endpoint_of
from tests.fakehub import FakeHub
from tests.fakescope import FakeScope

REPO = "org/tea"
REF = hub.Ref(REPO, "master", site="modelscope")
BIG = random.Random(1).randbytes(1_200_000)
FILES = {"README.md": b"# Tea\n", "data/\u8336 1.jsonl": b'{"a": 1}\n' * 9000, "big.parquet": BIG}
SECRET = "hf_SECRETsecretSECRET"


@pytest.fixture
def scope() -> Iterator[FakeScope]:
    with FakeScope() as server:
        yield server


def error_of(call: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as caught:
        call()
    return caught.value


def fetch(scope: FakeScope, folder: Path) -> Path:
    listing = hub.list_files(REF, scope.url)
    return hub.download(listing, listing.files, folder, pause=0.01, timeout=5)


def whole(folder: Path, files: dict[str, bytes]) -> bool:
    return all((folder / path).read_bytes() == data for path, data in files.items())


# What people paste


@pytest.mark.parametrize(
    ("text", "repo", "kind", "revision", "path"),
    [
        ("https://modelscope.cn/datasets/org/tea", REPO, "dataset", "master", ""),
        ("https://www.modelscope.cn/datasets/org/tea/summary", REPO, "dataset", "master", ""),
        ("www.modelscope.cn/datasets/org/tea/files", REPO, "dataset", "master", ""),
        ("https://modelscope.ai/datasets/org/tea/dataPeview", REPO, "dataset", "master", ""),
        ("modelscope.cn/models/Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "model", "master", ""),
        (
            "https://modelscope.cn/datasets/org/tea/file/view/master/data%2Fa.json?id=3&status=1",
            *(REPO, "dataset", "master", "data/a.json"),
        ),
        (
            "https://modelscope.cn/datasets/org/tea/file/view/v1?fileName=data/a.csv&status=2",
            *(REPO, "dataset", "v1", "data/a.csv"),
        ),
        (
            "https://www.modelscope.cn/datasets/org/tea/resolve/master/%E8%8C%B6.json",
            *(REPO, "dataset", "master", "\u8336.json"),
        ),
        ("https://modelscope.cn/datasets/org/tea/tree/v2/data", REPO, "dataset", "v2", "data"),
        (
            "https://modelscope.cn/api/v1/datasets/org/tea/repo?Revision=v1&FilePath=a%20b.json",
            *(REPO, "dataset", "v1", "a b.json"),
        ),
        (
            "\u5730\u5740\uff1ahttps://modelscope.cn/datasets/org/tea\uff0c\u70b9\u5f00",
            *(REPO, "dataset", "master", ""),
        ),
        ("git clone https://www.modelscope.cn/datasets/org/tea.git", REPO, "dataset", "master", ""),
        ("modelscope://org/tea", REPO, "dataset", "master", ""),
        ("modelscope:org/tea", REPO, "dataset", "master", ""),
        ("ms:org/tea@v1", REPO, "dataset", "v1", ""),
        ("MS::org/tea", REPO, "dataset", "master", ""),
        ("ms://models/Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "model", "master", ""),
        ("modelscope download --dataset org/tea --local_dir ./tea", REPO, "dataset", "master", ""),
        ("modelscope download --dataset=org/tea data/a.json", REPO, "dataset", "master", "data/a.json"),
        ("$ modelscope download --model 'Qwen/Qwen3-0.6B'", "Qwen/Qwen3-0.6B", "model", "master", ""),
        ("ms download org/tea --repo-type dataset --revision v1", REPO, "dataset", "v1", ""),
        (
            "modelscope download --local_dir x --dataset org/tea README.md",
            *(REPO, "dataset", "master", "README.md"),
        ),
        (
            "from modelscope.msdatasets import MsDataset\nds = MsDataset.load('org/tea', split='train')",
            *(REPO, "dataset", "master", ""),
        ),
        (
            "MsDataset.load('tea', namespace='org', version='v1')",
            *(REPO, "dataset", "v1", ""),
        ),
        ("MsDataset.load('tea')", "modelscope/tea", "dataset", "master", ""),
        (
            "from modelscope import snapshot_download\nsnapshot_download('Qwen/Qwen3-0.6B', revision='v1')",
            *("Qwen/Qwen3-0.6B", "model", "v1", ""),
        ),
        ("dataset_snapshot_download(dataset_id='org/tea')", REPO, "dataset", "master", ""),
        (
            "from modelscope import AutoModel\nAutoModel.from_pretrained('Qwen/Qwen3-0.6B')",
            *("Qwen/Qwen3-0.6B", "model", "master", ""),
        ),
    ],
)
def test_what_people_paste_of_modelscope_is_understood(
    text: str, repo: str, kind: str, revision: str, path: str
) -> None:
    assert hub.parse(text) == hub.Ref(repo, revision, kind, path, "modelscope")


@pytest.mark.parametrize(
    "text",
    [
        "org/tea",
        "snapshot_download('org/tea')",
        "hf download org/tea",
        "https://huggingface.co/datasets/modelscope/tea",
        "modelscope/tea",
    ],
)
def test_what_names_no_site_stays_the_hubs(text: str) -> None:
    assert hub.parse(text).site == "hub"


@pytest.mark.parametrize(
    "text",
    [
        "https://modelscope.cn/",
        "https://modelscope.cn/studios/org/tea",
        "https://modelscope.cn/datasets/org",
        "modelscope download",
        "modelscope download --dataset",
        "modelscope:org/a--b",
    ],
)
def test_what_is_no_repository_of_modelscope_is_refused(text: str) -> None:
    assert error_of(lambda: hub.parse(text)).key == "hub.bad_reference"


def test_where_only_the_hub_will_do_modelscope_is_named_as_another_site() -> None:
    error = error_of(lambda: hub.parse("modelscope.cn/models/Qwen/Qwen3-0.6B", "model", sites=("hub",)))
    assert error.key == "hub.other_site"
    assert "modelscope" in str(error.facts["site"])


def test_a_reference_knows_its_addresses_there() -> None:
    assert REF.page("https://x") == "https://x/datasets/org/tea"
    address = replace(REF, kind="model").file("https://x", "a/b", "d/\u8336 &.json")
    assert address == (
        "https://x/api/v1/models/org/tea/repo?Revision=a%2Fb&FilePath=d%2F%E8%8C%B6%20%26.json"
    )


def test_every_site_has_a_name_in_every_language_and_endpoints_of_its_own() -> None:
    endpoints = [endpoint for site in hub.SITES for endpoint in hub.SITES[site]]
    assert len(endpoints) == len(set(endpoints))
    for lang in words.languages():
        assert all(words.say(lang, f"site.{site}") for site in hub.SITES)


def test_an_endpoint_of_another_site_is_not_asked_in_this_ones_language() -> None:
    assert endpoint_of("modelscope", hub.ENDPOINTS[1]) == hub.SITES["modelscope"][0]
    assert endpoint_of("hub", "https://modelscope.cn") == hub.ENDPOINTS[0]
    assert endpoint_of("modelscope", "http://127.0.0.1:8000/") == "http://127.0.0.1:8000"


# Listing


def test_a_list_has_the_commit_the_licence_sizes_and_hashes(scope: FakeScope) -> None:
    commit = scope.add_repo(REPO, FILES, revision="master", license="Apache License 2.0")
    listing = hub.list_files(REF, scope.url)
    assert (listing.commit, listing.license) == (commit, "Apache License 2.0")
    assert {file.path: file.size for file in listing.files} == {
        path: len(data) for path, data in FILES.items()
    }
    assert all(len(file.sha256) == 64 for file in listing.files)
    assert hub.Listing.from_json(listing.as_json()) == listing


def test_a_list_in_pages_is_read_to_its_end(scope: FakeScope) -> None:
    scope.add_repo(REPO, {f"{n:03}.json": b"[]" for n in range(400)}, revision="master")
    assert len(hub.list_files(REF, scope.url).files) == 400
    assert len(scope.asked("/repo/tree")) == 3


def test_a_models_list_that_is_cut_is_read_folder_by_folder(scope: FakeScope) -> None:
    model = replace(REF, kind="model")
    names = [f"{folder}{n}.bin" for folder in ("", "a/", "a/b/", "c/") for n in range(1000)]
    scope.add_repo(REPO, dict.fromkeys(names, b"x"), kind="model", revision="master", lfs=())
    listing = hub.list_files(model, scope.url)
    assert sorted(file.path for file in listing.files) == sorted(names)
    full = {f"a/{n}.bin": b"x" for n in range(3001)}
    scope.add_repo(REPO, full, kind="model", revision="master", lfs=())
    error = error_of(lambda: hub.list_files(model, scope.url))
    assert (error.key, error.facts["folder"]) == ("hub.too_many_files", "a")


def test_a_list_that_names_no_commit_is_fetched_from_the_branch(scope: FakeScope, tmp_path: Path) -> None:
    scope.pinned = False
    scope.add_repo(REPO, FILES, revision="master")
    assert hub.list_files(REF, scope.url).commit == "master"
    assert whole(fetch(scope, tmp_path), FILES)


def test_a_list_that_is_known_costs_one_request(scope: FakeScope) -> None:
    scope.add_repo(REPO, {f"{n:03}.json": b"[]" for n in range(400)}, revision="master")
    known = hub.list_files(REF, scope.url)
    before = len(scope.log)
    assert hub.list_files(REF, scope.url, known=known) == known
    assert len(scope.log) == before + 1
    scope.add_repo(REPO, {"new.json": b"[]"}, revision="master")
    assert [file.path for file in hub.list_files(REF, scope.url, known=known).files] == ["new.json"]


def test_a_licence_that_cannot_be_asked_for_is_no_reason_to_fail(scope: FakeScope) -> None:
    scope.add_repo(REPO, FILES, revision="master", license="MIT")
    scope.fault("/openapi/", "html")
    assert hub.list_files(REF, scope.url).license == ""


def test_a_later_page_that_is_refused_for_no_reason_is_asked_for_again(scope: FakeScope) -> None:
    scope.add_repo(REPO, {f"{n:03}.json": b"[]" for n in range(400)}, revision="master")
    held = scope.fault("/repo/tree", "status", status=403, times=0)
    answer = scope.meet

    def after_the_first(*asked: object) -> object:
        held.times = 2 if len(scope.asked("/repo/tree")) == 2 else held.times
        return answer(*asked)  # type: ignore[arg-type]

    scope.meet = after_the_first  # type: ignore[method-assign, assignment]
    assert len(hub.list_files(REF, scope.url).files) == 400
    assert [seen.status for seen in scope.asked("/repo/tree")] == [200, 403, 403, 200, 200]


@pytest.mark.parametrize("business", [False, True])
def test_what_modelscope_refuses_is_named(scope: FakeScope, business: bool) -> None:
    scope.business = business
    asked = lambda: hub.list_files(REF, scope.url)  # noqa: E731
    assert error_of(asked).key == "hub.not_on_modelscope"
    scope.add_repo(REPO, FILES, revision="master", private=True)
    assert error_of(asked).key == "hub.not_on_modelscope"
    scope.add_repo(REPO, FILES, revision="master", gated=True)
    error = error_of(asked)
    assert (error.key, error.facts["page"]) == ("hub.modelscope_refused", f"{scope.url}/datasets/{REPO}")
    scope.add_repo(REPO, FILES, revision="master")
    gone = error_of(lambda: hub.list_files(replace(REF, revision="v9"), scope.url))
    assert gone.key in ("hub.revision_not_found", "hub.not_on_modelscope")
    assert gone.key == "hub.revision_not_found" or not business
    scope.add_repo(REPO, {}, revision="master")
    assert error_of(asked).key == "hub.no_files"


@pytest.mark.parametrize(
    ("kind", "how", "key"),
    [
        ("html", {}, "hub.not_a_hub"),
        ("json", {}, "hub.not_a_hub"),
        ("drop", {}, "hub.no_connection"),
        ("status", {"status": 503}, "hub.server_error"),
        ("status", {"status": 429, "retry_after": 7}, "hub.rate_limited"),
    ],
)
def test_what_a_network_does_to_a_list_is_told_as_for_the_hub(
    scope: FakeScope, kind: str, how: dict[str, int], key: str
) -> None:
    scope.add_repo(REPO, FILES, revision="master")
    scope.fault("@api", kind, times=None, **how)
    error = error_of(lambda: hub.list_files(REF, scope.url, timeout=5))
    assert (error.key, error.facts["other"]) == (key, "modelscope.cn")


def test_a_silent_site_is_given_up_in_time(scope: FakeScope) -> None:
    scope.fault("@api", "silent", times=None)
    assert error_of(lambda: hub.list_files(REF, scope.url, timeout=0.5)).key == "hub.timeout"


def test_a_hub_is_not_mistaken_for_modelscope() -> None:
    with FakeHub() as fake:
        fake.add_repo(REPO, FILES)
        assert error_of(lambda: hub.list_files(REF, fake.url)).key in (
            "hub.not_a_hub",
            "hub.not_on_modelscope",
        )


# Download


def test_files_of_modelscope_arrive_whole(scope: FakeScope, tmp_path: Path) -> None:
    scope.add_repo(REPO, FILES, revision="master")
    assert whole(fetch(scope, tmp_path), FILES)


@pytest.mark.parametrize("part", [200, 206])
@pytest.mark.parametrize("name", ["data/\u8336 1.jsonl", "big.parquet"])
def test_a_download_that_broke_goes_on_at_the_byte(
    scope: FakeScope, tmp_path: Path, name: str, part: int
) -> None:
    scope.part = part
    scope.add_repo(REPO, {name: FILES[name]}, revision="master")
    middle = len(FILES[name]) // 2
    scope.fault(name, "reset", at=middle)
    assert whole(fetch(scope, tmp_path), {name: FILES[name]})
    ranges = [seen.headers.get("range") for seen in scope.log if seen.sent]
    assert f"bytes={middle}-" in ranges
    assert scope.sent(name) == len(FILES[name])


def test_a_range_that_is_ignored_costs_time_but_no_byte(scope: FakeScope, tmp_path: Path) -> None:
    name = "data/\u8336 1.jsonl"
    scope.add_repo(REPO, {name: FILES[name]}, revision="master")
    scope.fault(name, "reset", at=40_000)
    scope.fault(name, "no_range", times=None)
    assert whole(fetch(scope, tmp_path), {name: FILES[name]})


def test_bytes_that_were_changed_on_the_way_are_found(scope: FakeScope, tmp_path: Path) -> None:
    scope.add_repo(REPO, FILES, revision="master")
    scope.fault("README.md", "corrupt", at=2, times=None)
    assert error_of(lambda: fetch(scope, tmp_path)).key == "hub.corrupt"
    assert not (tmp_path / "README.md").exists()


@pytest.mark.parametrize("told", [3, 600])
def test_a_list_that_lies_about_a_size_is_found_out(scope: FakeScope, tmp_path: Path, told: int) -> None:
    scope.add_repo(REPO, {"README.md": b"# Tea\n"}, revision="master")
    scope.lies["README.md"] = told
    assert error_of(lambda: fetch(scope, tmp_path)).key == "hub.corrupt"
    assert not (tmp_path / "README.md").exists()


def test_a_file_that_is_gone_since_it_was_listed_is_named(scope: FakeScope, tmp_path: Path) -> None:
    scope.add_repo(REPO, FILES, revision="master")
    listing = hub.list_files(REF, scope.url)
    error = error_of(lambda: hub.download(listing, [hub.RemoteFile("gone.json", 3)], tmp_path, pause=0.01))
    assert (error.key, error.facts["file"]) == ("hub.file_not_found", "gone.json")


def test_modelscope_never_sees_the_token(scope: FakeScope, tmp_path: Path) -> None:
    scope.add_repo(REPO, FILES, revision="master")
    for anywhere in (False, True):
        listing = hub.list_files(REF, scope.url, token=SECRET, anywhere=anywhere)
        hub.download(listing, listing.files, tmp_path / str(anywhere), token=SECRET, anywhere=anywhere)
    assert scope.log
    assert all("authorization" not in seen.headers for seen in scope.log)
