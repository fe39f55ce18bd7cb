"""Take a tuned model home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lib import hub, jobs, takehome, words
from lib.cli.parts import JobId, Json, done, tell
from lib.errors import UsageError


def export(
    job_id: JobId,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A new folder; else one in the workspace's exports.")
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Add base model and adapter up, too: one ordinary model.")
    ] = False,
    dtype: Annotated[
        str,
        typer.Option(help="Of the merged numbers: float32, float16, bfloat16; else as the base lies here."),
    ] = "",
    lang: Annotated[str, typer.Option(help="The language of the model card: en, zh.")] = "en",
    to_hub: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Upload it, too: to a private repository of yours.")
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="Let everyone see that repository.")] = False,
    endpoint: Annotated[str, typer.Option(help="Where it is uploaded to.")] = hub.ENDPOINTS[0],
    token_anywhere: Annotated[
        bool, typer.Option(help="Send the token to this endpoint, not to huggingface.co alone.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take a tuned model home: adapter, model card, Modelfile and the code to load it, in one folder."""
    if dtype not in takehome.DTYPES:
        raise UsageError("takehome.dtype", dtype=dtype, known=", ".join(filter(None, takehome.DTYPES)))
    job = jobs.get(job_id)
    folder = takehome.pack(job, out, lang=words.language_of(lang))
    if merged:
        done(takehome.merge(job, folder, dtype), as_json=as_json)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    answer, lines = {"job": job.id, "folder": str(folder), "files": files}, [str(folder), *files]
    if to_hub:
        token = hub.token_from_environment()
        way: dict[str, Any] = {"token": token, "anywhere": token_anywhere, "private": not public}
        sent = done(takehome.upload(job, folder, to_hub, endpoint, **way), as_json=as_json)
        page = (sent.folder.result() or {})["page"]
        answer, lines = answer | {"page": page}, [*lines, page]
    tell(as_json, answer, "\n".join(lines))
