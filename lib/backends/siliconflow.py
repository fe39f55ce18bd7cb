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
from pathlib import Path

from lib import jobs, params
from lib.backends.base import Backend, Model
from lib.backends.profile import dig
from lib.backends.wire import SILENCE, Host, Wire, ask
from lib.chat import Message
from lib.errors import BackendError
from lib.estimate import Price
from lib.params import Settings
from lib.talk import LIKELIEST, Sampling
from lib.workspace import read_json, write_json

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
# It charges by the token; the rate stands in its console alone, so the page asks for it. Source: the guide.
PRICE = Price("CNY", "https://docs.siliconflow.cn/cn/userguide/guides/fine-tune", "2026-11-22")
# ft:LoRA/Qwen/Qwen2.5-7B-Instruct:ACCOUNT:TASK:ID, with -ckpt_step_N for a checkpoint. Source: the guide's
# last step and siliconflow/siliconcloud-cookbook, 2026-11-22.
TUNED = re.compile(r"ft:[\w./-]+:[^\s:]+:[^\s:]+:[A-Za-z0-9]{8,}(-ckpt_step_\d+)?")

# Its codes, whatever the status. Source: docs.siliconflow.cn/faqs/error-code.
SAYS = (("20012", "no_model"), ("balance", "no_balance"))


class SiliconFlow(Backend):
    """SiliconFlow (siliconflow.cn). `base_url` is another server of the same shape, for tests."""

    name = "siliconflow"
    target = "siliconflow"
    ranges = RANGES
    manual = True
    key_variable = "SILICONFLOW_API_KEY"
    takes_seed = False  # Source: second-hand, docs.camel-ai.org, camel.configs.siliconflow_config, 2026-12
    price = PRICE

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
        settings = params.read(asked)
        return values + [(name, _decimal(settings[name])) for name in RANGES if name in settings]

    def name_tuned(self, job: jobs.Job, name: str) -> None:
        """Keep the tuned model's name in the job's `result.json`; the job's state stays what was set."""
        if not name:
            (job.folder.path / "result.json").unlink(missing_ok=True)
        elif TUNED.fullmatch(name):
            job.folder.finish(tuned_model=name)
        else:
            raise BackendError("backend.siliconflow.bad_name", name=name[:120])

    def upload(self, job: jobs.Job, key: str) -> dict[str, str]:
        """Send the job's files by API; return the names they got, by "train" and "validation".

        Undocumented: its API names the purpose `batch` alone. Second-hand, 2026-07-22: `fine-tune` was taken
        too. Nothing here does it unasked.
        """
        wire, files = Wire(self._host(), key, silence=self.silence), sent(job)
        for name in ("train", "validation"):
            path = job.folder.path / "data" / f"{name}.jsonl"
            if name not in files and path.is_file() and path.stat().st_size:
                told = wire.upload("/files", path, field="file", fields={"purpose": "fine-tune"})
                found = dig(told, "data.id")
                if not isinstance(found, str) or not found:
                    raise wire.odd(told)
                files[name] = found
                write_json(job.folder.path / "sent.json", files)
        return files

    def chat(
        self,
        job: jobs.Job,
        which: str,
        messages: Sequence[Message],
        *,
        key: str,
        sampling: Sampling = LIKELIEST,
    ) -> Iterator[str]:
        """Yield the answer piece by piece. Closing the iterator early ends the connection.

        To more than 4096 tokens it says no more than "Bad Request" (easy-dataset#276).
        """
        tuned = (job.folder.result() or {}).get("tuned_model")
        model = tuned if which == "tuned" else job.folder.asked()["model"]["id"]
        if not model:
            raise BackendError("backend.siliconflow.no_name", name=job.name)
        wire = Wire(self._host(), key, silence=self.silence)
        return ask(wire, str(model), messages, self.picks(sampling))

    def _host(self) -> Host:
        return Host("SiliconFlow", self.base_url, key_page="cloud.siliconflow.cn/account/ak", says=SAYS)


def sent(job: jobs.Job) -> dict[str, str]:
    """Return the names of the files that were sent by API, by "train" and "validation"."""
    known = read_json(job.folder.path / "sent.json")
    return known if isinstance(known, dict) else {}


def _decimal(value: float) -> str:
    """Return a number as a form takes it: 0.0001, not 1e-4."""
    return f"{value:.10f}".rstrip("0").rstrip(".")
