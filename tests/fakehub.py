"""A Hugging Face Hub on 127.0.0.1, faithful enough for the real client, with faults on demand.

    with FakeHub() as hub:
        hub.add_repo("Conard/fortune-telling", {"data.json": b"[]", "big.parquet": bytes(10**6)})
        hub.fault("big.parquet", "reset", at=500_000)      # the first connection breaks at that byte
        ...                                                # anything that takes an endpoint: hub.url
        assert hub.log[-1].headers["range"] == "bytes=500000-"

What it speaks: `/api/{datasets,models}/ID[/revision/REV]`, `.../tree/REV[/PATH]` (in linked pages of `page`
entries), `.../paths-info/REV`, `.../auth-check`; HEAD and GET of `[/datasets]/ID/resolve/REV/PATH`, with
Range. Small files are redirected to `/api/resolve-cache/...` on the same origin, as the Hub does; large ones
(LFS: the names in `lfs=`, else those from 1 MB on and the usual endings) to `hub.cdn`, the same server under
another host name, so another origin. Commits stay reachable by their hashes, revisions by their names.

`private=True` hides a repository from everyone without a token; `gated=True` shows it, but not its files. A
token that is not in `hub.tokens` is refused with 401. `bps` throttles every body to bytes per second.

Faults: `fault(where, kind, ...)`. `where` is a part of the path ("data.json" meets /resolve/ and the CDN
alike; "/cdn/" and "/resolve/" one of them), "@api" for all metadata, "" for everything. It is met `times`
times (None: always), by requests of `method` ("": any).
  instead of an answer
    status      an error: status=503, retry_after=SECONDS, code= for X-Error-Code
    html        200 and a captive portal's page        json    200 and JSON that no Hub writes
    silent      never answers                          drop    RST at once
    bounce      308 to the same path on `to=`          away    302 to `to=`, as a login page is reached
  in a body, when byte `at` of the file would be next, or after `each` bytes of every body
    reset       RST                                    truncate   a clean close
    stall       silence                                corrupt    the byte `at` is flipped
    no_range    200 with the whole file                no_length  no Content-Length, ends by closing
`hub.log` has every request: method, host, path, headers (lower-case names), status, sent (bytes of body);
`hub.connections` counts what they came over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

LARGE = 1_000_000
LARGE_ENDINGS = (".parquet", ".safetensors", ".bin", ".gguf", ".zip", ".gz")
IN_BODY = ("reset", "truncate", "stall", "corrupt", "no_range", "no_length")
PIECE = 64 * 1024
Data = bytes | memoryview


@dataclass
class Seen:
    """One request, and what was answered."""

    method: str
    host: str
    path: str
    query: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    where: str
    kind: str
    times: int | None = 1
    at: int = 0
    each: int | None = None
    status: int = 503
    retry_after: float | None = None
    code: str = ""
    to: str = ""
    method: str = ""


@dataclass
class File:
    data: Data
    lfs: bool
    sha256: str = ""
    git_sha1: str = ""

    def __post_init__(self) -> None:
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        kept = self.data
        if self.lfs:  # what git has is the pointer
            kept = f"oid sha256:{self.sha256}\nsize {len(kept)}\n".encode()
            kept = b"version https://git-lfs.github.com/spec/v1\n" + kept
        self.git_sha1 = hashlib.sha1(b"blob %d\0" % len(kept) + kept).hexdigest()

    def as_tree(self, path: str) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "path": path, "size": len(self.data), "oid": self.git_sha1}
        if self.lfs:
            row["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": 134}
        return row

    def as_sibling(self, path: str, *, blobs: bool) -> dict[str, Any]:
        row: dict[str, Any] = {"rfilename": path}
        if blobs:
            row |= {"size": len(self.data), "blobId": self.git_sha1}
            if self.lfs:
                row["lfs"] = {"sha256": self.sha256, "size": len(self.data), "pointerSize": 134}
        return row


@dataclass
class Repo:
    id: str
    kind: str
    private: bool = False
    gated: bool = False
    license: str = ""
    revisions: dict[str, str] = field(default_factory=dict)  # name -> commit
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    modified: dict[str, str] = field(default_factory=dict)  # commit -> when


class FakeHub:
    """The server. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, *, port: int = 0, page: int = 1000, bps: int | None = None) -> None:
        self.page, self.bps = page, bps
        self.repos: dict[tuple[str, str], Repo] = {}
        self.faults: list[Fault] = []
        self.tokens: set[str] = set()
        self.log: list[Seen] = []
        self.connections = 0
        self.turn = threading.Lock()
        self.over = threading.Event()
        self.server = _Server(("127.0.0.1", port), type("Bound", (self.handler(),), {"hub": self}))
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.cdn = f"http://localhost:{self.port}"

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """Return the class that answers the requests; tests/fakescope.py has another one."""
        return Handler

    def start(self) -> Self:
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def stop(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add_repo(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        kind: str = "dataset",
        revision: str = "main",
        lfs: Collection[str] | None = None,
        private: bool = False,
        gated: bool = False,
        license: str = "",
        modified: str = "2024-06-07T08:09:10.000Z",
    ) -> str:
        """Put a commit with exactly these files on `revision`; return its hash.

        Earlier commits stay reachable. Without `license`, the one in the README's front matter counts.
        """
        held = self.repos.setdefault((kind, repo), Repo(repo, kind))
        card = files.get("README.md", b"")
        stated = re.match(rb"---\n(?:.*\n)*?license: *(\S+)", card) if isinstance(card, bytes) else None
        held.private, held.gated = private, gated
        held.license = license or (stated[1].decode() if stated else "")
        tree: dict[str, File] = {}
        for path, given in files.items():
            data = _mapped(given) if isinstance(given, Path) else given
            large = path in lfs if lfs is not None else len(data) >= LARGE or path.endswith(LARGE_ENDINGS)
            tree[path] = File(data, large)
        marks = "".join(f"{path}{file.sha256}" for path, file in sorted(tree.items()))
        commit = hashlib.sha1(f"{kind}{repo}{marks}".encode()).hexdigest()
        held.commits[commit] = tree
        held.revisions[revision] = commit
        held.modified[commit] = modified
        return commit

    def fault(self, where: str, kind: str, **how: Any) -> Fault:
        """Plan a fault; see the module's docstring. Faults planned first are met first."""
        planned = Fault(where, kind, **how)
        with self.turn:
            self.faults.append(planned)
        return planned

    def asked(self, where: str = "", method: str = "GET") -> list[Seen]:
        """Return the requests whose path has `where` in it."""
        return [seen for seen in self.log if where in seen.path and seen.method == method]

    def sent(self, where: str = "") -> int:
        """Return the bytes of bodies sent for paths that have `where` in them."""
        return sum(seen.sent for seen in self.log if where in seen.path)

    def meet(self, seen: Seen, kinds: Collection[str], span: range | None = None) -> Fault | None:
        """Take the first planned fault of `kinds` that this request meets."""
        with self.turn:
            for planned in self.faults:
                metadata = seen.path.startswith("/api/") and not seen.path.startswith("/api/resolve-cache/")
                here = metadata if planned.where == "@api" else planned.where in seen.path
                if not here or planned.kind not in kinds or planned.times == 0:
                    continue
                if planned.method and planned.method != seen.method:
                    continue
                placed = planned.kind in ("reset", "truncate", "stall", "corrupt") and planned.each is None
                if placed and (span is None or planned.at not in range(span.start, span.stop + 1)):
                    continue
                if planned.times is not None:
                    planned.times -= 1
                return planned
        return None


def _mapped(path: Path) -> Data:
    """Return a file's bytes without holding them."""
    if not path.stat().st_size:
        return b""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are what this is for."""


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "FakeHub"
    part = 206  # the status of a part of a file

    def setup(self) -> None:
        super().setup()
        self.hub.connections += 1

    def do_GET(self) -> None:
        self.handle_one()

    def do_HEAD(self) -> None:
        self.handle_one()

    def do_POST(self) -> None:
        self.handle_one()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean; `hub.log` has it."""

    def handle_one(self) -> None:
        self.posted = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        self.raw_path = url.path
        self.seen = Seen(
            self.command,
            self.headers.get("Host", ""),
            self.place(url),
            url.query,
            {name.lower(): value for name, value in self.headers.items()},
        )
        self.hub.log.append(self.seen)
        fault = self.hub.meet(self.seen, ("status", "html", "json", "silent", "drop", "bounce", "away"))
        if fault:
            self.misbehave(fault)
        elif not self.refused_token():
            self.route()

    def place(self, url: SplitResult) -> str:
        """Return the path that faults and the log know a request by."""
        return unquote(url.path)

    def misbehave(self, fault: Fault) -> None:
        if fault.kind == "drop":
            self.reset()
        elif fault.kind == "silent":
            self.hub.over.wait()
            self.close_connection = True
        elif fault.kind == "html":
            page = b"<!doctype html><title>Welcome to Hotel WiFi</title><form>Please log in</form>"
            self.answer(200, page, {"Content-Type": "text/html; charset=utf-8"})
        elif fault.kind == "json":
            self.json([{"ret": 0, "msg": "hello"}])
        elif fault.kind == "bounce":
            self.answer(308, b"", {"Location": fault.to + self.path})
        elif fault.kind == "away":
            self.answer(302, b"", {"Location": fault.to})
        else:
            headers = {"Content-Type": "text/plain"}
            if fault.retry_after is not None:
                headers["Retry-After"] = f"{fault.retry_after:g}"
            if fault.code:
                headers["X-Error-Code"] = fault.code
            self.answer(fault.status, b"no", headers)

    def refused_token(self) -> bool:
        token = self.token()
        if token and token not in self.hub.tokens and not self.raw_path.startswith("/cdn/"):
            self.error(401, "", "Invalid credentials in Authorization header")
            return True
        return False

    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def route(self) -> None:
        if self.raw_path.startswith("/cdn/"):
            return self.cdn()
        cached = re.fullmatch(r"/api/resolve-cache/(dataset|model)s/(.+?)/([0-9a-f]{40})/(.+)", self.raw_path)
        if cached:
            repo = self.hub.repos[cached[1], unquote(cached[2])]
            path = unquote(cached[4])
            return self.body_of(repo.commits[cached[3]][path], cached[3])
        api = re.fullmatch(
            r"/api/(dataset|model)s/(.+?)(?:/(revision|tree|paths-info|auth-check)(?:/([^/]+)(?:/(.*))?)?)?",
            self.raw_path,
        )
        if api:
            return self.api(
                api[1],
                unquote(api[2]),
                api[3] or "revision",
                unquote(api[4] or "main"),
                unquote(api[5] or ""),
            )
        file = re.fullmatch(r"/(datasets/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", self.raw_path)
        if file:
            kind = "dataset" if file[1] else "model"
            return self.resolve(kind, unquote(file[2]), unquote(file[3]), unquote(file[4]))
        return self.answer(404, b"<html>404</html>", {"Content-Type": "text/html"})

    def repo(self, kind: str, name: str) -> Repo | None:
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and not self.token()):
            self.error(404 if self.token() else 401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def commit(self, repo: Repo, revision: str) -> str | None:
        commit = repo.revisions.get(revision, revision)
        if commit not in repo.commits:
            self.error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def locked(self, repo: Repo) -> bool:
        if repo.gated and not self.token():
            self.error(401, "GatedRepo", f"Access to {repo.kind} {repo.id} is restricted.")
            return True
        return False

    def api(self, kind: str, name: str, what: str, revision: str, path: str) -> None:
        repo = self.repo(kind, name)
        if repo is None:
            return
        if what == "auth-check":
            if not self.locked(repo):
                self.json({})
            return
        commit = self.commit(repo, revision)
        if commit is None:
            return
        tree = repo.commits[commit]
        query = parse_qs(self.seen.query)
        if what == "revision":
            blobs = query.get("blobs", ["false"])[0].lower() == "true"
            tags = [f"license:{repo.license}"] if repo.license else []
            self.json(
                {
                    "_id": commit[:24],
                    "id": repo.id,
                    "author": repo.id.partition("/")[0],
                    "sha": commit,
                    "lastModified": repo.modified[commit],
                    "createdAt": "2024-06-07T08:09:10.000Z",
                    "private": repo.private,
                    "gated": "auto" if repo.gated else False,
                    "disabled": False,
                    "downloads": 12,
                    "likes": 3,
                    "tags": tags,
                    "cardData": {"license": repo.license} if repo.license else None,
                    "siblings": [file.as_sibling(path, blobs=blobs) for path, file in tree.items()],
                }
            )
        elif what == "paths-info":
            wanted = parse_qs(self.posted.decode()).get("paths", [])
            self.json([tree[path].as_tree(path) for path in wanted if path in tree])
        else:
            self.tree(tree, path.strip("/"), query)

    def tree(self, tree: dict[str, File], under: str, query: dict[str, list[str]]) -> None:
        deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        rows: dict[str, dict[str, Any]] = {}
        for path, file in sorted(tree.items()):
            if under and not path.startswith(f"{under}/"):
                continue
            inner = path.removeprefix(f"{under}/") if under else path
            steps = inner.split("/")
            for depth in range(1, len(steps)):
                folder = "/".join(([under] if under else []) + steps[:depth])
                if deep or depth == 1:
                    oid = hashlib.sha1(folder.encode()).hexdigest()
                    rows.setdefault(folder, {"type": "directory", "path": folder, "size": 0, "oid": oid})
            if deep or len(steps) == 1:
                rows[path] = file.as_tree(path)
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.hub.page
        headers = {}
        if end < len(rows):
            again = "&".join(f"{name}={value[0]}" for name, value in query.items() if name != "cursor")
            headers["Link"] = f'<{self.hub.url}{self.raw_path}?{again}&cursor={end}>; rel="next"'
        self.json(list(rows.values())[start:end], headers)

    def resolve(self, kind: str, name: str, revision: str, path: str) -> None:
        repo = self.repo(kind, name)
        if repo is None or self.locked(repo):
            return None
        commit = self.commit(repo, revision)
        if commit is None:
            return None
        file = repo.commits[commit].get(path)
        if file is None:
            return self.error(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if file.lfs:
            signed = f"repo={quote(name, safe='')}&commit={commit}&Signature=abc"
            headers |= {
                "X-Linked-Size": str(len(file.data)),
                "X-Linked-ETag": f'"{file.sha256}"',
                "Location": f"{self.hub.cdn}/cdn/{kind}/{file.sha256}/{quote(path)}?{signed}",
            }
            return self.answer(302, b"Found. Redirecting", headers)
        headers |= {
            "ETag": f'"{file.git_sha1}"',
            "Location": f"/api/resolve-cache/{kind}s/{quote(name)}/{commit}/{quote(path)}",
        }
        return self.answer(307, b"Temporary Redirect. Redirecting", headers)

    def cdn(self) -> None:
        """Serve a large file; a signed address needs no token, and a storage host should never see one."""
        _, _, kind, sha256, path = self.raw_path.split("/", 4)
        query = parse_qs(self.seen.query)
        repo = self.hub.repos[kind, query["repo"][0]]
        file = repo.commits[query["commit"][0]][unquote(path)]
        assert file.sha256 == sha256
        self.body_of(file, None)

    def body_of(self, file: File, commit: str | None) -> None:
        size = len(file.data)
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        headers["ETag"] = f'"{file.sha256 if file.lfs else file.git_sha1}"'
        if commit:
            headers["X-Repo-Commit"] = commit
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop, status = 0, size, 200
        if asked and not (self.command == "GET" and self.hub.meet(self.seen, ("no_range",))):
            start = int(asked[1])
            stop = min(size, int(asked[2]) + 1) if asked[2] else size
            if start >= size:
                return self.answer(416, b"", {"Content-Range": f"bytes */{size}"})
            status = self.part
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        if self.command == "HEAD":
            return self.answer(status, file.data[start:stop], headers)
        data = file.data[start:stop]
        spoilt = self.hub.meet(self.seen, ("corrupt",), range(start, stop - 1))
        if spoilt:
            place = spoilt.at - start
            data = b"".join((data[:place], bytes([data[place] ^ 0xFF]), data[place + 1 :]))
        endless = self.hub.meet(self.seen, ("no_length",))
        broken = self.hub.meet(self.seen, ("reset", "truncate", "stall"), range(start, stop))
        if broken:
            data = data[: broken.each if broken.each is not None else broken.at - start]
        if not endless:
            headers["Content-Length"] = str(stop - start)
        else:
            headers["Connection"] = "close"
        self.head(status, headers)
        self.pour(data)
        if endless:
            self.close_connection = True
        if broken and broken.kind == "reset":
            self.reset()
        elif broken:
            if broken.kind == "stall":
                self.hub.over.wait()
            self.close_connection = True
        return None

    def pour(self, data: Data) -> None:
        bps = self.hub.bps
        piece = PIECE if bps is None else max(1, min(PIECE, bps // 20))
        view = memoryview(data)
        for at in range(0, len(data), piece):
            part = view[at : at + piece]
            self.wfile.write(part)
            self.seen.sent += len(part)
            if bps is not None:
                time.sleep(len(part) / bps)

    def reset(self) -> None:
        """End the connection with RST, once what was written has left."""
        self.close_connection = True
        sock = self.connection
        if sys.platform != "win32":
            import fcntl
            import termios

            until = time.monotonic() + 2
            with contextlib.suppress(OSError):
                while time.monotonic() < until:
                    waiting = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
                    if not waiting:
                        break
                    time.sleep(0.001)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.socket(fileno=sock.detach()).close()

    def error(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Message": message, **(headers or {})}
        if code:
            told["X-Error-Code"] = code
        self.json({"error": message}, told, status)

    def json(self, value: Any, headers: Mapping[str, str] | None = None, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.answer(status, body, {"Content-Type": "application/json; charset=utf-8", **(headers or {})})

    def answer(self, status: int, body: Data, headers: Mapping[str, str]) -> None:
        self.head(status, {**headers, "Content-Length": str(len(body))})
        if self.command != "HEAD":
            self.pour(body)

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        self.seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
