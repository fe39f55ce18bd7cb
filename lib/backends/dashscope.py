"""DashScope's shape (Alibaba Bailian, Model Studio): every answer in an envelope, a chat of its own.

Tuned models are asked by the platform's own call, not by its OpenAI-compatible one, which does not know them
(second-hand: LazyLLM `supplier/qwen.py`, 2026-11).
Source: help.aliyun.com/en/model-studio/fine-tuning-job-object-api and the pages beside it, read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lib.backends.profile import dig
from lib.backends.remote import Happened, Remote
from lib.backends.wire import Wire
from lib.chat import Message


class DashScopeShaped(Remote):
    """Alibaba's platform, in Beijing or Singapore."""

    def request(self, asked: dict[str, Any], files: dict[str, str], suffix: str) -> dict[str, Any]:
        """Return what starts a job; without a validation file the platform splits one off, as said here."""
        body = super().request(asked, files, suffix)
        if not files.get("validation"):
            body["hyper_parameters"]["split"] = 0.9
        return body

    def listed(self) -> dict[str, Any]:
        """Return how to ask for the list of jobs."""
        return {"page_no": 1, "page_size": 100}

    def events(self, wire: Wire, job_id: str) -> list[Happened]:
        """Return the lines of the job's log, in its order."""
        at = self.profile.events
        lines = dig(wire.get(at["path"].format(id=job_id), offset=0, line=1000), at["list"]) or []
        return [Happened(f"line {number}", "", str(line)) for number, line in enumerate(lines)]

    def answer(
        self, wire: Wire, model: str, messages: Sequence[Message], picks: Mapping[str, float]
    ) -> Iterator[str]:
        """Yield a model's answer piece by piece; `picks` as in `Backend`."""
        body = {
            "model": model,
            "input": {"messages": [{"role": one.role, "content": one.content} for one in messages]},
            "parameters": {"result_format": "message", "incremental_output": True, **picks},
        }
        path, sse = "/services/aigc/text-generation/generation", {"X-DashScope-SSE": "enable"}
        return wire.stream(path, body, choices="output.choices", text="message.content", headers=sse)
