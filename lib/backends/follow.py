"""A job at a platform, from its own process here: send it once, then look until it has ended.

`remote.json` in the job's folder holds all that is needed to find the job again: the platform's names of the
files, what was sent, the job's id, since when it has been what. It is written before and after every step, so
a process that is killed goes on where it was, and no job is started twice:

    files uploaded ──> what is sent is noted ──> sent ──> id noted ──> looked at until it ends ──> result.json
                              └── died or cut here: the platform's list is searched for our training file

The key is in memory only. Without one (after a reboot, say, where it had been typed) the job waits for it.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from lib import handover, keys
from lib.backends.remote import (
    CANCELLED,
    DONE,
    FAILED,
    RUNNING,
    UNKNOWN,
    WAITING,
    Remembered,
    Remote,
    Seen,
    remember,
    remembered,
)
from lib.backends.wire import Wire
from lib.errors import AppError, BackendError, JobError
from lib.jobfolder import JobFolder

LOOK, LOOK_LATER, LATER = 10.0, 30.0, 600.0  # seconds between looks; after so many seconds; how many
LONGEST = 300.0  # seconds between two looks while the platform does not answer
SLICE = 0.2  # seconds: how soon a wish to stop is seen
GONE = 6  # looks in a row at which the platform knew no such job; a new one may be unknown for a moment
LOOKS_FOR_SENT = 3  # in its list, before a job that may have been sent is sent again
KNOWN_EVENTS = 2000
UNSURE = ("platform.cut", "platform.timeout", "platform.unreachable", "platform.failed", "platform.busy")
KEY_WRONG = ("platform.bad_key", "platform.no_key")


class StoppedError(Exception):
    """Somebody asked this job to stop, and it has."""


def follow(folder: JobFolder, asked: dict[str, Any], place: Remote) -> None:
    """Send a job and look at it until it has ended; leave `result.json`, or raise what went wrong."""
    _Follower(folder, asked, place, remembered(folder)).go()


@dataclass
class _Follower:
    folder: JobFolder
    asked: dict[str, Any]
    place: Remote
    known: Remembered
    key: str = ""
    refused: str = ""  # the key that the platform did not take
    trouble: AppError | None = None
    numbers: dict[str, Any] = field(default_factory=dict)

    def go(self) -> None:
        self.known.setdefault("begun", time.time())
        self.send_files()
        self.send_job()
        ended = self.look_until_ended()
        if ended.state == CANCELLED:
            if self.folder.stop_wanted():
                raise StoppedError
            raise BackendError("platform.cancelled_there", platform=self.place.profile.label)
        if ended.state == FAILED:
            raise BackendError(
                "platform.job_failed",
                platform=self.place.profile.label,
                said=ended.said or ended.raw,
                raw=str(self.known.get("last", ""))[:4000],
            )
        since = self.known.get("phases", {})
        waited = since.get("running", time.time()) - since.get("waiting", since.get("running", time.time()))
        self.folder.finish(
            tuned_model=ended.model,
            platform=self.place.profile.label,
            remote_id=self.known["id"],
            seconds=time.time() - self.known["begun"],
            seconds_waited=max(0.0, waited),
            **{name: ended.numbers[name] for name in ("tokens", "price") if name in ended.numbers},
        )

    def send_files(self) -> None:
        files = self.known.setdefault("files", {})
        for name in ("train", "validation"):
            path = self.folder.path / "data" / f"{name}.jsonl"
            if name in files or not path.is_file() or not path.stat().st_size:
                continue

            def told(done: int, total: int) -> None:
                if self.folder.stop_wanted():
                    raise StoppedError
                self.say("uploading", done=done, total=total)

            files[name] = self.with_key(lambda wire, path=path: self.place.upload(wire, path, told))
            self.keep({"files": files})

    def send_job(self) -> None:
        if self.known.get("id"):
            return
        self.known.setdefault("suffix", f"ft{secrets.token_hex(3)}")
        files = self.known["files"]
        looks = LOOKS_FOR_SENT if self.known.get("sent") else 0
        while True:
            for _ in range(looks):
                self.say("searching")
                if found := self.with_key(lambda wire: self.place.find(wire, files)):
                    self.keep({"id": found})
                    return
                self.pause(_look_every())
            if self.folder.stop_wanted():
                raise StoppedError
            self.say("submitting")
            body = self.place.request(self.asked, files, self.known["suffix"])
            if body != self.known.get("sent"):
                self.keep({"sent": body})
            try:
                found = self.with_key(lambda wire, body=body: self.place.submit(wire, body))
                self.keep({"id": found})
                return
            except BackendError as error:
                if error.key not in UNSURE or (
                    error.key == "platform.unreachable" and not error.facts["sent"]
                ):
                    self.keep({"sent": None})  # it was refused, so there is nothing to look for
                    raise
                self.trouble, looks = error, LOOKS_FOR_SENT

    def look_until_ended(self) -> Seen:
        wait, gone, begun = _look_every(), 0, time.monotonic()
        while True:
            try:
                self.cancel_if_wanted()
                seen: Seen = self.with_key(lambda wire: self.place.status(wire, self.known["id"]))
                gone, wait, self.trouble = 0, _look_every(), None
                if time.monotonic() - begun > LATER:
                    wait = max(wait, min(LOOK_LATER, wait * 3))
                self.note_events()
                self.tell(seen)
                if seen.state in (FAILED, CANCELLED) or (seen.state == DONE and seen.model):
                    return seen
            except BackendError as error:
                unknown = error.key in ("platform.not_found", "platform.no_model")
                if (
                    unknown
                    and self.known.get("cancel_sent")
                    and self.place.profile.cancel.startswith("DELETE")
                ):
                    return Seen(CANCELLED, "")
                gone += unknown
                if gone >= GONE:
                    raise BackendError(
                        "platform.job_gone", platform=self.place.profile.label, id=self.known["id"]
                    ) from None
                self.trouble = error
                asked_for = error.facts.get("seconds")
                wait = min(LONGEST, max(wait * 2, asked_for if isinstance(asked_for, float) else 0.0))
                print(f"{_clock()} {error.key} {error.facts.get('said', '')}", flush=True)
                self.say(self.folder.status().get("phase", "waiting"))
            self.pause(wait)

    def tell(self, seen: Seen) -> None:
        phase = {WAITING: "waiting", RUNNING: "running", DONE: "finishing", UNKNOWN: "unknown"}
        now = "cancelling" if self.known.get("cancel_sent") else phase.get(seen.state, "finishing")
        self.numbers = {"raw": seen.raw, **seen.numbers}
        if seen.raw != self.known.get("raw"):
            print(f"{_clock()} {seen.raw}", flush=True)
        self.known.setdefault("phases", {}).setdefault(now, time.time())
        self.keep({"raw": seen.raw, "state": seen.state, "polled": self.known.get("polled", 0) + 1})
        self.say(now, **self.numbers)

    def note_events(self) -> None:
        """Write what is new among the job's events into the log, and what they measured into the curves."""
        try:
            found = self.with_key(lambda wire: self.place.events(wire, self.known["id"]))
        except BackendError as error:
            print(f"{_clock()} events: {error.key}", flush=True)  # the state is what counts
            return
        seen = self.known.setdefault("events", [])
        for one in found:
            if one.id not in seen:
                seen.append(one.id)
                print(f"{one.at} {one.text}".strip(), flush=True)
                if one.metrics:
                    self.folder.metric(**one.metrics)
        del seen[:-KNOWN_EVENTS]

    def cancel_if_wanted(self) -> None:
        if not self.folder.stop_wanted() or self.known.get("cancel_sent"):
            return
        try:
            self.with_key(lambda wire: self.place.cancel(wire, self.known["id"]))
        except BackendError as error:
            if error.key not in ("platform.refused", "platform.not_found"):
                raise  # it is tried again at the next look
            print(f"{_clock()} {error.key}", flush=True)  # it had ended already: its state tells how
        self.keep({"cancel_sent": True})

    def with_key(self, act: Any) -> Any:
        """Do something that needs the key; a key that is not taken is asked for anew."""
        while True:
            wire = self.wire()
            try:
                return act(wire)
            except BackendError as error:
                if error.key not in KEY_WRONG or not self.known.get("id"):
                    raise  # before a job is there, the visitor is waiting to hear it
                self.trouble, self.refused, self.key = error, self.key, ""

    def wire(self) -> Wire:
        while not self.key:
            found = _handed(self.folder) or keys.find(self.place.key_variable)[0]
            if found and found != self.refused:
                self.key = found
                break
            if self.folder.stop_wanted() and not self.known.get("id"):
                raise StoppedError
            self.say("no_key")
            self.pause(_look_every())
        return self.place.wire(self.key, str(self.asked["address"]))

    def say(self, phase: str, **numbers: Any) -> None:
        """Report a phase, since it began even if another process began it."""
        since = self.known.setdefault("phases", {}).setdefault(phase, time.time())
        trouble = {"trouble": self.trouble.as_json()} if self.trouble else {}
        told = {"since": since, "polled": self.known.get("polled", 0), **self.numbers, **numbers, **trouble}
        self.folder.report(phase, **told)

    def keep(self, change: Remembered) -> None:
        # the page writes into the same file what it deployed, so only what is changed here is changed there
        self.known |= change
        mine = ("begun", "files", "suffix", "sent", "id", "raw", "state", "polled", "phases", "events")
        now = remembered(self.folder)
        now |= {name: self.known[name] for name in (*mine, "cancel_sent") if name in self.known}
        remember(self.folder, now)

    def pause(self, seconds: float) -> None:
        """Wait; somebody who wants it to stop is not kept waiting."""
        until, known = time.monotonic() + seconds, self.folder.stop_wanted()
        while time.monotonic() < until:
            if not known and self.folder.stop_wanted():
                return
            time.sleep(min(SLICE, max(0.0, until - time.monotonic())))


def _handed(folder: JobFolder) -> str:
    try:
        return handover.take(folder)
    except JobError:
        return ""


def _look_every() -> float:
    """Return the seconds between two looks; `FIRSTTUNE_LOOK_SECONDS` changes them."""
    given = os.environ.get("FIRSTTUNE_LOOK_SECONDS", "")
    return float(given) if given.replace(".", "", 1).isdigit() else LOOK


def _clock() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")
