"""Put a folder into a model repository of one's own: made if missing, private unless said otherwise.

All goes in one commit, so a repository is never half changed; large files that had arrived before a break
are not sent again. Through huggingface_hub, but by plain HTTPS: its other way, Xet, hands a key of the
visitor's to further servers, and those are what cannot be reached from where mirrors are needed.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants
from huggingface_hub.utils._paths import filter_repo_objects
from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

from lib.errors import HubError
from lib.hub.endpoint import ENDPOINTS, check_endpoint, headers_for, token_for
from lib.hub.failures import Asked
from lib.hub.reference import Ref, parse

PATIENCE = 60.0  # seconds; what is said of an endpoint that did not answer
TELL_EVERY = 0.25  # seconds

# told the phase, "hashing", "sending" or "committing", and the bytes behind it and in all
Told = Callable[[str, int, int], None]


def check(repo: str, endpoint: str, token: str | None, *, anywhere: bool = False) -> tuple[Ref, str, str]:
    """Return the repository, the endpoint and the token it is sent; asks no network.

    Raises `HubError`: `hub.bad_reference`, `hub.bad_endpoint`, `hub.no_token` where none may be sent.
    """
    ref, endpoint = parse(repo, kind="model", sites=("hub",)), check_endpoint(endpoint)
    sent = token_for(endpoint, token, anywhere=anywhere)
    if sent is None:
        raise HubError("hub.no_token", endpoint=endpoint, repo=ref.repo)
    return ref, endpoint, sent


def upload(
    folder: Path,
    repo: str,
    endpoint: str = ENDPOINTS[0],
    *,
    token: str | None,
    anywhere: bool = False,
    private: bool = True,
    leave_out: Sequence[str] = (),
    progress: Told = lambda _phase, _done, _total: None,
    stop: Callable[[], bool] = lambda: False,
) -> str:
    """Upload all of `folder` but what `leave_out` (shell patterns) names; return the address of its page.

    The token goes to huggingface.co alone, unless `anywhere`. Raises `HubError`: what `check` raises,
    `hub.may_not_write`, `hub.is_public` where the repository is there already and everyone can see it though
    `private` is wished, `hub.upload_stopped` once `stop` is true, and what lib/hub/failures.py lists.
    """
    ref, endpoint, sent = check(repo, endpoint, token, anywhere=anywhere)
    asked = Asked(ref, endpoint, PATIENCE, token_sent=True)
    api = HfApi(endpoint=endpoint, token=sent, headers=headers_for(sent))
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    names = list(filter_repo_objects(names, ignore_patterns=list(leave_out)))
    watch = _Watch(sum((folder / name).stat().st_size for name in names), progress, stop)
    with _explained(asked, stop), _plainly(), ExitStack() as opened:
        made = api.create_repo(ref.repo, private=private, exist_ok=True).repo_id
        if private and not api.model_info(made).private:
            raise HubError("hub.is_public", repo=made, endpoint=endpoint)
        watch.begin("hashing")
        files = {name: opened.enter_context(_Watched(folder / name, watch)) for name in names}
        adds = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()]
        watch.begin("sending")
        api.preupload_lfs_files(made, additions=adds)
        watch.begin("committing")
        api.create_commit(made, adds, commit_message="Upload a model tuned with FirstTune")
    return f"{endpoint}/{made}"


class _Watch:
    """How much of all files has been read in a phase; several threads read at once."""

    def __init__(self, total: int, progress: Told, stop: Callable[[], bool]) -> None:
        self._total, self._progress, self._stop = total, progress, stop
        self._lock = threading.Lock()
        self._phase, self._told = "", 0.0
        self._furthest: dict[Path, int] = {}

    def begin(self, phase: str) -> None:
        self._phase, self._furthest = phase, {}
        self._tell()

    def read(self, path: Path, at: int) -> None:
        """Note that a file has been read up to a byte; one that is sent again does not count twice."""
        if self._stop():
            raise HubError("hub.upload_stopped")
        with self._lock:
            self._furthest[path] = max(at, self._furthest.get(path, 0))
            if time.monotonic() - self._told > TELL_EVERY:
                self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        done = self._total if self._phase == "committing" else sum(self._furthest.values())
        self._progress(self._phase, done, self._total)


class _Watched(io.BufferedReader):
    """A file that tells how far it has been read."""

    def __init__(self, path: Path, watch: _Watch) -> None:
        super().__init__(io.FileIO(path))
        self._path, self._watch = path, watch

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._watch.read(self._path, self.tell())
        return data


@contextmanager
def _explained(asked: Asked, stop: Callable[[], bool]) -> Iterator[None]:
    """Turn what goes wrong into a `HubError`."""
    try:
        yield
    except HubError:
        raise
    except Exception as error:
        if stop():  # the client has put what `_Watch` raised into an error of its own
            raise HubError("hub.upload_stopped") from error
        found = asked.broken(error) or (asked.broken(error.__cause__) if error.__cause__ else None)
        if found is None:
            raise
        if found.key in ("hub.bad_token", "hub.forbidden", "hub.not_found", "hub.gated"):
            found = asked.error("may_not_write")
        raise found from error


@contextmanager
def _plainly() -> Iterator[None]:
    """Have huggingface_hub use plain HTTPS and draw nothing."""
    xet, drawn = constants.HF_HUB_DISABLE_XET, not are_progress_bars_disabled()
    constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()
    try:
        yield
    finally:
        constants.HF_HUB_DISABLE_XET = xet
        if drawn:
            enable_progress_bars()
