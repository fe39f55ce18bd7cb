"""The six steps: their pages, the stepper on top, the buttons that lead on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import streamlit as st

from lib.ui.state import state
from lib.ui.words import t


@dataclass(frozen=True, slots=True)
class Step:
    """One screen: `name` is its file in pages/steps, its address and its text table."""

    name: str
    icon: str


STEPS = (
    Step("welcome", ":material/flag:"),
    Step("data", ":material/download:"),
    Step("convert", ":material/table_view:"),
    Step("settings", ":material/tune:"),
    Step("jobs", ":material/model_training:"),
    Step("compare", ":material/forum:"),
)
NAMES = tuple(step.name for step in STEPS)


def pages() -> list[Any]:
    """Return the pages for `st.navigation`, titled in the visitor's language."""
    return [
        st.Page(
            _file(step.name),
            title=t(f"{step.name}.step"),
            icon=step.icon,
            url_path="" if step.name == "welcome" else step.name,
            default=step.name == "welcome",
        )
        for step in STEPS
    ]


def go(name: str) -> NoReturn:
    """Leave for another step."""
    st.switch_page(_file(name))


def stepper(at: str) -> None:
    """Draw the six steps with `at` as the current one; a click goes there."""
    result = _STEPPER(
        data={
            "steps": [t(f"{name}.step") for name in NAMES],
            "at": NAMES.index(at),
            "label": t("frame.steps"),
            "lang": state().lang,
        },
        key="stepper",
        on_go_change=lambda: None,
    )
    if result.go is not None and NAMES[int(result.go)] != at:
        go(NAMES[int(result.go)])


def onward(at: str, *, ready: bool = True, label: str | None = None, primary: bool = True) -> bool:
    """Draw Back and the primary button to the next step; return whether the primary one was pressed.

    With a `label` the page itself acts on the press; without, it just leads on. Not `primary` where the page
    has another button that matters more.
    """
    place = NAMES.index(at)
    pressed = False
    st.space("small")
    with st.container(horizontal=True, horizontal_alignment="distribute" if place else "right"):
        if place and st.button(t("frame.back"), icon=":material/arrow_back:", key=f"back_{at}"):
            go(NAMES[place - 1])
        if place + 1 < len(NAMES):
            text = label or t("frame.onward", step=t(f"{NAMES[place + 1]}.step"))
            pressed = st.button(
                text,
                type="primary" if primary else "secondary",
                icon=":material/arrow_forward:",
                icon_position="right",
                disabled=not ready,
                key=f"onward_{at}",
            )
    if pressed and label is None:
        go(NAMES[place + 1])
    return pressed


def _file(name: str) -> str:
    return str(Path("steps", f"{name}.py"))  # from pages/frame.py


_CSS = """
ol{display:flex;list-style:none;margin:0;padding:6px 0;font-family:var(--st-font);color:var(--st-text-color)}
li{flex:1;min-width:0;position:relative;text-align:center}
li+li::before{content:"";position:absolute;top:15px;height:2px;left:calc(-50% + 22px);
  right:calc(50% + 22px);background:var(--st-border-color)}
li.done+li::before{background:var(--st-primary-color)}
button{all:unset;cursor:pointer;display:inline-flex;flex-direction:column;align-items:center;gap:7px;
  max-width:100%;box-sizing:border-box;padding:0 4px;border-radius:8px}
button:focus-visible{outline:2px solid var(--st-primary-color);outline-offset:3px}
.dot{box-sizing:border-box;width:32px;height:32px;border-radius:50%;display:grid;place-items:center;
  font-size:14px;font-weight:600;
  border:2px solid var(--st-border-color);background:var(--st-background-color)}
.done .dot{background:var(--st-primary-color);border-color:var(--st-primary-color);color:#fff}
.now .dot{border-color:var(--st-primary-color);color:var(--st-primary-color);
  box-shadow:0 0 0 4px color-mix(in srgb,var(--st-primary-color) 16%,transparent)}
.name{font-size:13px;line-height:1.3;overflow-wrap:anywhere}
.now .name{font-weight:650}
@media (max-width:640px){
  li:not(.now) .name{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
  .now .name{white-space:nowrap}
}
"""
_JS = """
let shown = null
export default function ({ data, parentElement, setTriggerValue }) {
  // the next page begins at its top, however far down this one was read
  if (shown !== null && shown !== data.at) document.querySelector("[data-testid=stMain]")?.scrollTo(0, 0)
  shown = data.at
  const list = parentElement.querySelector("ol")
  list.setAttribute("aria-label", data.label)
  list.setAttribute("lang", data.lang)
  list.replaceChildren(...data.steps.map((name, i) => {
    const item = document.createElement("li")
    item.className = i < data.at ? "done" : i === data.at ? "now" : "ahead"
    const button = document.createElement("button")
    if (i === data.at) button.setAttribute("aria-current", "step")
    const dot = document.createElement("span")
    dot.className = "dot"
    dot.setAttribute("aria-hidden", "true")
    dot.textContent = i < data.at ? "\\u2713" : String(i + 1)
    const text = document.createElement("span")
    text.className = "name"
    text.textContent = name
    button.append(dot, text)
    button.onclick = () => setTriggerValue("go", i)
    item.append(button)
    return item
  }))
}
"""
_STEPPER = st.components.v2.component("firsttune_stepper", html="<ol></ol>", css=_CSS, js=_JS)
