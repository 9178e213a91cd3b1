"""Files that an evaluation writes: refused before everything is measured, put in place when complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile

import typer

SPECIAL = [Path("/dev"), Path("/proc")]
"""Where no files lie but what a program is connected to, such as /dev/stdout."""
PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of such a picture."""


def evaluated_files(place: Path, labels: Path | None) -> Iterator[Path]:
    """Yield the files and folders that are evaluated, in which nothing may be written.

    Parameters
    ----------
    place : Path
        An image, or a folder of images and labels.
    labels : Path, optional
        Labels of the image.
    """
    from napari_sam.files.find import is_zarr

    if labels is not None:
        yield from (place, labels)
    elif not is_zarr(place):
        for folder in (place / "images", place / "labels"):
            if folder.is_dir():
                yield folder
                yield from folder.iterdir()


def refuse_output(file: Path | None, option: str, ending: str, sources: Iterable[Path]) -> None:
    """Refuse a file that cannot or may not be written.

    Parameters
    ----------
    file : Path, optional
    option : str
        What names it, for the message.
    ending : str
        What its name has to end in, unless it is no file, such as /dev/stdout.
    sources : iterable of Path
        Files and folders that stay as they are, and what is in these.

    Raises
    ------
    typer.BadParameter
    """
    if file is None:
        return
    if not file.absolute().parent.is_dir():
        raise typer.BadParameter(
            f"There is no folder {file.parent}. Make it, or choose another.", param_hint=option
        )
    if _is_plain(file):
        if file.is_dir() or not file.name.lower().endswith(ending):
            raise typer.BadParameter(
                f"Expected the name of a file that ends in {ending}, found {file}.", param_hint=option
            )
        _refuse_sources(file, option, sources)
    try:
        if file.exists():
            # It is only opened, and keeps what is in it.
            file.open("ab").close()
        if may_be_replaced(file):
            TemporaryFile(dir=file.absolute().parent).close()
    except OSError as error:
        why = error.strerror or error
        raise typer.BadParameter(
            f"{file} cannot be written ({why}). Choose another folder.", param_hint=option
        ) from error


def refuse_no_picture(file: Path | None, option: str) -> None:
    """Refuse to write over a file that is called a picture and is none."""
    if file is None or not file.is_file():
        return
    with file.open("rb") as opened:
        start = opened.read(len(PNG))
    if start not in (b"", PNG):
        raise typer.BadParameter(
            f"{file} is there already, and no PNG: it would be lost. Choose another name.", param_hint=option
        )


def write_output(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file that is put in place when it is complete; until then an older one stays.

    Raises
    ------
    ExportError
        If it cannot be written.
    """
    from napari_sam.export import ExportError
    from napari_sam.export.atomic import replacing

    if not may_be_replaced(file):
        try:
            write(file)
        except OSError as error:
            why = error.strerror or str(error)
            raise ExportError(f"{file} could not be written ({why}). Choose another.") from error
        return
    with replacing(file) as beside:
        write(beside)


def may_be_replaced(file: Path) -> bool:
    """Whether a new file may take a file's place, which it may not where that is a link or /dev/stdout."""
    return not file.is_symlink() and (file.is_file() or not file.exists())


def _is_plain(file: Path) -> bool:
    """Whether a file, or one to be, lies on a disk; /dev/stdout may lead to one that somebody else opened."""
    absolute = file.absolute()
    return not any(absolute.is_relative_to(folder) for folder in SPECIAL) and (
        file.is_file() or file.is_dir() or not file.exists()
    )


def _refuse_sources(file: Path, option: str, sources: Iterable[Path]) -> None:
    """Refuse a file that is one of some sources, or lies in one, by whatever path or link."""
    from napari_sam.files.find import identity

    place = file.resolve()
    around = {identity(path) for path in (place, *place.parents)} - {None}
    for source in sources:
        if identity(source) in around:
            raise typer.BadParameter(
                f"{file} is a file that is evaluated, or would lie among those ({source}). Choose another "
                "folder.",
                param_hint=option,
            )
