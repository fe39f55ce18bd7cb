"""Measure reading, conversion, preview, profile and search side by side with what people use today.

    python bench/records.py                                      200 MB and 2 GB, every kind of file: hours
    python bench/records.py --size 20MB --task mapping --only array,jsonl --rounds 1
    python bench/records.py --python /some/venv/bin/python       where duckdb and polars are installed
    python bench/records.py --json all.json --engines ours,script,DuckDB

Every run is a process of its own, with the file read into the page cache first; engines take turns, round by
round; the medians count. `s` is wall time after imports, until everything the engine made is freed; `CPU s`
user and system time of all its processes and threads in that time; `peak MB` the most memory of its process
since it was started (the kernel's VmHWM), or for several processes the most their sum came to, sampled: pages
that they share are in it several times, but once in what the promises are held to (the sum of PSS). What
an engine wrote is read back: the rows and a digest of all questions and answers must be those of the
generator. An engine over a minute gets one round only.

Runs where there is a `resource` module: Linux, macOS.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ in ("__main__", "__mp_main__"):
    # not bench/, where this file would hide any module called records
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from bench import records_data as data
from bench import records_engines as engines
from bench.records_engines import Job
from bench.records_runs import TASKS, Bench, note, run_one
from bench.records_targets import Table, judged

LEGEND = (
    "Medians; the file is in the page cache. `s`: wall time after imports; `CPU s`: user and system time of"
    " all processes; `peak MB`: the most memory, of all processes together. `÷ this`: how many times as long"
    " the other took. same: read back, every question and answer is the generator's, or the answer is right."
)
# Tasks measured turn by turn together; what has the script as its measure is in the script's rounds.
TOGETHER = (("mapping", "convert"), ("preview",), ("profile",), ("search",))
PACKAGES = ("orjson", "pandas", "pyarrow", "datasets", "duckdb", "polars")
# Page 10,000 of 50 rows, of the 903,165 rows that 2 GB once were; smaller files in proportion.
PAGE_AT = 500_000 / 903_165


def markdown(table: Table) -> Iterator[str]:
    """Yield the lines of a table and of its targets."""
    versus = "script" if table.task in ("mapping", "convert") else "DuckDB"
    yield f"### {table.task}: {table.kind}, {table.size / 1e6:,.0f} MB, {table.facts.rows:,} rows"
    yield ""
    yield f"| engine | s | CPU s | MB/s | peak MB | {versus} ÷ this | in CPU | rounds | result |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|---|"
    for row in table.rows:
        name = row.name if len(TASKS[table.task]) == 1 else f"{row.task}: {row.name}"
        if not row.runs:
            yield f"| {name} | | | | | | | | {row.said} |"
            continue
        base = table.row(versus, "mapping" if versus == "script" else row.task)
        seconds, cpu = row.of("seconds"), row.of("cpu")
        times = (
            f"{base.of('seconds') / seconds:.2f}× | {base.of('cpu') / max(cpu, 1e-6):.2f}×" if base else " | "
        )
        rate = "" if row.task in _FEW else f"{table.size / seconds / 1e6:,.0f}"
        yield (
            f"| {name} | {_short(seconds)} | {_short(cpu)} | {rate} | {row.of('peak') / 1e6:,.0f}"
            f" | {times} | {len(row.runs)} | {row.said} |"
        )
    yield ""
    yield from (f"- {one['target']}: **{one['said']}** {one['shown']}".rstrip() for one in judged(table))


# Tasks that need not read the whole file.
_FEW = ("first rows", "page 10,000", "25 by chance")


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _machine(pythons: dict[str, dict[str, str]]) -> list[str]:
    psutil = import_module("psutil")
    model = platform.processor() or platform.machine()
    names = Path("/proc/cpuinfo")
    if names.exists():
        lines = names.read_text().splitlines()
        model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), model)
    memory = psutil.virtual_memory()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    versions = {name: version for found in reversed(pythons.values()) for name, version in found.items()}
    return [
        f"{os.cpu_count()} cores ({model}), {memory.total / 2**30:.0f} GiB of memory,"
        f" {memory.available / 2**30:.0f} free; {platform.platform()}; load {load}",
        f"Python {platform.python_version()}, " + ", ".join(f"{name} {of}" for name, of in versions.items()),
    ]


def _versions(python: str) -> dict[str, str]:
    """Return the packages an interpreter has, with their versions."""
    ask = (
        "import json, sys\nfrom importlib import metadata\nfound = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try: found[name] = metadata.version(name)\n"
        "    except metadata.PackageNotFoundError: pass\n"
        "print(json.dumps(found))"
    )
    answer = subprocess.run([python, "-c", ask, *PACKAGES], capture_output=True, check=True, text=True)
    found: dict[str, str] = json.loads(answer.stdout)
    return found


def _bytes(text: str) -> int:
    """Return 2000000 for 2MB: decimal, as disks and downloads count."""
    units = {"KB": 1e3, "MB": 1e6, "GB": 1e9}
    unit = text[-2:].upper()
    return int(float(text[:-2]) * units[unit]) if unit in units else int(text)


def _list(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(filter(None, text.split(",")))
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]}: not one of {', '.join(known)}")
        return names

    return parse


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "bench/records.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", type=_bytes, action="append", help="of the array: 20MB, 2GB; may be repeated")
    add("--rounds", type=int, default=3)
    add("--only", type=_list(engines.ALL), default=engines.ALL, help=f"kinds: {','.join(engines.ALL)}")
    add("--task", type=_list(tuple(TASKS)), default=tuple(TASKS), help=f"tasks: {','.join(TASKS)}")
    add("--engines", default="", help="only those whose names begin so: ours,DuckDB")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()) / "firsttune-bench")
    add("--python", action="append", default=[], help="another interpreter, for engines not installed here")
    add("--seed", type=int, default=20240607)
    add("--json", type=Path, help="write every single figure to this file")
    add("--run", help=argparse.SUPPRESS)
    add("--told", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_asked(text: str, told: Path) -> None:
    asked = json.loads(text)
    task, name = asked.pop("task"), asked.pop("engine")
    job = Job(**asked | {key: Path(asked[key]) for key in ("source", "out", "keep")})
    engine = next(
        one for one in engines.ENGINES if (one.task, one.name) == (task, name) and job.kind in one.kinds
    )
    told.write_text(json.dumps(run_one(engine, job)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is asked for; print tables."""
    asked = _asked(arguments)
    if asked.run:
        _run_asked(asked.run, asked.told)
        return
    folder = asked.folder.resolve()
    pythons = {python: _versions(python) for python in (sys.executable, *asked.python)}
    bench = Bench(asked.rounds, pythons, tuple(filter(None, asked.engines.split(","))))
    machine = [f"`{' '.join(['python bench/records.py', *sys.argv[1:]])}`", *_machine(pythons)]
    print("\n\n".join([*machine, LEGEND]))
    raw: list[dict[str, Any]] = []
    for size in asked.size or (200_000_000, 2_000_000_000):
        note(f"{size / 1e6:,.0f} MB in {folder}")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # what it took is free again then
            paths, facts = pool.submit(data.make, folder, size, asked.seed, asked.only).result()
        for kind, path in paths.items():
            for table in _tables(bench, kind, path, facts, asked.task, folder / f"run-{os.getpid()}"):
                print("\n" + "\n".join(markdown(table)), flush=True)
                raw.append(asdict(table) | {"targets": judged(table)})
                if asked.json:
                    asked.json.write_text(json.dumps({"machine": machine, "tables": raw}, indent=1))


def _tables(
    bench: Bench, kind: str, path: Path, facts: data.Facts, tasks: Sequence[str], scratch: Path
) -> Iterator[Table]:
    """Yield a table for each task on a file, measured together where they are compared."""
    start = int(facts.rows * PAGE_AT) // engines.FIRST * engines.FIRST
    job = Job(kind, path, scratch / "out", scratch / "keep", facts.rows, start, data.NEEDLE)
    try:
        for block in TOGETHER:
            wanted = [task for task in block if task in tasks]
            rows = bench.measure(wanted, job, facts)
            for task in wanted:
                shown = [row for row in rows if row.task in TASKS[task] or row.name == "script"]
                yield Table(task, kind, path.stat().st_size, facts, shown)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    main()
