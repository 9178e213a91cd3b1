"""Shows in the panels what is under way: bars, cancel buttons, results in words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam.progress import Progress

if TYPE_CHECKING:
    from napari_sam.session import AnnotationSession


class LongWork:
    """Connects a session's long work with the panels that show it.

    Parameters
    ----------
    session : AnnotationSession
    panels : mapping of str to QWidget
        The panel of each kind of work, with a progress row ``progress`` and a signal ``cancel_requested``.
        Those that have ``set_running`` are told when their work begins and ends.
    """

    def __init__(self, session: AnnotationSession, panels: Mapping[str, Any]) -> None:
        self.export_said = ""
        """What is said when an export is complete."""
        self._session = session
        self._panels = panels
        session.started.connect(self._on_started)
        session.progressed.connect(self._on_progress)
        session.finished.connect(self._on_finished)
        for kind, panel in self._panels.items():
            panel.cancel_requested.connect(partial(session.cancel, kind))

    def _on_started(self, kind: str) -> None:
        panel = self._panels.get(kind)
        if hasattr(panel, "set_running"):
            panel.set_running(True)
        elif kind == "export":
            panel.say("")
            panel.progress.start("Writing…")

    def _on_progress(self, kind: str, progress: Progress) -> None:
        if kind in self._panels:
            self._panels[kind].progress.set_progress(progress)

    def _on_finished(self, kind: str, outcome: Any) -> None:
        if kind not in self._panels or kind in self._session.running:
            return
        panel = self._panels[kind]
        if hasattr(panel, "set_running"):
            panel.set_running(False)
        else:
            panel.progress.stop()
        if kind == "export":
            panel.say(self.export_said if outcome else "Nothing was written.")
