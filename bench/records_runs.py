"""Run engines in turns, each run in a process of its own, and compare what they made with the truth."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from bench import records_data as data
from bench import records_engines as engines
from bench.records_engines import Engine, Job

ROOT = Path(__file__).resolve().parent.parent
TASKS = {
    "mapping": ("mapping",),
    "convert": ("convert",),
    "preview": ("first rows", "index", "page 10,000", "25 by chance"),
    "profile": ("profile",),
    "search": ("search",),
}
# Seconds after which an engine is not run again, and after which it is given up.
PATIENCE, LIMIT = 60.0, 900.0
# The tasks whose work is a file.
WRITING = ("mapping", "convert")


@dataclass(slots=True)
class Row:
    """What an engine did in all its rounds; `said` is what came of it: "same", "DIFFERS …", "not run: …"."""

    task: str
    name: str
    said: str = ""
    runs: list[dict[str, float]] = field(default_factory=list)

    def of(self, name: str) -> float:
        """Return the median of a figure."""
        return median(run[name] for run in self.runs)


def run_one(engine: Engine, job: Job) -> dict[str, Any]:
    """Run an engine in this process; return its figures and its answer."""
    modules = [import_module(name) for name in engine.needs]
    if job.kind in engines.TABLES and any(name.startswith("lib") for name in engine.needs):
        import_module("pyarrow.parquet")  # ours imports it when it meets such a file; pandas' is imported too
    cpu, start = _cpu_seconds(), time.perf_counter()
    answer = engine.run(job, *modules)
    seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
    return {"seconds": seconds, "cpu": cpu, "peak": _peak(), "answer": answer}


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak() -> float:
    """Return this process's most memory in bytes.

    Not `ru_maxrss`, which on Linux starts at what the process that started this one had.
    """
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


@dataclass(frozen=True, slots=True)
class Bench:
    """What is the same for all runs."""

    rounds: int
    pythons: dict[str, dict[str, str]]  # interpreter -> package -> version
    chosen: tuple[str, ...]

    def engines(self, tasks: Sequence[str], kind: str) -> list[Engine]:
        """Return the engines of some tasks, and the script where one is measured against it."""
        wanted = {one for task in tasks for one in TASKS[task]}
        return [
            engine
            for engine in engines.ENGINES
            if kind in engine.kinds
            and (engine.task in wanted or (engine.name == "script" and "convert" in wanted))
            and (not self.chosen or engine.name.startswith(self.chosen))
        ]

    def measure(self, tasks: Sequence[str], job: Job, facts: data.Facts) -> list[Row]:
        """Run engines in turns; return a row for each."""
        rows = [(engine, Row(engine.task, engine.name)) for engine in self.engines(tasks, job.kind)]
        answers: dict[str, Any] = {}
        for number in range(self.rounds):
            for engine, row in rows:
                if (row.said and row.said != "same") or (row.runs and row.of("seconds") > PATIENCE):
                    continue
                row.said = self._refused(engine, job)
                if not row.said:
                    note(f"{job.source.name}: {engine.task}, {engine.name}, round {number + 1}")
                    self._round(engine, row, job, facts, answers)
        return [row for _, row in rows]

    def _refused(self, engine: Engine, job: Job) -> str:
        if not self.interpreter(engine):
            return "not installed"
        free = import_module("psutil").virtual_memory().available
        needed = engine.memory.get(job.kind, 0) * job.source.stat().st_size
        if needed > free * 0.8:
            return f"not run: needs about {needed / 1e9:.0f} GB of memory, {free / 1e9:.0f} are free"
        return ""

    def interpreter(self, engine: Engine) -> str:
        """Return the first interpreter that has what an engine needs, or "".

        lib's own dependencies are in the first one.
        """
        needed = {name.partition(".")[0] for name in engine.needs}
        for place, (python, versions) in enumerate(self.pythons.items()):
            if needed - {"lib"} <= set(versions) and not (place and "lib" in needed):
                return python
        return ""

    def _round(self, engine: Engine, row: Row, job: Job, facts: data.Facts, answers: dict[str, Any]) -> None:
        if engine.task == "index":
            shutil.rmtree(job.keep, ignore_errors=True)
        elif engine.after and not any(job.keep.glob("*")):
            self._start(self._index(job), job)
        job.keep.mkdir(parents=True, exist_ok=True)
        ran = self._start(engine, job)
        row.said = str(ran.pop("said", ""))
        if not row.said:
            answer = ran.pop("answer")
            if engine.task in WRITING and not isinstance(answer, int):
                row.said = _written(ran, answer, job, facts, row)
            else:
                row.said = _judged(engine.task, answer, facts, answers)
            row.runs.append(ran)
        shutil.rmtree(job.out)

    def _index(self, job: Job) -> Engine:
        return next(one for one in engines.ENGINES if one.task == "index" and job.kind in one.kinds)

    def _start(self, engine: Engine, job: Job) -> dict[str, Any]:
        """Run an engine in a process of its own; return its figures, or what it `said` instead."""
        shutil.rmtree(job.out, ignore_errors=True)
        job.out.mkdir(parents=True)
        _warm(job.source)
        told, errors = job.out.with_suffix(".told"), job.out.with_suffix(".errors")
        told.unlink(missing_ok=True)
        asked = json.dumps(asdict(job) | {"task": engine.task, "engine": engine.name}, default=str)
        command = [
            self.interpreter(engine),
            str(ROOT / "bench" / "records.py"),
            "--run",
            asked,
            "--told",
            str(told),
        ]
        quiet = {
            "HF_HOME": str(job.out / "hf"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        }
        with errors.open("wb") as file:
            process = subprocess.Popen(
                command, cwd=job.out, env=os.environ | quiet, stdout=file, stderr=file, start_new_session=True
            )
            sampler = _Sampler(process.pid) if engine.processes > 1 else None
            try:
                process.wait(LIMIT)
            except subprocess.TimeoutExpired:
                return {"said": f"given up after {LIMIT:.0f} s"}
            finally:
                if sampler:
                    sampler.end()
                _kill(process)
        if process.returncode or not told.exists():
            lines = errors.read_text(errors="replace").strip().splitlines()
            return {"said": f"failed ({process.returncode}): {lines[-1][:150] if lines else ''}"}
        ran: dict[str, Any] = json.loads(told.read_text())
        if sampler:
            ran["peak"], ran["shared_counted_once"] = max(ran["peak"], sampler.rss), sampler.pss
        return ran


class _Sampler:
    """Watches the memory of a process and its children, 20 times a second."""

    def __init__(self, pid: int) -> None:
        self.rss = self.pss = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=(pid,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop watching."""
        self._over.set()
        self._thread.join()

    def _watch(self, pid: int) -> None:
        psutil = import_module("psutil")
        family: list[Any] = []
        ticks = 0
        while not self._over.wait(0.05):
            try:
                if ticks % 4 == 0:  # who is there takes longer to find out than what they hold
                    root = psutil.Process(pid)
                    family = [root, *root.children(recursive=True)]
                    self.pss = max(self.pss, sum(_memory(one, full=True) for one in family))
                self.rss = max(self.rss, sum(_memory(one) for one in family))
            except psutil.Error:
                pass
            ticks += 1


def _memory(process: Any, *, full: bool = False) -> float:
    """Return the memory a process holds now; with `full`, its share of what it holds with others."""
    psutil = import_module("psutil")
    try:
        if full:
            held = process.memory_full_info()
            return float(getattr(held, "pss", held.rss))
        return float(process.memory_info().rss)
    except (psutil.Error, OSError):
        return 0.0


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def _warm(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 22):
            pass


def _written(ran: dict[str, Any], answer: Any, job: Job, facts: data.Facts, row: Row) -> str:
    """Read back what was written; in later rounds, see that it is as much."""
    copy = job.out / "copy"
    if copy.exists():
        return "same" if copy.stat().st_size == job.source.stat().st_size else "DIFFERS"
    made = [job.out / name for name in answer] if answer else [job.result]
    ran["written"] = sum(path.stat().st_size for path in made)
    if row.runs:
        return "same" if row.runs[0]["written"] == ran["written"] else "DIFFERS from the first round"
    try:
        found = data.digest_of(made)
    except (ValueError, KeyError) as error:
        return f"DIFFERS: {error}"
    same = (found.pairs, str(found)) == (facts.pairs, facts.digest)
    return "same" if same else f"DIFFERS: {found.pairs} rows, not {facts.pairs}"


def _judged(task: str, answer: Any, facts: data.Facts, answers: dict[str, Any]) -> str:
    """Compare an answer with the truth, or where that is not known with the first engine's."""
    if task == "profile":
        right = {"rows": facts.rows, "duplicates": facts.duplicates}
        wrong = {name: count for name, count in answer.items() if count not in (None, right[name])}
        return f"DIFFERS: {wrong}, not {right}" if wrong else "same"
    truth = {
        "mapping": facts.rows,
        "search": facts.hits,
        "25 by chance": min(engines.SAMPLE, facts.rows),
        "index": None,
    }
    expected = truth[task] if task in truth else answers.setdefault(task, answer)
    return "same" if answer == expected else f"DIFFERS: {answer}, not {expected}"


def note(text: str) -> None:
    """Say on stderr what is going on."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
