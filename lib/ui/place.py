"""Where to train and what: the place's models, what its rules say about the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from lib import backends, hub, jobs, script
from lib.check import Report
from lib.errors import AppError
from lib.ui import parts, platform, sliders
from lib.ui.state import State
from lib.ui.words import explain, t

Model = dict[str, str]
KINDS = ("practice", "path", "hub")  # of models that this computer can train


def choose(me: State) -> backends.Backend:
    """Draw the choice of place; return it."""
    remotes = backends.remotes()
    kinds = [*(name for name in backends.BACKENDS if name not in remotes), "platform"]
    kind = (
        st.segmented_control(
            t("settings.place_title"),
            kinds,
            default="platform" if me.place in remotes else parts.among(me.place, kinds),
            required=True,
            format_func=lambda name: t(f"place.{name}.name"),
            label_visibility="collapsed",
            key="place",
        )
        or "local"
    )
    me.place = kind
    if kind == "platform":
        me.platform = st.selectbox(
            t("platform.which"),
            list(remotes),
            index=list(remotes).index(parts.among(me.platform, list(remotes))),
            format_func=lambda name: t(f"place.{name}.name"),
            key="platform",
        )
        me.place = me.platform
    st.caption(t(f"place.{me.place}.what"))
    for key in backends.BACKENDS[me.place].missing():
        parts.sorry(t(key))
    return backends.BACKENDS[me.place]


def confirmed(me: State, backend: backends.Backend, data: Path, chosen: Model | None) -> bool:
    """Draw what must be confirmed before a job may start; return whether it may."""
    if chosen is None or backend.missing():
        return False
    if isinstance(backend, backends.Remote):
        return platform.confirmed(me, backend, data, chosen, me.settings)
    return True


def command(me: State, backend: backends.Backend, data: Path, chosen: Model | None) -> str:
    """Return the command line that does the same."""
    if backend.manual:
        return script.check(data, backend.target)
    if isinstance(backend, backends.Remote):
        return script.send(backend.name, data, chosen, me.settings)
    return script.train(data, chosen, me.settings)


def begin(me: State, backend: backends.Backend, name: str, data: Path, chosen: Model) -> jobs.Job:
    """Start the job."""
    if isinstance(backend, backends.Remote):
        return platform.begin(me, backend, name, data, chosen, me.settings, me.system)
    return backend.start(name, data, chosen, me.settings, me.system)


def model(me: State) -> Model | None:
    """Draw the choice of model; return it as a job asks for it, None until it is whole."""
    backend = backends.BACKENDS[me.place]
    if isinstance(backend, backends.Remote):
        return platform.model(me, backend)
    if me.place != "local":
        names = list(backend.models())
        me.console_model = st.selectbox(
            t("settings.model"),
            names,
            index=names.index(me.console_model) if me.console_model in names else 0,
            key="console_model",
        )
        return {"kind": "platform", "id": me.console_model}
    me.model = st.radio(
        t("settings.model"),
        KINDS,
        index=KINDS.index(parts.among(me.model, KINDS)),
        format_func=lambda kind: t(f"model.{kind}.name"),
        captions=[t(f"model.{kind}.what") for kind in KINDS],
        key="model",
    )
    if me.model == "practice":
        return {"kind": "practice", "id": "practice"}
    if me.model == "path":
        me.model_path = st.text_input(
            t("model.path.label"),
            me.model_path,
            placeholder="~/models/Qwen2.5-0.5B-Instruct",
            key="model_path",
        )
        path = Path(me.model_path.strip()).expanduser()
        return {"kind": "path", "id": str(path)} if me.model_path.strip() else None
    me.model_hub = st.text_input(
        t("model.hub.label"), me.model_hub, placeholder="Qwen/Qwen2.5-0.5B-Instruct", key="model_hub"
    )
    if not me.model_hub.strip():
        return None
    try:
        ref = hub.parse(me.model_hub, kind="model", sites=("hub",))
    except AppError as error:
        parts.sorry(explain(error))
        return None
    return {"kind": "hub", "id": ref.repo, "revision": ref.revision, "endpoint": me.endpoint_url}


def again(me: State, job: jobs.Job) -> None:
    """Make a job's place, model and settings the visitor's, so that the settings page shows them."""
    asked = job.folder.asked()
    chosen = asked.get("model") or {}
    kind, name = str(chosen.get("kind", "")), str(chosen.get("id", ""))
    if job.backend in backends.BACKENDS:
        me.place = job.backend
    place = backends.BACKENDS[me.place]
    if isinstance(place, backends.Remote):
        me.platform, me.platform_models[place.name] = place.name, name
        me.platform_at[place.name] = chosen.get(place.needs, "")
    elif kind == "platform":
        me.console_model = name
    elif kind in KINDS:
        me.model = kind
        if kind == "path":
            me.model_path = name
        elif kind == "hub":
            revision = str(chosen.get("revision") or "main")
            me.model_hub = name if revision == "main" else f"{name}@{revision}"
    sliders.take(me, place, chosen, asked.get("settings") or {})


def speed(me: State, chosen: Model | None) -> dict[str, Any]:
    """Return what is known about this model's speed here, as `estimate.plan` takes it."""
    if me.place != "local" or chosen is None:
        return {}
    return {
        "speed": jobs.measured_speed(chosen),
        "practice": chosen["kind"] == "practice",
        "parameters": backends.local.parameters(chosen),
    }


def findings(report: Report) -> None:
    """Draw what the place's rules say about the training file."""
    errors = [finding for finding in report.findings if finding.severity == "error"]
    if not report.findings:
        st.markdown(t("settings.check_good", n=report.rows, icon=":green[:material/check_circle:]"))
        return
    if errors:
        st.markdown(t("settings.check_bad", n=len(errors)))
    else:
        st.markdown(t("settings.check_warn", n=len(report.findings)))
    table = [
        {
            t("check.row"): finding.line,
            t("check.field"): finding.field,
            t("check.rule"): t(f"check.{finding.rule}"),
            t("check.value"): finding.value[:80],
        }
        for finding in (errors or report.findings)[:50]
    ]
    st.dataframe(pd.DataFrame(table), hide_index=True, key="findings")
