"""The plugin's page of napari's Preferences, as plain values."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from napari.settings import get_plugin_settings

PLUGIN = "napari-sam-cells"
CACHE_VARIABLE = "NAPARI_SAM_CACHE"
_replaced: dict[str | None, str | None] = {}
"""The value that the variable was given here, with the one that was there before."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """What the person chose in the Preferences.

    Parameters
    ----------
    model : str
        Name of the model that the dock starts with, or the path of a checkpoint.
    device : {"auto", "cpu", "cuda", "mps"}
    cache_bytes : int
        Memory that embeddings may take.
    cache_folder : Path, optional
        Where models and the labels of large images are kept; None for the usual place.
    store_folder : str
        Folder of embeddings; empty for none.
    store_read_only : bool
        Whether it is only read.
    store_gb : float
        Disk space that it may take, in GB.
    """

    model: str = "built-in"
    device: str = "auto"
    cache_bytes: int = 1000 * 2**20
    cache_folder: Path | None = None
    store_folder: str = ""
    store_read_only: bool = False
    store_gb: float = 20.0


def preferences() -> Preferences:
    """Read the Preferences; the defaults where napari does not know the plugin."""
    settings = _settings()
    if settings is None:
        return Preferences()
    folder = str(settings.cache.folder).strip()
    return Preferences(
        model=str(settings.model.name).strip() or Preferences().model,
        device=str(settings.model.device),
        cache_bytes=int(settings.cache.memory_mb) * 2**20,
        cache_folder=Path(folder).expanduser() if folder else None,
        store_folder=str(settings.store.folder).strip(),
        store_read_only=bool(settings.store.read_only),
        store_gb=float(settings.store.max_gb),
    )


def set_preference(group: str, name: str, value: Any) -> None:
    """Change one preference; napari saves it at once."""
    settings = _settings()
    if settings is not None:
        setattr(getattr(settings, group), name, value)


def on_preferences_changed(callback: Callable[[Preferences], None]) -> Callable[[], None]:
    """Call back with the new Preferences whenever they change.

    Returns
    -------
    callable
        Ends it.
    """
    settings = _settings()
    if settings is None:
        return lambda: None

    def changed(event: Any = None) -> None:
        callback(preferences())

    groups = (settings.model, settings.cache)
    for group in groups:
        group.events.connect(changed)

    def end() -> None:
        for group in groups:
            group.events.disconnect(changed)

    return end


def use_cache_folder(folder: Path | None) -> None:
    """Let models and the labels of large images be kept in a folder.

    Parameters
    ----------
    folder : Path or None
        It wins over the environment variable, which without it is again what it was.
    """
    now = os.environ.get(CACHE_VARIABLE)
    given = _replaced.get(now, now)
    _replaced.clear()
    if folder is not None:
        _replaced[str(folder)] = given
        os.environ[CACHE_VARIABLE] = str(folder)
    elif given is not None:
        os.environ[CACHE_VARIABLE] = given
    else:
        os.environ.pop(CACHE_VARIABLE, None)


def _settings() -> Any:
    """The plugin's settings, None if napari has not discovered the plugin."""
    try:
        return get_plugin_settings(PLUGIN)
    except KeyError:
        return None
