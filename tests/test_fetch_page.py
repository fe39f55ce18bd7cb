"""The data page's way to a repository: ask, choose, look, fetch, go on."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from streamlit.testing.v1 import AppTest

from lib import datasets, jobs
from tests.fakehub import FakeHub
from tests.fakescope import FakeScope
from tests.processes import reaches
from tests.test_pages import app, me, visit

ROWS = [{"Question": f"q {n}?", "Response": f"a {n}."} for n in range(400)]
CARD = b"---\nlicense: mit\n---\n# Tea\n\nQuestions about **tea**.\n"
TOKEN = "hf_" + "Marked" * 6


def asking(url: str, text: str = "org/tea", token: str = "") -> AppTest:
    """Return the page once a repository was asked for at `url`."""
    at = visit(app(), "data")
    at.segmented_control(key="source_0").set_value("hub").run()
    at.text_input(key="hub_text").set_value(text).run()
    at.selectbox(key="endpoint").set_value("own").run()
    at.text_input(key="own_endpoint").set_value(url).run()
    if token:
        at.text_input(key="hub_token").set_value(token)
        at.checkbox(key="token_anywhere").check().run()
    at.button(key="list_files").click().run()
    assert not at.exception, at.exception
    return at


def said(at: AppTest) -> str:
    return "\n".join(str(one.value) for one in [*at.caption, *at.markdown, *at.error, *at.warning])


def test_what_is_there_is_shown_before_anything_is_fetched() -> None:
    with FakeHub() as fake:
        fake.add_repo("org/tea", {"README.md": CARD, "all.json": orjson.dumps(ROWS), "loader.py": b"boom"})
        at = asking(fake.url)
        found = me(at).found
        assert found and found.listing and [visit.verdict for visit in found.visits] == ["fast"]
        assert "mit" in said(at) and "Questions about tea" in said(at).replace("\\", "")
        assert not fake.asked("loader.py")
        at.button(key="look").click().run()
        (seen,) = me(at).found.looks.values()  # type: ignore[union-attr]
        assert seen.rows[0].value == ROWS[0]  # type: ignore[union-attr]
        assert datasets.listing() == []


def test_files_are_chosen_by_kind_by_pattern_and_by_name() -> None:
    with FakeHub() as fake:
        files = {"README.md": CARD, "a/one.json": b"[]", "a/two.json": b"[]", "b/three.csv": b"x\n"}
        fake.add_repo("org/tea", files)
        at = asking(fake.url)
        button = at.button(key="fetch")
        assert "3 files" in button.label
        at.radio[0].set_value("all").run()
        assert "4 files" in at.button(key="fetch").label
        at.radio[0].set_value("own").run()
        next(one for one in at.text_input if str(one.key).startswith("in_")).set_value("a/\uff0c*.csv").run()
        next(one for one in at.text_input if str(one.key).startswith("out_")).set_value("*two*").run()
        (ticks,) = at.multiselect
        assert ticks.value == ["a/one.json", "b/three.csv"]
        ticks.set_value([]).run()
        assert at.button(key="fetch").disabled


def test_a_download_becomes_the_chosen_dataset_and_is_not_fetched_twice() -> None:
    with FakeHub() as fake:
        fake.add_repo("org/tea", {"README.md": CARD, "all.json": orjson.dumps(ROWS)})
        at = asking(fake.url)
        at.button(key="fetch").click().run()
        reaches(jobs.get(me(at).download), "done")
        at.run()
        (made,) = datasets.listing()
        assert me(at).dataset == made.id and not me(at).download
        at.button(key="list_files").click().run()
        asked = len(fake.log)
        at.button(key="use_known").click().run()
        assert me(at).dataset == made.id and len(fake.log) == asked


def test_a_failed_download_says_why_and_goes_on() -> None:
    with FakeHub() as fake:
        fake.add_repo("org/tea", {"all.json": orjson.dumps(ROWS)})
        at = asking(fake.url)
        trouble = fake.fault("/resolve/", "status", status=404, code="EntryNotFound", times=None)
        at.button(key="fetch").click().run()
        job = me(at).download
        reaches(jobs.get(job), "failed")
        at.run()
        assert at.error and not at.exception
        trouble.times = 0
        at.button(key=f"go_on_{job}").click().run()
        reaches(jobs.get(job), "done")
        at.run()
    assert len(datasets.listing()) == 1


def test_a_gated_dataset_is_fetched_with_a_typed_token_that_is_written_nowhere(workspace: Path) -> None:
    with FakeHub() as fake:
        fake.tokens.add(TOKEN)
        fake.add_repo("org/tea", {"all.json": orjson.dumps(ROWS)}, gated=True)
        at = asking(fake.url)
        assert me(at).found and me(at).found.listing is None  # type: ignore[union-attr]
        at = asking(fake.url, token=TOKEN)
        at.button(key="fetch").click().run()
        reaches(jobs.get(me(at).download), "done")
        at.run()
    written = [path for path in workspace.rglob("*") if path.is_file()]
    assert not [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_a_dataset_of_modelscope_is_called_so() -> None:
    with FakeScope() as scope:
        scope.add_repo("org/tea", {"all.json": orjson.dumps(ROWS)}, revision="master")
        at = asking(scope.url, "https://modelscope.cn/datasets/org/tea")
        assert "ModelScope" in said(at)
        at.button(key="fetch").click().run()
        reaches(jobs.get(me(at).download), "done")
        at.run()
    (made,) = datasets.listing()
    assert made.source == "modelscope"
    assert orjson.loads(datasets.files(made)[0].read_bytes()) == ROWS


def test_without_a_network_there_are_other_ways() -> None:
    at = asking("http://127.0.0.1:9")
    assert at.warning and not at.exception
    at.button(key="offline_path").click().run()
    assert me(at).source == "path"
    assert at.segmented_control(key="source_1").value == "path"


@pytest.mark.parametrize(
    "text", ["", "not a dataset at all", "https://github.com/a/b", "https://huggingface.co/Qwen/Qwen2.5-0.5B"]
)
def test_what_is_no_repository_is_a_sentence(text: str) -> None:
    at = asking("http://127.0.0.1:9", text)
    assert at.error and not at.exception
