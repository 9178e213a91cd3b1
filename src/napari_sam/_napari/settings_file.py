"""What the dock has tuned, as the settings file that ``napari-sam segment`` reads, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject

from napari_sam._napari.choices import channel_options
from napari_sam.image import ImageError, percentile_contrast
from napari_sam.recipe import Recipe, RecipeError, automatic_changes, load_recipe, save_recipe

if TYPE_CHECKING:
    from napari.layers import Image
    from numpy.typing import NDArray

    from napari_sam._napari.widget import SegmentAnythingDock
    from napari_sam.everything import AutomaticSettings
    from napari_sam.recipe import ContrastRule, Windows

RULES: dict[str, ContrastRule] = {"percentiles": "plane", "range": "range", "tiles": "range"}
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
        self._told: list[str] = []
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
            not_taken = self.apply(load_recipe(path))
        except RecipeError as error:
            self._fail(str(error))
            return
        self._told = [f"Loaded from {Path(path).name}"]
        self._tell(not_taken)

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
            What the image on show or the dock has no place for, and why.

        Raises
        ------
        RecipeError
            If the model is loaded already and the settings of its automatic masks cannot be used.
        """
        dock, panel = self._dock, self._dock.image_panel
        self._waiting = recipe
        dock.stack_panel.link.setChecked(recipe.link)
        not_taken = self._apply_picture(recipe)
        panel.diameter.setValue(recipe.diameter or 0)
        if panel.diameter.value() != (recipe.diameter or 0):
            nearest = panel.diameter.value()
            not_taken.append(f"the diameter {recipe.diameter:g}, for which the dock has {nearest:g}")
        if panel.model.currentData() != recipe.model or dock.session.predictor is None:
            device = panel.device.currentData()
            panel.show_model(recipe.model, device)
            dock.session.use_model(recipe.model, device)
        else:
            not_taken += self._apply_automatic()
        return not_taken

    def _on_model(self) -> None:
        """The model of loaded settings is there: its automatic masks are set."""
        try:
            not_taken = self._apply_automatic()
        except RecipeError as error:
            self._fail(str(error))
            return
        if not_taken:
            self._tell(not_taken)

    def _apply_automatic(self) -> list[str]:
        """Set the automatic masks of settings that waited for their model; returns what was not taken."""
        recipe, self._waiting = self._waiting, None
        session, panel = self._dock.session, self._dock.everything_panel
        if recipe is None or session.predictor is None:
            return []
        settings = recipe.settings(session.predictor)
        session.automatic_settings = replace(settings, prompts="auto")
        panel.prompts.setCurrentIndex(
            panel.prompts.findData("grid" if settings.prompts == "grid" else "auto")
        )
        panel.side.setValue(settings.points_per_side)
        session.drop_automatic()
        if settings.prompts != "grid" or panel.side.value() == settings.points_per_side:
            return []
        return [f"a grid of {settings.points_per_side}, for which the dock has {panel.side.value()}"]

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
        if image is None:
            said = {
                "channels": recipe.channels is not None,
                "contrast": mode == "displayed",
                "gamma": recipe.gamma != 1,
            }
            names = ", ".join(name for name, is_said in said.items() if is_said)
            return [f"{names}, since there is no image yet; open one and load them again"] if names else []
        layers = siblings(dock, image)
        return [
            *self._apply_channels(recipe, layers),
            *self._apply_contrast(recipe, layers),
            *self._apply_gamma(recipe, layers),
        ]

    def _apply_channels(self, recipe: Recipe, layers: list[Image]) -> list[str]:
        """Choose what is red, green and blue."""
        panel = self._dock.image_panel
        if recipe.channels is None:
            panel.pick_channels(None, ())
            return []
        if layers[0].rgb:
            shown = recipe.channels == (0, 1, 2)
            return [] if shown else ["the channels, since napari shows a picture in its own colours"]
        axes = channel_options(self._dock.viewer, layers[0]).axes
        count = len(layers) if len(layers) > 1 else axes[0][2] if axes else 1
        missing = sorted({c for c in recipe.channels if c is not None and c >= count})
        if missing:
            said = ", ".join(map(str, missing))
            return [f"the channels {said}, since the image has {count} (counted from 0)"]
        if len(layers) > 1:
            named = [layers[c] if c is not None else None for c in recipe.channels]
            panel.pick_channels("layers", named)
        elif axes:
            panel.pick_channels(axes[0][1], recipe.channels)
        else:
            panel.pick_channels(None, ())
        return []

    def _apply_contrast(self, recipe: Recipe, layers: list[Image]) -> list[str]:
        """Set the contrast of the layers, where it is not that of each plane."""
        contrast = recipe.contrast
        if contrast in RULES.values():
            return []
        if layers[0].rgb:
            shown = contrast == colour_range(layers[0])
            return [] if shown else ["the contrast, since napari shows a picture in its whole range"]
        along_axis = isinstance(self._dock.image_panel.picked_channels()[0], int)
        try:
            if isinstance(contrast, str):
                windows = stack_windows(layers, along_axis=along_axis)
            else:
                windows = layer_windows(contrast, recipe.channels, len(layers), along_axis=along_axis)
        except (RecipeError, ImageError) as error:
            return [f"the contrast ({error})"]
        for layer, window in zip(layers, windows, strict=True):
            low, high = layer.contrast_limits_range
            layer.contrast_limits_range = min(low, window[0]), max(high, window[1])
            layer.contrast_limits = window
        return []

    def _apply_gamma(self, recipe: Recipe, layers: list[Image]) -> list[str]:
        """Set the gamma of the layers, which counts where the model sees them as displayed."""
        if not layers[0].rgb and self._dock.image_panel.contrast.currentData() == "displayed":
            for layer in layers:
                layer.gamma = recipe.gamma
            return []
        if recipe.gamma == 1:
            return []
        where = "for grey layers" if layers[0].rgb else "with the contrast as displayed"
        return [f"the gamma {recipe.gamma:g}, since there is one {where} only"]

    def _tell(self, not_taken: Sequence[str]) -> None:
        """Say what was loaded, and what of it was not taken."""
        self._told += [f"Not taken: {why}" for why in not_taken]
        self._panel.say(". ".join(self._told) + ("." if self._told[1:] else ""))

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


def layer_windows(
    windows: Windows, channels: Sequence[int | None] | None, count: int, *, along_axis: bool
) -> Windows:
    """Contrast of each of an image's layers, out of one of each channel or one for all.

    Parameters
    ----------
    windows : tuple of (float, float)
    channels : sequence of (int or None), optional
        What is red, green and blue.
    count : int
        Number of layers.
    along_axis : bool
        Whether the channels lie along an axis of a layer, and not in layers.

    Raises
    ------
    RecipeError
        If the layers cannot have these.
    """
    if along_axis and len(windows) > 1:
        used = {windows[c] for c in channels or () if c is not None and c < len(windows)}
        if len(used) != 1:
            raise RecipeError("channels along an axis of a layer have one contrast together")
        windows = tuple(used)
    if len(windows) not in (1, count):
        raise RecipeError(f"it is that of {len(windows)} channels, the image has {count}")
    return windows * count if len(windows) == 1 else windows


def stack_windows(layers: Sequence[Image], *, along_axis: bool) -> Windows:
    """Contrast of each layer between percentiles of its whole image, as ``contrast: stack`` wants it.

    Raises
    ------
    RecipeError
        If a layer cannot have it, or it would have to be read from a disk, for which a window cannot wait.
    ImageError
        If no pixel is finite.
    """
    if along_axis:
        raise RecipeError("channels along an axis of a layer have one contrast together; choose percentiles")
    found = []
    for layer in layers:
        if not isinstance(layer.data, np.ndarray) or isinstance(layer.data, np.memmap):
            raise RecipeError(f"{layer.name!r} is not in memory; set its limits, or choose percentiles")
        low, high = stack_window(layer.data)
        if low == high:
            raise RecipeError(f"all pixels of {layer.name!r} are the same")
        found.append((low, high))
    return tuple(found)


def stack_window(data: NDArray[Any]) -> tuple[float, float]:
    """Percentiles of planes spread over a stack, shape (..., H, W), those that a folder run takes."""
    from napari_sam.folder.pictures import LOOKS, SAMPLE

    lead = data.shape[:-2]
    count = prod(lead)
    if count == 1:
        return percentile_contrast(data)
    numbers = sorted({int(n) for n in np.linspace(0, count - 1, min(count, LOOKS)).round()})
    planes = [data[np.unravel_index(number, lead)].ravel() for number in numbers]
    return percentile_contrast(np.concatenate([p[:: max(1, p.size // SAMPLE)] for p in planes]))
