"""What moves while the visitor watches: downloads, readings, conversions, training."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from lib import backends, conversions, convert, edits, examine, joblist, jobs, params, profile, reading
from lib.curves import Curves
from lib.errors import AppError
from lib.ui import charts, flight, ledger, notice, parts, platform, smaller, table
from lib.ui.state import State
from lib.ui.words import explain, t

Color = Literal["gray", "blue", "green", "red", "orange"]
ACTIVE = ("queued", "running")
BADGES: dict[str, Color] = {
    "queued": "gray",
    "preparing": "blue",
    "training": "blue",
    "evaluating": "blue",
    "running": "blue",
    "done": "green",
    "failed": "red",
    "stopped": "orange",
    "lost": "red",
}


def conversion(me: State) -> None:
    """Draw the conversion that is running, then the ledger of the finished one."""

    def done(job: jobs.Job) -> None:
        me.converting = me.run_name = ""
        me.conversion = str(job.folder.asked()["out"]).replace("\\", "/").rsplit("/", 1)[-1]

    _watch(me.converting, lambda job: _bar(job, "convert.running"), done, t("convert.was_stopped"))
    manifest = conversions.manifest(me.conversion)
    if manifest:
        ledger.written(me, manifest)


def survey(me: State, path: Path, keep: Path) -> profile.Profile | None:
    """Return what is in a file; while a large one is being read, draw how far that is.

    A small file is read at once. For a large one there is a job, the same whoever looks and however often.
    """
    if (known := profile.kept(path, keep)) and table.ready(path, keep):
        return known
    if table.small(path):
        seen = profile.profile(path)
        profile.keep(seen, keep)
        return seen
    asked = {"file": str(path), "keep": str(keep), "stamp": list(convert.stamp(path))}
    me.surveys[str(path)] = _once("survey", path.name, asked, me.surveys.get(str(path), ""))
    begun = not table.ready(path, keep)
    _watch(
        me.surveys[str(path)],
        _bar,
        None,
        t("live.survey_stopped"),
        again=lambda: me.surveys.update({str(path): ""}),
        until=lambda: begun and table.ready(path, keep),
    )
    return None


def examination(me: State, request: convert.Request, keep: Path) -> examine.Examination | None:
    """Return what is wrong with the rows; while that is being found out, draw how far it is.

    While the examination of large files is renewed after a change, the one before is returned.
    """
    files = ", ".join(map(str, request.files))
    if me.seen_of != files:
        me.seen, me.seen_of = None, files
    seen = examine.kept(request, keep)
    if seen is None and sum(path.stat().st_size for path in request.files) <= table.SMALL:
        seen = examine.examine(request)
        examine.keep(request, seen, keep)
    if seen is None:
        stamps = [list(convert.stamp(path)) for path in request.files]
        asked = conversions.as_json(request) | {"keep": str(keep), "stamps": stamps}
        asked |= {"edited": edits.load(request.edits).digest}
        me.examining = _once("examine", request.files[0].name, asked, me.examining)
        _watch(
            me.examining,
            lambda job: _bar(job, "live.examining"),
            None,
            t("live.examination_stopped"),
            again=lambda: setattr(me, "examining", ""),
        )
        if me.seen:
            st.caption(t("live.renewing"))
        return me.seen
    me.seen = seen
    return seen


def training(me: State, job: jobs.Job) -> None:
    """Draw one training job: live while it runs, its result after."""
    active = job.state in ACTIVE and not job.by_hand

    @st.fragment(run_every=1.0 if active else None, key="training")
    def panel() -> None:
        try:
            now = jobs.get(job.id)
        except AppError:
            st.rerun()  # deleted meanwhile, from another tab or the command line
        standing = joblist.standing(now)
        if now.state != job.state:
            # one full run: the list, the buttons and the timer follow; not for each evaluation that begins
            # or ends, because a click just then would be lost
            st.rerun()
        with st.container(border=True):
            with st.container(horizontal=True, vertical_alignment="center"):
                st.header(parts.plain(now.name), anchor=False, width="content")
                st.badge(t(f"state.{standing.state}"), color=BADGES[standing.state])
                st.caption(t("jobs.since", when=_when(standing.since)))
            if now.note:
                st.text(now.note)
            if now.by_hand:
                _by_hand(me, now)
            elif now.backend == "local":
                _local(me, now, standing)
                _folds(now)
            else:
                platform.panel(me, now, standing, lambda: _curves_of_platform(me, now))
                _folds(now)
        if not now.by_hand:
            said = t(f"state.{standing.state}")
            notice.when_done(me, now.id, now.name, said, active=now.state in ACTIVE)

    panel()


def caption(job: jobs.Job) -> str:
    """Return a job's state and since when; no badge, which is too pale to read in a list's captions."""
    standing = joblist.standing(job)
    return f"{t(f'state.{standing.state}')} · {_when(standing.since)}"


def curves_of(job: jobs.Job) -> Curves:
    """Return a job's curves as far as they are written; only what is new since the last look is read."""
    curves = _curves(str(job.folder.path))
    curves.read()
    return curves


@st.cache_resource(max_entries=16, show_spinner=False)
def _curves(folder: str) -> Curves:
    return Curves(Path(folder))


def _when(seconds: float) -> str:
    """Return a time of today as hours and minutes, any other with its day."""
    then = time.localtime(seconds)
    today = time.localtime()[:3] == then[:3]
    return time.strftime("%H:%M" if today else "%m-%d %H:%M", then)


def _watch(
    job_id: str,
    bar: Callable[[jobs.Job], None],
    done: Callable[[jobs.Job], None] | None,
    stopped: str,
    *,
    again: Callable[[], None] | None = None,
    until: Callable[[], bool] = lambda: False,
) -> None:
    """Draw a job while it is active, then how it ended.

    The page runs anew when the job is done, after `done`, and when `until` says so. With `again` there is a
    button for a job that ended otherwise, or in vain.
    """
    if not job_id:
        return
    active = jobs.get(job_id).state in ACTIVE

    @st.fragment(run_every=0.5 if active else None, key=f"watch_{job_id}")
    def panel() -> None:
        job = jobs.get(job_id)
        if job.state == "done" and done:
            done(job)
            st.rerun()
        if job.state in ACTIVE:
            bar(job)
            parts.stop(job_id)
            if until():
                st.rerun()
            return
        if active:
            st.rerun()
        if job.state == "failed":
            parts.sorry(explain(job.error or {}))
        else:
            st.caption(stopped)
        if again and st.button(t("live.again"), key=f"again_{job_id}", icon=":material/refresh:"):
            again()
            st.rerun()

    panel()


def _once(kind: str, name: str, asked: dict[str, Any], known: str) -> str:
    """Return the id of the job that does what is asked: the known one, or a new one in its place."""
    asked = json.loads(json.dumps(asked))
    try:
        job = jobs.get(known) if known else None
        same = job is not None and asked.items() <= job.folder.asked().items()
    except AppError:
        job, same = None, False
    if job and same:
        return job.id
    if job and job.state in ACTIVE:
        jobs.stop(job.id)
    return jobs.submit(kind, name, asked).id


def _bar(job: jobs.Job, key: str = "") -> None:
    """Draw how many bytes are behind; what is being done is called `key`, else as its phase is."""
    status = job.folder.status()
    done, total = status.get("done", 0), status.get("total") or 0
    if not total:
        st.progress(0.0, t("live.waiting"))
        return
    said = t(key or f"live.{status['phase']}")
    st.progress(min(1.0, done / total), f"{said} {t('live.of', done=done, total=total)}")


def _local(me: State, job: jobs.Job, standing: joblist.Standing) -> None:
    status, result = job.folder.status(), job.folder.result() or {}
    curves = curves_of(job)
    if job.state == "failed":
        parts.trouble(job.error or {})
        smaller.offer(me, job)
    if job.state == "queued":
        st.markdown(t("jobs.waits"))
    if job.state == "running":
        st.caption(t("jobs.safe_to_close"))
        st.markdown(t(f"phase.{standing.phase}"))
        if standing.phase == "tokenising" and status.get("rows") is not None:
            st.caption(t("jobs.rows_read", rows=status["rows"], file=status.get("file", "")))
    if status.get("steps"):
        step, steps = status["step"], status["steps"]
        if job.state == "running":
            st.progress(min(1.0, step / steps), t("jobs.progress", step=step, steps=steps))
        parts.numbers(*_tiles(job, status, result, curves))
    if curves.rows:
        _drawn(me, job, curves)
    if job.state == "done":
        st.markdown(
            t(
                "jobs.finished",
                before=f"{result['eval_loss_before']:.2f}",
                after=f"{result['eval_loss']:.2f}",
                seconds=result["seconds"],
            )
            if result.get("eval_loss") is not None
            else t("jobs.finished_blind", seconds=result["seconds"])
        )
        if result.get("rows_left_out"):
            st.caption(t("jobs.left_out", n=result["rows_left_out"]))


def _curves_of_platform(me: State, job: jobs.Job) -> None:
    curves = curves_of(job)
    if curves.rows:
        _drawn(me, job, curves)


def _folds(job: jobs.Job) -> None:
    """Draw what every job of ours has: stop, go on, its settings, its log, its history."""
    with st.container(horizontal=True):
        if job.state in ACTIVE:
            parts.stop(job.id)
        resume = job.state in ("stopped", "failed") and st.button(
            t("jobs.resume"), icon=":material/resume:", help=t("jobs.resume_help"), key=f"resume_{job.id}"
        )
    if resume:
        with parts.calm():
            jobs.resume(job.id)
            st.rerun()
    if job.state == "running" and job.folder.stop_wanted():
        st.caption(t("jobs.stopping"))
    flight.compared(job)
    with st.expander(t("jobs.settings"), icon=":material/tune:"):
        st.json(job.folder.asked(), expanded=True)
    with st.expander(t("jobs.log"), icon=":material/article:"):
        st.code(job.folder.log_tail(4000) or t("jobs.log_empty"), language=None, height=240)
    with st.expander(t("jobs.history"), icon=":material/history:"):
        st.code("\n".join(_history(job)), language=None)


def _drawn(me: State, job: jobs.Job, curves: Curves) -> None:
    """Draw the curves, how they are drawn, and what they say."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        me.smoothing = st.slider(
            t("jobs.smoothing"), 0.0, 0.95, me.smoothing, 0.05, help=t("jobs.smoothing_help"), key="smoothing"
        )
        me.log_scale = st.toggle(
            t("jobs.log_scale"), me.log_scale, help=t("jobs.log_scale_help"), key="log_scale"
        )
    st.space("small")  # for the buttons that a chart shows above itself
    charts.loss_curves(curves, f"curve_{job.id}", smoothing=me.smoothing, log=me.log_scale)
    if job.backend != "local" and not len(curves.series("eval_loss")):
        return  # what a platform does not tell cannot be read, though rows were kept back
    for told in reading.of(job, curves):
        st.markdown(f":material/insights: {t(f'reading.{told.verdict}', **told.facts)}")


def _history(job: jobs.Job) -> list[str]:
    """Return a job's changes of state, one a line."""
    lines = []
    for event in joblist.events(job.id):
        when = time.strftime("%m-%d %H:%M:%S", time.localtime(event.at))
        said = t("jobs.history_row", when=when, state=t(f"state.{event.state}"))
        why = {"died": t("jobs.died"), "again": t("jobs.taken_up")}.get(event.note, "")
        lines.append(f"{said} · {why}" if why else said)
    return lines


def _tiles(
    job: jobs.Job, status: dict[str, Any], result: dict[str, Any], curves: Curves
) -> list[tuple[str, str]]:
    epochs = params.read(job.folder.asked()).get("epochs", 0)
    tiles = [
        (t("jobs.step_label"), f"{status['step']:,} / {status['steps']:,}"),
        (t("jobs.epoch"), f"{curves.epoch:.1f} / {epochs:g}"),
    ]
    if (loss := curves.last("loss")) is not None:
        tiles.append((t("jobs.loss"), f"{loss:.3f}"))
    if job.state == "running" and status.get("seconds_left") is not None:
        tiles.append((t("jobs.left"), t("jobs.left_time", seconds=status["seconds_left"])))
    elif result.get("seconds"):
        tiles.append((t("jobs.took"), t("jobs.took_time", seconds=result["seconds"])))
    speed = result.get("tokens_per_second") or curves.last("tokens_per_second")
    if speed:
        tiles.append((t("jobs.speed"), f"{speed:,.0f}"))
    if (memory := curves.last("memory")) is not None:
        tiles.append((t("jobs.memory"), t("jobs.memory_size", size=memory)))
    return tiles


def _by_hand(me: State, job: jobs.Job) -> None:
    """Draw a job that runs in a platform's console: the values to enter, and its state set by hand."""
    backend = backends.BACKENDS[job.backend]
    st.markdown(t(f"place.{job.backend}.steps"))
    for field, value in backend.console_values(job):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{t(f'place.{job.backend}.{field}')}**", width=180)
            st.code(value, language=None, wrap_lines=True)
    if isinstance(backend, backends.siliconflow.SiliconFlow):
        platform.by_api(me, job, backend)
    left, right = st.columns(2)
    with left:
        chosen = st.selectbox(
            t("jobs.state_by_hand"),
            jobs.STATES,
            index=jobs.STATES.index(job.state),
            format_func=lambda state: t(f"state.{state}"),
            help=t("jobs.state_by_hand_help"),
            key=f"state_{job.id}",
        )
    with right:
        known = str((job.folder.result() or {}).get("tuned_model", ""))
        name = st.text_input(t("jobs.tuned_model"), known, placeholder="ft:LoRA/…", key=f"tuned_{job.id}")
    if chosen != job.state or name.strip() != known:
        try:
            if chosen != job.state:
                jobs.set_state(job.id, chosen)
            if name.strip() != known:
                backend.name_tuned(job, name.strip())
        except AppError as error:
            parts.sorry(explain(error))
        else:
            st.rerun()
