"""One GET through redirects that are followed by hand: every host on the way is known, and sees no token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urljoin

import requests
import urllib3.exceptions

from lib.hub.endpoint import headers_for, origin
from lib.hub.failures import Asked

REDIRECTS = 5
ENOUGH_TO_DROP = 256 * 1024  # bytes; a longer body costs more than a new connection


class Session(requests.Session):
    """Connections to be used again and again: the environment is asked for proxies once for each server."""

    def __init__(self) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {}

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Return proxies and certificates for an address; the others are the same in every call here."""
        server = origin(url)
        if server not in self.settings:
            found = super().merge_environment_settings(url, proxies, stream, verify, cert)
            self.settings[server] = found
        return self.settings[server]


@contextmanager
def opened(
    session: requests.Session,
    asked: Asked,
    address: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    patience: Callable[[], float | tuple[float, float]],
    passing: Callable[[str], None] = lambda _: None,
) -> Iterator[requests.Response]:
    """Give the answer to `address`, whatever its status, its body unread.

    The token is sent to the origin of `asked.endpoint` only. `patience()` says, before every request, how
    many seconds it may be silent, or how many to connect and how many then; `passing` is told every address
    before it is asked.

    What breaks in the network, inside the block too, is raised as `HubError`; a ring of redirects and an
    address that is none are `hub.not_a_hub`.
    """
    try:
        for _ in range(REDIRECTS + 1):
            passing(address)
            at_home = origin(address) == origin(asked.endpoint)
            sent = headers_for(token if at_home else None) | dict(headers or {})
            with _get(session, address, sent, patience()) as answer:
                onward = session.get_redirect_target(answer)
                if onward is None:
                    yield answer
                    return
                address = _onward(address, onward, asked)
                if int(answer.headers.get("Content-Length", ENOUGH_TO_DROP)) < ENOUGH_TO_DROP:
                    answer.raw.read(ENOUGH_TO_DROP)  # so that the connection can be used again
    except _NETWORK as error:
        told = asked.broken(error, at=address)
        assert told
        raise told from error
    raise asked.error("not_a_hub")


def _get(
    session: requests.Session, address: str, headers: dict[str, str], patience: float | tuple[float, float]
) -> requests.Response:
    """Ask without what requests does for redirects, cookies and passwords, which takes it as long again."""
    request = requests.Request("GET", address, headers, auth=_as_it_is).prepare()
    settings: Any = session.merge_environment_settings(address, {}, True, None, None)
    return session.get_adapter(address).send(request, timeout=patience, **settings)


def _onward(address: str, onward: str, asked: Asked) -> str:
    """Return where a redirect leads."""
    try:
        address = urljoin(address, onward)
        if origin(address).startswith(("https://", "http://")):
            return address
    except ValueError:
        pass
    raise asked.error("not_a_hub")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from taking a password out of the address, which it would send over our own header."""
    return request


_NETWORK = (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError)
