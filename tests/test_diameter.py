import numpy as np
from tests.fakes import DiscPredictor, disc_image

from napari_sam.diameter import typical_diameter
from napari_sam.files import open_image
from napari_sam.folder import segment_image
from napari_sam.folder.ahead import embed_image, embedded
from napari_sam.progress import finish
from napari_sam.recipe import Recipe
from napari_sam.stack import segment_stack
from napari_sam.store import EmbeddingStore, embed_once
from napari_sam.store.diameters import FILE
from napari_sam.tiling import rgb_reader, segment_plane


class Scaling(DiscPredictor):
    """Scales by a diameter, which it takes from the brightness of a picture's first pixel."""

    def __init__(self):
        super().__init__()
        self.asked, self.used = [], []

    @property
    def uses_diameter(self):
        return True

    def estimate_diameter(self, image):
        self.asked.append(int(image[0, 0, 0]))
        return float(image[0, 0, 0])

    def _encode(self, image, diameter):
        self.used.append(diameter)
        return super()._encode(image, diameter)


def picture(corner):
    plane = np.repeat(disc_image((40, 40), [(20, 20, 8)])[..., None], 3, -1)
    plane[0, 0] = corner
    return plane


def test_the_median_of_some_pictures_spread_over_all():
    predictor = Scaling()
    values = [90, 10, 11, 12, 13, 14, 15, 16, 17, 18, 90]
    assert typical_diameter(predictor, lambda n: picture(values[n]), 11) == 14
    assert len(predictor.asked) == 5
    assert 90 not in predictor.asked


def test_few_pictures_and_blank_ones():
    predictor = Scaling()
    assert typical_diameter(predictor, lambda n: picture(12), 1) == 12
    blank = np.zeros((8, 8, 3), np.uint8)
    assert typical_diameter(predictor, lambda n: picture(12) if n == 2 else blank, 5) == 12
    assert typical_diameter(predictor, lambda n: blank, 5) is None
    # Pictures in which the model sees nothing do not outvote those in which it does.
    predictor.estimate_diameter = lambda image: 12.0 if image[0, 0, 0] == 12 else None
    assert typical_diameter(predictor, lambda n: picture(12 if n == 2 else 7), 5) == 12
    assert typical_diameter(DiscPredictor(), lambda n: picture(12), 3) is None


def test_a_stack_is_seen_at_one_scale():
    predictor = Scaling()
    planes = [picture(v) for v in (30, 10, 12, 14, 50)]
    finish(segment_stack(predictor, planes))
    assert predictor.used == [12.0] * 5
    predictor = Scaling()
    finish(segment_stack(predictor, planes, diameter=9))
    assert predictor.used == [9] * 5
    assert not predictor.asked


def test_the_tiles_of_a_plane_are_seen_at_one_scale(tmp_path):
    predictor = Scaling()
    plane = disc_image((120, 120), [(20, 20, 8), (80, 90, 8)])
    plane[::40, ::40] = 12
    plane[0, 0] = 80
    finish(
        segment_plane(
            predictor,
            rgb_reader(np.stack([plane] * 3, -1)),
            (120, 120),
            tmp_path / "l.zarr",
            side=40,
            halo=10,
        )
    )
    assert set(predictor.used) == {12.0}


def test_what_was_embedded_ahead_serves_segmenting_and_prompts(tmp_path):
    movie = np.stack([[picture(v) for v in values] for values in ((30, 10, 12, 14, 50), (5, 7, 8, 9, 11))])
    np.save(tmp_path / "movie.npy", movie)
    recipe = Recipe(contrast=((0.0, 255.0),))
    store = EmbeddingStore(tmp_path / "store")
    predictor = Scaling()
    with open_image(tmp_path / "movie.npy") as image:
        made = finish(embed_image(predictor, image, recipe, store))
        assert (made.computed, made.found, len(store)) == (10, 0, 20)
        assert predictor.used == [None, 12.0] * 5 + [None, 8.0] * 5
        assert len(predictor.asked) == 6
        assert finish(embed_image(predictor, image, recipe, EmbeddingStore(store.path))).found == 10
        assert len(predictor.asked) == 6  # what is complete costs no estimate
        (store.path / FILE).write_text("{damaged")
        assert finish(embed_image(predictor, image, recipe, store)).found == 10
        assert len(predictor.asked) == 12
        predictor.used.clear()
        finish(segment_image(predictor, image, recipe, kept=embedded(store.path)))
    embed_once(predictor, movie[1, 2], store)
    assert predictor.used == []
