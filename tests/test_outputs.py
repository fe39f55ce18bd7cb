"""The other shapes of a conversion: real readers read them, and nothing is lost without a word."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from lib import outputs
from lib.errors import UsageError, WorkspaceError
from lib.outputs import OUTPUTS, Written

ROOT = Path(__file__).resolve().parent.parent
ODD = 'a "b" \\ \n\t\u0000\u007f\u2028\u4f60\U0001f600'


def says(role: str, content: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def talk(*contents: str, system: str = "") -> dict[str, Any]:
    turns = [says("assistant" if place % 2 else "user", what) for place, what in enumerate(contents)]
    return {"messages": [says("system", system), *turns] if system else turns}


def called(arguments: str = '{"city": "Oslo", "n": 12345678901234567890123}') -> dict[str, Any]:
    calls = [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": arguments}}]
    return {
        "messages": [
            says("user", "How is it in Oslo?"),
            says("assistant", "", tool_calls=calls),
            says("tool", '{"degrees": 3}', tool_call_id="1"),
            says("assistant", "Cold."),
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    }


PLAIN = [
    talk("hello", "hi"),
    talk(ODD, ODD, system="be kind"),
    talk("one", "1", "two", "2", "three", "3"),
    talk("bye", "see you"),
]


def put(folder: Path, train: list[Any], validation: list[Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("validation", validation or [])):
        text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_bytes(text.encode())
    return folder


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def load(tmp_path: Path, kind: str, **files: Path) -> Any:
    """Read files with the real `datasets`, which must not look elsewhere than at the files."""
    import datasets

    datasets.disable_progress_bars()
    named = {side: str(path) for side, path in files.items()}
    return datasets.load_dataset(kind, data_files=named, cache_dir=str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_alpaca_keeps_earlier_turns_as_history(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", PLAIN, [talk("v", "w")])
    written = outputs.write(folder, ["alpaca"])["alpaca"]
    files = (folder / "alpaca" / "train.jsonl", folder / "alpaca" / "validation.jsonl")
    assert written == Written(files, 5, {})
    rows = lines(files[0])
    assert rows[1] == {"instruction": ODD, "input": "", "output": ODD, "system": "be kind", "history": []}
    assert rows[2] == {
        "instruction": "three",
        "input": "",
        "output": "3",
        "system": "",
        "history": [["one", "1"], ["two", "2"]],
    }
    assert lines(files[1])[0]["output"] == "w"


def test_sharegpt_names_speakers_and_holds_calls_and_tools_as_text(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", [*PLAIN, called()])
    written = outputs.write(folder, ["sharegpt"])["sharegpt"]
    assert (written.rows, written.left_out) == (5, {})
    rows = lines(folder / "sharegpt" / "train.jsonl")
    assert rows[1] == {
        "conversations": [{"from": "human", "value": ODD}, {"from": "gpt", "value": ODD}],
        "system": "be kind",
        "tools": "",
    }
    turns = rows[4]["conversations"]
    assert [turn["from"] for turn in turns] == ["human", "function_call", "observation", "gpt"]
    call = {"name": "weather", "arguments": {"city": "Oslo", "n": 12345678901234567890123}}
    assert json.loads(turns[1]["value"]) == call
    assert turns[2]["value"] == '{"degrees": 3}'
    assert json.loads(rows[4]["tools"]) == called()["tools"]


def test_several_calls_at_once_are_a_list(tmp_path: Path) -> None:
    row = called()
    row["messages"][1]["tool_calls"] *= 2
    outputs.write(put(tmp_path / "out", [row]), ["sharegpt"])
    turns = lines(tmp_path / "out" / "sharegpt" / "train.jsonl")[0]["conversations"]
    assert [call["name"] for call in json.loads(turns[1]["value"])] == ["weather", "weather"]


def test_prompt_completion_parts_the_last_answer_from_the_rest(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", [*PLAIN, called()])
    outputs.write(folder, ["prompt_completion", "prompt_completion_text"])
    rows = lines(folder / "prompt_completion" / "train.jsonl")
    assert [len(row["prompt"]) for row in rows] == [1, 2, 5, 1, 3]
    for row, source in zip(rows, [*PLAIN, called()], strict=True):
        assert row["prompt"] + row["completion"] == source["messages"]
    assert json.loads(rows[4]["tools"]) == called()["tools"]
    text = lines(folder / "prompt_completion_text" / "train.jsonl")
    assert text == [{"prompt": "hello", "completion": "hi"}, {"prompt": "bye", "completion": "see you"}]


LEFT_OUT = [
    ("alpaca", called(), "tool_calls"),
    ("alpaca", {"messages": [says("user", "x"), says("assistant", "y")], "tools": [{}]}, "tool_calls"),
    ("alpaca", talk("x"), "unanswered"),
    ("alpaca", {"messages": [says("user", "x", name="Ann"), says("assistant", "y")]}, "other_fields"),
    (
        "alpaca",
        {"messages": [says("user", "x")] * 2 + [says("assistant", "z")]},
        "not_alternating",
    ),
    ("alpaca", {"messages": [says("assistant", "x")]}, "first_not_user"),
    ("alpaca", {"messages": [says("system", "x")]}, "first_not_user"),
    ("alpaca", {"messages": [says("user", "x"), says("system", "y")]}, "system_not_first"),
    ("prompt_completion_text", talk("x", "y", system="z"), "has_system"),
    ("prompt_completion_text", talk("x", "y", "x", "y"), "several_turns"),
    ("prompt_completion_text", called(), "tool_calls"),
    ("prompt_completion", talk("x", "y", "z"), "unanswered"),
    ("prompt_completion", {"messages": [says("assistant", "x")]}, "no_question"),
    ("sharegpt", talk("x", "y", "z"), "unanswered"),
    ("sharegpt", called("no JSON"), "bad_calls"),
    ("sharegpt", {"messages": [says("user", "x", name="Ann"), says("assistant", "y")]}, "other_fields"),
    ("parquet", {"messages": [says("user", "x", weight=1), says("assistant", "y")]}, "other_fields"),
    ("llamafactory", talk("x", "y", "z"), "unanswered"),
]


@pytest.mark.parametrize(("name", "row", "reason"), LEFT_OUT, ids=lambda value: str(value)[:30])
def test_a_row_a_shape_cannot_hold_is_counted_and_listed(
    name: str, row: Any, reason: str, tmp_path: Path
) -> None:
    folder = put(tmp_path / "out", [talk("a", "b"), row], [row])
    written = outputs.write(folder, [name])[name]
    assert (written.rows, written.left_out) == (1, {reason: 2})
    listed = folder / name / "left_out.jsonl"
    assert listed in written.files
    assert lines(listed) == [
        {"file": "train.jsonl", "line": 2, "reason": reason},
        {"file": "validation.jsonl", "line": 1, "reason": reason},
    ]


def test_words_beside_a_call_and_two_results_have_no_place_in_sharegpt(tmp_path: Path) -> None:
    words, results = called(), called()
    words["messages"][1]["content"] = "Let me look."
    results["messages"].insert(2, results["messages"][2])
    written = outputs.write(put(tmp_path / "out", [words, results, called()]), ["sharegpt"])["sharegpt"]
    assert (written.rows, written.left_out) == (1, {"words_and_calls": 1, "tool_results": 1})


def test_the_same_conversion_gives_the_same_bytes(tmp_path: Path) -> None:
    rows = [*PLAIN, called()] * 50
    for name in ("a", "b"):
        outputs.write(put(tmp_path / name, rows, PLAIN), list(OUTPUTS))
    contents = [
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in sorted((tmp_path / name).rglob("*"))
            if path.is_file()
        }
        for name in ("a", "b")
    ]
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2 + 5 * 2 + 2 + 1  # the sources, five shapes, two lists of left out, the info


def test_a_side_without_rows_has_no_file_and_an_old_one_goes(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", PLAIN, [talk("x", "y")])
    outputs.write(folder, ["alpaca", "parquet"])
    put(folder, [talk("x", "y")])
    found = outputs.write(folder, ["alpaca", "parquet", "messages", "llamafactory"])
    assert [path.name for path in (folder / "alpaca").iterdir()] == ["train.jsonl"]
    assert [path.name for path in (folder / "parquet").iterdir()] == ["train.parquet"]
    assert found["messages"] == Written((folder / "train.jsonl",), 1, {})
    assert list(json.loads((folder / "dataset_info.json").read_text())) == [
        "firsttune",
        "firsttune_alpaca",
        "firsttune_parquet",
    ]


def test_llama_factory_is_told_the_columns_that_are_there(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", PLAIN, [talk("v", "w")])
    outputs.write(folder, ["llamafactory"])
    info = json.loads((folder / "dataset_info.json").read_text())
    assert list(info) == ["firsttune", "firsttune_validation"]
    # formatting "openai" would append a sentence of its own to system prompts (0.9.5)
    assert info["firsttune"] == {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    }
    assert info["firsttune_validation"] == info["firsttune"] | {"file_name": "validation.jsonl"}


def test_llama_factory_gets_calls_of_tools_as_sharegpt(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", [*PLAIN, called()], [talk("v", "w")])
    written = outputs.write(folder, ["llamafactory"])
    assert list(written) == ["llamafactory", "sharegpt"]
    info = json.loads((folder / "dataset_info.json").read_text())
    assert {name: told["file_name"] for name, told in info.items()} == {
        "firsttune_sharegpt": "sharegpt/train.jsonl",
        "firsttune_sharegpt_validation": "sharegpt/validation.jsonl",
    }
    columns = {"messages": "conversations", "system": "system", "tools": "tools"}
    assert [told["columns"] for told in info.values()] == [columns, columns]
    for told in info.values():
        rows = lines(folder / told["file_name"])
        assert all(set(row) == {"conversations", "system", "tools"} for row in rows)


def test_stopped_or_out_of_space_it_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(tmp_path / "out", PLAIN * 500, PLAIN)

    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise StopError

    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    with pytest.raises(StopError):
        outputs.write(folder, list(OUTPUTS), stop)
    assert sorted(path.name for path in folder.iterdir()) == ["train.jsonl", "validation.jsonl"]
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError) as caught:
        outputs.write(folder, list(OUTPUTS))
    assert caught.value.key == "workspace.disk_full"
    assert sorted(path.name for path in folder.iterdir()) == ["train.jsonl", "validation.jsonl"]


def test_progress_counts_bytes_to_the_end(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", PLAIN * 500, PLAIN)
    total = sum(path.stat().st_size for path in folder.iterdir())
    seen: list[tuple[int, int]] = []
    outputs.write(folder, ["alpaca", "parquet"], lambda *told: seen.append(told))
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)
    assert len(seen) > 5


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as unknown:
        outputs.write(put(tmp_path / "out", PLAIN), ["excel"])
    assert unknown.value.key == "outputs.unknown"
    with pytest.raises(WorkspaceError) as nothing:
        outputs.write(tmp_path / "none", ["alpaca"])
    assert nothing.value.key == "outputs.no_conversation"


# --- real readers


def test_datasets_reads_every_shape(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", PLAIN, [talk("v", "w")])
    outputs.write(folder, list(OUTPUTS))
    for name in ("alpaca", "sharegpt", "prompt_completion", "prompt_completion_text"):
        sides = {side: folder / name / f"{side}.jsonl" for side in ("train", "validation")}
        found = load(tmp_path, "json", **sides)
        for side, path in sides.items():
            assert found[side].to_list() == lines(path), name
    found = load(tmp_path, "json", train=folder / "train.jsonl", validation=folder / "validation.jsonl")
    assert found["train"].to_list() == PLAIN
    sides = {side: folder / "parquet" / f"{side}.parquet" for side in ("train", "validation")}
    found = load(tmp_path, "parquet", **sides)
    assert found["train"].to_list() == PLAIN
    assert found["validation"].to_list() == [talk("v", "w")]


def test_datasets_finds_both_sides_in_a_folder(tmp_path: Path) -> None:
    import datasets

    folder = put(tmp_path / "out", PLAIN, [talk("v", "w")])
    outputs.write(folder, ["alpaca", "parquet"])
    for name in ("alpaca", "parquet"):
        found = datasets.load_dataset(str(folder / name), cache_dir=str(tmp_path / "cache"))
        assert {side: len(rows) for side, rows in found.items()} == {"train": 4, "validation": 1}


def test_datasets_reads_tools_from_parquet(tmp_path: Path) -> None:
    folder = put(tmp_path / "out", [*PLAIN, called()])
    outputs.write(folder, ["parquet", "sharegpt", "prompt_completion"])
    row = load(tmp_path, "parquet", train=folder / "parquet" / "train.parquet")["train"][4]
    messages = [{key: value for key, value in turn.items() if value is not None} for turn in row["messages"]]
    assert messages == called()["messages"]
    assert json.loads(row["tools"]) == called()["tools"]
    for name in ("sharegpt", "prompt_completion"):
        rows = load(tmp_path, "json", train=folder / name / "train.jsonl")["train"]
        assert len(rows) == 5
        assert json.loads(rows[4]["tools"]) == called()["tools"]


def test_what_comes_late_in_a_large_file_is_still_read(tmp_path: Path) -> None:
    # datasets knows no column, and no list inside one, that its first 10 MB do not show
    early = [talk("x" * 30_000, "y") for _ in range(400)]
    folder = put(tmp_path / "out", [*early, talk("a", "b", "c", "d"), *early[:3], called(), talk("e", "f")])
    written = outputs.write(folder, ["alpaca", "prompt_completion", "sharegpt"])
    for name, some in written.items():
        rows = load(tmp_path, "json", train=some.files[0])["train"]
        assert len(rows) == some.rows == 406 - sum(some.left_out.values()), name
        if name == "alpaca":
            assert rows[0]["history"] == [["a", "b"]]
            assert rows[-1]["instruction"] == "e"
            assert sum(len(row["history"] or ()) for row in rows) == 1
    assert lines(folder / "alpaca" / "left_out.jsonl") == [
        {"file": "train.jsonl", "line": 405, "reason": "tool_calls"}
    ]


@pytest.mark.trainer
def test_trl_prepares_messages_and_prompt_completion(tmp_path: Path) -> None:
    import trl
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = put(tmp_path / "out", PLAIN, [talk("v", "w")])
    outputs.write(folder, ["prompt_completion", "parquet"])
    model_folder = ROOT / "lib" / "practice" / "model"
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    sources = [
        ("json", folder / "train.jsonl"),
        ("json", folder / "prompt_completion" / "train.jsonl"),
        ("parquet", folder / "parquet" / "train.parquet"),
    ]
    prepared = []
    for kind, path in sources:
        rows = load(tmp_path, kind, train=path)["train"]
        assert all(trl.data_utils.is_conversational(row) for row in rows)
        config = trl.SFTConfig(
            output_dir=str(tmp_path / "run"),
            report_to=[],
            use_cpu=True,
            bf16=False,
            max_length=None,
            activation_checkpointing=False,
        )
        trainer = trl.SFTTrainer(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
        prepared.append(list(trainer.train_dataset))
    ids = [[row["input_ids"] for row in rows] for rows in prepared]
    assert ids[0] == ids[2]
    for row, source in zip(ids[0], PLAIN, strict=True):
        assert row == tokenizer.apply_chat_template(source["messages"], return_dict=False)
    assert len(prepared[1]) == len(PLAIN)
    for row, source in zip(prepared[1], PLAIN, strict=True):
        learned = [label for label in row["labels"] if label >= 0]
        assert tokenizer.decode(learned).strip().startswith(source["messages"][-1]["content"][:2].strip())
