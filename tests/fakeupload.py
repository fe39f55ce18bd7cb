"""The part of a Hub that takes a model repository in, on 127.0.0.1, for the real client.

    with FakeUpload() as hub:
        ...                          # anything that uploads to hub.url
        hub.repos["me/tea"].files    # what was committed
        hub.log                      # method, host, path and Authorization of every request

Large files (safetensors) go to `/cdn/` on another host name, so another origin, as the Hub's do; those of
more than `hub.part_size` bytes in parts. `hub.tokens` may write; `hub.broken` names paths whose first request
is answered with 503; while `hub.open` is not set, what is sent to `/cdn/` is not answered.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass
class Repo:
    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: int = 0


@dataclass
class Seen:
    method: str
    host: str
    path: str
    authorization: str


class FakeUpload:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.tokens = {"hf_writes"}
        self.stored: dict[str, bytes] = {}  # by SHA-256
        self.parts: dict[str, dict[int, bytes]] = {}
        self.part_size = 1 << 40
        self.broken: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.log: list[Seen] = []
        hub = self

        class Handler(_Handler):
            fake = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url, self.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeUpload
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.take(b"")

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size)
        if len(body) < size:
            self.close_connection = True  # the client has gone in its middle
            return
        self.take(body)

    def do_PUT(self) -> None:
        self.do_POST()

    def take(self, body: bytes) -> None:
        hub, path = self.fake, self.path.partition("?")[0]
        given = self.headers.get("Authorization", "")
        hub.log.append(Seen(self.command, self.headers.get("Host", ""), path, given))
        if path.startswith("/cdn/"):  # signed addresses: whoever has one may write there
            hub.open.wait(60)
            oid, _, part = path.removeprefix("/cdn/").partition("/")
            if not part:
                hub.stored[oid] = body
                return self.answer(200, {})
            hub.parts.setdefault(oid, {})[int(part)] = body
            return self.answer(200, {}, {"ETag": hashlib.md5(body).hexdigest()})
        if path == "/complete":
            asked = json.loads(body)
            parts = hub.parts[asked["oid"]]
            for one in asked["parts"]:
                assert one["etag"] == hashlib.md5(parts[one["partNumber"]]).hexdigest()
            hub.stored[asked["oid"]] = b"".join(parts[one["partNumber"]] for one in asked["parts"])
            return self.answer(200, {})
        if given.removeprefix("Bearer ") not in hub.tokens:
            return self.answer(
                401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"}
            )
        if path in hub.broken:
            hub.broken.remove(path)
            return self.answer(503, {"error": "busy"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in hub.repos:
                return self.answer(409, {"error": "exists", "url": f"{hub.url}/{name}"})
            hub.repos[name] = Repo(asked.get("visibility") == "private")
            return self.answer(200, {"url": f"{hub.url}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        return self.of_repo(path, body)

    def of_repo(self, path: str, body: bytes) -> None:
        hub = self.fake
        name, _, call = path.removeprefix("/api/models/").partition("/")
        rest, _, call = call.partition("/")
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        if path == "/verify":
            asked = json.loads(body)
            return self.answer(200 if len(hub.stored.get(asked["oid"], b"")) == asked["size"] else 400, {})
        repo = hub.repos.get(f"{name}/{rest}")
        if repo is None:
            return self.answer(404, {"error": "none"}, {"X-Error-Code": "RepoNotFound"})
        if not call:
            info = {"id": f"{name}/{rest}", "sha": f"{repo.commits:040x}", "private": repo.private}
            return self.answer(200, info | {"siblings": [], "tags": []})
        if call == "preupload/main":
            rows = [
                {"path": file["path"], "uploadMode": self.mode(file["path"]), "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": rows})
        assert call == "commit/main", call
        new: dict[str, bytes] = {}
        for line in body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                assert value["encoding"] == "base64"
                new[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                data = hub.stored.get(value["oid"])
                if data is None or hashlib.sha256(data).hexdigest() != value["oid"]:
                    return self.answer(400, {"error": f"{value['path']} never arrived"})
                new[value["path"]] = data
            elif row["key"] == "deletedFolder":
                inside = value["path"].rstrip("/") + "/"
                repo.files = {path: data for path, data in repo.files.items() if not path.startswith(inside)}
        repo.files |= new
        repo.commits += 1
        oid = f"{repo.commits:040x}"
        return self.answer(200, {"commitUrl": f"{hub.url}/{name}/{rest}/commit/{oid}", "commitOid": oid})

    def batch(self, asked: dict[str, Any]) -> None:
        rows = []
        for one in asked["objects"]:
            row = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.fake.stored:
                row["actions"] = {
                    "upload": self.way(one["oid"], one["size"]),
                    "verify": {"href": f"{self.fake.url}/verify"},
                }
            rows.append(row)
        self.answer(200, {"transfer": "basic", "objects": rows})

    def way(self, oid: str, size: int) -> dict[str, Any]:
        hub = self.fake
        if size <= hub.part_size:
            return {"href": f"{hub.cdn}/cdn/{oid}"}
        count = -(-size // hub.part_size)
        places = {str(part): f"{hub.cdn}/cdn/{oid}/{part}" for part in range(1, count + 1)}
        return {"href": f"{hub.url}/complete", "header": {"chunk_size": str(hub.part_size)} | places}

    def mode(self, path: str) -> str:
        return "lfs" if path.endswith(".safetensors") else "regular"

    def answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        with suppress(ConnectionError):  # it may have gone meanwhile
            self.end_headers()
            self.wfile.write(body)
