"""The first lines of a card: what people write in README.md, and what a server may give instead."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lib import hub
from lib.hub.card import FIRST, MOST, plain
from tests.fakehub import FakeHub

REF = hub.Ref("Conard/fortune-telling")
SECRET = "hf_SECRETsecretSECRET"
FRONT = "---\nlicense: cc0-1.0\ntags:\n- tea\n---\n"
CHINESE = "\u8fd9\u662f\u4e00\u4e2a\u7b97\u547d\u6570\u636e\u96c6\u3002"


@pytest.fixture
def fake() -> Iterator[FakeHub]:
    with FakeHub() as server:
        yield server


def with_card(fake: FakeHub, readme: bytes) -> hub.Listing:
    fake.add_repo(REF.repo, {"README.md": readme, "a.json": b"[]"})
    listing = hub.list_files(REF, fake.url)
    fake.log.clear()
    return listing


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("", ""),
        ("Tea.", "Tea."),
        (f"{FRONT}\n# Tea leaves\n\n\nThey speak.\r\nAlways.", "Tea leaves\n\nThey speak.\nAlways."),
        (f"\ufeff{FRONT}Tea.", "Tea."),
        ("---\nlicense: mit\n", ""),  # cut in the middle of the front matter
        ("---\na: b\n---", ""),
        ("Heading\n=======\ntext\n\nLower\n---\nmore", "Heading\ntext\n\nLower\nmore"),
        ("one\n\n* * *\n\ntwo", "one\n\ntwo"),
        ("## Two ##\n###No heading\n", "Two\n###No heading"),
        ("[![badge](https://x/y.svg)](https://z) ![](a.png)\nTea", "Tea"),
        (
            '<p align="center">\n  <img src="x.png" width=400>\n</p>\n<h1>Tea &amp; leaves</h1>\nread',
            "Tea & leaves\n\nread",
        ),
        ("<!-- a comment\nover lines -->Tea<!-- never closed", "Tea"),
        ("<style>p{}</style>Tea<script>alert(1)</script>", "Tea"),
        ("See [the paper](https://x.y/a_(b)) and [code][1].\n\n[1]: https://z", "See the paper and code."),
        ("<https://a.b/c_d> or https://e.f", "https://a.b/c_d or https://e.f"),
        (
            "**bold**, *slanted*, __too__, _and_ ~~gone~~ `code` snake_case_name 2 * 3 * 4",
            "bold, slanted, too, and gone code snake_case_name 2 * 3 * 4",
        ),
        ("- one\n* two\n+ [x] three\n1. four", "- one\n- two\n- three\n1. four"),
        ("> [!NOTE]\n> Take care.", "Take care."),
        ("Before\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nAfter", "Before\n\nAfter"),
        ("a | b\n--- | ---\n\nAfter", "After"),
        ("Run:\n```python\nload_dataset('x')\n```\n~~~\n# no heading\n~~~\nDone", "Run:\nDone"),
        (
            "## Table of Contents\n- [Uses](#uses)\n- [More](#more)\n\n[More Information Needed]\n\nReal",
            "Real",
        ),
        ("1 < 2 and a<b\n\nx > y", "1 < 2 and a<b\n\nx > y"),
        (
            f"# \u6570\u636e\n\n{CHINESE}\u8bf7\u770b[\u8fd9\u91cc](http://x)",
            f"\u6570\u636e\n\n{CHINESE}\u8bf7\u770b\u8fd9\u91cc",
        ),
        ("a\u202eb\x07c\u200bd", "abcd"),
    ],
)
def test_a_card_is_read_as_plain_text(markdown: str, text: str) -> None:
    assert plain(markdown) == text


def test_a_long_card_ends_with_a_sentence_or_a_line() -> None:
    english = plain("The leaves speak of rain. " * 100)
    assert english.endswith("of rain.")
    assert 300 <= len(english) <= 600
    chinese = plain(CHINESE * 100)
    assert chinese.endswith("\u3002")
    assert 500 <= len(chinese) <= 600
    lines = plain("- a leaf of tea\n" * 100)
    assert lines.endswith("- a leaf of tea")
    words = plain("leaf " * 500)
    assert words.endswith("leaf\u2026")
    assert len(plain("x" * 5000)) == 600


@pytest.mark.parametrize(
    "piece",
    [
        "<!--",
        "<script>",
        "<a",
        "[",
        "![",
        "[a](",
        "*a",
        "_a ",
        "`",
        "|-",
        "> ",
        "~~",
        "---\n",
        "[x]: a",
        "&#",
        "<",
        " ",
        "\t",
        "| ",
        " #",
        "\\",
        "- ",
        "=",
        "1.",
        "[more",
    ],
)
def test_a_card_that_was_made_to_take_long_does_not(piece: str) -> None:
    began = time.process_time()
    plain(piece * (MOST // len(piece)))
    assert time.process_time() - began < 1


def test_the_card_comes_at_its_commit_by_one_small_request(fake: FakeHub) -> None:
    listing = with_card(fake, f"{FRONT}# Tea\n\nThe leaves speak.".encode())
    with_newer = fake.add_repo(REF.repo, {"README.md": b"# Coffee\n"})
    assert hub.card(listing) == "Tea\n\nThe leaves speak."
    assert with_newer != listing.commit
    (seen,) = fake.asked("/resolve/")
    assert listing.commit in seen.path
    assert seen.headers["range"].startswith("bytes=0-")


def test_a_large_card_is_not_read_to_its_end(fake: FakeHub) -> None:
    listing = with_card(fake, b"# Tea\n\n" + b"The leaves speak of rain.\n" * 400_000)
    fake.fault("", "no_range", times=None)
    assert hub.card(listing).startswith("Tea\n\nThe leaves speak of rain.")
    assert fake.sent() < 9_000_000  # the rest was never read


def test_a_long_front_matter_is_passed_over(fake: FakeHub) -> None:
    parts = "".join(f"- config_name: part_{n}\n  data_files: part_{n}/*.parquet\n" for n in range(900))
    assert len(parts) > 2 * FIRST
    listing = with_card(fake, f"---\nconfigs:\n{parts}---\n# Tea\n".encode())
    assert hub.card(listing) == "Tea"


@pytest.mark.parametrize(
    ("readme", "text"),
    [
        ("\u7b97\u547d\u6570\u636e\u96c6".encode("gb18030"), "\u7b97\u547d\u6570\u636e\u96c6"),
        ("Tea \u8336".encode("utf-16"), "Tea \u8336"),
        (b"\xef\xbb\xbfTea", "Tea"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(500), ""),
        (b"Tea \xff\xff\xff", ""),
        (("a" + CHINESE * 3000).encode()[:FIRST], "a" + CHINESE),  # cut within a character
    ],
)
def test_a_card_in_another_encoding_is_read_or_left(fake: FakeHub, readme: bytes, text: str) -> None:
    found = hub.card(with_card(fake, readme))
    assert found.startswith(text) if text else found == ""


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html"},
        {"kind": "drop"},
        {"kind": "status", "status": 404},
        {"kind": "status", "status": 500},
        {"kind": "away", "to": "http://["},
        {"kind": "silent"},
        {"kind": "reset", "at": 3},
    ],
)
def test_a_card_that_does_not_come_is_no_reason_to_fail(
    fake: FakeHub, fault: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    listing = with_card(fake, b"# Tea\n")
    caplog.set_level(logging.INFO)
    fake.fault("README.md", times=None, **fault)
    began = time.monotonic()
    assert hub.card(listing, timeout=0.5) == ""
    assert time.monotonic() - began < 0.9
    assert not caplog.records


def test_a_repository_without_a_card_is_not_asked_for_one(fake: FakeHub) -> None:
    fake.add_repo(REF.repo, {"a.json": b"[]", "README.md": b""})
    listing = hub.list_files(REF, fake.url)
    fake.log.clear()
    assert hub.card(listing) == ""
    assert not fake.log


def test_the_card_of_a_gated_dataset_needs_the_token_the_visitor_lets_go(fake: FakeHub) -> None:
    fake.tokens.add(SECRET)
    fake.add_repo(REF.repo, {"README.md": b"# Tea\n", "a.json": b"[]"}, gated=True)
    listing = hub.list_files(REF, fake.url, token=SECRET, anywhere=True)
    fake.log.clear()
    assert hub.card(listing, token=SECRET) == ""
    assert not any("authorization" in seen.headers for seen in fake.log)
    assert hub.card(listing, token=SECRET, anywhere=True) == "Tea"
    assert hub.card(listing, token="no token", anywhere=True) == ""
