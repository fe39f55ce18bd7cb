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

import base64
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

from lib.backends import hf_jobs

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
    "together": Row(
        "/v1",
        {"id": "some/base"},
        _openai(
            "some/base",
            **{"n_epochs": 3, "n_checkpoints": 1, "n_evals": 1, "batch_size": 8, "learning_rate": 1e-5},
            **{"warmup_ratio": 0, "max_grad_norm": 1, "weight_decay": 0, "random_seed": 0, "packing": True},
            training_type={
                **{"type": "Lora", "lora_r": 8, "lora_alpha": 16, "lora_dropout": 0},
                "lora_trainable_modules": "all-linear",
            },
            training_method={"method": "sft", "train_on_inputs": False},
            lr_scheduler={"lr_scheduler_type": "linear", "lr_scheduler_args": {"min_lr_ratio": 0}},
        ),
    ),
    "fireworks": Row(
        "/v1/accounts/me",
        {"id": "accounts/fireworks/models/some-base"},
        {
            **{"baseModel": "accounts/fireworks/models/some-base", "displayName": SUFFIX},
            **{"dataset": "FILE", "evaluationDataset": "VALIDATION"},
            **{"outputModel": f"accounts/me/models/{SUFFIX}", "epochs": 1, "learningRate": 1e-4},
            **{"loraRank": 8, "earlyStop": False, "gradientAccumulationSteps": 1},
        },
    ),
    "dashscope": (
        _alibaba := Row(
            "/api/v1",
            {"id": "qwen3-14b"},
            {
                **{"model": "qwen3-14b", "training_type": "efficient_sft", "finetuned_output_suffix": SUFFIX},
                **{"training_file_ids": ["FILE"], "validation_file_ids": ["VALIDATION"]},
                "hyper_parameters": {
                    **{"n_epochs": 3, "batch_size": 16, "max_length": 2048, "learning_rate": "0.0001"},
                    **{"lora_rank": 8, "lora_alpha": 32, "lora_dropout": 0.1, "warmup_ratio": 0.05},
                    **{"lr_scheduler_type": "linear", "eval_steps": 50},
                },
            },
        )
    ),
    "dashscope_intl": _alibaba,
    "hf_jobs": Row(
        "",
        {"id": "org/base"},
        {
            **{
                "command": ["bash", "-c", hf_jobs.COMMAND],
                "arguments": [],
                "flavor": "t4-small",
                "timeoutSeconds": 7200,
                "dockerImage": "python:3.12",
            },
            **{"environment": {"FIRSTTUNE_BASE": "org/base", "FIRSTTUNE_REPO": "FILE"}},
            **{"labels": {"name": f"firsttune-{SUFFIX}"}},
        },
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
        self.committed: dict[str, bytes] = {}

    def answer(self, method: str, path: str, query: str, body: bytes, kind: str) -> Answer:
        """Answer a request whose key was right."""
        raise NotImplementedError

    def error(self, status: int, message: str, code: str = "") -> Answer:
        """Return an error as this shape words it."""
        return status, {"error": {"message": message, "type": "invalid_request_error", "code": code or None}}

    def upload(
        self, body: bytes, kind: str, field: str, purpose: str = "fine-tune"
    ) -> tuple[str, str, bytes] | Answer:
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
        if form.get("purpose", b"").decode() != purpose or field not in form:
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


class Together(Shape):
    """Together AI's."""

    words = {  # noqa: RUF012
        **{"queued": "queued", "running": "running", "odd": "user_paused", "nameless": "completed"},
        **{"done": "completed", "failed": "error", "cancelling": "cancel_requested"},
        "cancelled": "cancelled",
    }

    def answer(self, method: str, path: str, query: str, body: bytes, kind: str) -> Answer:
        there, path = self.there, path.removeprefix("/v1")
        if (method, path) == ("POST", "/files/upload"):
            got = self.upload(body, kind, "file")
            return got if len(got) == 2 else (200, {"id": got[0], "object": "file", "filename": got[1]})
        if (method, path) == ("POST", "/fine-tunes/estimate-price"):
            told = orjson.loads(body)
            if told["training_file"] not in there.files:
                return self.error(400, "no such file")
            price = {"estimated_total_price": 4.5, "estimated_train_token_count": 777}
            return 200, price | {"allowed_to_proceed": True}
        if (method, path) == ("GET", "/fine-tunes/models/supported"):
            return 200, {"models": ["some/base", "other/base"]}
        if (method, path) == ("GET", "/fine-tunes/models/limits"):
            lora = {"min_batch_size": 8, "max_batch_size": 16, "max_rank": 32}
            rates = {"min_learning_rate": 1e-6, "max_learning_rate": 1e-3}
            return 200, {"max_num_epochs": 10, "lora_training": lora} | rates
        if (method, path) == ("POST", "/fine-tunes"):
            run = self.begin(body, orjson.loads(body).get("training_file", ""), "ft-")
            return (200, self.job(run, "queued")) if isinstance(run, Run) else run
        if (method, path) == ("GET", "/fine-tunes"):
            return 200, {"data": [self.job(one, "queued") for one in there.jobs.values()]}
        if (method, path) == ("GET", "/hardware"):
            rows = [
                ("8x_big", 90.0, "available"),
                ("1x_small", 6.65, "available"),
                ("1x_no", 1.0, "unavailable"),
            ]
            return 200, {
                "data": [
                    {"id": name, "pricing": {"cents_per_minute": cents}, "availability": {"status": free}}
                    for name, cents, free in rows
                ]
            }
        if path.startswith("/endpoints"):
            return self.endpoint(method, path.removeprefix("/endpoints").strip("/"), body)
        job = re.fullmatch(r"/fine-tunes/([^/]+)(/\w+)?", path)
        known = there.jobs.get(job[1]) if job else None
        if job is None or known is None:
            return self.error(404, f"nothing at {method} {path}")
        if method == "POST" and job[2] == "/cancel":
            known.cancelled = known.cancelled or 1
            return 200, self.job(known, "cancelling")
        if job[2] == "/events":
            return 200, {"data": [self.event(step) for step in range(known.looks + 1)]}
        if job[2] == "/metrics":
            steps = range(10, 10 * known.looks + 1, 10)
            return 200, {"metrics": [{"global_step": step, "train/loss": 30 / step} for step in steps]}
        return 200, self.job(known, there.state(known))

    def endpoint(self, method: str, name: str, body: bytes) -> Answer:
        deployed = self.there.deployed
        if method == "POST":
            told = orjson.loads(body)
            if told["hardware"] != "1x_small" or told["autoscaling"] != {
                "min_replicas": 1,
                "max_replicas": 1,
            }:
                return self.error(400, "not the cheapest that is free")
            name = "endpoint-1"
            deployed[name] = 0
        elif name not in deployed:
            return self.error(404, f"no such endpoint: {name}")
        elif method == "DELETE":
            del deployed[name]
            return 204, None
        else:
            deployed[name] += 1
        state = "STARTED" if deployed[name] > 1 else "STARTING"
        return 200, {"id": name, "name": "me/tuned-ab12", "state": state}

    def event(self, step: int) -> dict[str, Any]:
        at = f"2026-11-30T00:00:{step:02}Z"
        return {"created_at": at, "message": f"event {step}", "type": "epoch_complete", "hash": f"h{step}"}

    def job(self, run: Run, state: str) -> dict[str, Any]:
        wrong = {"message": self.there.said_of_failure, "type": "job_error"}
        return {
            **{"id": run.id, "status": self.words[state], "training_file": run.body["training_file"]},
            **{"events": [self.event(0), wrong] if state == "failed" else [], "queue_depth": 2},
            **({"model_output_name": f"me/some-base-{run.id}"} if state == "done" else {}),
        }


class Fireworks(Shape):
    """Fireworks AI's: whole names, and a job that is cancelled is deleted."""

    words = {  # noqa: RUF012
        **{
            "queued": "JOB_STATE_PENDING",
            "running": "RUNNING",
            "odd": 42,
            "nameless": "JOB_STATE_WRITING_RESULTS",
        },
        **{"done": "JOB_STATE_COMPLETED", "failed": "JOB_STATE_FAILED", "cancelling": "JOB_STATE_DELETING"},
    }

    def error(self, status: int, message: str, code: str = "") -> Answer:
        return status, {"code": code or 3, "message": message, "details": []}

    def answer(self, method: str, path: str, query: str, body: bytes, kind: str) -> Answer:
        there = self.there
        if path == "/v1/accounts/fireworks/models":
            rows = [
                {"name": "accounts/fireworks/models/some-base", "tunable": True},
                {"name": "x", "tunable": False},
            ]
            return 200, {"models": rows}
        path = path.removeprefix("/v1/accounts/me")
        if (method, path) == ("POST", "/datasets"):
            name = orjson.loads(body)["datasetId"]
            return 200, {"name": f"accounts/me/datasets/{name}", "state": "UPLOADING"}
        sent = re.fullmatch(r"/datasets/([^:/]+):upload", path)
        if sent:
            got = self.upload(body, kind, "file", purpose="")
            if len(got) == 2:
                return got
            there.files[f"accounts/me/datasets/{sent[1]}"] = there.files.pop(got[0])
            return 200, {}
        if path.startswith("/deployments"):
            return self.deployment(method, path.removeprefix("/deployments").strip("/"), body)
        if (method, path) == ("POST", "/supervisedFineTuningJobs"):
            run = self.begin(body, orjson.loads(body).get("dataset", ""), "sft")
            return (200, self.job(run, "queued")) if isinstance(run, Run) else run
        if (method, path) == ("GET", "/supervisedFineTuningJobs"):
            return 200, {"supervisedFineTuningJobs": [self.job(one, "queued") for one in there.jobs.values()]}
        known = there.jobs.get(path.removeprefix("/supervisedFineTuningJobs/"))
        if known is None or known.cancelled > 2:
            return self.error(404, f"nothing at {method} {path}", "5")
        if method == "DELETE":
            known.cancelled = known.cancelled or 1
            return 200, {}
        state = there.state(known)
        return self.error(404, "deleted", "5") if state == "cancelled" else (200, self.job(known, state))

    def deployment(self, method: str, name: str, body: bytes) -> Answer:
        deployed = self.there.deployed
        if method == "POST":
            assert orjson.loads(body)["baseModel"].startswith("accounts/me/models/")
            name = "d1"
            deployed[name] = 0
        elif name not in deployed:
            return self.error(404, f"no such deployment: {name}")
        elif method == "DELETE":
            del deployed[name]
            return 200, {}
        else:
            deployed[name] += 1
        return 200, {
            "name": f"accounts/me/deployments/{name}",
            "state": "READY" if deployed[name] > 1 else "CREATING",
        }

    def job(self, run: Run, state: str) -> dict[str, Any]:
        wrong = {"code": "INVALID_ARGUMENT", "message": self.there.said_of_failure}
        return {
            **{"name": f"accounts/me/supervisedFineTuningJobs/{run.id}", "state": self.words[state]},
            **{"dataset": run.body["dataset"], "outputModel": run.body["outputModel"]},
            **{"status": wrong if state == "failed" else {"code": "OK"}, "jobProgress": {"percent": 40}},
        }


class DashScope(Shape):
    """Alibaba's: everything in an envelope, and a chat of its own."""

    words = {  # noqa: RUF012
        **{"queued": "QUEUING", "running": "RUNNING", "odd": "SUSPENDED", "nameless": "SUCCEEDED"},
        **{"done": "SUCCEEDED", "failed": "FAILED", "cancelling": "CANCELING", "cancelled": "CANCELED"},
    }

    def error(self, status: int, message: str, code: str = "") -> Answer:
        return status, {"code": code or "InvalidParameter", "message": message, "request_id": "r"}

    def answer(self, method: str, path: str, query: str, body: bytes, kind: str) -> Answer:
        there, path = self.there, path.removeprefix("/api/v1")
        if (method, path) == ("POST", "/files"):
            got = self.upload(body, kind, "files")
            if len(got) == 2:
                return got
            told = {"uploaded_files": [{"file_id": got[0], "name": got[1]}], "failed_uploads": []}
            return 200, {"request_id": "r", "data": told}
        if (method, path) == ("POST", "/fine-tunes"):
            file = (orjson.loads(body).get("training_file_ids") or [""])[0]
            run = self.begin(body, file, "ft-")
            return (200, self.told(self.job(run, "queued"))) if isinstance(run, Run) else run
        if (method, path) == ("GET", "/fine-tunes"):
            return 200, self.told({"jobs": [self.job(one, "queued") for one in there.jobs.values()]})
        if path.startswith("/deployments"):
            return self.deployment(method, path.removeprefix("/deployments").strip("/"), body)
        job = re.fullmatch(r"/fine-tunes/([^/]+)(/\w+)?", path)
        known = there.jobs.get(job[1]) if job else None
        if job is None or known is None:
            return self.error(404, f"nothing at {method} {path}", "NotFound")
        if method == "POST" and job[2] == "/cancel":
            known.cancelled = known.cancelled or 1
            return 200, self.told({"status": "success"})
        if job[2] == "/logs":
            lines = ["Job created", *(f"step {n}" for n in range(known.looks))]
            return 200, self.told({"logs": lines, "total": len(lines)})
        return 200, self.told(self.job(known, there.state(known)))

    def told(self, output: dict[str, Any]) -> dict[str, Any]:
        return {"request_id": "r", "output": output}

    def deployment(self, method: str, name: str, body: bytes) -> Answer:
        deployed = self.there.deployed
        if method == "POST":
            name = f"{orjson.loads(body)['model_name']}-d1"
            deployed[name] = 0
        elif name not in deployed:
            return self.error(404, f"no such deployment: {name}", "NotFound")
        elif method == "DELETE":
            del deployed[name]
            return 200, self.told({"deployed_model": name, "status": "DELETING"})
        else:
            deployed[name] += 1
        return 200, self.told(
            {"deployed_model": name, "status": "RUNNING" if deployed[name] > 1 else "PENDING"}
        )

    def job(self, run: Run, state: str) -> dict[str, Any]:
        return {
            **{
                "job_id": run.id,
                "status": self.words[state],
                "training_file_ids": run.body["training_file_ids"],
            },
            **({"finetuned_output": f"qwen3-14b-{run.id}"} if state == "done" else {}),
            **({"message": self.there.said_of_failure} if state == "failed" else {}),
        }


class HFJobs(Shape):
    """Hugging Face: the part of a Hub that takes a repository in, and Jobs."""

    words = {  # noqa: RUF012
        **{"queued": "SCHEDULING", "running": "RUNNING", "odd": "HELD_BACK", "nameless": "RUNNING"},
        **{"done": "COMPLETED", "failed": "ERROR", "cancelling": "RUNNING", "cancelled": "CANCELED"},
    }

    def error(self, status: int, message: str, code: str = "") -> Answer:
        return status, {"error": message}

    def answer(self, method: str, path: str, query: str, body: bytes, kind: str) -> Answer:
        there = self.there
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "me", "fullname": "Me"}
        if path == "/api/repos/create":
            asked = orjson.loads(body)
            assert asked.get("visibility") == "private" or asked.get("private")
            return 200, {"url": f"{there.origin}/me/{asked['name']}", "name": f"me/{asked['name']}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path == "/api/jobs/hardware":
            rows = [("a100-large", "Nvidia A100", 0.05), ("t4-small", "Nvidia T4", 0.0067)]
            return 200, [
                {
                    **{"name": name, "prettyName": pretty, "cpu": "4 vCPU", "ram": "15 GB"},
                    **{"unitCostMicroUSD": int(cost * 1e6), "unitCostUSD": cost, "unitLabel": "minute"},
                }
                for name, pretty, cost in rows
            ]
        repo = re.fullmatch(r"/api/models/(me/[\w-]+)(?:/(preupload|commit|revision)/main)?", path)
        if repo:
            return self.of_repo(repo[1], repo[2] or "", body)
        job = re.fullmatch(r"/api/jobs/me(?:/([\w-]+)(/\w+)?)?", path)
        if job is None:
            return self.error(404, f"nothing at {method} {path}")
        if job[1] is None:
            if method == "GET":
                return 200, [self.job(one, "queued") for one in there.jobs.values()]
            told = orjson.loads(body)
            assert told.pop("secrets") == {"HF_TOKEN": there.key}
            assert "lib.trainer.rented" in told["command"][-1]
            run = self.begin(orjson.dumps(told), told["environment"]["FIRSTTUNE_REPO"], "job")
            return (200, self.job(run, "queued")) if isinstance(run, Run) else run
        known = there.jobs.get(job[1])
        if known is None:
            return self.error(404, f"no such job: {job[1]}")
        if job[2] == "/cancel":
            known.cancelled = known.cancelled or 1
            return 200, {}
        if job[2] == "/logs":
            return 200, self.log(known)
        return 200, self.job(known, there.state(known))

    def of_repo(self, name: str, call: str, body: bytes) -> Answer:
        if call == "preupload":
            files, regular = orjson.loads(body)["files"], {"uploadMode": "regular", "shouldIgnore": False}
            return 200, {"files": [{"path": one["path"]} | regular for one in files]}
        if call == "commit":
            for line in body.splitlines():
                row = orjson.loads(line)
                if row["key"] == "file":
                    inner, content = row["value"]["path"], base64.b64decode(row["value"]["content"])
                    self.committed[f"{name}/{inner}"] = content
                    if inner.startswith("run/job/data/"):
                        plain = inner.rpartition("/")[2]
                        self.there.files[name if plain == "train.jsonl" else f"{name}#"] = (plain, content)
            return 200, {"commitUrl": f"{self.there.origin}/{name}/commit/1", "commitOid": "1" * 40}
        return 200, {"id": name, "sha": "0" * 40, "siblings": [], "tags": []}

    def log(self, run: Run) -> bytes:
        lines = ["===== Job started", "Downloading", *(f"step {n}" for n in range(run.looks))]
        lines += [f'firsttune-metric {{"step": {n}, "loss": {3 / n}}}' for n in range(1, run.looks + 1)]
        if self.there.plan[-1] == "failed":
            lines.append(f'firsttune-failed {{"facts": "{self.there.said_of_failure}"}}')
        rows = [{"data": line, "timestamp": f"2026-11-30T00:00:{n:02}Z"} for n, line in enumerate(lines)]
        return b"".join(b"data: " + orjson.dumps(row) + b"\n\n" for row in rows)

    def job(self, run: Run, state: str) -> dict[str, Any]:
        return {
            **{"id": run.id, "createdAt": "2026-11-30T00:00:00.000Z", "dockerImage": "python:3.12"},
            **{"owner": {"id": "1", "name": "me", "type": "user"}, "flavor": run.body["flavor"]},
            **{"environment": run.body["environment"], "labels": run.body["labels"]},
            **{"status": {"stage": self.words[state], "message": None}},
        }


SHAPES: dict[str, Callable[[Platform], Shape]] = {
    **{"openai": OpenAI, "together": Together, "fireworks": Fireworks, "dashscope": DashScope},
    "hf_jobs": HFJobs,
}


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
            if url.path.endswith(("/chat/completions", "/generation")):
                return self._chat(orjson.loads(body), own=url.path.endswith("/generation"))
            with there.turn:
                kind = headers.get("content-type", "")
                status, told = there.shape.answer(self.command, url.path, url.query, body, kind)
            if fault and fault.how == "after":
                return self._cut()
            return self._send(status, told if isinstance(told, bytes) else orjson.dumps(told))

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

        def _chat(self, body: dict[str, Any], *, own: bool) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            for number, text in enumerate([f"[{body['model']}] ", *there.answers]):
                finish = "stop" if number == len(there.answers) else None
                row: dict[str, Any]
                row = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}
                if own:  # DashScope's
                    choice = {"message": {"content": text}, "finish_reason": finish or "null"}
                    row = {"output": {"choices": [choice]}, "request_id": "r"}
                self.wfile.write(b"data:" + orjson.dumps(row) + b"\n\n")
            if not own:
                self.wfile.write(b"data: [DONE]\n\n")

        def log_message(self, *args: object) -> None:
            pass

    return Handler
