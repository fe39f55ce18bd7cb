"""Turn conversations into tokens, and mark which of them are learned: the assistant's words, nothing else.

The whole conversation is rendered once with the model's own chat template. What is learned is then found in
one of two ways:

- The template says so itself (`{% generation %}` marks).
- Otherwise every assistant turn is found by rendering the conversation up to it, with the opening of an
  answer added, just as the model will be prompted later. That must be a beginning of the whole; what follows,
  up to the end of the turn, is what the model must learn to write, its end token included. Where a template
  rewrites what went before, so that this cannot be shown, the run is refused rather than guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from jinja2.exceptions import TemplateError

from lib.errors import ModelError

Messages = list[dict[str, str]]
Span = tuple[int, int]

LOOK_EVERY = 32  # rows between two looks at whether somebody asked to stop
_MARKED = re.compile(r"\{%-?\s*generation\b")


@dataclass(slots=True)
class Rows:
    """Tokenised rows. `labels` are the tokens that are learned, and -100 where nothing is.

    `too_long`: rows longer than the maximum length. Of those, `cut` lost their end; the others, and the rows
    that have nothing to learn (any more), are `left_out`. `read` = `len(rows.input_ids)` + `left_out`.
    """

    input_ids: list[list[int]] = field(default_factory=list)
    labels: list[list[int]] = field(default_factory=list)
    read: int = 0
    too_long: int = 0
    cut: int = 0
    left_out: int = 0
    longest: int = 0

    @property
    def tokens(self) -> int:
        """Return the number of tokens of all rows, padding not counted."""
        return sum(map(len, self.input_ids))

    @property
    def learned(self) -> int:
        """Return the number of tokens that are learned."""
        return sum(label != -100 for row in self.labels for label in row)


def read_rows(
    path: Path, tokenizer: Any, max_length: int, look: Callable[[int], None], *, leave_out: bool = False
) -> Rows:
    """Tokenise a chat JSONL file; `look` is called with the number of rows read every few rows.

    A row over `max_length` tokens loses its end, or with `leave_out` is left out whole.
    """
    rows = Rows()
    for messages in conversations(path):
        if rows.read % LOOK_EVERY == 0:
            look(rows.read)
        rows.read += 1
        ids, labels = encode(tokenizer, messages)
        rows.longest = max(rows.longest, len(ids))
        if len(ids) > max_length:
            rows.too_long += 1
            if leave_out:
                rows.left_out += 1
                continue
            rows.cut += 1
            ids, labels = ids[:max_length], labels[:max_length]
        if all(label == -100 for label in labels):
            rows.left_out += 1
            continue
        rows.input_ids.append(ids)
        rows.labels.append(labels)
    return rows


def conversations(path: Path) -> Iterator[Messages]:
    """Yield the messages of each line of a chat JSONL file; a line that is none raises `ModelError`."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                messages = orjson.loads(line)["messages"]
                messages = [{"role": str(m["role"]), "content": str(m["content"])} for m in messages]
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                raise ModelError("trainer.bad_line", file=path.name, line=number) from error
            if b'"tool' in line and _calls_tools(orjson.loads(line)):
                raise ModelError("trainer.tool_turn", file=path.name, line=number)
            yield messages


def _calls_tools(row: Any) -> bool:
    """Return whether a row holds calls of tools, which are not trained here: their words would be lost."""
    return any(turn["role"] == "tool" or turn.get("tool_calls") for turn in row["messages"])


def encode(tokenizer: Any, messages: Messages) -> tuple[list[int], list[int]]:
    """Return a conversation's token ids and labels, not cut."""
    _, ids, labels, _ = _encoded(tokenizer, messages)
    return ids, labels


@dataclass(frozen=True, slots=True)
class Seen:
    """One row as the model reads it.

    `pieces`: its text in order, each with whether it is learned; `lost`: the text past the maximum length,
    all of it where such rows are left out. `tokens` are counted before the cut, `learned` after it.
    """

    pieces: list[tuple[str, bool]]
    lost: str
    tokens: int
    learned: int


def seen(tokenizer: Any, messages: Messages, max_length: int, *, leave_out: bool = False) -> Seen:
    """Return what a model reads and learns of a conversation, from the very tokens and labels of a run."""
    text, ids, labels, places = _encoded(tokenizer, messages)
    kept = 0 if leave_out and len(ids) > max_length else min(len(ids), max_length)
    pieces: list[tuple[str, bool]] = []
    at = 0
    for label, (_, end) in zip(labels[:kept], places, strict=False):
        if end <= at:
            continue  # one more token of a character that is already there
        learned = label != -100
        if pieces and pieces[-1][1] == learned:
            pieces[-1] = (pieces[-1][0] + text[at:end], learned)
        else:
            pieces.append((text[at:end], learned))
        at = end
    return Seen(pieces, text[at:], len(ids), sum(label != -100 for label in labels[:kept]))


def _encoded(tokenizer: Any, messages: Messages) -> tuple[str, list[int], list[int], list[Span]]:
    """Return a conversation's text, its token ids, its labels, and the stretch of text of each token."""
    text, spans = learned_spans(tokenizer, messages)
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = list(coded["input_ids"])
    labels = [-100] * len(ids)
    stretches = iter(spans)
    span = next(stretches, None)
    for place, (start, end) in enumerate(coded["offset_mapping"]):
        while span and start >= span[1]:
            span = next(stretches, None)
        # nothing before the first token can predict it, so it is never learned
        if place and span and start < end and end > span[0]:
            labels[place] = ids[place]
    return text, ids, labels, coded["offset_mapping"]


def learned_spans(tokenizer: Any, messages: Messages) -> tuple[str, list[Span]]:
    """Return the rendered conversation and the stretches of it that are learned."""
    if _MARKED.search(str(tokenizer.chat_template)):
        return _marked_spans(tokenizer, messages)
    whole = render(tokenizer, messages)
    spans: list[Span] = []
    for number, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(tokenizer, messages[:number], opening=True)
        turn = render(tokenizer, messages[: number + 1])
        start = len(prompt)
        said = message["content"].strip()
        at = whole.find(said, start)
        at_turn = turn.rfind(said)
        if not (whole.startswith(prompt) and turn.startswith(prompt) and at >= start and at_turn >= start):
            raise ModelError("trainer.template_unclear", turn=number + 1)
        closing = turn[at_turn + len(said) :]
        closing = closing.rstrip() or closing  # the line break after an end token is the next turn's business
        end = at + len(said) + len(closing)
        if whole[at + len(said) : end] != closing or (spans and start < spans[-1][1]):
            raise ModelError("trainer.template_unclear", turn=number + 1)
        spans.append((start, end))
    return whole, spans


def render(tokenizer: Any, messages: Messages, *, opening: bool = False) -> str:
    """Return a conversation as the model reads it; `opening` adds the beginning of an answer."""
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opening)
    except TemplateError as error:
        raise ModelError("trainer.template_refused", message=str(error)[:300]) from error
    assert isinstance(text, str)
    return text


def _marked_spans(tokenizer: Any, messages: Messages) -> tuple[str, list[Span]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        texts, spans = render_jinja_template(
            conversations=[messages],
            chat_template=tokenizer.chat_template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    except TemplateError as error:
        raise ModelError("trainer.template_refused", message=str(error)[:300]) from error
    return texts[0], [(start, end) for start, end in spans[0]]
