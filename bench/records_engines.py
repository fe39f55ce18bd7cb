"""What is measured: one small function an engine, each as its users would write it.

An engine gets a `Job` and the modules it needs, imported before the clock starts; it writes `Job.result` or
returns an answer that can be compared. Nothing here is slow on purpose, and choices that matter are said.

To add one: a function, and a row in ENGINES.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from random import Random
from tempfile import NamedTemporaryFile
from typing import IO, Any

from bench.records_data import COLUMNS, ENDINGS

JSON, TABLES, ALL = ("array", "jsonl"), ("parquet", "hub"), tuple(ENDINGS)
FIRST, SAMPLE = 50, 25
MAPPING = {"user": "Question", "assistant": "Response"}


@dataclass(frozen=True, slots=True)
class Job:
    """One run: the file, an empty folder to write to, and what is asked of it.

    `keep` is where our index lies from one run to the next; `start` the row that page 10,000 begins with.
    """

    kind: str
    source: Path
    out: Path
    keep: Path
    rows: int
    start: int
    needle: str

    @property
    def result(self) -> Path:
        """The file a mapping is written to."""
        return self.out / "chat.jsonl"


@dataclass(frozen=True, slots=True)
class Engine:
    """One way to do one task on some kinds of file.

    `memory`: peak memory per byte of the file, by kind, where it grows with the file (2026-11);
    `processes`: of how many processes the memory has to be summed; `after`: the task that must have run.
    """

    task: str
    name: str
    run: Callable[..., Any]
    needs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ALL
    memory: Mapping[str, float] = field(default_factory=dict)
    processes: int = 1
    after: str = ""


# --- Mapping: Question and Response to one line of messages ------------------------------------------------


def messages(question: str, answer: str) -> dict[str, Any]:
    """Return the line a row becomes."""
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def script(job: Job, *modules: Any) -> None:
    """Convert as the blog post does: everything in memory, the output opened again for every row."""
    for row in _SCRIPT_READS[job.kind](job.source, *modules):
        if row.get("Question") and row.get("Response"):
            line = json.dumps(messages(row["Question"], row["Response"]), ensure_ascii=False)
            with job.result.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


def script_open_once(job: Job, *modules: Any) -> None:
    """Convert as the blog post does but for one thing: the output is opened once."""
    with job.result.open("w", encoding="utf-8") as file:
        for row in _SCRIPT_READS[job.kind](job.source, *modules):
            if row.get("Question") and row.get("Response"):
                line = json.dumps(messages(row["Question"], row["Response"]), ensure_ascii=False)
                file.write(line + "\n")


def _script_array(path: Path) -> Any:
    with path.open(encoding="utf-8") as file:
        return json.load(file)


def _script_lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _script_csv(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _script_table(path: Path, pd: Any, _parquet: Any) -> Any:
    # without dropna, null comes as NaN, which counts as true and is written as no JSON
    return pd.read_parquet(path, columns=["Question", "Response"]).dropna().to_dict("records")


_SCRIPT_READS: dict[str, Callable[..., Any]] = {
    "array": _script_array,
    "jsonl": _script_lines,
    "csv": _script_csv,
    "parquet": _script_table,
    "hub": _script_table,
}


def pandas_map(job: Job, pd: Any, *_: Any) -> None:
    """JSON arrays and Parquet come whole, lines and CSV in chunks: whole they take ten times their size."""
    with job.result.open("w", encoding="utf-8") as file:
        for frame in _PANDAS_READS[job.kind](pd, job.source):
            good = frame.dropna(subset=["Question", "Response"])
            made = [messages(*pair)["messages"] for pair in zip(good.Question, good.Response, strict=True)]
            lines = pd.DataFrame({"messages": made}).to_json(orient="records", lines=True, force_ascii=False)
            file.write(lines)


_PANDAS_READS: dict[str, Callable[[Any, Path], Iterable[Any]]] = {
    "array": lambda pd, path: [pd.read_json(path)],
    "jsonl": lambda pd, path: pd.read_json(path, lines=True, chunksize=20_000),
    "csv": lambda pd, path: pd.read_csv(path, dtype=str, chunksize=20_000),  # dtype: text stays text
    "parquet": lambda pd, path: [pd.read_parquet(path, columns=["Question", "Response"])],
    "hub": lambda pd, path: [pd.read_parquet(path, columns=["Question", "Response"])],
}


def datasets_map(job: Job, datasets: Any) -> None:
    """Load, filter, map and write as the course does; its caches go to the run's own folder."""
    builder = {"array": "json", "jsonl": "json", "csv": "csv"}.get(job.kind, "parquet")
    cache = str(job.out / "cache")
    rows = datasets.load_dataset(builder, data_files=str(job.source), split="train", cache_dir=cache)
    rows = rows.filter(lambda row: bool(row["Question"] and row["Response"]))
    rows = rows.map(lambda row: messages(row["Question"], row["Response"]), remove_columns=rows.column_names)
    rows.to_json(str(job.result), force_ascii=False)


def duckdb_map(*settings: str) -> Callable[[Job, Any], None]:
    """Return COPY … TO with these settings."""

    def run(job: Job, duckdb: Any) -> None:
        base = _duckdb(duckdb, *settings)
        base.execute(
            f"""COPY (
                SELECT [{{'role': 'user', 'content': Question}}, {{'role': 'assistant', 'content': Response}}]
                    AS messages
                FROM {_duckdb_table(job, "Question", "Response")}
                WHERE Question <> '' AND Response <> ''
            ) TO '{job.result}' (FORMAT json)"""
        )

    return run


def _duckdb(duckdb: Any, *settings: str) -> Any:
    base = duckdb.connect()
    for setting in ("autoinstall_known_extensions=false", *settings):
        base.execute(f"SET {setting}")
    return base


def _duckdb_table(job: Job, *columns: str) -> str:
    """Return the file as a table.

    Columns are given, and only those asked for: found by DuckDB itself, dates and numbers in text change,
    fields first seen after 20,480 rows are dropped, and it is slower.
    """
    if job.kind in TABLES:
        return f"read_parquet('{job.source}')"
    if job.kind == "csv":
        return f"""read_csv('{job.source}', header=true, all_varchar=true, quote='"', escape='"')"""
    types = {"tags": "JSON", "meta": "JSON", "score": "DOUBLE"}
    named = ", ".join(f"{name}: '{types.get(name, 'VARCHAR')}'" for name in columns)
    form = "array" if job.kind == "array" else "newline_delimited"
    return f"read_json('{job.source}', format='{form}', columns={{{named}}})"


def polars_map(job: Job, pl: Any) -> None:
    """Lazy and streamed wherever polars can: it reads a JSON array only whole."""
    turns = [pl.struct(role=pl.lit(role), content=pl.col(column)) for role, column in MAPPING.items()]
    good = _polars(job, pl, "Question", "Response").filter(pl.col("Question") != "", pl.col("Response") != "")
    good.select(messages=pl.concat_list(turns)).sink_ndjson(job.result)


def _polars(job: Job, pl: Any, *columns: str) -> Any:
    """Return the file as a lazy frame; columns are given for the reasons they are given to DuckDB."""
    types = {"tags": pl.List(pl.String), "score": pl.Float64}
    schema = {name: types.get(name, pl.String) for name in columns}
    if job.kind == "array":
        return pl.read_json(job.source, schema=schema).lazy()
    if job.kind == "jsonl":
        return pl.scan_ndjson(job.source, schema=schema)
    if job.kind == "csv":
        return pl.scan_csv(job.source, infer_schema=False)
    return pl.scan_parquet(job.source)


def bare_array(job: Job, orjson: Any) -> int:
    """Parse the whole file, write nothing."""
    return len(orjson.loads(job.source.read_bytes()))


def bare_lines(job: Job, orjson: Any) -> int:
    """Parse line after line, write nothing."""
    loads, rows = orjson.loads, 0
    with job.source.open("rb") as file:
        for line in file:
            loads(line)
            rows += 1
    return rows


def ours_map(job: Job, records: Any, *_: Any) -> None:
    """Read, map and write with lib's own functions, one process, no checks."""
    with job.result.open("wb", buffering=1 << 20) as file:
        _write_mapped(file, records.read(job.source))


def ours_map_spread(job: Job, records: Any, *_: Any) -> None:
    """Do the same in two processes; each writes its stretches to files, which are joined in order."""
    with job.result.open("wb") as whole:
        for _base, part in records.spread(job.source, partial(_map_stretch, job.out), processes=2):
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, 1 << 18)
            part.unlink()


def _map_stretch(folder: Path, pieces: Iterator[Any]) -> Path:
    with NamedTemporaryFile(dir=folder, delete=False, buffering=1 << 18) as file:
        _write_mapped(file, pieces)
    return Path(file.name)


def _write_mapped(file: IO[bytes], pieces: Iterable[Any]) -> None:
    from lib import errors, formats, records, sift

    converted, line_of = formats.compiled(formats.Mapping("qa", MAPPING)), sift.line_of
    write, broken = file.write, records.Broken
    for piece in pieces:
        if type(piece) is broken:
            continue
        try:
            conversation = converted(piece.value)
        except errors.ConvertError:
            continue
        line = line_of(conversation)
        if line is not None:
            write(line)


# --- The whole conversion: every check, the split, the ledger ----------------------------------------------


def ours_convert(processes: int) -> Callable[..., list[str]]:
    """Return the conversion the app does, in so many processes; it ends with an fsync of all it wrote."""

    def run(job: Job, convert: Any, formats: Any) -> list[str]:
        mapping = formats.Mapping("qa", MAPPING)
        request = convert.Request((job.source,), job.out, mapping, processes=processes)
        ledger = convert.convert(request)
        if ledger.read != job.rows or ledger.read != ledger.train + ledger.validation + ledger.set_aside:
            raise ValueError(f"the ledger does not add up: {ledger}")
        return ["train.jsonl", "validation.jsonl"]

    return run


def copied(job: Job) -> None:
    """Copy the file, as `cp` does."""
    shutil.copyfile(job.source, job.out / "copy")


def copied_to_disk(job: Job) -> None:
    """Copy the file and wait until it is on the disk, as a conversion does."""
    shutil.copyfile(job.source, job.out / "copy")
    with (job.out / "copy").open("rb+") as file:
        os.fsync(file.fileno())


# --- Preview ------------------------------------------------------------------------------------------------


def _named(questions: Iterable[Any]) -> str:
    """Return a digest of some rows' questions, in order; a table's null is a text table's empty text."""
    return blake2b("\0".join(one or "" for one in questions).encode(), digest_size=8).hexdigest()


def _questions(pieces: Iterable[Any]) -> str:
    return _named(piece.value.get("Question") for piece in pieces)


def ours_first(job: Job, records: Any) -> str:
    """Show the first rows without an index."""
    return _questions(records.head(job.source, FIRST))


def ours_index(processes: int) -> Callable[[Job, Any], None]:
    """Return the index built and kept, in so many processes."""
    return lambda job, records: records.prepare(job.source, job.keep, processes=processes)


def ours_page(job: Job, records: Any) -> str:
    """Show a page by the index that lies in `keep`."""
    return _questions(records.page(job.source, job.start, FIRST, job.keep).rows)


def ours_sample(job: Job, records: Any) -> int:
    """Show rows drawn by chance, by the index."""
    return len(records.sample(job.source, SAMPLE, 1, job.keep))


def duckdb_first(job: Job, duckdb: Any) -> str:
    """SELECT * … LIMIT."""
    return _duckdb_rows(job, duckdb, f"LIMIT {FIRST}")


def duckdb_page(job: Job, duckdb: Any) -> str:
    """SELECT * … LIMIT … OFFSET."""
    return _duckdb_rows(job, duckdb, f"LIMIT {FIRST} OFFSET {job.start}")


def _duckdb_rows(job: Job, duckdb: Any, limit: str) -> str:
    query = f"SELECT * FROM {_duckdb_table(job, *COLUMNS)} {limit}"
    return _named(row[0] for row in _duckdb(duckdb).execute(query).fetchall())


def duckdb_sample(job: Job, duckdb: Any) -> int:
    """SELECT * … USING SAMPLE."""
    query = (
        f"SELECT * FROM {_duckdb_table(job, *COLUMNS)} USING SAMPLE reservoir({SAMPLE} ROWS) REPEATABLE (1)"
    )
    return len(_duckdb(duckdb).execute(query).fetchall())


def polars_first(job: Job, pl: Any) -> str:
    """Take head()."""
    return _named(_polars(job, pl, *_POLARS_COLUMNS).head(FIRST).collect()["Question"])


def polars_page(job: Job, pl: Any) -> str:
    """Take slice()."""
    return _named(_polars(job, pl, *_POLARS_COLUMNS).slice(job.start, FIRST).collect()["Question"])


def polars_sample(job: Job, pl: Any) -> int:
    """Keep the rows whose numbers were drawn: a lazy frame cannot sample."""
    drawn = Random(1).sample(range(job.rows), SAMPLE)
    rows = _polars(job, pl, *_POLARS_COLUMNS).with_row_index().filter(pl.col("index").is_in(drawn))
    return int(rows.collect().height)


# `meta` is another thing in every row, for which polars has no type but text.
_POLARS_COLUMNS = tuple(name for name in COLUMNS if name != "meta")


# --- Profile and duplicates ---------------------------------------------------------------------------------


def ours_profile(processes: int) -> Callable[[Job, Any], dict[str, Any]]:
    """Return the profile of all columns, duplicates and languages among it, in so many processes."""

    def run(job: Job, profile: Any) -> dict[str, Any]:
        found = profile.profile(job.source, processes=processes)
        return {"rows": found.rows, "duplicates": found.repeats}

    return run


def duckdb_profile(*columns: str) -> Callable[[Job, Any], dict[str, Any]]:
    """Return some columns' nulls and lengths: least, mean, most, quantiles (approximate: faster)."""

    def run(job: Job, duckdb: Any) -> dict[str, Any]:
        parts = ["count(*)"]
        for name in columns:
            length = f"length(CAST({name} AS VARCHAR))"
            parts += [f"count(*) - count({name})", f"min({length})", f"avg({length})", f"max({length})"]
            parts += [f"approx_quantile({length}, [0.05, 0.5, 0.95])"]
        query = f"SELECT {', '.join(parts)} FROM {_duckdb_table(job, *columns)}"
        return {"rows": _duckdb(duckdb).execute(query).fetchone()[0]}

    return run


def duckdb_duplicates(job: Job, duckdb: Any) -> dict[str, Any]:
    """Count the rows that came before, by 64 bits of a hash as ours does."""
    hashed = f"hash({', '.join(COLUMNS)})"
    query = f"SELECT count(*), count(*) - count(DISTINCT {hashed}) FROM {_duckdb_table(job, *COLUMNS)}"
    rows, duplicates = _duckdb(duckdb).execute(query).fetchone()
    return {"rows": rows, "duplicates": duplicates}


# --- Search -------------------------------------------------------------------------------------------------

_TEXTS = ("Question", "Complex_CoT", "Response")


def ours_search(job: Job, records: Any) -> int:
    """Find the rows that hold a text in any value or key."""
    return sum(1 for _ in records.search(job.source, job.needle, job.keep, most=10_000))


def duckdb_search(*settings: str) -> Callable[[Job, Any], int]:
    """Return SELECT … WHERE contains(…), in the three columns of text."""

    def run(job: Job, duckdb: Any) -> int:
        where = " OR ".join(f"contains({name}, ?)" for name in _TEXTS)
        query = f"SELECT {', '.join(_TEXTS)} FROM {_duckdb_table(job, *_TEXTS)} WHERE {where}"
        return len(_duckdb(duckdb, *settings).execute(query, [job.needle] * len(_TEXTS)).fetchall())

    return run


def polars_search(job: Job, pl: Any) -> int:
    """Filter by str.contains, in the three columns of text."""
    held = [pl.col(name).str.contains(job.needle, literal=True) for name in _TEXTS]
    rows = _polars(job, pl, *_TEXTS).filter(pl.any_horizontal(held)).select(*_TEXTS)
    return int(rows.collect(engine="streaming").height)


_OURS = ("lib.records", "lib.formats", "lib.sift")
_DUCK, _POLARS, _RECORDS = ("duckdb",), ("polars",), ("lib.records",)
_PANDAS = ("pandas", "pyarrow.parquet")
_WHOLE = {"array": 4}

ENGINES = (
    Engine("mapping", "script", script, kinds=("array", "jsonl", "csv"), memory={"array": 4.5}),
    Engine("mapping", "script", script, _PANDAS, TABLES, {"parquet": 6, "hub": 6}),
    Engine("mapping", "script, opened once", script_open_once, kinds=("array",), memory={"array": 4.5}),
    Engine("mapping", "pandas", pandas_map, _PANDAS, memory={"array": 11, "parquet": 18, "hub": 18}),
    Engine("mapping", "HF datasets", datasets_map, ("datasets",), memory={"array": 11}),
    Engine("mapping", "polars", polars_map, _POLARS, memory=_WHOLE),
    Engine("mapping", "DuckDB", duckdb_map(), _DUCK),
    Engine("mapping", "DuckDB, 1 thread", duckdb_map("threads=1"), _DUCK),
    Engine("mapping", "DuckDB, any order", duckdb_map("preserve_insertion_order=false"), _DUCK),
    Engine("mapping", "orjson, parsing only", bare_array, ("orjson",), ("array",), {"array": 3.5}),
    Engine("mapping", "orjson, parsing only", bare_lines, ("orjson",), ("jsonl",)),
    Engine("mapping", "ours", ours_map, _OURS),
    Engine("mapping", "ours, 2 processes", ours_map_spread, _OURS, processes=2),
    Engine("convert", "cp", copied),
    Engine("convert", "cp, on the disk", copied_to_disk),
    Engine("convert", "ours", ours_convert(1), ("lib.convert", "lib.formats")),
    Engine("convert", "ours, 2 processes", ours_convert(2), ("lib.convert", "lib.formats"), processes=2),
    Engine("first rows", "ours", ours_first, _RECORDS),
    Engine("first rows", "DuckDB", duckdb_first, _DUCK),
    Engine("first rows", "polars", polars_first, _POLARS, memory=_WHOLE),
    Engine("index", "ours", ours_index(1), _RECORDS),
    Engine("index", "ours, 2 processes", ours_index(2), _RECORDS, processes=2),
    Engine("page 10,000", "ours", ours_page, _RECORDS, after="index"),
    Engine("page 10,000", "DuckDB", duckdb_page, _DUCK),
    Engine("page 10,000", "polars", polars_page, _POLARS, memory=_WHOLE),
    Engine("25 by chance", "ours", ours_sample, _RECORDS, after="index"),
    Engine("25 by chance", "DuckDB", duckdb_sample, _DUCK),
    Engine("25 by chance", "polars", polars_sample, _POLARS, memory=_WHOLE),
    Engine("profile", "ours", ours_profile(1), ("lib.profile",)),
    Engine("profile", "ours, 2 processes", ours_profile(2), ("lib.profile",), processes=2),
    Engine("profile", "DuckDB", duckdb_profile(*COLUMNS), _DUCK),
    Engine("profile", "DuckDB, 3 columns of text", duckdb_profile(*_TEXTS), _DUCK),
    Engine("profile", "DuckDB, duplicates only", duckdb_duplicates, _DUCK),
    Engine("search", "ours", ours_search, _RECORDS, after="index"),
    Engine("search", "DuckDB", duckdb_search(), _DUCK),
    Engine("search", "DuckDB, 1 thread", duckdb_search("threads=1"), _DUCK),
    Engine("search", "polars", polars_search, _POLARS, memory=_WHOLE),
)
