"""The HTTP spoken with a platform: one key for one platform, timeouts everywhere, errors that say what.

A redirect is refused, so the key reaches no other host. What may have been done already is not asked for a
second time: only what reads is repeated, and what the platform certainly did not begin (no connection, 429).

An answer that is an error becomes a `BackendError` `platform.PROBLEM`, PROBLEM being one of PROBLEMS; its
facts hold the platform's own line in `said` and the whole answer in `raw`, without the key.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
import urllib3.exceptions
from requests.auth import AuthBase

from lib.backends.profile import dig
from lib.chat import Message
from lib.errors import BackendError, Fact
from lib.hub.failures import retry_after

CONNECT, SILENCE = 10.0, 60.0  # seconds for a connection; between two pieces of an answer
SAID, RAW = 300, 4000  # characters of the platform's own words that are shown; of the whole answer
TRIES = 3  # of what may be repeated
LONGEST_PAUSE = 20.0  # seconds; who is told to wait longer is told so
QUIET = 5.0  # seconds without a further line of a log after which it is taken for read
PIECE = 256 * 1024
CHAT = "/chat/completions"

# The kinds of refusal there is a sentence for, `error.platform.PROBLEM`.
PROBLEMS = (
    *("bad_key", "no_balance", "tier", "closed", "region", "forbidden"),
    *("rate_limit", "rate_limit_until"),
    *("no_model", "not_found", "file_refused", "refused", "busy", "failed"),
    *("odd_answer", "unreachable", "timeout", "cut", "not_https", "no_key", "no_address"),
)
_BY_STATUS = {
    **{
        401: "bad_key",
        402: "no_balance",
        403: "forbidden",
        404: "not_found",
        408: "busy",
        413: "file_refused",
    },
    **{429: "rate_limit", 451: "region", 502: "busy", 503: "busy", 504: "busy", 529: "busy"},
}
# What a platform's code or sentence means, whatever the status. Sources: platforms.md of 2026-11-22, in
# lower case; a platform's own are in its profile and come first.
_SAYS = (
    ("training_not_available", "closed"),
    ("insufficient_quota", "no_balance"),
    ("insufficient balance", "no_balance"),
    ("billing", "no_balance"),
    ("credit", "no_balance"),
    ("unsupported_country", "region"),
    ("invalid_api_key", "bad_key"),
    ("model_not_found", "no_model"),
    ("invalid_training_file", "file_refused"),
    ("invalid file", "file_refused"),
    ("file format", "file_refused"),
)


@dataclass(frozen=True, slots=True)
class Host:
    """Whom to speak with. `key_page` is where a key is made; `says`: what its words mean, looked at first."""

    platform: str
    base: str
    header: str = "Authorization: Bearer"
    key_page: str = ""
    says: Sequence[tuple[str, str]] = ()


class Wire:
    """Requests to one platform with one key. `silence`: seconds between two pieces of an answer."""

    def __init__(self, host: Host, key: str, *, silence: float = SILENCE, connect: float = CONNECT) -> None:
        self.host, self._key = host, key.strip()
        self._patience = (connect, silence)
        url = urlsplit(host.base)
        if not url.hostname:
            raise self._error("no_address")
        if url.scheme != "https" and url.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise self._error("not_https")
        if not re.fullmatch(r"[\x21-\x7e]+", self._key):
            raise self._error("bad_key" if self._key else "no_key")

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at a path; asked again where that may help."""
        return self._asked("GET", path, params=query)

    def post(self, path: str, body: Any = None) -> Any:
        """Send JSON and return the JSON that comes back; {} for an empty answer."""
        data = None if body is None else orjson.dumps(body)
        return self._asked("POST", path, data=data, headers={"Content-Type": "application/json"})

    def delete(self, path: str) -> Any:
        """Delete what is at a path. Doing so twice does no harm, so it is repeated like a GET."""
        return self._asked("DELETE", path)

    def upload(
        self,
        path: str,
        file: Path,
        *,
        field: str,
        fields: Mapping[str, str],
        bom: bool = False,
        told: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> Any:
        """Send a file as a form, piece by piece, and return the JSON that comes back.

        `bom`: put a UTF-8 byte order mark in front. `told`: bytes behind, and in all; it may raise.
        """
        form = _Form(file, field, fields, bom, told)
        return self._asked("POST", path, form=form)

    def at_origin(self) -> Wire:
        """Return the same for paths that do not begin at the platform's address but at its server."""
        url = urlsplit(self.host.base)
        return Wire(
            replace(self.host, base=f"{url.scheme}://{url.netloc}"), self._key, silence=self._patience[1]
        )

    @property
    def secret(self) -> str:
        """The key, for a library that sends it itself, to this platform."""
        return self._key

    def refusal(self, status: int, raw: bytes, headers: Mapping[str, str]) -> BackendError:
        """Return the error for an answer that is one, whoever asked."""
        try:
            told = orjson.loads(raw)
        except orjson.JSONDecodeError:
            told = raw.decode("utf-8", "replace")
        return self._told(status, told, raw, retry_after(headers))

    def unreached(self, *, timed_out: bool) -> BackendError:
        """Return the error for an answer that such a library did not have. Whether it asked is not known."""
        host = urlsplit(self.host.base).hostname or ""
        problem = "timeout" if timed_out else "unreachable"
        return self._error(problem, host=host, seconds=self._patience[1], sent=1)

    def odd(self, told: Any) -> BackendError:
        """Return the error for an answer in which what must be there is not."""
        return self._error("odd_answer", raw=orjson.dumps(told), status=200)

    def stream(
        self,
        path: str,
        body: dict[str, Any],
        *,
        choices: str = "choices",
        text: str = "delta.content",
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Iterator[str]:
        """Yield the words of a chat's answer as they come. Closing the iterator early ends the connection.

        `choices`: where they are in an event; `text`: where the words are in the first of them.
        """
        begun = False
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"} | dict(headers)
        how: dict[str, Any] = {"data": orjson.dumps(body), "headers": headers, "stream": True}
        with self._broken(lambda: begun), self._request("POST", path, **how) as answer:
            if answer.status_code != 200:
                raise self._refused(answer)
            for piece in self._pieces(answer, choices, text):
                begun = True
                yield piece

    def log(self, path: str, **query: Any) -> list[Any]:
        """Return the JSON of the server-sent events there are so far: a job's log, say.

        Such a stream stays open while the job runs, so it is left after QUIET seconds of silence.
        """
        found: list[Any] = []
        how: dict[str, Any] = {"params": query, "headers": {"Accept": "text/event-stream"}, "stream": True}
        with self._broken(lambda: bool(found)), self._request("GET", path, quiet=True, **how) as answer:
            if answer.status_code != 200:
                raise self._refused(answer)
            try:
                for line in answer.iter_lines(chunk_size=1):
                    if line.startswith(b"data:"):
                        with suppress(orjson.JSONDecodeError):
                            found.append(orjson.loads(line[5:]))
            except requests.ConnectionError as error:
                if "timed out" not in str(error):
                    raise
        return found

    def _asked(self, method: str, path: str, *, form: _Form | None = None, **how: Any) -> Any:
        repeats = method in ("GET", "DELETE")
        for left in reversed(range(TRIES)):
            try:
                with self._broken(lambda: False):
                    if form:
                        how = {"data": form.opened(), "headers": {"Content-Type": form.kind}}
                    with self._request(method, path, stream=True, **how) as answer:
                        if not 200 <= answer.status_code < 300:
                            raise self._refused(answer)
                        return self._json(answer)
            except BackendError as error:
                problem = error.key.rpartition(".")[2]
                pause = error.facts.get("seconds")
                seconds = pause if isinstance(pause, float) else 0.5 * 2 ** (TRIES - left)
                again = problem.startswith("rate_limit") or (
                    problem == "unreachable" and not error.facts["sent"]
                )
                again = again or (repeats and problem in ("busy", "failed", "unreachable", "timeout", "cut"))
                if not (left and again and seconds <= LONGEST_PAUSE):
                    raise
                time.sleep(seconds)
            finally:
                if form:
                    form.close()
        raise AssertionError  # the last try returns or raises

    def _request(self, method: str, path: str, *, quiet: bool = False, **how: Any) -> requests.Response:
        # An explicit `auth`: without one requests puts in whatever ~/.netrc has for this host.
        return requests.request(
            method,
            self.host.base.rstrip("/") + path,
            auth=_Key(self.host.header, self._key),
            timeout=(self._patience[0], QUIET) if quiet else self._patience,
            allow_redirects=False,
            **how,
        )

    @contextmanager
    def _broken(self, begun: Callable[[], bool]) -> Iterator[None]:
        """Turn what breaks in the network into our errors, `from None`: requests' errors hold the request."""
        try:
            yield
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            host = urlsplit(self.host.base).hostname or ""
            sent = not _never_sent(error)
            if sent and (isinstance(error, requests.Timeout) or "timed out" in str(error)):
                raise self._error("timeout", host=host, seconds=self._patience[1]) from None
            problem = "cut" if begun() or not isinstance(error, requests.ConnectionError) else "unreachable"
            raise self._error(problem, host=host, sent=int(sent)) from None

    def _json(self, answer: requests.Response) -> Any:
        raw = answer.content
        if not raw.strip():
            return {}
        try:
            told = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise self._error("odd_answer", raw=raw, status=answer.status_code) from None
        # some answer 200 and say in the body that nothing came of it
        if isinstance(told, dict) and told.get("code") and told.get("message") and not told.get("data"):
            code = str(told["code"])
            if code not in ("200", "20000") and not {"id", "output", "choices"} & told.keys():
                raise self._told(answer.status_code, told, raw)
        return told

    def _refused(self, answer: requests.Response) -> BackendError:
        raw = b"".join(islice(answer.iter_content(4096), 16))
        return self.refusal(answer.status_code, raw, answer.headers)

    def _told(self, status: int, told: Any, raw: bytes, after: float | None = None) -> BackendError:
        """Return the error for an answer that is one: JSON with a code, a bare string, or just text."""
        code, message = _said(told)
        if status == 500 and re.fullmatch(r"4\d\d", code):
            status = int(code)  # a 400 that came wrapped in a 500
        text = f"{code} {message}".lower()
        meant = [means for has, means in (*self.host.says, *_SAYS) if has in text]
        problem = meant[0] if meant and status != 429 and status != 401 else _BY_STATUS.get(status, "")
        if meant and meant[0] == "no_balance" and status == 429:
            problem = "no_balance"  # insufficient_quota comes as a 429, and waiting does not help
        if not problem:
            problem = "refused" if 400 <= status < 500 else "odd_answer" if status < 400 else "failed"
        if problem == "rate_limit" and after is not None:
            problem = "rate_limit_until"
        return self._error(problem, said=message, raw=raw, status=status, seconds=after)

    def _error(self, problem: str, *, said: str = "", raw: bytes = b"", **facts: Fact) -> BackendError:
        assert problem in PROBLEMS
        plain = raw.decode("utf-8", "replace")
        return BackendError(
            f"platform.{problem}",
            platform=self.host.platform,
            page=self.host.key_page or urlsplit(self.host.base).hostname or self.host.base,
            said=" ".join(self._hidden(said).split())[:SAID],
            raw=self._hidden(plain)[:RAW],
            **facts,
        )

    def _hidden(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _pieces(self, answer: requests.Response, at: str, words: str) -> Iterator[str]:
        """Yield the words in a stream of server-sent events."""
        chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
        ended = seen = False
        # chunks as they come; a body without chunks byte by byte, or the words would wait for a full block
        for line in answer.iter_lines(chunk_size=None if chunked else 1):
            if not line.startswith(b"data:"):
                continue  # a comment that keeps the connection open, an empty line
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            try:
                event = orjson.loads(data)
                choices = dig(event, at) or []
                text = dig(choices[0], words) if choices else None
                # DashScope writes out the word null until it has finished
                ended = ended or bool(choices and dig(choices[0], "finish_reason") not in (None, "", "null"))
                said = event.get("error") or event.get("code")
            except (orjson.JSONDecodeError, AttributeError, LookupError):
                text = data.decode("utf-8", "replace")
                raise self._error("odd_answer", said=text, raw=data, status=200) from None
            if not choices and said:
                raise self._told(503, event, data)
            seen = True
            if text:
                yield text
        if not ended:
            host = urlsplit(self.host.base).hostname or ""
            raise self._error("cut" if seen else "odd_answer", host=host, sent=1, status=200)


def ask(
    wire: Wire, model: str, messages: Sequence[Message], picks: Mapping[str, float], path: str = CHAT
) -> Iterator[str]:
    """Yield the answer of a model behind an OpenAI-shaped chat, piece by piece; `picks` as in `Backend`."""
    body = {
        "model": model,
        "messages": [{"role": message.role, "content": message.content} for message in messages],
        "stream": True,
        **picks,
    }
    return wire.stream(path, body)


class _Key(AuthBase):
    """The key in its header: `Authorization: Bearer` or the name of another header alone."""

    def __init__(self, header: str, key: str) -> None:
        self._name, _, kind = header.partition(":")
        self._value = f"{kind.strip()} {key}".strip()

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[self._name] = self._value
        return request


class _Form:
    """A form with one file in it, as a body read piece by piece: the file is never in memory whole."""

    def __init__(
        self,
        file: Path,
        field: str,
        fields: Mapping[str, str],
        bom: bool,
        told: Callable[[int, int], None],
    ) -> None:
        edge = f"firsttune-{secrets.token_hex(16)}"
        self.kind = f"multipart/form-data; boundary={edge}"
        head = "".join(
            f'--{edge}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{file.name}"\r\n'
        head += "Content-Type: application/jsonl\r\n\r\n"
        self._head = head.encode() + (b"\xef\xbb\xbf" if bom else b"")
        self._tail = f"\r\n--{edge}--\r\n".encode()
        self._path, self._told = file, told
        self._size = len(self._head) + file.stat().st_size + len(self._tail)
        self._file: Any = None

    def opened(self) -> _Form:
        """Begin from the start, for a first or another try."""
        self.close()
        self._file, self._done = self._path.open("rb"), 0
        return self

    def close(self) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes of the form; b"" at its end."""
        size = PIECE if size is None or size < 0 else max(1, size)
        if self._done < len(self._head):
            piece = self._head[self._done : self._done + size]
        else:
            piece = self._file.read(size)
            if not piece:
                left = self._size - self._done
                piece = self._tail[len(self._tail) - left :][:size] if left > 0 else b""
        self._done += len(piece)
        self._told(self._done, self._size)
        return piece


def _said(told: Any) -> tuple[str, str]:
    """Return the code and the sentence in a platform's answer, "" where there is none."""
    if not isinstance(told, dict):
        return "", str(told)
    inner = told.get("error")
    if isinstance(inner, dict):
        told = inner
    code = told.get("code") or told.get("type") or ""
    message = told.get("message") or (inner if isinstance(inner, str) else "") or told.get("detail") or told
    return str(code), message if isinstance(message, str) else orjson.dumps(message).decode()


def _never_sent(error: BaseException) -> bool:
    """Return whether a request surely never reached the platform: no connection was made."""
    seen: BaseException | None = error
    while seen is not None:
        inner = seen.args[0] if seen.args and isinstance(seen.args[0], BaseException) else None
        reason = getattr(inner, "reason", None)
        for one in (seen, inner, reason):
            if isinstance(one, urllib3.exceptions.NewConnectionError | requests.ConnectTimeout):
                return True
        seen = seen.__cause__
    return False
