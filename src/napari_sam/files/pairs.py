"""Images and their label images: which belong together, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_sam.export.formats import without_suffix
from napari_sam.files.alike import composed
from napari_sam.files.find import SUFFIXES, is_image, natural_key
from napari_sam.files.image_file import COLOURS, ImageFile, ImageFileError
from napari_sam.files.read import open_beside, open_image, open_labels
from napari_sam.image import ImageError
from napari_sam.label_ids import numbered_anew

MADE_SUFFIX = "_labels"
"""What the dock and ``napari-sam segment`` put behind the name of an image."""
LOSSY = (".jpg", ".jpeg")
"""Endings of pictures that do not keep the numbers of their pixels."""
CLASSES = 3
"""So many ids in all planes may be classes of pixels."""
LEAST_PARTS = 3
"""From so many separate parts on, in plane after plane, one id is hardly one object."""
FEW_PLANES = 3
"""In less planes that hold something, chance has a say: a vessel may well lie in three pieces."""
MANY_PARTS = 10
"""From so many separate parts on, one id is not one object, be it in a single plane."""
SPECK = 4
"""Pixels that a place has at least in which an id is counted to lie."""
UNLIKE = 0.1
"""Share of neighbouring pixels, none of them background, that differ: in labels of cells side by side .04 at
most, in images .14 and more."""
GREYS = 256
"""A picture of 8 bits has no more greys."""
LEAST_PIXELS = 4
"""Pixels of a plane for each of its ids, of which objects have more."""


def labelled_pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the images in ``folder/images`` with their label images in ``folder/labels``.

    Where there is no such folder, the labels are those in ``folder/images/labels``, as the dock puts them.
    They come in the order a person expects (``t2`` before ``t10``), which is that of a movie's frames.
    A label image has the name of the image's file; else its name with another ending, or with ``_labels``
    behind it, as the plugin writes them.

    Raises
    ------
    ImageFileError
        If a folder is missing, an image has no labels, or it is not clear which are its.
    """
    if not folder.exists():
        raise ImageFileError(f"There is no folder {folder}. Check the name.")
    images = folder / "images"
    labels = next((f for f in (folder / "labels", images / "labels") if f.is_dir()), folder / "labels")
    if not images.is_dir() or not labels.is_dir():
        raise ImageFileError(
            f"{folder} was expected to hold two folders, 'images' and 'labels' (or 'images' with 'labels' in "
            "it), with files of the same names. Arrange the data so, or choose another folder."
        )
    found = sorted(filter(is_image, images.iterdir()), key=natural_key)
    known = sorted(filter(is_image, labels.iterdir()), key=natural_key)
    if not found:
        raise ImageFileError(f"{images} holds no image ({', '.join(SUFFIXES)}).")
    taken: dict[Path, Path] = {}
    for image in found:
        pair = _labels_of(image, known, labels)
        if pair in taken:
            raise ImageFileError(
                f"{taken[pair].name} and {image.name} in {images} would both have the labels {pair.name}. "
                "Give each its own, of the name of its file."
            )
        taken[pair] = image
        yield image, pair


def _labels_of(image: Path, known: list[Path], folder: Path) -> Path:
    """The label image of an image."""
    name = composed(without_suffix(image))
    exact = [p for p in known if p.name == image.name]
    same = exact or [p for p in known if composed(p.name) == composed(image.name)]
    named = same or [p for p in known if composed(without_suffix(p)) == name]
    # Beside older labels these may be the corrected ones.
    fits = named + [p for p in known if composed(without_suffix(p)) == name + MADE_SUFFIX]
    if len(fits) > 1:
        raise ImageFileError(
            f"{' and '.join(p.name for p in fits)} in {folder} may both be the labels of {image.name}. "
            "Leave one of them there."
        )
    if fits:
        return fits[0]
    wanted = [name.casefold(), (name + MADE_SUFFIX).casefold()]
    near = next((p.name for p in known if composed(without_suffix(p)).casefold() in wanted), "")
    what = f"rename {near}, which differs in capital letters" if near else "label it"
    raise ImageFileError(
        f"{image} has no label image of the same name in {folder}: expected {image.name}, or "
        f"{without_suffix(image)}{MADE_SUFFIX}.tif as the plugin writes it. Either {what}, or take the image "
        f"out of {image.parent}."
    )


@contextmanager
def open_pair(
    image: Path, labels: Path, axes: str | None = None, *, single: bool = False
) -> Iterator[tuple[ImageFile, NDArray[np.integer]]]:
    """Open an image, and read its labels; in the block, what is wrong with its pixels names its file.

    Parameters
    ----------
    image, labels : Path
    axes : str, optional
        Letters of the image's axes, where its file does not say them or says them wrong; its labels have the
        same, but for channels and colours.
    single : bool
        Whether it has to be a single plane.

    Yields
    ------
    picture : ImageFile
    truth : ndarray of int, shape (len(picture), H, W)
        Labels of its planes.

    Raises
    ------
    ImageFileError
        If one cannot be read, or the two do not fit.
    """
    if labels.suffix.lower() in LOSSY:
        raise ImageFileError(
            f"{labels} is a JPEG, which keeps no exact numbers: what it says at the edges of objects is made "
            "up. Save the labels as TIFF or PNG, out of the program in which they were made."
        )
    with ExitStack() as files:
        known = files.enter_context(open_labels(labels, axes=None if axes is None else _planar(axes)))
        if image.exists() and known.path.samefile(image):
            raise ImageFileError(
                f"{image} is given as an image and as the labels of it: expected two files. Name the label "
                "image, in which each object has a number of its own."
            )
        truth = known.label_ids()
        picture = files.enter_context(open_beside(image, known, axes=axes))
        stored = tuple(picture.array.shape)
        if axes is None and _without_ones(picture.shape) != _without_ones(truth.shape):
            # Channels that lie last, though the file does not say so.
            letters = known.axes.names
            short = "".join(n for n, size in zip(letters, truth.shape, strict=True) if size > 1 or n in "YX")
            for names, shape in ((letters, truth.shape), (short, _without_ones(truth.shape))):
                if stored[:-1] == shape:
                    picture = files.enter_context(open_image(image, axes=names + COLOURS))
                    break
        if _without_ones(picture.shape) != _without_ones(truth.shape) or (single and len(picture) > 1):
            found = f"{stored} in {image} and {truth.shape} in {labels}"
            raise ImageFileError(_no_pair(found, single, len(picture) > 1 and len(truth.shape) > 2))
        try:
            yield picture, truth.reshape(-1, *truth.shape[-2:])
        except ImageError as error:
            raise ImageFileError(f"{image}: {error}") from error


def _planar(axes: str) -> str:
    """Letters of a label image's axes out of those of its image."""
    return "".join(letter for letter in axes.upper() if letter not in "C" + COLOURS)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of a stack without the axes before Y and X that have one position only."""
    return (*(n for n in shape[:-2] if n > 1), *shape[-2:])


def _no_pair(found: str, single: bool, stack: bool) -> str:
    """Say that an image and its labels do not fit."""
    if single:
        elsewhere = (
            " A stack does not go into a folder of planes: train on it with image = and labels = in the "
            "configuration, instead of folder =; evaluate it by its name, with --labels."
        )
        return (
            f"Expected one plane and one label image of the same height and width, found {found}. Save the "
            "labels of exactly this image, one number a pixel, and channels behind the height and width or "
            f"named as such in the file.{elsewhere if stack else ''}"
        )
    return (
        f"Expected a stack and its labels of the same shape (planes, height, width), found {found}. Save the "
        "labels of exactly this stack; channels of the image come last, or are named as such in the file."
    )


class Parts(NamedTuple):
    """In how many separate parts the ids of a label image lie."""

    ids: int
    """How many ids there are; of more than `CLASSES` it does not matter how many more."""
    counts: list[int]
    """For each plane that holds an object, the parts of the id that has most; none above `CLASSES` ids."""
    scattered: bool = False
    """Whether the ids lie about as the greys of an image do."""


def parts_of(planes: Iterable[NDArray[np.integer]]) -> Parts:
    """Count the separate parts in which the ids of a label image lie, if these are few.

    Parameters
    ----------
    planes : iterable of ndarray of int, shape (H, W)
        0 is background.
    """
    ids: set[int] = set()
    counts: list[int] = []
    greys: list[bool] = []
    for plane in planes:
        own = [i for i in np.unique(plane).tolist() if i]
        ids.update(own)
        if own and len(ids) <= CLASSES:
            counts.append(max(_places(plane == i) for i in own))
        elif own:
            greys.append(len(own) > CLASSES and _is_grey(plane))
            if len(greys) == FEW_PLANES or not greys[-1]:
                break
    return Parts(len(ids), [] if greys else counts, bool(greys) and all(greys))


def _places(inside: NDArray[np.bool_]) -> int:
    """In how many separate places an id lies; specks of a brush are none."""
    pieces, _ = ndimage.label(inside, np.ones((3, 3)))
    return int(np.count_nonzero(np.bincount(pieces.ravel())[1:] >= SPECK))


def _is_grey(plane: NDArray[np.integer]) -> bool:
    """Whether the ids of a plane, of which there are several, lie about as the greys of an image do.

    Most greys lie in several places, and on average in a great many; of more than 8 bits there may be so many
    greys that hardly a pixel is like another. Objects lie in one piece each, or are cut up, as the processes
    of cells in a plane of a volume are; but their pixels are like their neighbours, but for those at an edge.
    """
    from skimage.measure import label

    pairs = [(plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])]
    within = sum(int(np.count_nonzero((one != 0) & (other != 0))) for one, other in pairs)
    unlike = sum(int(np.count_nonzero((one != 0) & (other != 0) & (one != other))) for one, other in pairs)
    if unlike < UNLIKE * within:
        return False
    (ids,) = numbered_anew([plane])
    pieces = label(ids, background=0, connectivity=2)  # type: ignore[no-untyped-call]
    owners = np.zeros(int(pieces.max()) + 1, np.int32)
    owners[pieces.ravel()] = ids.ravel()
    places = np.bincount(owners[1:])[1:]
    many = len(places) > max(GREYS, plane.size // LEAST_PIXELS)
    return bool(many or (np.median(places) >= LEAST_PARTS and places.mean() >= MANY_PARTS))


def refuse_masks(parts: Mapping[Path, Parts]) -> None:
    """Refuse labels that only tell what pixels are of: all objects of a kind would count as one an image.

    Masks tell objects from background; classes of pixels, as ilastik gives them, have background among them;
    an image tells neither.

    Parameters
    ----------
    parts : mapping of Path to Parts
        `parts_of` each label image. Now and then a single object lies in pieces, and a mask holds a single
        object: the middle of all planes decides. Among label images of many objects each is looked at by
        itself.

    Raises
    ------
    ImageFileError
    """
    for path, own in parts.items():
        if own.scattered:
            raise ImageFileError(
                "Expected a label image, in which each object has a number of its own, found numbers that "
                f"lie about as the greys of an image do in {path}. Is it an image? Save the labels as they "
                "are, no picture of them, and scale them without interpolation."
            )
    ids = max((of_image.ids for of_image in parts.values()), default=0)
    if ids > CLASSES:
        for path, own in parts.items():
            if own.ids == 1 and _typical(own.counts) >= MANY_PARTS:
                others = ", while other label images have a number for each"
                raise _no_objects(path, own, "a single one", others, "this is a mask")
        return
    counts = [count for of_image in parts.values() for count in of_image.counts]
    if not counts:
        return
    few = len(counts) < FEW_PLANES
    if _typical(counts) < (MANY_PARTS if few or ids > 1 else LEAST_PARTS):
        return
    path = max(parts, key=lambda image: max(parts[image].counts, default=0))
    filled = sum(bool(of_image.counts) for of_image in parts.values())
    others = f", and so in the {filled - 1} other label images" if filled > 1 else ""
    if ids > 1:
        found, kind = f"{ids} for all, one of them", "these are classes of pixels"
        raise _no_objects(path, parts[path], found, others, kind, " of their class")
    raise _no_objects(path, parts[path], "a single one", others, "this is a mask")


def _typical(counts: Sequence[int]) -> float:
    """Parts in the middle of all planes; of a few planes the least."""
    return min(counts) if len(counts) < FEW_PLANES else float(np.median(counts))


def _no_objects(path: Path, parts: Parts, found: str, others: str, kind: str, of: str = "") -> ImageFileError:
    """Return the error of labels that do not tell one object from another."""
    return ImageFileError(
        f"Expected a number of its own for each object, found {found} in {max(parts.counts)} separate "
        f"places in {path}{others}: {kind}. Give each object its own number, in Fiji with Analyze "
        "Particles (Count Masks) or MorphoLibJ's Connected Components Labeling, in Python with "
        f"skimage.measure.label{of}."
    )
