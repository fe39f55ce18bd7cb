"""The rules of the house: who may import whom, where words live, what a page may hold."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import errors, words

ROOT = Path(__file__).resolve().parent.parent
CODE = sorted([ROOT / "app.py", *(ROOT / "pages").rglob("*.py"), *(ROOT / "lib").rglob("*.py")])
PAGES = sorted((ROOT / "pages").rglob("*.py"))
ALL = sorted([*CODE, *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")])
TRAINER_MAY = {"lib.trainer", "lib.jobfolder", "lib.errors", "lib.workspace", "lib.chat", "lib.practice"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name(path)}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield node


@pytest.mark.parametrize("path", CODE, ids=name)
def test_imports_go_one_way(path: Path) -> None:
    used, where = imports(path), name(path)
    heavy = {one for one in used if one.split(".")[0] in ("torch", "transformers", "trl", "peft", "datasets")}
    if not where.startswith(("lib/trainer/", "lib/practice/")):
        assert not heavy, "only the trainer's own processes import torch"
    if where.startswith("lib/") and not where.startswith("lib/ui/"):
        assert not any(one.split(".")[0] == "streamlit" for one in used), "only lib/ui knows Streamlit"
        assert not any(one.startswith("lib.ui") for one in used)
    assert not any(one.split(".")[0] in ("app", "pages") for one in used), "nothing imports a page"
    commands = [one.split(".") for one in used if one.split(".")[:2] == ["lib", "cli"]]
    if where.startswith("lib/cli/"):
        alone = all(one[2:3] == ["parts"] for one in commands)
        assert where == "lib/cli/__init__.py" or alone, "files of commands share lib/cli/parts.py alone"
    else:
        assert where == "lib/__main__.py" or not commands, "nothing imports a command"
        assert not any(one.split(".")[0] == "typer" for one in used), "only lib/cli knows typer"
    if where.startswith("lib/trainer/"):
        for one in used:
            if one.startswith("lib."):
                assert any(one == may or one.startswith(f"{may}.") for may in TRAINER_MAY), one


@pytest.mark.parametrize("path", CODE, ids=name)
def test_only_state_touches_session_state(path: Path) -> None:
    if name(path) != "lib/ui/state.py":
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert not any(isinstance(n, ast.Attribute) and n.attr == "session_state" for n in ast.walk(tree))


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_is_a_short_script_of_values(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 110
    tree = ast.parse(text)
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.walk(tree))
    assert not {"requests", "open", "os", "json"} & {one.split(".")[0] for one in imports(path)}
    for call in calls(path):
        assert not (isinstance(call.func, ast.Name) and call.func.id == "open"), "no file handling in a page"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_no_chinese_in_code(path: Path) -> None:
    found = re.findall(r"[\u3400-\u9fff\uff00-\uffef\u3000-\u303f]", path.read_text(encoding="utf-8"))
    assert not found, "words live in lib/text, language data in TOML or JSON"


@pytest.mark.parametrize("path", CODE, ids=name)
def test_every_literal_text_key_exists(path: Path) -> None:
    known = set(words.catalog("en")) | {key.removesuffix(".other") for key in words.catalog("en")}
    for call in calls(path):
        called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        if called not in ("t", "say"):
            continue
        for argument in call.args[: 2 if called == "say" else 1]:
            if (
                isinstance(argument, ast.Constant)
                and isinstance(argument.value, str)
                and "." in argument.value
            ):
                assert argument.value in known, f"line {call.lineno}: {argument.value}"


@pytest.mark.parametrize("path", CODE, ids=name)
def test_every_error_has_a_sentence(path: Path) -> None:
    kinds = {kind for kind in vars(errors) if kind.endswith("Error")}
    for call in calls(path):
        called = call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")
        if called in kinds and call.args and isinstance(call.args[0], ast.Constant):
            key = str(call.args[0].value)
            assert words.has(f"error.{key}"), f"line {call.lineno}: no sentence error.{key}"
            blanks = blanks_of(words.catalog("en")[f"error.{key}"])
            given = {keyword.arg for keyword in call.keywords}
            if None not in given:
                assert blanks <= given, f"line {call.lineno}: {key} wants {blanks - given}"


def blanks_of(sentence: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(sentence) if field}


@pytest.mark.parametrize("lang", [lang for lang in words.languages() if lang != "en"])
def test_languages_have_the_same_keys_and_blanks(lang: str) -> None:
    english, other = words.catalog("en"), words.catalog(lang)
    assert set(english) == set(other)
    for key, sentence in english.items():
        assert blanks_of(sentence) == blanks_of(other[key]), key
        assert other[key], key


def test_chinese_sentences_use_full_width_punctuation() -> None:
    for key, sentence in words.catalog("zh").items():
        half = re.findall(r"[\u4e00-\u9fff][,;?!]|[\u4e00-\u9fff]\.(?:\s|$)", sentence)
        assert not half, f"{key}: {half}"


def test_every_error_sentence_ends_in_what_to_do() -> None:
    for key, sentence in words.catalog("en").items():
        if key.startswith("error."):
            assert sentence.endswith((".", "?", "}")), key
            assert len(sentence.split()) >= 8, f"{key} is too short to say what to do next"


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.txt")), ids=name)
def test_every_dependency_has_a_bound_and_a_reason(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-r")):
            requirement, _, reason = line.partition("#")
            assert "<" in requirement or "==" in requirement, line
            assert len(reason.split()) >= 2, line


def test_no_module_is_a_drawer_for_anything() -> None:
    for path in CODE:
        assert path.stem not in ("utils", "helpers", "manager", "service", "common", "misc"), name(path)
