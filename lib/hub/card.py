"""The first lines of a repository's card, README.md, as plain text."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from time import monotonic

import requests

from lib.errors import HubError
from lib.hub.endpoint import token_for
from lib.hub.failures import Asked
from lib.hub.listing import Listing
from lib.hub.redirects import opened

NAME = "README.md"
FIRST = 16 * 1024  # bytes; what is read as a rule
MOST = 128 * 1024  # bytes; the front matter of a dataset in many parts may be longer than FIRST
LENGTH = 600  # characters


def card(listing: Listing, *, token: str | None = None, anywhere: bool = False, timeout: float = 8.0) -> str:
    """Return what the card says first, about LENGTH characters at most; "" where none can be had in time.

    A card is no reason to fail: whatever goes wrong in the network is "" too. The token goes where
    `list_files` sends it. The text is somebody else's: escape it where Markdown is understood.
    """
    if not any(file.path == NAME and file.size for file in listing.files):
        return ""
    try:
        token = token_for(listing.endpoint, token, anywhere=anywhere, site=listing.ref.site)
        asked = Asked(listing.ref, listing.endpoint, timeout, token_sent=token is not None, file=NAME)
        return asked.in_time(lambda: _fetched(listing, asked, token))
    except HubError:
        return ""


def plain(markdown: str, length: int = LENGTH) -> str:
    """Return the beginning of a card without front matter, pictures, tables, code and tags.

    Headings, lists and the texts of links stay. It ends with a sentence or a line where one ends in time.
    """
    text = _without_front_matter(markdown.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff"))
    for pattern, instead in _BLOCKS:
        text = pattern.sub(instead, text)
    kept: list[str] = []
    for line in _prose([" ".join(line.split()) for line in text.split("\n")]):
        if line or (kept and kept[-1]):
            kept.append(line)
        if sum(map(len, kept)) > 2 * length:
            break
    return _cut("\n".join(kept).strip(), length)


def _fetched(listing: Listing, asked: Asked, token: str | None) -> str:
    """Read as much of the card as it takes to have its first lines."""
    address = listing.ref.file(listing.endpoint, listing.commit, NAME)
    headers = {"Range": f"bytes=0-{MOST - 1}", "Accept-Encoding": "identity"}
    until, enough, body = monotonic() + asked.timeout, FIRST, bytearray()
    with (
        requests.Session() as session,
        opened(
            session,
            asked,
            address,
            token=token,
            headers=headers,
            patience=lambda: max(0.01, until - monotonic()),
        ) as answer,
    ):
        page = "html" in answer.headers.get("Content-Type", "")
        if answer.status_code not in (200, 203, 206) or page:
            return ""
        while (
            len(body) < MOST
            and monotonic() < until
            and (piece := answer.raw.read1(FIRST, decode_content=True))
        ):
            body += piece
            if len(body) >= enough:
                if len(plain(_decoded(body))) > LENGTH / 2:
                    break
                enough += FIRST
    return plain(_decoded(body[:MOST]))


def _decoded(head: bytes | bytearray) -> str:
    """Return text whose end may be cut; "" for what is none."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return codecs.getincrementaldecoder("utf-16")("replace").decode(bytes(head))
    if b"\0" in head:
        return ""
    for encoding in ("utf-8", "gb18030"):
        try:
            return codecs.getincrementaldecoder(encoding)().decode(bytes(head))
        except UnicodeDecodeError:
            continue
    return ""


def _without_front_matter(text: str) -> str:
    """Drop what stands between `---` and `---` at the top; all, where the second one isn't there."""
    if not re.match(r"\s*---[ \t]*\n", text):
        return text
    end = re.search(r"\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", text)
    return text[end.end() :] if end else ""


def _prose(lines: list[str]) -> Iterator[str]:
    """Yield the lines that can be read aloud, without their marks; in them, blanks stand alone."""
    fence = ""
    for at, line in enumerate(lines):
        mark = re.match(r"`{3,}|~{3,}", line)
        if fence:
            fence = "" if mark and mark[0].startswith(fence) else fence
            continue
        if mark:
            fence = mark[0]
            continue
        below = lines[at + 1] if at + 1 < len(lines) else ""
        row = line.startswith("|") or _RULE.fullmatch(line) or ("|" in line and _RULE.fullmatch(below))
        if row or _DROPPED.fullmatch(line):
            continue
        said = line
        for pattern, instead in _MARKS:
            said = pattern.sub(instead, said)
        said = "".join(letter for letter in html.unescape(said) if letter.isprintable()).strip()
        if said or not line:  # what was only a picture leaves no gap
            yield said


def _cut(text: str, length: int) -> str:
    """Return at most `length` characters, up to the end of a sentence or line in the second half of them."""
    if len(text) <= length:
        return text
    ends = [end.end() for end in _ENDS.finditer(text, 0, length + 1) if length / 2 <= end.end() <= length]
    if ends:
        return text[: ends[-1]].rstrip()
    blank = text.rfind(" ", length // 2, length)
    return f"{text[: blank if blank > 0 else length - 1].rstrip()}\u2026"


# Over all lines. Each is linear even for a card that was made to take long: what is opened and never closed
# is taken once, up to the end.
_BLOCKS = (
    (re.compile(r"<!--.*?(?:-->|\Z)", re.S), ""),
    (
        re.compile(
            r"<(script|style|svg|table|pre)\b[^<>]*>.*?(?:</(?:script|style|svg|table|pre)\s*>|\Z)",
            re.S | re.I,
        ),
        "",
    ),
    (re.compile(r"<(https?://[^\s<>]*)>"), r"\1"),
    (re.compile(r"<(?:br|/p|/div|/h[1-6]|/li|/tr)\b[^<>]*>", re.I), "\n"),
    (re.compile(r"</?[A-Za-z](?:[^<>\n]|\n(?!\n))*(?:>|\Z)"), ""),
)
# Within a line, in this order: pictures, links, what stands before a line, what stands around words.
_MARKS = (
    (re.compile(r"!\[[^\[\]]*\](?:\([^()]*\)|\[[^\[\]]*\])"), ""),
    (re.compile(r"\[\s*\](?:\([^()]*\)|\[[^\[\]]*\])"), ""),
    (re.compile(r"\[([^\[\]]*)\](?:\([^()]*(?:\([^()]*\)[^()]*)?\)|\[[^\[\]]*\])"), r"\1"),
    (re.compile(r"^(?:> ?)+"), ""),
    (re.compile(r"^\[![A-Z]+\]"), ""),
    (re.compile(r"^#{1,6} | #+$"), ""),
    (re.compile(r"^[*+](?= )"), "-"),
    (re.compile(r"^- \[[ xX]\] "), "- "),
    (re.compile(r"\*{1,3}([^\s*](?:[^*]*[^\s*])?)\*{1,3}"), r"\1"),
    (re.compile(r"(?<!\w)_{1,3}([^\s_](?:[^_]*[^\s_])?)_{1,3}(?!\w)"), r"\1"),
    (re.compile(r"~~([^~]+)~~|`+([^`]+)`+"), r"\1\2"),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!|<>~-])"), r"\1"),
)
# The line between a table's head and its rows.
_RULE = re.compile(r"\|? ?:?-+:? ?(?:\| ?:?-*:? ?)+")
# Lines that are no text: lines across, underlines of headings, addresses of links, tables of contents, and
# what the Hub's template leaves where nobody wrote anything.
_DROPPED = re.compile(
    r"[-*_=]{3,}|(?:[-*_] ){2,}[-*_]|=+|\[[^\[\]]+\]: ?\S.*"
    r"|(?:[-*+]|\d+\.) ?\[[^\[\]]*\]\(#[^()]*\)|#* ?table of contents:?"
    r"|.*\[more information needed\].*|.*\[needs more information\].*",
    re.I,
)
_ENDS = re.compile(r"[.!?](?=\s)|[\u3002\uff01\uff1f]|\n")
