"""A platform on the pages: which one, its key and model, what the job will cost; the job there; deploying."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import streamlit as st

from lib import backends, handover, joblist, jobs, keys
from lib.backends import Backend, Model, Remote, siliconflow
from lib.backends.hf_jobs import HARDWARE, HuggingFaceJobs
from lib.backends.remote import Cost, Deployment, remember, remembered
from lib.jobfolder import JobFolder
from lib.params import Settings
from lib.ui import parts
from lib.ui.state import State
from lib.ui.words import t

SLOWLY = 5.0  # seconds between two looks at a deployment


def model(me: State, place: Remote) -> Model | None:
    """Draw the choice of address, key and base model; return what is chosen, None until it is whole."""
    profile = place.profile
    st.markdown(t("platform.facts", day=str(profile.checked), source=profile.source))
    if profile.closed:
        st.warning(t("platform.closed"), icon=":material/block:")
    chosen: Model = {"kind": "platform", "id": ""}
    if place.needs:
        me.platform_at[place.name] = st.text_input(
            t(f"platform.{place.needs}"),
            me.platform_at.get(place.name, ""),
            help=t(f"platform.{place.needs}_help"),
            key=f"at_{place.name}",
        ).strip()
        chosen[place.needs] = me.platform_at[place.name]
    key = _typed(me, place, _address(place, chosen))
    names = list(me.offered.get(place.name) or place.models())
    known = me.platform_models.get(place.name, "")
    if known and known not in names:
        names.append(known)
    picked = st.selectbox(
        t("settings.model"),
        names,
        index=names.index(known) if known in names else 0 if names else None,
        accept_new_options=True,
        placeholder=t("platform.model_typed"),
        help=t("platform.model_help"),
        key=f"platform_model_{place.name}_{len(names)}",
    )
    chosen["id"] = me.platform_models[place.name] = (picked or "").strip()
    if place.profile.models_at and key:
        asked = st.button(
            t("platform.ask", platform=profile.label), icon=":material/cloud_sync:", key="ask_platform"
        )
        if asked:
            with parts.calm():
                wire = place.wire(key, place.address_of(chosen))
                me.offered[place.name] = place.offered(wire)
                me.offered[_of(place, chosen)] = dict(place.limits(wire, chosen)) if chosen["id"] else {}
                st.rerun()
    if isinstance(place, HuggingFaceJobs):
        _rented(me, place, chosen, key)
    return chosen if chosen["id"] and (not place.needs or chosen[place.needs]) else None


def limited(me: State, place: Backend, chosen: Model | None) -> Backend:
    """Return a place with the ranges that the platform itself told for this model, if it was asked."""
    told = me.offered.get(_of(place, chosen)) if chosen else None
    if not told:
        return place
    narrower = copy.copy(place)
    narrower.ranges = told
    return narrower


def confirmed(me: State, place: Remote, data: Path, chosen: Model, settings: Settings) -> bool:
    """Draw what the job will cost and whether it may; return whether everything is there to send it."""
    key = known_key_of(me, place, _address(place, chosen))
    with st.container(border=True):
        parts.card_title(t("platform.cost_title"), t("platform.cost_lead"))
        told = place.cost(data, chosen, settings)
        asked = me.offered.get(f"cost {_this(place, data, chosen, settings)}")
        _cost(asked or told)
        if (
            key
            and place.asks_price
            and st.button(t("platform.ask_cost"), icon=":material/price_check:", key="ask_cost")
        ):
            with parts.calm():
                wire = place.wire(key, place.address_of(chosen))
                me.offered[f"cost {_this(place, data, chosen, settings)}"] = place.cost(
                    data, chosen, settings, wire
                )
                st.rerun()
        this = _this(place, data, chosen, settings)
        sure = st.checkbox(
            t("platform.confirm", platform=place.profile.label),
            me.confirmed == this,
            key=f"confirm_{abs(hash(this))}",
        )
        me.confirmed = this if sure else ""
        broken = place.check(data).errors
        if broken:
            st.caption(t("platform.mend_first"))
        if not key:
            st.caption(t("platform.key_first"))
    return sure and bool(key) and not broken


def begin(
    me: State, place: Remote, name: str, data: Path, chosen: Model, settings: Settings, system: str
) -> jobs.Job:
    """Send the job: its key is handed to its process and lies nowhere."""
    key = known_key_of(me, place, place.address_of(chosen))
    cost = me.offered.get(f"cost {_this(place, data, chosen, settings)}")
    me.confirmed = ""

    def before(folder: JobFolder) -> None:
        handover.offer(folder, key)
        if cost and cost.files:  # sent already, to be told the price
            remember(folder, {"files": cost.files})

    return place.sending(name, data, chosen, settings, system, before=before)


def key_of(me: State, job: jobs.Job) -> str:
    """Return the key for a job's platform; where none is known, draw a field to type it."""
    return _typed(me, backends.BACKENDS[job.backend], _address_of(job))


def known_key(me: State, job: jobs.Job) -> str:
    """Return the key for a job's platform, "" where none is known."""
    return known_key_of(me, backends.BACKENDS[job.backend], _address_of(job))


def known_key_of(me: State, place: Backend, address: str) -> str:
    """Return a platform's key for one address, found or typed; one typed for another address is not it."""
    return keys.find(place.key_variable)[0] or me.api_keys.get(_whose(place, address), "")


def panel(me: State, job: jobs.Job, standing: joblist.Standing, curves: Callable[[], None]) -> None:
    """Draw a job at a platform: what it says, how long it has waited, what went wrong on the way."""
    place, status = backends.BACKENDS[job.backend], job.folder.status()
    label = place.profile.label if isinstance(place, Remote) else job.backend
    if job.state == "failed":
        parts.trouble(job.error or {})
    if job.state == "running":
        st.caption(t("platform.safe_to_close", platform=label))
        if standing.phase in ("starting", ""):
            st.markdown(t("platform.starting"))
        else:
            st.markdown(t(f"phase.{standing.phase}"))
            _told(status, standing)
        if standing.phase == "no_key":
            key = key_of(me, job)
            if key and st.button(t("platform.go_on"), icon=":material/key:", key=f"hand_{job.id}"):
                handover.offer(job.folder, key)
        if status.get("trouble"):
            st.caption(t("platform.trouble"))
            parts.trouble(status["trouble"])
    elif job.state == "queued":
        st.markdown(t("platform.starting"))
    curves()
    if job.state == "done":
        _done(me, job, place)


def _rented(me: State, place: HuggingFaceJobs, chosen: Model, key: str) -> None:
    """Draw the choice of a machine and its hours, which become part of what is chosen."""
    if key and "hardware" not in me.offered:
        with parts.calm():
            me.offered["hardware"] = place.hardware(place.wire(key))
    rows = me.offered.get("hardware") or [(HARDWARE, HARDWARE, None)]
    said = {name: what if hour is None else f"{what} · {hour:.2f} USD/h" for name, what, hour in rows}
    left, right = st.columns(2)
    with left:
        me.rented = st.selectbox(
            t("platform.hardware"),
            list(said),
            index=list(said).index(me.rented if me.rented in said else HARDWARE) if HARDWARE in said else 0,
            format_func=said.__getitem__,
            key=f"hardware_{len(said)}",
        )
    with right:
        me.hours = st.number_input(
            t("platform.hours"), 0.5, 24.0, me.hours, 0.5, help=t("platform.hours_help"), key="hours"
        )
    chosen |= {"hardware": me.rented, "hours": f"{me.hours:g}"}


def by_api(me: State, job: jobs.Job, place: siliconflow.SiliconFlow) -> None:
    """Draw the way to send the files by an API that is not documented for it; off unless switched on."""
    me.by_api = st.toggle(
        t("place.siliconflow.by_api"), me.by_api, help=t("place.siliconflow.by_api_help"), key="by_api"
    )
    if not me.by_api:
        return
    st.warning(t("place.siliconflow.undocumented"), icon=":material/science:")
    key = key_of(me, job)
    if key and st.button(t("place.siliconflow.send"), icon=":material/upload:", key=f"send_{job.id}"):
        with parts.calm():
            place.upload(job, key)
    for name, file in siliconflow.sent(job).items():
        st.markdown(t("place.siliconflow.sent", name=name))
        st.code(file, language=None)


def _told(status: dict[str, object], standing: joblist.Standing) -> None:
    """Draw the platform's own word for the state, and whatever it counts."""
    numbers = {name: value for name, value in status.items() if isinstance(value, int | float)}
    if standing.phase == "uploading" and numbers.get("total"):
        done, total = numbers["done"], numbers["total"]
        st.progress(min(1.0, done / total), t("live.of", done=done, total=total))
    if status.get("raw"):
        st.text(t("platform.raw", raw=status["raw"]))
    tiles = [(t("platform.for"), t("jobs.took_time", seconds=time.time() - standing.since))]
    if numbers.get("polled"):
        tiles.append((t("platform.looks"), f"{numbers['polled']:,.0f}"))
    if numbers.get("ahead"):
        tiles.append((t("platform.ahead"), f"{numbers['ahead']:,.0f}"))
    if numbers.get("seconds_left"):
        tiles.append((t("jobs.left"), t("jobs.left_time", seconds=numbers["seconds_left"])))
    if numbers.get("percent") and standing.phase == "running":
        st.progress(
            min(1.0, numbers["percent"] / 100), t("platform.percent", percent=numbers["percent"] / 100)
        )
    if numbers.get("step") and numbers.get("steps"):
        step, steps = numbers["step"], numbers["steps"]
        st.progress(min(1.0, step / steps), t("jobs.progress", step=int(step), steps=int(steps)))
    parts.numbers(*tiles)


def _done(me: State, job: jobs.Job, place: Backend) -> None:
    result = job.folder.result() or {}
    st.markdown(t("platform.done", waited=result["seconds_waited"], seconds=result["seconds"]))
    st.code(str(result["tuned_model"]), language=None, wrap_lines=True)
    if isinstance(place, Remote) and not place.answers:
        st.markdown(t("platform.not_here", page=f"{place.address}/{result['tuned_model']}"))
    elif isinstance(place, Remote) and place.deploys:
        _deploying(me, job, place)


def _deploying(me: State, job: jobs.Job, place: Remote) -> None:
    """Draw the step between a tuned model and its answers, what it costs, and the button that ends it."""
    st.markdown(f"**{t('platform.deploy_title')}**")
    page = str(place.profile.deploy.get("page", ""))
    if not place.can_deploy:
        st.markdown(t("platform.deploy_by_hand", page=page))
        known = str(remembered(job.folder).get("answers_as", ""))
        name = st.text_input(t("platform.answers_as"), known, key=f"answers_{job.id}")
        if name.strip() != known:
            place.name_tuned(job, name)
            st.rerun()
        return
    key = key_of(me, job)
    if not key:
        return
    if not remembered(job.folder).get("deployment"):
        st.markdown(t("platform.deploy_what", page=page))
        if st.button(t("platform.deploy"), icon=":material/rocket_launch:", key=f"deploy_{job.id}"):
            with parts.calm():
                place.deploy(job, key)
                st.rerun()
        return

    @st.fragment(run_every=SLOWLY, key="deployment")
    def watched() -> None:
        with parts.calm():
            now = place.deployment(job, key)
            if now is None:
                st.rerun()
            _deployed(now, page)
            if st.button(t("platform.undeploy"), icon=":material/stop_circle:", key=f"undeploy_{job.id}"):
                place.undeploy(job, key)
                st.rerun()

    watched()


def _deployed(now: Deployment, page: str) -> None:
    seconds = time.time() - now.since
    st.markdown(t(f"platform.deploy_{now.state}", model=parts.literal(now.model)))
    tiles = [(t("platform.for"), t("jobs.took_time", seconds=seconds)), (t("platform.word"), now.raw or "–")]
    if now.price is not None:
        spent = f"{now.price * seconds / 3600:.2f} {now.currency}"
        tiles.append((t("platform.spent"), t("settings.about", what=spent)))
    parts.numbers(*tiles)
    if now.price is None:
        st.markdown(t("platform.deploy_unpriced", page=page))


def _cost(cost: Cost) -> None:
    tiles = [(t("preflight.tokens"), t("settings.about", what=f"{cost.tokens:,}"))]
    if cost.amount is not None:
        key = "platform.at_most" if cost.at_most else "settings.about"
        tiles.append((t("platform.amount"), t(key, what=f"{cost.amount:,.2f} {cost.currency}")))
    if cost.minimum is not None:
        most = f"–{cost.minimum_most:,.2f}" if cost.minimum_most else ""
        tiles.append((t("platform.minimum"), f"{cost.minimum:,.2f}{most} {cost.currency}"))
    parts.numbers(*tiles)
    if cost.asked:
        st.caption(t("platform.cost_asked"))
    elif cost.amount is not None:
        st.markdown(t("platform.cost_listed", day=cost.checked, source=cost.source))
    else:
        st.caption(t("platform.cost_unknown"))


def _typed(me: State, place: Backend, address: str) -> str:
    whose = _whose(place, address)
    label = place.profile.label if isinstance(place, Remote) else t(f"place.{place.name}.name")
    server = whose.removeprefix(place.name)
    me.api_keys[whose] = parts.secret(place.key_variable, me.api_keys.get(whose, ""), label, server)
    return me.api_keys[whose]


def _address(place: Remote, chosen: Model) -> str:
    return chosen.get(place.needs, "") if place.needs else place.address


def _address_of(job: jobs.Job) -> str:
    return str(job.folder.asked().get("address", ""))


def _whose(place: Backend, address: str) -> str:
    """Return whom a typed key is for: a platform, and where the visitor says where that is, the server."""
    needs = isinstance(place, Remote) and place.needs == "address"
    return f"{place.name} {urlsplit(address).netloc}" if needs else place.name


def _of(place: Backend, chosen: Model | None) -> str:
    return f"{place.name} {(chosen or {}).get('id', '')}"


def _this(place: Remote, data: Path, chosen: Model, settings: Settings) -> str:
    """Return what tells this job from every other: a confirmation is for one."""
    return f"{place.name} {data} {sorted(chosen.items())} {sorted(settings.items())}"
