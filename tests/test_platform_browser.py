"""A whole job at a platform of each wire shape, and SiliconFlow's guided path, in a real Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from lib import backends, jobs, words, workspace
from lib.jobfolder import JobFolder
from tests.platforms import ROWS, Platform
from tests.processes import until
from tests.test_browser import (
    Server,
    accessible,
    browser,
    key,
    press,
    pytestmark,
    server,
    settle,
    shoot,
    visit,
)
from tests.test_pages import converted

__all__ = ["browser", "pytestmark", "server"]
KEY = "sk-typed-in-the-browser-0123456789"
SHAPES = {"nebius": "openai", "together": "together", "fireworks": "fireworks", "dashscope": "dashscope"}
SHAPES["hf_jobs"] = "hf_jobs"


@pytest.fixture
def far(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    """A platform on loopback, known before the app starts."""
    name = request.param
    with Platform(SHAPES[name], KEY) as there:
        address = there.origin + ROWS[name].tail.replace("/accounts/me", "/accounts/{account}")
        monkeypatch.setenv(f"{name.upper()}_BASE_URL", address)
        monkeypatch.setenv("FIRSTTUNE_LOOK_SECONDS", "0.3")
        yield there


def settings_page(browser: Browser, url: str, place: str, lang: str, width: int) -> Page:
    """Open the settings page as somebody who has converted the sample and chosen a place."""
    remote = place in backends.remotes()
    known = {"conversion": converted(), "place": place, "platform": place if remote else ""}
    workspace.write_json(workspace.root() / "visit.json", known)
    return visit(browser, f"{url}/settings?lang={lang}", width=width)


def fill(page: Page, name: str, text: str) -> None:
    box = key(page, name).get_by_role("textbox")
    box.fill(text)
    box.blur()
    settle(page)


def button(page: Page, name: str) -> Locator:
    """Return the button whose key begins so; what follows is a job's id, which may hold Chinese."""
    return page.locator(f"[class*=st-key-{name}]").get_by_role("button")


@pytest.mark.parametrize(
    ("far", "name", "lang", "width"),
    [
        ("nebius", "nebius", "en", 1280),
        ("together", "together", "zh", 1280),
        ("fireworks", "fireworks", "en", 390),
        ("dashscope", "dashscope", "zh", 390),
        ("hf_jobs", "hf_jobs", "zh", 1280),
    ],
    indirect=["far"],
)
def test_a_whole_job_at_a_platform(
    far: Platform, server: Server, browser: Browser, workspace: Path, name: str, lang: str, width: int
) -> None:
    far.plan = ["queued", *["queued"] * 6, "odd", *["running"] * 12, "done"]
    page = settings_page(browser, server.url, name, lang, width)
    place = backends.remotes()[name]
    if place.needs:
        fill(page, f"at_{name}", "me")
    fill(page, f"key_{place.key_variable}", KEY)
    if place.profile.models_at:
        press(page, "ask_platform")
        expect(page.locator(f"[class*=st-key-platform_model_{name}]").get_by_role("combobox")).to_have_value(
            ROWS[name].model["id"]
        )
        settle(page)
    if place.asks_price:
        press(page, "ask_cost")
        expect(page.get_by_text(words.say(lang, "platform.cost_asked"))).to_be_visible()
    start = key(page, "onward_settings").get_by_role("button").last
    expect(start).to_be_disabled()
    page.locator("[class*=st-key-confirm_]").locator("label").click()
    expect(start).to_be_enabled()
    settle(page)
    accessible(page, f"settings of {name}")
    shoot(page, f"{lang}-{width}-platform-{name}-settings")
    start.click()
    expect(page.get_by_text(words.say(lang, "phase.waiting"))).to_be_visible()
    shoot(page, f"{lang}-{width}-platform-{name}-waits")
    expect(page.get_by_text(words.say(lang, "phase.running"))).to_be_visible()
    accessible(page, f"job at {name}")
    (job,) = jobs.listing("train")
    expect(page.get_by_text(_result(job, far)["tuned_model"]).first).to_be_visible()
    settle(page)
    if not place.answers:
        shoot(page, f"{lang}-{width}-platform-{name}-done")
        accessible(page, f"done at {name}")
        expect(key(page, "onward_jobs").get_by_role("button").last).to_be_enabled()
        return
    button(page, "deploy_2").click()
    expect(button(page, "undeploy_2")).to_be_visible()
    ready = words.say(lang, "platform.deploy_ready", model="\0").partition("\0")[0].strip()
    expect(page.get_by_text(ready)).to_be_visible()
    accessible(page, f"deployed at {name}")
    shoot(page, f"{lang}-{width}-platform-{name}-deployed")
    button(page, "undeploy_2").click()
    expect(button(page, "deploy_2")).to_be_visible()
    assert far.deployed == {}
    assert page.strangers == []  # type: ignore[attr-defined]
    for path in workspace.rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(("lang", "width"), [("en", 1280), ("zh", 390)])
def test_siliconflows_guided_path(server: Server, browser: Browser, lang: str, width: int) -> None:
    page = settings_page(browser, server.url, "siliconflow", lang, width)
    press(page, "onward_settings")
    expect(page.get_by_text(words.say(lang, "place.siliconflow.lora_dropout"))).to_be_visible()
    settle(page)
    (job,) = jobs.listing("train")
    place = backends.BACKENDS["siliconflow"]
    values = [value for _, value in place.console_values(job)]
    code = page.get_by_test_id("stCode")
    expect(code.nth(len(values) - 1)).to_be_visible()  # the code's look is loaded when it is first wanted
    assert [text.strip() for text in code.all_inner_texts()[: len(values)]] == values
    link = page.get_by_role("link", name="cloud.siliconflow.cn/fine-tune")
    assert link.get_attribute("href") == "https://cloud.siliconflow.cn/fine-tune"
    assert not page.get_by_text(words.say(lang, "place.siliconflow.undocumented")).is_visible()
    shoot(page, f"{lang}-{width}-siliconflow-values")
    tuned = "ft:LoRA/Qwen/Qwen2.5-7B-Instruct:acc0unt:tea-leaves:abcdefghij0123456789"
    box = page.locator("[class*=st-key-tuned_2]").get_by_role("textbox")
    box.fill(tuned)
    box.blur()
    until(lambda: (JobFolder(job.folder.path).result() or {}).get("tuned_model") == tuned)
    settle(page)
    accessible(page, "by hand")
    shoot(page, f"{lang}-{width}-siliconflow-named")
    assert page.strangers == []  # type: ignore[attr-defined]


def _result(job: jobs.Job, far: Platform) -> dict[str, str]:
    def look() -> dict[str, str] | None:
        return job.folder.result()

    found = until(look, 60)
    assert far.jobs
    return found
