"""What a text should not hold: refusals, broken characters, leftovers of markup, secrets, personal data.

`clean` and `clean_answer` are the quick look: where they say yes, `found` finds nothing (a test holds them to
it). The precise patterns run only where the quick look is in doubt. The phrases are in `lib/content.toml`.

To add a rule: find it in `_each`, let `clean` or `clean_answer` doubt whatever has it, a weight in
`lib/targets.toml`, its sentence.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

_DATA: dict[str, Any] = tomllib.loads(
    Path(__file__).parent.with_name("content.toml").read_text(encoding="utf-8")
)

# A sentence that comes so often in one text is a machine that could not stop.
REPEATS = 20


class Span(NamedTuple):
    """Where in a text something personal or secret stands, and the rule it breaks."""

    start: int
    end: int
    rule: str


def found(text: str, role: str, talk: Sequence[str] = ()) -> Iterator[tuple[str, str]]:
    """Yield every rule that a message's text breaks, with what to show of it; nothing personal in full.

    `talk` are the texts of the whole conversation: where it is about web pages, tags are no leftovers.
    """
    for rule, value in _each(text, role, talk):
        yield rule, value if rule in PERSONAL else masked(value)


def clean(text: str, *, written: bool = False) -> bool:
    """Return whether a text, or several in one, surely holds nothing that `found` finds in any message.

    What it finds in answers only is `clean_answer`'s. Also doubts what cannot be written as UTF-8, which who
    has `written` it knows already.
    """
    latin = text.encode("latin-1", "ignore")
    if len(latin) != len(text):
        if not written:
            try:
                text.encode("utf-16-le")  # half as long to wait for as UTF-8
            except UnicodeEncodeError:
                return False
        if "\ufffd" in text or _any_gbk(text):
            return False
    if not latin.isascii() and _LATIN_LEAD(latin) and _LATIN_BROKEN(text):
        return False
    # Han fell out of it: what is left of a Chinese text is short, and may stand closer together than it did
    if len(latin) > 10:
        if _TWENTY in latin.translate(_WORD) and _SECRET_HINT(latin):
            return False
        # every number that is told has four digits in a row; leaving bytes out takes three times as long
        if (
            _FOUR in latin.translate(_DIGIT)
            and _ELEVEN in latin.translate(_DIGIT, b" -")
            and _ELEVEN_HINT(text)
        ):
            return False
    if b"@" in latin and _EMAIL_HINT(latin):
        return False
    if b"<" in latin and (_TAG_HINT(latin) or _WIDE_TOKEN in text):
        return False
    if b"&" in latin and _ENTITY_HINT(latin):
        return False
    if b"#" in latin and b"##" in latin and _HEADING(text):  # one byte is found ten times as fast as two
        return False
    return not (b"[" in latin and (b"[INST]" in latin or b"[/INST]" in latin))


def clean_answer(text: str) -> bool:
    """Return whether an answer surely refuses nothing, says something and does not repeat itself."""
    if _REFUSAL_HINT(text, 0, _HEAD) and refusal(text):
        return False
    size = len(text)
    if size < _LOOP:
        return size > _HOLLOW_MOST or not hollow(text)
    return not repeated(text)


def refusal(text: str) -> str:
    """Return the words an answer refuses with at its beginning, or ""."""
    head = text[:_HEAD].replace("\u2019", "'").lower()
    for phrase in _REFUSALS:
        if phrase in head:
            place = head.index(phrase)
            quoted = any(mark in head[:place] for mark in _OPENING)
            if not quoted and not head.startswith(_UNLESS, place + len(phrase)):
                return text[place : place + len(phrase)]
    return ""


def hollow(text: str) -> bool:
    """Return whether an answer says nothing: a placeholder, or no letter, digit or sign of meaning at all."""
    text = text.strip()
    return text.casefold() in _HOLLOW or bool(_EMPTY(text))


def repeated(text: str) -> str:
    """Return a sentence that fills much of a text because it comes REPEATS times or more, or "".

    Looked for only where what stands in the middle or at the end of the text comes again and again.
    """
    size = len(text)
    middle = size // 2
    if size < _LOOP or (
        text.find(text[middle : middle + 16]) == middle and text.find(text[-16:]) == size - 16
    ):
        return ""
    for probe in (text[middle : middle + 16], text[-16:]):
        # sixteen characters of a sentence of four stand over four of them: twenty are counted as five
        if len(probe.strip()) > 3 and text.count(probe) * 4 >= REPEATS:
            return _repeated(text)
    return ""


def mojibake(text: str) -> str:
    """Return the first piece of a text that was read in the wrong encoding, or ""."""
    if "\ufffd" in text:
        return _around(text, text.index("\ufffd"))
    if not text.isascii() and (match := _LATIN_BROKEN(text)):
        return _around(text, match.start())
    for word in (_REMAINS, _UNSET):
        place = text.find(word)
        while place >= 0:
            if not _talked_about(text, place, word):
                return _around(text, place)
            place = text.find(word, place + len(word))
    places = [match.start() for match in _GBK.finditer(text)] if _any_gbk(text) else []
    if len(places) > 1 or any(_read_right(text, place) for place in places):
        return _around(text, places[0])
    return ""


def without_end(text: str) -> str:
    """Return a text without the tokens of a chat template at its end."""
    if not text.rstrip().endswith((">", "]")):
        return text
    match = _TOKENS_AT_END(text)
    return text[: match.start()].rstrip() if match else text


def leftover(text: str, role: str, talk: Sequence[str] = ()) -> str:
    """Return a leftover of markup in a text, or "": tokens of a template, in an answer tags and entities.

    What stands in code, or at the end (`without_end`), is none.
    """
    text = without_end(text)
    if "<" not in text and "[" not in text and "&" not in text and "##" not in text:
        return ""
    prose = _CODE.sub(" ", text)
    match = _TOKEN(prose)
    if not match and role == "assistant":
        match = _HEADING(prose) or _TAG(prose) or _ENTITY(prose)
        if match and match.re is not _HEADINGS and _is_about_markup(text, talk):
            match = None
    return match.group().strip() if match else ""


def personal(text: str) -> list[Span]:
    """Return where secrets and personal data stand in a text, in order, none within another."""
    spans = sorted([*_secrets(text), *_numbers(text), *_emails(text)])
    kept: list[Span] = []
    for span in spans:
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def masked(text: str) -> str:
    """Return a text in which nothing personal stands in full: the first and last two characters remain."""
    for start, end, _ in () if clean(text) else personal(text):
        text = f"{text[: start + 2]}{'*' * (end - start - 4)}{text[end - 2 :]}"
    return text


def without_personal(text: str) -> str:
    """Return a text with `***` in place of everything secret or personal."""
    for start, end, _ in reversed(personal(text)):
        text = f"{text[:start]}***{text[end:]}"
    return text


def _each(text: str, role: str, talk: Sequence[str]) -> Iterator[tuple[str, str]]:
    if role == "assistant":
        if len(text) <= _HOLLOW_MOST and hollow(text):
            yield "hollow_answer", text
        if _REFUSAL_HINT(text, 0, _HEAD) and (words := refusal(text)):
            yield "refusal", words
        if sentence := repeated(text):
            yield "repeated", sentence
    if clean(text):
        return
    if broken := mojibake(text):
        yield "mojibake", broken
    if left := leftover(text, role, talk):
        yield "markup", left
    end = text[len(without_end(text)) :]
    if end:
        yield "template_end", end.strip()
    for start, stop, rule in personal(text):
        value = text[start:stop]
        yield rule, f"{value[:2]}{'*' * (len(value) - 4)}{value[-2:]}"


def _repeated(text: str) -> str:
    said = Counter(sentence.strip() for sentence in _SENTENCE.split(_CODE.sub("", text)))
    for sentence, times in said.most_common(3):
        if times >= REPEATS and times * len(sentence) * 3 > len(text) and len(sentence) > 3:
            return sentence
    return ""


def _is_about_markup(text: str, talk: Sequence[str]) -> bool:
    said = "\n".join(talk or (text,))
    low = said.lower()
    return any(word in low for word in _ABOUT_MARKUP) or any(_TAG(one) for one in talk if one is not text)


def _any_gbk(text: str) -> bool:
    one, two, three, remains, unset = _RARE
    if one in text or two in text or three in text or remains in text:
        return True
    return unset in text and _UNSET in text


def _talked_about(text: str, place: int, word: str) -> bool:
    """Return whether a piece is quoted or called out rather than left by a broken reader."""
    before, after = text[max(0, place - 1) : place], text[place + len(word) : place + len(word) + 1]
    quoted = [bool(char) and char in _QUOTES for char in (before, after)]
    return after != word[0] and any(quoted) if word == _UNSET else all(quoted)


def _read_right(text: str, place: int) -> bool:
    """Return whether the characters around `place` become other text when GB18030 is undone."""
    start, stop = place, place + 1
    while start > max(0, place - 100) and not text[start - 1].isascii():
        start -= 1
    while stop < min(len(text), place + 100) and not text[stop].isascii():
        stop += 1
    for end in (stop, stop - 1):
        try:
            read = text[start:end].encode("gb18030").decode("utf-8")
        except UnicodeError:
            continue
        return len(read) > 1
    return False


def _around(text: str, place: int) -> str:
    return text[max(0, place - 10) : place + 20]


def _secrets(text: str) -> Iterator[Span]:
    if not _SECRET_HINT_TEXT(text):
        return
    for match in _SECRET.finditer(text):
        body = match.group(match.lastgroup or 0)
        if _RUN(match.group()) and _is_random(body, match.lastgroup == "sk"):
            yield Span(match.start(), match.end(), "secret")


def _is_random(body: str, long: bool) -> bool:
    """Return whether the letters of a key are random; words are not, nor are placeholders."""
    if long and not _LONG_WORD(body):
        return False
    return len(set(body)) >= 8 and not body.upper().endswith("EXAMPLE")


def _numbers(text: str) -> Iterator[Span]:
    if not _ELEVEN_HINT(text):
        return
    for match in _NUMBER.finditer(text):
        start, end = match.span()
        digits = match.group().replace(" ", "").replace("-", "")
        if len(digits) == 13 and digits.startswith("86") and text[start - 1 : start] == "+":
            start, digits = start + 2, digits[2:]
        elif _joined(text, start, end):
            continue
        if _is_phone(digits):
            if not _is_amount(text, start, end):
                yield Span(start, end, "phone")
        elif len(digits) == 18 and _is_id_card(digits):
            yield Span(start, end, "id_card")
        elif digits.isdigit() and _is_bank_card(digits):
            yield Span(start, end, "bank_card")


def _joined(text: str, start: int, end: int) -> bool:
    """Return whether a number is but a part: of a longer one, a fraction, a word, an address."""
    before, after = text[max(0, start - 2) : start], text[end : end + 2]
    last, first = before[-1:], after[:1]
    if (last.isascii() and last.isalnum()) or last in ("_", "#", "%"):
        return True
    if last == "." and (len(before) < 2 or before[0].isdigit() or before[0].isspace()):
        return True
    if last in ("-", "/") and before[0].isascii() and before[0].isalnum():
        return not text[max(0, start - 4) : start].endswith(("+86-", "086-"))
    if (first.isascii() and first.isalnum()) or first in ("_", "%"):
        return True
    return first in (".", "-") and after[1:].isdigit()


def _is_amount(text: str, start: int, end: int) -> bool:
    """Return whether a number is counted or calculated with."""
    if text[end : end + 3].lstrip().startswith(_AMOUNTS) or text[start - 1 : start] in _MONEY:
        return True
    return bool(_SUM(text[max(0, start - 8) : start]))


def _is_phone(digits: str) -> bool:
    """Return whether it is a mobile number of mainland China; a round number is an amount."""
    return len(digits) == 11 and digits[0] == "1" and digits[1] in "3456789" and not digits.endswith("00000")


def _is_id_card(digits: str) -> bool:
    """Return whether it is an identity-card number: region, day of birth, right check digit (GB 11643)."""
    if not digits[:17].isdigit():
        return False
    year, month, day = int(digits[6:10]), int(digits[10:12]), int(digits[12:14])
    if not (1900 <= year <= 2099 and 1 <= month <= 12 and 1 <= day <= 31 and digits[0] in "12345678"):
        return False
    rest = sum(int(digit) * weight for digit, weight in zip(digits, _WEIGHTS, strict=False)) % 11
    return "10X98765432"[rest] == digits[17].upper()


def _is_bank_card(digits: str) -> bool:
    """Return whether it is a bank card's number: a known issuer's, right by Luhn, no filler."""
    if not 16 <= len(digits) <= 19 or len(set(digits)) < 4:
        return False
    long = digits.startswith(("62", "60", "95"))
    if not long and not (len(digits) == 16 and (digits[0] == "4" or digits[:2] in _CARDS)):
        return False
    doubled = (int(digit) * 2 for digit in digits[-2::-2])
    total = sum(int(digit) for digit in digits[-1::-2]) + sum(digit - 9 * (digit > 9) for digit in doubled)
    return total % 10 == 0


def _emails(text: str) -> Iterator[Span]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL(text[max(0, at - 65) : at])
        match = _DOMAIN(text, at + 1) if local else None
        if local and match:
            start, end = at - len(local.group()), match.end()
            labels = match.group().split(".")
            while len(labels) > 2 and labels[-1][0].isupper():  # the next sentence, without a space
                end -= len(labels.pop()) + 1
            if _is_address(text, start, end, labels):
                yield Span(start, end, "email")
        at = text.find("@", at + 1)


def _is_address(text: str, start: int, end: int, labels: list[str]) -> bool:
    if labels[-1].lower() not in _TOP_LEVEL or ".".join(labels).lower().endswith(_NOBODY):
        return False
    if text[start - 1 : start] == "@" or (text.startswith("git@", start) and text[end : end + 1] == ":"):
        return False
    _, address, before = text[max(0, start - 80) : start].rpartition("://")
    return not address or bool(_GAP(before))  # else the user of an address: https://name:word@host


def _either(words: list[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


# -- quick looks ---------------------------------------------------------------------------------------------

_WORD = bytes(97 if c < 128 and chr(c).isalnum() else 32 for c in range(256))
_DIGIT = bytes(48 if 48 <= c < 58 else 32 for c in range(256))
_TWENTY, _ELEVEN, _FOUR = b"a" * 20, b"0" * 11, b"0" * 4
_SECRET_SIGNS = "sk-|hf_|AKIA|ASIA|gh[pousr]_|github_pat_|AIza|xox[a-z]-|LTAI|PRIVATE KEY"
_SECRET_HINT = re.compile(_SECRET_SIGNS.encode()).search
_ELEVEN_HINT = re.compile(r"[0-9](?:[ -]?[0-9]){10}").search
_EMAIL_HINT = re.compile(rb"@(?<=[A-Za-z0-9_%+.-]@)[A-Za-z0-9-]").search
_TAG_HINT = re.compile(
    rb"<(?!/?(?:think|answer|tool_call|tool_response)>)"
    rb"(?:[|/<]|[a-zA-Z]+[1-6]? ?/?>|[a-zA-Z]+[1-6]?[ \t\n]+[a-zA-Z-]+ ?=|[a-z]+_)"
).search
_ENTITY_HINT = re.compile(rb"&(?:[a-z]{2,4}|#x?[0-9a-fA-F]{2,5});").search
_LATIN_LEAD = re.compile(rb"[\xc2\xc3\xe2-\xe9\xef]").search
_WIDE_TOKEN = "<\uff5c"

# -- broken characters ---------------------------------------------------------------------------------------

_REMAINS: str = _DATA["mojibake"]["remains"]
_UNSET: str = _DATA["mojibake"]["unset"]
_QUOTES: str = _DATA["mojibake"]["quotes"]
_RARE = (*_DATA["mojibake"]["gbk"], _REMAINS[0], _UNSET[0])
_GBK = re.compile(f"[{''.join(_DATA['mojibake']['gbk'])}]")
# What the bytes 80 to BF of a character's tail became: Latin-1 as they are, Windows-1252 some of these.
_TAIL_1252 = (
    "\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d\u2018\u2019\u201c"
)
_TAIL_1252 += "\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178"
_TAIL = f"[\x80-\xbf{_TAIL_1252}]"
_LATIN_BROKEN = re.compile(
    "[\xc2\xc3\xe2-\xe9\xef](?:"
    f"(?<=[\xc2\xc3])(?:[\x80-\xbf]|[{_TAIL_1252}](?=[a-zA-Z]))"  # two bytes
    f"|(?<=\xe2)[\u20ac\x80]|(?<=\xef)(?:\xbb\xbf|\xbf\xbd)"  # quotes and dashes, the mark of UTF-8, U+FFFD
    f"|(?<=[\xe3-\xe9]){_TAIL}{_TAIL}[\xe3-\xe9\xef]{_TAIL}{_TAIL})"  # Han and kana, two of them
).search

# -- refusals, hollow answers, repetition --------------------------------------------------------------------

_HEAD: int = _DATA["refusal"]["head"]
_REFUSAL_HINT = re.compile(_either(_DATA["refusal"]["hints"])).search
_REFUSALS: tuple[str, ...] = tuple(phrase.lower() for phrase in _DATA["refusal"]["phrases"])
_UNLESS: tuple[str, ...] = tuple(_DATA["refusal"]["unless"])
_OPENING = '"\u201c\u300c\u300e\u300a\u00ab'
_HOLLOW = frozenset(_DATA["hollow"]["answers"])
_HOLLOW_MOST = 40
_EMPTY = re.compile(
    r"[\s!-/:-@\[-`{-~\u2010-\u2027\u2030-\u205e\u3000-\u303f\uff01-\uff0f\uff1a-\uff20]{0,40}"
).fullmatch
_LOOP = 80
SENTENCE_ENDS: str = _DATA["sentences"]["ends"]
_SENTENCE = re.compile(f"[{re.escape(SENTENCE_ENDS)}]+|(?<=[a-z])[.] ")

# -- markup --------------------------------------------------------------------------------------------------

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_TOKEN_PATTERN = (
    "<[|\uff5c](?=[^<>|\uff5c]*\\w)[^<>|\uff5c\\s]{1,40}[|\uff5c]>|</?s>|<(?:start|end)_of_turn>|<(?:eos|bos|pad|endoftext)>"
    r"|\[/?INST\]|<</?SYS>>"
)
_TOKEN = re.compile(_TOKEN_PATTERN).search
_TOKENS_AT_END = re.compile(rf"(?:(?:{_TOKEN_PATTERN})\s*)+\Z").search
_HEADINGS = re.compile(rf"###? ?(?:{_either(_DATA['markup']['headings'])})\s?[:\uff1a]")
_HEADING = _HEADINGS.search
_TAGS = _either(_DATA["markup"]["tags"])
_TAG = re.compile(
    rf"</(?:{_TAGS})>|<(?:br|hr) ?/?>"
    rf"|<(?:{_TAGS})(?:[ \t\n]+[a-zA-Z-]+ ?= ?(?:\"[^\"<>]*\"|'[^'<>]*'))+\s*/?>"
).search
_ENTITY = re.compile(r"&(?:nbsp|amp|lt|gt|quot|apos|#[0-9]{2,5}|#x[0-9a-fA-F]{2,5});").search
_ABOUT_MARKUP: tuple[str, ...] = tuple(_DATA["markup"]["about"])

# -- secrets and personal data -------------------------------------------------------------------------------

PERSONAL = frozenset({"secret", "phone", "id_card", "bank_card", "email"})
_SECRET_HINT_TEXT = re.compile(_SECRET_SIGNS).search
_SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?P<block>[A-Za-z0-9+/=\s\\]{40,})"
    r"(?:-----END [A-Z ]*PRIVATE KEY-----)?"
    r"|(?<![A-Za-z0-9])(?:sk-(?:proj-|svcacct-|ant-[a-z0-9]+-|or-v1-)?(?P<sk>[A-Za-z0-9_-]{20,})"
    r"|hf_(?P<hf>[A-Za-z0-9]{30,40})(?![A-Za-z0-9])"
    r"|(?:AKIA|ASIA)(?P<aws>[0-9A-Z]{16})(?![A-Za-z0-9])"
    r"|gh[pousr]_(?P<gh>[A-Za-z0-9]{36,})"
    r"|github_pat_(?P<pat>[A-Za-z0-9_]{50,})"
    r"|AIza(?P<google>[0-9A-Za-z_-]{35})"
    r"|xox[abprs]-(?P<slack>[0-9A-Za-z-]{20,})"
    r"|LTAI(?P<aliyun>[0-9A-Za-z]{16,20})(?![A-Za-z0-9]))"
)
_RUN = re.compile("[A-Za-z0-9]{20}").search
_LONG_WORD = re.compile("[A-Za-z0-9]{32}|(?=[A-Za-z]*[0-9][A-Za-z]*[0-9])[A-Za-z0-9]{20}").search
_NUMBER = re.compile(
    "[0-9]{11,}[Xx]?|(?<![0-9])1[3-9][0-9]([ -])[0-9]{4}\\1[0-9]{4}(?![0-9])"
    "|(?<![0-9])[0-9]{4}([ -])[0-9]{4}\\2[0-9]{4}\\2[0-9]{4}(?:\\2[0-9]{1,3})?(?![0-9])"
)
_MONEY = ("$", "\u00a5", "\uffe5", "\u20ac")
_SUM = re.compile(r"[0-9)}\]]\s*[=\u2248\u00d7*+\u00f7/-]\s+\Z").search
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_CARDS = ("35", "51", "52", "53", "54", "55")
_AMOUNTS: tuple[str, ...] = tuple(_DATA["personal"]["amounts"])
_LOCAL = re.compile(r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+][A-Za-z0-9._%+-]{0,63}\Z").search
_DOMAIN = re.compile(r"(?:[A-Za-z0-9-]{1,63}\.){1,4}[A-Za-z]{2,10}(?![A-Za-z0-9@])").match
_TOP_LEVEL = frozenset(_DATA["personal"]["top_level"])
_NOBODY: tuple[str, ...] = tuple(_DATA["personal"]["nobody"])
_GAP = re.compile(r"[\s/?#]").search
