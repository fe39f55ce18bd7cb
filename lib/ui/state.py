"""One visitor's State: what they chose so far. The only module that touches `st.session_state`.

State holds names and choices, never data or work: those lie on disk. It is written to the workspace's
`visit.json`, so a reload, a closed tab or a restarted app leads back to the same place.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import streamlit as st

from lib import hub, words, workspace

KEY = "state"


@dataclass
class Turn:
    """One question on the compare page with both answers."""

    question: str
    base: str = ""
    tuned: str = ""


@dataclass
class State:
    """What this visitor chose. A field added here is kept over a reload by itself."""

    # get data
    source: str = "sample"
    hub_text: str = "Conard/fortune-telling"
    endpoint: str = hub.ENDPOINTS[0]
    own_endpoint: str = ""
    path_text: str = ""
    download: str = ""  # job id
    dataset: str = ""  # dataset id
    # look and convert
    files: list[str] = field(default_factory=list)
    shown_file: str = ""
    row: int = 0
    format: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    system: str = ""
    reasoning: str = "drop"
    validation: float = 0.1
    split_seed: int = 0
    target: str = "siliconflow"
    converting: str = ""  # job id
    conversion: str = ""  # folder name in the workspace's conversions
    # settings
    place: str = "local"
    model: str = "practice"
    model_path: str = ""
    model_hub: str = ""
    console_model: str = ""
    settings: dict[str, float] = field(default_factory=dict)
    settings_for: str = ""  # the place and model these settings were made for
    # jobs and compare
    job: str = ""
    memory: bool = False
    temperature: float = 0.0
    # never written: this tab's language, secrets and talk
    lang: str = field(default="", metadata={"kept": False})
    api_key: str = field(default="", metadata={"kept": False})
    listing: hub.Listing | None = field(default=None, metadata={"kept": False})
    settings_round: int = field(default=0, metadata={"kept": False})  # counts the times they were set anew
    uploaded: str = field(default="", metadata={"kept": False})
    turns: dict[str, list[Turn]] = field(default_factory=dict, metadata={"kept": False})
    written: dict[str, Any] = field(default_factory=dict, metadata={"kept": False})

    @property
    def endpoint_url(self) -> str:
        """The address of the endpoint chosen, also where it is the visitor's own."""
        return self.own_endpoint if self.endpoint == "own" else self.endpoint


def state() -> State:
    """Return this visitor's State, made from `visit.json` on the first run of a tab."""
    held = st.session_state.get(KEY)
    # isinstance, not `in`: a reload in development leaves an object of the old class behind
    if not isinstance(held, State):
        held = st.session_state[KEY] = _restored()
        held.lang = words.language_of(st.query_params.get("lang") or st.context.locale)
    return held


def keep() -> None:
    """Write what is kept to `visit.json`, if it changed."""
    held = state()
    now = {f.name: value for f, value in _kept(held)}
    if now != held.written:
        workspace.write_json(workspace.root() / "visit.json", now)
        held.written = now


def start_afresh() -> None:
    """Forget every choice but the language; data, conversions and jobs stay on disk."""
    lang = state().lang
    st.session_state.clear()
    st.session_state[KEY] = State(lang=lang)


def _kept(held: State) -> list[tuple[Any, Any]]:
    plain = asdict(held)
    return [(f, plain[f.name]) for f in fields(State) if f.metadata.get("kept", True)]


def _restored() -> State:
    known = workspace.read_json(workspace.root() / "visit.json")
    fresh = State()
    if isinstance(known, dict):
        for f, value in _kept(fresh):
            # a file from an older version, or edited by hand: take only what still fits
            if isinstance(known.get(f.name), type(value)):
                setattr(fresh, f.name, known[f.name])
    return fresh
