"""Every object of planes that are too large for memory, tile by tile, into labels on disk."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_sam.linking import LinkSettings
from napari_sam.progress import Progress, Steps

if TYPE_CHECKING:
    from napari_sam.axes import Axes
    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor
    from napari_sam.store import Embeddings
    from napari_sam.tiling.large_plane import LargePlane
    from napari_sam.tiling.run import TiledResult


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class LabelsAt(Progress):
    """Where the labels will be.

    Parameters
    ----------
    path : Path
        OME-Zarr label image; there from the first finished tile on.
    """

    path: Path


def everything_tiled(
    predictor: Predictor,
    plane: LargePlane,
    settings: AutomaticSettings,
    diameter: float | None,
    folder: Path,
    name: str,
    *,
    axes: Axes | None = None,
    first: tuple[float, float] | None = None,
    kept: Sequence[Embeddings] = (),
) -> Steps[TiledResult]:
    """Segment a large plane into a folder; the same plane with the same settings is gone on with.

    Parameters
    ----------
    predictor : Predictor
    plane : LargePlane
        Its finest level is segmented.
    settings : AutomaticSettings
    diameter : float, optional
        Typical object diameter in pixels; estimated if not given.
    folder : Path
        Where the label image is made.
    name : str
        What its name begins with.
    axes : Axes, optional
        Pixel size of Y and X.
    first : tuple of float, optional
        Place (y, x) to begin at.
    kept : sequence of Embeddings
        Where embeddings of tiles are looked for and kept.

    Yields
    ------
    Progress
        A `LabelsAt` first, then as `napari_sam.tiling.segment_plane` does.
    """
    from napari_sam.tiling.run import segment_plane

    yield Progress(0, 1, "Reading the plane")
    source = plane.fingerprint()
    path = _path(folder, name, [source, predictor.model_id, asdict(settings), diameter])
    yield LabelsAt(0, 1, "Reading the plane", path=path)
    result = yield from segment_plane(
        predictor,
        plane.levels[0].read,
        plane.shape,
        path,
        settings,
        diameter=diameter,
        axes=axes,
        source=source,
        first=first,
        kept=kept,
    )
    return result


def stack_tiled(
    predictor: Predictor,
    planes: Sequence[LargePlane],
    settings: AutomaticSettings,
    link: LinkSettings | bool,
    diameter: float | None,
    folder: Path,
    name: str,
    *,
    axes: Axes | None = None,
    voxel: tuple[float, str] | None = None,
    kept: Sequence[Embeddings] = (),
) -> Steps[TiledResult]:
    """Segment a stack of large planes into a folder; the same one with the same settings is gone on with.

    Parameters
    ----------
    predictor : Predictor
    planes : sequence of LargePlane
        Of one shape; their finest levels are segmented.
    settings, diameter, folder, name, kept
        See `everything_tiled`.
    link, axes, voxel
        See `napari_sam.tiling.segment_tiled_stack`.

    Yields
    ------
    Progress
        A `LabelsAt` first, then as `napari_sam.tiling.segment_tiled_stack` does.
    """
    from napari_sam.tiling.stack import segment_tiled_stack

    yield Progress(0, 1, "Reading some planes")
    looked_at = {0, len(planes) // 2, len(planes) - 1}
    source = " ".join(planes[number].fingerprint() for number in sorted(looked_at))
    linking = asdict(link) if isinstance(link, LinkSettings) else link
    about = [source, len(planes), predictor.model_id, asdict(settings), linking, diameter]
    path = _path(folder, f"{name}-stack", about)
    yield LabelsAt(0, 1, "Reading some planes", path=path)
    result = yield from segment_tiled_stack(
        predictor,
        [plane.levels[0].read for plane in planes],
        planes[0].shape,
        path,
        settings,
        link=link,
        diameter=diameter,
        axes=axes,
        voxel=voxel,
        source=source,
        kept=kept,
    )
    return result


def _path(folder: Path, name: str, about: list[Any]) -> Path:
    """Where the labels of a run go: found again by everything that they depend on."""
    digest = hashlib.blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=4).hexdigest()
    return folder / f"{file_name(name)}-{digest}.ome.zarr"


def file_name(name: str) -> str:
    """Name of a layer as part of a file's name."""
    return re.sub(r"[^\w-]+", "-", name).strip("-")[:60] or "labels"
