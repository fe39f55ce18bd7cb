"""The page that judges: voices side by side, the blind vote, the scores, what is taken home."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lib import backends, jobs, judge, takehome, votes, words
from lib.trainer import packages
from lib.ui import pair
from lib.ui.state import Turn
from tests.fakeupload import FakeUpload
from tests.processes import reaches, until
from tests.test_pages import app, me, one, visit
from tests.tuned import finished

pytestmark = [pytest.mark.trainer, pytest.mark.timeout(300)]
needs_scores = pytest.mark.skipif(
    bool(packages.missing(*packages.SCORES)), reason="the trainer is not installed"
)
ROWS = [("Should I move?", "Not yet."), ("Should I sleep?", "By all means.")]


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    made = [finished(monkeypatch, tmp_path, f"tea {seed}", seed, rows=ROWS) for seed in (1, 2)]
    yield made
    pair._loaded.clear()


def opened(first: jobs.Job, second: jobs.Job | None = None, **chosen: Any) -> AppTest:
    at = AppTest.from_file(str(Path(__file__).parent.parent / "pages" / "frame.py"), default_timeout=120)
    at.query_params["lang"] = "en"
    at.run()
    me(at).job, me(at).other = first.id, second.id if second else ""
    me(at).most_said = 32
    for name, value in chosen.items():
        setattr(me(at), name, value)
    return visit(at, "compare")


def turns(at: AppTest) -> list[Turn]:
    (found,) = me(at).turns.values()
    return found


def captions(at: AppTest) -> list[str]:
    return [caption.value for caption in at.caption]


def test_all_held_back_questions_are_answered_by_all_with_the_reference(two: list[jobs.Job]) -> None:
    at = opened(*two)
    at.button(key="offered_all").click().run()
    assert not at.exception
    assert [turn.question for turn in turns(at)] == [row[0] for row in ROWS[::-1]]
    for turn in turns(at):
        assert list(turn.answers) == [votes.BASE, two[0].id, two[1].id]
        assert all(turn.answers.values())
        assert len(set(turn.answers.values())) == 3
        assert turn.reference == dict(ROWS)[turn.question]
    shown = [text.value for text in at.text]
    assert all(answer in shown for _, answer in ROWS)
    before = [dict(turn.answers) for turn in turns(at)]
    at.run()
    assert [turn.answers for turn in turns(at)] == before


def test_a_blind_vote_hides_who_is_who_until_it_is_cast(two: list[jobs.Job]) -> None:
    at = opened(*two, blind=True)
    at.button(key="offered_0").click().run()
    (turn,) = turns(at)
    assert turn.blind
    assert set(turn.answers) == {two[0].id, two[1].id}
    hidden = captions(at)
    assert not [caption for caption in hidden if "tea 1" in caption or "tea 2" in caption]
    assert not votes.tally(two[0].id, two[1].id).votes
    at.button(key="vote_0_A").click().run()
    better = next(iter(turns(at)[0].answers))
    tally = votes.tally(two[0].id, two[1].id)
    assert (tally.one, tally.other) == ((1, 0) if better == two[0].id else (0, 1))
    assert all([caption for caption in captions(at) if f"tea {seed}" in caption] for seed in (1, 2))
    assert not [button for button in at.button if (button.key or "").startswith("vote_")]
    assert [metric.value for metric in at.metric] == [str(tally.one), str(tally.other), "0"]


def test_without_a_second_run_the_base_is_voted_on(two: list[jobs.Job]) -> None:
    at = opened(two[0], blind=True)
    at.button(key="offered_1").click().run()
    at.button(key="vote_0_").click().run()
    assert votes.tally(two[0].id, votes.BASE) == votes.Tally(0, 0, 1)


def test_a_failed_answer_is_a_sentence_and_can_be_asked_again(two: list[jobs.Job]) -> None:
    at = opened(two[0])
    adapter = two[0].folder.path / "adapter" / "adapter_config.json"
    whole = adapter.read_bytes()
    adapter.write_bytes(b"{}")
    at.button(key="offered_all").click().run()
    assert not at.exception
    assert len(at.error) == 1
    assert turns(at) == []
    adapter.write_bytes(whole)
    at.button(key="offered_0").click().run()
    assert len(turns(at)) == 1
    assert not at.error


@needs_scores
def test_scores_are_started_watched_and_shown_for_both(two: list[jobs.Job]) -> None:
    at = opened(*two, judging="scores")
    at.button(key=f"score_{two[0].id}").click().run()
    assert not at.exception
    begun = judge.current(two[0])
    assert begun
    reaches(begun, "done", 120)
    reaches(judge.start(two[1]), "done", 120)
    at = opened(*two, judging="scores")
    table = at.dataframe[0].value
    assert len(table) == 4
    found = judge.scores(two[0].folder)
    assert found
    assert list(table["chrF"][:2]) == [found.base.chrf, found.tuned.chrf]
    assert not [button for button in at.button if (button.key or "").startswith("score_")]


def test_the_model_is_packed_merged_and_shown(two: list[jobs.Job]) -> None:
    at = opened(two[0], judging="takehome")
    assert not at.get("download_button")
    at.button(key="pack").click().run()
    assert not at.exception
    assert takehome.packed(two[0])
    assert at.get("download_button")
    assert len(at.tabs) == 4
    at.button(key="merge").click().run()
    assert not at.exception
    job = takehome.merging(two[0])
    assert job
    reaches(job, "done", 120)
    at = opened(two[0], judging="takehome")
    assert str(takehome.folder(two[0]) / "merged") in [code.value for code in at.code]
    assert not [button for button in at.button if button.key == "merge"]


def test_the_model_is_uploaded_and_an_app_opened_later_shows_it(two: list[jobs.Job]) -> None:
    out = takehome.pack(two[0])
    with FakeUpload() as fake:
        fake.open.clear()
        at = opened(two[0], judging="takehome", upload_repo="me/tea")
        at.button(key="upload").click().run()
        assert len(at.error) == 1, "no token"
        at.text_input(key="hub_token").input("hf_writes")
        at.text_input(key="upload_endpoint").input(fake.url)
        at.checkbox(key="token_anywhere").check().run()
        at.button(key="upload").click().run()
        assert not at.exception and not at.error
        made = takehome.uploading(two[0])
        assert made
        until(lambda: made.folder.status().get("phase") == "sending", 60)
        at = opened(two[0], judging="takehome")
        assert one(at.button, f"stop_{made.id}")
        assert not [button for button in at.button if button.key == "upload"]
        fake.open.set()
        reaches(made, "done", 60)
        at = opened(two[0], judging="takehome")
        assert f"{fake.url}/me/tea" in "".join(text.value for text in at.markdown)
        assert fake.repos["me/tea"].private
        assert set(fake.repos["me/tea"].files) == {
            path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()
        } - {"export.json"}


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("view", ["talk", "scores", "takehome"])
def test_every_view_has_its_words(two: list[jobs.Job], lang: str, view: str) -> None:
    takehome.pack(two[0], lang=lang)
    at = app(lang)
    me(at).job, me(at).judging = two[0].id, view
    at = visit(at, "compare")
    assert one(at.segmented_control, "judging_").value == view
    assert not at.error


def test_a_place_whose_chat_takes_no_seed_is_named_and_told_the_rest() -> None:
    asked = {"model": {"kind": "platform", "id": "Qwen/Qwen2.5-7B-Instruct"}, "settings": {}, "system": ""}
    job = jobs.keep("far", asked, backend="siliconflow")
    name = "ft:LoRA/Qwen/Qwen2.5-7B-Instruct:acc0unt:tea-leaves:abcdefghij0123456789"
    backends.BACKENDS["siliconflow"].name_tuned(job, name)
    at = opened(job, temperature=0.7)
    assert at.number_input(key="talk_seed").disabled
    assert not at.slider(key="top_p").disabled
    assert not at.select_slider(key="most_said").disabled
    place = words.say("en", "place.siliconflow.name")
    assert words.say("en", "compare.no_seed", place=place) in captions(at)
