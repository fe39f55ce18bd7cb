"""Kill -9 whoever works on a training, at random moments, and look what is left of it.

    python bench/kills.py                              100 kills
    python bench/kills.py --kills 6 --seed 3 --json all.json

Small trainings of the practice model are entered one after the other, each disturbed up to three times.
Killed is the `trainer` (the process of the job, from its start on), the `supervisor` (`python -m lib.jobs`),
the `app` (a process that enters the job and then looks at the list four times a second, as a page does; some
die while they enter it), or `all` three at once, as in a power cut. An app that died is opened again at once
or only after the job's end, by the throw of a coin; at once where nobody is left to look.

A job ends right if it is done; has step for step the losses of the first one, which nobody disturbed, and
byte for byte its weights; holds the same files, all of them whole; never had two processes; and stands in the
list as it is. One whose app died before it was entered must have left nothing. In the end nothing may run on.
The exit code is 1 where anything was otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TextIO

import orjson
import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.train import sample, write  # noqa: E402
from lib import backends, joblist, jobs  # noqa: E402
from lib.errors import AppError  # noqa: E402
from lib.jobfolder import JobFolder  # noqa: E402

VICTIMS = {"trainer": 4, "supervisor": 3, "app": 2, "all": 2}  # and how often each is drawn, of eleven times
WHEN = ("entering", "queued", "preparing", "training", "evaluating", "ended")
MOST_A_JOB = 3
# A job whose process died three times before it got any further is given up, and rightly so.
MOST_TRAINERS = jobs.ATTEMPTS - 1
PAUSE = 0.6  # of a job's time: the most between two kills
ENTERING = 0.05  # seconds that entering a job takes at most
PATIENCE = 180.0  # seconds until a job that has not ended never will
SAVE_EVERY = 0.3  # seconds between two checkpoints, so that most kills find one
MODEL = {"kind": "practice", "id": "practice"}
SETTINGS: dict[str, Any] = {"epochs": 6, "batch_size": 4}
ROWS = 32


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill: which job it was meant for, whom it hit and how many processes, and what went on then."""

    job: str
    victim: str
    processes: int
    when: str


@dataclass(slots=True)
class Outcome:
    """What became of one job: what was wrong with it, nothing if it ended right."""

    job: str
    kills: list[Kill] = field(default_factory=list)
    entered: bool = True
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


# The app: a process of its own


def app(entered: TextIO) -> None:
    """Look at the list as a page does; enter a job for every line read, until there are no more."""
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in entered:
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, daemon=True).start()
    print("open", flush=True)
    while True:
        with suppress(AppError):
            jobs.listing("train")
        try:
            line = lines.get(timeout=0.25)
        except queue.Empty:
            continue
        if not line:
            return
        asked = json.loads(line)
        jobs.submit("train", asked["name"], asked["asked"], data=Path(asked["data"]))


class App:
    """The app as the bench sees it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def open(self) -> None:
        """Start it, unless it runs; return once it looks at the list."""
        if self._process:
            return
        command = [sys.executable, str(Path(__file__).resolve()), "--app"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, encoding="utf-8", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout
        self._process.stdout.readline()

    def enter(self, name: str, data: Path) -> None:
        """Have it enter a job; does not wait for that."""
        assert self._process and self._process.stdin
        settings = backends.BACKENDS["local"].defaults(MODEL) | SETTINGS
        asked = {"model": MODEL, "settings": settings, "system": "", "save_every": SAVE_EVERY}
        self._process.stdin.write(json.dumps({"name": name, "asked": asked, "data": str(data)}) + "\n")
        self._process.stdin.flush()

    @property
    def pid(self) -> int | None:
        """Return its process id while it runs."""
        return self._process.pid if self._process else None

    def kill(self) -> int:
        """Kill it; return how many processes that were."""
        return self._leave(kindly=False)

    def close(self) -> int:
        """Let it come to its own end."""
        return self._leave(kindly=True)

    def _leave(self, *, kindly: bool) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        assert process.stdin and process.stdout
        if not kindly:
            process.kill()
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()
        return 1


# What is so


def ours(workspace: Path) -> list[psutil.Process]:
    """Return all living processes that work in this workspace."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if process.environ().get("FIRSTTUNE_HOME") == str(workspace):
                found.append(process)
    return found


def at_work(folder: Path, some: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Return which of some processes work on a job."""
    found = []
    for process in some:
        with suppress(psutil.Error):
            if str(folder) in process.cmdline():
                found.append(process)
    return found


def supervisor(workspace: Path) -> psutil.Process | None:
    """Return the process that works the list off."""
    return JobFolder(workspace / "runner").process()


def kill(process: psutil.Process | None) -> int:
    """Kill a process for good; return 1 if it lived."""
    if process is None:
        return 0
    with suppress(psutil.Error):
        process.kill()
        psutil.wait_procs([process], timeout=10)
        return 1
    return 0


def losses(folder: JobFolder) -> list[tuple[int, str, float]]:
    """Return every loss that was written, in its order: step, which one, value."""
    return [
        (row["step"], name, row[name])
        for row in folder.metrics()
        for name in ("loss", "eval_loss")
        if row.get(name) is not None
    ]


def files(folder: Path) -> set[str]:
    """Return the names of all files below a folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def broken(folder: Path) -> Iterator[str]:
    """Yield what is not whole among a folder's JSON files."""
    for path in folder.rglob("*.json*"):
        if path.suffix not in (".json", ".jsonl"):
            continue
        text = path.read_bytes()
        try:
            for part in text.splitlines() if path.suffix == ".jsonl" else [text]:
                orjson.loads(part)
        except orjson.JSONDecodeError:
            yield path.relative_to(folder).as_posix()


def differences(job: joblist.Job, calm: joblist.Job) -> Iterator[str]:
    """Yield in what a job came out otherwise than the one nobody disturbed."""
    if job.state != "done":
        yield f"it is {job.state}: {job.error}"
        return
    mine, its = losses(job.folder), losses(calm.folder)
    if mine != its:
        first = next((a for a, b in zip(mine, its, strict=False) if a != b), None)
        yield f"other losses: {len(mine)} rows instead of {len(its)}, the first one that differs is {first}"
    weights = "adapter/adapter_model.safetensors"
    if (job.folder.path / weights).read_bytes() != (calm.folder.path / weights).read_bytes():
        yield "other weights"
    more, fewer = (
        files(job.folder.path) - files(calm.folder.path),
        files(calm.folder.path) - files(job.folder.path),
    )
    if more or fewer:
        yield f"files too many {sorted(more)}, too few {sorted(fewer)}"
    for name in broken(job.folder.path):
        yield f"{name} is not whole"


# The bench


class Bench:
    """Enters jobs, disturbs them and judges how they ended. `draw` decides when and whom."""

    def __init__(self, workspace: Path, draw: Random) -> None:
        self.workspace, self.draw = workspace, draw
        self.data = workspace.parent / "data"
        write(self.data, (sample(ROWS)[0], sample(ROWS)[1][:6]))
        self.app = App()
        self.calm: joblist.Job | None = None
        self.lasts = 0.0  # seconds from entering to the end, undisturbed
        self.outcomes: list[Outcome] = []

    def undisturbed(self) -> None:
        """Run the job that all others are compared with."""
        self.app.open()
        begun = time.monotonic()
        self.app.enter("calm", self.data)
        outcome = Outcome("calm")
        job = self.entered(outcome)
        if job:
            self.calm = self.ended(job.id, outcome)
        self.lasts = time.monotonic() - begun
        if outcome.wrong or self.calm is None or self.calm.state != "done":
            raise SystemExit(f"the undisturbed job did not end right: {outcome.wrong}")

    def disturb(self, name: str, most: int) -> Outcome:
        """Enter a job, kill up to `most` processes meanwhile, and judge how it ended."""
        outcome = Outcome(name)
        begun = time.monotonic()
        self.app.open()
        self.app.enter(name, self.data)
        if self.draw.random() < 0.15:
            time.sleep(self.draw.uniform(0, ENTERING))
            outcome.kills.append(Kill(name, "app", self.app.kill(), "entering"))
            self.app.open()
        job = self.entered(outcome)
        outcome.entered = job is not None
        if job:
            self.strike(job, outcome, most)
            job = self.ended(job.id, outcome)
            if job and self.calm:
                outcome.wrong += differences(job, self.calm)
        outcome.wrong += self.orphans()
        outcome.seconds = time.monotonic() - begun
        self.outcomes.append(outcome)
        return outcome

    def strike(self, job: joblist.Job, outcome: Outcome, most: int) -> None:
        """Kill at random moments until it is enough or the job has ended."""
        trainers = 0
        while (hit := sum(one.processes for one in outcome.kills)) < most and len(outcome.kills) < MOST_A_JOB:
            self.watch(job.id, outcome, self.draw.uniform(0, PAUSE * self.lasts))
            when = joblist.standing(joblist.get(job.id)).state
            if when in jobs.ENDED:
                return
            possible = [one for one in VICTIMS if one != "all" or most - hit >= 3]
            if trainers == MOST_TRAINERS:
                possible = [one for one in possible if one in ("supervisor", "app")]
            (victim,) = self.draw.choices(possible, [VICTIMS[one] for one in possible])
            processes = 0
            if victim in ("supervisor", "all"):  # the one that could start the others again goes first
                processes += kill(supervisor(self.workspace))
            if victim in ("trainer", "all"):
                there = at_work(job.folder.path, ours(self.workspace))
                processes += sum(map(kill, there))
                trainers += bool(there)
            if victim in ("app", "all"):
                processes += self.app.kill()
            if processes:
                outcome.kills.append(Kill(job.name, victim, processes, when))
            if supervisor(self.workspace) is None or self.draw.random() < 0.5:
                self.app.open()

    def watch(self, job_id: str, outcome: Outcome, seconds: float) -> None:
        """Wait; note two processes on one job, and leave early where it ends."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            job = joblist.get(job_id)
            if len(at_work(job.folder.path, ours(self.workspace))) > 1:
                outcome.wrong.append("two processes at once")
            if job.state in jobs.ENDED:
                return
            time.sleep(min(0.1, max(0.0, until - time.monotonic())))

    def entered(self, outcome: Outcome) -> joblist.Job | None:
        """Return the job of this name once it is in the list; None where its app died before."""
        killed, until = bool(outcome.kills), time.monotonic() + (3 if outcome.kills else PATIENCE)
        while time.monotonic() < until:
            for job in joblist.listing("train"):
                if job.name == outcome.job:
                    return job
            time.sleep(0.05)
        if not killed:
            outcome.wrong.append("it never came into the list")
        return None

    def ended(self, job_id: str, outcome: Outcome) -> joblist.Job | None:
        """Return the job once the list itself says how it ended and its process has gone."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            self.watch(job_id, outcome, 0.2)
            job = joblist.get(job_id)
            if supervisor(self.workspace) is None and self.app.pid is None:
                self.app.open()  # it has nobody: this is the visitor who comes back
            known = joblist.events(job_id)[-1].state in jobs.ENDED
            if known and not at_work(job.folder.path, ours(self.workspace)):
                return job
        outcome.wrong.append(f"not ended after {PATIENCE:.0f} s: {joblist.standing(joblist.get(job_id))}")
        return None

    def orphans(self) -> Iterator[str]:
        """Yield what lies or runs in the workspace and belongs to nobody."""
        known = {job.id for job in joblist.listing()}
        lying = {path.name for path in (self.workspace / "jobs").iterdir()}
        if known != lying:
            yield f"in the list alone {sorted(known - lying)}, on the disk alone {sorted(lying - known)}"
        with closing(sqlite3.connect(self.workspace / "jobs.db")) as db:
            (said,) = db.execute("pragma integrity_check").fetchone()
        if said != "ok":
            yield f"the list: {said}"
        watching = supervisor(self.workspace)
        allowed = {self.app.pid, watching.pid if watching else None}
        for process in ours(self.workspace):
            with suppress(psutil.Error):
                if process.pid not in allowed and JobFolder(self.workspace / "runner").process() != process:
                    yield f"runs on: {' '.join(process.cmdline())}"

    def left(self) -> list[str]:
        """Close the app and return what still runs, or lies half-written, when all should have gone."""
        self.app.close()
        until = time.monotonic() + jobs.IDLE + 20
        while time.monotonic() < until and ours(self.workspace):
            time.sleep(0.2)
        found = [f"runs on: {' '.join(process.cmdline())}" for process in ours(self.workspace)]
        return found + [f"half-written: {path}" for path in self.workspace.rglob("*.part")]


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines of a table: whom the kills hit, and when."""
    yield "| killed | times | " + " | ".join(WHEN[:-1]) + " | job not right |"
    yield "|---" * (len(WHEN) + 2) + "|"
    for victim in VICTIMS:
        some = [(one, outcome) for outcome in outcomes for one in outcome.kills if one.victim == victim]
        when = Counter(one.when for one, _ in some)
        cells = [str(when[name]) for name in WHEN[:-1]]
        wrong = len({outcome.job for _, outcome in some if outcome.wrong})
        yield f"| {victim} | {len(some)} | {' | '.join(cells)} | {wrong} |"


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "bench/kills.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--kills", type=int, default=100, help="processes to kill in all")
    add("--seed", type=int, default=0, help="of the moments and the victims")
    add("--json", type=Path, help="write every kill and every outcome to this file")
    add("--keep", action="store_true", help="leave the workspace where it is")
    add("--app", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, judge and print; return 1 where a job did not end right or something was left."""
    asked = _asked(arguments)
    if asked.app:
        app(sys.stdin)
        return 0
    place = Path(tempfile.mkdtemp(prefix="kills-")).resolve()
    os.environ["FIRSTTUNE_HOME"] = str(place / "workspace")
    bench = Bench(place / "workspace", Random(asked.seed))
    begun = time.monotonic()
    try:
        bench.undisturbed()
        print(f"undisturbed: {bench.lasts:.1f} s", flush=True)
        killed = 0
        while killed < asked.kills:
            outcome = bench.disturb(f"job {len(bench.outcomes) + 1}", asked.kills - killed)
            killed += sum(one.processes for one in outcome.kills)
            hits = ", ".join(f"{one.victim} while {one.when}" for one in outcome.kills)
            said = "; ".join(outcome.wrong) or ("right" if outcome.entered else "right: never entered")
            print(
                f"{killed:4} {outcome.job}: {hits or 'nobody'} -> {said} ({outcome.seconds:.1f} s)",
                flush=True,
            )
        left = bench.left()
    finally:
        for process in ours(bench.workspace):
            kill(process)
        if not asked.keep:
            shutil.rmtree(place, ignore_errors=True)
    wrong = [outcome for outcome in bench.outcomes if outcome.wrong]
    print("\n" + "\n".join(table(bench.outcomes)))
    print("\n" + "\n".join(left) if left else "\nNothing runs on, nothing lies half-written.")
    good, seconds = not wrong and not left, time.monotonic() - begun
    counted = f"{killed} processes killed, {len(bench.outcomes)} jobs, {len(wrong)} not right"
    print(f"\n**{'Passed' if good else 'FAILED'}**: {counted}, {seconds:.0f} s, seed {asked.seed}")
    if asked.json:
        told = {"killed": killed, "seed": asked.seed, "left": left, "passed": good}
        asked.json.write_text(
            json.dumps(told | {"outcomes": [asdict(one) for one in bench.outcomes]}, indent=1)
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
