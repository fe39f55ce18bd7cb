"""Guess what some rows are: by the names of their fields first, then by what they hold.

The order of the questions is the order of certainty: what cannot be learned from (`DECLINED`), lists of
turns, fields with known names, names that end in a known one, and at last the words alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lib.formats.mapping import ROLES, Mapping, unpacked
from lib.formats.names import names, plain, tokens
from lib.formats.rendered import looks_rendered
from lib.formats.tools import is_glaive

DECLINED = ("preference", "unpaired", "reward", "prm", "prompt_only", "text", "tokenized")


@dataclass(frozen=True, slots=True)
class Guess:
    """What some rows seem to be.

    `format` is one of FORMATS, one of DECLINED, or "" where nothing fits. `confidence` runs from 0 to 1.
    `reason` says what it was told by: "turns" (lists of turns), "names", "names_and_content", "content",
    "nothing". `roles` are the speakers nobody knows, with who they seem to be. `instead` is, for rows that
    are declined, a way to learn from them after all: the better answer of two.
    """

    format: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    confidence: float = 0.0
    reason: str = "nothing"
    roles: dict[str, str] = field(default_factory=dict)
    instead: Mapping | None = None


def detect(values: Iterable[Any]) -> Guess:
    """Guess the format of some rows (25 or more are better) and which field has which role."""
    columns = _columns(values)
    return _declined(columns) or _tools(columns) or _turns(columns) or _flat(columns)


# --- the fields of some rows


@dataclass(frozen=True, slots=True)
class _Column:
    """A field of the rows: its values that are not null, and what most of them are."""

    name: str
    plain: str
    values: list[Any]
    kind: str  # "turns", "text", "number", "bool", "list", "object", "none"
    length: float  # of a text, in characters, on average


def _columns(values: Iterable[Any]) -> dict[str, _Column]:
    found: dict[str, list[Any]] = {}
    for value in values:
        if isinstance(value, dict):
            for name, one in value.items():
                found.setdefault(name, []).append(one)
    return {name: _column(name, [one for one in ones if one is not None]) for name, ones in found.items()}


def _column(name: str, values: list[Any]) -> _Column:
    opened = [unpacked(value) for value in values]
    turns = [one for one in opened if isinstance(one, list) and one and isinstance(one[0], dict)]
    if turns and 2 * len(turns) > len(values):
        return _Column(name, plain(name), turns, "turns", 0.0)
    texts = [one for one in values if isinstance(one, str)]
    for kind, types in _TYPES:
        some = [one for one in values if isinstance(one, types)]
        if some and 2 * len(some) > len(values):
            length = sum(map(len, texts)) / len(texts) if texts else 0.0
            return _Column(name, plain(name), some, kind, length)
    return _Column(name, plain(name), values, "none", 0.0)


_TYPES: tuple[tuple[str, type | tuple[type, ...]], ...] = (
    ("bool", bool),
    ("text", str),
    ("number", (int, float)),
    ("list", list),
    ("object", dict),
)


# --- what cannot be learned from


def _declined(columns: dict[str, _Column]) -> Guess | None:
    """Recognise what is no conversation to learn from."""
    by = {column.plain: column for column in columns.values()}
    kinds = {name: column.kind for name, column in by.items()}
    answers = {"response", "completion", "answer", "output"} & set(by)
    if "inputids" in by:
        return Guess("tokenized", {}, 0.95, "names")
    for good, bad in names().preferences:
        if good in by and bad in by:
            left = {name: column for name, column in columns.items() if column.plain != bad}
            return Guess("preference", {}, 0.95, "names", instead=_better(left, by[good]))
    if _compares(by):
        return Guess("preference", {}, 0.85, "names")
    if kinds.get("completions") == "list" and kinds.get("labels") == "list":
        return Guess("prm", {}, 0.95, "names")
    if "ktotag" in by or (kinds.get("label") == "bool" and (answers or "messages" in by)):
        return Guess("unpaired", {}, 0.9, "names")
    if kinds.get("reward") == "number" and (answers or "text" in by):
        return Guess("reward", {}, 0.8, "names")
    return None


def _compares(by: dict[str, _Column]) -> bool:
    """Return whether rows hold two answers, a and b, and say which is the better one."""
    stems = {name[:-1] for name in by if name[-1:] == "a" and by.get(f"{name[:-1]}b")}
    alike = any(by[f"{stem}a"].kind == by[f"{stem}b"].kind in ("turns", "text") for stem in stems)
    return alike and bool(names().verdicts & set(by))


def _better(columns: dict[str, _Column], good: _Column) -> Mapping | None:
    """Return how the better answer of two can be learned from as it is."""
    if good.kind == "turns":
        talk = _turns({good.name: good}, ask=False)
        shape = talk.format if talk else ""
        if shape and any(_speaks(turns, shape, "user") for turns in good.values):
            return Mapping(shape, {"messages": good.name})
    asking = {name: column for name, column in columns.items() if column is not good}
    prompt = _named(asking, "user", set()) or next((c for c in asking.values() if _is_prompt(c)), None)
    if good.kind == "text" and not prompt and any(looks_rendered(text) for text in good.values[:25]):
        return Mapping("rendered", {"messages": good.name})
    if not prompt or good.kind not in ("text", "turns", "object"):
        return None
    if prompt.kind != "text" or good.kind != "text":
        return Mapping("prompt_completion", {"user": prompt.name, "assistant": good.name})
    found = {"user": prompt.name, "assistant": good.name}
    for role in ("system", "input"):
        if column := _named(asking, role, set(found.values())):
            found[role] = column.name
    return Mapping(_flat_name(found), _ordered(found))


def _is_prompt(column: _Column) -> bool:
    """Return whether a field holds what was said before an answer, as turns."""
    if column.kind == "object":
        return any(isinstance(value.get("messages"), list) for value in column.values)
    return column.kind == "turns" and bool(_turn_shape(column.values))


# --- tools


def _tools(columns: dict[str, _Column]) -> Guess | None:
    """Recognise rows that teach the calling of tools."""
    listing = next(
        (c for c in columns.values() if c.plain in names().fields["tools"] and _is_listing(c)), None
    )
    system = _named(columns, "system", set())
    for column in columns.values():
        if column.kind == "text" and any(is_glaive(text) for text in column.values[:25]):
            fields = {"messages": column.name, "system": system.name if system else ""}
            return Guess("glaive", _ordered(fields), 0.95, "content")
    for column in _talks(columns):
        shape = _turn_shape(column.values)
        if shape in names().turns and (listing or any(_uses_tools(talk, shape) for talk in column.values)):
            fields = {
                "messages": column.name,
                "system": system.name if system else "",
                "tools": listing.name if listing else "",
            }
            return Guess("tools", _ordered(fields), 0.95, "turns")
    calls = next((c for c in columns.values() if any(_is_calls(value) for value in c.values[:25])), None)
    user = _named(columns, "user", {calls.name} if calls else set())
    if listing and calls and user:
        fields = {"user": user.name, "assistant": calls.name, "tools": listing.name}
        return Guess("xlam", _ordered(fields), 0.95, "names")
    return None


def _is_listing(column: _Column) -> bool:
    """Return whether a field lists tools in some row."""
    opened = (unpacked(value) for value in column.values)
    return any(isinstance(one, list) and one and isinstance(one[0], (dict, str)) for one in opened)


def _is_calls(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.lstrip()[:1] == "[" and '"arguments"' in value else None
        except (ValueError, RecursionError):
            return False
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(one, dict) and {"name", "arguments"} <= set(one) for one in value)


def _uses_tools(talk: Any, shape: str) -> bool:
    return _speaks(talk, shape, "tool") or any(
        isinstance(turn, dict) and turn.get("tool_calls") for turn in talk
    )


# --- turns


def _talks(columns: dict[str, _Column]) -> list[_Column]:
    """Return the fields that hold lists of turns, the likeliest name first."""
    talks = [column for column in columns.values() if column.kind == "turns"]
    return sorted(talks, key=lambda column: _exact("messages", column.plain))


def _turns(columns: dict[str, _Column], ask: bool = True) -> Guess | None:
    """Recognise lists of turns by the keys of their turns; `ask`: whether an answer must be among them."""
    prompt, completion = (
        next((c for c in columns.values() if c.plain == name), None) for name in ("prompt", "completion")
    )
    if prompt and completion and "turns" in (prompt.kind, completion.kind):
        fields = {"user": prompt.name, "assistant": completion.name}
        return Guess("prompt_completion", fields, 0.95, "turns")
    for column in _talks(columns):
        shape = _turn_shape(column.values)
        if not shape:
            continue
        strange, unknown = _strangers(column.values, shape) if shape != "pairs" else (False, {})
        answered = shape == "pairs" or any(_speaks(talk, shape, "assistant") for talk in column.values)
        if ask and not answered and not strange:
            if answer := _named(columns, "assistant", set()):
                fields = {"user": column.name, "assistant": answer.name}
                if thoughts := _named(columns, "reasoning", {answer.name}):
                    fields["reasoning"] = thoughts.name
                return Guess("prompt_completion", fields, 0.9, "turns")
            return Guess("prompt_only", {}, 0.9, "turns")
        fields = {"messages": column.name}
        if system := _named(columns, "system", set()):
            fields["system"] = system.name
        sure = 0.98 if _exact("messages", column.plain) < _UNKNOWN else 0.85
        return Guess(shape, fields, min(sure, 0.6) if strange else sure, "turns", unknown)
    return _texts_in_turn(columns)


def _texts_in_turn(columns: dict[str, _Column]) -> Guess | None:
    """Recognise ["question", "answer", …] and [["question", "answer"], …] under a name for conversations."""
    for column in columns.values():
        if _exact("messages", column.plain) == _UNKNOWN:
            continue
        lists = [one for one in map(unpacked, column.values) if isinstance(one, list) and one]
        both = [one for one in lists if len(one) > 1 and all(isinstance(text, str) for text in one)]
        sides = [one for one in lists if all(isinstance(pair, list) and len(pair) == 2 for pair in one)]
        if lists and 2 * max(len(both), len(sides)) > len(column.values):
            return Guess("pairs", {"messages": column.name}, 0.8, "turns")
    return None


def _turn_shape(talks: Sequence[Any]) -> str:
    keys = {key for talk in talks for turn in talk if isinstance(turn, dict) for key in turn}
    for shape, (who, contents) in names().turns.items():
        if who in keys and any(content in keys for content in contents):
            return shape
    if any(side in keys and other in keys for side, other in names().pairs):
        return "pairs"
    return ""


def _speakers(talk: Any, shape: str) -> list[str]:
    who = names().turns[shape][0]
    return [str(turn.get(who)) for turn in talk if isinstance(turn, dict)]


def _speaks(talk: Any, shape: str, role: str) -> bool:
    return any(names().roles.get(plain(speaker)) == role for speaker in _speakers(talk, shape))


def _strangers(talks: Sequence[Any], shape: str) -> tuple[bool, dict[str, str]]:
    """Return whether nobody knows some speakers, and who they seem to be: of two, the first one asks."""
    said = [speaker for talk in talks for speaker in _speakers(talk, shape)]
    known = {speaker: names().roles.get(plain(speaker)) for speaker in dict.fromkeys(said)}
    two = [speaker for speaker, role in known.items() if role != "system"]
    strange = not all(known.values())
    if len(two) != 2 or not strange or "tool" in known.values():
        return strange, {}
    free = [role for role in ("user", "assistant") if role not in known.values()]
    return True, dict(zip([speaker for speaker in two if not known[speaker]], free, strict=True))


# --- fields of text


def _flat(columns: dict[str, _Column]) -> Guess:
    """Recognise fields of text, by name and then by what they hold."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    weak = False
    for role in ("reasoning", "system", "history", "assistant", "user", "input"):
        column = _named(columns, role, taken)
        if column:
            found[role] = column.name
            taken.add(column.name)
            weak = weak or (role in ("user", "assistant") and _rank(role, column) >= _PARTLY)
    if "user" not in found and "assistant" in found and "input" in found:
        found["user"] = found.pop("input")  # an article and its summary
    words = [c for c in columns.values() if c.name not in taken and _is_words(c)]
    if "user" in found and "assistant" in found:
        return Guess(_flat_name(found), _ordered(found), 0.85 if weak else 0.95, "names")
    if one := _rendered(columns):
        return Guess("rendered", {"messages": one.name}, 0.9, "content")
    if "user" in found and "assistant" not in found:
        words = [column for column in words if not _is_caption(column, columns[found["user"]])]
    if "user" not in found and not words[1 - ("assistant" in found) :]:
        words = _titled(columns, taken, words, "assistant" in found)
    if not words:
        return _lonely(columns, found)
    if "assistant" in found or "user" in found:
        one = _likely_user(words) if "assistant" in found else max(words, key=lambda c: c.length)
        found["user" if "assistant" in found else "assistant"] = one.name
        return Guess(_flat_name(found), _ordered(found), 0.7, "names_and_content")
    if len(words) == 1:
        return _lonely(columns, found)
    user, answer = _likely_pair(words)
    found |= {"user": user.name, "assistant": answer.name}
    return Guess(_flat_name(found), _ordered(found), 0.4, "content")


def _rendered(columns: dict[str, _Column]) -> _Column | None:
    """Return the field that holds whole conversations in one text."""
    for column in columns.values():
        texts = column.values[:25] if column.kind == "text" else []
        if texts and 2 * sum(map(looks_rendered, texts)) > len(texts):
            return column
    return None


def _titled(
    columns: dict[str, _Column], taken: set[str], words: list[_Column], answered: bool
) -> list[_Column]:
    """Add a title to what may be words, where there is something to write under it."""
    for column in columns.values():
        last = tokens(column.name)[-1:]
        is_title = column.plain in names().titles or (last and last[0] in names().titles)
        if not is_title or column.name in taken or not _is_words(column, named=True):
            continue
        if answered or (words and words[0].plain not in names().running):
            return [column, *words]
    return words


def _is_caption(column: _Column, question: _Column) -> bool:
    """Return whether a field only says in a word or two what another one holds at length."""
    return column.length < _CAPTION and 3 * column.length < question.length


_CAPTION = 40


def _lonely(columns: dict[str, _Column], found: dict[str, str]) -> Guess:
    """Say what rows are that hold only one text."""
    if "user" in found:
        answered = any(_exact("assistant", c.plain) < _UNKNOWN for c in columns.values())
        return Guess() if answered else Guess("prompt_only", {}, 0.7, "names")
    if any(_is_speaker(column) for column in columns.values()):
        return Guess()  # one turn a row: the conversation is not in one piece
    running = [c for c in columns.values() if c.kind == "text" and (_is_words(c) or c.plain == "text")]
    if running and max(c.length for c in running) > 0:
        return Guess("text", {}, 0.8 if any(c.plain == "text" for c in running) else 0.6, "names")
    return Guess()


def _is_speaker(column: _Column) -> bool:
    """Return whether a field says who speaks."""
    if column.plain not in ("role", "from", "speaker", "sender") or column.kind != "text":
        return False
    return all(plain(value) in names().roles for value in column.values)


def _flat_name(found: dict[str, str]) -> str:
    user, answer = plain(found["user"]), plain(found["assistant"])
    if user in names().instruction:
        return "alpaca"
    if "reasoning" in found:
        return "reasoning"
    return "prompt_completion" if (user, answer) == ("prompt", "completion") else "qa"


def _ordered(found: dict[str, str]) -> dict[str, str]:
    return {role: found[role] for role in ROLES if found.get(role)}


# --- names


def _named(columns: dict[str, _Column], role: str, taken: set[str]) -> _Column | None:
    """Return the field whose name fits a role best, if it holds what that role needs."""
    kinds = ("list", "none") if role == "history" else ("text", "number")
    fitting = [
        column
        for column in columns.values()
        if column.kind in kinds and column.name not in taken and _rank(role, column) < _UNKNOWN
    ]
    return min(fitting, key=lambda column: _rank(role, column), default=None)


def _exact(role: str, name: str) -> int:
    return names().fields[role].get(name, _UNKNOWN)


def _rank(role: str, column: _Column) -> int:
    """Return how well a field's name fits a role, 0 being best: the name itself, its end, its beginning."""
    if (exact := _exact(role, column.plain)) < _UNKNOWN:
        return exact
    if role in ("history", "messages") or _is_other(column):
        return _UNKNOWN
    end = _ending(column.name)
    if _exact(role, end) < _UNKNOWN:
        fits = column.kind == "text" and not _is_code(column, numbers=role != "assistant")
        return _PARTLY + _exact(role, end) if fits else _UNKNOWN
    speaker = names().roles.get(end) or names().roles.get(next(iter(tokens(column.name)), ""))
    if not end or speaker == names().roles.get(end):
        if speaker == role and role in ("user", "assistant") and _is_words(column, named=True):
            return _SPEAKER
        begin = tokens(column.name)[0] if tokens(column.name) else ""
        if role == "user" and not end and _exact(role, begin) < _UNKNOWN and _is_words(column):
            return _BEGIN
    return _UNKNOWN


_PARTLY, _SPEAKER, _BEGIN, _UNKNOWN = 500, 700, 800, 1000


def _ending(name: str) -> str:
    """Return the longest known name that a name ends in, "" if there is none."""
    parts = tokens(name)
    while len(parts) > 1 and parts[-1] in names().filling:
        parts = parts[:-1]
    for begin in range(len(parts)):
        if _is_known(end := "".join(parts[begin:])):
            return end
    last = parts[-1] if parts else ""
    wide = [at for at, letter in enumerate(last) if letter >= "\u2e80"]  # written without spaces
    return next((last[at:] for at in wide if len(last) - at > 1 and _is_known(last[at:])), "")


def _is_known(name: str) -> bool:
    known = names()
    return name in known.other or name in known.roles or any(name in known.fields[r] for r in known.fields)


def _is_other(column: _Column) -> bool:
    known = names()
    if column.plain in known.other or column.plain.endswith(known.endings):
        return True
    return _exact_anywhere(column.plain) == _UNKNOWN and _ending(column.name) in known.other


def _exact_anywhere(name: str) -> int:
    return min(_exact(role, name) for role in names().fields)


# --- content


def _likely_pair(columns: list[_Column]) -> tuple[_Column, _Column]:
    """Return which of some fields asks and which answers.

    What asks is told by its question marks. The answer is the longest other field if it is so by far; of two
    that are not, the later one: tables are written in the order they are read in.
    """
    asking = [column for column in columns if _asks(column)]
    rest = [column for column in columns if column is not (asking[0] if asking else None)]
    longest = sorted(rest, key=lambda column: column.length)[-2:]
    clear = len(longest) == 1 or longest[1].length > _BY_FAR * longest[0].length
    answer = longest[-1] if clear else max(longest, key=columns.index)
    user = asking[0] if asking else _likely_user([column for column in columns if column is not answer])
    return user, answer


_BY_FAR = 3


def _likely_user(columns: list[_Column]) -> _Column:
    """Return the field that asks: by its question marks, then by its length."""
    return max(columns, key=lambda column: (_asks(column), column.length))


def _asks(column: _Column) -> bool:
    texts = column.values[:100]
    asking = [text for text in texts if text.rstrip().endswith(_QUESTION_MARKS)]
    return len(asking) > 0.3 * len(texts)


_QUESTION_MARKS = ("?", "\uff1f")


def _is_words(column: _Column, named: bool = False) -> bool:
    """Return whether a field may hold somebody's words: text, not a mark, a link, a code or a category.

    `named`: whether its name speaks for it, though it is one that otherwise speaks against it.
    """
    if column.kind != "text" or (_is_other(column) and not named):
        return False
    texts = column.values
    marks = sum(1 for text in texts if not text.strip() or _MARK.fullmatch(text.strip()))
    if 2 * marks > len(texts):
        return False
    return len(texts) < 5 or len(set(texts)) * 2 > len(texts) or column.length > 80


def _is_code(column: _Column, numbers: bool) -> bool:
    """Return whether a field holds dates, links, paths or hashes, or (`numbers`) plain numbers."""
    texts = [text.strip() for text in column.values]
    codes = sum(1 for text in texts if text and _CODE.fullmatch(text))
    if not numbers:
        codes -= sum(1 for text in texts if _NUMBER.fullmatch(text))
    return 2 * codes > len(texts)


# Something to tell rows apart or sort them by: a number, a date, a link, a path, a hash, a single word.
_CODE = re.compile(r"[\d\s.,:/_T+-]+|https?://\S+|[\w.-]*(?:/[\w.-]+)+|[0-9a-fA-F-]{8,}", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d[\d.,]{0,6}")
_MARK = re.compile(_CODE.pattern + r"|[\w-]+", re.ASCII)
