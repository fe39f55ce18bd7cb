"""What the model sees: one row with the learned words marked, the same as a run learns from."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lib import seen
from lib.errors import ModelError
from lib.trainer import data
from tests.test_pages import app, converted, me, visit
from tests.tiny import LEARNED, ROOT, TURNS, UNMARKED, write


def test_the_pieces_are_the_whole_text_and_the_marked_ones_what_is_learned(tokenizer: Any) -> None:
    found = data.seen(tokenizer, TURNS, 4096)
    assert "".join(text for text, _ in found.pieces) == data.render(tokenizer, TURNS)
    assert [text for text, learned in found.pieces if learned] == LEARNED
    ids, labels = data.encode(tokenizer, TURNS)
    assert (found.tokens, found.learned) == (len(ids), sum(label != -100 for label in labels))
    assert found.lost == ""
    tokenizer.chat_template = UNMARKED
    assert data.seen(tokenizer, TURNS, 4096) == found


@pytest.mark.parametrize("most", [1, 9, 20, 40])
def test_what_is_cut_is_lost_and_nothing_else(tokenizer: Any, most: int) -> None:
    text, (ids, labels) = data.render(tokenizer, TURNS), data.encode(tokenizer, TURNS)
    found = data.seen(tokenizer, TURNS, most)
    assert "".join(piece for piece, _ in found.pieces) + found.lost == text
    assert found.tokens == len(ids)
    assert found.learned == sum(label != -100 for label in labels[:most])
    whole = data.seen(tokenizer, TURNS, most, leave_out=True)
    assert (whole.pieces, whole.lost, whole.learned) == ([], text, 0)


def test_one_row_of_a_file_is_asked_of_another_process(tmp_path: Path, tiny: Path) -> None:
    file = tmp_path / "train.jsonl"
    write(file, [TURNS[3:], TURNS])
    found, own = seen.look(tiny, file, 2, 4096)
    assert own
    assert [text for text, learned in found.pieces if learned] == LEARNED
    first, _ = seen.look(tiny, file, 1, 4096)
    assert [text for text, learned in first.pieces if learned] == LEARNED[1:]
    with pytest.raises(ModelError) as caught:
        seen.look(tiny, file, 3, 4096)
    assert (caught.value.key, caught.value.facts["row"]) == ("trainer.no_such_row", 3)
    with pytest.raises(ModelError) as caught:
        seen.look(tmp_path / "nowhere", file, 1, 4096)
    assert caught.value.key == "trainer.no_folder"


def test_the_app_asks_without_importing_what_the_other_process_needs() -> None:
    script = (
        "import sys; from lib import seen; from lib.ui import seeing;"
        " sys.exit(bool({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_the_command_line_shows_a_row(any_conversion: Callable[[], Path]) -> None:
    command = [sys.executable, "-m", "lib", "see", "--data", str(any_conversion()), "--row", "2"]
    told = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, check=True).stdout
    found = json.loads(told)
    assert found["own_template"] is True
    assert found["pieces"][-2][0].startswith("The leaves show")
    assert [learned for _, learned in found["pieces"]] == [False, True, False]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    assert f"\u00bb{found['pieces'][1][0]}\u00ab" in text


def test_the_settings_page_marks_what_is_learned_once_asked() -> None:
    name = converted()
    at = app()
    me(at).conversion = name
    at = visit(at, "settings")
    assert "<pre" not in drawn(at), "nothing is loaded before somebody asks"
    at.toggle(key="sees_show").set_value(True).run(timeout=60)
    assert not at.exception
    assert not at.error
    first = drawn(at)
    assert first.count("<mark>") == 1
    assert "&lt;|im_end|&gt;</mark>" in first
    at.number_input(key="sees_row").set_value(2).run(timeout=60)
    assert drawn(at) != first


def drawn(at: Any) -> str:
    return "".join(element.proto.body for element in at.get("html"))
