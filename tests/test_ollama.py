"""A chat template said to Ollama: the pieces are the template's own; what cannot be said is not guessed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from lib import ollama, practice
from lib.ollama import Turn
from lib.trainer.model import PLAIN_TEMPLATE

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# the shapes of real templates, shortened
QWEN = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}" + CHATML
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
# the system prompt goes into the first question
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set first = '' %}{% endif %}"
    "{% for m in messages %}{% set who = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + who + '\n' }}"
    "{{ (first if loop.first else '') + m['content'] + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
COUNTED = "{% for m in messages %}{{ loop.index }}: {{ m['content'] }}\n{% endfor %}"
# answers are cut as soon as another question follows
LAST = CHATML.replace("m['content']", "(m['content'] if loop.last or m['role'] == 'user' else 'cut')")
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TALKS: list[list[Turn]] = [
    [("user", 'Is "tea" {{ good }}?')],
    [("user", "one"), ("assistant", "two"), ("user", "three")],
    [("user", "\u8336"), ("assistant", "b\nc"), ("user", "d"), ("assistant", "e"), ("user", "f")],
]


def said_by_go(template: str, turns: list[Turn]) -> str:
    """Work a template off as Go does; of its language, what we write of it."""
    tokens = re.findall(r'\{\{ (?:"(?:[^"\\]|\\.)*"|[^"{}]*(?:"[a-z]+")?) \}\}|[^{]+', template)
    assert "".join(tokens) == template, "something we would have to understand first"
    system = next((content for role, content in turns if role == "system"), "")

    def run(at: int, turn: Turn | None, on: bool) -> tuple[str, int, str]:
        """Return what is written up to the end, else or range's end, where that is, and which it is."""
        text = ""
        while at < len(tokens):
            action = tokens[at].removeprefix("{{ ").removesuffix(" }}")
            at += 1
            if action == "end" or action.startswith("else"):
                return text, at, action
            if action.startswith("if"):
                held, taken = False, ""
                while action != "end":
                    now = on and not held and holds(action.removeprefix("else").strip(), turn)
                    piece, at, action = run(at, turn, now)
                    taken, held = (piece, True) if now else (taken, held)
                text += taken
            elif action == "range .Messages":
                start = at
                for one in turns:
                    piece, at, _ = run(start, one, on)
                    text += piece
            elif on:
                assert turn is not None or action != ".Content"
                text += {".System": system, ".Content": turn[1] if turn else ""}.get(action) or (
                    json.loads(action) if action.startswith('"') else ""
                )
        return text, at, "end"

    def holds(condition: str, turn: Turn | None) -> bool:
        if condition in ("", "if .System"):
            return condition == "" or bool(system)
        found = re.fullmatch(r'if eq \.Role "(\w+)"', condition)
        assert found, condition
        return turn is not None and turn[0] == found[1]

    return run(0, None, True)[0]


@pytest.mark.parametrize(
    ("template", "system"),
    [
        (CHATML, True),
        (QWEN, True),
        (LLAMA3, True),
        (MISTRAL, False),
        (PHI3, True),
        (GEMMA, True),
        (PLAIN_TEMPLATE, True),
    ],
    ids=["chatml", "qwen", "llama3", "mistral", "phi3", "gemma", "plain"],
)
def test_ollama_writes_what_the_template_writes(template: str, system: bool) -> None:
    render = ollama.renderer(template, SPECIAL)
    found = ollama.pieces(render, "<s>")
    assert found is not None
    assert bool(found.system) is system
    talks = [*TALKS, *([[("system", "Be kind."), *talk] for talk in TALKS] if system else [])]
    for talk in talks:
        wanted = render(talk, True).removeprefix("<s>")
        assert found.render(talk) == wanted
        assert said_by_go(found.go(), talk) == wanted


@pytest.mark.parametrize("template", [COUNTED, LAST, "{{ nothing.here }}", "{% broken", "always the same"])
def test_what_is_of_another_shape_is_not_guessed_at(template: str) -> None:
    assert ollama.pieces(ollama.renderer(template, SPECIAL), "<s>") is None


def test_the_pieces_are_cut_where_a_person_would_cut_them() -> None:
    found = ollama.pieces(ollama.renderer(QWEN, {}))
    start, end = "<|im_start|>", "<|im_end|>\n"
    assert found == ollama.Pieces(
        f"{start}system\nYou are helpful.{end}",
        (f"{start}system\n", end),
        (f"{start}user\n", end),
        (f"{start}assistant\n", end),
        f"{start}assistant\n",
    )


def tokenizer(folder: Path, template: str, **config: Any) -> Path:
    folder.mkdir()
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL | config), encoding="utf-8")
    return folder


def test_a_modelfile_says_what_ollama_needs(tmp_path: Path) -> None:
    made = ollama.modelfile(tokenizer(tmp_path / "a", CHATML), "Qwen2ForCausalLM", "Be kind.")
    assert made.translated and made.read
    lines = made.text.splitlines()
    assert "FROM ./merged" in lines
    assert 'SYSTEM """Be kind."""' in lines
    assert 'PARAMETER stop "</s>"' in lines
    assert any(line.startswith('TEMPLATE """{{ if .System }}') for line in lines)


def test_a_modelfile_admits_what_it_cannot_say(tmp_path: Path) -> None:
    made = ollama.modelfile(tokenizer(tmp_path / "a", COUNTED), "OddForCausalLM", "")
    assert not made.translated and not made.read
    assert "TEMPLATE" not in "\n".join(line for line in made.text.splitlines() if not line.startswith("#"))
    assert "FROM ./model.gguf" in made.text
    assert "convert_hf_to_gguf.py" in made.text
    # a system prompt that this template has no place for
    assert not ollama.modelfile(
        tokenizer(tmp_path / "b", MISTRAL), "MistralForCausalLM", "Be kind."
    ).translated
    assert ollama.modelfile(tokenizer(tmp_path / "c", MISTRAL), "MistralForCausalLM", "").translated
    assert not ollama.modelfile(tmp_path / "none", "Qwen2ForCausalLM", "").translated
    quoted = ollama.modelfile(tokenizer(tmp_path / "d", CHATML), "Qwen2ForCausalLM", 'Say """ often.')
    assert not quoted.translated and "SYSTEM" not in quoted.text


def test_the_practice_models_template_can_be_said() -> None:
    assert ollama.modelfile(practice.folder(), "Qwen2ForCausalLM", "Be kind.").translated
