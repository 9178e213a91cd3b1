"""One embedding as a zarr group: written with its completion mark last, read with every byte checked."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec
from zarr.core.buffer import Buffer, cpu
from zarr.storage import MemoryStore

from napari_sam.embedding import Embedding
from napari_sam.geometry import Frame

MARK = "zarr.json"
"""File of a group's metadata. An entry is complete when it has one."""
DAMAGE = (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What reading a damaged entry may raise. Any other OSError says that the disk does not give it now."""


def write_entry(folder: Path, embedding: Embedding) -> None:
    """Write the arrays of an embedding into a new folder, then the mark; return when the disk has them."""
    features: dict[str, dict[str, Any]] = {}
    for name, tensor in embedding.features.items():
        values, kind = _to_numpy(tensor)
        array = zarr.create_array(
            folder / name,
            shape=values.shape,
            chunks=tuple(max(n, 1) for n in values.shape),
            dtype=values.dtype,
            compressors=ZstdCodec(level=1) if values.dtype.kind in "ui" else None,
        )
        array[...] = values
        features[name] = {
            "dtype": kind,
            "channels_last": _is_channels_last(tensor),
            "digest": _digest(values),
        }
    attributes = {
        "pixels": embedding.pixels,
        "model_id": embedding.model_id,
        "seconds": embedding.seconds,
        "frame": asdict(embedding.frame),
        "features": features,
    }
    zarr.create_group(folder, attributes=attributes)
    # Else the folder's new name may be on the disk before what is in it, when the power fails.
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("r+b") as written:
                os.fsync(written.fileno())


def read_entry(folder: Path) -> Embedding:
    """Read an entry and check every byte of it.

    Raises
    ------
    One of `DAMAGE`
        If a file is missing, cannot be decoded, or does not have the digest that was recorded.
    OSError
        If a file cannot be read now; nothing is known of what is in it.
    """
    attributes = json.loads((folder / MARK).read_text(encoding="utf-8"))["attributes"]
    features = {}
    for name, about in attributes["features"].items():
        values = np.asarray(zarr.open_array(_in_memory(folder / name), mode="r")[...])
        if _digest(values) != about["digest"]:
            raise ValueError(f"the array {name} does not have the digest that was recorded")
        tensor = torch.from_numpy(values)
        tensor = tensor.view(getattr(torch, about["dtype"]))
        if about["channels_last"]:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        features[name] = tensor
    frame = attributes["frame"]
    return Embedding(
        features,
        Frame(tuple(frame["image_shape"]), tuple(frame["model_shape"]), frame["centred"]),
        attributes["model_id"],
        attributes["pixels"],
        attributes["seconds"],
    )


def _in_memory(folder: Path) -> MemoryStore:
    """Files of an array: zarr takes some that it may not read for missing, and fills in zeros."""

    def give_up(error: OSError) -> None:
        raise error

    held: dict[str, Buffer] = {}
    for at, _, names in os.walk(folder, onerror=give_up):
        for file in (Path(at, name) for name in names):
            held[file.relative_to(folder).as_posix()] = cpu.Buffer.from_bytes(file.read_bytes())
    return MemoryStore(held)


def _to_numpy(tensor: torch.Tensor) -> tuple[NDArray[np.generic], str]:
    """Bytes of a tensor as an array that zarr can hold, and the tensor's dtype."""
    kind = str(tensor.dtype).removeprefix("torch.")
    plain = tensor.detach().cpu().contiguous()
    # numpy has no bfloat16: its bits are kept.
    return (plain.view(torch.int16) if kind == "bfloat16" else plain).numpy(), kind


def _is_channels_last(tensor: torch.Tensor) -> bool:
    """Whether the tensor lies in memory channel by channel within a pixel, on which rounding may depend."""
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return last and not tensor.is_contiguous()


def _digest(values: NDArray[np.generic]) -> str:
    digest = hashlib.blake2b(f"{values.dtype}{values.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def entry_size(folder: Path) -> int:
    """Disk space of an entry in bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
