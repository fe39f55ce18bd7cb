"""What a person pasted, understood: which repository, which revision, which file in it."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from lib.errors import HubError
from lib.hub import modelscope

KINDS = ("dataset", "model")


@dataclass(frozen=True, slots=True)
class Ref:
    """One revision of one repository; `path` is the file or folder that was pointed at, or "".

    `site` is "hub", for Hugging Face and its mirrors, or "modelscope": the same id there is something else.
    """

    repo: str
    revision: str = "main"
    kind: str = "dataset"
    path: str = ""
    site: str = "hub"

    def page(self, endpoint: str) -> str:
        """Return the address of the repository's page on `endpoint`."""
        if self.site == "modelscope":
            return modelscope.page(endpoint, self.kind, self.repo)
        return f"{endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"

    def file(self, endpoint: str, commit: str, path: str) -> str:
        """Return the address that the bytes of `path` at `commit` are fetched from."""
        if self.site == "modelscope":
            return modelscope.file(endpoint, self.kind, self.repo, commit, path)
        return f"{self.page(endpoint)}/resolve/{quote(commit, safe='')}/{quote(path)}"


def parse(text: str, kind: str = "dataset", *, sites: Collection[str] = ("hub", "modelscope")) -> Ref:
    """Return the repository that `text` means.

    Understood: `org/name`, `name`, `datasets/org/name`, `org/name@revision`; `hf://…`; page, viewer, tree,
    blob, file and API addresses of huggingface.co and of mirrors, alone or in a sentence; command lines with
    `hf download`, `huggingface-cli download`, `hfd.sh` or `git clone`; a line of Python that calls
    `load_dataset`, `snapshot_download`, `hf_hub_download` or `from_pretrained`. Quotes, blanks and full-width
    characters around it do no harm. `kind` is meant where the text doesn't say.

    ModelScope's are understood where the text names it: its addresses, `modelscope:org/name`, its command
    line, its Python functions. What is pasted without a site is the Hub's.

    Raises `HubError`: `hub.bad_reference`, or `hub.other_site` for the address of another site, or of one
    that is not among `sites`.
    """
    trimmed = _bare(text)
    try:
        found = (
            _python(text, kind)
            or _command(trimmed, kind)
            or _prefixed(trimmed, kind)
            or _address(trimmed)
            or _id(trimmed, kind)
        )
    except ValueError:
        found = Ref("")
    if not _REPO.fullmatch(found.repo):
        raise HubError("hub.bad_reference", text=_shown(text)) from None
    if found.site not in sites:
        raise HubError("hub.other_site", site=_SCOPES[0])
    return found


def _python(text: str, kind: str) -> Ref | None:
    """Read a call in a line of Python; None where there is none."""
    call = re.search(rf"\b({'|'.join(map(re.escape, _CALLS))})\s*\((.*)", text, re.S)
    if not call:
        return None
    arguments = dict(re.findall(r"(\w+)\s*=\s*['\"]([^'\"]+)['\"]", call[2]))
    first = re.match(r"\s*['\"]([^'\"]+)['\"]", call[2])
    usual = _CALLS[call[1]] or kind
    named = (arguments.get(name) for name in ("repo_id", "dataset_id", "model_id", "dataset_name"))
    repo = next(filter(None, named), first[1] if first else "")
    said, revision = arguments.get("repo_type", ""), arguments.get("revision")
    if not (call[1] in _SCOPE_CALLS or re.search(r"\b(from|import)\s+modelscope\b", text)):
        return _asked(repo, said, usual, revision)
    if call[1] == "MsDataset.load":
        revision = revision or arguments.get("version")
        repo = repo if "/" in repo else f"{arguments.get('namespace', 'modelscope')}/{repo}"
    elif call[1] == "snapshot_download":
        usual = "model"  # for datasets, ModelScope has a function of another name
    return _asked(f"modelscope:{repo}", said, usual, revision)


def _command(text: str, kind: str) -> Ref | None:
    """Read the first command line that fetches a repository; None where there is none."""
    for line in re.sub(r"\s[\\^`]\r?\n", " ", text).splitlines():
        try:
            words = shlex.split(line)
        except ValueError:  # an apostrophe, as in ordinary sentences
            words = line.split()
        words = [re.sub(r"[\u2013-\u2015]", "-", word) if at == 0 else word for at, word in enumerate(words)]
        programs = [word.replace("\\", "/").rpartition("/")[2].removesuffix(".exe") for word in words]
        for at, program in enumerate(programs):
            if program not in _COMMANDS:
                continue
            word = _COMMANDS[program]
            if not word:
                return _arguments(words[at + 1 :], kind)
            if word in words[at:]:
                rest = words[words.index(word, at) + 1 :]
                if program in _SCOPE_COMMANDS:
                    return _scope_arguments(rest, kind)
                return _arguments(rest, kind, paths=program != "git")
    return None


def _scope_arguments(words: list[str], kind: str) -> Ref:
    """Read the words after `modelscope download`, where `--dataset` and `--model` have the id behind them."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    words = [re.sub(r"^[\u2013-\u2015]+", "--", word) for word in words]
    for option in ("--dataset", "--model"):
        if option in words[:-1]:
            at, kind = words.index(option), option[2:]
            words = [words[at + 1], *words[:at], *words[at + 2 :]]
    if words and not words[0].startswith("-") and "://" not in words[0]:
        words[0] = f"modelscope:{_bare(words[0])}"
    found = _arguments(words, kind, paths=True)
    return found if found.site == "modelscope" else replace(found, repo="")


def _arguments(words: list[str], kind: str, *, paths: bool = False) -> Ref:
    """Read the words after the command: the first free one is the repository, the second may be a file."""
    options: dict[str, str] = {}
    free: list[str] = []
    queue = [re.sub(r"^[\u2013-\u2015]+", "--", word) for word in words]  # blogs turn "--" into dashes
    while queue:
        word = queue.pop(0)
        name, _, value = word.partition("=")
        if not word.startswith("-"):
            free.append(word)
        elif value or name in _FLAGS or not queue or queue[0].startswith("-"):
            options[name] = value
        else:
            options[name] = queue.pop(0)
    said = (
        options.get("--repo-type") or options.get("--type") or ("dataset" if "--dataset" in options else "")
    )
    found = _asked(free[0] if free else "", said, kind, options.get("--revision"))
    return replace(found, path=free[1]) if paths and len(free) > 1 else found


def _asked(text: str, said: str, usual: str, revision: str | None) -> Ref:
    """Read a repository of the kind that was said beside it, else of its own, else of the usual kind."""
    found = _prefixed(text, said or usual) or _address(text) or _id(text, said or usual)
    found = replace(found, kind=said or found.kind, revision=revision or found.revision)
    if found.kind not in KINDS:
        raise ValueError(found.kind)
    return found


def _prefixed(text: str, kind: str) -> Ref | None:
    """Read an id of ModelScope with the site in front: `modelscope:org/name`, `ms://datasets/org/name`."""
    found = re.match(r"(?:modelscope|ms):(?://|:)?(?=[\w.-]+/)", text, re.IGNORECASE)
    if not found:
        return None
    plain = _id(text[found.end() :], kind)
    revision = plain.revision if "@" in text else modelscope.BRANCH
    return replace(plain, revision=revision, site="modelscope")


def _address(text: str) -> Ref | None:
    """Read the first address in a text; None where there is none."""
    found = re.search(f"(?:https?|hf)://[^{_ENDS}]+", text, re.IGNORECASE)
    address = found[0] if found else text.replace(":", "/", 1) if text.startswith("git@") else text
    address = address.removeprefix("git@")
    if address[:5].lower() == "hf://":
        return _parts(address[5:], "model")
    if not found and address.partition("/")[0].lower() not in _BARE_SITES:
        return None
    url = urlsplit(address if found else f"https://{address}")
    site = (url.hostname or "").removeprefix("www.")
    if site in _SCOPES:
        return _scope(url)
    if any(site == other or site.endswith(f".{other}") for other in _OTHER_SITES):
        raise HubError("hub.other_site", site=site)
    return _parts(url.path, "model", page=True)


def _scope(url: SplitResult) -> Ref:
    """Read an address of ModelScope: `/datasets/org/name`, a tab of that page, a file, one of its API."""
    parts = url.path.removeprefix("/api/v1").strip("/").split("/")
    kind, rest = parts[0].lower().removesuffix("s"), parts[3:]
    if kind not in KINDS or len(parts) < 3:
        raise ValueError(url.path)
    repo = "/".join(_bare(unquote(part)) for part in parts[1:3]).removesuffix(".git")
    asked = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
    found = Ref(repo, asked.get("revision", modelscope.BRANCH), kind, site="modelscope")
    if rest[:2] == ["file", "view"]:  # …/master/a.json; in older ones …/master?fileName=a.json
        rest = ["resolve", *rest[2:]]
    if len(rest) > 1 and rest[0].lower() in _WORDS_WITH_REVISION:
        found = replace(found, revision=_bare(unquote(rest[1])), path=unquote("/".join(rest[2:])))
    named = (asked.get(name) for name in ("filepath", "filename", "path"))
    return replace(found, path=next(filter(None, named), found.path).strip("/"))


def _id(text: str, kind: str) -> Ref:
    """Read an id: `org/name`, `datasets/org/name`, `org/name@revision`."""
    if text.startswith("/") or "://" in text:
        raise ValueError(text)  # a path on this computer, an address without a site
    plain = text if "/" in text else unicodedata.normalize("NFKC", text)
    return _parts(plain.partition("?")[0].partition("#")[0], kind)


def _parts(address: str, kind: str, *, page: bool = False) -> Ref:
    """Read `[api/][datasets/]org/name[@revision]`; then, on a page, `/tree/revision/path`, else a path."""
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
    found = Ref(_bare(repo).removesuffix(".git"), kind=kind)
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
    return replace(found, revision=_bare(revision), path=path)


def _bare(text: str) -> str:
    """Return the text without the blanks, quotes and punctuation that stand around it."""
    return re.sub(r"^[^\w./~@-]+|[^\w/-]+$", "", text)


def _shown(text: str) -> str:
    """Return what was pasted, short and without anything that looks like a token or a password."""
    plain = re.sub(r"\bhf_\w+|(?<=token[ =])\S+|(?<=//)[^/@\s]+@", "…", " ".join(text.split()))
    return plain if len(plain) <= 80 else f"{plain[:79]}…"


# The Hub's own rule for names: letters, digits and -_. in between; no -- and no ..
_REPO = re.compile(
    r"(?!.*(?:--|\.\.))(?:[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?/)?[A-Za-z0-9_](?:[\w.-]{0,94}\w)?", re.A
)
# What ends an address in a sentence: blanks, quotes and punctuation, the full-width ones too.
_ENDS = r"\s<>\"'`\u2018-\u201d\u3000-\u303f\uff01-\uff0f\uff1a-\uff20"
# The functions of Python that fetch a repository, and the kind each is for; "": either.
_CALLS = {
    "load_dataset": "dataset",
    "from_pretrained": "model",
    "dataset_snapshot_download": "dataset",
    "dataset_file_download": "dataset",
    "model_file_download": "model",
    "snapshot_download": "",
    "hf_hub_download": "",
    "MsDataset.load": "dataset",
}
_SCOPE_CALLS = ("dataset_snapshot_download", "dataset_file_download", "model_file_download", "MsDataset.load")
_SCOPE_COMMANDS = ("modelscope", "ms")
_COMMANDS = {"hf": "download", "huggingface-cli": "download", "hfd": "", "hfd.sh": "", "git": "clone"}
_COMMANDS |= dict.fromkeys(_SCOPE_COMMANDS, "download")
_FLAGS = ("--dataset", "--resume-download", "--force-download", "--force", "--quiet", "-q", "--json")
_WORDS_WITH_REVISION = ("tree", "blob", "resolve", "raw", "blame", "edit", "commit", "commits", "revision")
_WORDS = (*_WORDS_WITH_REVISION, "viewer", "discussions", "settings", "embed", "sql-console", "parquet")
_PAGES = ("spaces", "docs", "papers", "collections", "blog", "datasets", "models", "organizations")
_SCOPES = ("modelscope.cn", "modelscope.ai")
_BARE_SITES = (
    *("huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com", "www.hf-mirror.com"),
    *(*_SCOPES, *(f"www.{site}" for site in _SCOPES)),
)
# Sites whose ids look like the Hub's: the same id there is something else, or nothing here.
_OTHER_SITES = (
    "modelscope.cn",
    "modelscope.ai",
    "github.com",
    "githubusercontent.com",
    "gitee.com",
    "kaggle.com",
)
