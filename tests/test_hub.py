"""The Hub: what people paste, what a server can do to us, and the download that gets there all the same."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from huggingface_hub import HfApi, constants, snapshot_download

from lib import hub
from lib.errors import AppError, HubError, WorkspaceError
from lib.hub import endpoint as endpoints
from lib.hub.failures import Asked, retry_after
from tests.fakehub import FakeHub

REPO = "Conard/fortune-telling"
REF = hub.Ref(REPO)
SECRET = "hf_SECRETsecretSECRET"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that look different everywhere, the same at every run."""
    import random

    return random.Random(seed).randbytes(size)


BIG = noise(1_200_000)
FILES = {"README.md": b"# Tea\n", "data/train.json": noise(40_000, 2), "big.parquet": BIG, "empty.txt": b""}


def listed(fake: FakeHub, **more: Any) -> hub.Listing:
    return hub.list_files(REF, fake.url, **more)


def fetch(fake: FakeHub, folder: Path, only: str = "", **how: Any) -> Path:
    listing = listed(fake)
    files = [file for file in listing.files if only in file.path]
    return hub.download(listing, files, folder, **({"pause": 0.01, "timeout": 5} | how))


def error_of(call: Callable[[], object]) -> AppError:
    with pytest.raises(AppError) as caught:
        call()
    return caught.value


def chain(error: BaseException | None) -> str:
    """Everything an exception would show in a log, its causes too."""
    told = ""
    while error is not None:
        told += f"{error!r} {error} "
        error = error.__cause__ or error.__context__
    return told


# What people paste


@pytest.mark.parametrize(
    ("text", "repo", "kind", "revision", "path"),
    [
        ("Conard/fortune-telling", REPO, "dataset", "main", ""),
        ("datasets/Conard/fortune-telling/", REPO, "dataset", "main", ""),
        ("models/Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "model", "main", ""),
        ("squad", "squad", "dataset", "main", ""),
        ("a/b@v1.0", "a/b", "dataset", "v1.0", ""),
        ("a/b/data/c.json", "a/b", "dataset", "main", "data/c.json"),
        (" \u3000\ufeffConard/fortune-telling\u3002\n", REPO, "dataset", "main", ""),
        ("\u300aConard/fortune-telling\u300b", REPO, "dataset", "main", ""),
        ("\u201cConard/fortune-telling\u201d\uff0c", REPO, "dataset", "main", ""),
        ("\uff23\uff4f\uff4e\uff41\uff52\uff44\uff0ffortune-telling", REPO, "dataset", "main", ""),
        (
            "hf://datasets/a/b@refs/convert/parquet/x/0.parquet",
            "a/b",
            "dataset",
            "refs/convert/parquet",
            "x/0.parquet",
        ),
        ("hf://a/b", "a/b", "model", "main", ""),
        (f"https://huggingface.co/datasets/{REPO}", REPO, "dataset", "main", ""),
        (f"https://huggingface.co/datasets/{REPO}/viewer/default/train?row=3", REPO, "dataset", "main", ""),
        (f"https://hf-mirror.com/datasets/{REPO}/tree/main/data/", REPO, "dataset", "main", "data"),
        (
            "https://hf-mirror.com/datasets/a/b/blob/dev/%E6%95%B0%E6%8D%AE.json",
            "a/b",
            "dataset",
            "dev",
            "\u6570\u636e.json",
        ),
        (
            "hf-mirror.com/datasets/a/b/resolve/main/a%20b.json?download=true",
            "a/b",
            "dataset",
            "main",
            "a b.json",
        ),
        ("https://huggingface.co/datasets/a/b/tree/refs%2Fpr%2F1/x", "a/b", "dataset", "refs/pr/1", "x"),
        (
            "https://huggingface.co/datasets/a/b/tree/refs/convert/parquet",
            "a/b",
            "dataset",
            "refs/convert/parquet",
            "",
        ),
        ("https://huggingface.co/datasets/squad/viewer", "squad", "dataset", "main", ""),
        ("https://huggingface.co/datasets/a/b#dataset-card", "a/b", "dataset", "main", ""),
        ("https://huggingface.co/datasets/a/b/discussions/3", "a/b", "dataset", "main", ""),
        ("https://huggingface.co/Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "model", "main", ""),
        ("https://hf.co/gpt2/tree/main", "gpt2", "model", "main", ""),
        ("https://huggingface.co/api/datasets/a/b/revision/main", "a/b", "dataset", "main", ""),
        ("http://127.0.0.1:8000/datasets/a/b", "a/b", "dataset", "main", ""),
        (
            f"\u6570\u636e\u96c6\u5730\u5740\uff1ahttps://huggingface.co/datasets/{REPO}\uff0c\u70b9\u5f00\u5c31\u80fd\u770b",
            REPO,
            "dataset",
            "main",
            "",
        ),
        (
            f"huggingface-cli download --repo-type dataset --resume-download {REPO} --local-dir tea",
            *(REPO, "dataset", "main", ""),
        ),
        (
            "hf download --repo-type=dataset a/b \\\n  --revision dev --include '*.json'",
            "a/b",
            "dataset",
            "dev",
            "",
        ),
        ("huggingface\u2013cli download \u2014repo-type model a/b", "a/b", "model", "main", ""),
        (
            "$ HF_ENDPOINT=https://hf-mirror.com hf download a/b config.json",
            "a/b",
            "dataset",
            "main",
            "config.json",
        ),
        ("export X=1\nhf download hf://datasets/a/b --quiet\npython train.py", "a/b", "dataset", "main", ""),
        ("./hfd.sh a/b --dataset --tool aria2c -x 4", "a/b", "dataset", "main", ""),
        ("git clone https://huggingface.co/datasets/a/b.git", "a/b", "dataset", "main", ""),
        ("git@hf.co:datasets/a/b", "a/b", "dataset", "main", ""),
        ("ds = load_dataset('a/b', revision=\"x\")", "a/b", "dataset", "x", ""),
        ('AutoModel.from_pretrained("Qwen/Qwen3-0.6B")', "Qwen/Qwen3-0.6B", "model", "main", ""),
        ("snapshot_download(repo_id='a/b', repo_type='model')", "a/b", "model", "main", ""),
    ],
)
def test_what_people_paste_is_understood(text: str, repo: str, kind: str, revision: str, path: str) -> None:
    assert hub.parse(text) == hub.Ref(repo, revision, kind, path)


def test_a_bare_id_is_of_the_kind_that_was_asked_for() -> None:
    assert hub.parse("Qwen/Qwen3-0.6B", "model").kind == "model"
    assert hub.parse("hf download Qwen/Qwen3-0.6B", "model").kind == "model"
    assert hub.parse("datasets/a/b", "model").kind == "dataset"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "a--b/c",
        "../../etc",
        "/home/me/data.json",
        "C:\\data\\x.json",
        "it's a/b",
        "datasets",
        "hf download",
        "https://huggingface.co/",
        "https://huggingface.co/datasets",
        "https://huggingface.co/spaces/a/b",
        "a b/c d",
        "https://",
        "http://[",
        "load_dataset()",
        "hf download --repo-type space a/b",
        "\u6211\u7684\u6570\u636e\u96c6",
        "x" * 500,
    ],
)
def test_what_is_no_repository_is_refused(text: str) -> None:
    error = error_of(lambda: hub.parse(text))
    assert error.key == "hub.bad_reference"
    assert len(str(error.facts["text"])) <= 80


@pytest.mark.parametrize("address", ["https://www.kaggle.com/datasets/a/b", "https://github.com/a/b"])
def test_another_site_is_named(address: str) -> None:
    error = error_of(lambda: hub.parse(address))
    assert error.key == "hub.other_site"
    assert str(error.facts["site"]) in address


@pytest.mark.parametrize(
    "text",
    [
        f"hf download --token {SECRET}",
        f"https://me:{SECRET}@huggingface.co/!",
        f"hf download --token={SECRET} !",
    ],
)
def test_a_pasted_token_is_not_repeated(text: str) -> None:
    assert "SECRET" not in chain(error_of(lambda: hub.parse(text)))


def test_a_reference_knows_its_addresses() -> None:
    assert REF.page("https://hf-mirror.com") == "https://hf-mirror.com/datasets/Conard/fortune-telling"
    model = hub.Ref("a/b", kind="model")
    assert model.file("http://x", "refs/pr/1", "\u6570 #.json") == (
        "http://x/a/b/resolve/refs%2Fpr%2F1/%E6%95%B0%20%23.json"
    )


# Endpoints and the token


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (" https://hf-mirror.com/ ", "https://hf-mirror.com"),
        ("hf-mirror.com", "https://hf-mirror.com"),
        ("http://127.0.0.1:8080/hub/", "http://127.0.0.1:8080/hub"),
        ("HTTPS://HF-Mirror.com", "https://hf-mirror.com"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_endpoint_is_brought_into_shape(text: str, endpoint: str) -> None:
    assert hub.check_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text", ["", "https://", "ftp://x", "https://x y", "https://x:y", "https://x?a=b", "http://["]
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    assert error_of(lambda: hub.check_endpoint(text)).key == "hub.bad_endpoint"


def test_an_endpoint_with_a_password_is_refused_without_repeating_it() -> None:
    error = error_of(lambda: hub.check_endpoint(f"https://me:{SECRET}@mirror.example"))
    assert error.key == "hub.bad_endpoint"
    assert SECRET not in chain(error)


def test_the_token_is_for_huggingface_alone() -> None:
    assert endpoints.token_for("https://huggingface.co", f" {SECRET}\n") == SECRET
    for other in (
        "https://hf-mirror.com",
        "http://huggingface.co",
        "https://huggingface.co.example",
        "http://x",
    ):
        assert endpoints.token_for(other, SECRET) is None


def test_a_mirror_that_the_visitor_trusts_sees_the_token_and_its_storage_host_does_not(
    fake: FakeHub, tmp_path: Path
) -> None:
    fake.tokens.add(SECRET)
    fake.add_repo(REPO, FILES, gated=True)
    listing = listed(fake, token=SECRET, anywhere=True)
    hub.download(listing, listing.files, tmp_path, token=SECRET, anywhere=True)
    for seen in fake.log:
        at_home = seen.host.startswith("127.0.0.1")
        assert (seen.headers.get("authorization") == f"Bearer {SECRET}") == at_home
    assert any(seen.host.startswith("localhost") for seen in fake.log)


def test_a_listing_that_is_sent_on_leaves_the_token_behind(fake: FakeHub) -> None:
    with FakeHub() as other:
        other.add_repo(REPO, FILES)
        fake.fault("@api", "bounce", times=None, to=other.url)
        assert listed(fake, token=SECRET, anywhere=True).files
        assert fake.log[0].headers["authorization"] == f"Bearer {SECRET}"
        assert not any("authorization" in seen.headers for seen in other.log)


def test_a_token_that_cannot_be_one_is_refused_before_it_is_sent() -> None:
    error = error_of(lambda: hub.list_files(REF, token=f"\u4ee4\u724c{SECRET}"))
    assert error.key == "hub.bad_token"
    assert SECRET not in chain(error)


def test_the_token_is_found_in_the_environment_then_in_the_stored_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert hub.token_from_environment() is None
    stored = tmp_path / "token"
    stored.write_text("hf_stored\n", encoding="utf-8")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(stored))
    assert hub.token_from_environment() == "hf_stored"
    monkeypatch.setenv("HF_TOKEN", " hf_given ")
    assert hub.token_from_environment() == "hf_given"


def test_no_other_endpoint_ever_sees_the_token(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add_repo(REPO, FILES)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    login = tmp_path / "token"
    login.write_text(SECRET, encoding="utf-8")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(login))
    passwords = tmp_path / "netrc"
    passwords.write_text(
        f"machine 127.0.0.1 login x password {SECRET}\nmachine localhost login x password {SECRET}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("NETRC", str(passwords))
    listing = listed(fake, token=SECRET)
    hub.download(listing, listing.files, tmp_path / "here", token=SECRET)
    assert len(fake.log) == 8
    assert all("authorization" not in seen.headers for seen in fake.log)


def test_the_token_stays_with_the_endpoint_it_is_for(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "TRUSTED", (fake.url,))  # as if the fake were huggingface.co
    fake.tokens.add(SECRET)
    fake.add_repo(REPO, FILES, gated=True)
    listing = listed(fake, token=SECRET)
    hub.download(listing, listing.files, tmp_path, token=SECRET)
    for seen in fake.log:
        at_home = seen.host.startswith("127.0.0.1")
        assert (seen.headers.get("authorization") == f"Bearer {SECRET}") == at_home
    assert any(seen.host.startswith("localhost") for seen in fake.log)
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in data for data in written)
    assert SECRET not in repr(listing.as_json())


def test_a_token_the_hub_does_not_know_is_named_but_not_shown(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    monkeypatch.setattr(endpoints, "TRUSTED", (fake.url,))
    fake.add_repo(REPO, FILES)
    error = error_of(lambda: listed(fake, token=SECRET))
    assert error.key == "hub.bad_token"
    assert SECRET not in chain(error) + caplog.text


# Listing


def test_a_listing_has_commit_licence_sizes_and_hashes(fake: FakeHub) -> None:
    commit = fake.add_repo(REPO, FILES, license="cc0-1.0")
    listing = listed(fake)
    assert (listing.commit, listing.license, listing.gated, listing.endpoint) == (
        commit,
        "cc0-1.0",
        "",
        fake.url,
    )
    assert {file.path: file.size for file in listing.files} == {
        path: len(data) for path, data in FILES.items()
    }
    assert all(bool(file.sha256) != bool(file.git_sha1) for file in listing.files)
    assert listing.size == sum(map(len, FILES.values()))
    assert hub.Listing.from_json(listing.as_json()) == listing


def test_a_long_listing_comes_in_pages(tmp_path: Path) -> None:
    with FakeHub(page=7) as fake:
        fake.add_repo(REPO, {f"data/{n:03}.json": b"[]" for n in range(50)})
        assert len(listed(fake).files) == 50
        assert len(fake.asked("/tree/")) == 8


def test_a_model_and_a_revision_with_slashes_are_found(fake: FakeHub) -> None:
    fake.add_repo("gpt2", {"config.json": b"{}"}, kind="model")
    fake.add_repo(REPO, {"default/0000.parquet": b"x"}, revision="refs/convert/parquet")
    assert hub.list_files(hub.Ref("gpt2", kind="model"), fake.url).files[0].path == "config.json"
    converted = hub.list_files(replace(REF, revision="refs/convert/parquet"), fake.url)
    assert converted.files[0].path == "default/0000.parquet"


def test_patterns_choose_files_as_hf_download_does(fake: FakeHub) -> None:
    fake.add_repo(REPO, {"a.json": b"1", "x/b.json": b"2", "x/c.csv": b"3"})
    files = listed(fake).files
    assert [file.path for file in hub.select(files, ["*.json"])] == ["a.json", "x/b.json"]
    assert [file.path for file in hub.select(files, ["x/"], ["*.csv"])] == ["x/b.json"]
    assert hub.select(files) == list(files)


def test_the_files_most_people_want_are_suggested(fake: FakeHub) -> None:
    names = ("README.md", ".gitattributes", "dataset_infos.json", "a.jsonl", "b/c.json.gz", "b/d.png")
    fake.add_repo(REPO, dict.fromkeys(names, b"x"), lfs=())
    listing = listed(fake)
    assert [file.path for file in hub.suggest(listing)] == ["a.jsonl", "b/c.json.gz"]
    pointed = replace(listing, ref=replace(REF, path="b"))
    assert [file.path for file in hub.suggest(pointed)] == ["b/c.json.gz", "b/d.png"]
    weights = ("config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "q4.gguf")
    fake.add_repo("a/b", dict.fromkeys(weights, b"x"), kind="model")
    model = hub.list_files(hub.Ref("a/b", kind="model"), fake.url)
    assert [file.path for file in hub.suggest(model)] == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        ({"kind": "html"}, "hub.not_a_hub"),
        ({"kind": "json"}, "hub.not_a_hub"),
        ({"kind": "status", "status": 404}, "hub.not_found"),
        ({"kind": "status", "status": 401}, "hub.not_found"),
        ({"kind": "status", "status": 403}, "hub.forbidden"),
        ({"kind": "status", "status": 403, "code": "GatedRepo"}, "hub.gated"),
        ({"kind": "status", "status": 429, "retry_after": 17}, "hub.rate_limited"),
        ({"kind": "status", "status": 400}, "hub.server_error"),
        ({"kind": "status", "status": 503}, "hub.server_error"),
        ({"kind": "drop"}, "hub.no_connection"),
    ],
)
def test_every_refusal_of_a_listing_has_its_key(fake: FakeHub, fault: dict[str, Any], key: str) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault("@api", times=None, **fault)
    error = error_of(lambda: listed(fake))
    assert error.key == key
    assert (error.facts["repo"], error.facts["endpoint"]) == (REPO, fake.url)
    if key == "hub.rate_limited":
        assert error.facts["seconds"] == 17
    if key == "hub.no_connection":
        assert error.facts["why"] == "reset"
    if key == "hub.gated":
        assert error.facts["page"] == f"https://huggingface.co/datasets/{REPO}"


def test_what_is_not_there_is_named(fake: FakeHub) -> None:
    assert error_of(lambda: listed(fake)).key == "hub.not_found"
    fake.add_repo(REPO, FILES)
    error = error_of(lambda: hub.list_files(replace(REF, revision="nope"), fake.url))
    assert (error.key, error.facts["revision"]) == ("hub.revision_not_found", "nope")
    fake.add_repo("a/empty", {})
    assert error_of(lambda: hub.list_files(hub.Ref("a/empty"), fake.url)).key == "hub.no_files"
    fake.add_repo("a/mine", FILES, private=True)
    assert error_of(lambda: hub.list_files(hub.Ref("a/mine"), fake.url)).key == "hub.not_found"


def test_a_gate_is_found_before_the_first_byte(fake: FakeHub) -> None:
    fake.add_repo(REPO, FILES, gated=True)
    assert error_of(lambda: listed(fake)).key == "hub.gated"


def test_a_reset_or_a_bad_moment_is_tried_again(fake: FakeHub) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault("/revision/", "drop")
    fake.fault("/tree/", "status", status=502)
    assert len(listed(fake).files) == len(FILES)


def test_a_dead_port_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    began = time.monotonic()
    error = error_of(lambda: hub.list_files(REF, f"http://127.0.0.1:{port}"))
    assert (error.key, error.facts["why"]) == ("hub.no_connection", "refused")
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("where", ["/revision/", "/tree/"])
def test_a_silent_server_is_given_up_within_the_timeout(fake: FakeHub, where: str) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault(where, "silent", times=None)
    began = time.monotonic()
    error = error_of(lambda: listed(fake, timeout=0.5))
    assert (error.key, error.facts["seconds"]) == ("hub.timeout", 0.5)
    assert time.monotonic() - began < 0.9


def test_a_server_that_drips_is_given_up_within_the_timeout() -> None:
    with FakeHub(bps=20) as fake:
        fake.add_repo(REPO, FILES)
        began = time.monotonic()
        assert error_of(lambda: listed(fake, timeout=0.7)).key == "hub.timeout"
        assert time.monotonic() - began < 1.1


def test_a_mirror_that_bounces_to_a_dead_host_is_told_from_a_dead_mirror(fake: FakeHub) -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    fake.fault("", "bounce", times=None, to=f"http://localhost:{port}")
    error = error_of(lambda: listed(fake))
    assert (error.key, error.facts["host"]) == ("hub.bounced", "localhost")


def test_offline_mode_is_named(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert error_of(lambda: listed(fake)).key == "hub.offline"


def test_wrapped_causes_are_unwrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    asked = Asked(REF, "https://hf-mirror.com", 3.0)
    unknown = httpx2.ConnectError("All connection attempts failed")
    unknown.__cause__ = socket.gaierror(-2, "Name or service not known")
    outer = OSError("LocalEntryNotFoundError")
    outer.__cause__ = unknown
    told = asked.broken(outer)
    assert told and (told.key, told.facts["why"]) == ("hub.no_connection", "dns")
    assert asked.broken(KeyError("a bug stays a bug")) is None


def test_a_refused_connection_is_no_timeout(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    listing = listed(fake)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    gone = replace(listing, endpoint=f"http://127.0.0.1:{port}")
    error = error_of(lambda: hub.download(gone, gone.files, tmp_path, tries=2, pause=0.01))
    assert (error.key, error.facts["why"]) == ("hub.no_connection", "refused")


def test_a_dead_proxy_is_told_from_a_dead_endpoint() -> None:
    error = error_of(lambda: hub.list_files(REF, "http://hub.example"))  # the tests' proxy leads nowhere
    assert (error.key, error.facts["why"]) == ("hub.no_connection", "proxy")


def test_a_handshake_that_is_cut_is_no_question_of_certificates() -> None:
    told = Asked(REF, "http://127.0.0.1", 3.0).broken(requests.exceptions.SSLError(ssl.SSLEOFError(8, "EOF")))
    assert told and (told.key, told.facts["why"]) == ("hub.no_connection", "closed")


def test_another_port_is_another_server_and_https_is_not() -> None:
    asked = Asked(REF, "http://hub.example:8000", 3.0)
    told = asked.broken(ConnectionResetError(), at="http://hub.example:9000/x")
    assert told and (told.key, told.facts["host"]) == ("hub.bounced", "hub.example:9000")
    secure = Asked(REF, "http://hub.example", 3.0).broken(ConnectionResetError(), at="https://hub.example/x")
    assert secure and secure.key == "hub.no_connection"


def test_the_wait_is_read_in_all_its_forms() -> None:
    assert retry_after({"Retry-After": "12"}) == 12
    assert retry_after({"RateLimit": '"api";r=0;t=55'}) == 55
    assert retry_after({"RateLimit": '"api";r=3;t=55'}) is None
    assert retry_after({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"Retry-After": "soon"}) is None


# The download


def whole(folder: Path, files: dict[str, bytes]) -> bool:
    there = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".hub" not in path.parts
    }
    return there == files


def test_every_file_arrives_whole_under_its_name(fake: FakeHub, tmp_path: Path) -> None:
    files = FILES | {"\u6570\u636e 1/\u95ee #1%20?.json": noise(3000, 5)}
    fake.add_repo(REPO, files)
    listing = listed(fake)
    assert hub.download(listing, listing.files, tmp_path / "made" / "here") == tmp_path / "made" / "here"
    assert whole(tmp_path / "made" / "here", files)


def test_the_real_client_agrees_with_the_result(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    fetch(fake, tmp_path / "ours")
    there = HfApi(endpoint=fake.url, token=False).verify_repo_checksums(
        REPO, repo_type="dataset", local_dir=tmp_path / "ours"
    )
    assert (there.checked_count, there.mismatches, there.missing_paths) == (len(FILES), [], [])
    theirs = snapshot_download(
        REPO,
        repo_type="dataset",
        endpoint=fake.url,
        local_dir=tmp_path / "theirs",
        token=False,
        max_workers=1,
    )
    assert (Path(theirs) / "big.parquet").read_bytes() == BIG


def test_a_second_run_fetches_nothing(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    listing = listed(fake)
    hub.download(listing, listing.files, tmp_path)
    before = len(fake.log)
    hub.download(listing, listing.files, tmp_path)
    assert len(fake.log) == before


def test_a_file_with_wrong_bytes_of_the_right_size_is_fetched_again(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    fetch(fake, tmp_path)
    (tmp_path / "README.md").write_bytes(b"# Tee\n")
    fetch(fake, tmp_path)
    assert whole(tmp_path, FILES)
    assert len(fake.asked("/resolve/")) == len(FILES)  # an empty file is never asked for


@pytest.mark.parametrize("at", [0, 600_000, len(BIG) - 1])
@pytest.mark.parametrize("kind", ["reset", "truncate", "stall"])
def test_a_broken_connection_is_taken_up_at_the_byte(
    fake: FakeHub, tmp_path: Path, kind: str, at: int
) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault("/cdn/", kind, at=at)
    fetch(fake, tmp_path, timeout=0.4)
    assert whole(tmp_path, {"big.parquet": BIG})
    first, second = fake.asked("/cdn/")
    assert second.headers.get("range") == (f"bytes={at}-" if at else None)
    assert first.sent + second.sent == len(BIG)


def test_a_link_cut_again_and_again_costs_no_byte_twice(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault("/cdn/", "reset", each=50_000, times=23)
    fetch(fake, tmp_path)
    assert whole(tmp_path, {"big.parquet": BIG})
    assert fake.sent("/cdn/") == len(BIG)


def test_a_server_without_range_and_length_is_survived(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault("/cdn/", "no_range", times=None)
    fake.fault("/cdn/", "no_length", times=None)
    fake.fault("/cdn/", "truncate", at=500_000)
    fake.fault("/cdn/", "reset", at=900_000)
    fetch(fake, tmp_path)
    assert whole(tmp_path, {"big.parquet": BIG})


@pytest.mark.parametrize(
    ("where", "fault"),
    [
        ("/resolve/", {"kind": "status", "status": 503}),
        ("/resolve/", {"kind": "status", "status": 500}),
        ("/cdn/", {"kind": "status", "status": 403}),  # a signed address that expired
        ("/resolve/", {"kind": "drop"}),
        ("/cdn/", {"kind": "drop"}),
        ("/cdn/", {"kind": "silent"}),
        ("/cdn/", {"kind": "html"}),
        ("/resolve/", {"kind": "html"}),
        ("/cdn/", {"kind": "corrupt", "at": 700_000}),
    ],
)
def test_a_passing_fault_is_survived(
    fake: FakeHub, tmp_path: Path, where: str, fault: dict[str, Any]
) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault(where, times=2 if fault["kind"] != "corrupt" else 1, **fault)
    fetch(fake, tmp_path, timeout=0.4)
    assert whole(tmp_path, {"big.parquet": BIG})


def test_a_server_that_asks_to_wait_is_obeyed_by_all(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {f"{n}.json": noise(900, n) for n in range(12)})
    fake.fault("/resolve/", "status", status=429, retry_after=1)
    told: list[hub.Progress] = []
    began = time.monotonic()
    fetch(fake, tmp_path, progress=told.append, workers=2)
    assert time.monotonic() - began >= 1
    assert max(progress.pause for progress in told) > 0.5


def test_a_wait_that_is_too_long_is_told_instead(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault("/resolve/", "status", status=429, retry_after=7200, times=None)
    error = error_of(lambda: fetch(fake, tmp_path))
    assert (error.key, error.facts["seconds"]) == ("hub.rate_limited", 7200)


@pytest.mark.parametrize(
    ("fault", "key", "asked"),
    [
        ({"kind": "status", "status": 403, "code": "GatedRepo"}, "hub.gated", 1),
        ({"kind": "status", "status": 404, "code": "EntryNotFound"}, "hub.file_not_found", 1),
        ({"kind": "status", "status": 403}, "hub.forbidden", 1),
        ({"kind": "status", "status": 503}, "hub.server_error", 4),
        ({"kind": "html"}, "hub.not_a_hub", 4),
        ({"kind": "drop"}, "hub.no_connection", 4),
        ({"kind": "silent"}, "hub.timeout", 4),
    ],
)
def test_a_lasting_fault_ends_with_its_key_and_file(
    fake: FakeHub, tmp_path: Path, fault: dict[str, Any], key: str, asked: int
) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault("/resolve/", times=None, **fault)
    error = error_of(lambda: fetch(fake, tmp_path, "train", tries=4, timeout=0.1))
    assert error.key == key
    assert (error.facts["file"], error.facts["repo"], error.facts["endpoint"]) == (
        "data/train.json",
        REPO,
        fake.url,
    )
    assert len(fake.asked("/resolve/")) == asked


def test_a_storage_host_that_cannot_be_reached_is_named(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    fake.fault("/resolve/", "bounce", times=None, to=f"http://localhost:{port}")
    error = error_of(lambda: fetch(fake, tmp_path, "train", tries=2))
    assert (error.key, error.facts["host"]) == ("hub.bounced", "localhost")


def test_a_connection_that_never_gets_further_is_given_up(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault("/cdn/", "reset", at=700_000, times=None)
    error = error_of(lambda: fetch(fake, tmp_path, tries=3))
    assert (error.key, error.facts["why"]) == ("hub.no_connection", "reset")
    assert len(fake.asked("/cdn/")) == 3
    assert (tmp_path / "big.parquet.part").stat().st_size == 700_000


def test_a_file_that_is_wrong_twice_is_refused(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG, "small.json": noise(500, 3)})
    fake.fault("small.json", "corrupt", at=250, times=None)
    error = error_of(lambda: fetch(fake, tmp_path, "small"))
    assert (error.key, error.facts["file"]) == ("hub.corrupt", "small.json")
    assert not list(tmp_path.glob("small*"))
    assert len(fake.asked("/resolve/")) == 2


def test_a_captive_portal_does_not_spoil_what_was_there(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault("/cdn/", "reset", at=400_000)
    fake.fault("/cdn/", "html", times=None)
    fake.faults[1].times = 0
    fake.fault("/resolve/", "status", times=0)
    error_of(lambda: fetch(fake, tmp_path, tries=1))
    fake.faults[1].times = None
    assert error_of(lambda: fetch(fake, tmp_path, tries=2)).key == "hub.not_a_hub"
    assert (tmp_path / "big.parquet.part").read_bytes() == BIG[:400_000]
    fake.faults[1].times = 0
    fetch(fake, tmp_path)
    assert fake.asked("/cdn/")[-1].headers["range"] == "bytes=400000-"
    assert whole(tmp_path, {"big.parquet": BIG})


def test_the_beginning_of_another_commit_is_not_built_upon(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"big.parquet": BIG})
    fake.fault("/cdn/", "reset", at=400_000)
    error_of(lambda: fetch(fake, tmp_path, tries=1))
    newer = noise(len(BIG), 9)
    fake.add_repo(REPO, {"big.parquet": newer})
    fetch(fake, tmp_path)
    assert "range" not in fake.asked("/cdn/")[-1].headers
    assert whole(tmp_path, {"big.parquet": newer})


def test_a_pinned_listing_gets_the_old_bytes_after_a_push(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, {"a.json": b"[1]"})
    listing = listed(fake)
    fake.add_repo(REPO, {"a.json": b"[2]"})
    assert (hub.download(listing, listing.files, tmp_path) / "a.json").read_bytes() == b"[1]"


# Stopping and going on


@pytest.mark.parametrize("silence", ["stall", "silent", ""])
def test_a_stop_is_obeyed_within_a_second_and_keeps_the_beginning(tmp_path: Path, silence: str) -> None:
    with FakeHub(bps=None if silence else 1_000_000) as fake:
        fake.add_repo(REPO, {"big.parquet": BIG, "b.json": b"[]"})
        if silence == "stall":
            fake.fault("/cdn/", "stall", at=300_000, times=None)
        elif silence == "silent":
            fake.fault("/cdn/", "silent", times=None)
        part = tmp_path / "big.parquet.part"
        asked_at: list[float] = []

        def stop() -> bool:
            begun = part.exists() and part.stat().st_size >= (100_000 if silence != "silent" else 0)
            if begun and fake.asked("/cdn/") and not asked_at:
                asked_at.append(time.monotonic())
            return bool(asked_at)

        error = error_of(lambda: fetch(fake, tmp_path, stop=stop, timeout=60))
        assert time.monotonic() - asked_at[0] < 1
        assert error.key == "hub.stopped"
        held = part.stat().st_size
        assert part.read_bytes() == BIG[:held]
        fake.bps = None
        fake.faults.clear()
        fetch(fake, tmp_path)
        assert fake.asked("/cdn/")[-1].headers.get("range") == (f"bytes={held}-" if held else None)
        assert whole(tmp_path, {"big.parquet": BIG, "b.json": b"[]"})


def test_a_stop_during_a_pause_is_obeyed(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault("/resolve/", "status", status=503, times=None)
    began = time.monotonic()
    error = error_of(lambda: fetch(fake, tmp_path, pause=60, stop=lambda: time.monotonic() > began + 0.3))
    assert error.key == "hub.stopped"
    assert time.monotonic() - began < 1.3


def test_a_killed_download_goes_on_at_the_byte(tmp_path: Path) -> None:
    here = tmp_path / "here"
    script = (
        "import sys; from pathlib import Path; from lib import hub\n"
        "listing = hub.list_files(hub.parse(sys.argv[1]), sys.argv[2])\n"
        "hub.download(listing, listing.files, Path(sys.argv[3]))\n"
    )
    with FakeHub(bps=1_500_000) as fake:
        fake.add_repo(REPO, {"big.parquet": BIG, "small.json": noise(500, 3)})
        root = Path(__file__).parent.parent
        child = subprocess.Popen([sys.executable, "-c", script, REPO, fake.url, str(here)], cwd=root)
        part = here / "big.parquet.part"
        until = time.monotonic() + 20
        while time.monotonic() < until and not (part.exists() and part.stat().st_size > 200_000):
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        held = part.stat().st_size
        assert 200_000 < held < len(BIG)
        fake.bps = None
        fetch(fake, here)
        assert fake.asked("/cdn/")[-1].headers["range"] == f"bytes={held}-"
        assert whole(here, {"big.parquet": BIG, "small.json": noise(500, 3)})


def test_two_downloads_into_one_folder_do_not_hurt_each_other(tmp_path: Path) -> None:
    with FakeHub(bps=3_000_000) as fake:
        fake.add_repo(REPO, FILES)
        listing = listed(fake)
        done: list[Path] = []
        phases: set[str] = set()

        def tell(progress: hub.Progress) -> None:
            phases.add(progress.phase)

        def run() -> None:
            done.append(hub.download(listing, listing.files, tmp_path, progress=tell))

        threads = [threading.Thread(target=run) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) == 2
        assert "waiting" in phases
        assert len(fake.asked("/cdn/")) == 1
        assert whole(tmp_path, FILES)


def test_a_download_that_waits_for_another_can_be_stopped(tmp_path: Path) -> None:
    with FakeHub(bps=1_000_000) as fake:
        fake.add_repo(REPO, FILES)
        listing = listed(fake)
        end = threading.Event()
        first = threading.Thread(
            target=lambda: error_of(lambda: hub.download(listing, listing.files, tmp_path, stop=end.is_set))
        )
        first.start()
        while not (tmp_path / "big.parquet.part").exists():
            time.sleep(0.01)
        error = error_of(lambda: hub.download(listing, listing.files, tmp_path, stop=lambda: True))
        end.set()
        first.join()
        assert error.key == "hub.stopped"


def test_progress_counts_real_bytes(tmp_path: Path) -> None:
    with FakeHub(bps=2_000_000) as fake:
        fake.add_repo(REPO, FILES)
        told: list[hub.Progress] = []
        fetch(fake, tmp_path, progress=told.append)
        total = sum(map(len, FILES.values()))
        done = [progress.done for progress in told]
        assert done == sorted(done)
        assert (told[-1].phase, told[-1].done, told[-1].files_done) == ("done", total, len(FILES))
        assert all(progress.total == total and progress.files == len(FILES) for progress in told)
        moving = [progress for progress in told if progress.phase == "fetching" and progress.speed]
        assert moving
        assert all(progress.left is not None and progress.file for progress in moving)


def test_progress_tells_the_trouble_while_it_lasts(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    fake.fault("/cdn/", "reset", at=500_000, times=3)
    told: list[hub.Progress] = []
    fetch(fake, tmp_path, progress=told.append, pause=0.3)
    assert "hub.no_connection" in {progress.trouble for progress in told}
    assert (told[-1].trouble, told[-1].retries) == ("", 3)


# The disk


@pytest.mark.parametrize(
    "name",
    [
        "../up.json",
        "a/../../up.json",
        "/etc/up.json",
        "C:up.json",
        "C:\\up.json",
        "..\\up.json",
        "\\\\host\\up.json",
        "a//b.json",
        "./a.json",
        "a/.",
        "con.json",
        "data/AUX",
        "LPT1.tar.gz",
        "a\x00b",
        "a\nb",
        ".hub/lock",
        "",
        "\u5b57" * 90,
    ],
)
def test_a_name_that_is_a_trap_is_refused_before_anything_is_written(
    fake: FakeHub, tmp_path: Path, name: str
) -> None:
    fake.add_repo(REPO, FILES)
    listing = listed(fake)
    trap = hub.RemoteFile(name, 3)
    before = len(fake.log)
    error = error_of(lambda: hub.download(listing, [listing.files[0], trap], tmp_path / "in" / "here"))
    assert error.key == "hub.unsafe_name"
    assert len(fake.log) == before
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_link_out_of_the_folder_is_not_followed(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    outside, here = tmp_path / "outside", tmp_path / "here"
    outside.mkdir()
    here.mkdir()
    (here / "data").symlink_to(outside)
    assert error_of(lambda: fetch(fake, here)).key == "workspace.outside"
    (here / "data").unlink()
    (here / "README.md.part").symlink_to(outside / "victim")
    assert error_of(lambda: fetch(fake, here)).key == "workspace.outside"
    (here / "README.md.part").unlink()
    (here / "README.md").symlink_to(here / "big.parquet")  # a link that stays inside would mix two files
    assert error_of(lambda: fetch(fake, here)).key == "hub.unsafe_name"
    (here / "README.md").unlink()
    (here / ".hub" / "lock").unlink(missing_ok=True)
    (here / ".hub").rmdir()
    (here / ".hub").symlink_to(outside)
    assert error_of(lambda: fetch(fake, here)).key == "workspace.outside"
    assert not list(outside.iterdir())


def test_names_that_are_one_on_this_disk_are_refused(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    listing = listed(fake)
    pair = [hub.RemoteFile("a", 1), hub.RemoteFile("a/b", 1)]
    assert error_of(lambda: hub.download(listing, pair, tmp_path)).key == "hub.name_clash"
    pair = [hub.RemoteFile("a", 1), hub.RemoteFile("a", 2)]
    assert error_of(lambda: hub.download(listing, pair, tmp_path)).key == "hub.name_clash"
    (tmp_path / "README.md").mkdir()
    assert error_of(lambda: fetch(fake, tmp_path)).key == "hub.name_clash"


def test_a_file_that_is_named_like_a_beginning_survives(fake: FakeHub, tmp_path: Path) -> None:
    files = {"a.json": noise(500, 1), "a.json.part": noise(600, 2), "a.json.part.part": noise(700, 3)}
    fake.add_repo(REPO, files)
    fetch(fake, tmp_path)
    assert whole(tmp_path, files)


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    listing = listed(fake)
    before = len(fake.log)
    with pytest.raises(WorkspaceError) as caught:
        hub.download(listing, [hub.RemoteFile("huge.bin", 1 << 60)], tmp_path)
    assert caught.value.key == "workspace.disk_full"
    assert caught.value.facts["need"] == 1 << 60
    assert len(fake.log) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_disk_that_fills_up_on_the_way_is_named(
    fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.add_repo(REPO, {"a.json": noise(5000, 1)})
    real = Path.open

    def full(self: Path, *args: Any, **kwargs: Any) -> Any:
        return real(Path("/dev/full") if self.name.endswith(".part") else self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    assert error_of(lambda: fetch(fake, tmp_path)).key == "workspace.disk_full"


def test_nothing_chosen_is_said(fake: FakeHub, tmp_path: Path) -> None:
    fake.add_repo(REPO, FILES)
    listing = listed(fake)
    assert isinstance(error_of(lambda: hub.download(listing, [], tmp_path)), HubError)
