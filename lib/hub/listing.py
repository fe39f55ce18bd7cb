"""What is in a repository, before anything is fetched: commit, licence, gate, every file's size and hash."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
from huggingface_hub import DatasetInfo, HfApi, ModelInfo, get_session, hf_raise_for_status

from lib.errors import HubError
from lib.hub import modelscope
from lib.hub.endpoint import endpoint_of, headers_for, token_for
from lib.hub.failures import Asked
from lib.hub.reference import Ref

# Answers that may be different in a moment.
PASSING = (408, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file: its path in the repository, its size in bytes, and the hash its bytes must have.

    Large files (LFS) have a `sha256`, small ones a `git_sha1`; "" where the endpoint doesn't tell.
    """

    path: str
    size: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """What `endpoint` has under a reference, pinned to a commit. `gated` is "", "auto" or "manual"."""

    ref: Ref
    endpoint: str
    commit: str
    files: tuple[RemoteFile, ...]
    license: str = ""
    gated: str = ""
    private: bool = False

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` understands, for a job folder. It holds no token."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Listing:
        """Return the listing that `as_json` wrote."""
        files = tuple(RemoteFile(**file) for file in value["files"])
        return cls(**{**value, "ref": Ref(**value["ref"]), "files": files})


def list_files(
    ref: Ref,
    endpoint: str = "",
    *,
    token: str | None = None,
    anywhere: bool = False,
    timeout: float = 15.0,
    known: Listing | None = None,
) -> Listing:
    """Ask `endpoint` what it has; where none is given, or one of another site, the first of this one's.

    Returns, or raises `HubError`, within `timeout` seconds, whatever the server does. The token is sent to
    huggingface.co only; `anywhere`: to `endpoint` too, whatever it is, but never to ModelScope. Where the
    commit is still that of `known`, an earlier listing of the same repository, one request is enough and
    `known` is the answer.
    """
    endpoint = endpoint_of(ref.site, endpoint)
    speaks = _AskingModelScope if ref.site == "modelscope" else _Asking
    token = token_for(endpoint, token, anywhere=anywhere, site=ref.site)
    asking = speaks(ref, endpoint, token, timeout, known)
    return asking.asked.in_time(asking.listing)


def select(
    files: Collection[RemoteFile], include: Sequence[str] = (), exclude: Sequence[str] = ()
) -> list[RemoteFile]:
    """Return the files that match a pattern of `include` (none: all) and none of `exclude`.

    Patterns are those of `hf download`: `*` crosses `/`, `folder/` means all in it, upper case matters.
    """

    def matches(file: RemoteFile, patterns: Sequence[str]) -> bool:
        return any(fnmatchcase(file.path, f"{one}*" if one.endswith("/") else one) for one in patterns)

    return [file for file in files if (not include or matches(file, include)) and not matches(file, exclude)]


def suggest(listing: Listing) -> list[RemoteFile]:
    """Return the files most people want: what the reference points at, else data files, else all.

    For a model that is everything but second copies of the weights and weights for other programs.
    """
    at = listing.ref.path.rstrip("/")
    pointed = [file for file in listing.files if file.path == at or file.path.startswith(f"{at}/")]
    if pointed:
        return pointed
    if listing.ref.kind == "dataset":
        return [file for file in listing.files if is_data(file.path)] or list(listing.files)
    return [file for file in listing.files if not _other_weights(file, listing)]


def is_data(path: str) -> bool:
    """Return whether a file in a dataset's repository looks like its data."""
    name = PurePosixPath(path).name
    return _ending(path) in _DATA and not path.startswith(".") and name not in _ABOUT_DATA


def files_of(rows: Iterable[dict[str, Any]]) -> Iterator[RemoteFile]:
    """Yield the files among the rows of a tree, as a Hub's API tells them."""
    for row in rows:
        if row["type"] == "file":
            large = row.get("lfs") or {}
            yield RemoteFile(
                path=row["path"],
                size=int(large.get("size", row["size"])),
                sha256=large.get("oid", ""),
                git_sha1="" if large else row.get("oid", ""),
            )


class _Asking:
    """The calls behind one listing, made in a thread of its own."""

    def __init__(
        self, ref: Ref, endpoint: str, token: str | None, timeout: float, known: Listing | None = None
    ) -> None:
        other = known is None or replace(known.ref, revision=ref.revision, path=ref.path) != ref
        self.known = None if other else known
        self.asked = Asked(ref, endpoint, timeout, token_sent=token is not None)
        self.api = f"{endpoint}/api/{ref.kind}s/{ref.repo}"
        self.headers = headers_for(token)
        self.client = HfApi(endpoint=endpoint, token=token or False, headers=self.headers)
        self.until = monotonic() + timeout
        self.let_in = False

    def listing(self) -> Listing:
        """Ask up to three times: a reset or an overloaded server deserves another try, a refusal does not."""
        for pause in (0.2, 0.5, None):
            try:
                return self.once()
            except HubError as error:
                cut = error.facts.get("why") in ("reset", "closed")
                passing = cut or error.facts.get("status") in PASSING
                if pause is None or not passing or monotonic() + pause > self.until:
                    raise
            sleep(pause)
        raise AssertionError

    def once(self) -> Listing:
        with self.explained():
            info = self.info()
            if self.known and self.known.commit == str(info.sha):
                return replace(self.known, ref=self.asked.ref, endpoint=self.asked.endpoint)
            if info.gated:  # lists are open, files are not: find out now, not at the first byte
                self.get(f"{self.api}/auth-check", only_coded=True)
            files = tuple(self.files(str(info.sha)))
        if not files:
            raise self.asked.error("no_files")
        licence = info.card_data.get("license") if info.card_data is not None else None
        return Listing(
            ref=self.asked.ref,
            endpoint=self.asked.endpoint,
            commit=str(info.sha),
            files=files,
            license=", ".join(licence) if isinstance(licence, list) else str(licence or ""),
            gated=str(info.gated or ""),
            private=bool(info.private),
        )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what goes wrong into a `HubError`."""
        try:
            yield
        except HubError:
            raise
        except modelscope.TooManyFilesError as error:
            raise self.asked.error("too_many_files", folder=str(error)) from None
        except Exception as error:
            told = self.asked.broken(error)
            if told is None and isinstance(error, ValueError | KeyError | TypeError | AttributeError):
                told = self.asked.error("not_a_hub")  # it answered, but not as a Hub does
            if told is None:
                raise
            raise told from error

    def info(self) -> DatasetInfo | ModelInfo:
        ref = self.asked.ref
        ask = self.client.dataset_info if ref.kind == "dataset" else self.client.model_info
        # the revision is named even where it is main: some mirrors know no other address
        info = ask(ref.repo, revision=ref.revision, timeout=self.left())
        if not info.sha:
            raise self.asked.error("not_a_hub")
        return info

    def files(self, commit: str) -> Iterator[RemoteFile]:
        """Walk the tree's pages. `HfApi.list_repo_tree` has no timeout and sleeps through its retries."""
        address: str | None = f"{self.api}/tree/{quote(commit, safe='')}?recursive=true&expand=false"
        while address:
            page = self.get(address)
            yield from files_of(page.json())
            onward = page.links.get("next", {}).get("url")
            # only the cursor is taken: a mirror may leave another host in it, which must not see the token
            address = f"{self.api}/tree/{quote(commit, safe='')}?{urlsplit(onward).query}" if onward else None

    def get(self, address: str, *, only_coded: bool = False) -> httpx2.Response:
        """Return the answer, or raise; `only_coded`: not for a refusal without a Hub's error code."""
        answer = get_session().get(address, headers=self.headers, timeout=self.left())
        if not only_coded or "X-Error-Code" in answer.headers:
            hf_raise_for_status(answer)
        return answer

    def left(self) -> float:
        left = self.until - monotonic()
        if left <= 0:
            raise self.asked.error("timeout", seconds=self.asked.timeout)
        return left


class _AskingModelScope(_Asking):
    """The calls behind a listing of ModelScope."""

    def once(self) -> Listing:
        """Walk the pages; where nothing is told to pin the files to, the branch stands for the commit."""
        ref, endpoint = self.asked.ref, self.asked.endpoint
        commit, files = "", []
        with self.explained():
            for told, rows in modelscope.pages(self.page, endpoint, ref.kind, ref.repo, ref.revision):
                commit = commit or told
                if commit and self.known and self.known.commit == commit:
                    return replace(self.known, ref=ref, endpoint=endpoint)
                files += [
                    RemoteFile(str(row["Path"]), int(row["Size"]), str(row.get("Sha256") or "").lower())
                    for row in rows
                ]
        if not files:
            raise self.asked.error("no_files")
        return Listing(ref, endpoint, commit or ref.revision, tuple(files), license=self.license())

    def page(self, address: str) -> Any:
        """Return the data of an answer; one that was let in before is not refused for good."""
        for pause in (0.2, 0.5, 1.0, None):
            try:
                with self.explained():
                    answer = self.get(address).json()
                    if answer.get("Success") is False or str(answer.get("Code", 200)) != "200":
                        code, message = answer.get("Code"), str(answer.get("Message") or "")
                        raise self.asked.said(int(code or 0), message)
                    self.let_in = True
                    return answer["Data"]
            except HubError as error:
                refused = error.key == "hub.modelscope_refused" and self.let_in
                if pause is None or not refused or monotonic() + pause > self.until:
                    raise
                sleep(pause)
        raise AssertionError

    def license(self) -> str:
        """Return what its page says, "" where that can't be found out: it is no reason to fail."""
        ref = self.asked.ref
        address = modelscope.about(self.asked.endpoint, ref.kind, ref.repo)
        try:
            answer = get_session().get(address, headers=self.headers, timeout=min(5.0, self.left() / 2))
            return str(answer.json()["data"].get("license") or "")
        except (httpx2.HTTPError, HubError, ValueError, KeyError, TypeError, AttributeError):
            return ""


def _ending(path: str) -> str:
    """Return `.json` for `a.json` and for `a.json.gz`."""
    known = PurePosixPath(path.lower())
    return known.with_suffix("").suffix if known.suffix in _PACKED else known.suffix


def _other_weights(file: RemoteFile, listing: Listing) -> bool:
    ending = _ending(file.path)
    if ending in _OTHER_PROGRAMS or file.path.startswith(_OTHER_FOLDERS):
        return True
    safe = any(_ending(other.path) == ".safetensors" for other in listing.files)
    return safe and ending in (".bin", ".pt", ".pth", ".ckpt")


_DATA = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_PACKED = (".gz", ".zst", ".bz2", ".xz")
_ABOUT_DATA = ("dataset_infos.json", "dataset_info.json")
_OTHER_PROGRAMS = (".gguf", ".onnx", ".onnx_data", ".msgpack", ".h5", ".ot", ".tflite", ".mlmodel")
_OTHER_FOLDERS = ("onnx/", "openvino/", "coreml/", "original/")
