import hashlib
import pickle

import numpy as np
import pytest
import zarr

from napari_sam.image import Contrast, fingerprint, plane_to_rgb
from napari_sam.progress import finish
from napari_sam.store import EmbeddingCache, Shelf, StoreError
from napari_sam.store.microsam import MicroSamStore
from napari_sam.store.microsam_adopt import adopt_microsam, index_microsam, picture

MODEL = "xxh128:fe9252a29f3f4ea53c15a06de471e186"


def write_store(path, image, *, tile=None, halo=(8, 8), missing=(), zarr_format=3, seed=0, complete=True):
    """Write what micro-sam writes, with small feature maps; returns them by (plane, tile)."""
    rng = np.random.default_rng(seed)
    root = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    root.attrs.update(
        data_signature=hashlib.sha1(np.asarray(image).tobytes()).hexdigest(),
        model_type="vit_b",
        model_name="vit_b_lm",
        model_hash=MODEL,
        micro_sam_version="1.8.10",
        tile_shape=tile,
        halo=halo if tile else None,
    )
    stack = image if image.ndim == 3 else image[None]
    height, width = stack.shape[1:]
    maps = {}
    one = (1, 4, 8, 8)
    if tile is None:
        shape = (len(stack), *one) if image.ndim == 3 else one
        array = root.create_array(
            "features", shape=shape, chunks=(shape[:-4] and (1, *one)) or one, dtype="f4"
        )
        for z in range(len(stack)):
            if z not in missing:
                maps[z, ""] = rng.normal(size=one).astype(np.float32)
                array[(z,) if image.ndim == 3 else ...] = maps[z, ""]
        if complete:
            root.attrs.update(input_size=[128, 96], original_size=[height, width])
        return maps
    features = root.create_group("features")
    features.attrs.update(shape=list(image.shape), tile_shape=tile, halo=halo)
    count = -(-height // tile[0]) * -(-width // tile[1])
    for number in range(count):
        shape = (len(stack), *one) if image.ndim == 3 else one
        array = features.create_array(str(number), shape=shape, chunks=shape, dtype="f4")
        for z in range(len(stack)):
            if (z, number) not in missing:
                maps[z, str(number)] = rng.normal(size=one).astype(np.float32)
                array[(z,) if image.ndim == 3 else ...] = maps[z, str(number)]
    root.attrs.update(input_size=None, original_size=None)
    return maps


@pytest.fixture
def image(rng):
    return rng.integers(100, 4000, (3, 96, 72)).astype(np.uint16)


def shown_in_full(plane):
    """Picture of a plane with contrast limits from its darkest to its brightest pixel."""
    return plane_to_rgb(plane, contrast=Contrast(float(plane.min()), float(plane.max())))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_stack_is_taken_over_but_for_the_planes_that_were_not_done(tmp_path, image, zarr_format):
    maps = write_store(tmp_path / "e.zarr", image, missing={1}, zarr_format=zarr_format)
    store, cache = MicroSamStore(tmp_path / "e.zarr"), EmbeddingCache(10**7)
    assert (store.planes, store.shape, store.tiled, store.model_name) == (3, (96, 72), False, "vit_b_lm")
    assert finish(adopt_microsam(store, image, MODEL, cache)) == 2
    for z in (0, 2):
        found = cache.get((fingerprint(shown_in_full(image[z])), MODEL))
        assert np.array_equal(found.features["image"].numpy(), maps[z, ""])
        assert (found.frame.image_shape, found.frame.model_shape) == ((96, 72), (128, 96))
    assert cache.get((fingerprint(shown_in_full(image[1])), MODEL)) is None


def test_a_single_image_is_taken_over(tmp_path, image):
    maps = write_store(tmp_path / "e.zarr", image[0])
    store, cache = MicroSamStore(tmp_path / "e.zarr"), EmbeddingCache(10**7)
    assert finish(adopt_microsam(store, image[0], MODEL, cache)) == 1
    found = cache.get((fingerprint(shown_in_full(image[0])), MODEL))
    assert np.array_equal(found.features["image"].numpy(), maps[0, ""])


@pytest.mark.parametrize("planes", [1, 3])
def test_tiles_are_taken_over_with_their_halo(tmp_path, image, planes):
    source = image if planes == 3 else image[0]
    maps = write_store(tmp_path / "e.zarr", source, tile=(40, 40), missing={(0, 4)})
    store, cache = MicroSamStore(tmp_path / "e.zarr"), EmbeddingCache(10**7)
    assert store.tiled
    parts = [p for _, p in store.parts((96, 72)) if p.plane == 0]
    assert [tuple(p.inner) for p in parts[:3]] == [(0, 0, 40, 40), (0, 40, 40, 72), (40, 0, 80, 40)]
    assert tuple(parts[3].outer) == (32, 32, 88, 72)
    assert finish(adopt_microsam(store, source, MODEL, cache)) == 6 * planes - 1
    tile = image[0][32:88, 32:72]
    found = cache.get((fingerprint(shown_in_full(tile)), MODEL))
    assert np.array_equal(found.features["image"].numpy(), maps[0, "3"])
    assert found.frame.image_shape == (56, 40)


def test_channels_are_scaled_each_by_itself(rng):
    colours = rng.integers(0, 100, (8, 8, 3)).astype(np.uint16) * np.array([1, 10, 100], np.uint16)
    assert (picture(colours).max((0, 1)) == 255).all()
    assert (picture(colours).min((0, 1)) == 0).all()


def test_another_model_or_image_is_refused(tmp_path, image):
    write_store(tmp_path / "e.zarr", image)
    store, cache = MicroSamStore(tmp_path / "e.zarr"), EmbeddingCache(10**7)
    with pytest.raises(StoreError, match="was made by the model vit_b_lm"):
        finish(adopt_microsam(store, image, "xxh128:0", cache))
    with pytest.raises(StoreError, match="3 planes of"):
        finish(adopt_microsam(store, image[:2], MODEL, cache))
    with pytest.raises(StoreError, match="another image"):
        finish(adopt_microsam(store, image + 1, MODEL, cache))
    assert len(cache) == 0


def test_an_interrupted_store_is_rescued(tmp_path, image):
    """Micro-sam itself cannot use what it had finished before it was stopped."""
    maps = write_store(tmp_path / "e.zarr", image, missing={2}, complete=False)
    store, cache = MicroSamStore(tmp_path / "e.zarr"), EmbeddingCache(10**7)
    assert store.shape is None
    assert finish(adopt_microsam(store, image, MODEL, cache)) == len(maps) == 2


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(StoreError, match="Expected an embedding store of micro-sam"):
        MicroSamStore(tmp_path / "missing")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(StoreError, match="Expected an embedding store of micro-sam"):
        MicroSamStore(tmp_path / "other.zarr")


class Bomb:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was loaded')",)


def test_pickles_next_to_it_are_never_loaded(tmp_path, image):
    write_store(tmp_path / "e.zarr", image)
    (tmp_path / "e.zarr" / "amg_state.pickle").write_bytes(pickle.dumps(Bomb()))
    store = MicroSamStore(tmp_path / "e.zarr")
    assert finish(adopt_microsam(store, image, MODEL, EmbeddingCache(10**7))) == 3


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"shape": [96, 72]},
        {"shape": [96], "tile_shape": [40, 40], "halo": [8, 8]},
        {"shape": [96, 72], "tile_shape": 40, "halo": [8, 8]},
        {"shape": [96, 72], "tile_shape": [40, 40], "halo": None},
        {"shape": [96, 72], "tile_shape": [0, 40], "halo": [8, 8]},
    ],
)
def test_tiles_of_which_nothing_is_known_are_refused(tmp_path, attributes):
    root = zarr.open_group(tmp_path / "e.zarr", mode="w")
    root.create_group("features").attrs.update(attributes)
    with pytest.raises(StoreError, match="Expected the shapes of planes and tiles"):
        MicroSamStore(tmp_path / "e.zarr")


@pytest.mark.parametrize("shape", [(), (3, 4), (4, 8, 8), (1, 1, 1, 4, 8, 8)])
def test_arrays_that_are_no_feature_maps_are_refused(tmp_path, image, shape):
    root = zarr.open_group(tmp_path / "e.zarr", mode="w")
    root.create_array("features", shape=shape, dtype="f4")
    with pytest.raises(StoreError, match=r"Expected feature maps of shape \(1, channels, height, width\)"):
        MicroSamStore(tmp_path / "e.zarr")
    write_store(tmp_path / "t.zarr", image[0], tile=(40, 40))
    tiles = zarr.open_group(tmp_path / "t.zarr", mode="r+")["features"]
    del tiles["0"]
    tiles.create_array("0", shape=shape, dtype="f4")
    store = MicroSamStore(tmp_path / "t.zarr")
    name, part = next(store.parts((96, 72)))
    with pytest.raises(StoreError, match="Expected feature maps"):
        store.embedding(name, part, "")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_damaged_maps_are_said_in_words_and_the_plane_is_embedded_anew(tmp_path, image, zarr_format):
    write_store(tmp_path / "e.zarr", image, zarr_format=zarr_format)
    for path in (tmp_path / "e.zarr" / "features").rglob("*"):
        if path.is_file() and path.name not in ("zarr.json", ".zarray", ".zattrs"):
            path.write_bytes(b"damaged")
    store = MicroSamStore(tmp_path / "e.zarr")
    with pytest.raises(StoreError, match=r"feature maps of plane 1 in .* are damaged"):
        finish(adopt_microsam(store, image, MODEL, EmbeddingCache(10**7)))
    shelf = Shelf(EmbeddingCache(10**7))
    shelf.folder = finish(index_microsam(store, image, MODEL))
    key = fingerprint(shown_in_full(image[1])), MODEL
    assert key in shelf
    assert shelf.get(key) is None
    assert "plane 2" in shelf.trouble
