"""The dock: panels one below the other, connected to the workbench."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from napari.layers import Image, Labels
from napari.utils.notifications import show_error, show_info
from qtpy.QtCore import QSize, QTimer
from qtpy.QtWidgets import QFrame, QMainWindow, QScrollArea, QVBoxLayout, QWidget

from napari_sam._napari.automatic import AutomaticRun
from napari_sam._napari.docked import Docked
from napari_sam._napari.image_work import ImageWork
from napari_sam._napari.label_pixels import as_now
from napari_sam._napari.layers import is_filling, is_own, role_of
from napari_sam._napari.long_work import LongWork
from napari_sam._napari.many_images import ManyImages
from napari_sam._napari.measured import intensities
from napari_sam._napari.painted import OncePainted
from napari_sam._napari.panels.candidate_panel import CandidatePanel
from napari_sam._napari.panels.commit_panel import CommitPanel
from napari_sam._napari.panels.everything_panel import EverythingPanel
from napari_sam._napari.panels.export_panel import ExportPanel
from napari_sam._napari.panels.prompt_panel import PromptPanel
from napari_sam._napari.panels.section import Section
from napari_sam._napari.panels.shortcuts_panel import ShortcutsPanel
from napari_sam._napari.settings import preferences, use_cache_folder
from napari_sam._napari.shortcuts import Shortcuts, listing
from napari_sam._napari.signs import POSITIVE
from napari_sam._napari.stack_work import StackWork
from napari_sam._napari.target_memory import TargetMemory
from napari_sam._napari.workbench import Workbench
from napari_sam.session.libraries import begin_to_load, collecting_seldom

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Layer

    from napari_sam.session.work import Load

WIDTH = 346
"""Width of the dock in pixels of the screen, a scroll bar included."""


class SegmentAnythingDock(Docked):
    """Click a cell, get its mask.

    Parameters
    ----------
    napari_viewer : Viewer
        Injected by napari.
    load_model : callable, optional
        Loads a model by name instead of `napari_sam.load_model`.
    """

    def __init__(self, napari_viewer: ViewerModel, *, load_model: Load | None = None) -> None:
        super().__init__()
        begin_to_load()
        # Depending on how the dock was opened this is the viewer or a proxy of it; layers are compared by
        # identity below, for which the viewer itself is needed.
        self.viewer: ViewerModel = getattr(napari_viewer, "__wrapped__", napari_viewer)
        chosen = preferences()
        use_cache_folder(chosen.cache_folder)
        self.bench = Workbench(self.viewer, load_model=load_model, cache_bytes=chosen.cache_bytes)
        self.session = self.bench.session
        self.automatic = AutomaticRun(self.bench)
        self.image = ImageWork(self.bench)
        self.image_panel = self.image.panel
        self.prompt_panel = PromptPanel()
        self.candidate_panel = CandidatePanel()
        self.commit_panel = CommitPanel()
        self.everything_panel = EverythingPanel()
        self.export_panel = ExportPanel()
        self.stack = StackWork(self.bench, self.image_panel, self.commit_panel)
        self.stack_panel, self.tracks_panel = self.stack.panel, self.stack.tracks_panel
        self.many = ManyImages(self.bench, self.image_panel)
        self._shortcuts: Shortcuts | None = None
        self._waiting: Callable[[], None] | None = None
        self._empty_handed = False
        self._targets = TargetMemory(self.viewer)
        own = {"load": self.image_panel, "everything": self.everything_panel, "export": self.export_panel}
        self._long_work = LongWork(self.session, own | self.stack.panels)
        self._lay_out()
        self._connect()
        self._actions = self._name_actions()
        self.image.begin(chosen.model, chosen.device)
        self._on_layers()
        # The dock is painted first; then the image is taken up and the model loaded, in the worker.
        self._first = OncePainted(self)
        self._first.reached.connect(partial(self._begin, chosen.model, chosen.device))
        # Called when Qt deletes the dock with its window; the workbench outlives it for that moment.
        self.destroyed.connect(partial(_close, self.bench, self.stack, False))

    # --- for commands, the demo and tests -------------------------------------------------------------

    def segment_everything(self) -> None:
        """Start automatic masks as the panel is set."""
        panel = self.everything_panel
        self.sections["Segment all"].set_expanded(True)
        if self._put_off(self.segment_everything):
            return
        where, prompts = panel.region.currentData(), panel.prompts.currentData()
        self.automatic.run(where, prompts, panel.side.value(), self.commit_panel.target.layer)

    def segment_stack(self) -> None:
        """Start the segmentation of every plane as the panel is set."""
        self.sections["Stack"].set_expanded(True)
        if not self._put_off(self.segment_stack):
            self.stack.segment()

    def follow(self) -> None:
        """Follow the object of the prompts through the stack."""
        self.sections["Stack"].set_expanded(True)
        self.stack.follow()

    def export(self, layer: Labels, path: str, format_name: str) -> None:
        """Write a Labels layer to a file, in the worker."""
        from napari_sam.export.napari_writer import write_layer

        if is_filling(layer):
            self.export_panel.say(f"{layer.name!r} is still being filled. Wait until all of it is there.")
            return
        if "export" in self.session.running:
            self.export_panel.say("The file before is still being written. Wait for it, or cancel it.")
            return
        data, attributes, _ = as_now(layer)
        if (first := self.export_panel.planes.currentData()) is not None and layer.ndim == 3:
            attributes["axis_labels"] = (first, "Y", "X")
        image, of_image = intensities(self.viewer, layer, self.bench.image, format_name)
        self._long_work.export_said = f"Written to {path}{of_image}"
        self.session.request("export", partial(write_layer, path, data, attributes, format_name, image))

    def commit(self) -> int:
        """Write the chosen masks, or the object that was followed, into labels; returns how many."""
        # On a plane that the followed object does not go through, what is seen is the offer.
        if self.stack.following and (self.stack.on_the_way or not self.session.offers):
            return self.stack.commit()
        return self.bench.commit(*self.commit_panel.where)

    def scroll_to(self, section: Section) -> None:
        """Bring the top of a section to where it is seen."""
        bar = self._scroll.verticalScrollBar()
        bar.setValue(min(section.y(), bar.maximum()))

    def close_down(self, *, tidy: bool = True) -> None:
        """Let go of the viewer: nothing runs and no key is taken any more."""
        if self.bench.closed:
            return
        self._first.stop()
        if self._shortcuts is not None:
            self._shortcuts.remove()
            self._shortcuts = None
        self.stack.stack.settle()  # before the labels are saved
        self.many.close()
        _close(self.bench, self.stack, tidy)
        self.setEnabled(False)

    # --- Qt -------------------------------------------------------------------------------------------

    def sizeHint(self) -> QSize:
        """Width that the dock asks for."""
        return QSize(WIDTH, 700)

    def minimumSizeHint(self) -> QSize:
        """Nothing is cut off above this width; what a larger font than the usual needs is scrolled to."""
        return QSize(WIDTH, 200)

    def on_docked(self, window: QMainWindow) -> None:
        """Install the shortcuts."""
        if not self.bench.closed:
            self._shortcuts = Shortcuts(window.centralWidget(), self, lambda action: self._actions[action]())
            self.adapt_shortcuts()

    # --- putting together -----------------------------------------------------------------------------

    def _lay_out(self) -> None:
        content = QWidget()
        column = QVBoxLayout(content, spacing=4)
        column.setContentsMargins(4, 4, 4, 4)
        sections = {
            "Image and model": (self.image_panel, True),
            "Prompts": (self.prompt_panel, True),
            "Candidates": (self.candidate_panel, True),
            "Commit": (self.commit_panel, True),
            "Segment all": (self.everything_panel, False),
            "Stack": (self.stack_panel, False),
            "Tracks": (self.tracks_panel, False),
            "Export": (self.export_panel, False),
            **self.many.sections,
            "Shortcuts": (ShortcutsPanel(listing()), False),
        }
        self.sections = {
            title: Section(title, panel, expanded=expanded) for title, (panel, expanded) in sections.items()
        }
        for section in self.sections.values():
            column.addWidget(section)
        column.addStretch(1)
        self._scroll = QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setFrameShape(QFrame.Shape.NoFrame)
        self._scroll.setWidget(content)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._scroll)

    def _connect(self) -> None:
        bench, session = self.bench, self.session
        bench.failed.connect(self._fail)
        bench.image_changed.connect(self._on_image)
        bench.layers_changed.connect(self._on_layers)
        bench.plane_changed.connect(self._on_plane)
        bench.tool_changed.connect(self._on_tool)
        bench.target_made.connect(self._on_target_made)
        bench.told.connect(show_info)
        self.automatic.failed.connect(self._fail)
        self.automatic.large.show_in(self.everything_panel)
        self.stack.failed.connect(self._fail)
        self.stack.changed.connect(self._show_commit)
        self.stack.stack.filled.connect(self._on_filled)
        session.model_changed.connect(self._on_model)
        session.offers_changed.connect(self._show_offers)
        session.waiting_changed.connect(self.adapt_shortcuts)
        session.history_changed.connect(self._show_history)
        session.automatic_changed.connect(self._on_automatic)
        session.sifted_changed.connect(self._show_sifted)
        self._connect_panels()

    def _connect_panels(self) -> None:
        bench, session = self.bench, self.session
        prompt = self.prompt_panel
        self.image.changed.connect(self.stack.offer_axes)
        prompt.tool_requested.connect(bench.use)
        prompt.sign_requested.connect(self._on_sign)
        prompt.adopt_requested.connect(self._on_adopt)
        prompt.batch_toggled.connect(bench.set_batch)
        prompt.hover_toggled.connect(bench.hover.switch)
        prompt.clear_requested.connect(bench.clear)
        self.candidate_panel.candidate_picked.connect(session.choose)
        self.commit_panel.commit_requested.connect(self.commit)
        self.commit_panel.undo_requested.connect(session.undo)
        self.commit_panel.redo_requested.connect(session.redo)
        everything = self.everything_panel
        everything.run_requested.connect(self.segment_everything)
        everything.filters_changed.connect(self._on_filters)
        everything.accept_requested.connect(self._on_accept)
        everything.discard_requested.connect(session.drop_automatic)
        self.export_panel.export_requested.connect(self.export)

    def _name_actions(self) -> dict[str, Any]:
        """What each shortcut does."""
        session, bench = self.session, self.bench
        return {
            **{f"choose {i}": partial(session.choose, i) for i in range(3)},
            "choose next": session.choose_next,
            "commit": self.commit,
            "undo": session.undo,
            "redo": session.redo,
            "toggle sign": lambda: bench.binding.toggle_sign(),
            "toggle tool": lambda: bench.use("box" if bench.tool == "point" else "point"),
            "clear": bench.clear,
            "toggle hover": self.prompt_panel.hover.toggle,
            "everything": self.segment_everything,
            "follow": self.follow,
            "weakest": self.stack.trail.turn_to_weakest,
            **self.many.actions,
        }

    def _put_off(self, act: Callable[[], None]) -> bool:
        """Put an action off until the first model is there, as when a command has just opened the dock."""
        first = self._first.waiting or "load" in self.session.running
        put_off = self.session.predictor is None and first
        self._waiting = act if put_off else None
        return put_off

    @collecting_seldom()
    def _begin(self, model: str, device: str) -> None:
        self.many.begin(self)
        self.bench.start()
        self._empty_handed = True
        self._take_up_tool()
        self.session.use_model(model, device)

    def _take_up_tool(self) -> None:
        """Put the tool for clicks into the hand, once there is a plane to click on."""
        if self._empty_handed and self.bench.plane is not None:
            self._empty_handed = False
            if self.bench.tool is None:
                self.bench.use("point")

    # --- what the person asks for -----------------------------------------------------------------------

    def _on_sign(self, positive: bool) -> None:
        if self.bench.binding is not None:
            self.bench.binding.sign = POSITIVE if positive else "-"
        self._on_tool()

    def _on_adopt(self, layer: Layer | None) -> None:
        binding = self.bench.binding
        if binding is not None and layer is not None:
            (binding.release if layer in binding.adopted else binding.adopt)(layer)

    def _on_filters(self) -> None:
        self.session.filter_automatic(self.everything_panel.filters)

    def _on_accept(self) -> None:
        self.automatic.accept(*self.commit_panel.where)

    # --- what is shown ----------------------------------------------------------------------------------

    def _fail(self, message: str) -> None:
        show_error(message)

    def _on_model(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting()

    def _on_image(self, image: Image | None) -> None:
        self.image.turn_to(image)
        self._empty_handed |= image is None  # the layers of clicks went with the last image
        self._turn_target(image)
        self.stack.offer_axes()
        self.adapt_shortcuts()

    def _turn_target(self, image: Image | None) -> None:
        """Objects go into labels of their image, and not into those of the image before."""
        before = self.commit_panel.target.layer
        target = self._targets.turn(image, before)
        if target is not before:
            self.commit_panel.target.pick(target)
            if target is not None:
                self.export_panel.labels.pick(target)

    def _on_plane(self) -> None:
        QTimer.singleShot(0, self._take_up_tool)  # a layer that comes is not the active one before all know
        self.stack.offer_axes()
        self._show_offers()

    def _on_layers(self) -> None:
        """Layers came, went, or have another name."""
        layers = list(self.viewer.layers)
        labels = [x for x in layers if isinstance(x, Labels) and role_of(x) != "preview"]
        binding = self.bench.binding
        self.image.offer([x for x in layers if isinstance(x, Image)])
        self.commit_panel.target.set_layers(labels)
        self.export_panel.labels.set_layers(labels)
        self.stack.offer_layers(labels)
        if binding is None:
            self.prompt_panel.show_layers((), ())
        else:
            self.prompt_panel.show_layers(binding.adoptable, binding.adopted)

    def _on_target_made(self, layer: Labels) -> None:
        self.commit_panel.target.pick(layer)
        self.export_panel.labels.pick(layer)

    def _on_filled(self, layer: Labels) -> None:
        """Objects go into what was filled, unless another image is on show by now."""
        if self.bench.image is not None and is_own(layer, self.bench.image):
            self._on_target_made(layer)

    def _on_tool(self) -> None:
        self.prompt_panel.show_tool(self.bench.tool)
        binding = self.bench.binding
        self.prompt_panel.show_sign(binding is None or binding.sign == POSITIVE)
        self.adapt_shortcuts()

    def adapt_shortcuts(self) -> None:
        """Switch shortcuts on or off."""
        if self._shortcuts is None:
            return
        active = self.viewer.layers.selection.active
        self._shortcuts.adapt(
            image=self.bench.binding is not None,
            # Keys that come before the mask are not for napari, in which 3 would put the tool away.
            offer=bool(self.session.offers) or self.session.waiting,
            trail=self.stack.following,
            active=type(active).__name__.lower() if active is not None else "",
            folder=self.many.annotating,
        )

    def _show_offers(self) -> None:
        offers = self.session.offers
        self.candidate_panel.show_offer(offers[-1] if offers else None, self.session.rgb, len(offers))
        self._show_commit()

    def _show_commit(self) -> None:
        self.commit_panel.show_count(1 if self.stack.following else len(self.session.offers))
        self.adapt_shortcuts()

    def _show_history(self) -> None:
        history = self.session.history
        self.commit_panel.show_history(history.undoable, history.redoable)

    def _on_automatic(self) -> None:
        result, filters = self.session.automatic, self.automatic.filters()
        if result is None or filters is None:
            self.everything_panel.show_results(None)
            return
        areas = [proposal.area for proposal in result.found.proposals]
        self.everything_panel.show_results((min(areas, default=1), max(areas, default=2)), filters)
        self._on_filters()

    def _show_sifted(self) -> None:
        sifted = self.session.sifted
        if sifted is not None:
            self.everything_panel.show_counts(len(sifted), dict(sifted.removed))


def _close(bench: Workbench, stack: StackWork, tidy: bool, _: object = None) -> None:
    """Close everything that holds on to the viewer."""
    # When the interpreter ends, Qt may have deleted some of it already.
    with suppress(RuntimeError):
        if not bench.closed:
            stack.close()
            bench.close(tidy=tidy)
