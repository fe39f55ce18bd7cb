"""A platform on the pages: chosen, priced, confirmed, sent, watched, deployed, talked to."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib import backends, jobs, words
from lib.backends.remote import remembered
from lib.workspace import read_json
from tests.platforms import ROWS, Platform
from tests.processes import until
from tests.test_pages import app, converted, me, one, visit

KEY = "sk-typed-for-this-visit-0123456789"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRSTTUNE_LOOK_SECONDS", "0.05")


def test_a_job_is_priced_confirmed_sent_and_its_model_deployed(
    monkeypatch: pytest.MonkeyPatch, workspace: Path
) -> None:
    with Platform("openai", KEY) as there:
        monkeypatch.setenv("NEBIUS_BASE_URL", there.origin + ROWS["nebius"].tail)
        name = converted()
        at = app()
        me(at).conversion = name
        at = visit(at, "settings")
        at.segmented_control(key="place").set_value("platform").run()
        at.selectbox(key="platform").set_value("nebius").run()
        assert not at.exception
        start = at.button(key="onward_settings")
        assert start.disabled
        at.text_input(key="key_NEBIUS_API_KEY").set_value(KEY).run()
        at.button(key="ask_platform").click().run()
        assert me(at).offered["nebius"] == ("some/base", "other/chat")
        one(at.selectbox, "platform_model_nebius").set_value("some/base").run()
        assert at.button(key="onward_settings").disabled  # not confirmed
        one(at.checkbox, "confirm_").set_value(True).run()
        assert not at.button(key="onward_settings").disabled
        one(at.select_slider, "param_epochs").set_value(2).run()
        assert at.button(key="onward_settings").disabled  # another job, so another price
        one(at.checkbox, "confirm_").set_value(True).run()
        at.button(key="onward_settings").click().run()
        assert not at.exception
        (job,) = jobs.listing("train")
        assert jobs.wait(job.id).state == "done"
        assert next(iter(there.jobs.values())).body["hyperparameters"]["n_epochs"] == 2
        at = visit(at, "jobs")
        at.button(key=f"deploy_{job.id}").click().run()
        until(lambda: bool(there.deployed))
        at.run()
        assert not at.exception
        at.button(key=f"undeploy_{job.id}").click().run()
        assert there.deployed == {}
        assert not at.exception
        assert KEY not in str(read_json(workspace / "visit.json"))
        assert "deployment" not in remembered(job.folder)


def test_a_key_typed_for_one_platform_is_not_another_ones() -> None:
    name = converted()
    at = app()
    me(at).conversion = name
    at = visit(at, "settings")
    at.segmented_control(key="place").set_value("platform").run()
    at.selectbox(key="platform").set_value("zhipu").run()
    at.text_input(key="key_ZHIPUAI_API_KEY").set_value(KEY).run()
    at.selectbox(key="platform").set_value("nebius").run()
    assert at.text_input(key="key_NEBIUS_API_KEY").value == ""
    at.selectbox(key="platform").set_value("own_openai").run()
    at.text_input(key="at_own_openai").set_value("https://one.example/v1").run()
    one(at.text_input, "key_FIRSTTUNE_PLATFORM_KEY").set_value(KEY).run()
    assert me(at).api_keys["own_openai one.example"] == KEY
    at.text_input(key="at_own_openai").set_value("https://two.example/v1").run()
    assert not me(at).api_keys.get("own_openai two.example")
    assert not at.exception


@pytest.mark.parametrize("name", [name for name, _ in backends.BACKENDS.items() if name in ROWS])
def test_every_platform_can_be_chosen_in_both_languages(name: str) -> None:
    made = converted()
    for lang in words.languages():
        at = app(lang)
        me(at).conversion = made
        me(at).place = me(at).platform = name
        at = visit(at, "settings")
        assert not at.exception
        assert not at.error
        assert at.selectbox(key="platform").value == name
