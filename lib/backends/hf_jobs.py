"""Hugging Face Jobs: our own trainer on hardware rented by the minute.

    upload     a private repository with the data, the settings and lib/trainer
    submit     a job that fetches it, installs the trainer's packages and trains
    status     its stage; events: its log, in which lib/trainer/rented.py prints every metric
    result     the adapter, in that repository; talking to it is for this computer or an endpoint of one's own

Without a positive balance a job is refused. Its time limit is always said: the platform's own is 30 minutes.
An id here is `owner/id`, so that the owner need not be asked for at every look.

huggingface_hub makes the repository and sends the files. The jobs are asked for by our own requests: its
client waits without end and follows redirects, and what starts a job holds the token.
Source: huggingface_hub @ee0a451 `hf_api.py`, huggingface.co/docs/trl/en/jobs_training, read 2026-11-22.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import orjson
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from lib import estimate, params
from lib.backends.base import Model
from lib.backends.local import Local
from lib.backends.profile import Profile, dig
from lib.backends.remote import DONE, UNKNOWN, Cost, Happened, Remote, Seen, metrics_row, remembered
from lib.backends.remote import FAILED as FAILED_THERE
from lib.backends.wire import Wire
from lib.jobfolder import JobFolder
from lib.params import Settings
from lib.trainer.rented import FAILED, METRIC
from lib.workspace import write_json

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE = "python:3.12"
HARDWARE, HOURS = "t4-small", "2"  # to start from: the smallest card, and the time after which it is ended
# What the trainer needs of requirements*.txt; the rest is for the app.
PACKAGES = (
    *("torch", "transformers", "trl", "peft", "accelerate", "datasets", "huggingface_hub", "numpy"),
    *("orjson", "psutil", "filelock", "jinja2"),
)
CODE = ("__init__.py", "jobfolder.py", "errors.py", "workspace.py", "chat.py", "trainer", "practice")
LINES = 2000  # of the log that are asked for at a look
COMMAND = (
    "pip install -q huggingface_hub"
    ' && hf download "$FIRSTTUNE_REPO" --include "run/*" --local-dir /work'
    " && cd /work/run && pip install -q -r requirements.txt"
    " && python -m lib.trainer.rented job"
)


class HuggingFaceJobs(Remote):
    """Hugging Face Jobs. A job's hardware and hours are in its model: `hardware`, `hours`."""

    asks_price = True
    answers = False

    def __init__(self, profile: Profile, address: str = "", *, silence: float | None = None) -> None:
        super().__init__(profile, address, silence=silence)
        self.ranges = Local.ranges

    def defaults(self, model: Model) -> Settings:
        """Return the trainer's own."""
        del model
        return params.defaults(self.ranges)

    def hardware(self, wire: Wire) -> list[tuple[str, str, float]]:
        """Return what can be rented: name, what it is, dollars an hour; the cheapest first."""
        hours = {"minute": 60.0, "second": 3600.0, "hour": 1.0}
        found = [
            (
                str(one["name"]),
                f"{one.get('prettyName')}, {one.get('ram')}",
                float(one["unitCostUSD"]) * hours[one["unitLabel"]],
            )
            for one in wire.get("/api/jobs/hardware")
            if one.get("unitLabel") in hours
        ]
        return sorted(found, key=lambda row: row[2])

    def cost(self, data: Path, model: Model, settings: Settings, wire: Wire | None = None) -> Cost:
        """Return what the hours asked for cost at most on the hardware chosen, as the platform tells it."""
        tokens = round(estimate.amount(data).tokens * float(settings.get("epochs", 1)))
        if wire is None:
            return Cost(tokens)
        hour = {name: price for name, _, price in self.hardware(wire)}.get(model.get("hardware", HARDWARE))
        most = None if hour is None else hour * float(model.get("hours", HOURS))
        return Cost(tokens, most, currency="USD", asked=most is not None)

    def upload(self, wire: Wire, file: Path, told: Callable[[int, int], None]) -> str:
        """Put data, settings and trainer into a private repository, once for both files; return its name."""
        folder = JobFolder(file.parent.parent)
        known = (remembered(folder).get("files") or {}).get("train")
        if known:
            return str(known)
        told(0, 1)
        api = HfApi(endpoint=wire.host.base, token=wire.secret)
        with tempfile.TemporaryDirectory() as there, _told(wire):
            pack(folder, Path(there) / "run")
            repo = f"{api.whoami()['name']}/firsttune-{secrets.token_hex(4)}"
            api.create_repo(repo, private=True)
            api.upload_folder(repo_id=repo, folder_path=there)
        told(1, 1)
        return repo

    def request(self, asked: dict[str, Any], files: dict[str, str], suffix: str) -> dict[str, Any]:
        """Return what starts a job; the token goes along as a secret, and only then."""
        model, repo = asked["model"], files["train"]
        return {
            "dockerImage": IMAGE,
            "command": ["bash", "-c", COMMAND],
            "arguments": [],
            "environment": {"FIRSTTUNE_BASE": model["id"], "FIRSTTUNE_REPO": repo},
            "flavor": model.get("hardware", HARDWARE),
            "timeoutSeconds": round(float(model.get("hours", HOURS)) * 3600),
            "labels": {"name": f"firsttune-{suffix}"},
        }

    def submit(self, wire: Wire, body: dict[str, Any]) -> str:
        """Start a job and return its id."""
        owner = body["environment"]["FIRSTTUNE_REPO"].partition("/")[0]
        told = wire.post(f"/api/jobs/{owner}", body | {"secrets": {"HF_TOKEN": wire.secret}})
        return f"{owner}/{self.named(wire, told, 'id')}"

    def find(self, wire: Wire, files: dict[str, str]) -> str:
        """Return the id of the job that was given our repository, "" where there is none."""
        owner = files["train"].partition("/")[0]
        for job in wire.get(f"/api/jobs/{owner}"):
            if dig(job, "environment.FIRSTTUNE_REPO") == files["train"]:
                return f"{owner}/{job['id']}"
        return ""

    def seen(self, told: Any) -> Seen:
        """Read a job's stage; the tuned model is its repository."""
        stage = self.word(dig(told, "status.stage"))
        state = self.profile.states.get(stage, UNKNOWN)
        model = str(dig(told, "environment.FIRSTTUNE_REPO") or "") if state == DONE else ""
        return Seen(state, stage, model, str(dig(told, "status.message") or ""))

    def status(self, wire: Wire, job_id: str) -> Seen:
        """Return a job's stage; why one failed stands in its log."""
        seen = super().status(wire, job_id)
        if seen.state != FAILED_THERE:
            return seen
        lines = [one.text for one in self.events(wire, job_id) if one.text]
        told = [line for line in lines if line.startswith(FAILED)]
        return replace(seen, said=seen.said or "".join((told or lines)[-1:]))

    def events(self, wire: Wire, job_id: str) -> list[Happened]:
        """Return the lines of the job's log; those with metrics go into the curves."""
        lines = wire.log(f"{self.profile.jobs}/{job_id}/logs", tail=LINES)
        return [self._line(place, str(dig(one, "data") or "").rstrip()) for place, one in enumerate(lines)]

    def _line(self, place: int, line: str) -> Happened:
        if not line.startswith(METRIC):
            return Happened(f"line {place} {line[:80]}", "", line)
        row = metrics_row(orjson.loads(line.removeprefix(METRIC)))
        return Happened(f"metric {sorted(row.items())}", "", "", row)


def pack(folder: JobFolder, there: Path) -> None:
    """Lay out what a rented machine needs to train a job: its folder, our trainer, the packages' names."""
    asked = folder.asked()
    job = there / "job"
    job.mkdir(parents=True)
    model = {"kind": "hub", "id": asked["model"]["id"]}
    kept = {name: asked[name] for name in ("kind", "name", "settings", "system") if name in asked}
    write_json(job / "job.json", kept | {"model": model})
    (job / "data").mkdir()
    for path in (folder.path / "data").glob("*.jsonl"):
        shutil.copyfile(path, job / "data" / path.name)
    for name in CODE:
        source = ROOT / "lib" / name
        target = there / "lib" / name
        if source.is_dir():
            skipped = shutil.ignore_patterns("__pycache__", "*.safetensors", "*.toml", "tokenizer*")
            shutil.copytree(source, target, ignore=skipped)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    wanted = []
    for file in ("requirements.txt", "requirements-app.txt"):
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            if line.startswith(PACKAGES):
                wanted.append(line.partition("#")[0].strip())
    (there / "requirements.txt").write_text("\n".join(wanted) + "\n", encoding="utf-8")


@contextmanager
def _told(wire: Wire) -> Iterator[None]:
    """Turn huggingface_hub's errors into ours, `from None`: they hold the request."""
    try:
        yield
    except HfHubHTTPError as error:
        answer = error.response
        raise wire.refusal(answer.status_code, answer.content, answer.headers) from None
    except httpx2.HTTPError as error:
        raise wire.unreached(timed_out=isinstance(error, httpx2.TimeoutException)) from None
