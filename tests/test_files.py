"""Images written by other libraries, read plane by plane."""

from __future__ import annotations

import uuid

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_sam.axes import Axes
from napari_sam.export import export
from napari_sam.files import ImageFileError, find_images, open_image, open_labels
from napari_sam.files.zarr_folder import labels_within

UM = "micrometer"


@pytest.fixture
def movie(rng):
    return rng.integers(0, 60_000, (2, 3, 4, 20, 30)).astype(np.uint16)  # T, Z, C, Y, X


def test_an_imagej_hyperstack(movie, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        movie,
        imagej=True,
        resolution=(4, 2),
        metadata={"axes": "TZCYX", "unit": "micron", "spacing": 1.5, "finterval": 30.0},
    )
    with open_image(path) as image:
        assert image.axes == Axes("TZYX", (30, 1.5, 0.5, 0.25), ("second", UM, UM, UM))
        assert (len(image), image.shape, image.dtype) == (6, (2, 3, 20, 30), np.uint16)
        for number, plane in enumerate(image.planes()):
            t, z = divmod(number, 3)
            np.testing.assert_array_equal(plane, np.moveaxis(movie[t, z], 0, -1))


def test_an_ome_tiff(movie, tmp_path):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2}
    tifffile.imwrite(path, movie[:, :, 0], metadata={"axes": "TZYX", **sizes}, compression="zlib")
    with open_image(path) as image:
        assert image.axes == Axes("TZYX", (1, 2, 0.5, 250), ("pixel", UM, UM, "nanometer"))
        assert image.axes.pixel_size() == (pytest.approx((2000, 500, 250)), "nanometer")
        np.testing.assert_array_equal(image.plane(4), movie[1, 1, 0])


def write_lsm(path, planes):
    """A TIFF with the fields by which an LSM says its sizes, and the thumbnail after each plane."""
    known = {"MagicNumber": 67127628, "StructureSize": 500, "DimensionX": 30, "DimensionY": 20}
    known |= {"DimensionZ": len(planes), "DimensionChannels": 1, "DimensionTime": 1, "DataType": 1}
    known |= {"VoxelSizeX": 2e-7, "VoxelSizeY": 2.5e-7, "VoxelSizeZ": 1e-6, "TimeIntervall": 5.0}
    types = [(name, "<" + kind if kind[1:] in "1248" else kind) for name, kind in tifffile.TIFF.CZ_LSMINFO]
    info = np.zeros(1, np.dtype(types))
    for name, value in known.items():
        info[name] = value
    code = info.tobytes().ljust(500, b"\0")
    with tifffile.TiffWriter(path, byteorder="<") as file:
        for plane in planes:
            tags = [] if plane is not planes[0] else [(34412, 1, len(code), code, True)]
            file.write(plane, photometric="minisblack", metadata=None, extratags=tags)
            file.write(np.zeros((16, 16, 3), np.uint8), photometric="rgb", metadata=None, subfiletype=1)


def test_an_lsm_says_its_pixel_size_in_metres(tmp_path, rng):
    planes = list(rng.integers(0, 255, (3, 20, 30)).astype(np.uint8))
    write_lsm(tmp_path / "a.lsm", planes)
    with open_image(tmp_path / "a.lsm") as image:
        assert (image.axes.names, image.axes.units) == ("ZYX", (UM,) * 3)
        assert image.axes.spacing == pytest.approx((1, 0.25, 0.2))
        assert image.note == "", "a thumbnail is no second image"
        np.testing.assert_array_equal(image.plane(2), planes[2])


def test_of_several_images_in_a_file_the_first_is_read_and_it_says_so(movie, tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        for position in movie[0, :, 0]:
            file.write(position, metadata={"axes": "YX"})
    with open_image(tmp_path / "a.ome.tif") as image:
        np.testing.assert_array_equal(image.plane(0), movie[0, 0, 0])
        assert "holds 3 images, of which the first is read" in image.note
    tifffile.imwrite(tmp_path / "b.tif", movie[0, :, 0], photometric="minisblack")
    with open_image(tmp_path / "b.tif") as image:
        assert image.note == ""


def write_ome_parts(folder, planes, described):
    """OME-TIFFs of a plane each, `part0.ome.tif` and so on, that share one description."""
    folder.mkdir()
    ids = [f"urn:uuid:{uuid.UUID(int=n + 1)}" for n in range(len(planes))]
    for n, plane in enumerate(planes):
        text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[n]}">'
        text += "".join(
            f'<Image ID="Image:{i}"><Pixels ID="Pixels:{i}" DimensionOrder="XYZCT" Type="uint16" SizeX="30"'
            f' SizeY="20" SizeZ="{len(parts)}" SizeC="1" SizeT="1" PhysicalSizeX="{i + 1}"'
            f' PhysicalSizeY="{i + 1}"><Channel ID="Channel:{i}:0" SamplesPerPixel="1"/>'
            + "".join(
                f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">'
                f'<UUID FileName="part{part}.ome.tif">{ids[part]}</UUID></TiffData>'
                for z, part in enumerate(parts)
            )
            + "</Pixels></Image>"
            for i, parts in enumerate(described)
        )
        path = folder / f"part{n}.ome.tif"
        tifffile.imwrite(path, plane, description=f"{text}</OME>".encode(), metadata=None)
    return sorted(folder.iterdir())


def test_of_files_that_share_a_description_each_holds_its_own_image(movie, tmp_path):
    planes = movie[0, :, 0]
    files = write_ome_parts(tmp_path / "positions", planes, [[0], [1], [2]])
    assert find_images([tmp_path / "positions"]) == files
    files[0].unlink()  # one that was not copied along
    for n in (1, 2):
        with open_image(files[n]) as image:
            assert (image.axes, image.note) == (Axes("YX", (n + 1.0,) * 2, (UM, UM)), "")
            np.testing.assert_array_equal(image.plane(0), planes[n])


def test_an_image_in_several_files_is_taken_once_and_read_whole(movie, tmp_path):
    planes = movie[0, :, 0]
    files = write_ome_parts(tmp_path / "stack", planes, [[0, 1, 2]])
    (tmp_path / "stack" / "broken.ome.tif").write_bytes(b"II*\0 this is no TIFF")
    assert find_images([tmp_path / "stack"]) == [tmp_path / "stack" / "broken.ome.tif", files[0]]
    assert find_images(files[1:]) == files[1:2]  # as a shell names them
    with open_image(files[0]) as image:
        assert image.note == "It is one of the 3 files of an image, which was read whole."
        np.testing.assert_array_equal(list(image.planes()), planes)
    for n in (0, 2):
        files[n].unlink()
    with open_image(files[1]) as image:
        assert image.note.endswith("; missing, and so empty in it: part0.ome.tif, part2.ome.tif.")
        assert [bool(plane.any()) for plane in image.planes()] == [False, True, False]


def test_a_renamed_part_hides_no_other_image(movie, tmp_path):
    """What is exported under one name again and again, and then renamed, lists the file of that name."""
    planes = movie[0, :, 0]
    first = write_ome_parts(tmp_path / "first", planes[:1], [[0]])[0]
    later = write_ome_parts(tmp_path / "later", planes[1:2], [[0]])[0]
    renamed = first.rename(tmp_path / "later" / "cell.ome.tif")
    assert find_images([tmp_path / "later"]) == [renamed, later]
    for path, plane in ((renamed, planes[0]), (later, planes[1])):
        with open_image(path) as image:
            assert image.note == ""
            np.testing.assert_array_equal(image.plane(0), plane)


def test_of_a_pyramid_the_full_resolution_is_read(tmp_path, rng):
    plane = rng.integers(0, 255, (256, 256)).astype(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as file:
        file.write(plane, subifds=1, tile=(64, 64))
        file.write(plane[::2, ::2], subfiletype=1, tile=(64, 64))
    with open_image(tmp_path / "a.ome.tif") as image:
        np.testing.assert_array_equal(image.plane(0), plane)


@pytest.mark.parametrize(("planar", "axes"), [("contig", "YXS"), ("separate", "SYX")])
def test_colours_stay_in_the_plane(planar, axes, tmp_path, rng):
    pixels = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    data = pixels if planar == "contig" else np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="rgb", planarconfig=planar)
    with open_image(tmp_path / "a.tif") as image:
        assert image.names == axes
        assert len(image) == 1
        np.testing.assert_array_equal(image.plane(0), pixels)


def test_pages_without_a_name_are_planes_and_a_printers_resolution_is_no_pixel_size(movie, tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", movie[0, :, 0], photometric="minisblack", resolution=(300, 300), metadata=None
    )
    with open_image(tmp_path / "a.tif") as image:
        assert image.axes == Axes("ZYX", (1, 1, 1), ("pixel",) * 3)
        np.testing.assert_array_equal(image.plane(2), movie[0, 2, 0])
    with open_image(tmp_path / "a.tif", axes="TYX") as image:
        assert image.axes.names == "TYX"
    with open_image(tmp_path / "a.tif", axes="CYX") as image:
        assert (image.axes.names, image.plane(0).shape) == ("YX", (20, 30, 3))


def test_of_two_axes_without_a_name_the_outer_one_is_time(movie, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", movie[:, :, 0], photometric="minisblack")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.series[0].axes == "QQYX"
    with open_image(tmp_path / "a.tif") as image:
        assert (image.names, image.shape) == ("TZYX", (2, 3, 20, 30))
        np.testing.assert_array_equal(image.plane(4), movie[1, 1, 0])
    tifffile.imwrite(tmp_path / "b.tif", movie, photometric="minisblack")
    with pytest.raises(ImageFileError, match=r"found '.*\?YX'. Say what the axes are"):
        open_image(tmp_path / "b.tif")


def test_planes_are_read_one_at_a_time(tmp_path, monkeypatch, rng):
    stack = rng.integers(0, 255, (50, 64, 64)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"}
    )
    asked = []
    read = tifffile.FileCache.read

    def counting(self, file, offset, count, /, **options):
        asked.append(count)
        return read(self, file, offset, count, **options)

    monkeypatch.setattr(tifffile.FileCache, "read", counting)
    with open_image(tmp_path / "a.tif") as image:
        image.plane(17)
    assert 64 * 64 / 2 <= sum(asked) <= 2 * 64 * 64


def test_pictures(tmp_path, rng):
    colour = rng.integers(0, 255, (12, 14, 3)).astype(np.uint8)
    deep = rng.integers(0, 65535, (12, 14)).astype(np.uint16)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(colour).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(deep > 9000).save(tmp_path / "binary.bmp")
    Image.fromarray(colour).save(tmp_path / "photo.JPG", quality=100)
    np.testing.assert_array_equal(open_image(tmp_path / "colour.png").plane(0), colour)
    np.testing.assert_array_equal(open_image(tmp_path / "deep.png").plane(0), deep)
    assert open_image(tmp_path / "palette.png").plane(0).shape == (12, 14, 3)
    assert open_image(tmp_path / "photo.JPG").plane(0).shape == (12, 14, 3)
    np.testing.assert_array_equal(open_image(tmp_path / "binary.bmp").plane(0) > 0, deep > 9000)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_keep_them(channels, tmp_path, rng):
    deep = rng.integers(0, 4096, (12, 14, channels)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    with open_image(tmp_path / "deep.png") as image:
        np.testing.assert_array_equal(image.plane(0), deep)
    (tmp_path / "cut.png").write_bytes((tmp_path / "deep.png").read_bytes()[:90])
    with pytest.raises(ImageFileError, match="cannot be read"):
        open_image(tmp_path / "cut.png")
    (tmp_path / "empty.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImageFileError, match="cannot be read"):
        open_image(tmp_path / "empty.png")


def test_the_ids_of_a_label_image_with_a_palette_are_its_places_in_it(tmp_path, rng):
    ids = rng.integers(0, 9, (12, 14)).astype(np.uint8)
    picture = Image.fromarray(ids, mode="P")
    picture.putpalette(rng.integers(0, 255, 768).astype(np.uint8).tobytes())
    picture.save(tmp_path / "labels.png")
    with open_image(tmp_path / "labels.png") as image:
        np.testing.assert_array_equal(image.labels(), ids)
        assert image.plane(0).shape == (12, 14, 3), "as an image it has its colours"


def test_numpy_arrays(movie, tmp_path):
    np.save(tmp_path / "stack.npy", movie[0, :, 0])
    np.save(tmp_path / "colour.npy", np.zeros((20, 30, 3), np.uint8))
    assert open_image(tmp_path / "stack.npy").axes.names == "ZYX"
    assert isinstance(open_image(tmp_path / "stack.npy").array, np.memmap)
    assert open_image(tmp_path / "colour.npy").names == "YXS"
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageFileError, match=r"cannot be read .*Python objects"):
        open_image(tmp_path / "objects.npy")


@pytest.mark.filterwarnings("ignore:Call to deprecated class Scaler:DeprecationWarning")
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(version, movie, tmp_path):
    from ome_zarr.format import FormatV04, FormatV05
    from ome_zarr.writer import write_image

    data = movie.transpose(0, 2, 1, 3, 4)
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=2 if version == "0.4" else 3)
    write_image(
        data,
        group,
        axes="tczyx",
        fmt=FormatV04() if version == "0.4" else FormatV05(),
        scale={"t": 5, "c": 1, "z": 2, "y": 0.5, "x": 0.25},
        axes_units={"t": "second", "z": UM, "y": UM, "x": UM},
    )
    with open_image(tmp_path / "a.zarr") as image:
        assert image.axes == Axes("TZYX", (5, 2, 0.5, 0.25), ("second", UM, UM, UM))
        np.testing.assert_array_equal(image.plane(5), np.moveaxis(movie[1, 2], 0, -1))


def test_zarr_that_holds_no_image_says_what_it_holds(tmp_path):
    zarr.open_group(tmp_path / "a.zarr", mode="w").create_group("scans")
    with pytest.raises(ImageFileError, match="holds the folders scans: name one"):
        open_image(tmp_path / "a.zarr")


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_labels_within_an_image_are_those_that_are_there(version, tmp_path):
    form = 2 if version == "0.4" else 3
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=form)
    image = root.create_group("0")

    def describe(group, **more):
        level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0]}]}
        axes = [{"name": name, "type": "space"} for name in "yx"]
        about = {"multiscales": [{"axes": axes, "datasets": [level]}], **more}
        group.attrs.update(about if form == 2 else {"ome": {"version": version, **about}})
        group.create_array("0", data=np.full((4, 5), 3, np.uint8))

    describe(image)
    assert labels_within(tmp_path / "a.zarr") == []
    labels = image.create_group("labels")
    about = {"labels": ["gone", "cells"]}
    labels.attrs.update(about if form == 2 else {"ome": about})
    describe(labels.create_group("cells"), **{"image-label": {}})
    place = tmp_path / "a.zarr" / "0" / "labels" / "cells"
    assert labels_within(tmp_path / "a.zarr") == labels_within(tmp_path / "a.zarr" / "0") == [place]
    assert labels_within(place) == []
    assert labels_within(tmp_path) == []
    with open_labels(tmp_path / "a.zarr") as found:
        assert found.label_plane(0).max() == 3
        assert str(place) in found.note
    describe(labels.create_group("nuclei"))
    with pytest.raises(ImageFileError, match=f"Name the one that is meant: {place}, "):
        open_labels(tmp_path / "a.zarr")


def test_a_plain_zarr_array(movie, tmp_path):
    zarr.save_array(tmp_path / "a.zarr", movie[0, :, 0])
    np.testing.assert_array_equal(open_image(tmp_path / "a.zarr").plane(1), movie[0, 1, 0])
    for names, letters in ((("t", "y", "x"), "TYX"), (("round", "y", "x"), "ZYX"), ((None, "y", "x"), "ZYX")):
        named = zarr.create_array(
            tmp_path / f"{names[0]}.zarr", shape=(2, 4, 5), dtype="u1", dimension_names=names
        )
        assert open_image(named.store.root).axes.names == letters
    for names in (("z", "x"), ("y", "y"), ("t", "y")):
        named = zarr.create_array(
            tmp_path / f"{'_'.join(names)}.zarr", shape=(4, 5), dtype="u1", dimension_names=names
        )
        assert open_image(named.store.root).axes.names == "YX"


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".zarr"])
def test_exported_labels_come_back_with_their_calibration(suffix, tmp_path, rng):
    labels = rng.integers(0, 70_000, (3, 16, 18))
    path = export(labels, tmp_path / f"a{suffix}", spacing=(2, 0.5, 0.5), units="µm")
    with open_image(path) as image:
        np.testing.assert_array_equal(image.labels()[:], labels)
        assert image.axes.names == "ZYX"
        np.testing.assert_allclose(image.axes.spacing, (2, 0.5, 0.5))
        assert image.axes.units == (UM,) * 3


def test_an_image_is_not_taken_for_labels(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match="a label image was expected"):
        open_image(tmp_path / "a.png").labels()


@pytest.mark.parametrize("names", ["TCZYX", "ZYXC"])
def test_labels_may_have_an_axis_of_one_channel(names, movie, tmp_path):
    labels = movie[:1, :, 0]
    place = names.index("C")
    pixels = np.expand_dims(labels if "T" in names else labels[0], place)
    np.save(tmp_path / "a.npy", pixels)
    with open_image(tmp_path / "a.npy", axes=names) as image:
        found = np.asarray(image.labels())
        assert found.shape == image.shape
        np.testing.assert_array_equal(found, labels if "T" in names else labels[0])
    np.save(tmp_path / "b.npy", np.repeat(pixels, 2, axis=place))
    with (
        open_image(tmp_path / "b.npy", axes=names) as image,
        pytest.raises(ImageFileError, match="label image was expected"),
    ):
        image.labels()


def test_damaged_and_foreign_files_are_refused_in_words(movie, tmp_path):
    (tmp_path / "text.tif").write_text("no image")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "text.npy").write_text("no image")
    for name in ("text.tif", "text.png", "text.npy"):
        with pytest.raises(ImageFileError, match=f"{name} cannot be read"):
            open_image(tmp_path / name)
    tifffile.imwrite(tmp_path / "cut.tif", movie[0, :, 0], photometric="minisblack", metadata={"axes": "ZYX"})
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with open_image(tmp_path / "cut.tif") as cut, pytest.raises(ImageFileError, match="cannot be read"):
        list(cut.planes())
    (tmp_path / "garbage.tif").write_bytes(b"II*\0garbage")
    with pytest.raises(ImageFileError, match=r"garbage.tif cannot be read \(the entry 0 is missing\)"):
        open_image(tmp_path / "garbage.tif")
    (tmp_path / "a.docx").write_text("")
    with pytest.raises(ImageFileError, match=r"ends in \.tif, .*found 'a.docx'"):
        open_image(tmp_path / "a.docx")
    with pytest.raises(ImageFileError, match="There is no file"):
        open_image(tmp_path / "b.tif")
    np.save(tmp_path / "line.npy", np.zeros(5))
    with pytest.raises(ImageFileError, match=r"has the shape \(5,\)"):
        open_image(tmp_path / "line.npy")
    with pytest.raises(ImageFileError, match="found 'ZYXS'"):
        open_image(tmp_path / "line.npy", axes="zyxs")


def test_names_with_a_raised_number_are_sorted(tmp_path):
    for name in ("x10²3.tif", "x9.tif", "x².tif"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_images([tmp_path])][:2] == ["x9.tif", "x10²3.tif"]


def test_images_of_folders_and_patterns_in_a_natural_order(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("img10.tif", "img2.tif", "IMG1.PNG", "notes.txt", ".hidden.tif", "deep/a.tif"):
        (tmp_path / name).write_bytes(b"")
    zarr.open_group(tmp_path / "b.ome.zarr", mode="w")
    zarr.open_group(tmp_path / "plain", mode="w")
    names = [p.name for p in find_images([tmp_path])]
    assert names == ["b.ome.zarr", "IMG1.PNG", "img2.tif", "img10.tif"]
    assert [p.name for p in find_images([f"{tmp_path}/*.tif"])] == ["img2.tif", "img10.tif"]
    deep = find_images([f"{tmp_path}/**/*.tif", tmp_path / "img2.tif"])
    assert [p.name for p in deep] == ["a.tif", "img2.tif", "img10.tif"]
    assert find_images([tmp_path / "plain"]) == [tmp_path / "plain"]
    for nothing in (f"{tmp_path}/*.jpg", tmp_path / "none"):
        with pytest.raises(ImageFileError, match=r"found none|no file or folder"):
            find_images([nothing])
