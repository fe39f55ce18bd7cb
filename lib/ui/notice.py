"""A notice outside the page when a run has ended: the browser's own notification, and a short sound.

Both are the browser's: nothing is loaded, and nobody else learns of it. A browser that was not allowed to
show notifications still plays the sound; a page that is closed can do neither.
"""

from __future__ import annotations

import streamlit as st

from lib.ui.state import State
from lib.ui.words import t


def when_done(me: State, run: str, name: str, state: str, *, active: bool) -> None:
    """Draw the switch while a run is active; give the notice where it has ended since it was last drawn."""
    if active:
        me.notify = st.toggle(t("jobs.notify"), me.notify, help=t("jobs.notify_help"), key="notify")
    _NOTICE(
        data={"run": run, "active": active, "wished": me.notify, "title": name, "body": state},
        key="notice",
    )


_JS = """
const active = {}  // run -> whether it was active when it was last drawn
function sound() {
  const audio = new AudioContext()
  for (const [tone, start] of [[660, 0], [880, 0.16]]) {
    const voice = audio.createOscillator(), volume = audio.createGain()
    voice.frequency.value = tone
    volume.gain.setValueAtTime(0.12, audio.currentTime + start)
    volume.gain.exponentialRampToValueAtTime(0.0001, audio.currentTime + start + 0.5)
    voice.connect(volume).connect(audio.destination)
    voice.start(audio.currentTime + start)
    voice.stop(audio.currentTime + start + 0.5)
  }
}
export default function ({ data }) {
  const ended = active[data.run] === true && !data.active
  active[data.run] = data.active
  if (!data.wished) return
  const can = "Notification" in window
  if (can && Notification.permission === "default" && data.active) Notification.requestPermission()
  if (!ended) return
  sound()
  if (can && Notification.permission === "granted") new Notification(data.title, { body: data.body })
}
"""
_NOTICE = st.components.v2.component("firsttune_notice", html="<span hidden></span>", js=_JS)
