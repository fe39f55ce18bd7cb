"""Where to train and what: the place's models, what its rules say about the data."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from lib import backends, conversions, hub, jobs, params, preflight, script
from lib.check import Report
from lib.errors import AppError
from lib.estimate import Amount, Price
from lib.preflight import Known
from lib.ui import nav, parts, platform, sliders
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
    """Make what a job was asked for the visitor's, so that the settings page begins the same run again."""
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
            _endpoint(me, str(chosen.get("endpoint") or ""))
    me.conversion = conversions.of(job) or me.conversion
    me.system, me.run_name = str(asked.get("system", "")), job.name
    sliders.take(me, place, chosen, params.read(asked))


def _endpoint(me: State, address: str) -> None:
    if not address or address in hub.ENDPOINTS:
        me.endpoint = address or "auto"
    else:
        me.endpoint, me.own_endpoint = "own", address


def known(me: State, chosen: Model | None, report: Report | None, price: Price | None) -> Known:
    """Return what is known about this model and place, as `preflight.card` takes it."""
    broken = len(report.errors) if report else 0
    wanted = frozenset(name for name, value in me.wanted.items() if me.settings.get(name) == value)
    return preflight.known(me.place, chosen, broken_rules=broken, wanted=wanted, price=price)


def validation(amount: Amount) -> None:
    """Draw the share of rows that is kept back; it was chosen where the dataset was converted."""
    total = amount.train + amount.validation
    st.markdown(f"**{t('param.validation.name')}**")
    st.caption(t("param.validation.what"))
    st.markdown(
        t("says.validation.share", n=amount.validation, total=total, share=amount.validation / max(1, total))
    )
    with st.expander(t("settings.lower_higher"), icon=":material/swap_vert:"):
        for part in ("exam", "lower", "higher", "usual"):
            st.markdown(t(f"param.validation.{part}"))
    if st.button(t("settings.to_convert"), icon=":material/arrow_back:", key="to_convert"):
        nav.go("convert")


def findings(report: Report) -> None:
    """Draw what the place's rules say about the training file."""
    errors = report.errors
    if not report.findings:
        st.markdown(t("settings.check_good", n=report.rows, icon=":green[:material/check_circle:]"))
        return
    with parts.above_table():
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
