"""Say a chat template to Ollama: a Modelfile for merged weights.

Ollama has a template language of its own (Go's). Nothing is looked up by a model's name: the model's template
is tried with marked words, what stands between the marks is taken over, and the outcome is compared with the
template's own on several conversations. Where the two differ, the template cannot be said this way, and the
Modelfile says so rather than guess.

Source: docs.ollama.com/modelfile and /import, convert/convert.go of ollama/ollama; read 2026-11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lib.workspace import read_json

# The kinds of model whose safetensors Ollama reads by itself; others must become GGUF first.
READ = {
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "MixtralForCausalLM",
    "GemmaForCausalLM",
    "Gemma2ForCausalLM",
    "Gemma3ForCausalLM",
    "Phi3ForCausalLM",
    "Qwen2ForCausalLM",
}

Turn = tuple[str, str]
Render = Callable[[Sequence[Turn], bool], str]

_SYSTEM, _ASKED, _SAID, _AGAIN = "xqSYSTEMqx", "xqASKEDqx", "xqSAIDqx", "xqAGAINqx"
_GENERATION = re.compile(r"\{%(-?)\s*(end)?generation\s*(-?)%\}")


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a chat template writes around the words. `otherwise`: in front where there is no system prompt.

    `system` is None where the template takes no system prompt.
    """

    otherwise: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    opening: str

    def render(self, turns: Sequence[Turn]) -> str:
        """Return a conversation that ends in a question, as the model reads it."""
        text = self.otherwise if turns[0][0] != "system" else ""
        for role, content in turns:
            before, after = {"system": self.system, "user": self.user}.get(role) or self.assistant
            text += before + content + after
        return text + self.opening

    def go(self) -> str:
        """Return the same as a template of Ollama's."""
        before = f"{{{{ else }}}}{_go(self.otherwise)}" if self.otherwise else ""
        system = ""
        if self.system:
            start, end = self.system
            system = f"{{{{ if .System }}}}{_go(start)}{{{{ .System }}}}{_go(end)}{before}{{{{ end }}}}"
        elif self.otherwise:
            system = _go(self.otherwise)
        user = _go(self.user[0]) + "{{ .Content }}" + _go(self.user[1])
        assistant = _go(self.assistant[0]) + "{{ .Content }}" + _go(self.assistant[1])
        return (
            f'{system}{{{{ range .Messages }}}}{{{{ if eq .Role "user" }}}}{user}'
            f'{{{{ else if eq .Role "assistant" }}}}{assistant}{{{{ end }}}}{{{{ end }}}}{_go(self.opening)}'
        )


@dataclass(frozen=True, slots=True)
class Modelfile:
    """A Modelfile. `translated`: the template is said in it. `read`: Ollama takes the weights as they are."""

    text: str
    translated: bool
    read: bool


def modelfile(tokenizer: Path, architecture: str, system: str) -> Modelfile:
    """Return the Modelfile for the weights in `./merged`.

    `tokenizer` is the folder with the tokenizer and its template; `architecture` as config.json names it.
    """
    found, end = None, ""
    template, special = template_of(tokenizer)
    if template:
        found = pieces(renderer(template, special), special.get("bos_token", ""))
        end = special.get("eos_token", "")
    read = architecture in READ
    lines = ["# Made by FirstTune. Beside the folder `merged`: ollama create my-model -f Modelfile"]
    if read:
        lines += ["FROM ./merged"]
    else:
        lines += [
            f"# Ollama does not read safetensors of the kind {architecture or 'unknown'}. Make a GGUF file",
            "# of them first, with llama.cpp: python convert_hf_to_gguf.py merged --outfile model.gguf",
            "FROM ./model.gguf",
        ]
    quotable = '"""' not in system
    if found and (found.system or not system) and quotable:
        lines.append(f'TEMPLATE """{found.go()}"""')
        translated = True
    else:
        lines += [
            "# The chat template of this model cannot be said in Ollama's words. Without the right one its",
            "# answers will be poor. Look for TEMPLATE in: ollama show --modelfile NAME_OF_THE_BASE_MODEL",
        ]
        translated = False
    if system and quotable:
        lines.append(f'SYSTEM """{system}"""')
    if end and '"' not in end:
        lines.append(f'PARAMETER stop "{end}"')
    return Modelfile("\n".join(lines) + "\n", translated, read)


def pieces(render: Render, begin: str = "") -> Pieces | None:
    """Return what a template writes around the words; None where it is not of that simple shape.

    `render` returns a conversation as the model reads it, with the opening of an answer if wished, and raises
    `TemplateError` for what the template refuses. `begin`, the first token, is left out: Ollama adds it.
    """
    asked, said, again = ("user", _ASKED), ("assistant", _SAID), ("user", _AGAIN)
    try:
        head, tail = _cut(render([asked], True), _ASKED)
        _, middle, last, _ = _cut(render([asked, said, again], True), _ASKED, _SAID, _AGAIN)
        closing = _cut(render([asked], False), _ASKED)[1]
        ending = _cut(render([asked, said], False), _SAID)[1]
        system = _system(render)
    except (TemplateError, ValueError, TypeError):
        return None
    begin = begin if head.startswith(begin) else ""
    heads = [head, last, *([system[1]] if system else [])]
    # what stands before a question: what follows the end of an answer, if it stands before every question
    before = last.removeprefix(ending)
    if not all(one.endswith(before) for one in heads):
        before = _shared([one[::-1] for one in heads])[::-1]
    after = closing if middle.startswith(closing) and tail.startswith(closing) else _shared([middle, tail])
    found = Pieces(
        head.removesuffix(before).removeprefix(begin),
        (system[0].removeprefix(begin), system[1].removesuffix(before)) if system else None,
        (before, after),
        (middle.removeprefix(after), last.removesuffix(before)),
        tail.removeprefix(after),
    )
    talks: list[list[Turn]] = [[asked], [asked, said, again], [asked, said, again, said, asked]]
    if system:
        talks += [[("system", _SYSTEM), *talk] for talk in talks]
    try:
        same = all(begin + found.render(talk) == render(talk, True) for talk in talks)
    except (TemplateError, TypeError):
        return None
    return found if same else None


def _system(render: Render) -> tuple[str, str] | None:
    """Return what stands before a system prompt, and between it and the first question."""
    try:
        first, joint, _ = _cut(render([("system", _SYSTEM), ("user", _ASKED)], True), _SYSTEM, _ASKED)
    except (TemplateError, ValueError):
        return None  # refused, or left out
    return first, joint


def _cut(text: str, *marks: str) -> list[str]:
    """Return what stands before, between and behind marks that come in this order."""
    parts = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise ValueError(mark)
        parts.append(before)
    return [*parts, text]


def _shared(texts: Sequence[str]) -> str:
    """Return what texts begin with in common."""
    same = 0
    for letters in zip(*texts, strict=False):
        if len(set(letters)) > 1:
            break
        same += 1
    return texts[0][:same]


def _go(text: str) -> str:
    """Return text as an action of a Go template: no blank of it is lost, no brace taken amiss."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def template_of(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the chat template in a tokenizer's folder, or "", and its special tokens."""
    config: dict[str, Any] = read_json(folder / "tokenizer_config.json") or {}
    special = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        token = config.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            special[name] = token
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8"), special
    except FileNotFoundError:
        template = config.get("chat_template")
        return template if isinstance(template, str) else "", special


def renderer(template: str, special: dict[str, str]) -> Render:
    """Return what renders conversations as transformers does, which needs no torch for it either."""

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    def render(turns: Sequence[Turn], opening: bool) -> str:
        world = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        world.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
        world.globals["raise_exception"] = refuse
        world.globals["strftime_now"] = lambda shape: datetime.now().strftime(shape)
        # the marks of what is learned say nothing here
        plain = _GENERATION.sub(lambda m: f"{{%{m[1]} {'endif' if m[2] else 'if true'} {m[3]}%}}", template)
        messages = [{"role": role, "content": content} for role, content in turns]
        return world.from_string(plain).render(messages=messages, add_generation_prompt=opening, **special)

    return render
