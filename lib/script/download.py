"""The code that repeats a download: our own command line, the site's own client, and that client in Python.

None of them holds a token; `fetchcode.token` says where each finds it. Towards a mirror, the client is told
to send none, and to take the bytes from the mirror, not from the storage behind it (`HF_HUB_DISABLE_XET`).
Source: huggingface_hub 2.4.0 and modelscope_hub 0.5.1, both run on 2026-11-25.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lib.hub import SITES, Listing, RemoteFile, select
from lib.script.commands import line

NAMED = 8  # files that are named one by one; more are told by patterns, where some say the same


def download(listing: Listing, files: Sequence[RemoteFile], folder: Path, endpoint: str = "") -> str:
    """Return `python -m lib download …` for these files, from the listing's endpoint or another one."""
    ref, endpoint = listing.ref, endpoint or listing.endpoint
    words = ["python", "-m", "lib", "download"]
    prefix = "modelscope:" if ref.site == "modelscope" else ""
    words.append(prefix + ("models/" if ref.kind == "model" else "") + ref.repo)
    words += ["--revision", listing.commit, "--to", str(folder)]
    if endpoint != SITES[ref.site][0]:
        words += ["--endpoint", endpoint]
    return line([*words, *_options(patterns(listing, files))])


def hf_download(listing: Listing, files: Sequence[RemoteFile], folder: Path, endpoint: str = "") -> str:
    """Return the command of the site's own client, `hf download …` or `modelscope download …`."""
    ref, endpoint = listing.ref, endpoint or listing.endpoint
    chosen = patterns(listing, files)
    named = [file.path for file in files] if chosen and len(files) <= NAMED else []
    if any(name.startswith("-") for name in named):
        named = []
    if ref.site == "modelscope":
        words = ["modelscope", "download", f"--{ref.kind}", ref.repo, *named]
        words += ["--revision", listing.commit, "--local_dir", str(folder)]
        if endpoint != SITES[ref.site][0]:
            words += ["--endpoint", endpoint]
        return line([*words, *([] if named else _options(chosen))])
    # of several names, the client takes each for a pattern
    one = named if len(named) == 1 else []
    words = ["hf", "download", "--repo-type", ref.kind, ref.repo, *one]
    words += ["--revision", listing.commit, "--local-dir", str(folder)]
    settings = " ".join(f"{name}={value}" for name, value in _settings(endpoint).items())
    return f"{settings} {line([*words, *([] if one else _options(chosen))])}".strip()


def python_download(listing: Listing, files: Sequence[RemoteFile], folder: Path, endpoint: str = "") -> str:
    """Return the lines of Python that do the same with the site's own client."""
    ref, endpoint = listing.ref, endpoint or listing.endpoint
    arguments = {"revision": listing.commit, "local_dir": str(folder)}
    shown = {name: _quoted(value) for name, value in arguments.items()}
    if chosen := patterns(listing, files):
        shown["allow_patterns"] = f"[{', '.join(map(_quoted, chosen))}]"
    if ref.site == "modelscope":
        call = "dataset_snapshot_download" if ref.kind == "dataset" else "snapshot_download"
        head = f"from modelscope import {call}\n\n"
        shown = {f"{ref.kind}_id": _quoted(ref.repo), **shown}
        if endpoint != SITES[ref.site][0]:
            shown["endpoint"] = _quoted(endpoint)
    else:
        call = "snapshot_download"
        head = f"from huggingface_hub import {call}\n\n"
        shown = {"repo_id": _quoted(ref.repo), "repo_type": _quoted(ref.kind), **shown}
        if _settings(endpoint):
            head = f'import os\n\nos.environ["HF_HUB_DISABLE_XET"] = "1"\n\n{head}'
            shown |= {"endpoint": _quoted(endpoint), "token": "False"}
    inner = "".join(f"    {name}={code},\n" for name, code in shown.items())
    return f"{head}{call}(\n{inner})\n"


def patterns(listing: Listing, files: Sequence[RemoteFile]) -> list[str]:
    """Return patterns that choose exactly these files, as `hf download` reads them; none where it is all."""
    wanted = {file.path for file in files}
    if wanted >= {file.path for file in listing.files}:
        return []
    each = [glob.escape(path) for path in dict.fromkeys(file.path for file in files)]
    if len(each) <= NAMED:
        return each
    paths = [PurePosixPath(path) for path in wanted]
    folders = sorted({f"{glob.escape(path.parts[0])}/*" for path in paths if len(path.parts) > 1})
    endings = sorted({f"*{glob.escape(path.suffix)}" for path in paths})
    both = sorted({f"*{glob.escape(''.join(path.suffixes[-2:]))}" for path in paths})  # .jsonl.gz
    for some in (endings, both, folders):
        if len(some) <= NAMED and {file.path for file in select(listing.files, some)} == wanted:
            return some
    return each


def _settings(endpoint: str) -> dict[str, str]:
    """Return what the environment must say for a mirror; nothing for huggingface.co."""
    if endpoint == SITES["hub"][0]:
        return {}
    return {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}


def _options(chosen: Sequence[str]) -> list[str]:
    return [f"--include={one}" for one in chosen]


def _quoted(text: str) -> str:
    """Return a Python literal in double quotes where that needs no escape."""
    plain = text.isprintable() and '"' not in text and "\\" not in text
    return f'"{text}"' if plain else ascii(text)
