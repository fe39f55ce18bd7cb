"""What a person pasted, understood: which repository, which revision, which file in it."""

from __future__ import annotations

import re
import shlex
import unicodedata
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote, urlsplit

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from lib.errors import HubError

KINDS = ("dataset", "model")


@dataclass(frozen=True, slots=True)
class Reference:
    """One revision of one repository; `path` is the file or folder that was pointed at, or ""."""

    repo: str
    kind: str = "dataset"
    revision: str = "main"
    path: str = ""

    def page(self, endpoint: str) -> str:
        """Return the address of the repository's page on `endpoint`."""
        return f"{endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"

    def file(self, endpoint: str, commit: str, path: str) -> str:
        """Return the address that the bytes of `path` at `commit` are fetched from."""
        return f"{self.page(endpoint)}/resolve/{quote(commit, safe='')}/{quote(path)}"


def parse(text: str, kind: str = "dataset") -> Reference:
    """Return the repository that `text` means.

    Understood: `org/name`, `name`, `datasets/org/name`, `org/name@revision`; `hf://…`; page, viewer, tree, blob,
    file and API addresses of huggingface.co and of mirrors, alone or in a sentence; command lines with
    `hf download`, `huggingface-cli download`, `hfd.sh` or `git clone`; a line of Python that calls
    `load_dataset`, `snapshot_download`, `hf_hub_download` or `from_pretrained`. Quotes, blanks and full-width
    characters around it do no harm. `kind` is meant where the text doesn't say.

    Raises `HubError`: `hub.bad_reference`, or `hub.other_site` for the address of a site that is no Hub.
    """
    trimmed = text.strip(_AROUND)
    try:
        found = _python(text, kind) or _command(trimmed, kind) or _address(trimmed) or _id(trimmed, kind)
        validate_repo_id(found.repo)
    except (HFValidationError, ValueError):
        raise HubError("hub.bad_reference", text=_shown(text)) from None
    return found


def _python(text: str, kind: str) -> Reference | None:
    """Read a call in a line of Python; None where there is none."""
    call = re.search(r"\b(load_dataset|from_pretrained|snapshot_download|hf_hub_download)\s*\((.*)", text, re.S)
    if not call:
        return None
    arguments = dict(re.findall(r"(\w+)\s*=\s*['\"]([^'\"]+)['\"]", call[2]))
    first = re.match(r"\s*['\"]([^'\"]+)['\"]", call[2])
    usual = {"load_dataset": "dataset", "from_pretrained": "model"}.get(call[1], kind)
    repo = arguments.get("repo_id") or (first[1] if first else "")
    return _asked(repo, arguments.get("repo_type", ""), usual, arguments.get("revision"))


def _command(text: str, kind: str) -> Reference | None:
    """Read the first command line that fetches a repository; None where there is none."""
    for line in re.sub(r"\s[\\^`]\r?\n", " ", text).splitlines():
        try:
            words = shlex.split(line)
        except ValueError:  # an apostrophe, as in ordinary sentences
            words = line.split()
        words = [re.sub(r"[–—―]", "-", word) if at == 0 else word for at, word in enumerate(words)]
        programs = [word.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") for word in words]
        for at, program in enumerate(programs):
            if program not in _COMMANDS:
                continue
            word = _COMMANDS[program]
            if not word:
                return _arguments(words[at + 1 :], kind)
            if word in words[at:]:
                return _arguments(words[words.index(word, at) + 1 :], kind, paths=program != "git")
    return None


def _arguments(words: list[str], kind: str, *, paths: bool = False) -> Reference:
    """Read the words after the command: the first free one is the repository, with `paths` the second a file."""
    options: dict[str, str] = {}
    free: list[str] = []
    queue = [re.sub(r"^[—–―]+", "--", word) for word in words]  # blogs turn "--" into dashes
    while queue:
        word = queue.pop(0)
        name, _, value = word.partition("=")
        if not word.startswith("-"):
            free.append(word)
        elif value or name in _FLAGS or not queue or queue[0].startswith("-"):
            options[name] = value
        else:
            options[name] = queue.pop(0)
    said = options.get("--repo-type") or options.get("--type") or ("dataset" if "--dataset" in options else "")
    found = _asked(free[0] if free else "", said, kind, options.get("--revision"))
    return replace(found, path=free[1]) if paths and len(free) > 1 else found


def _asked(text: str, said: str, usual: str, revision: str | None) -> Reference:
    """Return the repository `text` of the kind that was said beside it, else of its own, else the usual kind."""
    found = _address(text) or _id(text, said or usual)
    found = replace(found, kind=said or found.kind, revision=revision or found.revision)
    if found.kind not in KINDS:
        raise ValueError(found.kind)
    return found


def _address(text: str) -> Reference | None:
    """Read the first address in a text; None where there is none."""
    found = re.search(r"(?:https?|hf)://[^\s<>\"'`“”‘’「」『』《》〈〉【】（），。、；！？]+", text, re.IGNORECASE)
    address = found[0] if found else text.replace(":", "/", 1) if text.startswith("git@") else text
    address = address.removeprefix("git@")
    if address[:5].lower() == "hf://":
        return _parts(address[5:], "model")
    if not found and address.partition("/")[0].lower() not in _BARE_SITES:
        return None
    url = urlsplit(address if found else f"https://{address}")
    site = (url.hostname or "").removeprefix("www.")
    if any(site == other or site.endswith(f".{other}") for other in _OTHER_SITES):
        raise HubError("hub.other_site", site=site)
    return _parts(url.path, "model", page=True)


def _id(text: str, kind: str) -> Reference:
    """Read an id: `org/name`, `datasets/org/name`, `org/name@revision`."""
    if text.startswith("/"):
        raise ValueError(text)  # a path on this computer
    plain = text if "/" in text else unicodedata.normalize("NFKC", text)
    return _parts(plain.partition("?")[0].partition("#")[0], kind)


def _parts(address: str, kind: str, *, page: bool = False) -> Reference:
    """Read `[api/][datasets/]org/name[@revision]` and what follows: on a page `/tree/revision/path`, else a path."""
    parts = [part for part in address.split("/") if part]  # unquoted only now: a revision may hold %2F
    if parts[:1] == ["api"]:
        parts.pop(0)
    prefix = parts[0].lower().removesuffix("s") if len(parts) > 1 else ""
    if prefix in KINDS:
        kind, parts = prefix, parts[1:]
    # names of one part, such as `squad`, are followed by nothing or by a word of the page
    size = 1 if len(parts) < 2 or (page and parts[1].lower() in _WORDS) or "@" in parts[0] else 2
    name, rest = unicodedata.normalize("NFKC", unquote("/".join(parts[:size]))), parts[size:]
    if prefix == "space" or name.partition("/")[0].lower() in _PAGES:
        raise ValueError(name)
    repo, at, revision = name.partition("@")
    found = Reference(repo.strip(_AROUND).removesuffix(".git"), kind)
    if at:
        rest = [revision, *rest]
    elif page:
        if not rest or rest[0].lower() not in _WORDS_WITH_REVISION:
            return found
        rest = rest[1:]
    else:
        return replace(found, path=unquote("/".join(rest)))
    if not rest:
        return found
    size = 3 if rest[0] == "refs" else 1  # refs/pr/1, refs/convert/parquet
    revision, path = unquote("/".join(rest[:size])), unquote("/".join(rest[size:]))
    return replace(found, revision=revision.strip(_AROUND), path=path)


def _shown(text: str) -> str:
    """Return what was pasted, short and without anything that looks like a token or a password."""
    plain = re.sub(r"\bhf_\w+|(?<=token[ =])\S+|(?<=//)[^/@\s]+@", "…", " ".join(text.split()))
    return plain if len(plain) <= 80 else f"{plain[:79]}…"


_AROUND = " \t\r\n\u3000\u200b\u200c\u200d\u2060\ufeff\xa0'\"`´“”‘’「」『』《》〈〉【】<>()（）[]{}，。、；：！？,;!?$"
_COMMANDS = {"hf": "download", "huggingface-cli": "download", "hfd": "", "hfd.sh": "", "git": "clone"}
_FLAGS = ("--dataset", "--resume-download", "--force-download", "--force", "--quiet", "-q", "--json", "--dry-run")
_WORDS_WITH_REVISION = ("tree", "blob", "resolve", "raw", "blame", "edit", "commit", "commits", "revision")
_WORDS = (*_WORDS_WITH_REVISION, "viewer", "discussions", "settings", "embed", "sql-console", "parquet")
_PAGES = ("spaces", "docs", "papers", "collections", "blog", "datasets", "models", "organizations", "settings")
_BARE_SITES = ("huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com", "www.hf-mirror.com")
# Sites whose ids look like the Hub's: the same id there is something else, or nothing here.
_OTHER_SITES = ("modelscope.cn", "modelscope.ai", "github.com", "githubusercontent.com", "gitee.com", "kaggle.com")
