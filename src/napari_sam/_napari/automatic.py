"""Automatic masks of the plane: where to look, what is shown, what is accepted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal

from napari_sam._napari.commit import CommitError, check_target
from napari_sam._napari.coordinates import finest, layer_shape, visible_box
from napari_sam._napari.large_run import LargeRun
from napari_sam._napari.layers import Frame, twin_plane
from napari_sam._napari.preview import WHOLE, Backdrop, colour_numbers
from napari_sam._napari.target import write_into
from napari_sam.levels import box_to_level, labels_to_full, labels_to_grid, mask_to_level
from napari_sam.masks import Box, Mask, Overlap
from napari_sam.session import Filters

if TYPE_CHECKING:
    from napari.layers import Image, Labels

    from napari_sam._napari.coordinates import PlaneIndex
    from napari_sam._napari.planes import Plane
    from napari_sam._napari.workbench import Workbench
    from napari_sam.levels import Factors
    from napari_sam.session import Annotation
    from napari_sam.tiling.large_plane import Sight

Where = Literal["plane", "unlabelled", "view"]

LEAST = 0.5
"""Part of an automatic mask that must be free where neighbours stay: what is less is the rim of one."""


class AutomaticRun(QObject):
    """The automatic masks of one plane, which stay with it when the sliders move on.

    Parameters
    ----------
    bench : Workbench
    """

    failed = Signal(str)

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self.large = LargeRun(bench, "everything", "Segment all")
        self._sight: Sight | None = None
        self._plane: Plane | None = None
        self._image: Image | None = None
        self._pixels: Any = None
        self._channel_axis: int | None = None
        bench.follower.picture_changed.connect(self._on_picture)
        bench.layers_changed.connect(self._on_layers)
        bench.channels_changed.connect(self._on_channels)
        bench.image_changed.connect(self._on_picture)
        bench.session.automatic_changed.connect(self._on_automatic)
        bench.session.sifted_changed.connect(self._show)

    def run(self, where: Where, prompts: str, points_per_side: int, target: Labels | None) -> None:
        """Look for every object of the plane on show.

        Parameters
        ----------
        where : {"plane", "unlabelled", "view"}
            The whole plane, only where ``target`` has no object, or what the canvas shows.
        prompts : {"auto", "grid"}
        points_per_side : int
            Of a grid.
        target : Labels, optional
        """
        bench, session = self._bench, self._bench.session
        settings = session.automatic_settings
        if bench.plane is None or bench.image is None or settings is None:
            session.segment_everything()  # says what is missing
            return
        if prompts == "grid":
            settings = replace(settings, prompts="grid", points_per_side=points_per_side)
        view = bench.lookout.view
        if view is not None and where == "plane":
            self.large.run(settings, bench.labels_folder)
            return
        if view is not None and where == "unlabelled":
            self.failed.emit(
                "This plane is too large to look for what is free on it. Choose the whole plane, or what the "
                "canvas shows."
            )
            return
        try:
            region = self._region(where, bench.plane, target)
        except CommitError as error:
            self.failed.emit(str(error))
            return
        session.drop_automatic()
        self._plane, self._image, self._pixels = bench.plane, bench.image, bench.image.data
        self._channel_axis = bench.channel_axis
        self._sight = view.sight if view is not None else None
        session.segment_everything(settings, region)

    def filters(self) -> Filters | None:
        """Where the filters of new masks stand at first: the settings that they were asked for with."""
        result = self._bench.session.automatic
        if result is None:
            return None
        settings = result.settings
        return Filters(
            settings.pred_iou_thresh, settings.stability_score_thresh, settings.min_area, settings.max_area
        )

    def accept(self, target: Labels | None, overlap: Overlap) -> int:
        """Write the masks that pass the filters; into a new layer if ``target`` is None."""
        bench, plane = self._bench, self._plane
        self._on_picture()  # the image may just have become another one
        if plane is None or self._image is None or bench.session.automatic is None:
            return 0
        if self._image is not bench.image:
            self.failed.emit(
                f"These masks are those of {self._image.name!r}. Turn to that image to see and accept them."
            )
            return 0
        corner, factors = self._lie(plane)

        def write(layer: Labels, objects: Sequence[Annotation]) -> Callable[[], None]:
            moved = [replace(o, mask=o.mask.shift(int(corner[0]), int(corner[1]))) for o in objects]
            where = bench.viewer, layer, plane.index, factors, overlap
            return write_into(*where, moved, least=LEAST, tell=bench.told.emit)

        return bench.attempt(target, lambda layer: bench.session.accept_automatic(partial(write, layer)))

    def _lie(self, plane: Plane) -> tuple[tuple[float, float], Factors]:
        """Where the masks' pixels lie: their corner, and full-resolution pixels per pixel of them."""
        if self._sight is None:
            return (0, 0), plane.factors
        (fy, fx), (y, x) = self._sight.factors, plane.factors
        return (self._sight.box.y0, self._sight.box.x0), (fy * y, fx * x)

    def _region(self, where: Where, plane: Plane, target: Labels | None) -> Any:
        """What gives the region in the worker; None for the whole plane."""
        if where == "view":
            box = box_to_level(Box(*visible_box(self._bench.viewer, self._bench.image)), plane.factors)
            view = self._bench.lookout.view
            if view is None:
                return partial(_clipped, box, plane.shape)
            seen = view.sight.box
            box = box_to_level(box, view.sight.factors).shift(-seen.y0, -seen.x0)
            return partial(_clipped, box, (int(seen.height), int(seen.width)))
        if where == "unlabelled" and target is not None:
            check_target(target, self._bench.image, channel_axis=self._bench.channel_axis)
            index = twin_plane(plane.index, target.ndim)
            return partial(_unlabelled, finest(target), index, plane.factors)
        return None

    def _on_picture(self, _: Any = None) -> None:
        """Masks of other pixels are over."""
        if self._image is not None and self._image.data is not self._pixels:
            self._bench.drop_automatic(f"{self._image.name!r} shows something else now")

    def _on_channels(self) -> None:
        """Planes are counted otherwise now: masks of those before are over."""
        bench = self._bench
        if (
            self._image is not None
            and self._image is bench.image
            and self._channel_axis != bench.channel_axis
        ):
            bench.drop_automatic("the channels are taken from another axis")

    def _on_layers(self) -> None:
        """Masks wait for their image while another is worked on, but not for one that was removed."""
        if self._image is not None and self._image not in self._bench.viewer.layers:
            self._bench.session.drop_automatic()

    def _on_automatic(self) -> None:
        """Do not keep an image alive for masks that are gone."""
        if self._bench.session.automatic is None:
            self._plane, self._image, self._pixels = None, None, None

    def _show(self) -> None:
        """Show the masks behind the candidates, on their plane."""
        sifted, image, plane = self._bench.session.sifted, self._image, self._plane
        backdrop = None
        if sifted is not None and image is not None and plane is not None:
            backdrop = self._backdrop(image, plane, colour_numbers(sifted.labels))
        self._bench.preview.set_behind(backdrop)
        self._bench.show()

    def _backdrop(self, image: Image, plane: Plane, colours: NDArray[np.uint8]) -> Backdrop:
        """What is shown of all masks: the plane, or of a large one the part that they cover."""
        shape = layer_shape(image)
        size = (shape[plane.index.rows], shape[plane.index.columns])
        corner, factors = self._lie(plane)
        if self._sight is None and size[0] * size[1] <= WHOLE:
            return Backdrop(image, plane.index, labels_to_full(colours, factors, size))
        (y, x), (fy, fx), (height, width) = corner, factors, colours.shape
        box = Box(y * fy, x * fx, (y + height) * fy, (x + width) * fx).clip(size)
        frame = Frame(box, max(1, round(min(factors))))
        picture = labels_to_grid(colours, factors, corner, box, int(frame.step))
        return Backdrop(image, plane.index, picture, frame)


def _clipped(box: Box, shape: tuple[int, int]) -> Box:
    """What of the view lies on the plane."""
    clipped = box.clip(shape)
    if clipped.height < 1 or clipped.width < 1:
        raise ValueError("The canvas does not show the image. Move it into view, or take the whole plane.")
    return clipped


def _unlabelled(data: Any, plane: PlaneIndex, factors: Factors) -> Mask:
    """Region of a plane of labels that belongs to no object, in pixels of the level."""
    slices = [
        position if position is not None else slice(None) if axis in plane.axes else 0
        for axis, position in enumerate(plane.index)
    ]
    labels = np.asarray(data[tuple(slices)])
    free = Mask.from_plane((labels.T if plane.flipped else labels) == 0)
    if not free.area:
        raise ValueError("Every pixel belongs to an object already: there is nothing left to segment.")
    return mask_to_level(free, factors)
