"""What can go wrong between here and a Hub, as the keys of `HubError`.

    hub.bad_reference       text: what was pasted is no repository
    hub.other_site          site: it is one of another site
    hub.bad_endpoint        an endpoint that is no address
    hub.offline             HF_HUB_OFFLINE forbids asking
    hub.no_connection       why: dns, refused, reset, closed, tls, proxy, unreachable
    hub.bounced             host: where we were sent on to, and which can't be reached; why, or "timeout"
    hub.timeout             seconds without an answer
    hub.not_a_hub           something answered, but as no Hub does: a login page, an error page
    hub.not_found           no such repository, or a private one
    hub.revision_not_found  no such revision in it
    hub.file_not_found      the listing is older than the repository
    hub.no_files            nothing in there, or nothing chosen
    hub.gated               page: its owner wants to be asked there first
    hub.bad_token           the Hub doesn't know it
    hub.forbidden           403 without a reason, as a firewall gives
    hub.rate_limited        seconds to wait
    hub.server_error        status
    hub.corrupt             a file keeps arriving with other bytes than the listing promises
    hub.unsafe_name         a file's name is a trap
    hub.name_clash          other: two names that are one on this disk
    hub.case_clash          other: two names that are one on other disks; a warning
    hub.not_on_modelscope   no such repository there that everyone may see
    hub.modelscope_refused  page: ModelScope wants to know who asks
    hub.too_many_files      folder: more files in it than ModelScope ever lists
    hub.look_too_large      most: what would have to be fetched to see the first rows of a file is more
    hub.look_unknown        a file whose first rows cannot be read
    hub.stopped             done and total bytes: somebody asked for it
    hub.no_token            an upload, and no token that may go to this endpoint
    hub.may_not_write       an upload, and this token may not write there
    hub.is_public           an upload that was to be private, into a repository that everyone sees

Each names the repository and the endpoint, and the file where it is about one. The causes are those of two
HTTP libraries, wrapped in each other's exceptions; here they are unwrapped.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import TypeVar
from urllib.parse import urlsplit

import httpx2
import requests
import urllib3.exceptions
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from requests.utils import get_environ_proxies
from urllib3.exceptions import NewConnectionError

from lib.errors import Fact, HubError
from lib.hub.endpoint import ENDPOINTS, SITES, origin
from lib.hub.reference import Ref

Caused = TypeVar("Caused", bound=BaseException)
Returned = TypeVar("Returned")


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of whom; the facts of every error about it."""

    ref: Ref
    endpoint: str
    timeout: float
    token_sent: bool = False
    file: str = ""

    def error(self, key: str, **more: Fact) -> HubError:
        """Return the error `hub.KEY`, naming what was asked."""
        facts: dict[str, Fact] = {"repo": self.ref.repo, "kind": self.ref.kind}
        facts |= {"revision": self.ref.revision, "endpoint": self.endpoint, "other": self.other}
        if self.file:
            facts["file"] = self.file
        return HubError(f"hub.{key}", **(facts | more))

    @property
    def other(self) -> str:
        """Another endpoint of the same site, as people write it."""
        known = SITES[self.ref.site]
        return next(one for one in known if one != self.endpoint).partition("//")[2]

    def answered(self, status: int, headers: Mapping[str, str]) -> HubError:
        """Return the error for an answer with a status of 400 or more."""
        code = headers.get("X-Error-Code", "")
        html = "html" in headers.get("Content-Type", "")
        if self.ref.site == "modelscope" and not html and status in (401, 403, 404):
            return self.said(status, "")
        if code == "GatedRepo":
            return self.error("gated", page=self.ref.page(ENDPOINTS[0]))
        if code == "RevisionNotFound":
            return self.error("revision_not_found")
        if code == "EntryNotFound":
            return self.error("file_not_found")
        if status == 401 and (self.token_sent or "Invalid credentials" in headers.get("X-Error-Message", "")):
            return self.error("bad_token")
        # the Hub answers 401 for what does not exist, so that nobody can find out what is private
        if code == "RepoNotFound" or status == 401 or (status == 404 and not html):
            return self.error("not_found")
        if status == 404:
            return self.error("not_a_hub")
        if status == 407:
            return self.error("no_connection", why="proxy")
        if status == 403:
            return self.error("forbidden")
        if status == 429:
            return self.error("rate_limited", seconds=retry_after(headers) or 60.0)
        return self.error("server_error", status=status)

    def said(self, code: int, message: str) -> HubError:
        """Return the error for what ModelScope gives as the reason of a refusal."""
        if re.search(r"(?i)revision|branch", message):
            return self.error("revision_not_found")
        if code == 404 or re.search(r"(?i)not ?(exist|found)|no such|\u4e0d\u5b58\u5728", message):
            return self.error("file_not_found" if self.file else "not_on_modelscope")
        if code in (401, 403) or re.search(r"(?i)denied|permission|private|log ?in|\u6743\u9650", message):
            return self.error("modelscope_refused", page=self.ref.page(self.endpoint))
        return self.error("server_error", status=code)

    def in_time(self, call: Callable[[], Returned]) -> Returned:
        """Return what `call` returns, or raise, in time even where the sockets' own timeouts are not enough.

        Looking up a name has none, and a byte now and then resets them. The thread that is left behind ends
        with its socket.
        """
        got: list[Returned] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                got.append(call())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, name="hub-asking", daemon=True)
        thread.start()
        thread.join(self.timeout)
        if got:
            return got[0]
        raise failed[0] if failed else self.error("timeout", seconds=self.timeout)

    def broken(self, error: BaseException, at: str = "") -> HubError | None:
        """Return the error for an exception of huggingface_hub, httpx2 or requests; None for any other.

        `at` is the address that was being asked, after redirects, where the exception may not know it.
        """
        causes = list(_causes(error))
        refused = _first(causes, HfHubHTTPError)
        if refused:
            return self.answered(refused.response.status_code, refused.response.headers)
        if _first(causes, OfflineModeIsEnabled):
            return self.error("offline")
        if not isinstance(error, _NETWORK):
            return None
        if _first(causes, *_NO_ADDRESS):
            return self.error("not_a_hub")
        at = at or _address(causes)
        # urllib3 counts a refused connection and an unknown name among its timeouts
        late = any(isinstance(one, _TIMEOUTS) and not isinstance(one, NewConnectionError) for one in causes)
        why = next((why for kinds, why in _WHYS if _first(causes, *kinds)), "unreachable")
        if why in ("dns", "refused") and get_environ_proxies(at or self.endpoint):
            why = "proxy"  # nobody else was asked
        elsewhere = _elsewhere(at, self.endpoint)
        if elsewhere:
            return self.error("bounced", host=elsewhere, why="timeout" if late else why)
        if late:
            return self.error("timeout", seconds=self.timeout)
        return self.error("no_connection", why=why)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the server asks for in `Retry-After` or the Hub's `RateLimit`."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if value:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time())
        except ValueError:
            return None
    used_up = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("RateLimit", ""))
    return float(used_up[1]) if used_up else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and everything wrapped in it, each once."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # urllib3 keeps the cause in `reason`, requests in `args`
        waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _first(causes: list[BaseException], *kinds: type[Caused]) -> Caused | None:
    return next((one for one in causes if isinstance(one, kinds)), None)


def _address(causes: list[BaseException]) -> str:
    """Return the address that was being asked, after redirects; "" where the exception doesn't say."""
    for one in causes:
        try:
            request = getattr(one, "request", None)
        except RuntimeError:  # httpx2's way of saying that there is none
            continue
        if request is not None:
            return str(request.url)
    return ""


def _elsewhere(address: str, endpoint: str) -> str:
    """Return the host of `address` where that is another server than `endpoint`'s, else ""."""
    there, here = urlsplit(address), urlsplit(endpoint)
    if not there.hostname or origin(address) == origin(endpoint):
        return ""
    if there.hostname != here.hostname:
        return there.hostname
    # the same host by https instead of http is no other one
    return "" if there.port == here.port else there.netloc


_NETWORK = (httpx2.HTTPError, requests.RequestException, urllib3.exceptions.HTTPError, OSError)
_TIMEOUTS = (httpx2.TimeoutException, requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
_NO_ADDRESS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)
_WHYS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((requests.exceptions.ProxyError, urllib3.exceptions.ProxyError, httpx2.ProxyError), "proxy"),
    ((ssl.SSLEOFError, ssl.SSLZeroReturnError), "closed"),
    ((ssl.SSLError, requests.exceptions.SSLError, urllib3.exceptions.SSLError), "tls"),
    ((socket.gaierror,), "dns"),
    ((ConnectionRefusedError,), "refused"),
    ((ConnectionResetError, BrokenPipeError, httpx2.ReadError, httpx2.WriteError), "reset"),
    ((urllib3.exceptions.ProtocolError, httpx2.RemoteProtocolError), "closed"),
)
