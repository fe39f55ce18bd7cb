"""A platform asked over the network: its profile says what differs, this says what is the same for all.

    start       a job into our list; its own process (lib/backends/follow.py) does the rest
    upload, submit, find, status, events, metrics, cancel    what that process asks, with a `Wire`
    deploy, deployment, undeploy    for a tuned model that answers only then
    offered, limits, cost           what the platform itself says before anything is sent
    chat        the base model and the tuned one

A wire shape that needs more than a profile is a subclass in a file of its own, with the methods that differ.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lib import estimate, jobs, params
from lib.backends.base import Backend, Model
from lib.backends.profile import Profile, dig, put
from lib.backends.wire import Host, Wire, ask
from lib.chat import Message
from lib.errors import BackendError
from lib.jobfolder import JobFolder
from lib.params import Ranges, Settings
from lib.talk import LIKELIEST, Sampling
from lib.workspace import read_json, write_json

# What becomes of a platform's own word for a state; one that is not in its profile is UNKNOWN.
WAITING, RUNNING, DONE, FAILED, CANCELLED, UNKNOWN = (
    *("waiting", "running", "done", "failed", "cancelled", "unknown"),
)
LISTED = 100  # jobs asked for when one is looked for

Remembered = dict[str, Any]  # what `remote.json` holds of a job (lib/backends/follow.py)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a platform says of a job. `raw` is its own word; `said` its own line about a failure.

    `numbers` holds only what it told, of: step, steps, percent, tokens, ahead (jobs in its queue),
    seconds_left.
    """

    state: str
    raw: str
    model: str = ""
    said: str = ""
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Happened:
    """One event of a job at the platform. `metrics` are a row for our curves, {} where it has none."""

    id: str
    at: str
    text: str
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job will cost, as far as that is known.

    `tokens` trained; `amount` in `currency`, None where no price is known; `minimum` the least a job costs,
    up to `minimum_most` by model; `at_most`: the amount is a limit. `files` were sent to find it out, and
    are the job's.
    `asked`: the platform itself was asked; else the price is `source`'s of the day `checked`.
    """

    tokens: int
    amount: float | None = None
    minimum: float | None = None
    currency: str = ""
    asked: bool = False
    source: str = ""
    checked: str = ""
    minimum_most: float | None = None
    at_most: bool = False
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A tuned model that was asked to answer. `state` is "starting", "ready", "failed" or "unknown"."""

    state: str
    raw: str
    since: float
    model: str
    id: str
    price: float | None = None  # for an hour, where the platform says it
    currency: str = ""


class Remote(Backend):
    """One platform. `address` is another server of the same shape; `silence` as in `Wire`."""

    asks_price = False  # whether the platform itself tells what a job will cost
    answers = True  # whether its models can be talked to there

    def __init__(self, profile: Profile, address: str = "", *, silence: float | None = None) -> None:
        self.profile, self.name, self.target = profile, profile.name, profile.target
        self.ranges, self.key_variable = profile.ranges, profile.key_variable
        self.takes_seed = profile.takes_seed
        self._address, self._silence = address.rstrip("/"), silence
        self.changed_rules, self.price = tuple(sorted(profile.file.items())), profile.price

    @property
    def needs(self) -> str:
        """What of its address the visitor must say: "account", "resource", all of it ("address"), or ""."""
        blank = re.search(r"{(\w+)}", self.address)
        return blank[1] if blank else "" if self.address else "address"

    @property
    def address(self) -> str:
        """Its address, with a blank where something of it is the visitor's."""
        return self._address or self.profile.address

    def address_of(self, model: Model) -> str:
        """Return the address for a job. Raises `BackendError` where what it `needs` is missing or no name."""
        said = model.get(self.needs, "").strip().rstrip("/") if self.needs else ""
        if self.needs == "address" and said:
            return said
        if self.needs and not re.fullmatch(r"[A-Za-z0-9._-]+", said):
            raise BackendError("platform.no_address", platform=self.profile.label, page=self.profile.key_page)
        return self.address.format(**{self.needs: said}) if self.needs else self.address

    def models(self) -> tuple[str, ...]:
        """Return the base models its documents name."""
        return self.profile.models

    def defaults(self, model: Model) -> Settings:
        """Return the values its documents start from."""
        del model
        return params.defaults(self.ranges, self.profile.start)

    def wire(self, key: str, address: str = "", *, chat: bool = False) -> Wire:
        """Return what speaks with it. Raises `BackendError` for an address or key that can be none."""
        base, there = address or self.address, self.profile.chat
        if chat and "{origin}" in there:
            url = urlsplit(base)
            base = there.format(origin=f"{url.scheme}://{url.netloc}")
        elif chat and there and base == self.profile.base:
            base = there
        host = Host(self.profile.label, base, self.profile.header, self.profile.key_page, self.profile.says)
        return Wire(host, key, silence=self._silence) if self._silence else Wire(host, key)

    # --- before anything is sent

    def offered(self, wire: Wire) -> tuple[str, ...]:
        """Return the base models it says it can tune; those of its documents where it cannot be asked."""
        at = self.profile.models_at
        if not at:
            return self.models()
        listed = dig(self._do(wire, f"GET {at['path']}"), at["list"]) or []
        only = at.get("only", "")
        found = [str(dig(one, at["id"]) if at["id"] else one) for one in listed if not only or dig(one, only)]
        return tuple(found) or self.models()

    def limits(self, wire: Wire, model: Model) -> Ranges:
        """Return the hyperparameters it takes for a model; its documents' where it cannot be asked."""
        del wire, model
        return self.ranges

    def cost(self, data: Path, model: Model, settings: Settings, wire: Wire | None = None) -> Cost:
        """Return what a job will cost; asked of the platform where it can be and there is a `wire`."""
        del wire
        tokens, price = round(estimate.amount(data).tokens * float(settings.get("epochs", 1))), self.price
        if not price:
            return Cost(tokens)
        return Cost(
            tokens,
            price.of(tokens, model.get("id", "")),
            price.minimum,
            price.currency,
            source=price.source,
            checked=price.checked,
            minimum_most=price.minimum_most,
        )

    def start(self, name: str, data: Path, model: Model, settings: Settings, system: str) -> jobs.Job:
        """Put a job into the list; its process sends it. Needs a key found by `lib.keys`, or `sending`."""
        return self.sending(name, data, model, settings, system)

    def sending(
        self,
        name: str,
        data: Path,
        model: Model,
        settings: Settings,
        system: str,
        before: Callable[[JobFolder], None] | None = None,
    ) -> jobs.Job:
        """Put a job into the list; `before` is called with its folder, to hand a key over.

        Raises `BackendError` where the model has no name, there is no address, or the file breaks a rule.
        """
        if not model.get("id", "").strip():
            raise BackendError("platform.no_base", platform=self.profile.label)
        asked = self.asked(data, model, self.defaults(model) | settings, system)
        broken = self.check(data).errors
        if broken:
            raise BackendError(
                "platform.breaks_rules", platform=self.profile.label, rows=len(broken), line=broken[0].line
            )
        asked["address"] = self.address_of(model)
        return jobs.submit("train", name, asked, data=data, before=before, backend=self.name)

    # --- what the job's process asks

    def upload(self, wire: Wire, file: Path, told: Callable[[int, int], None]) -> str:
        """Send a data file and return its name there."""
        how = self.profile.upload
        fields = {name: value.format(name=file.name) for name, value in how["fields"].items()}
        answer = wire.upload(
            how["path"], file, field=how["file"], fields=fields, bom=self.profile.bom, told=told
        )
        return self.named(wire, answer, how["id"])

    def request(self, asked: dict[str, Any], files: dict[str, str], suffix: str) -> dict[str, Any]:
        """Return what starts a job: every value said, none that the platform does not know, and no null."""
        body: dict[str, Any] = {}
        at = self.profile.create
        put(body, at["model"], asked["model"]["id"])
        put(body, at["training"], files["train"])
        if files.get("validation"):
            put(body, at["validation"], files["validation"])
        if at.get("suffix"):
            put(body, at["suffix"], suffix)
        for path, value in self.profile.always.items():
            put(body, path, value)
        for name, value in params.read(asked).items():
            row = self.profile.params[name]
            put(body, row["to"], f"{value:g}" if row.get("text") else value)
        return body

    def submit(self, wire: Wire, body: dict[str, Any]) -> str:
        """Start a job and return its id there. Never repeated by itself: `find` tells whether it came."""
        return self.named(wire, wire.post(self.profile.jobs, body), self.profile.job["id"])

    def find(self, wire: Wire, files: dict[str, str]) -> str:
        """Return the id of the job that was started with our training file, "" where there is none."""
        for one in dig(wire.get(self.profile.jobs, **self.listed()), self.profile.listing) or []:
            if self._file_of(one) == files["train"]:
                return str(dig(one, self.profile.job.get("listed") or self.profile.job["id"]))
        return ""

    def status(self, wire: Wire, job_id: str) -> Seen:
        """Return what it says of a job now."""
        return self.seen(wire.get(f"{self.profile.jobs}/{job_id}"))

    def seen(self, told: Any) -> Seen:
        """Read what it says of a job."""
        at = self.profile.job
        raw = dig(told, at["state"])
        word = self.word(raw)
        numbers = {}
        for name in ("step", "steps", "percent", "tokens", "ahead", "seconds_left"):
            value = dig(told, at.get(name, ""))
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                numbers[name] = float(value)
        return Seen(
            self.profile.states.get(word, UNKNOWN),
            word,
            str(dig(told, at["model"]) or ""),
            str(dig(told, at["error"]) or ""),
            numbers,
        )

    def events(self, wire: Wire, job_id: str) -> list[Happened]:
        """Return what happened to a job, oldest first."""
        at = self.profile.events
        if not at:
            return []
        rows = dig(wire.get(at["path"].format(id=job_id)), at["list"]) or []
        found = [self._happened(one) for one in rows if isinstance(one, dict)]
        found.sort(key=lambda one: (one.at, one.metrics.get("step", 0)))
        return [*found, *self._measured(wire, job_id)]

    def cancel(self, wire: Wire, job_id: str) -> None:
        """Ask it to stop a job; `status` tells when it has."""
        self._do(wire, self.profile.cancel, id=job_id)

    # --- afterwards

    @property
    def deploys(self) -> bool:
        """Whether a tuned model must be deployed before it answers."""
        return bool(self.profile.deploy)

    @property
    def can_deploy(self) -> bool:
        """Whether that can be done from here; else in its console, and the model's name is entered."""
        return bool(self.profile.deploy.get("create"))

    def deploy(self, job: jobs.Job, key: str) -> Deployment:
        """Have a job's tuned model answer; from now on it costs, until `undeploy`."""
        known = remembered(job.folder)
        wire, how = self._wire_of(job, key), self.profile.deploy
        blanks = self.blanks(wire, job, known)
        told = self._do(wire, how["create"], _filled(how["body"], blanks), **blanks)
        entry = {"id": self.named(wire, told, how["id"]), "model": str(dig(told, how["model"]) or "")}
        if how.get("answers"):
            entry["model"] = how["answers"].format(**blanks | {"id": entry["id"]})
        known["deployment"] = entry | {"since": time.time(), "hour": known.pop("hour", None)}
        remember(job.folder, known)
        return self._deployment(known["deployment"], told)

    def deployment(self, job: jobs.Job, key: str) -> Deployment | None:
        """Return how a deployment stands, None where there is none."""
        entry = remembered(job.folder).get("deployment")
        if not entry:
            return None
        told = self._do(self._wire_of(job, key), self.profile.deploy["look"], id=entry["id"])
        return self._deployment(entry, told)

    def undeploy(self, job: jobs.Job, key: str) -> None:
        """End a deployment, and what it costs."""
        known = remembered(job.folder)
        entry = known.get("deployment")
        if entry:
            self._do(self._wire_of(job, key), self.profile.deploy["stop"], id=entry["id"])
            del known["deployment"]
            remember(job.folder, known)

    def name_tuned(self, job: jobs.Job, name: str) -> None:
        """Keep the name under which a model deployed in the platform's console answers."""
        known = remembered(job.folder)
        known["answers_as"] = name.strip()
        remember(job.folder, known)

    def chat(
        self,
        job: jobs.Job,
        which: str,
        messages: Sequence[Message],
        *,
        key: str,
        sampling: Sampling = LIKELIEST,
    ) -> Iterator[str]:
        """Yield the answer piece by piece. Closing the iterator early ends the connection."""
        if not self.answers:
            raise BackendError("backend.no_chat", name=job.name)
        known, asked = remembered(job.folder), job.folder.asked()
        model = str(asked["model"]["id"])
        if which == "tuned":
            deployed = str((known.get("deployment") or {}).get("model", ""))
            tuned = str((job.folder.result() or {}).get("tuned_model", ""))
            model = known.get("answers_as") or deployed or ("" if self.deploys else tuned)
            if not model:
                raise BackendError("platform.not_deployed", name=job.name)
        return self.answer(self._wire_of(job, key, chat=True), model, messages, self.picks(sampling))

    def answer(
        self, wire: Wire, model: str, messages: Sequence[Message], picks: Mapping[str, float]
    ) -> Iterator[str]:
        """Yield a model's answer piece by piece; `picks` as in `Backend`."""
        return ask(wire, model, messages, picks)

    # --- the small print

    def _wire_of(self, job: jobs.Job, key: str, *, chat: bool = False) -> Wire:
        return self.wire(key, str(job.folder.asked()["address"]), chat=chat)

    def named(self, wire: Wire, told: Any, path: str) -> str:
        """Return the name in an answer; one without is no answer of this platform."""
        name = dig(told, path)
        if not isinstance(name, str) or not name:
            raise wire.odd(told)
        return name

    def _do(self, wire: Wire, what: str, body: Any = None, **blanks: str) -> Any:
        """Do what a profile says: `POST /path/{id}`."""
        method, _, path = what.partition(" ")
        wire = wire.at_origin() if path.startswith("{origin}") else wire
        path = path.format_map(blanks | {"origin": ""})
        return {"POST": lambda: wire.post(path, body), "GET": lambda: wire.get(path)}.get(
            method, lambda: wire.delete(path)
        )()

    def listed(self) -> dict[str, Any]:
        """Return how to ask for the list of jobs."""
        return {"limit": LISTED}

    def _measured(self, wire: Wire, job_id: str) -> list[Happened]:
        """Return what was measured, where a platform tells that apart from its events."""
        at = self.profile.metrics
        if not at:
            return []
        told = dig(wire.get(at["path"].format(id=job_id)), at["list"]) or []
        rows = [row for row in map(metrics_row, told) if row]
        return [Happened(f"step {row['step']:g} {sorted(row)}", "", "", row) for row in rows]

    def _file_of(self, told: Any) -> str:
        return str(dig(told, self.profile.job["file"]) or "")

    def word(self, raw: Any) -> str:
        """Return a state's own word."""
        return str(raw if raw is not None else "")

    def _happened(self, one: dict[str, Any]) -> Happened:
        at = self.profile.events
        text, when = str(dig(one, at["text"]) or ""), str(dig(one, at["at"]) or "")
        row = metrics_row(dig(one, at.get("numbers", "")))
        known = str(dig(one, at.get("id", "")) or "")
        return Happened(
            known or hashlib.sha256(f"{when} {text} {row}".encode()).hexdigest()[:16], when, text, row
        )

    def blanks(self, wire: Wire, job: jobs.Job, known: Remembered) -> dict[str, str]:
        """Return what the request of a deployment is filled with."""
        filled = {
            "job": str(known.get("id", "")),
            "model": str((job.folder.result() or {}).get("tuned_model", "")),
            "base": str(job.folder.asked()["model"]["id"]),
            "name": f"ft-{str(known.get('suffix', ''))[-6:]}",
        }
        if self.profile.deploy.get("checkpoints"):
            found = dig(wire.get(self.profile.deploy["checkpoints"].format(**filled)), "data") or []
            filled["checkpoint"] = str(found[0]["id"]) if found else ""
        return filled

    def _deployment(self, entry: dict[str, Any], told: Any) -> Deployment:
        how = self.profile.deploy
        raw = str(dig(told, how["state"]) or "")
        state = "ready" if raw in how["ready"] else "failed" if raw in how.get("failed", ()) else "starting"
        hour = entry.get("hour")
        return Deployment(
            state,
            raw,
            float(entry["since"]),
            str(entry.get("model") or ""),
            str(entry["id"]),
            float(hour) if isinstance(hour, int | float) else None,
            str(how.get("currency", "")),
        )


def remembered(folder: JobFolder) -> Remembered:
    """Return what is known of a job at its platform; {} before anything was sent."""
    known = read_json(folder.path / "remote.json")
    return known if isinstance(known, dict) else {}


def remember(folder: JobFolder, known: Remembered) -> None:
    """Keep what is known of a job at its platform."""
    write_json(folder.path / "remote.json", known)


# How platforms call the numbers of our curves.
_METRICS = {
    **dict.fromkeys(("step", "current_steps", "global_step"), "step"),
    **dict.fromkeys(("train_loss", "loss", "training_loss", "train/loss"), "loss"),
    **dict.fromkeys(("valid_loss", "eval_loss", "validation_loss", "eval/loss"), "eval_loss"),
    **dict.fromkeys(("epoch",), "epoch"),
    **dict.fromkeys(("learning_rate", "lr"), "learning_rate"),
}


def metrics_row(told: Any) -> dict[str, float]:
    """Return a row for our curves out of what a platform tells; {} without a step and a loss."""
    if not isinstance(told, dict):
        return {}
    row = {
        _METRICS[name]: float(value)
        for name, value in told.items()
        if name in _METRICS and isinstance(value, int | float) and math.isfinite(value)
    }
    return row if "step" in row and row.keys() & {"loss", "eval_loss"} else {}


def _filled(body: Any, blanks: dict[str, str]) -> Any:
    if isinstance(body, dict):
        return {name: _filled(value, blanks) for name, value in body.items()}
    if isinstance(body, list):
        return [_filled(value, blanks) for value in body]
    return body.format_map(blanks) if isinstance(body, str) else body
