"""A ModelScope on 127.0.0.1: what lib/hub/modelscope.py describes, on top of FakeHub and with its faults.

    with FakeScope() as scope:
        scope.add_repo("org/tea", {"train.jsonl": b"{}"}, revision="master")

It speaks `/api/v1/datasets/ID/repo/tree` in pages, `/api/v1/models/ID/repo/files` with at most 3,000 entries,
`/api/v1/{datasets,models}/ID/repo` for bytes, `/openapi/v1/{datasets,models}/ID`. In faults and in the log, a
file's bytes have the path `/resolve/ID/PATH`.

Small files are answered here, a part of them with status 200 and Content-Range (`part = 206` for a proper
one); large ones are redirected to `scope.cdn`. `pinned = False`: the list names no commit. A private
repository is as if there were none, a gated one is answered with 403. `lies` are sizes told instead of the
true ones. `business = True`: refusals come with status 200.
"""

from __future__ import annotations

import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlencode

from tests.fakehub import FakeHub, Handler, Repo


class FakeScope(FakeHub):
    def __init__(self, **how: Any) -> None:
        self.pinned, self.business, self.part = True, False, 200
        self.lies: dict[str, int] = {}
        super().__init__(**how)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        return _Handler


class _Handler(Handler):
    hub: FakeScope

    def place(self, url: SplitResult) -> str:
        asked = parse_qs(url.query)
        if "FilePath" in asked:
            repo = re.fullmatch(r"/api/v1/(?:dataset|model)s/(.+)/repo", unquote(url.path))
            assert repo, url.path
            return f"/resolve/{repo[1]}/{asked['FilePath'][0]}"
        return super().place(url)

    def route(self) -> None:
        if self.raw_path.startswith("/cdn/"):
            self.part = 206
            return self.cdn()
        found = re.fullmatch(
            r"/(api|openapi)/v1/(dataset|model)s/([^/]+/[^/]+)(/repo(?:/tree|/files)?)?", self.raw_path
        )
        if not found:
            return self.answer(404, b"<html>404</html>", {"Content-Type": "text/html"})
        repo = self.hub.repos.get((found[2], unquote(found[3])))
        if repo is None or repo.private:
            return self.refuse(404, "record not found")
        if found[1] == "openapi":
            return self.json({"success": True, "data": {"id": repo.id, "license": repo.license or None}})
        asked = {name: values[0] for name, values in parse_qs(self.seen.query).items()}
        commit = repo.revisions.get(asked["Revision"], asked["Revision"])
        if commit not in repo.commits:
            return self.refuse(404, f"revision {asked['Revision']} does not exist")
        if repo.gated:
            return self.refuse(403, "access denied")
        if found[4] == "/repo":
            return self.bytes_of(repo, commit, asked["FilePath"])
        if found[4] != ("/repo/tree" if repo.kind == "dataset" else "/repo/files"):
            return self.refuse(404, "no such address")
        rows = self.rows(repo, commit, asked)
        if repo.kind == "dataset":
            size, number = int(asked["PageSize"]), int(asked["PageNumber"])
            rows = rows[size * (number - 1) : size * number]
        data: dict[str, Any] = {"Files": rows[:3000], "IsVisual": 0}
        data["LatestCommitter"] = {"Id": commit if self.hub.pinned else "", "ShortId": commit[:8]}
        return self.json({"Code": 200, "Data": data, "Message": "success", "Success": True, "RequestId": "1"})

    def rows(self, repo: Repo, commit: str, asked: dict[str, str]) -> list[dict[str, Any]]:
        under = f"{asked['Root']}/" if asked.get("Root") else ""
        rows: dict[str, dict[str, Any]] = {}
        for path, file in sorted(repo.commits[commit].items()):
            inner = path.removeprefix(under)
            if not path.startswith(under) or (asked["Recursive"] == "False" and "/" in inner):
                steps = inner.split("/") if path.startswith(under) else []
            else:
                steps = inner.split("/")
                size = self.hub.lies.get(path, file.as_tree(path)["size"])
                rows[path] = {"Path": path, "Type": "blob", "Size": size, "Sha256": file.sha256}
            for depth in range(1, len(steps) if asked["Recursive"] == "True" else min(2, len(steps))):
                folder = under + "/".join(steps[:depth])
                rows.setdefault(folder, {"Path": folder, "Type": "tree", "Size": 0, "Sha256": ""})
        return list(rows.values())

    def bytes_of(self, repo: Repo, commit: str, path: str) -> None:
        file = repo.commits[commit].get(path)
        if file is None:
            return self.refuse(404, "file not found")
        if self.headers.get("Range", "").startswith("bytes=-"):
            return self.refuse(400, "invalid range")
        if file.lfs:
            signed = urlencode({"repo": repo.id, "commit": commit, "Signature": "abc"})
            address = f"{self.hub.cdn}/cdn/{repo.kind}/{file.sha256}/{quote(path)}?{signed}"
            return self.answer(302, b"", {"Location": address})
        self.part = self.hub.part
        return self.body_of(file, None)

    def refuse(self, code: int, message: str) -> None:
        told = {"Code": code, "Data": None, "Message": message, "RequestId": "1", "Success": False}
        self.json(told, status=200 if self.hub.business else code)
