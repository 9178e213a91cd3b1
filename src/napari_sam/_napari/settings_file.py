"""What the dock has tuned, as the settings file that ``napari-sam segment`` reads, and back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_sam._napari.choices import channel_options
from napari_sam.recipe import Recipe, RecipeError, automatic_changes, load_recipe, save_recipe

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_sam._napari.widget import SegmentAnythingDock
    from napari_sam.everything import AutomaticSettings
    from napari_sam.recipe import ContrastRule, Windows

RULES: dict[str, ContrastRule] = {"percentiles": "plane", "range": "range"}
"""Contrast of the dock that each plane has by itself, and what a file calls it."""


class SettingsFile(QObject):
    """Saves and loads settings for a dock.

    Parameters
    ----------
    dock : SegmentAnythingDock
    """

    def __init__(self, dock: SegmentAnythingDock) -> None:
        super().__init__()
        self._dock = dock
        self._waiting: Recipe | None = None
        self._panel = dock.many.settings_panel
        self._panel.save_requested.connect(self.save)
        self._panel.load_requested.connect(self.load)
        dock.session.model_changed.connect(self._on_model)

    def save(self, path: str) -> None:
        """Write the dock's settings to a file."""
        try:
            save_recipe(self.recipe(), path)
        except (RecipeError, OSError, ValueError) as error:
            self._fail(str(error))
        else:
            self._panel.say(f"Saved to {path}")

    def load(self, path: str) -> None:
        """Set the dock as a file says."""
        try:
            recipe = load_recipe(path)
        except RecipeError as error:
            self._fail(str(error))
            return
        not_taken = self.apply(recipe)
        told = [f"Loaded from {Path(path).name}", *(f"Not taken: {why}." for why in not_taken)]
        self._panel.say(". ".join(told))

    def recipe(self) -> Recipe:
        """What is tuned now.

        Raises
        ------
        RecipeError
            If it cannot be said in a file, or no model is loaded yet.
        """
        dock, session = self._dock, self._dock.session
        panel, image = dock.image_panel, dock.bench.image
        if session.predictor is None or session.automatic_settings is None:
            raise RecipeError("There is nothing to save yet: wait for the model.")
        from napari_sam.everything import settings_for

        diameter = panel.diameter.value() if session.predictor.uses_diameter else 0
        channels, contrast, gamma = self._picture(image)
        return Recipe(
            model=panel.model.currentData(),
            diameter=diameter or None,
            channels=channels,
            contrast=contrast,
            gamma=gamma,
            link=dock.stack_panel.link.isChecked(),
            automatic=automatic_changes(self._automatic(), settings_for(session.predictor)),
        )

    def apply(self, recipe: Recipe) -> list[str]:
        """Set the dock as a recipe says; what needs the model follows when it is loaded.

        Returns
        -------
        list of str
            What the image on show has no place for, and why.
        """
        dock, panel = self._dock, self._dock.image_panel
        self._waiting = recipe
        dock.stack_panel.link.setChecked(recipe.link)
        not_taken = self._apply_picture(recipe)
        panel.diameter.setValue(recipe.diameter or 0)
        if panel.model.currentData() != recipe.model or dock.session.predictor is None:
            device = panel.device.currentData()
            panel.show_model(recipe.model, device)
            dock.session.use_model(recipe.model, device)
        else:
            self._on_model()
        return not_taken

    def _on_model(self) -> None:
        """The model of loaded settings is there: its automatic masks are set."""
        recipe, self._waiting = self._waiting, None
        session, panel = self._dock.session, self._dock.everything_panel
        if recipe is None or session.predictor is None:
            return
        try:
            settings = recipe.settings(session.predictor)
        except RecipeError as error:
            self._fail(str(error))
            return
        session.automatic_settings = replace(settings, prompts="auto")
        panel.prompts.setCurrentIndex(
            panel.prompts.findData("grid" if settings.prompts == "grid" else "auto")
        )
        panel.side.setValue(settings.points_per_side)
        session.drop_automatic()

    def _automatic(self) -> AutomaticSettings:
        """Settings with which a run gives what the sliders show."""
        dock, session = self._dock, self._dock.session
        panel = dock.everything_panel
        settings: Any = session.automatic_settings
        if panel.prompts.currentData() == "grid":
            settings = replace(settings, prompts="grid", points_per_side=panel.side.value())
        if session.automatic is None:
            return settings  # type: ignore[no-any-return]
        filters = panel.filters
        # Below these there were no further masks to show.
        least_iou, least_stability = session.automatic.settings.floors
        return replace(  # type: ignore[no-any-return]
            settings,
            pred_iou_thresh=max(filters.predicted_iou, least_iou),
            stability_score_thresh=max(filters.stability, least_stability),
            min_area=filters.min_area,
            max_area=filters.max_area,
        )

    def _picture(self, image: Image | None) -> tuple[Any, ContrastRule | Windows, float]:
        """Channels, contrast and gamma."""
        panel = self._dock.image_panel
        source, picks = panel.picked_channels()
        layers = [image] if image is not None else []
        channels: tuple[int | None, ...] | None = None
        if source == "layers" and image is not None:
            layers = siblings(self._dock, image)
            if not {id(p) for p in picks if p is not None} <= {id(layer) for layer in layers}:
                raise RecipeError(
                    "The colours come from several files, which a settings file cannot say: it holds the "
                    "numbers of the channels of one file. Put the channels into one file."
                )
            channels = tuple(None if p is None else layers.index(p) for p in picks)
        elif source is not None:
            channels = tuple(picks)  # type: ignore[arg-type]
        rule = RULES.get(panel.contrast.currentData())
        if rule is not None or not layers:
            return channels, rule or "stack", 1.0
        if layers[0].rgb:
            return channels, colour_range(layers[0]), 1.0
        used = [c for c in channels or () if c is not None and c < len(layers)]
        shown = [layers[c] for c in used] or layers
        gammas = {float(layer.gamma) for layer in shown}
        if len(gammas) > 1:
            raise RecipeError(
                "The layers of the channels have different gammas, which a settings file cannot say. "
                "Give them the same."
            )
        windows = tuple((float(low), float(high)) for low, high in (x.contrast_limits for x in layers))
        return channels, windows, gammas.pop()

    def _apply_picture(self, recipe: Recipe) -> list[str]:
        """Set channels, contrast and gamma, as far as the image has them; returns what it has not."""
        dock, panel, image = self._dock, self._dock.image_panel, self._dock.bench.image
        mode = next((m for m, rule in RULES.items() if rule == recipe.contrast), "displayed")
        panel.contrast.setCurrentIndex(panel.contrast.findData(mode))
        if image is None or image.rgb:
            return []
        not_taken = []
        layers = siblings(dock, image)
        axes = channel_options(dock.viewer, image).axes
        if recipe.channels is not None:
            count = len(layers) if len(layers) > 1 else axes[0][2] if axes else 1
            missing = sorted({c for c in recipe.channels if c is not None and c >= count})
            if missing:
                said = ", ".join(map(str, missing))
                not_taken.append(f"the channels {said}, since the image has {count} (counted from 0)")
            elif len(layers) > 1:
                named = [layers[c] if c is not None else None for c in recipe.channels]
                panel.pick_channels("layers", named)
            elif axes:
                panel.pick_channels(axes[0][1], recipe.channels)
        if isinstance(recipe.contrast, str):
            windows: list[tuple[float, float]] = []
        else:
            windows = list(recipe.contrast) * (len(layers) if len(recipe.contrast) == 1 else 1)
        for layer, window in zip(layers, windows, strict=False):
            low, high = layer.contrast_limits_range
            layer.contrast_limits_range = min(low, window[0]), max(high, window[1])
            layer.contrast_limits = window
            layer.gamma = recipe.gamma
        return not_taken

    def _fail(self, message: str) -> None:
        self._panel.say(message)
        self._dock.bench.failed.emit(message)


def siblings(dock: SegmentAnythingDock, image: Image) -> list[Image]:
    """Layers that hold the channels of an image's file, in their order; the image alone if it has none."""
    layers = channel_options(dock.viewer, image).layers
    same = [layer for _, layer in layers if layer.source.path == image.source.path]
    return same if image in same else [image]


def colour_range(image: Image) -> ContrastRule | Windows:
    """Contrast of an RGB layer, which napari shows in its whole range."""
    dtype = np.dtype(image.dtype)
    if dtype.kind == "b" or dtype == np.uint8:
        return "stack"
    top = 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)
    return ((0.0, top),)
