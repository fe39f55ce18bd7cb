"""SiliconFlow: fine-tunes are started by hand in its console, then answered through its API.

There is no public call that creates, lists or watches a fine-tune, so none is made up here: the visitor gets
every value of the form to copy, sets the job's state as the console shows it, and pastes the tuned model's
name. The chat is real.

Source: docs.siliconflow.cn/cn/userguide/guides/fine-tune, docs.siliconflow.cn/llms-full.txt (no fine-tune
endpoint), docs.siliconflow.cn/faqs/error-code; all read 2026-11-22.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import requests
from requests.auth import AuthBase

from lib import jobs, params
from lib.backends.base import Backend, Model
from lib.chat import Message
from lib.errors import BackendError
from lib.params import Settings

BASE_URL = "https://api.siliconflow.cn/v1"
# Source: the guide above, 2026-11-22; older copies also had Llama 3.1 8B.
MODELS = tuple(f"Qwen/Qwen2.5-{size}-Instruct" for size in ("7B", "14B", "32B", "72B"))
# Source: the guide's table of parameters, 2026-11-22. In the order of its form.
RANGES = {
    "learning_rate": (0.0, 0.1),
    "epochs": (1.0, 10.0),
    "batch_size": (1.0, 32.0),
    "max_length": (0.0, 4096.0),
    "lora_rank": (1.0, 64.0),
    "lora_alpha": (1.0, 128.0),
    "lora_dropout": (0.0, 1.0),
}
# What the guide suggests in the same table.
SUGGESTED = {
    "learning_rate": 1e-4,
    "epochs": 3.0,
    "batch_size": 8.0,
    "max_length": 4096.0,
    "lora_rank": 8.0,
    "lora_alpha": 32.0,
    "lora_dropout": 0.05,
}
# ft:LoRA/Qwen/Qwen2.5-7B-Instruct:ACCOUNT:TASK:ID, with -ckpt_step_N for a checkpoint. Source: the guide's
# last step and siliconflow/siliconcloud-cookbook, 2026-11-22.
TUNED = re.compile(r"ft:[\w./-]+:[^\s:]+:[^\s:]+:[A-Za-z0-9]{8,}(-ckpt_step_\d+)?")

CONNECT, SILENCE = 10.0, 60.0  # seconds for a connection; between two pieces of an answer
MOST_TOKENS = 1024  # of an answer; above 4096 the API says no more than "Bad Request" (easy-dataset#276)
SAID = 300  # characters of the platform's own words that are shown


class SiliconFlow(Backend):
    """SiliconFlow (siliconflow.cn). `base_url` is another server of the same shape, for tests."""

    name = "siliconflow"
    target = "siliconflow"
    ranges = RANGES
    manual = True
    key_variable = "SILICONFLOW_API_KEY"

    def __init__(self, base_url: str = "", *, silence: float = SILENCE) -> None:
        self.base_url = (base_url or os.environ.get("SILICONFLOW_BASE_URL") or BASE_URL).rstrip("/")
        self.silence = silence

    def models(self) -> tuple[str, ...]:
        """Return the base models of its form."""
        return MODELS

    def defaults(self, model: Model) -> Settings:
        """Return what its guide suggests."""
        del model
        return params.defaults(self.ranges, SUGGESTED)

    def start(self, name: str, data: Path, model: Model, settings: Settings, system: str) -> jobs.Job:
        """Put the job into the list, for the visitor to start in the console."""
        if model.get("id") not in MODELS:
            known = ", ".join(MODELS)
            raise BackendError("backend.siliconflow.unknown_model", model=model.get("id", ""), known=known)
        return jobs.keep(name, self.asked(data, model, settings, system), backend=self.name, data=data)

    def console_values(self, job: jobs.Job) -> list[tuple[str, str]]:
        """Return the values of the form, from top to bottom."""
        asked, data = job.folder.asked(), job.folder.path / "data"
        values = [
            ("name_field", job.name),
            ("model", asked["model"]["id"]),
            ("file", str(data / "train.jsonl")),
        ]
        held_back = data / "validation.jsonl"
        if held_back.is_file() and held_back.stat().st_size:
            values.append(("validation_file", str(held_back)))
        settings = asked["settings"]
        return values + [(name, _decimal(settings[name])) for name in RANGES if name in settings]

    def name_tuned(self, job: jobs.Job, name: str) -> None:
        """Keep the tuned model's name in the job's `result.json`; the job's state stays what was set."""
        if not name:
            (job.folder.path / "result.json").unlink(missing_ok=True)
        elif TUNED.fullmatch(name):
            job.folder.finish(tuned_model=name)
        else:
            raise BackendError("backend.siliconflow.bad_name", name=name[:120])

    def chat(
        self, job: jobs.Job, which: str, messages: Sequence[Message], *, key: str, temperature: float = 0.0
    ) -> Iterator[str]:
        """Yield the answer piece by piece. Closing the iterator early ends the connection."""
        tuned = (job.folder.result() or {}).get("tuned_model")
        model = tuned if which == "tuned" else job.folder.asked()["model"]["id"]
        if not model:
            raise BackendError("backend.siliconflow.no_name", name=job.name)
        body = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "temperature": temperature,
            "max_tokens": MOST_TOKENS,
            "stream": True,
        }
        return self._stream(body, key.strip())

    def _stream(self, body: dict[str, Any], key: str) -> Iterator[str]:
        # An explicit `auth`: without one requests puts in whatever ~/.netrc has for this host. No redirect is
        # followed: the key goes to this host alone. Raised `from None`: requests' errors hold the request.
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise BackendError("backend.siliconflow.bad_key", said="")
        host = urlsplit(self.base_url).hostname or self.base_url
        begun = False
        try:
            with requests.post(
                f"{self.base_url}/chat/completions",
                data=orjson.dumps(body),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream"},
                auth=_Key(key),
                stream=True,
                timeout=(CONNECT, self.silence),
                allow_redirects=False,
            ) as response:
                if response.status_code != 200:
                    raise _refused(response, str(body["model"]), key)
                for piece in _pieces(response, str(body["model"]), key):
                    begun = True
                    yield piece
        except requests.RequestException as error:
            if isinstance(error, requests.Timeout) or "timed out" in str(error):
                raise BackendError("backend.siliconflow.timeout", host=host, seconds=self.silence) from None
            problem = "cut" if begun or not isinstance(error, requests.ConnectionError) else "unreachable"
            raise BackendError(f"backend.siliconflow.{problem}", host=host) from None


def _decimal(value: float) -> str:
    """Return a number as a form takes it: 0.0001, not 1e-4."""
    return f"{value:.10f}".rstrip("0").rstrip(".")


class _Key(AuthBase):
    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _pieces(response: requests.Response, model: str, key: str) -> Iterator[str]:
    """Yield the words in a stream of server-sent events."""
    chunked = response.headers.get("Transfer-Encoding", "").lower() == "chunked"
    ended = seen = False
    # chunks as they come; a body without chunks byte by byte, or the words would wait for a full block
    for line in response.iter_lines(chunk_size=None if chunked else 1):
        if not line.startswith(b"data:"):
            continue  # a comment that keeps the connection open, an empty line
        data = line[5:].strip()
        if data == b"[DONE]":
            return
        try:
            event = orjson.loads(data)
            choices = event.get("choices") or []
            text = choices[0].get("delta", {}).get("content") if choices else None
            ended = ended or bool(choices and choices[0].get("finish_reason"))
        except (orjson.JSONDecodeError, AttributeError, LookupError):
            raise BackendError("backend.siliconflow.odd_answer", said=_shown(data, key)) from None
        if not choices and (event.get("error") or event.get("code")):
            raise _told(503, _said(event), model, key)
        seen = True
        if text:
            yield text
    if not ended:
        problem = "cut" if seen else "odd_answer"
        host = urlsplit(response.url).hostname or ""
        raise BackendError(f"backend.siliconflow.{problem}", host=host, said="")


def _refused(response: requests.Response, model: str, key: str) -> BackendError:
    """Return the error for an answer that is none: JSON with a code, a bare JSON string, or just text."""
    raw = b"".join(islice(response.iter_content(4096), 16))
    try:
        told = orjson.loads(raw)
    except orjson.JSONDecodeError:
        told = raw.decode("utf-8", "replace")
    return _told(response.status_code, _said(told), model, key, response.headers.get("Retry-After", ""))


def _told(status: int, said: tuple[int, str], model: str, key: str, after: str = "") -> BackendError:
    code, words = said[0], _shown(said[1], key)
    if code == 20012:
        return BackendError("backend.siliconflow.no_model", model=model, said=words)
    known = {401: "bad_key", 403: "forbidden", 404: "not_found", 429: "rate_limit", 503: "busy", 504: "busy"}
    problem = known.get(
        status, "refused" if 400 <= status < 500 else "odd_answer" if status < 400 else "failed"
    )
    seconds = float(after) if after.isdigit() else None
    return BackendError(f"backend.siliconflow.{problem}", status=status, said=words, seconds=seconds)


def _said(told: Any) -> tuple[int, str]:
    """Return the code and the sentence in the platform's answer."""
    if not isinstance(told, dict):
        return 0, str(told)
    inner = told.get("error")
    if isinstance(inner, dict):
        told = inner
    code = told.get("code")
    return code if isinstance(code, int) else 0, str(told.get("message") or inner or told)


def _shown(said: str | bytes, key: str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.replace(key, "***").split())[:SAID]
