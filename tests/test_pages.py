"""Every page's script, run without a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from streamlit.testing.v1 import AppTest

from lib import (
    backends,
    check,
    conversions,
    convert,
    datasets,
    edits,
    formats,
    joblist,
    jobs,
    params,
    preflight,
    words,
    workspace,
)
from lib.jobfolder import JobFolder
from lib.ui import nav, table
from lib.ui.state import KEY, State
from tests.conftest import ROOT
from tests.finished import finished


@pytest.fixture
def holding_the_runner() -> Iterator[None]:
    """Be the runner in name, so that nobody starts one and what waits goes on waiting."""
    folder = JobFolder(workspace.root() / "runner")
    folder.path.mkdir(parents=True)
    with folder.working():
        yield
        (folder.path / "process.json").unlink()


def app(lang: str = "en") -> AppTest:
    at = AppTest.from_file(str(ROOT / "pages" / "frame.py"), default_timeout=30)
    at.query_params["lang"] = lang
    return at.run()


def visit(at: AppTest, name: str) -> AppTest:
    at.switch_page(f"steps/{name}.py").run()
    assert not at.exception, at.exception
    return at


def me(at: AppTest) -> State:
    held = at.session_state[KEY]
    assert isinstance(held, State)
    return held


def one(widgets: Any, key: str) -> Any:
    """Return the widget whose key begins so; what follows counts how often it was set anew."""
    found = [widget for widget in widgets if widget.key and widget.key.startswith(key)]
    assert len(found) == 1, [widget.key for widget in widgets]
    return found[0]


def converted() -> str:
    """Convert the sample into the workspace, as the page does, and return the folder's name."""
    sample = datasets.sample()
    mapping = formats.Mapping("qa", {"user": "Question", "assistant": "Response"})
    request = convert.Request(tuple(datasets.files(sample)), Path("unused"), mapping)
    job = jobs.wait(conversions.start(request, "tea").id)
    assert job.state == "done", job
    return Path(job.folder.asked()["out"]).name


@pytest.mark.parametrize("lang", list(words.languages()))
@pytest.mark.parametrize("name", nav.NAMES)
def test_every_page_greets_a_newcomer(name: str, lang: str) -> None:
    at = visit(app(lang), name)
    assert at.title[0].value == words.say(lang, f"{name}.title")
    assert at.expander[0].label == words.say(lang, f"{name}.idea_title")


def test_the_browser_locale_chooses_the_first_language() -> None:
    at = AppTest.from_file(str(ROOT / "pages" / "frame.py"), default_timeout=30)
    at.context = {"locale": "zh-CN"}
    assert at.run().title[0].value == words.say("zh", "welcome.title")


def test_the_sample_is_chosen_recognised_and_shown() -> None:
    at = visit(app(), "data")
    at.button(key="use_sample").click().run()
    assert me(at).dataset
    at = visit(at, "convert")
    assert me(at).fields["user"] == "Question"
    assert me(at).fields["assistant"] == "Response"
    assert [message.name for message in at.chat_message] == ["user", "assistant"]
    at.text_area(key="system").set_value("Be kind.").run()
    assert [message.name for message in at.chat_message] == ["system", "user", "assistant"]


def test_reasoning_goes_before_the_answer_when_asked() -> None:
    at = visit(app(), "data")
    at.button(key="use_sample").click().run()
    at = visit(at, "convert")
    at.radio(key="reasoning").set_value("think").run()
    assert at.chat_message[1].text[0].value.startswith("<think>")


def looking(file: Path, lang: str = "en") -> AppTest:
    """Open the page that shows a file."""
    at = app(lang)
    me(at).begin(datasets.from_path(str(file)).id)
    return visit(at, "convert")


def rows_file(folder: Path, rows: list[Any], name: str = "rows.json") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(orjson.dumps(rows))
    return file


def asked(n: int) -> list[dict[str, Any]]:
    return [{"question": f"q{i}?", "answer": f"a{i}."} for i in range(1, n + 1)]


def numbers(at: AppTest) -> list[int]:
    """Return the numbers of the rows in the table on top."""
    return list(map(int, at.dataframe[0].value["#"]))


def tiles(at: AppTest) -> list[str]:
    return [metric.value for metric in at.metric]


def patch(at: AppTest) -> list[Any]:
    return list(edits.load(datasets.edits_file(datasets.get(me(at).dataset))).lines)


def test_rows_are_seen_in_every_way(tmp_path: Path) -> None:
    rows = asked(60)
    rows[6]["answer"] += " a very long end" * 9
    rows[40]["answer"] = ""
    at = looking(rows_file(tmp_path, rows))
    assert numbers(at) == list(range(1, 26))
    view = one(at.segmented_control, "view_")
    view.set_value("sample").run()
    drawn = numbers(at)
    assert len(set(drawn)) == 25
    at.button(key="draw").click().run()
    assert numbers(at) != drawn
    one(at.segmented_control, "view_").set_value("longest").run()
    assert numbers(at)[0] == 7
    one(at.segmented_control, "view_").set_value("shortest").run()
    assert numbers(at)[0] == 41
    one(at.segmented_control, "view_").set_value("bad").run()
    assert numbers(at) == [41]
    assert len(at.error) == 1
    one(at.segmented_control, "view_").set_value("search").run()
    one(at.text_input, "sought").set_value("very long").run()
    assert numbers(at) == [7]


def test_a_row_is_found_by_its_number(tmp_path: Path) -> None:
    at = looking(rows_file(tmp_path, asked(60)))
    one(at.number_input, "jump_").set_value(53).run()
    assert numbers(at) == list(range(51, 61))
    assert at.chat_message[0].text[0].value == "q53?"


def test_a_large_file_is_read_by_a_job_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "SMALL", 1000)
    at = looking(rows_file(tmp_path, asked(60)))
    assert numbers(at) == list(range(1, 26))
    assert {job.kind for job in jobs.listing()} == {"survey", "examine"}
    again = visit(app(), "convert")
    assert [job.kind for job in jobs.listing()].count("survey") == 1
    for job in jobs.listing():
        assert jobs.wait(job.id).state == "done", job
    again = visit(again, "convert")
    assert one(again.segmented_control, "view_").options
    assert tiles(again)[:2] == ["60", "0"]
    assert len(jobs.listing()) == 2


def test_a_row_is_mended_in_its_place_and_the_change_taken_back(tmp_path: Path) -> None:
    rows = asked(9)
    rows[3]["answer"] = None
    at = looking(rows_file(tmp_path, rows))
    assert tiles(at) == ["8", "1"]
    me(at).mending = ["rows.json", "4"]
    at.run()
    assert [box.value for box in at.text_area if (box.key or "").startswith("leaf_")] == ["q4?", ""]
    one(at.text_area, "leaf_1").set_value("a4, mended.")
    one(at.button, "save_").click().run()
    assert not at.exception
    assert tiles(at)[:2] == ["9", "0"]
    assert patch(at)[0]["set"] == {"answer": "a4, mended."}
    assert at.chat_message[-1].text[0].value == "a4, mended."
    one(at.text_area, "leaf_1").set_value("a4, mended again.")
    one(at.button, "save_").click().run()
    assert at.chat_message[-1].text[0].value == "a4, mended again."
    at.button(key="undo").click().run()
    at.button(key="undo").click().run()
    assert tiles(at) == ["8", "1"]
    assert patch(at) == []
    at.button(key="leave_out").click().run()
    assert patch(at)[0]["drop"] is True
    assert not [button for button in at.button if button.key == "leave_out"]


def test_a_broken_row_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "a?", "answer": "b"}\n{"question": "c?", "answer": d}\n', encoding="utf-8")
    at = looking(file)
    me(at).mending = ["rows.jsonl", "2"]
    at.run()
    assert one(at.text_area, "leaf_0").value == "c?"
    one(at.text_area, "leaf_1").set_value("d")
    one(at.button, "save_").click().run()
    assert tiles(at)[:2] == ["2", "0"]
    assert patch(at)[0]["record"] == {"question": "c?", "answer": "d"}


def test_all_rows_of_a_kind_are_fixed_at_once(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "human", "value": f"q{i}?"}]} for i in range(8)]
    for row in rows:
        row["conversations"] += [{"from": "gpt", "value": "a"}, {"from": "human", "value": "And?"}]
    at = looking(rows_file(tmp_path, rows))
    assert tiles(at) == ["0", "8"]
    at.button(key="fix_all_unanswered").click().run()
    assert patch(at) == [{"fix": "drop_last_user"}]
    assert tiles(at) == ["8", "0", "8"]
    assert [message.name for message in at.chat_message] == ["user", "assistant"]
    at.button(key="undo").click().run()
    me(at).mending = ["rows.json", "2"]
    at.run()
    at.button(key="fix_row_drop_last_user").click().run()
    assert tiles(at)[:2] == ["1", "7"]


def test_another_target_has_other_rules(tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": "Welcome."}, {"role": "user", "content": "Hi."}]
    rows = [{"messages": [*turns, {"role": "assistant", "content": f"Hello {i}."}]} for i in range(5)]
    at = looking(rows_file(tmp_path, rows))
    assert tiles(at) == ["0", "5"]
    lenient = next(
        name for name, target in check.targets().items() if target.rules.get("first_not_user") == "warning"
    )
    at.selectbox(key="target").set_value(lenient).run()
    assert tiles(at) == ["5", "0"]


def test_who_an_unknown_speaker_is_can_be_said(tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "q?"}, {"from": "gpt", "value": "a"}]
    rows = [{"conversations": [{"from": "narrator", "value": "It rains."}, *talk]}] * 3
    at = looking(rows_file(tmp_path, rows))
    assert tiles(at) == ["0", "3"]
    one(at.selectbox, "speaker_0").set_value("").run()
    assert tiles(at)[:2] == ["3", "0"]
    assert [message.name for message in at.chat_message] == ["user", "assistant"]


def test_a_question_is_put_together_from_columns(tmp_path: Path) -> None:
    rows = [{"title": f"Tea {i}", "body": "Is it good?", "answer": "It is."} for i in range(5)]
    at = looking(rows_file(tmp_path, rows))
    one(at.toggle, "joined_").set_value(True).run()
    one(at.text_area, "template_").set_value("{title}: ").run()
    names = {button.label: button for button in at.button if (button.key or "").startswith("insert_")}
    names["body"].click().run()
    assert at.chat_message[0].text[0].value == "Tea 0: Is it good?"


def test_what_is_declined_offers_its_way_out(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}?", "chosen": "good", "rejected": "bad"} for i in range(5)]
    at = looking(rows_file(tmp_path, rows))
    assert len(at.warning) == 1
    assert not [button for button in at.button if button.key == "write"]
    at.button(key="instead").click().run()
    assert [message.text[0].value for message in at.chat_message] == ["q0?", "good"]


def test_one_config_and_one_split_are_looked_at(tmp_path: Path) -> None:
    for name in ("en/train", "en/test", "zh/train"):
        rows_file(tmp_path / "many", [{"question": f"{name}?", "answer": "a"}] * 2, f"{name}.json")
    at = looking(tmp_path / "many")
    assert at.chat_message[0].text[0].value == "en/train?"
    one(at.segmented_control, "split_").set_value("test").run()
    assert at.chat_message[0].text[0].value == "en/test?"
    one(at.selectbox, "config_").set_value("zh").run()
    assert at.chat_message[0].text[0].value == "zh/train?"


def test_files_that_do_not_fit_together_are_joined_by_a_click_only(tmp_path: Path) -> None:
    rows_file(tmp_path / "many", [{"question": "a?", "answer": "b"}] * 2, "one.json")
    rows_file(tmp_path / "many", [{"prompt": "a?", "completion": "b"}] * 3, "two.json")
    at = looking(tmp_path / "many")
    assert len(me(at).files) == 1
    one(at.multiselect, "files_").set_value([str(tmp_path / "many" / f"{n}.json") for n in ("one", "two")])
    at.run()
    assert len(me(at).files) == 2


def test_several_files_are_uploaded_at_once() -> None:
    at = visit(app(), "data")
    at.segmented_control(key="source_0").set_value("upload").run()
    row = b'{"question": "a?", "answer": "b"}\n'
    at.file_uploader[0].upload("a.jsonl", row).upload("b.jsonl", row).run()
    assert not at.exception
    assert len(datasets.get(me(at).dataset).files) == 2


def test_a_group_and_other_shapes_are_in_what_is_written(tmp_path: Path) -> None:
    rows = [{"who": f"p{i % 3}", "question": f"q{i}?", "answer": "a"} for i in range(30)]
    at = looking(rows_file(tmp_path, rows))
    one(at.selectbox, "group_").set_value("who").run()
    at.multiselect(key="also").set_value(["alpaca"]).run()
    shown = "\n".join(code.value for code in at.code)
    assert "--group who" in shown
    assert "--also alpaca" in shown
    assert "def main(" in shown
    at.button(key="write").click().run()
    job = jobs.wait(me(at).converting)
    assert job.state == "done", job
    at = visit(at, "convert")
    assert at.get("download_button")
    ledger = conversions.manifest(me(at).conversion)
    assert ledger
    assert ledger["group"] == "who"
    assert (conversions.folder(me(at).conversion) / "alpaca" / "train.jsonl").exists()


def test_a_wrong_mapping_is_a_sentence_not_a_crash(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(orjson.dumps([{"q": "a?", "n": None}, {"q": "b?", "n": "x"}]))
    at = app()
    me(at).dataset = datasets.from_path(str(file)).id
    at = visit(at, "convert")
    one(at.selectbox, "field_user").set_value("q")
    one(at.selectbox, "field_assistant").set_value("n").run()
    assert not at.exception
    assert len(at.error) == 1


def test_settings_are_kept_when_the_page_is_left_and_come_back_after_a_reload() -> None:
    name = converted()
    at = app()
    me(at).conversion = name
    at = visit(at, "settings")
    one(at.select_slider, "param_epochs").set_value(6).run()
    at = visit(visit(at, "welcome"), "settings")
    assert one(at.select_slider, "param_epochs").value == 6
    again = visit(app(), "settings")
    assert one(again.select_slider, "param_epochs").value == 6
    again.button(key="reset").click().run()
    assert one(again.select_slider, "param_epochs").value != 6


def test_the_playground_answers_every_move_and_keeps_what_was_tried() -> None:
    at = app()
    me(at).conversion = converted()
    at = visit(at, "settings")
    said = [one.value for one in at.markdown]
    one(at.select_slider, "param_learning_rate").set_value(1e-1).run()
    assert not at.exception
    assert any("**" in text and text not in said for text in (one.value for one in at.markdown))
    assert [tried.shown for tried in me(at).tried] == [5e-3, 1e-1]
    numbers = [len(frame.value) for frame in at.dataframe]
    one(at.segmented_control, "played_rows").set_value(20).run()
    assert not at.exception
    assert [tried.rows for tried in me(at).tried] == [96, 96, 20]
    assert any(rows > 10 for rows in numbers)


def test_guesses_are_answered_by_a_run_and_kept() -> None:
    at = app()
    me(at).conversion = converted()
    at = visit(at, "settings")
    assert not [radio for radio in at.radio if (radio.key or "").startswith("guess_")]
    at.session_state["guess"] = True
    at.run()
    at.radio(key="guess_timid").set_value("apart").run()
    at.button(key="guess_run").click().run()
    assert not at.exception
    assert me(at).guesses == {"timid": "apart"}
    at.button(key="guess_next").click().run()
    assert at.radio(key="guess_bold")
    again = app()
    assert me(again).guesses == {"timid": "apart"}


def test_what_hurts_wants_a_second_click_and_red_asks_twice() -> None:
    at = app()
    me(at).conversion = converted()
    at = visit(at, "settings")
    one(at.select_slider, "param_learning_rate").set_value(1e-1).run()
    at.button(key="onward_settings").click().run()
    assert not jobs.listing("train")
    assert me(at).asked_twice
    one(at.select_slider, "param_seed").set_value(1).run()
    assert me(at).asked_twice
    one(at.select_slider, "param_learning_rate").set_value(5e-3).run()
    assert not me(at).asked_twice
    one(at.select_slider, "param_learning_rate").set_value(1e-1).run()
    at.button(key="want_learning_rate").click().run()
    assert me(at).wanted == {"learning_rate": 1e-1}
    assert not [button for button in at.button if button.key == "want_learning_rate"]
    one(at.select_slider, "param_learning_rate").set_value(5e-3).run()
    assert me(at).wanted == {}


def test_the_job_page_shows_what_was_estimated_beside_what_it_took(
    any_conversion: Callable[[], Path],
) -> None:
    data = any_conversion()
    job = finished("one", data=data)
    known = preflight.known("local", {"kind": "practice", "id": "practice"})
    preflight.keep(job.folder, preflight.card(data, job.folder.asked()["settings"], known))
    at = app()
    me(at).job = job.id
    at = visit(at, "jobs")
    table = next(frame.value for frame in at.dataframe if words.say("en", "preflight.off") in frame.value)
    shown = dict(
        zip(table[words.say("en", "preflight.what")], table[words.say("en", "preflight.real")], strict=True)
    )
    assert shown[words.say("en", "preflight.steps")] == "40"
    assert shown[words.say("en", "preflight.seconds")] == "12 s"


def test_what_is_said_of_a_value_follows_every_slider_at_once() -> None:
    at = app()
    me(at).conversion = converted()
    at = visit(at, "settings")
    one(at.select_slider, "param_accumulation").set_value(16).run()
    facts = {"pile": 128, "steps": 15}
    said = [one.value for one in at.markdown]
    assert any(words.say("en", "says.batch_size.large", **facts) in text for text in said)
    name = words.say("en", "param.accumulation.name")
    assert any(f"{name} 16" in caption.value for caption in at.caption)


def test_a_preset_is_taken_and_what_differs_is_said() -> None:
    at = app()
    me(at).conversion = converted()
    at = visit(at, "settings")
    start = dict(me(at).settings)
    at.button(key="preset_thorough").click().run()
    assert not at.exception
    changed = {name for name, value in me(at).settings.items() if value != start[name]}
    assert changed == {"epochs", "learning_rate", "lora_rank", "lora_alpha", "early_stopping", "keep"}
    said = " ".join(caption.value for caption in at.caption)
    assert words.say("en", "param.lora_rank.name") + " 32" in said
    at.button(key="reset").click().run()
    assert me(at).settings == start


def test_another_place_offers_only_its_own_values() -> None:
    name = converted()
    at = app()
    me(at).conversion = name
    at = visit(at, "settings")
    at.segmented_control(key="place").set_value("siliconflow").run()
    assert not at.exception
    slider = one(at.select_slider, "param_epochs")
    assert slider.options[-1] == "10"
    assert not [s for s in at.select_slider if (s.key or "").startswith("param_seed")]


def test_a_job_by_hand_is_kept_and_named() -> None:
    name = converted()
    at = app()
    me(at).conversion = name
    at = visit(at, "settings")
    at.segmented_control(key="place").set_value("siliconflow").run()
    at.button(key="onward_settings").click().run()
    assert not at.exception
    job = jobs.listing("train")[0]
    assert (job.backend, job.state) == ("siliconflow", "queued")
    at = visit(at, "jobs")  # AppTest stays on the page that was left by a button
    at.selectbox(key=f"state_{job.id}").set_value("done").run()
    assert jobs.get(job.id).state == "done"
    at.text_input(key=f"tuned_{job.id}").set_value("nonsense").run()
    assert len(at.error) == 1


def test_two_jobs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    model = {"kind": "platform", "id": "Qwen/Qwen2.5-7B-Instruct"}
    asked = {"model": model, "settings": {}, "system": ""}
    first, second = (jobs.keep("tea [1](x)", asked, backend="siliconflow") for _ in range(2))
    at = app()
    me(at).job = first.id
    at = visit(at, "jobs")
    picked = one(at.radio, "job")
    assert picked.value == first.id
    assert len(set(picked.options)) == 2
    picked.set_value(second.id).run()
    assert me(at).job == second.id


def watched(job: jobs.Job, lang: str = "en") -> AppTest:
    """Open the page of jobs with one of them chosen."""
    at = app(lang)
    me(at).job = job.id
    return visit(at, "jobs")


def shown(at: AppTest) -> str:
    """Return all text of the page."""
    found = [*at.markdown, *at.caption, *at.text, *at.header, *at.code]
    return "\n".join(str(element.value) for element in found)


@pytest.mark.parametrize("lang", list(words.languages()))
def test_a_finished_run_is_drawn_and_read(lang: str) -> None:
    at = watched(finished("tea", validation=(3.0, 1.0, 1.2, 1.5)), lang)
    facts = {"first": 3.0, "best": 1.0, "last": 1.5, "epoch": 4 / 3}
    assert words.say(lang, "reading.memorising", **facts) in shown(at)
    assert words.say(lang, "state.done") in shown(at)
    assert "1,000" in tiles(at)
    assert at.get("vega_lite_chart")
    at.slider(key="smoothing").set_value(0.0).run()
    at.toggle(key="log_scale").set_value(True).run()
    assert not at.exception
    assert (me(at).smoothing, me(at).log_scale) == (0.0, True)
    assert me(visit(app(lang), "jobs")).log_scale


@pytest.mark.parametrize("lang", list(words.languages()))
def test_what_the_model_knew_before_is_drawn_where_it_was_measured(lang: str) -> None:
    job = finished("tea")
    said = words.say(lang, "reading.forgetting", first=0.9, last=2.0)
    assert said not in shown(watched(job, lang))
    for step, value in ((0, 0.9), (20, 1.5), (40, 2.0)):
        job.folder.metric(step=step, epoch=step / 10, eval_loss=1.0, known_loss=value)
    at = watched(job, lang)
    assert said in shown(at)
    assert words.say(lang, "jobs.known_words", first="0.90", last="2.00") in shown(at)
    first = json.loads(at.get("vega_lite_chart")[0].proto.spec)["layer"][0]
    assert words.say(lang, "jobs.known_loss") in first["encoding"]["color"]["scale"]["domain"]


def test_a_run_is_named_and_noted_and_found_by_both() -> None:
    other, job = finished("coffee"), finished("tea")
    at = watched(job)
    at.text_input(key=f"name_{job.id}").set_value("green tea").run()
    at.text_area(key=f"note_{job.id}").set_value("the best [x](y)").run()
    assert not at.exception
    now = jobs.get(job.id)
    assert (now.name, now.note) == ("green tea", "the best [x](y)")
    assert at.text[0].value == "the best [x](y)"  # as text, never as Markdown
    at.text_input(key="run_sought").set_value("BEST").run()
    assert one(at.radio, "job").options == ["green tea"]
    at.text_input(key="run_sought").set_value("coffee").run()
    assert one(at.radio, "job").options == ["coffee"]
    assert me(at).job == job.id  # it stays chosen while the search hides it
    one(at.radio, "job").set_value(other.id).run()
    assert me(at).job == other.id
    at.text_input(key="run_sought").set_value("nowhere").run()
    assert not at.exception and not [radio for radio in at.radio if radio.key == "job"]
    at.text_input(key=f"name_{other.id}").set_value("x" * 500).run()
    assert len(at.error) == 1


def test_a_run_is_deleted_and_another_is_shown() -> None:
    other, job = finished("other"), finished("tea")
    at = watched(job)
    at.button(key=f"delete_now_{job.id}").click().run()
    assert not at.exception
    assert [each.id for each in jobs.listing()] == [other.id]
    assert me(at).job == other.id
    at.button(key=f"delete_now_{other.id}").click().run()
    assert at.button(key="empty_settings")


def test_a_run_is_packed_and_fetched() -> None:
    job = finished("tea")
    at = watched(job)
    assert not at.get("download_button")
    at.button(key=f"pack_{job.id}").click().run()
    assert not at.exception
    assert at.get("download_button")
    assert joblist.exported(job).stat().st_size > 500
    at.button(key=f"delete_now_{job.id}").click().run()
    assert not joblist.exported(job).exists()


def test_waiting_runs_are_put_in_order(holding_the_runner: None) -> None:
    first, second, third = (finished(name, state="queued") for name in "abc")
    at = watched(third)
    at.button(key=f"first_{third.id}").click().run()
    assert joblist.queue(first) == [third.id, first.id, second.id]
    assert at.button(key=f"up_{third.id}").disabled
    at.button(key=f"down_{third.id}").click().run()
    assert joblist.queue(first) == [first.id, third.id, second.id]


def test_a_stopped_run_goes_on(holding_the_runner: None) -> None:
    job = finished("tea", state="stopped")
    at = watched(job)
    at.button(key=f"resume_{job.id}").click().run()
    assert not at.exception
    assert jobs.get(job.id).state == "queued"
    assert [event.note for event in jobs.events(job.id)][-1] == "again"


def test_again_fills_the_settings_page(holding_the_runner: None, tmp_path: Path) -> None:
    data, other = tmp_path / "of another computer", workspace.room("conversions") / "other"
    for folder in (data, other):
        folder.mkdir(parents=True)
        turns = [{"role": role, "content": folder.name} for role in ("user", "assistant")]
        (folder / "train.jsonl").write_bytes(orjson.dumps({"messages": turns}) + b"\n")
        (folder / "manifest.json").write_bytes(orjson.dumps({"counts": {"train": 1}, "of": folder.name}))
    every = {name: row.stops[-1] for name, row in params.PARAMS.items() if row.here}
    chosen = {"kind": "hub", "id": "org/model", "revision": "v2", "endpoint": "https://hub.example.org"}
    place = backends.BACKENDS["local"]
    job = place.start("tea", data, chosen, every, "Be kind.")
    joblist.rename(job.id, "tea, all the way")
    at = watched(job)
    mine = me(at)
    mine.conversion, mine.system, mine.endpoint, mine.place, mine.model = (
        "other",
        "No.",
        "auto",
        "siliconflow",
        "practice",
    )
    at.button(key=f"again_{job.id}").click().run()
    assert not at.exception
    at = visit(at, "settings")
    mine = me(at)
    assert (mine.place, mine.model, mine.model_hub) == ("local", "hub", "org/model@v2")
    assert (mine.endpoint, mine.own_endpoint) == ("own", "https://hub.example.org")
    assert one(at.select_slider, "param_epochs").value == every["epochs"]
    assert mine.conversion != "other"  # none that is still here: it was made of the job's own copy
    at.button(key="onward_settings").click().run()  # every value is the most extreme: the card is red
    at.button(key="onward_settings").click().run()
    again = jobs.get(me(at).job)
    assert again.id != job.id and again.name == "tea, all the way"
    assert again.folder.asked() == job.folder.asked() | {"name": again.name}
    assert (again.folder.path / "data" / "train.jsonl").read_bytes() == (data / "train.jsonl").read_bytes()
    assert len(list(workspace.room("conversions").iterdir())) == 2

    practice = finished("coffee", {"epochs": 10, "method": "dora", "keep": "best"}, data=other)
    at = watched(practice)
    at.button(key=f"again_{practice.id}").click().run()
    at = visit(at, "settings")
    assert (me(at).model, me(at).conversion, me(at).system) == ("practice", "other", "")
    assert one(at.select_slider, "param_epochs").value == 10
    assert (me(at).settings["method"], me(at).settings["keep"]) == (1, 1)


@pytest.mark.parametrize("lang", list(words.languages()))
def test_runs_are_compared_over_each_other(lang: str) -> None:
    runs = [
        finished("tea", validation=(3.0, 1.5)),
        finished("tea", {"learning_rate": 1e-4}, validation=(3.0, 0.9)),
    ]
    at = watched(runs[0], lang)
    at.multiselect(key="compared").set_value([job.id for job in runs]).run()
    assert not at.exception
    facts = {"letter": "B", "loss": 0.9, "other": "A", "other_loss": 1.5}
    assert words.say(lang, "contrast.best.lowest", **facts) in shown(at)
    assert "1e-4" in shown(at) and "2e-4" in shown(at)
    assert len(at.get("vega_lite_chart")) == 3
    assert at.dataframe[0].value.shape == (2, 9)
    third = finished("tea", validation=(3.0, 1.2))
    at.run()
    at.multiselect(key="compared").set_value([job.id for job in (*runs, third)]).run()
    assert at.dataframe[0].value.shape == (3, 9)
    jobs.delete(runs[1].id)
    at.run()
    assert not at.exception
    assert set(me(at).compared) == {runs[0].id, third.id}
    assert at.dataframe[0].value.shape == (2, 9)


def test_starting_afresh_forgets_choices_and_keeps_files() -> None:
    name = converted()
    at = app()
    me(at).dataset, me(at).conversion = datasets.sample().id, name
    at = visit(at, "welcome")
    at.button(key="afresh").click().run()
    assert me(at).conversion == ""
    assert conversions.manifest(name)


def test_a_visit_written_by_hand_or_by_another_version_does_not_stop_the_app() -> None:
    name = converted()
    odd = {"row": "ten", "job": 5, "hub_text": "a/b", "source": "hub", "endpoint": "https://gone.example"}
    odd |= {"place": "moon", "model": "none", "reasoning": "loud", "dataset": "sample", "conversion": name}
    workspace.write_json(workspace.root() / "visit.json", odd)
    at = visit(app(), "data")
    assert me(at).hub_text == "a/b"
    assert me(at).row == 0
    for page in nav.NAMES:
        at = visit(at, page)
    workspace.write_json(workspace.root() / "visit.json", odd | {"source": "mars", "conversion": "../.."})
    for page in nav.NAMES:
        at = visit(app(), page)


def test_a_damaged_job_list_is_a_sentence_on_every_page() -> None:
    (workspace.root() / "jobs.db").write_bytes(b"this is no database" * 100)
    at = visit(app(), "jobs")
    assert len(at.error) == 1
    assert "jobs.db" in at.error[0].value


def test_a_dataset_that_vanished_leads_back_to_get_data(tmp_path: Path) -> None:
    at = app()
    me(at).dataset = "20260101-000000-gone-0000"
    at = visit(at, "convert")
    assert at.button(key="empty_data")
