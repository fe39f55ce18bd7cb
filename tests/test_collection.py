"""Which files of a dataset belong together: by its README, by its names, in the shapes of real ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lib import collection, datasets

ROW = b'{"instruction": "q", "output": "a"}\n'


def made(root: Path, *names: str, readme: str = "") -> list[Path]:
    """Write files of one row each and return them in an order that means nothing."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            parquet.write_table(pyarrow.table({"question": ["q"], "answer": ["a"]}), path)
        else:
            path.write_bytes(ROW)
    if readme:
        (root / "README.md").write_text(readme, encoding="utf-8")
    return sorted((root / name for name in names), key=lambda path: path.name[::-1])


def told(files: list[Path], root: Path) -> list[tuple[str, str, list[str]]]:
    return [
        (part.config, part.split, [path.relative_to(root).as_posix() for path in part.files])
        for part in collection.parts(files, root)
    ]


def test_folders_are_configs(tmp_path: Path) -> None:  # gsm8k
    names = [
        f"{config}/{split}-00000-of-00001.parquet"
        for config in ("main", "socratic")
        for split in ("train", "test")
    ]
    assert told(made(tmp_path, *names), tmp_path) == [
        ("main", "train", ["main/train-00000-of-00001.parquet"]),
        ("main", "test", ["main/test-00000-of-00001.parquet"]),
        ("socratic", "train", ["socratic/train-00000-of-00001.parquet"]),
        ("socratic", "test", ["socratic/test-00000-of-00001.parquet"]),
    ]


def test_shards_come_in_order_and_a_folder_named_data_is_no_config(tmp_path: Path) -> None:  # ultrachat_200k
    names = [
        f"data/{split}-{n:05}-of-00003-a3ecf92756993583.parquet"
        for split in ("test_gen", "test_sft", "train_gen", "train_sft")
        for n in range(3)
    ]
    found = told(made(tmp_path, *names), tmp_path)
    assert [(config, split) for config, split, _ in found] == [
        ("", "train_gen"),
        ("", "train_sft"),
        ("", "test_gen"),
        ("", "test_sft"),
    ]
    assert found[1][2] == [f"data/train_sft-{n:05}-of-00003-a3ecf92756993583.parquet" for n in range(3)]


MEDICAL = """---
license: apache-2.0
tags:
- medical
configs:
- config_name: en
  data_files: medical_o1_sft.json
- config_name: zh
  data_files: medical_o1_sft_Chinese.json
- config_name: en_mix
  data_files: medical_o1_sft_mix.json
- config_name: zh_mix
  data_files: medical_o1_sft_mix_Chinese.json
---
# Medical
"""


def test_the_readme_counts_more_than_the_names(tmp_path: Path) -> None:  # medical-o1-reasoning-SFT
    names = [f"medical_o1_sft{end}.json" for end in ("", "_Chinese", "_mix", "_mix_Chinese")]
    assert told(made(tmp_path, *names, readme=MEDICAL), tmp_path) == [
        ("en", "train", ["medical_o1_sft.json"]),
        ("zh", "train", ["medical_o1_sft_Chinese.json"]),
        ("en_mix", "train", ["medical_o1_sft_mix.json"]),
        ("zh_mix", "train", ["medical_o1_sft_mix_Chinese.json"]),
    ]


def test_compressed_files_in_folders(tmp_path: Path) -> None:  # hh-rlhf
    names = [
        f"{config}/{split}.jsonl.gz"
        for config in ("harmless-base", "helpful-base")
        for split in ("train", "test")
    ]
    assert told(made(tmp_path, *names), tmp_path) == [
        ("harmless-base", "train", ["harmless-base/train.jsonl.gz"]),
        ("harmless-base", "test", ["harmless-base/test.jsonl.gz"]),
        ("helpful-base", "train", ["helpful-base/train.jsonl.gz"]),
        ("helpful-base", "test", ["helpful-base/test.jsonl.gz"]),
    ]


@pytest.mark.parametrize("name", ["Belle_open_source_0.5M.json", "all_details.json", "openhermes2_5.json"])
def test_one_file_is_one_part_without_a_name(tmp_path: Path, name: str) -> None:
    assert told(made(tmp_path, name), tmp_path) == [("", "", [name])]


def test_files_of_different_columns_are_told_apart(tmp_path: Path) -> None:  # COIG
    files = made(tmp_path, "translated_instructions.jsonl", "exam_instructions.jsonl", "leetcode.json")
    (part,) = collection.parts(files, tmp_path)
    assert (part.config, part.split, part.mixed) == ("", "", False)
    (tmp_path / "exam_instructions.jsonl").write_bytes(b'{"textbox_question": "q", "textbox_answer": "B"}\n')
    (part,) = collection.parts(files, tmp_path)
    assert part.mixed and len(part.files) == 3
    # a field that only some rows have is no difference; neither is a file that cannot be read
    (tmp_path / "exam_instructions.jsonl").write_bytes(b'{"instruction": "q", "input": "", "output": "B"}\n')
    (tmp_path / "leetcode.json").write_bytes(b"<html>")
    assert not collection.parts(files, tmp_path)[0].mixed


def test_the_bundled_sample_is_one_part() -> None:
    (part,) = collection.parts(sorted(datasets.SAMPLE.glob("*.json")), datasets.SAMPLE)
    assert (part.config, part.split, part.mixed) == ("", "", False)
    assert [path.name for path in part.files] == ["fortune-en.json", "fortune-zh.json"]


@pytest.mark.parametrize(
    ("name", "config", "split"),
    [
        ("train.json", "", "train"),
        ("my_train_file.csv", "", "train"),
        ("training.jsonl", "", "train"),
        ("dev.json", "", "validation"),
        ("Val.JSON", "", "validation"),
        ("validation1.csv", "", "validation"),
        ("eval-set.jsonl.zst", "", "test"),
        ("v1.test.jsonl", "", "test"),
        ("trainer.json", "", ""),
        ("latest.json", "", ""),
        ("developers.json", "", ""),
        ("values.json", "", ""),
        ("train_sft.jsonl", "", "train_sft"),
        ("test_prefs-00000-of-00001.parquet", "", "test_prefs"),
        ("train_data.jsonl", "", "train"),
        ("data/law-00000-of-00002.parquet", "", "law"),
        ("other/law-00000-of-00002.parquet", "other", ""),
        ("en/train/0000.parquet", "en", "train"),
        ("default/partial-train/0001.parquet", "default/partial", "train"),
        ("data/zh/a.json", "zh", ""),
        ("data/train/a.json", "", "train"),
        ("Math_Train/a.json", "Math", "train"),
        ("train_data/a.json", "", "train"),
        ("law/civil/dev.json", "law/civil", "validation"),
        ("\u8bad\u7ec3\u96c6.json", "", "train"),
        ("\u6cd5\u5f8b\u6d4b\u8bd5.csv", "", "test"),
    ],
)
def test_names_are_read_as_the_hub_reads_them(tmp_path: Path, name: str, config: str, split: str) -> None:
    assert told(made(tmp_path, name), tmp_path) == [(config, split, [name])]


def test_files_of_one_split_are_in_the_order_people_count(tmp_path: Path) -> None:
    files = made(tmp_path, *(f"train-part-{n}.json" for n in (1, 2, 10, 9)))
    assert [path.name for path in collection.parts(files, tmp_path)[0].files] == [
        f"train-part-{n}.json" for n in (1, 2, 9, 10)
    ]


SPLITS = """\
---
language: [en]
dataset_info:
- config_name: main
  features: [{name: x, dtype: string}]
configs:
- config_name: extra
  data_files:
  - split: train
    path:
    - "extra/train-*"
    - extra/more.jsonl
- config_name: no
  default: true
  data_files:
  - split: train
    path: "main/train-*"
  - split: held_out
    path: main/**/held*.jsonl
license: mit
---
"""


def test_a_readme_may_name_splits_and_a_default(tmp_path: Path) -> None:
    names = [
        "extra/train-1.jsonl",
        "extra/more.jsonl",
        "main/train-1.jsonl",
        "main/a/b/held-1.jsonl",
        "loose.jsonl",
    ]
    assert told(made(tmp_path, *names, readme=SPLITS), tmp_path) == [
        ("no", "train", ["main/train-1.jsonl"]),
        ("no", "held_out", ["main/a/b/held-1.jsonl"]),
        ("extra", "train", ["extra/more.jsonl", "extra/train-1.jsonl"]),
        ("", "", ["loose.jsonl"]),
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("data_files: '*.jsonl'", [("c", "train", ["a.jsonl", "b1.jsonl"]), ("d", "", ["d/e.jsonl"])]),
        ("data_files: '**/*.jsonl'", [("c", "train", ["a.jsonl", "b1.jsonl", "d/e.jsonl"])]),
        (
            "data_files: ./b[0-9].jsonl",
            [("c", "train", ["b1.jsonl"]), ("", "", ["a.jsonl"]), ("d", "", ["d/e.jsonl"])],
        ),
        (
            "data_files: {train: a.jsonl, test: 'd/?.jsonl'}",
            [("c", "train", ["a.jsonl"]), ("c", "test", ["d/e.jsonl"]), ("", "", ["b1.jsonl"])],
        ),
        ("data_dir: d", [("c", "", ["d/e.jsonl"]), ("", "", ["a.jsonl", "b1.jsonl"])]),
        (
            "{data_dir: d, data_files: e.jsonl}",
            [("c", "train", ["d/e.jsonl"]), ("", "", ["a.jsonl", "b1.jsonl"])],
        ),
    ],
)
def test_data_files_have_many_forms(tmp_path: Path, entry: str, expected: object) -> None:
    if entry.startswith("{"):
        readme = f"---\nconfigs:\n- {{config_name: c, {entry[1:]}\n---\n"
    else:
        readme = f"---\nconfigs:\n- config_name: c\n  {entry}\n---\n"
    assert told(made(tmp_path, "a.jsonl", "b1.jsonl", "d/e.jsonl", readme=readme), tmp_path) == expected


@pytest.mark.parametrize(
    "readme",
    [
        "# no front matter\nconfigs:\n- config_name: x\n  data_files: a.json\n",
        "---\nconfigs: 5\n---\n",
        "---\nconfigs: [1, {}, {config_name: [1]}, {config_name: x, data_files: 7.5}]\n---\n",
        "---\nconfigs:\n- config_name: x\n  data_files: [\n---\n",
        "---\nconfigs:\n- config_name: x\n  data_files: hf://elsewhere/a.json\n---\n",
        "---\nconfigs:\n- config_name: x\n  data_files: '[z-a].json'\n---\n",
        "---\nconfigs:\n- !!python/object/apply:os.system [true]\n---\n",
        f"---\nconfigs: {'[' * 5000}\n---\n",
        "---\nconfigs:\n- config_name: x",
        "\0\0\0",
    ],
)
def test_a_readme_that_makes_no_sense_is_passed_over(tmp_path: Path, readme: str) -> None:
    assert told(made(tmp_path, "a.json", readme=readme), tmp_path) == [("", "", ["a.json"])]


def test_a_readme_as_windows_writes_it(tmp_path: Path) -> None:
    files = made(tmp_path, *(f"medical_o1_sft{end}.json" for end in ("", "_Chinese")))
    (tmp_path / "README.md").write_bytes(b"\xef\xbb\xbf" + MEDICAL.replace("\n", "\r\n").encode())
    assert [part.config for part in collection.parts(files, tmp_path)] == ["en", "zh"]


def test_a_long_list_of_features_is_not_read(tmp_path: Path) -> None:
    features = "".join(f"  - name: f{n}\n    dtype: string\n" for n in range(40_000))
    readme = MEDICAL.replace("configs:", f"dataset_info:\n  features:\n{features}configs:")
    files = made(tmp_path, "medical_o1_sft.json", readme=readme)
    assert [part.config for part in collection.parts(files, tmp_path)] == ["en"]


def test_no_files_make_no_parts(tmp_path: Path) -> None:
    assert collection.parts([], tmp_path) == []
    elsewhere = made(tmp_path / "a", "train.json")
    assert [part.split for part in collection.parts(elsewhere, tmp_path / "b")] == ["train"]
