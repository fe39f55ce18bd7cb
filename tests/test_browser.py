"""The whole walk in a real Chromium, as a visitor would."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from lib import backends, joblist, jobs, records, words
from lib.jobfolder import JobFolder
from lib.workspace import room, root, write_json
from tests.conftest import ROOT
from tests.fakehub import FakeHub
from tests.finished import finished
from tests.processes import until

playwright = pytest.importorskip("playwright.sync_api")
from axe_playwright_python.sync_playwright import Axe  # noqa: E402
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright  # noqa: E402

CHROMIUM = next(
    (p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None
)
pytestmark = [pytest.mark.browser, pytest.mark.timeout(400)]
if CHROMIUM is None:
    if os.environ.get("CI"):
        pytest.fail("no Chromium found: the browser tests may not be left out here", pytrace=False)
    pytestmark.append(pytest.mark.skip(reason="no Chromium found: install it to run the browser tests"))

SHOTS = os.environ.get("FIRSTTUNE_SHOTS")  # a folder to keep a screenshot of every step in
STEPS = {"en": ["Start", "Get data", "Look and convert", "Settings", "Train", "Compare"]}
STEPS["zh"] = json.loads((ROOT / "tests" / "data" / "steps_zh.json").read_text(encoding="utf-8"))


@dataclass
class Server:
    """The app in a process of its own."""

    url: str
    process: subprocess.Popen[bytes]
    start: Callable[[], None]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture
def server(workspace: Path, tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (tmp_path / "app.log").open("ab")
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    app = Server(f"http://127.0.0.1:{port}", None, lambda: None)  # type: ignore[arg-type]

    def start() -> None:
        env = os.environ | {"STREAMLIT_SERVER_HEADLESS": "true"}
        app.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=env)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if requests.get(f"{app.url}/_stcore/health", timeout=2).ok:
                    return
            except (requests.ConnectionError, requests.Timeout):  # a busy machine
                time.sleep(0.1)
        raise AssertionError((tmp_path / "app.log").read_text(encoding="utf-8"))

    app.start = start
    start()
    yield app
    app.kill()
    log.close()
    for job in jobs.listing():
        if job.backend == "local" and job.state in ("queued", "running"):
            jobs.stop(job.id)
            jobs.wait(job.id)
    assert "Traceback" not in (tmp_path / "app.log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield chromium
        chromium.close()


def visit(browser: Browser, url: str, locale: str = "en-GB", width: int = 1280, height: int = 900) -> Page:
    """Open a page that notes whatever it asks of anybody else."""
    context = browser.new_context(
        locale=locale, viewport={"width": width, "height": height}, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    expect.set_options(timeout=30_000)
    strangers: list[str] = []
    page.on("request", lambda r: strangers.append(r.url) if not _ours(r.url) else None)
    page.strangers = strangers  # type: ignore[attr-defined]
    page.goto(url)
    settle(page)
    return page


def _ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:", "ws://127.0.0.1:"))


def settle(page: Page) -> None:
    """Wait until the script has run and nothing on the page is stale."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def step(page: Page, lang: str, number: int) -> None:
    page.get_by_role("list", name=re.compile("six steps|\u516d\u4e2a\u6b65\u9aa4")).get_by_role("button").nth(
        number
    ).click()
    expect(page.locator("[aria-current=step]")).to_contain_text(STEPS[lang][number])
    settle(page)


def key(page: Page, name: str) -> Locator:
    return page.locator(f".st-key-{name}")


def press(page: Page, name: str) -> None:
    key(page, name).get_by_role("button").first.click()


# Whether an element is where it was at the last look.
_AT_REST = """name => {
  const top = document.querySelector(`[class*=st-key-${name}]`).getBoundingClientRect().top
  const before = window.before
  window.before = top
  return top === before
}"""


def tick(page: Page, name: str, row: int) -> None:
    """Tick a row of the table whose key begins so; it is a canvas, so by its place."""
    table = page.locator(f"[class*=st-key-{name}]").first
    expect(table.locator(f"[data-testid=glide-cell-1-{row}]")).to_be_attached()
    table.scroll_into_view_if_needed()
    page.wait_for_function(_AT_REST, arg=name, polling=150)
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 18, box["y"] + 36 + 17 + 35 * row)
    settle(page)


def take(page: Page, path: Path) -> None:
    """Choose a file or folder of this computer, and go on to look at it."""
    key(page, "source_0").get_by_role("radio").nth(3).click()
    box = key(page, "path_text").get_by_role("textbox")
    box.fill(str(path))
    box.blur()
    settle(page)
    press(page, "use_path")
    expect(key(page, "onward_data").get_by_role("button")).to_be_enabled()
    press(page, "onward_data")
    expect(key(page, "write")).to_be_visible()
    settle(page)


def ledger(page: Page) -> list[str]:
    """Return what the tiles of the ledger say: read, train, validation, set aside."""
    tiles = key(page, "ledger").get_by_test_id("stMetricValue")
    expect(tiles).to_have_count(4)
    return tiles.all_inner_texts()


def sample(page: Page) -> None:
    """Choose the bundled sample, and stay on the page where that is done."""
    step(page, "en", 1)
    press(page, "use_sample")
    expect(key(page, "onward_data").get_by_role("button")).to_be_enabled()


def own_endpoint(page: Page, url: str) -> None:
    """Ask for a dataset of the Hub at an endpoint of one's own."""
    step(page, "en", 1)
    key(page, "source_0").get_by_text("Download").click()
    key(page, "endpoint").get_by_role("combobox").click()
    page.get_by_role("option").last.click()
    own = key(page, "own_endpoint").get_by_role("textbox")
    own.fill(url)
    own.blur()
    settle(page)
    press(page, "list_files")


def shoot(page: Page, name: str) -> None:
    assert not page.get_by_test_id("stException").count(), page.get_by_test_id("stException").inner_text()
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"{name} scrolls sideways by {wide} px"
    if SHOTS:
        settle(page)
        main = page.get_by_test_id("stMain")
        height = main.evaluate("e => Math.max(e.scrollHeight, 700)")
        size = page.viewport_size
        assert size
        page.set_viewport_size({"width": size["width"], "height": min(int(height) + 20, 6000)})
        settle(page)
        page.wait_for_timeout(600)  # for the picture only: charts ease in
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))
        page.set_viewport_size(size)


def accessible(page: Page, name: str) -> None:
    # what is fading in or out under the pointer is judged as it will be; one without end cannot be finished
    page.evaluate("document.getAnimations().forEach(one => { try { one.finish() } catch {} })")
    found = [
        f"{v['id']}: {v['nodes'][0]['target']} {v['nodes'][0]['html'][:160]}"
        for v in Axe().run(page).response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert not found, f"{name}: {found}"


@pytest.mark.trainer
@pytest.mark.parametrize(("lang", "locale", "width"), [("en", "en-GB", 1280), ("zh", "zh-CN", 390)])
def test_the_whole_walk(server: Server, browser: Browser, lang: str, locale: str, width: int) -> None:
    page = visit(browser, server.url, locale, width)

    def done(name: str) -> None:
        shoot(page, f"{lang}-{width}-{name}")
        accessible(page, name)

    expect(page.locator("[aria-current=step]")).to_contain_text(STEPS[lang][0])
    done("1-welcome")
    press(page, "onward_welcome")

    press(page, "use_sample")
    expect(key(page, "onward_data").get_by_role("button")).to_be_enabled()
    done("2-data")
    press(page, "onward_data")

    expect(page.get_by_test_id("stChatMessage")).to_have_count(2)
    settle(page)
    done("3-convert")
    press(page, "write")
    expect(key(page, "onward_convert").get_by_role("button")).to_be_enabled()
    settle(page)
    assert ledger(page) == ["400", "360", "40", "0"]
    with page.expect_download() as got:
        page.get_by_role("button", name="train.jsonl").click()
    assert sum(1 for _ in records.read(Path(got.value.path()))) == 360
    done("3-ledger")
    press(page, "onward_convert")

    expect(key(page, "onward_settings")).to_be_visible()  # of this page, and not of the one before
    settle(page)
    done("4-settings")
    press(page, "onward_settings")

    expect(page.locator(".stMarkdownBadge").first).to_be_visible()
    expect(page.locator("canvas, .vega-embed svg").first).to_be_visible(timeout=60_000)
    shoot(page, f"{lang}-{width}-5-running")
    expect(key(page, "onward_jobs").get_by_role("button")).to_be_enabled(timeout=120_000)
    settle(page)
    done("5-jobs")
    press(page, "onward_jobs")

    press(page, "offered_0")
    answers = page.get_by_test_id("stChatMessage")
    expect(answers).to_have_count(3)
    expect(key(page, "clear")).to_be_visible(timeout=60_000)
    settle(page)
    before, after = answers.nth(1).inner_text(), answers.nth(2).inner_text()
    assert before != after
    assert re.search("leaves show|\u8336\u53f6\u91cc\u662f", after)
    assert not re.search("leaves show|\u8336\u53f6\u91cc\u662f", before)
    done("6-compare")
    assert page.strangers == []  # type: ignore[attr-defined]


@pytest.mark.parametrize(("lang", "locale", "width"), [("en", "en-GB", 1280), ("zh", "zh-CN", 390)])
def test_a_bad_row_is_mended_in_the_page_and_converted(
    server: Server, browser: Browser, tmp_path: Path, lang: str, locale: str, width: int
) -> None:
    rows = [{"question": f"q{n}?", "answer": f"a{n}."} for n in range(1, 31)]
    rows[7]["answer"] = ""
    rows[11]["answer"] = "  a12. "
    rows[20] = rows[19]
    (tmp_path / "mine.json").write_text(json.dumps(rows), encoding="utf-8")
    page = visit(browser, f"{server.url}/data", locale, width)
    take(page, tmp_path / "mine.json")
    tick(page, "findings_table", 0)
    answer = page.locator("[class*=st-key-leaf_1]").get_by_role("textbox")
    expect(answer).to_have_value("")
    accessible(page, "mending")
    shoot(page, f"{lang}-{width}-3-mending")
    answer.fill("a8, mended.")
    answer.blur()
    page.locator("[class*=st-key-save_]").get_by_role("button").click()
    expect(page.get_by_test_id("stChatMessage").last).to_contain_text("a8, mended.")
    settle(page)
    for rule in ("padded", "duplicate"):
        press(page, f"fix_all_{rule}")
        expect(key(page, f"fix_all_{rule}")).to_have_count(0)
        settle(page)
    for fold in page.get_by_test_id("stExpander").all():
        fold.locator("summary").first.click()
        settle(page)
    accessible(page, "mended")
    shoot(page, f"{lang}-{width}-3-mended")
    press(page, "write")
    expect(key(page, "onward_convert").get_by_role("button")).to_be_enabled()
    settle(page)
    assert ledger(page) == ["30", "26", "3", "1"]
    accessible(page, "ledger")
    with page.expect_download() as got:
        page.get_by_role("button", name="train.jsonl").first.click()
    lines = Path(got.value.path()).read_text(encoding="utf-8")
    assert "a12." in lines
    assert "  a12. " not in lines
    page.reload()
    expect(key(page, "undo")).to_be_visible()
    assert ledger(page) == ["30", "26", "3", "1"]
    assert page.strangers == []  # type: ignore[attr-defined]


def test_settings_survive_leaving_the_page_and_a_reload(server: Server, browser: Browser) -> None:
    page = visit(browser, server.url)
    sample(page)
    press(page, "onward_data")
    system = key(page, "system").get_by_role("textbox")
    system.fill("Be brief.")
    system.blur()
    settle(page)
    expect(page.get_by_test_id("stChatMessage")).to_have_count(3)
    step(page, "en", 0)
    expect(key(page, "continue")).to_be_visible()
    step(page, "en", 2)
    expect(key(page, "system").get_by_role("textbox")).to_have_value("Be brief.")
    page.reload()
    settle(page)
    expect(key(page, "system").get_by_role("textbox")).to_have_value("Be brief.")


def test_another_place_and_a_reset_move_the_sliders(server: Server, browser: Browser) -> None:
    page = visit(browser, server.url)
    sample(page)
    press(page, "onward_data")
    press(page, "write")
    expect(key(page, "onward_convert").get_by_role("button")).to_be_enabled()
    press(page, "onward_convert")
    epochs = page.locator("[class*=st-key-param_epochs]").get_by_role("slider")
    expect(epochs).to_be_visible()
    settle(page)
    assert page.get_by_test_id("stMain").evaluate("e => e.scrollTop") == 0
    usual = epochs.get_attribute("aria-valuetext")
    epochs.focus()
    page.keyboard.press("ArrowRight")
    expect(epochs).not_to_have_attribute("aria-valuetext", str(usual))
    settle(page)
    press(page, "reset")
    expect(epochs).to_have_attribute("aria-valuetext", str(usual))
    key(page, "place").get_by_role("radio").nth(1).click()
    expect(epochs).to_have_attribute("aria-valuetext", "3")
    rate = page.locator("[class*=st-key-param_learning_rate]").get_by_role("slider")
    expect(rate).to_have_attribute("aria-valuetext", "1e-4")
    accessible(page, "siliconflow")
    shoot(page, "en-1280-4-siliconflow")
    press(page, "onward_settings")
    expect(page.get_by_text("Qwen/Qwen2.5-7B-Instruct")).to_be_visible()
    settle(page)
    shoot(page, "en-1280-5-siliconflow")
    accessible(page, "by hand")


def converted(any_conversion: Callable[[], Path]) -> None:
    """Put a conversion into the workspace, and the visitor before it."""
    shutil.copytree(any_conversion(), room("conversions") / "tea")
    write_json(root() / "visit.json", {"dataset": "sample", "conversion": "tea"})


@pytest.mark.parametrize(("lang", "locale", "width"), [("en", "en-GB", 1280), ("zh", "zh-CN", 390)])
def test_every_slider_moves_by_keyboard_and_the_playground_answers(
    server: Server, browser: Browser, any_conversion: Callable[[], Path], lang: str, locale: str, width: int
) -> None:
    converted(any_conversion)
    page = visit(browser, f"{server.url}/settings", locale, width)
    chart = key(page, "playground").locator("[role=graphics-document], [role=img]").first
    expect(chart).to_be_visible()
    before = chart.get_attribute("aria-label")
    assert before
    more = page.get_by_text(words.say(lang, "settings.more"), exact=True)
    more.click()
    for name in backends.BACKENDS["local"].ranges:
        slider = page.locator(f"[class*=st-key-param_{name}_]").get_by_role("slider")
        expect(slider).to_be_visible()
        was, first = slider.get_attribute("aria-valuetext"), slider.get_attribute("value") == "0"
        slider.focus()
        page.keyboard.press("ArrowRight" if first else "ArrowLeft")
        expect(slider).not_to_have_attribute("aria-valuetext", str(was))
        settle(page)
    expect(chart).not_to_have_attribute("aria-label", before)
    key(page, "playground").get_by_text(words.say(lang, "playground.numbers")).click()
    expect(key(page, "playground").get_by_test_id("stDataFrame")).to_be_visible()
    shoot(page, f"{lang}-{width}-4-playground")
    accessible(page, "playground")
    key(page, "guess").locator("summary").first.click()
    key(page, "guess_timid").get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    settle(page)
    press(page, "guess_run")
    expect(key(page, "guess_next")).to_be_visible()
    settle(page)
    shoot(page, f"{lang}-{width}-4-guess")
    accessible(page, "guess")
    assert page.strangers == []  # type: ignore[attr-defined]


def test_what_is_known_to_ruin_a_run_is_asked_about_twice(
    server: Server, browser: Browser, any_conversion: Callable[[], Path]
) -> None:
    converted(any_conversion)
    page = visit(browser, f"{server.url}/settings")
    rate = page.locator("[class*=st-key-param_learning_rate]").get_by_role("slider")
    rate.focus()
    page.keyboard.press("End")
    expect(rate).to_have_attribute("aria-valuetext", "1e-1")
    settle(page)
    press(page, "onward_settings")
    expect(page.get_by_text(words.say("en", "preflight.asked"))).to_be_visible()
    assert jobs.listing("train") == []
    settle(page)
    accessible(page, "red")
    press(page, "want_learning_rate")
    expect(page.get_by_text(words.say("en", "settings.wanted"))).to_be_visible()


@pytest.mark.parametrize(("lang", "locale"), [("en", "en-GB"), ("zh", "zh-CN")])
def test_the_buttons_of_a_table_cover_no_text(
    server: Server, browser: Browser, lang: str, locale: str
) -> None:
    page = visit(browser, server.url, locale, 390)
    step(page, lang, 1)
    press(page, "use_sample")
    expect(key(page, "onward_data").get_by_role("button")).to_be_enabled()
    press(page, "onward_data")
    expect(key(page, "write")).to_be_visible()
    settle(page)
    table = page.locator("[class*=st-key-table_]").first
    table.hover()
    buttons = table.get_by_test_id("stElementToolbar")
    expect(buttons).to_have_css("opacity", "1")
    hint = page.get_by_text(words.say(lang, "convert.select_hint"))
    shoot(page, f"{lang}-390-2-table")
    words_at, buttons_at = hint.bounding_box(), buttons.bounding_box()
    assert words_at and buttons_at
    assert words_at["x"] + words_at["width"] <= buttons_at["x"]


def test_the_dataset_chosen_last_is_the_one(server: Server, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"question": "a?", "answer": "b"}\n' * 3, encoding="utf-8")
    page = visit(browser, server.url)
    sample(page)
    key(page, "source_0").get_by_text("Path").click()
    box = key(page, "path_text").get_by_role("textbox")
    box.fill(str(tmp_path / "mine.jsonl"))
    box.blur()
    press(page, "use_path")
    kept = page.locator("[class*=st-key-kept_]")
    expect(kept.get_by_role("radio", checked=True)).to_have_count(1)
    expect(page.get_by_text("Chosen: mine.jsonl")).to_be_visible()
    kept.get_by_text("tea-leaf-reader").click()
    expect(page.get_by_text("Chosen: tea-leaf-reader")).to_be_visible()


def test_changing_the_language_keeps_everything_else(server: Server, browser: Browser) -> None:
    page = visit(browser, server.url)
    sample(page)
    press(page, "onward_data")
    slider = key(page, "validation").get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    settle(page)
    expect(slider).to_have_value("15")
    key(page, "language").get_by_role("radio").nth(1).click()
    expect(page.locator("[aria-current=step]")).to_contain_text(STEPS["zh"][2])
    settle(page)
    expect(key(page, "validation").get_by_role("slider")).to_have_value("15")
    assert "lang=zh" in page.url


def test_a_dataset_comes_from_the_hub(server: Server, browser: Browser) -> None:
    rows = [{"Question": f"q{n}?", "Complex_CoT": "hm", "Response": f"a{n}."} for n in range(30)]
    with FakeHub() as fake:
        fake.add_repo(
            "Conard/fortune-telling",
            {"README.md": b"---\nlicense: mit\n---\n", "all.json": json.dumps(rows).encode()},
        )
        page = visit(browser, server.url)
        own_endpoint(page, fake.url)
        expect(key(page, "fetch")).to_be_visible()
        shoot(page, "en-1280-2-hub")
        press(page, "fetch")
        expect(key(page, "onward_data").get_by_role("button")).to_be_enabled()
        settle(page)
        press(page, "onward_data")
        expect(page.get_by_test_id("stChatMessage")).to_have_count(2)
        settle(page)
        expect(page.get_by_test_id("stChatMessage").first).to_contain_text("q0?")


def test_a_download_is_watched_stopped_left_alone_and_gone_on_with(server: Server, browser: Browser) -> None:
    rows = [{"Question": f"q{n}?", "Response": f"a{n}." * 20} for n in range(20_000)]
    data = json.dumps(rows).encode()
    with FakeHub(bps=len(data) // 20) as fake:
        fake.add_repo("Conard/fortune-telling", {"README.md": b"# Tea", "all.json": data}, license="mit")
        page = visit(browser, server.url)
        own_endpoint(page, fake.url)
        press(page, "look")
        expect(page.get_by_test_id("stDataFrame")).to_have_count(1)
        accessible(page, "look")
        press(page, "fetch")
        bars = page.get_by_test_id("stProgress")
        expect(bars).to_have_count(2)
        shoot(page, "en-1280-2-fetching")
        server.kill()
        server.start()
        page = visit(browser, server.url)
        step(page, "en", 1)
        expect(page.get_by_test_id("stProgress")).to_have_count(2)
        page.locator("[class*=st-key-stop_] button").click()
        going_on = page.locator("[class*=st-key-go_on_] button")
        expect(going_on).to_be_visible()
        accessible(page, "stopped")
        shoot(page, "en-1280-2-stopped")
        sent = fake.sent("/cdn/")
        fake.bps = None
        going_on.click()
        expect(key(page, "onward_data").get_by_role("button")).to_be_enabled()
        assert 0 < sent < len(data)
        assert fake.sent("/cdn/") < 1.1 * len(data) + 700_000  # the look and the doctor took some


def test_a_dead_endpoint_is_a_sentence(server: Server, browser: Browser) -> None:
    page = visit(browser, server.url)
    own_endpoint(page, "http://127.0.0.1:9")
    expect(page.get_by_test_id("stAlert")).to_have_count(1)
    expect(page.locator("[class*=st-key-doctor_]")).to_contain_text("127.0.0.1:9")
    assert not page.get_by_test_id("stException").count()
    shoot(page, "en-1280-2-dead")


def test_what_stands_in_data_is_shown_and_never_fetched(
    server: Server, browser: Browser, tmp_path: Path
) -> None:
    lure = "![x](http://192.0.2.1/x.png) <img src='http://192.0.2.1/y.png'> :red[hello]"
    rows = [{"question": lure, "answer": lure, lure: lure}, {"question": lure, "answer": None}]
    (tmp_path / "![a](b) lure.json").write_text(json.dumps(rows), encoding="utf-8")
    page = visit(browser, f"{server.url}/data")
    take(page, tmp_path)
    expect(page.get_by_test_id("stChatMessage")).to_have_count(2)
    expect(page.get_by_test_id("stChatMessage").first).to_contain_text(lure)
    settle(page)
    tick(page, "findings_table", 0)
    expect(page.locator("[class*=st-key-save_]")).to_be_visible()
    for fold in page.get_by_test_id("stExpander").all():
        fold.locator("summary").first.click()
        settle(page)
    press(page, "write")
    expect(key(page, "ledger")).to_be_visible()
    settle(page)
    assert ledger(page) == ["2", "1", "0", "1"]
    assert not page.get_by_test_id("stMain").locator("img").count()
    assert page.strangers == []  # type: ignore[attr-defined]


def test_an_upload_that_is_not_data_is_a_sentence(server: Server, browser: Browser) -> None:
    page = visit(browser, server.url)
    step(page, "en", 1)
    key(page, "source_0").get_by_text("Upload").click()
    page.locator(".st-key-upload input[type=file]").set_input_files(
        {"name": "page.json", "mimeType": "application/json", "buffer": b"<!doctype html><p>Sign in</p>"}
    )
    taken = page.locator(".st-key-onward_data button:enabled")  # it is there before the upload, but not yet
    expect(taken.or_(page.get_by_test_id("stAlert")).first).to_be_visible()
    settle(page)
    if not page.get_by_test_id("stAlert").count():
        step(page, "en", 2)
    expect(page.get_by_test_id("stAlert").first).to_contain_text("page.json")


@pytest.mark.trainer
def test_a_killed_app_finds_its_running_job_again(
    server: Server, browser: Browser, any_conversion: Callable[[int], Any]
) -> None:
    # ten times as long as an app takes to start, also where a busy machine slows both
    settings = {"epochs": 30.0, "learning_rate": 1e-3, "batch_size": 1.0}
    model = {"kind": "practice", "id": "practice"}
    job = backends.BACKENDS["local"].start("long", any_conversion(200), model, settings, "")
    page = visit(browser, f"{server.url}/jobs")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    until(lambda: job.folder.metrics(), 120)
    server.kill()
    seen = len(job.folder.metrics())
    until(lambda: len(job.folder.metrics()) > seen, 120)
    assert jobs.get(job.id).attempt == 1
    server.start()
    page = visit(browser, f"{server.url}/jobs")
    expect(page.get_by_text("long").first).to_be_visible()
    press(page, f"stop_{job.id}")
    expect(page.locator(".stMarkdownBadge").filter(has_text="Stopped").first).to_be_visible(timeout=60_000)


# Notes what would be shown, in place of the browser's own, which a headless one never allows.
NOTED = """() => {
  window.told = []
  window.Notification = class {
    static permission = "granted"
    static requestPermission() { return Promise.resolve("granted") }
    constructor(title, options) { window.told.push(`${title}: ${options.body}`) }
  }
}"""


def test_a_run_that_ends_is_told_outside_the_page(server: Server, browser: Browser) -> None:
    held = JobFolder(root() / "runner")
    held.path.mkdir(parents=True, exist_ok=True)
    with held.working():  # nobody else starts, or ends, what is only there to be looked at
        other = finished("black tea", state="running")
        job = finished("green tea", state="running")
        try:
            page = visit(browser, f"{server.url}/jobs")
            page.evaluate(NOTED)
            key(page, "notify").locator("label").first.click()
            settle(page)
            assert page.evaluate("window.told") == []
            listed = page.locator("[class*=st-key-job_]")
            expect(listed).to_contain_text("Preparing")
            with joblist.opened(write=True) as db:  # nobody touches the page, and its list follows
                joblist.change(db, joblist.row_of(db, other.id), "done")
            expect(listed).to_contain_text("Done")
            (job.folder.path / "stop").touch()
            job.folder.halt(step=40)
            page.wait_for_function("window.told.length > 0")
            assert page.evaluate("window.told") == ["green tea: Stopped"]
            assert page.strangers == []  # type: ignore[attr-defined]
        finally:
            with joblist.opened(write=True) as db:
                joblist.change(db, joblist.row_of(db, job.id), "stopped")
            (held.path / "process.json").unlink()
