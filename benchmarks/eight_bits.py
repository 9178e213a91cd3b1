"""Masks of the built-in model with 8-bit numbers against those of single precision, on labelled pictures.

python -m benchmarks.eight_bits ../shared/data/dsb2018/val:18 ../shared/data/usiigaci/val:60

Each argument is a folder with images/ and labels/, and after a colon the diameter of its objects in pixels.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from napari_sam.evaluation.clicks import centre_click
from napari_sam.evaluation.prompted import objects_of
from napari_sam.evaluation.report import read_planes
from napari_sam.masks import Mask, mask_iou
from napari_sam.predictor import Predictor, load_model
from napari_sam.prompts import Prompts

PICTURES, OBJECTS = 4, 25


def masks(
    predictor: Predictor, image: np.ndarray, diameter: float | None, asked: list[Prompts]
) -> list[Mask]:
    """Most confident masks for some prompts."""
    embedding = predictor.embed(image, diameter=diameter)
    return [offer.best.mask for offer in predictor.predict_each(embedding, asked)]


def compare(folder: str, diameter: float | None) -> list[float]:
    """Mean IoU of clicks and boxes with those of single precision, and of clicks of both with the truth."""
    models = [load_model(device="cpu", precision=precision) for precision in ("fp32", "auto")]
    found: list[list[float]] = [[], [], [], []]
    for plane in read_planes(Path(folder), PICTURES):
        truth = objects_of(plane.labels)
        truth = truth[:: max(1, len(truth) // OBJECTS)][:OBJECTS]
        clicks = [Prompts((centre_click(mask),)) for mask in truth]
        boxes = [Prompts(box=mask.box) for mask in truth]
        (clicked, boxed), (clicked8, boxed8) = (
            [masks(model, plane.image, diameter, asked) for asked in (clicks, boxes)] for model in models
        )
        for values, pairs in zip(
            found,
            ((clicked, clicked8), (boxed, boxed8), (truth, clicked), (truth, clicked8)),
            strict=True,
        ):
            values += [mask_iou(a, b) for a, b in zip(*pairs, strict=True)]
    return [float(np.mean(values)) for values in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", metavar="FOLDER[:DIAMETER]")
    print(f"{'pictures':<50}{'click':>8}{'box':>8}{'truth, fp32':>14}{'truth, 8 bits':>15}")
    for argument in parser.parse_args().folders:
        folder, _, diameter = argument.partition(":")
        click, box, fp32, eight = compare(folder, float(diameter) if diameter else None)
        print(f"{folder:<50}{click:>8.3f}{box:>8.3f}{fp32:>14.3f}{eight:>15.3f}", flush=True)


if __name__ == "__main__":
    main()
