"""Take a tuned model home: a folder that needs nothing of FirstTune.

    exports/ID/                 or a folder of the visitor's own
      export.json               which job it is of; it marks the folder as ours to write anew
      README.md                 the model card: data, settings, curve, what it is and is not
      adapter/                  what was trained, with its tokenizer and chat template; not of a model that
                                was trained whole: that lies in merged/, and there is nothing to merge
      base/                     the practice model, if that was tuned: nobody else has it
      load_adapter.py           answers with peft
      merged/                   one ordinary model: base and adapter added up (a job of the kind "merge")
      load_merged.py            answers with transformers alone
      Modelfile                 for Ollama

A path of this computer is in none of it. What a model folder here was called, is.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lib import convert, datasets, handover, jobs, judge, ollama, params, practice, talk, words
from lib.errors import UsageError
from lib.hub import ENDPOINTS
from lib.jobfolder import JobFolder
from lib.script import load
from lib.workspace import inside, read_json, room, told, write_json, writing

CURVE_ROWS = 12  # of the card's table
EXAMPLES = 3
NOT_SENT = ("export.json", "*.zip", ".*")  # of an export, to a Hub
DTYPES = ("", "float32", "float16", "bfloat16")  # of merged numbers; "": as the base model lies on the disk


def folder(job: jobs.Job) -> Path:
    """Return where a job's export lies in the workspace; it need not exist."""
    return inside(room("exports"), job.id)


def pack(job: jobs.Job, out: Path | None = None, *, lang: str = "en") -> Path:
    """Write all but the merged weights, and return the folder. Merged weights that are there stay.

    `out` must be new, empty or an earlier export. Raises `JobError` where there is no tuned model here or
    its folder lacks the weights, `UsageError` where `out` holds something else.
    """
    tuned = judge.tuned(job)
    out = out.absolute() if out else folder(job)
    _make_ours(out, job)
    asked, result = job.folder.asked(), job.folder.result() or {}
    system, model = str(asked.get("system", "")), asked.get("model") or {}
    trained = [result.get("step"), result.get("seconds")]
    known = read_json(out / "export.json") or {}
    base, whole = _base(model), tuned.name == "model"
    with told(out):
        if whole or known.get("trained") not in (None, trained):
            shutil.rmtree(out / "merged", ignore_errors=True)  # of an earlier state of the model
        shutil.rmtree(out / "adapter", ignore_errors=True)
        copy = shutil.copytree(tuned, out / ("merged" if whole else "adapter"))
        if model.get("kind") == "practice" and not whole:
            shutil.copytree(practice.folder(), out / "base", dirs_exist_ok=True)
    (copy / "README.md").unlink(missing_ok=True)  # peft's empty form of a card
    if not whole:
        config = read_json(copy / "adapter_config.json") or {}
        write_json(copy / "adapter_config.json", config | {"base_model_name_or_path": base})
        _write(out / "load_adapter.py", load.adapter("" if model.get("kind") == "path" else base, system))
    _write(out / "README.md", card(job, lang))
    _write(out / "load_merged.py", load.merged(system))
    _write(out / "Modelfile", modelfile(job).text)
    write_json(out / "export.json", {"job": job.id, "name": job.name, "trained": trained})
    return out


def merge(job: jobs.Job, out: Path, dtype: str = "") -> jobs.Job:
    """Start merging the adapter into the base model, into `out`, which `pack` made; return the job.

    `dtype` is "float32", "float16", "bfloat16", or "" for what the base model lies on the disk as. One that
    waits or runs already is returned as it is.
    """
    known = merging(job)
    if known and known.state in ("queued", "running"):
        return known
    asked = {"of": job.id, "folder": str(job.folder.path), "out": str(out / "merged"), "dtype": dtype}
    return jobs.submit("merge", job.name, asked)


def merging(job: jobs.Job) -> jobs.Job | None:
    """Return the newest job that merges a training job's adapter, however it stands, or None."""
    return next(iter(jobs.belonging(job, "merge")), None)


def upload(
    job: jobs.Job,
    out: Path,
    repo: str,
    endpoint: str = ENDPOINTS[0],
    *,
    token: str | None,
    anywhere: bool = False,
    private: bool = True,
) -> jobs.Job:
    """Start uploading what `pack` and `merge` wrote to `out` into a repository; return the job.

    The token is handed to the job's process and written nowhere. An upload that waits or runs already is
    returned as it is. Raises `HubError` as `lib.hub.upload.check` does.
    """
    from lib.hub.upload import check

    ref, endpoint, sent = check(repo, endpoint, token, anywhere=anywhere)
    known = uploading(job)
    if known and known.state in ("queued", "running"):
        return known
    asked: dict[str, Any] = {"of": job.id, "out": str(out), "repo": ref.repo}
    asked |= {"endpoint": endpoint, "anywhere": anywhere, "private": private, "leave_out": list(NOT_SENT)}
    return jobs.submit("upload", job.name, asked, before=partial(handover.offer, secret=sent))


def uploading(job: jobs.Job) -> jobs.Job | None:
    """Return the newest job that uploads a training job's model, however it stands, or None."""
    return next(iter(jobs.belonging(job, "upload")), None)


def packed(job: jobs.Job) -> Path | None:
    """Return the folder of a job's export in the workspace, if it is of the model as it is now."""
    result = job.folder.result() or {}
    known = read_json(folder(job) / "export.json") or {}
    return folder(job) if known.get("trained") == [result.get("step"), result.get("seconds")] else None


def zipped(out: Path) -> Path:
    """Return a zip of an export without its merged weights, which are as large as the base model."""
    path = out / "take_home.zip"
    with writing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for one in sorted(out.rglob("*")):
            inner = one.relative_to(out)
            if one.is_file() and inner.parts[0] not in ("merged", path.name) and one.suffix != ".part":
                archive.write(one, inner.as_posix())
    return path


def modelfile(job: jobs.Job) -> ollama.Modelfile:
    """Return the Modelfile of a job's merged weights."""
    base = (job.folder.result() or {}).get("base")
    config = read_json(Path(str(base)) / "config.json") or {}
    named = [*(config.get("architectures") or []), ""]
    asked = job.folder.asked()
    tuned = talk.tuned(job.folder) or job.folder.path
    return ollama.modelfile(tuned, str(named[0]), str(asked.get("system", "")))


def card(job: jobs.Job, lang: str = "en") -> str:
    """Return the model card: what was trained on what, how it went, what it is and what it is not."""

    def say(key: str, **facts: Any) -> str:
        return words.say(lang, f"card.{key}", **facts)

    asked, result = job.folder.asked(), job.folder.result() or {}
    model, sources = asked.get("model") or {}, _sources(job.folder)
    practised = model.get("kind") == "practice"
    lines = [
        *_front_matter(model, sources, whole=bool(result.get("model"))),
        f"# {' '.join(job.name.split())}",
        "",
        say("made"),
        "",
    ]
    kind = "is_whole" if result.get("model") else "is"
    named = say("practised") if practised else _base(model)
    lines += [f"## {say('is_title')}", "", say(kind, base=named, rows=result.get("rows", 0)), ""]
    lines += [say("practice"), ""] if practised else []
    lines += [say("is_not"), ""]
    if asked.get("system"):
        lines += [say("system"), "", *_fenced(str(asked["system"])), ""]
    lines += [f"## {say('data_title')}", ""]
    for source in sources:
        licence = source["license"] or say("no_licence")
        where = source["repo"] or source["name"]
        lines.append(f"- {say('data', where=where, licence=licence, size=source['bytes'])}")
    counts = (convert.manifest(job.folder.path / "data") or {}).get("counts") or {}
    if counts:
        lines += ["", say("rows", **{name: counts.get(name, 0) for name in ("train", "validation")})]
    lines += ["", say("licence"), "", f"## {say('settings_title')}", ""]
    lines += [f"| {say('setting')} | {say('value')} |", "|---|---|"]
    lines += [f"| {name} | {params.PARAMS[name].show(value)} |" for name, value in params.read(asked).items()]
    if "device" in result:
        precision = "bf16" if result.get("bf16") else "fp32"
        facts = {"device": result["device"], "processes": result.get("processes", 1)}
        lines += ["", say("computed", precision=precision, **facts)]
    lines += ["", f"## {say('curve_title')}", "", *_curve(job.folder, say), *_scores(job.folder, say)]
    lines += [f"## {say('load_title')}", "", say("load"), ""]
    versions = ", ".join(f"{name} {number}" for name, number in (result.get("versions") or {}).items())
    return "\n".join([*lines, say("versions", versions=versions or "-"), ""])


def _make_ours(out: Path, job: jobs.Job) -> None:
    """Make the folder of an export. One that holds anything but an export of ours is left alone."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        known = read_json(out / "export.json")
        if not isinstance(known, dict) or known.get("job") != job.id:
            raise UsageError("takehome.not_empty", folder=str(out))
    with told(out):
        out.mkdir(parents=True, exist_ok=True)
    if not (out / "export.json").exists():
        write_json(out / "export.json", {"job": job.id})


def _base(model: dict[str, str]) -> str:
    """Return what the base model is called outside this computer."""
    if model.get("kind") == "practice":
        return "base"
    return Path(str(model.get("id"))).name if model.get("kind") == "path" else str(model.get("id"))


def _sources(job: JobFolder) -> list[dict[str, Any]]:
    """Return the files a job's data came from, each with its dataset's name and licence as far as known."""
    found = []
    known = [(one, _homes(one)) for one in datasets.listing()]
    for source in (convert.manifest(job.path / "data") or {}).get("sources") or []:
        path = Path(str(source.get("path", "")))
        of = next((one for one, homes in known if any(path.is_relative_to(home) for home in homes)), None)
        found.append(
            {
                "name": str(source.get("file", path.name)),
                "bytes": int(source.get("bytes", 0)),
                "repo": of.repo or (of.name if of.source == "sample" else "") if of else "",
                "hub": bool(of and of.source == "hub"),
                "license": of.license if of else "",
            }
        )
    return found


def _homes(dataset: datasets.Dataset) -> list[Path]:
    if dataset.source == "sample":
        return [datasets.SAMPLE]
    if dataset.source == "path":
        return [Path(name) for name in dataset.files]
    return [datasets.folder(dataset.id) / "files"]


def _front_matter(model: dict[str, str], sources: list[dict[str, Any]], *, whole: bool) -> list[str]:
    """Return what the Hub reads at the top of a card. A licence is not stated: that is its owner's to say."""
    lines = ["---", f"library_name: {'transformers' if whole else 'peft'}", "pipeline_tag: text-generation"]
    if model.get("kind") == "hub":
        lines.append(f"base_model: {model['id']}")
    repos = sorted({source["repo"] for source in sources if source["hub"]})
    if repos:
        lines += ["datasets:", *(f"- {repo}" for repo in repos)]
    return [*lines, "tags:", *([] if whole else ["- lora"]), "- firsttune", "---", ""]


def _curve(job: JobFolder, say: Any) -> list[str]:
    """Return the losses as a table: the evaluations, thinned, each with the training loss before it."""
    rows, loss, step = [], None, 0
    for row in job.metrics():
        loss = row.get("loss", loss)
        step = row.get("step", step)
        if row.get("eval_loss") is not None:
            rows.append((step, row.get("epoch"), loss, row["eval_loss"]))
        elif loss is not None and not (job.result() or {}).get("rows_validation"):
            rows.append((step, row.get("epoch"), loss, None))
    if not rows:
        return [say("no_curve"), ""]
    every = max(1, -(-len(rows) // CURVE_ROWS))
    shown = [*rows[:-1:every], rows[-1]]
    lines = [f"| {say('step')} | {say('epoch')} | {say('loss')} | {say('eval_loss')} |", "|---|---|---|---|"]
    for at, epoch, learned, held in shown:
        numbers = [f"{number:.3f}" if isinstance(number, float) else "-" for number in (learned, held)]
        lines.append(f"| {at} | {epoch:.2f} | {' | '.join(numbers)} |")
    return [*lines, "", say("curve"), ""]


def _scores(job: JobFolder, say: Any) -> list[str]:
    found = judge.scores(job)
    if found is None:
        return []
    lines = [f"## {say('scores_title')}", "", say("scores", n=found.rows), ""]
    lines += [f"| | {say('eval_loss')} | {say('exact')} | chrF | ROUGE-L |", "|---|---|---|---|---|"]
    for name, score in ((say("before"), found.base), (say("after"), found.tuned)):
        loss = "-" if score.loss is None else f"{score.loss:.3f}"
        lines.append(f"| {name} | {loss} | {score.exact:.1%} | {score.chrf:.1f} | {score.rouge_l:.1f} |")
    lines.append("")
    for title, examples in (("best", found.best), ("worst", found.worst)):
        for one in examples[:EXAMPLES]:
            lines += [f"**{say(title)}** (chrF {one.chrf_tuned:.0f})", "", *_fenced(one.question)]
            lines += [*_fenced(one.tuned), f"{say('reference')}:", *_fenced(one.reference), ""]
    return lines


def _fenced(text: str) -> list[str]:
    """Return text as a block that Markdown shows as it is."""
    longest = max((len(run) for run in _ticks(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}text", text, fence]


def _ticks(text: str) -> Iterator[str]:
    run = ""
    for letter in text + " ":
        if letter == "`":
            run += letter
        elif run:
            yield run
            run = ""


def _write(path: Path, text: str) -> None:
    with writing(path) as file:
        file.write(text.encode())
