"""Measure the download side by side with what people use today, from a Hub on this computer.

    python bench/download.py                     500 MB in one file, 2,000 small files, a link cut every 50 MB
    python bench/download.py --size 20MB --files 100 --rounds 1 --json all.json
    python bench/download.py --clients "ours,hf download"

The Hub is a process of its own and hands out files with sendfile; metadata and small files come from one
origin, large files by a redirect from another, as huggingface.co does it. Every run is a fresh process into
an empty folder, its start-up included; clients take turns, round by round; the medians count. `s` is wall
time, `CPU s` user and system time of the client, `peak MB` the most memory it held (the kernel's VmHWM).
What arrived is compared with what was served, outside the time taken. Only ours, and aria2c where it says
so, check the bytes by their hashes as they come.

On the cut link the server breaks every connection after each 50 MB of body, by a reset (what a filtering
network does) or by closing it; `sent` is how much left the server in all, in sizes of the file.

Runs on Linux and macOS. aria2c is looked for in the PATH; hf is that of this interpreter's environment.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from random import Random
from statistics import median
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from urllib.request import ProxyHandler, build_opener

ROOT = Path(__file__).resolve().parent.parent
SMALL = 10_000  # bytes of a small file
REPOS = ("large", "small", "reset", "close")
LIMIT = 600.0  # seconds after which a client is given up
PAGE = 1000  # files in one page of a listing
COMMIT = "c0ffee" * 6 + "c0ff"
BINS = Path(sys.executable).parent

# The data


@dataclass(frozen=True, slots=True)
class Held:
    """One file of a repository: a stretch of `source`."""

    source: Path
    at: int
    size: int
    sha256: str
    git_sha1: str

    def row(self, path: str, *, large: bool) -> dict[str, Any]:
        """Return the file as the Hub's tree tells it."""
        told: dict[str, Any] = {"type": "file", "path": path, "size": self.size, "oid": self.git_sha1}
        return told | ({"lfs": {"oid": self.sha256, "size": self.size, "pointerSize": 134}} if large else {})


Repos = dict[str, dict[str, Held]]


def make(folder: Path, size: int, files: int) -> Repos:
    """Write the data where it is missing; return the repositories: one large file, many small ones."""
    folder.mkdir(parents=True, exist_ok=True)
    large, small = folder / f"large-{size}.bin", folder / f"small-{files}.bin"
    for path, length in ((large, size), (small, files * SMALL)):
        if not path.is_file() or path.stat().st_size != length:
            rng = Random(4)
            with path.open("wb") as file:
                for at in range(0, length, 1 << 20):
                    file.write(rng.randbytes(min(1 << 20, length - at)))
    held = {f"part-{n % 20:02}/{n:05}.json": _held(small, n * SMALL, SMALL) for n in range(files)}
    return {"large": {"data.bin": _held(large, 0, size)}, "small": held}


def _held(source: Path, at: int, size: int) -> Held:
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    with source.open("rb") as file:
        file.seek(at)
        left = size
        while piece := file.read(min(1 << 20, left)):
            sha256.update(piece)
            git.update(piece)
            left -= len(piece)
    return Held(source, at, size, sha256.hexdigest(), git.hexdigest())


# The server


class Server:
    """A Hub that hands out stretches of files; quick rather than complete.

    The repository `large` is there under three names: `large`, and `reset` and `close`, whose connections
    are broken after each `cut` bytes of body.
    """

    def __init__(self, repos: Repos, cut: int) -> None:
        self.repos = repos | dict.fromkeys(("reset", "close"), repos["large"])
        self.cut = cut
        self.sent = self.connections = self.requests = 0
        self.open = {held.source: os.open(held.source, os.O_RDONLY) for held in _all(repos)}
        self.turn = threading.Lock()
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.socket.getsockname()[1]
        self.infos = {name: json.dumps(self._info(name)).encode() for name in self.repos}
        self.pages = {
            name: [json.dumps(rows[at : at + PAGE]).encode() for at in range(0, len(rows), PAGE)]
            for name, rows in ((name, self._rows(name)) for name in self.repos)
        }

    def _rows(self, name: str) -> list[dict[str, Any]]:
        return [held.row(path, large=name != "small") for path, held in self.repos[name].items()]

    def _info(self, name: str) -> dict[str, Any]:
        siblings = [{"rfilename": path} for path in self.repos[name]]
        told = {"id": f"bench/{name}", "sha": COMMIT, "private": False, "gated": False, "disabled": False}
        return told | {"tags": [], "downloads": 0, "likes": 0, "siblings": siblings}

    def serve(self) -> None:
        """Serve until the process ends."""
        while True:
            connection, _ = self.socket.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        self.connections += 1
        waiting = b""
        with connection, suppress(OSError):
            while True:
                while b"\r\n\r\n" not in waiting:
                    got = connection.recv(1 << 16)
                    if not got:
                        return
                    waiting += got
                head, _, waiting = waiting.partition(b"\r\n\r\n")
                self.requests += 1
                if not self._answer(connection, head.decode("latin-1")):
                    return

    def _answer(self, connection: socket.socket, head: str) -> bool:
        """Answer one request; return whether the connection lives on."""
        method, target, _ = head.split(" ", 2)
        url = urlsplit(target)
        parts = unquote(url.path).split("/")
        if parts[1] == "counted":
            # the question itself is not counted
            told = {"sent": self.sent, "connections": self.connections - 1, "requests": self.requests - 1}
            self.sent = self.connections = self.requests = 0
            return self._say(connection, method, "200 OK", {}, json.dumps(told).encode())
        if parts[1:3] == ["api", "datasets"]:
            return self._metadata(connection, method, parts[4], parts[5:], parse_qs(url.query))
        name, path = parts[3] if len(parts) > 6 else "", "/".join(parts[6:])
        if path not in self.repos.get(name, ()):
            return self._say(connection, method, "404 Not Found", {}, b"")
        held = self.repos[name][path]
        if parts[1] == "datasets":
            hash_ = held.sha256 if name != "small" else held.git_sha1
            facts = {"X-Repo-Commit": COMMIT, "ETag": f'"{hash_}"', "X-Linked-Size": str(held.size)}
            onward = f"/stored/datasets/{name}/x/{COMMIT}/{quote(path)}"
            if name != "small":
                facts["X-Linked-ETag"] = facts["ETag"]
                onward = f"http://localhost:{self.port}{onward}?Signature=x"
            return self._say(connection, method, "302 Found", facts | {"Location": onward}, b"Found")
        return self._body(connection, method, head, name, held)

    def _metadata(
        self, connection: socket.socket, method: str, name: str, rest: list[str], query: dict[str, list[str]]
    ) -> bool:
        if rest[:1] != ["tree"]:
            return self._say(connection, method, "200 OK", {}, self.infos[name])
        number = int(query.get("cursor", ["0"])[0])
        more = number + 1 < len(self.pages[name])
        onward = f"http://127.0.0.1:{self.port}/api/datasets/bench/{name}/tree/{COMMIT}?recursive=true"
        link = {"Link": f'<{onward}&cursor={number + 1}>; rel="next"'} if more else {}
        return self._say(connection, method, "200 OK", link, self.pages[name][number])

    def _say(
        self, connection: socket.socket, method: str, status: str, facts: dict[str, str], body: bytes
    ) -> bool:
        lines = "".join(f"{key}: {value}\r\n" for key, value in facts.items())
        kind = "application/json" if status == "200 OK" else "text/plain"
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{lines}\r\n"
        connection.sendall(head.encode("latin-1") + (body if method != "HEAD" else b""))
        return True

    def _body(self, connection: socket.socket, method: str, head: str, name: str, held: Held) -> bool:
        asked = re.search(r"\r\nrange: *bytes=(\d+)-(\d*)", head, re.IGNORECASE)
        start = int(asked[1]) if asked else 0
        stop = min(held.size, int(asked[2]) + 1) if asked and asked[2] else held.size
        status = f"206 Partial\r\nContent-Range: bytes {start}-{stop - 1}/{held.size}" if asked else "200 OK"
        hash_ = held.sha256 if name != "small" else held.git_sha1
        told = f"HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nAccept-Ranges: bytes\r\n"
        told += f'Content-Length: {stop - start}\r\nETag: "{hash_}"\r\nX-Repo-Commit: {COMMIT}\r\n\r\n'
        connection.sendall(told.encode("latin-1"), socket.MSG_MORE if hasattr(socket, "MSG_MORE") else 0)
        if method == "HEAD":
            return True
        broken = name in ("reset", "close") and stop - start > self.cut
        end = start + self.cut if broken else stop
        at = start
        try:
            while at < end:
                at += os.sendfile(connection.fileno(), self.open[held.source], held.at + at, end - at)
        finally:
            with self.turn:
                self.sent += at - start
        if broken and name == "reset":
            _drain(connection)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not broken


def _drain(connection: socket.socket) -> None:
    """Wait until the other side's computer has all that was sent; a reset would take it back."""
    if sys.platform != "linux":
        return
    import fcntl
    import termios

    until = time.monotonic() + 5
    while time.monotonic() < until:
        left = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]
        if not left:
            return
        time.sleep(0.001)


def _all(repos: Repos) -> Iterator[Held]:
    for files in repos.values():
        yield from files.values()


@contextmanager
def serving(folder: Path, size: int, files: int, cut: int) -> Iterator[str]:
    """Run the server in a process of its own; give its address."""
    command = [sys.executable, str(Path(__file__)), "--serve", "--folder", str(folder)]
    command += ["--size", str(size), "--files", str(files), "--cut", str(cut)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise SystemExit("the server did not start")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


# The clients


@dataclass(frozen=True, slots=True)
class Client:
    """A way to fetch. `command` takes the endpoint, the repository, its files and the folder to write."""

    name: str
    command: Callable[[str, str, dict[str, Held], Path], list[str]]
    program: str = ""
    repos: tuple[str, ...] = REPOS


def _ours(endpoint: str, name: str, _files: dict[str, Held], folder: Path) -> list[str]:
    return [sys.executable, str(Path(__file__)), "--fetch", endpoint, f"bench/{name}", str(folder)]


def _hf(_endpoint: str, name: str, _files: dict[str, Held], folder: Path) -> list[str]:
    hf = str(BINS / "hf")
    return [hf, "download", "--repo-type", "dataset", f"bench/{name}", "--local-dir", str(folder)]


def _aria2(*more: str, check: bool = False) -> Callable[[str, str, dict[str, Held], Path], list[str]]:
    def command(endpoint: str, name: str, files: dict[str, Held], folder: Path) -> list[str]:
        [(path, held)] = files.items()
        hashes = [f"--checksum=sha-256={held.sha256}"] if check else []
        address = f"{endpoint}/datasets/bench/{name}/resolve/{COMMIT}/{path}"
        plain = ["aria2c", "--no-conf", "--console-log-level=error", "--file-allocation=none", "-c"]
        return [*plain, *more, *hashes, "-d", str(folder), "-o", path, address]

    return command


# As hfd.sh, the script of hf-mirror.com, calls it; and with one connection, which is quicker on one computer.
_FOUR = ("-x4", "-s4", "-k1M")
CLIENTS = (
    Client("ours", _ours),
    Client("hf download", _hf, str(BINS / "hf")),
    Client("aria2c, 4 connections", _aria2(*_FOUR), "aria2c", ("large", "reset", "close")),
    Client("aria2c, 1 connection", _aria2("-x1", "-s1"), "aria2c", ("large",)),
    Client("aria2c, 1 connection, with SHA-256", _aria2("-x1", "-s1", check=True), "aria2c", ("large",)),
)


def fetch(endpoint: str, repo: str, folder: str) -> None:
    """Fetch a whole repository with lib.hub, as the command line does."""
    sys.path[0] = str(ROOT)  # not bench/
    from lib import hub

    listing = hub.list_files(hub.parse(repo), endpoint)
    hub.download(listing, listing.files, Path(folder))


# The runs


@dataclass(slots=True)
class Row:
    """What a client did with a repository; `said`: "same", "DIFFERS …", "failed …" or "not installed"."""

    repo: str
    name: str
    said: str = ""
    runs: list[dict[str, float]] = field(default_factory=list)

    def of(self, name: str) -> float:
        """Return the median of a figure."""
        return median(run[name] for run in self.runs)


def measure(
    endpoint: str, repos: Repos, name: str, clients: Sequence[Client], rounds: int, scratch: Path
) -> list[Row]:
    """Let the clients fetch a repository in turns."""
    files = repos["small" if name == "small" else "large"]
    rows = [(client, Row(name, client.name)) for client in clients if name in client.repos]
    for number in range(rounds):
        for client, row in rows:
            if client.program and not shutil.which(client.program):
                row.said = "not installed"
                continue
            _note(f"{name}: {client.name}, round {number + 1}")
            folder = scratch / "here"
            folder.mkdir(parents=True)
            try:
                run, said = _run(client.command(endpoint, name, files, folder), endpoint, scratch)
                run |= _counted(endpoint)
                row.runs.append(run)
                said = said or _compared(files, folder)
                row.said = said if row.said in ("", "same") else row.said
            finally:
                shutil.rmtree(scratch)
    return [row for _, row in rows]


def _run(command: list[str], endpoint: str, scratch: Path) -> tuple[dict[str, float], str]:
    """Run a client; return its figures, and how it failed."""
    mine = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(scratch / "home")}
    mine |= {"NO_PROXY": "127.0.0.1,localhost", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.sync()
    _counted(endpoint)
    with (scratch / "errors").open("w+b") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | mine, stdout=errors, stderr=errors)
        peak = _Peak(process.pid)
        killer = threading.Timer(LIMIT, process.kill)
        killer.start()
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        killer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        lines = errors.read().decode(errors="replace").replace("\r", "\n").strip().splitlines()
    said = f"failed: {lines[-1].strip()[:120] if lines else process.returncode}" if status else ""
    return {"seconds": seconds, "cpu": used.ru_utime + used.ru_stime, "peak": peak.end(used)}, said


class _Peak:
    """Watches how much memory a process has held at most."""

    def __init__(self, pid: int) -> None:
        self.status = Path(f"/proc/{pid}/status")
        self.most = 0.0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def end(self, used: resource.struct_rusage) -> float:
        """Return the most bytes; without /proc `ru_maxrss`, which starts with what this process held."""
        self.over.set()
        self.thread.join()
        return self.most or float(used.ru_maxrss) * (1 if sys.platform == "darwin" else 1024)

    def _watch(self) -> None:
        while not self.over.wait(0.02):
            try:
                found = re.search(r"VmHWM:\s+(\d+)", self.status.read_text())
            except OSError:
                return
            self.most = max(self.most, float(found[1]) * 1024 if found else 0)


def _counted(endpoint: str) -> dict[str, float]:
    """Return what the server has done since it was last asked."""
    with build_opener(ProxyHandler({})).open(f"{endpoint}/counted", timeout=30) as answer:
        told: dict[str, float] = json.load(answer)
    return told


def _compared(files: dict[str, Held], folder: Path) -> str:
    for path, held in files.items():
        there = folder / path
        if not there.is_file() or _held(there, 0, there.stat().st_size).sha256 != held.sha256:
            return f"DIFFERS: {path}"
    return "same"


def _note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# The tables and the promises


def table(name: str, size: int, files: int, cut: int, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of one repository's table."""
    titles = {
        "large": f"{size / 1e6:,.0f} MB in one file",
        "small": f"{files:,} files of {SMALL / 1e3:.0f} kB",
        "reset": f"{size / 1e6:,.0f} MB over a link that is reset every {cut / 1e6:,.0f} MB",
        "close": f"{size / 1e6:,.0f} MB over a link that is closed every {cut / 1e6:,.0f} MB",
    }
    total = files * SMALL if name == "small" else size
    ours = next((row for row in rows if row.name == "ours" and row.runs), None)
    yield f"### {titles[name]}"
    yield ""
    yield "| client | s | CPU s | peak MB | sent | requests | connections | ÷ ours | rounds | result |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    for row in rows:
        if not row.runs:
            yield f"| {row.name} | | | | | | | | | {row.said} |"
            continue
        times = f"{row.of('seconds') / ours.of('seconds'):.2f}×" if ours and row.said == "same" else ""
        yield (
            f"| {row.name} | {row.of('seconds'):.2f} | {row.of('cpu'):.2f} | {row.of('peak') / 1e6:,.0f}"
            f" | {row.of('sent') / total:.3f}× | {row.of('requests'):,.0f} | {row.of('connections'):,.0f}"
            f" | {times} | {len(row.runs)} | {row.said} |"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """A promise about a repository: the value of our row is at most `limit`; `other` is compared with."""

    repo: str
    text: str
    value: Callable[[Row, Row | None], float]
    limit: float
    show: str = "{:.2f} times"
    other: str = ""


def _times(ours: Row, other: Row | None) -> float:
    assert other
    return ours.of("seconds") / other.of("seconds")


def _memory(ours: Row, _: Row | None) -> float:
    return max(run["peak"] for run in ours.runs) / 1e6


def targets(size: int) -> tuple[Target, ...]:
    """Return what was promised."""

    def sent(ours: Row, _: Row | None) -> float:
        return max(run["sent"] for run in ours.runs) / size - 1

    return (
        *(
            Target("large", f"not slower than {other}", _times, 1, other=other)
            for other in ("hf download", *(one.name for one in CLIENTS if one.program == "aria2c"))
        ),
        Target("small", "not slower than hf download", _times, 1, other="hf download"),
        Target("reset", "at most 1 % more bytes than the file has", sent, 0.01, "{:.3%} more"),
        Target("close", "at most 1 % more bytes than the file has", sent, 0.01, "{:.3%} more"),
        *(Target(name, "memory under 150 MB", _memory, 150, "{:,.0f} MB") for name in REPOS),
    )


def judged(rows: Sequence[Row], size: int) -> list[dict[str, str]]:
    """Return every promise with what was measured; `said` is "met", "missed by …" or "not measured"."""
    good = {(row.repo, row.name): row for row in rows if row.said == "same" and row.runs}
    found = []
    for target in targets(size):
        ours, other = good.get((target.repo, "ours")), good.get((target.repo, target.other))
        if ours is None or (target.other and other is None):
            said, shown = "not measured", ""
        else:
            value = target.value(ours, other)
            said = "met" if value <= target.limit else f"missed by {value / target.limit - 1:.1%}"
            shown = target.show.format(value)
        found.append({"target": f"{target.repo}: {target.text}", "said": said, "shown": shown})
    return found


def _machine() -> Iterator[str]:
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    model = platform.processor() or platform.machine()
    yield f"{os.cpu_count()} cores ({model}), {platform.platform()}; load {load}"
    told = [f"huggingface_hub {metadata.version('huggingface_hub')}"]
    if shutil.which("aria2c"):
        answer = subprocess.run(["aria2c", "--version"], capture_output=True, text=True, check=True)
        told.append(answer.stdout.partition("\n")[0])
    yield f"Python {platform.python_version()}, {', '.join(told)}"


def _bytes(text: str) -> int:
    """Return 2000000 for 2MB: decimal, as disks and downloads count."""
    units = {"KB": 1e3, "MB": 1e6, "GB": 1e9}
    unit = text[-2:].upper()
    return int(float(text[:-2]) * units[unit]) if unit in units else int(text)


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "bench/download.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", type=_bytes, default=500_000_000, help="of the one file: 20MB, 2GB")
    add("--files", type=int, default=2000, help="how many small files")
    add("--cut", type=_bytes, default=50_000_000, help="bytes after which the cut link breaks")
    add("--rounds", type=int, default=3)
    add("--only", default=",".join(REPOS), help=f"which of {','.join(REPOS)}")
    add("--clients", default="", help="only those whose names begin so: ours,aria2c")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()) / "firsttune-bench-download")
    add("--json", type=Path, help="write every single figure to this file")
    add("--serve", action="store_true", help=argparse.SUPPRESS)
    add("--fetch", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for; print tables."""
    asked = _asked(arguments)
    if asked.fetch:
        fetch(*asked.fetch)
        return
    folder = asked.folder.resolve()
    repos = make(folder, asked.size, asked.files)
    if asked.serve:
        server = Server(repos, asked.cut)
        print(server.port, flush=True)
        server.serve()
    chosen = tuple(filter(None, asked.clients.split(",")))
    clients = [client for client in CLIENTS if not chosen or client.name.startswith(chosen)]
    print("\n\n".join([f"`{' '.join(['python bench/download.py', *sys.argv[1:]])}`", *_machine()]))
    rows: list[Row] = []
    with serving(folder, asked.size, asked.files, asked.cut) as endpoint:
        for name in asked.only.split(","):
            scratch = folder / f"run-{os.getpid()}"
            measured = measure(endpoint, repos, name, clients, asked.rounds, scratch)
            print("\n" + "\n".join(table(name, asked.size, asked.files, asked.cut, measured)), flush=True)
            rows += measured
    found = judged(rows, asked.size)
    print("\n" + "\n".join(f"- {one['target']}: **{one['said']}** {one['shown']}".rstrip() for one in found))
    if asked.json:
        told = {"rows": [asdict(row) for row in rows], "targets": found}
        asked.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
