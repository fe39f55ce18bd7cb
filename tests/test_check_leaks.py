"""Leaks: questions that stand, the same or nearly, on both sides of a split."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import check
from lib.check import leaks

TARGET = check.targets()["siliconflow"]
ASKED = "\u600e\u6837\u624d\u80fd\u8ba9\u6a21\u578b\u5b66\u4f1a"
ASKED += "\u7528\u6211\u5bb6\u4e61\u7684\u65b9\u8a00\u8bb2\u6545\u4e8b\u5462"


def put(path: Path, questions: list[str], system: str = "") -> Path:
    with path.open("w", encoding="utf-8") as file:
        for question in questions:
            turns = [{"role": "system", "content": system}] if system else []
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": "yes"}]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def found(folder: Path, train: list[str], validation: list[str]) -> list[tuple[int, str, str]]:
    files = put(folder / "train.jsonl", train, "be kind"), put(folder / "validation.jsonl", validation)
    return [(one.line, one.rule, one.value) for one in check.check_split(*files, TARGET)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How are you?", "how  are you"),
        ("Hello, World!", "hello world"),
        ("\uff28\uff25\uff2c\uff2c\uff2f", "hello"),
        (f"{ASKED}\uff1f", f" {ASKED[:5]}\uff0c{ASKED[5:]}?"),
        ("Stra\u00dfe", "STRASSE"),
        ("cafe\u0301", "caf\u00e9"),
    ],
)
def test_questions_that_differ_in_dress_only_are_the_same(one: str, other: str) -> None:
    assert check.near(one) == check.near(other)
    assert len(check.near(one)) == 8


@pytest.mark.parametrize(
    ("one", "other"), [("3+5", "3-5"), ("35", "3*5"), ("C++", "C"), ("C#", "C"), ("...", "?"), ("a<b", "ab")]
)
def test_signs_one_calculates_with_make_a_difference(one: str, other: str) -> None:
    assert check.near(one) != check.near(other)


@settings(max_examples=500, deadline=None)
@given(
    st.text(
        alphabet=st.one_of(st.characters(), st.sampled_from("aZ1 -+_.,\uff0c\u3002\uff1f\u4f60\u00b7\u300c"))
    )
)
def test_the_short_ways_to_the_normal_form_lead_to_the_same(text: str) -> None:
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    left = "".join(
        char
        for char in folded
        if char in "#%&*-/@\\" or unicodedata.category(char)[0] not in "PZC" or "\ud800" <= char <= "\udfff"
    )
    assert leaks.normal(text) == (left or text.strip()).encode("utf-8", "surrogatepass")


def test_a_question_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    train = ["What is tea?", "Where is Oslo?", ASKED, "short"]
    validation = ["Who are you?", "what is  TEA", f"{ASKED}\uff01", "short!", "short!"]
    assert found(tmp_path, train, validation) == [
        (2, "leaked", "train.jsonl:1"),
        (3, "leaked", "train.jsonl:3"),
        (4, "leaked", "train.jsonl:4"),
        (5, "leaked", "train.jsonl:4"),
    ]


def test_a_question_that_is_nearly_the_same_is_told_of(tmp_path: Path) -> None:
    other = "\u4eca\u5929\u665a\u996d\u5403\u4ec0\u4e48\u597d"
    long = "Please tell me in a few words how the engine of an old steam train works, step by step, thank you"
    train = [other, long, ASKED]
    validation = [
        f"\u8bf7\u95ee{ASKED}\uff1f",
        long.replace("old", "older"),
        "Please tell me a joke",
        other[:5],
    ]
    assert found(tmp_path, train, validation) == [
        (1, "near_leak", "train.jsonl:3"),
        (2, "near_leak", "train.jsonl:2"),
    ]
    (one, _) = check.check_split(tmp_path / "train.jsonl", tmp_path / "validation.jsonl", TARGET)
    assert (one.fix, one.file, one.row, one.severity) == ("drop_leaked", "validation.jsonl", 1, "warning")


def fours(text: str) -> set[str]:
    plain = leaks.normal(text).decode()
    return {plain[place : place + 4] for place in range(len(plain) - 3)}


@pytest.mark.parametrize("seed", range(5))
def test_the_index_finds_what_comparing_every_pair_finds(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    words = [f"w{n}" for n in range(40)]
    validation = [" ".join(draw.choices(words, k=draw.randint(3, 30))) for _ in range(60)]
    train = [" ".join(draw.choices(words, k=draw.randint(3, 30))) for _ in range(100)]
    for question in draw.sample(validation, 40):  # some words changed, added, taken out
        said = question.split()
        for _ in range(draw.randint(0, 3)):
            said[draw.randrange(len(said))] = draw.choice(words)
        train.append(" ".join(said + draw.choices(words, k=draw.randint(0, 2))))
    wanted = set()
    for line, question in enumerate(validation, 1):
        for other in train:
            one, two = fours(question), fours(other)
            same = leaks.normal(question) == leaks.normal(other)
            if same or (one and two and len(one & two) >= leaks.NEAR * len(one | two)):
                wanted.add(line)
    assert {line for line, _, _ in found(tmp_path, train, validation)} == wanted
    assert len(wanted) > 10


def test_how_many_were_compared_is_said_where_not_all_were(tmp_path: Path) -> None:
    questions = [f"{ASKED} {n} {n * n} {n**3}" for n in range(30)]
    train, kept = put(tmp_path / "train.jsonl", [ASKED]), put(tmp_path / "validation.jsonl", questions)
    seen = leaks.leaks(train, kept, TARGET, most=10)
    assert (seen.compared, seen.questions) == (10, 30)
    assert leaks.leaks(train, kept, TARGET).compared == 30


def test_files_without_questions_leak_nothing(tmp_path: Path) -> None:
    empty = tmp_path / "validation.jsonl"
    empty.write_text('{"messages": []}\n{"messages": 5}\n[1]\n{oh\n', encoding="utf-8")
    assert check.check_split(put(tmp_path / "train.jsonl", ["x"]), empty, TARGET) == []
    assert check.check_split(empty, put(tmp_path / "train.jsonl", ["x"]), TARGET) == []
