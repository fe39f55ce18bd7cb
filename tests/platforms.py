"""Platforms on 127.0.0.1: a real state machine per wire shape, with faults on demand.

    with Platform("openai", key="sk-…") as there:
        there.plan = ["queued", "running", "done"]        # what each further look at a job finds
        there.fault("GET", "/fine_tuning/jobs/", status=500, times=2)
        ...                                               # any backend whose address is there.url

A plan's words: queued, running, odd (a state nobody has heard of), nameless (done, but no model's name yet),
done, failed. The last one stays. A job that is asked to cancel is "cancelling" for a look, then "cancelled".

`there.log` has every request as (method, path, headers in lower case, body); `there.jobs` what was started.

To add a platform of a shape that is here: a row in ROWS. Of another shape: a subclass of `Shape`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

SUFFIX = "SUFFIX"


@dataclass(frozen=True)
class Row:
    """What is expected of one platform: the address' tail, a base model, and what starts a job.

    `sent` is all of the request, with the names of files and the suffix as FILE, VALIDATION and SUFFIX.
    """

    tail: str
    model: dict[str, str]
    sent: dict[str, Any]
    header: str = "authorization"
    value: str = "Bearer {key}"


def _openai(model: str, **rest: Any) -> dict[str, Any]:
    return {
        "model": model,
        "training_file": "FILE",
        "validation_file": "VALIDATION",
        "suffix": SUFFIX,
        **rest,
    }


def _supervised(**values: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": values}}}


# Written out by hand from platforms.md, not from the profiles: a profile that drifts is seen here.
ROWS: dict[str, Row] = {
    "openai": Row(
        "/v1",
        {"id": "gpt-4o-mini-2024-07-18"},
        _openai(
            "gpt-4o-mini-2024-07-18",
            **_supervised(n_epochs=3, batch_size=8, learning_rate_multiplier=1),
        ),
    ),
    "azure": Row(
        "/openai/v1",
        {"id": "gpt-4o-mini-2024-07-18"},
        _openai(
            "gpt-4o-mini-2024-07-18",
            **_supervised(n_epochs=3, batch_size=8, learning_rate_multiplier=1),
        ),
        header="api-key",
        value="{key}",
    ),
    "nebius": Row(
        "/v1",
        {"id": "meta-llama/Llama-3.1-8B-Instruct"},
        _openai(
            "meta-llama/Llama-3.1-8B-Instruct",
            hyperparameters={
                **{"n_epochs": 3, "learning_rate": 1e-5, "batch_size": 8, "warmup_ratio": 0},
                **{"lora": True, "lora_r": 8, "lora_alpha": 8, "lora_dropout": 0},
                **{"packing": True, "weight_decay": 0, "max_grad_norm": 1, "context_length": 8192},
            },
        ),
    ),
    "crusoe": Row(
        "/v1",
        {"id": "some/base"},
        _openai(
            "some/base",
            **_supervised(
                **{"n_epochs": 3, "learning_rate": 2e-4, "batch_size": 16, "warmup_ratio": 0.05},
                **{"lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0},
                **{"weight_decay": 0, "overlong_row_behavior": "error"},
            ),
        ),
    ),
    "zhipu": Row(
        "/api/paas/v4",
        {"id": "glm-4-flash"},
        _openai(
            "glm-4-flash",
            hyperparameters={"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1},
            extra_hyperparameters={
                "fine_tuning_method": "lora",
                "fine_tuning_parameters": {"max_sequence_length": 4096},
            },
        ),
    ),
    "own_openai": Row(
        "/v1",
        {"id": "any/base"},
        _openai("any/base", hyperparameters={"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1}),
    ),
}


@dataclass
class Run:
    """A job at the platform: what started it, and how often it was looked at."""

    id: str
    body: dict[str, Any]
    looks: int = 0
    cancelled: int = 0


@dataclass
class Fault:
    """Something that happens instead of an answer, `times` times."""

    method: str
    path: str
    times: int
    status: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    how: str = ""  # "cut": the connection is closed; "after": it is done, then cut; "slow": after `wait`
    wait: float = 0.0


class Platform:
    """One platform on loopback; `shape` names a subclass of `Shape`."""

    def __init__(self, shape: str, key: str, header: str = "authorization", value: str = "Bearer {key}"):
        self.key, self.header, self.value = key, header, value
        self.shape = SHAPES[shape](self)
        self.plan = ["queued", "running", "done"]
        self.files: dict[str, tuple[str, bytes]] = {}
        self.jobs: dict[str, Run] = {}
        self.deployed: dict[str, int] = {}
        self.faults: list[Fault] = []
        self.log: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers = ["The leaves ", "say \u8336."]
        self.said_of_failure = "line 7: no assistant turn"
        self.turn = threading.Lock()
        self.over = threading.Event()

    def __enter__(self) -> Self:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self._server = server
        self.origin = f"http://127.0.0.1:{server.server_address[1]}"
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method: str, path: str, *, times: int = 1, **how: Any) -> None:
        """Let something happen to the next requests whose path holds `path`."""
        self.faults.append(Fault(method, path, times, **how))

    def asked(self, method: str, path: str) -> int:
        """Return how many requests there were of a method, with `path` in their path."""
        return sum(one[0] == method and path in one[1] for one in self.log)

    def state(self, run: Run) -> str:
        """Return a job's state by the plan, and count the look."""
        if run.cancelled:
            run.cancelled += 1
            return "cancelling" if run.cancelled == 2 else "cancelled"
        state = self.plan[min(run.looks, len(self.plan) - 1)]
        run.looks += 1
        return state


Answer = tuple[int, Any]


class Shape:
    """How a platform speaks: its paths, the words of its states, what its jobs look like."""

    words: dict[str, Any]

    def __init__(self, there: Platform) -> None:
        self.there = there

    def answer(self, method: str, path: str, query: str, body: bytes, kind: str) -> Answer:
        """Answer a request whose key was right."""
        raise NotImplementedError

    def error(self, status: int, message: str, code: str = "") -> Answer:
        """Return an error as this shape words it."""
        return status, {"error": {"message": message, "type": "invalid_request_error", "code": code or None}}

    def upload(self, body: bytes, kind: str, field: str) -> tuple[str, str, bytes] | Answer:
        """Take a form apart; return the file's new id, its name and its content, or what is wrong with it."""
        edge = re.search(r"boundary=(\S+)", kind)
        if not edge:
            return self.error(400, "not a form")
        form: dict[str, bytes] = {}
        name = ""
        for part in body.split(b"--" + edge[1].encode())[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            given = re.search(rb'name="([^"]*)"(?:; filename="([^"]*)")?', head)
            assert given
            form[given[1].decode()] = content.removesuffix(b"\r\n")
            name = given[2].decode() if given[2] else name
        if form.get("purpose") != b"fine-tune" or field not in form:
            return self.error(400, f"purpose or {field} missing")
        for line in form[field].removeprefix(b"\xef\xbb\xbf").splitlines():
            orjson.loads(line)
        file = f"file-{len(self.there.files) + 1}"
        self.there.files[file] = (name, form[field])
        return file, name, form[field]

    def begin(self, body: bytes, file: str, prefix: str) -> Run | Answer:
        """Start a job with the training file `file`, unless the request holds a null."""
        told = orjson.loads(body)
        if _holds_null(told):
            return self.error(422, "null is not allowed")
        if file not in self.there.files:
            return self.error(400, f"no such file: {file}", "invalid_training_file")
        run = Run(f"{prefix}{len(self.there.jobs) + 1}", told)
        self.there.jobs[run.id] = run
        return run


class OpenAI(Shape):
    """OpenAI's own, and that of whoever speaks as it does."""

    words = {  # noqa: RUF012
        **{"queued": "queued", "running": "running", "odd": "resharding", "nameless": "succeeded"},
        **{"done": "succeeded", "failed": "failed", "cancelling": "running", "cancelled": "cancelled"},
    }

    def answer(self, method: str, path: str, query: str, body: bytes, kind: str) -> Answer:
        there = self.there
        if path.startswith("/v0/models"):
            return self.deployment(method, path, body)
        path = re.sub(r"^.*?/(?=files|fine_tuning|models|chat)", "/", path)
        if (method, path) == ("POST", "/files"):
            got = self.upload(body, kind, "file")
            if len(got) == 2:
                return got
            file, name, content = got
            return 200, {"id": file, "object": "file", "bytes": len(content), "filename": name}
        if (method, path) == ("POST", "/fine_tuning/jobs"):
            run = self.begin(body, orjson.loads(body).get("training_file", ""), "ftjob-")
            return (200, self.job(run, "queued")) if isinstance(run, Run) else run
        if (method, path) == ("GET", "/fine_tuning/jobs"):
            return 200, {"object": "list", "data": [self.job(one, "queued") for one in there.jobs.values()]}
        if (method, path) == ("GET", "/models"):
            rows = [("some/base", True), ("other/chat", False)]
            return 200, {"data": [{"id": name, "fine_tuning_available": tunes} for name, tunes in rows]}
        job = re.fullmatch(r"/fine_tuning/jobs/([^/]+)(/\w+)?", path)
        if job:
            known = there.jobs.get(job[1])
            if known is None:
                return self.error(404, f"no such job: {job[1]}")
            if method == "POST" and job[2] == "/cancel":
                known.cancelled = known.cancelled or 1
                return 200, self.job(known, "running")
            if job[2] == "/events":
                return 200, {"object": "list", "data": list(reversed(self.events(known)))}
            if job[2] == "/checkpoints":
                saved = [{"id": f"ckpt-{known.id}-2"}, {"id": f"ckpt-{known.id}-1"}]
                return 200, {"object": "list", "data": saved}
            return 200, self.job(known, there.state(known))
        return self.error(404, f"nothing at {method} {path}")

    def deployment(self, method: str, path: str, body: bytes) -> Answer:
        """Deploy as Nebius does: the name is made out of ours."""
        deployed = self.there.deployed
        name = path.removeprefix("/v0/models").strip("/")
        if method == "POST":
            told = orjson.loads(body)
            if not re.fullmatch(r"ftjob-\d+:ckpt-ftjob-\d+-2", told["source"]):  # the last checkpoint
                return self.error(400, f"no such source: {told['source']}")
            name = f"{told['base_model'].rpartition('/')[2]}-LoRa:{told['name']}-Ab1c"
            deployed[name] = 0
        elif name not in deployed:
            return self.error(404, f"no such model: {name}")
        elif method == "DELETE":
            del deployed[name]
            return 200, {}
        else:
            deployed[name] += 1
        return 200, {"name": name, "status": "active" if deployed[name] > 1 else "validating"}

    def job(self, run: Run, state: str) -> dict[str, Any]:
        done, failed = state == "done", state == "failed"
        wrong = {"code": "invalid_training_file", "message": self.there.said_of_failure, "param": None}
        return {
            "id": run.id,
            "object": "fine_tuning.job",
            "status": self.words[state],
            "model": run.body.get("model"),
            "training_file": run.body.get("training_file"),
            "fine_tuned_model": f"ft:{run.body.get('model')}:me:{run.id}" if done else None,
            "error": wrong if failed else None,
            "trained_tokens": 1234 if done else None,
            "trained_steps": run.looks,
            "total_steps": 40,
        }

    def events(self, run: Run) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = [{"id": f"ev-{run.id}", "created_at": 1000, "message": "Job created"}]
        for step in range(1, run.looks + 1):
            numbers = {"step": step * 10, "train_loss": 3.0 / step, "valid_loss": 3.2 / step}
            rows.append(
                {
                    **{"id": f"ev-{run.id}-{step}", "created_at": 1000 + step, "level": "info"},
                    **{"message": f"Step {step * 10}", "type": "metrics", "data": numbers},
                }
            )
        return rows


SHAPES: dict[str, Callable[[Platform], Shape]] = {"openai": OpenAI}


def _holds_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_null, value.values()))
    return any(map(_holds_null, value)) if isinstance(value, list) else value is None


def _handler(there: Platform) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            url = urlsplit(self.path)
            with there.turn:
                there.log.append((self.command, self.path, headers, body))
                fault = self._fault(url.path)
            if fault and fault.how == "slow":
                there.over.wait(fault.wait)
            elif fault and fault.how == "cut":
                return self._cut()
            elif fault and fault.status:
                return self._send(fault.status, fault.body, fault.headers)
            if headers.get(there.header) != there.value.format(key=there.key):
                given = headers.get(there.header, "")  # some repeat what they were given
                status, told = there.shape.error(
                    401, f"Incorrect API key provided: {given}", "invalid_api_key"
                )
                return self._send(status, orjson.dumps(told))
            if url.path.endswith("/chat/completions"):
                return self._chat(orjson.loads(body))
            with there.turn:
                kind = headers.get("content-type", "")
                status, told = there.shape.answer(self.command, url.path, url.query, body, kind)
            if fault and fault.how == "after":
                return self._cut()
            return self._send(status, orjson.dumps(told))

        do_GET = do_POST = do_DELETE = _any  # noqa: N815

        def _fault(self, path: str) -> Fault | None:
            for one in there.faults:
                if one.times and one.method == self.command and one.path in path:
                    one.times -= 1
                    return one
            return None

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.close()

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def _chat(self, body: dict[str, Any]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for number, text in enumerate([f"[{body['model']}] ", *there.answers]):
                finish = "stop" if number == len(there.answers) else None
                row = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
                self.wfile.write(b"data: " + orjson.dumps(row) + b"\n\n")
            self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *args: object) -> None:
            pass

    return Handler
