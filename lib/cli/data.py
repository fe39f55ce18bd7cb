"""Get a dataset: from the Hugging Face Hub, a mirror of it, or ModelScope."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from lib import hub
from lib.cli.parts import Json, bar, rows_told, say, tell
from lib.errors import HubError, UsageError


def download(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ID_OR_URL",
            help="owner/name, the address of a page, of Hugging Face, a mirror or ModelScope.",
        ),
    ],
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="Whom to ask, whom to go on with; may be repeated. Else $HF_ENDPOINT, or what works best."
        ),
    ] = None,
    revision: Annotated[
        str, typer.Option(help="Branch, tag or commit; else the one in the URL, or main.")
    ] = "",
    include: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Only these; may be repeated.")
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Not these; may be repeated.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write; else one named as the dataset.")
    ] = None,
    token_anywhere: Annotated[
        bool, typer.Option(help="Send the token to these endpoints too, not to huggingface.co alone.")
    ] = False,
    doctor: Annotated[bool, typer.Option("--doctor", help="Only say what each endpoint does.")] = False,
    files: Annotated[bool, typer.Option("--files", help="Only list the files.")] = False,
    look: Annotated[bool, typer.Option("--look", help="Only show the first rows of the first one.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch a dataset from the Hugging Face Hub or ModelScope; goes on where an earlier download broke off.

    The token is the one in HF_TOKEN, or that of hf auth login.
    """
    ref = hub.parse(source)
    if revision:
        ref = replace(ref, revision=revision)
    way: dict[str, Any] = {"token": hub.token_from_environment(), "anywhere": token_anywhere}
    target = to or Path(ref.repo.rpartition("/")[2])
    known = hub.finished(target, ref)
    named = endpoint or [*filter(None, [os.environ.get("HF_ENDPOINT") if ref.site == "hub" else ""])]
    order = named or ([known.endpoint] if known else [])
    if doctor or not order:
        order = _examined(ref, named, way, as_json=as_json, only=doctor)
        if doctor:
            return
    listing = _listing(ref, order, known, way)
    chosen = hub.select(listing.files, include or (), exclude or ())
    if look:
        _look(listing, chosen, way, as_json=as_json)
        return
    answer = {
        "folder": str(target.resolve()),
        "site": ref.site,
        "repo": ref.repo,
        "commit": listing.commit,
        "license": listing.license,
        "files": [asdict(file) for file in chosen],
    }
    if files:
        lines = [f"{file.size:>14,}  {file.path}" for file in chosen]
        about = f"{ref.repo} on {say(f'site.{ref.site}')}, commit {listing.commit}"
        tell(as_json, answer, "\n".join([f"{about}, licence: {listing.license or 'not stated'}", *lines]))
        return
    with bar("Fetching", sum(file.size for file in chosen), quiet=as_json) as moved:
        said = 0.0

        def progress(now: hub.Progress) -> None:
            nonlocal said
            moved(now.done)
            for one in now.told:
                if one.at > said:
                    said = one.at
                    typer.echo(f"{one.at:8.1f} s  {one.what}: {one.file}: {one.key} {one.endpoint}", err=True)

        folder = hub.download(listing, chosen, target, others=order, progress=progress, **way)
    tell(as_json, answer, f"{len(chosen)} files in {folder}")


def _examined(
    ref: hub.Ref, endpoints: list[str], way: dict[str, Any], *, as_json: bool, only: bool
) -> list[str]:
    """Return the endpoints that work, the best first; with `only`, say what each of them does."""
    visits = hub.examine(ref, endpoints, **way)
    order = hub.ranked(visits)
    lines = []
    for visit in visits:
        key, facts = visit.told()
        lines.append(f"{visit.endpoint}: {say(f'doctor.verdict.{visit.verdict}')}. ")
        lines[-1] += say(key, **facts)
    if only:
        answer = [asdict(replace(visit, error=None)) | {"key": visit.told()[0]} for visit in visits]
        tell(as_json, {"order": order, "visits": answer}, "\n".join(lines))
    elif not order:
        raise next(visit.error for visit in visits if visit.error)
    elif not as_json:
        typer.echo("\n".join([*lines, f"Using {order[0]}."]), err=True)
    return order


def _listing(ref: hub.Ref, order: list[str], known: hub.Listing | None, way: dict[str, Any]) -> hub.Listing:
    """Return what the first of some endpoints that answers has."""
    for last, one in enumerate(order, 1 - len(order)):
        try:
            return hub.list_files(ref, one, known=known, **way)
        except HubError:
            if not last:
                raise
    raise AssertionError


def _look(listing: hub.Listing, files: list[hub.RemoteFile], way: dict[str, Any], *, as_json: bool) -> None:
    """Show the first rows of the first data file among some."""
    from lib.hub.look import look

    first = next((file for file in files if hub.is_data(file.path)), files[0] if files else None)
    if first is None:
        raise UsageError("dataset.nothing_chosen", repo=listing.ref.repo)
    seen = look(listing, first, **way)
    rows, lines = rows_told(seen.rows)
    answer = {
        "file": first.path,
        "size": seen.size,
        "fetched": seen.fetched,
        "whole": seen.whole,
        "head": rows,
    }
    tell(as_json, answer, "\n".join([f"{first.path}: {seen.fetched:,} of {seen.size:,} bytes", *lines]))
