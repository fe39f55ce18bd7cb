"""Every page's script, run without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from streamlit.testing.v1 import AppTest

from lib import conversions, convert, datasets, formats, jobs, words, workspace
from lib.ui import nav
from lib.ui.state import KEY, State
from tests.conftest import ROOT


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
