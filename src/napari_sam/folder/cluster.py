"""Let many processes, on one machine or on a cluster, do the work on the planes and tiles of images.

A work unit is one plane, or one tile of a huge plane. A worker reads its pixels from the file and writes what
it finds to the folder of finished units, which all of them see; nothing but numbers goes through the client.
A worker that dies costs the unit that it was at. What follows (linking planes, joining tiles, writing the
labels) is quick and the same as on one machine, so that the result is.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from napari_sam.diameter import typical_diameter
from napari_sam.files import ImageFile, open_image
from napari_sam.files.image_file import in_words
from napari_sam.folder.ahead import embedded
from napari_sam.folder.pictures import Pictures, PlaneView, Readers, plane_reader, settle_contrast
from napari_sam.folder.work import is_huge, linked_along, tiled_path, units_of
from napari_sam.progress import Notice, Progress, Steps, finish
from napari_sam.recipe import Recipe
from napari_sam.stack import segment_plane_unit
from napari_sam.tiling import (
    TiledJob,
    TileGrid,
    open_job,
    plane_contrast,
    plane_job,
    plane_source,
    tile_diameter,
    whole_range,
)

if TYPE_CHECKING:
    from distributed import Client

    from napari_sam.predictor import Predictor

AHEAD = 4
"""Units handed to the scheduler for each thread of the workers, so that it never holds all of them."""
LEAST = 64
"""Units that it gets however few workers there are: some clusters start as many as there is work for."""
RETRIES = 2
PAUSE = 0.1
"""Seconds between two looks at which units are finished and which workers are there."""


class ClusterError(RuntimeError):
    """Workers that cannot be used; the message says why and what to do."""


class Model(Hashable, Protocol):
    """A model that a worker can load; a small value that can be sent and compared."""

    @property
    def threads(self) -> int:
        """Processor threads of a worker."""
        ...

    def load(self) -> Predictor:
        """Load it."""
        ...


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model by name or file, as `napari_sam.load_model` takes it.

    Parameters
    ----------
    name, device : str
        A file must be seen by all workers under the same path; it is kept as an absolute one, for they may
        run in another folder.
    threads : int
        Processor threads of a worker. The last digits of what a model computes may depend on it.
    """

    name: str = "built-in"
    device: str = "auto"
    threads: int = 1

    def __post_init__(self) -> None:
        """Name a file as it is found from everywhere."""
        from napari_sam.predictor.load import model_file

        file = model_file(self.name)
        if file is not None:
            object.__setattr__(self, "name", str(file.absolute()))

    def load(self) -> Predictor:
        """Load the model."""
        from napari_sam.predictor import load_model

        return load_model(self.name, device=self.device)


class Cluster(NamedTuple):
    """Workers, and the model that they load."""

    client: Client
    model: Model


@dataclass(frozen=True, slots=True)
class Piece:
    """One work unit.

    Parameters
    ----------
    source : Path
    axes : str, optional
        Letters of the image's axes, where the file does not say them.
    recipe : Recipe
    work : Path
        Where the finished units of the image lie.
    number : int
        The plane.
    depth : int
        Planes of a volume.
    tiled : TiledJob, optional
        The work on a huge plane, of which the unit is a tile.
    tile : int
        Its number.
    store : Path, optional
        Where embeddings are looked for.
    """

    source: Path
    axes: str | None
    recipe: Recipe
    work: Path
    number: int
    depth: int
    tiled: TiledJob | None = None
    tile: int = 0
    store: Path | None = None

    def __str__(self) -> str:
        where = f"{self.source.name}: plane {self.number + 1}"
        return where if self.tiled is None else f"{where}, tile {self.tile + 1}"

    def run(self, predictor: Predictor) -> None:
        """Segment the unit and keep it, unless it is there already."""
        if self.tiled is not None:
            if self.tile not in self.tiled.tiles:
                with open_image(self.source, axes=self.axes) as image:
                    read = plane_reader(image, self.recipe, self.number)
                    finish(self.tiled.run_tile(predictor, read, self.tile, embedded(self.store)))
            return
        volume, plane = divmod(self.number, self.depth)
        units = units_of(self.work, volume)
        if plane not in units:
            with open_image(self.source, axes=self.axes) as image:
                picture = Pictures(image, self.recipe)[self.number]
            settings, diameter = self.recipe.settings(predictor), self.recipe.diameter
            kept = embedded(self.store)
            unit = finish(segment_plane_unit(predictor, picture, settings, diameter=diameter, kept=kept))
            units.write(plane, unit)


def pieces_of(
    predictor: Predictor, image: ImageFile, axes: str | None, recipe: Recipe, work: Path
) -> list[Piece]:
    """Work units of an image that are not finished.

    Parameters
    ----------
    predictor : Predictor
    image : ImageFile
    axes : str, optional
        As the image was opened with.
    recipe : Recipe
    work : Path
        See `napari_sam.folder.work.work_folder`.
    """
    _, depth = linked_along(image)
    # What is estimated for a whole image is looked up once, not by each worker for each unit.
    recipe = settle_contrast(image, recipe)
    source, work = image.path.absolute(), work.absolute()
    pieces: list[Piece] = []
    for start in range(0, len(image), depth):
        if is_huge(image):
            pieces += _tiles_of(predictor, image, axes, recipe, work, start, depth)
            continue
        missing = units_of(work, start // depth).missing(depth)
        known = recipe
        if missing and recipe.diameter is None and len(image) > 1:
            pictures = Pictures(image, recipe, start, start + depth)
            known = replace(recipe, diameter=typical_diameter(predictor, pictures.__getitem__, depth))
        pieces += [Piece(source, axes, known, work, start + n, depth) for n in missing]
    return pieces


def _tiles_of(
    predictor: Predictor,
    image: ImageFile,
    axes: str | None,
    recipe: Recipe,
    work: Path,
    start: int,
    depth: int,
) -> Iterator[Piece]:
    """Tiles that are not finished of one of an image's volumes of huge planes, or of its only plane."""
    grid = TileGrid((int(image.shape[-2]), int(image.shape[-1])))
    planes = Readers(image, recipe, start, start + depth)
    diameter = recipe.diameter
    if diameter is None and predictor.uses_diameter:
        diameter = tile_diameter(predictor, planes[depth // 2], grid)
    whole = TiledJob(grid, recipe.settings(predictor), tiled_path(work, start // depth), diameter)
    for n in range(depth):
        number = start + n
        known = recipe
        if isinstance(recipe.contrast, str):
            view = PlaneView(image, number)
            windows = whole_range(view) if recipe.contrast == "range" else plane_contrast(view)
            if windows is not None:
                known = replace(recipe, contrast=tuple((w.low, w.high) for w in windows))
        alone = len(image) == 1
        job, source = (whole, work.name) if alone else (plane_job(whole, n), plane_source(work.name, n))
        if not open_job(job, job.identity(predictor.model_id, source)).get("complete"):
            for tile in job.tiles.missing(len(grid)):
                yield Piece(image.path.absolute(), axes, known, work, number, depth, job, tile)


def run_pieces(cluster: Cluster, pieces: Sequence[Piece]) -> Steps[list[tuple[Piece, str]]]:
    """Have the workers do all units.

    Parameters
    ----------
    cluster : Cluster
    pieces : sequence of Piece

    Yields
    ------
    Progress
        After each unit, and again and again as long as there is no worker, which a `Notice` says first.
        Closing the generator takes back what the workers have not begun.

    Returns
    -------
    list of (Piece, str)
        Units that failed, and why.

    Raises
    ------
    ClusterError
        If the scheduler is lost. Finished units are kept.
    """
    client: Any = cluster.client
    waiting = iter(pieces)
    of: dict[Any, Piece] = {}

    def submit(count: int) -> list[Any]:
        futures = []
        for piece in islice(waiting, max(count, 0)):
            future = client.submit(_run, piece, cluster.model, pure=False, retries=RETRIES)
            of[future.key] = piece
            futures.append(future)
        return futures

    failed: list[tuple[Piece, str]] = []
    running = _distributed().as_completed(loop=client.loop)
    done = 0
    told = False
    try:
        while done < len(pieces):
            # Asked each time: workers come and go.
            threads = sum(client.nthreads().values())
            running.update(submit(max(AHEAD * threads, LEAST) - len(of)))
            finished = running.next_batch(block=False)
            for future in finished:
                piece = of.pop(future.key)
                if future.status != "finished":
                    failed.append((piece, in_words(future.exception() or RuntimeError(future.status))))
                future.release()
                done += 1
                yield Progress(done, len(pieces), str(piece))
            if not finished:
                if not threads:
                    step = Progress if told else Notice
                    yield step(done, len(pieces), "waiting for workers")
                told = not threads
                time.sleep(PAUSE)
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"The scheduler was lost ({in_words(error)}). Everything finished is kept: start the run again."
        ) from error
    finally:
        if of:
            client.cancel(list(running.futures))
    return failed


@contextmanager
def shared_out(workers: int | None, scheduler: str | None, model: Model) -> Iterator[Cluster | None]:
    """Workers as they were asked for: those of a scheduler, or some on this machine; None if neither was.

    Parameters
    ----------
    workers : int, optional
        Processes to start on this machine.
    scheduler : str, optional
        Address of a scheduler that runs already; it goes before ``workers``.
    model : Model
    """
    if scheduler is not None:
        with connect(scheduler) as client:
            yield Cluster(client, model)
    elif workers is not None:
        with local_workers(workers) as client:
            yield Cluster(client, model)
    else:
        yield None


@contextmanager
def local_workers(count: int) -> Iterator[Client]:
    """Processes on this machine, one thread each, for as long as the block runs."""
    # Any free port: the usual one may be taken by another cluster on this machine.
    distributed = _distributed()
    with (
        distributed.LocalCluster(
            n_workers=count, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextmanager
def connect(address: str, timeout: float = 30.0) -> Iterator[Client]:
    """Workers of a scheduler that runs already, such as ``"tcp://10.0.0.1:8786"``.

    Raises
    ------
    ClusterError
        If nothing answers there.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=timeout)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"No scheduler answers at {address} ({in_words(error)}). "
            "Is it running, and can this machine reach it?"
        ) from error
    with client:
        yield client


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise ClusterError('Several processes need dask: pip install "napari-sam-cells[cluster]"') from error
    return distributed


def _run(piece: Piece, model: Model) -> None:
    """What a worker does."""
    piece.run(_loaded(model))


@lru_cache(maxsize=1)
def _loaded(model: Model) -> Predictor:
    """The model of this process, loaded once."""
    import torch

    torch.set_num_threads(model.threads)
    return model.load()
