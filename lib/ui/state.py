"""One visitor's State: what they chose so far. The only module that touches `st.session_state`.

State holds names and choices, never data or work: those lie on disk. It is written to the workspace's
`visit.json`, so a reload, a closed tab or a restarted app leads back to the same place.
"""

from __future__ import annotations

import secrets
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any

import streamlit as st

from lib import examine, hub, words, workspace
from lib.hub.look import Look
from lib.playground import TRAINED, Chosen

KEY = "state"


@dataclass
class Turn:
    """One question on the compare page. `answers` are by voice, in the order they are shown in.

    `reference` is the answer in the data, `system` the row's own system prompt; "" for a typed question.
    `alone`: the turns before are not told. `blind`: who answered is not shown before there is a `vote`.
    """

    question: str
    answers: dict[str, str]
    reference: str = ""
    system: str = ""
    alone: bool = True
    blind: bool = False
    vote: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Tried:
    """Settings as the playground had them: the tiny model's, the learning rate shown, rows to learn from."""

    chosen: Chosen
    shown: float
    rows: int


@dataclass
class Found:
    """What asking for a repository brought: what each endpoint did, the order to use them in, what is there.

    `card` is how its description begins; `looks` are the files that were looked into.
    """

    ref: hub.Ref
    visits: tuple[hub.Visit, ...]
    order: tuple[str, ...]
    listing: hub.Listing | None = None
    card: str = ""
    looks: dict[str, Look] = field(default_factory=dict)


@dataclass
class State:
    """What this visitor chose. A field added here is kept over a reload by itself."""

    # get data
    source: str = "sample"
    hub_text: str = "Conard/fortune-telling"
    endpoint: str = "auto"  # the endpoint doctor's choice; or one of hub.ENDPOINTS, or "own"
    own_endpoint: str = ""
    path_text: str = ""
    download: str = ""  # job id
    dataset: str = ""  # dataset id
    # look and convert: which files, how they are looked at
    config: str = ""
    split: str = ""
    files: list[str] = field(default_factory=list)
    shown_file: str = ""
    view: str = "pages"
    page: int = 1
    row: int = 0  # its number in the shown file, from 1
    drawn: int = 0  # the seed of the random sample
    sought: str = ""
    most: int = 1024  # tokens: where a long conversation would lose its end
    surveys: dict[str, str] = field(default_factory=dict)  # file -> id of the job that indexes it
    # what becomes of a row, and whether that is good
    format: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    system: str = ""
    reasoning: str = ""  # "": the first way of formats.REASONING
    template: str = ""
    roles: dict[str, str] = field(default_factory=dict)
    target: str = ""  # "": the strictest
    examining: str = ""  # job id
    rule: str = ""  # the one rule whose bad rows are shown
    mending: list[str] = field(default_factory=list)  # file and number of the row that is being mended
    # writing
    validation: float = 0.1
    split_seed: int = 0
    group: str = ""
    also: list[str] = field(default_factory=list)
    converting: str = ""  # job id
    conversion: str = ""  # folder name in the workspace's conversions
    # settings
    place: str = "local"
    platform: str = ""  # the one of the network that was chosen last; "": the first
    platform_models: dict[str, str] = field(default_factory=dict)  # platform -> base model
    rented: str = ""  # the machine; "": the smallest with a graphics card
    hours: float = 2.0  # after which it is given back at the latest
    platform_at: dict[str, str] = field(default_factory=dict)  # platform -> address, account or resource
    model: str = "practice"
    model_path: str = ""
    model_hub: str = ""
    console_model: str = ""
    settings: dict[str, float] = field(default_factory=dict)
    settings_for: str = ""  # the place and model these settings were made for
    run_name: str = ""  # of the run that is begun again; "": the dataset's
    wanted: dict[str, float] = field(default_factory=dict)  # values known to hurt, wanted all the same
    prices: dict[str, list[float]] = field(default_factory=dict)  # place -> for a million tokens, at least
    guesses: dict[str, str] = field(default_factory=dict)  # round -> what was guessed
    played_rows: int = TRAINED
    # jobs and compare
    job: str = ""
    run_sought: str = ""
    compared: list[str] = field(default_factory=list)  # job ids
    smoothing: float = 0.6
    log_scale: bool = False
    notify: bool = False  # a sound and a notification when a run has ended
    other: str = ""  # the second job, to compare with; "" for none
    judging: str = "talk"  # which part of the compare page is shown
    memory: bool = False
    blind: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    most_said: int = 256  # tokens of an answer
    talk_seed: int = 0
    # never written: this tab's language, secrets and talk
    lang: str = field(default="", metadata={"kept": False})
    api_keys: dict[str, str] = field(default_factory=dict, metadata={"kept": False})  # by whom it is for
    offered: dict[str, Any] = field(default_factory=dict, metadata={"kept": False})  # what platforms told
    by_api: bool = field(default=False, metadata={"kept": False})  # what is undocumented stays off
    confirmed: str = field(default="", metadata={"kept": False})  # the very job that may cost money
    hub_token: str = field(default="", metadata={"kept": False})
    upload_repo: str = ""
    upload_endpoint: str = hub.ENDPOINTS[0]
    upload_public: bool = False
    token_anywhere: bool = field(default=False, metadata={"kept": False})
    found: Found | None = field(default=None, metadata={"kept": False})
    tried: list[Tried] = field(default_factory=list, metadata={"kept": False})  # the last ones, in order
    asked_twice: str = field(default="", metadata={"kept": False})  # the red card that was asked about
    guessed: str = field(default="", metadata={"kept": False})  # the round whose outcome is shown
    sources: int = field(default=0, metadata={"kept": False})  # counts the times the source was set anew
    settings_round: int = field(default=0, metadata={"kept": False})  # counts the times they were set anew
    jumps: int = field(default=0, metadata={"kept": False})  # counts the times the page of rows was set anew
    mapped: int = field(default=0, metadata={"kept": False})  # counts the times the columns were set anew
    template_round: int = field(default=0, metadata={"kept": False})
    edit_round: int = field(
        default=0, metadata={"kept": False}
    )  # counts edits: fields take their values anew
    seen: examine.Examination | None = field(default=None, metadata={"kept": False})  # the last one, to show
    seen_of: str = field(default="", metadata={"kept": False})  # while the next one is made; of these files
    uploaded: str = field(default="", metadata={"kept": False})
    turns: dict[str, list[Turn]] = field(default_factory=dict, metadata={"kept": False})
    written: dict[str, Any] = field(default_factory=dict, metadata={"kept": False})

    def begin(self, dataset: str) -> None:
        """Choose a dataset: what was chosen for the one before is forgotten, what suits any is kept."""
        fresh = State()
        for name in _OF_A_DATASET:
            setattr(self, name, getattr(fresh, name))
        self.dataset = dataset

    @property
    def endpoint_url(self) -> str:
        """The address of the endpoint chosen, also where it is the visitor's own; "" where none was."""
        return {"own": self.own_endpoint, "auto": ""}.get(self.endpoint, self.endpoint)


_OF_A_DATASET = (
    *("config", "split", "files", "shown_file", "view", "page", "row", "drawn", "sought", "surveys"),
    *("format", "fields", "template", "roles", "examining", "rule", "mending", "seen", "seen_of"),
    *("group", "converting", "conversion", "run_name"),
)


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
    kept = (f for f in fields(State) if f.metadata.get("kept", True))
    return [(f, deepcopy(getattr(held, f.name))) for f in kept]


def _restored() -> State:
    known = workspace.read_json(workspace.root() / "visit.json")
    fresh = State()
    if isinstance(known, dict):
        for f, value in _kept(fresh):
            # a file from an older version, or edited by hand: take only what still fits
            if isinstance(known.get(f.name), type(value)):
                setattr(fresh, f.name, known[f.name])
    return fresh
