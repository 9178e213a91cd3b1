"""What was tuned by eye on one image, as a small YAML file that runs on a thousand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from napari_sam.everything import AutomaticSettings
    from napari_sam.predictor import Predictor


ContrastRule = Literal["stack", "plane", "range"]
"""Percentiles of the whole image, of each plane, or the darkest and the brightest pixel of each plane."""
Windows = tuple[tuple[float, float], ...]
"""What is black and what is white, one pair for each channel or one for all."""


class RecipeError(ValueError):
    """A recipe that cannot be used; the message says what was expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to segment an image.

    Parameters
    ----------
    model : str
        Name of a model, or its file.
    diameter : float, optional
        Typical diameter of the objects in pixels; estimated if not given.
    channels : tuple of int or None, optional
        Which channel goes to red, green and blue; see `napari_sam.image.plane_to_rgb`.
    contrast : {"stack", "plane", "range"} or tuple of (float, float)
        Percentiles of the whole image, of each plane by itself, or the darkest and the brightest pixel of
        each plane; or what is black and what is white, for each channel or one pair for all.
    gamma : float
        Exponent applied after the contrast, as napari displays it.
    link : bool
        Whether the objects of a stack keep their id from plane to plane.
    automatic : mapping
        Settings of the automatic masks that differ from the model's own, by their names in
        `napari_sam.everything.AutomaticSettings`.
    """

    model: str = "built-in"
    diameter: float | None = None
    channels: tuple[int | None, ...] | None = None
    contrast: ContrastRule | Windows = "stack"
    gamma: float = 1.0
    link: bool = True
    automatic: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, predictor: Predictor) -> AutomaticSettings:
        """Settings of the automatic masks: the model's own, with the recipe's changes.

        Raises
        ------
        RecipeError
            If a setting does not exist or has an impossible value.
        """
        from dataclasses import replace

        from napari_sam.everything import settings_for

        defaults = settings_for(predictor)
        known = [f.name for f in fields(defaults)]
        _refuse_unknown(self.automatic, known, "settings of automatic masks")
        try:
            return replace(defaults, **self.automatic)
        except (TypeError, ValueError) as error:
            raise RecipeError(f"The settings of automatic masks cannot be used: {error}") from error

    def digest(self) -> str:
        """Return a short code that changes with every setting."""
        text = json.dumps(asdict(self), sort_keys=True, default=_plain)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def automatic_changes(settings: AutomaticSettings, own: AutomaticSettings) -> dict[str, Any]:
    """Settings of automatic masks that differ from the model's own, as `Recipe.automatic` names them."""
    now, before = asdict(settings), asdict(own)
    return {name: value for name, value in now.items() if value != before[name]}


def load_recipe(path: str | Path) -> Recipe:
    """Read a recipe from a YAML file.

    Raises
    ------
    RecipeError
        If the file is missing, no YAML, or holds something else.
    """
    import yaml

    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"The settings in {path} cannot be read ({reason}).") from error
    found = {} if found is None else found
    if not isinstance(found, dict):
        raise RecipeError(f"Expected lines such as 'model: built-in' in {path}, found {found!r}.")
    _refuse_unknown(found, [f.name for f in fields(Recipe)], f"settings in {path}")
    try:
        return _recipe(found)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"The settings in {path} cannot be used: {error}") from error


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write a recipe as YAML, without what is at its default.

    Raises
    ------
    ExportError
        If the file cannot be written; a file that was there before is left as it was.
    """
    import yaml

    from napari_sam.export.atomic import replacing

    plain = json.loads(json.dumps(asdict(recipe), default=_plain))
    default = json.loads(json.dumps(asdict(Recipe())))
    changed = {name: value for name, value in plain.items() if value != default[name] or name == "model"}
    text = yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)
    with replacing(Path(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def _plain(value: Any) -> Any:
    """Bring numbers and arrays of numpy to plain ones, and anything else to text."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _recipe(found: dict[str, Any]) -> Recipe:
    """Bring what YAML gives to the types of a recipe."""
    values = dict(found)
    for name, kind, wanted in (("model", str, "a name or a file"), ("link", bool, "true or false")):
        if not isinstance(values.get(name, kind()), kind):
            raise TypeError(f"expected {wanted} as {name}, found {values[name]!r}")
    if values.get("channels") is not None:
        values["channels"] = read_channels(values["channels"])
    if "contrast" in values:
        values["contrast"] = _contrast(values["contrast"])
    if values.get("diameter") is not None:
        values["diameter"] = _number("diameter", values["diameter"])
        if values["diameter"] < 1:
            raise ValueError(f"expected a diameter of 1 pixel or more, found {values['diameter']}")
    if "gamma" in values:
        values["gamma"] = _number("gamma", values["gamma"])
        if values["gamma"] <= 0:
            raise ValueError(f"expected a gamma above 0, found {values['gamma']}")
    if not isinstance(values.get("automatic", {}), dict):
        raise TypeError(f"expected names and values under 'automatic', found {values['automatic']!r}")
    return Recipe(**values)


def _contrast(found: Any) -> ContrastRule | Windows:
    """Contrast as it is written in a file; nothing stands for the whole image."""
    if isinstance(found, str) or found is None:
        known: dict[Any, ContrastRule] = {None: "stack", "stack": "stack", "plane": "plane", "range": "range"}
        if found not in known:
            raise ValueError(
                f"expected the contrast stack, plane, range or numbers such as [[100, 4000]], found {found}"
            )
        return known[found]
    pairs = found if isinstance(found, (list, tuple)) else [found]
    if len(pairs) == 2 and not any(isinstance(one, (list, tuple)) for one in pairs):
        pairs = [pairs]  # one window, written without the outer brackets
    if not pairs or not all(isinstance(one, (list, tuple)) and len(one) == 2 for one in pairs):
        raise ValueError(f"expected pairs of black and white such as [[100, 4000]], found {found}")
    windows = tuple((_number("contrast", low), _number("contrast", high)) for low, high in pairs)
    for low, high in windows:
        if low >= high:
            raise ValueError(f"expected a contrast whose black is below its white, found [{low:g}, {high:g}]")
    return windows


def read_channels(found: Any) -> tuple[int | None, ...]:
    """Channels as they are written in a file; one number is for all three colours.

    Raises
    ------
    ValueError
        If they are not one or three whole numbers of 0 and above, or None for a colour without a channel.
    """
    picks = tuple(found) if isinstance(found, (list, tuple)) else (found,)
    right = all(c is None or (isinstance(c, int) and not isinstance(c, bool) and c >= 0) for c in picks)
    if not right or len(picks) not in (1, 3) or set(picks) == {None}:
        raise ValueError(f"expected one or three channels such as [2, 0, null], found {found}")
    return picks * 3 if len(picks) == 1 else picks


def _number(name: str, found: Any) -> float:
    """A number as it is written in a file."""
    if not isinstance(found, (int, float)) or isinstance(found, bool) or not isfinite(found):
        raise ValueError(f"expected a number for {name}, found {found!r}")
    return float(found)


def _refuse_unknown(found: Mapping[str, Any], known: list[str], what: str) -> None:
    """Name the settings that exist when one does not."""
    unknown = sorted(set(map(str, found)) - set(known))
    if unknown:
        raise RecipeError(f"Expected {what} out of {', '.join(known)}, found {', '.join(unknown)}.")
