"""Shows in the panels what is under way: bars, cancel buttons, results in words."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from napari_sam.progress import Progress

if TYPE_CHECKING:
    from napari_sam._napari.panels.everything_panel import EverythingPanel
    from napari_sam._napari.panels.export_panel import ExportPanel
    from napari_sam._napari.panels.image_panel import ImagePanel
    from napari_sam._napari.panels.stack_panel import StackPanel
    from napari_sam.session import AnnotationSession


class LongWork:
    """Connects a session's long work with the panels that show it.

    Parameters
    ----------
    session : AnnotationSession
    image, everything, stack, export
        The panels.
    """

    def __init__(
        self,
        session: AnnotationSession,
        image: ImagePanel,
        everything: EverythingPanel,
        stack: StackPanel,
        export: ExportPanel,
    ) -> None:
        self.export_path = ""
        self._session = session
        self._panels = {"load": image, "everything": everything, "stack": stack, "export": export}
        session.started.connect(self._on_started)
        session.progressed.connect(self._on_progress)
        session.finished.connect(self._on_finished)
        for kind, panel in self._panels.items():
            panel.cancel_requested.connect(partial(session.cancel, kind))

    def _on_started(self, kind: str) -> None:
        if kind in ("everything", "stack"):
            self._panels[kind].set_running(True)
        elif kind == "export":
            self._panels[kind].say("")
            self._panels[kind].progress.start("Writing…")

    def _on_progress(self, kind: str, progress: Progress) -> None:
        if kind in self._panels:
            self._panels[kind].progress.set_progress(progress)

    def _on_finished(self, kind: str, outcome: Any) -> None:
        if kind not in self._panels or kind in self._session.running:
            return
        panel = self._panels[kind]
        if kind in ("everything", "stack"):
            panel.set_running(False)
        else:
            panel.progress.stop()
        if kind == "export":
            panel.say(f"Written to {self.export_path}" if outcome else "Nothing was written.")
