"""The models that can be downloaded: where from, how to verify them, under which licence.

Facts only; ``fetch`` downloads and ``checkpoint`` loads. Thresholds are the predicted IoU and the
stability score above which automatic masks are kept: fine-tuned models give far lower numbers
than the paper's, and return nothing with the paper's thresholds.
"""

from __future__ import annotations

from dataclasses import dataclass

META = "https://dl.fbaipublicfiles.com/segment_anything/"
BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io/"
GWDG = "https://owncloud.gwdg.de/index.php/s/"

SAM_BY = "Kirillov et al. 2023, Segment Anything (Meta AI)"
MOBILE_BY = "Zhang et al. 2023, Faster Segment Anything (MobileSAM)"
MICRO_BY = "Archit et al. 2025, Segment Anything for Microscopy (micro-sam)"


@dataclass(frozen=True)
class Entry:
    """A model to download.

    Attributes
    ----------
    name : str
        Name to ask for, and the name under which micro-sam keeps the same file.
    architecture : str
        "vit_t", "vit_b", "vit_l" or "vit_h".
    purpose : str
        What it is for, in a few words.
    file : str
        Name of the file in the cache folder.
    urls : tuple of str
        Where the file lies; the others are tried when the first fails.
    size : int or None
        Bytes, where published.
    sha256, xxh128 : str or None
        Published hashes, hexadecimal. xxh128 finds damage; only sha256 finds tampering.
    licence : str or None
        SPDX identifier, or None where the publisher states none.
    attribution : str
        Whom to cite.
    predicted_iou, stability : float
        Thresholds for automatic masks, 0 to 1.
    """

    name: str
    architecture: str
    purpose: str
    file: str
    urls: tuple[str, ...]
    size: int | None
    sha256: str | None
    xxh128: str
    licence: str | None
    attribution: str
    predicted_iou: float = 0.88
    stability: float = 0.95

    @property
    def hashes(self) -> dict[str, str]:
        """Known hashes by algorithm, the strongest first."""
        known = {"sha256": self.sha256, "xxh128": self.xxh128}
        return {algorithm: value for algorithm, value in known.items() if value}


def entries(*, without_licence: bool = False) -> tuple[Entry, ...]:
    """The models on offer.

    Parameters
    ----------
    without_licence : bool
        Also those whose publisher states no licence: their use is the user's own decision.
    """
    return tuple(entry for entry in ENTRIES if without_licence or entry.licence)


def find_entry(name: str) -> Entry:
    """Find a model by its name, whether or not it is offered by default.

    Raises
    ------
    ValueError
        If no model has this name.
    """
    for entry in ENTRIES:
        if entry.name == name:
            return entry
    raise ValueError(
        f"Expected one of the models {', '.join(e.name for e in entries())}, but found {name!r}."
    )


def _sam(name: str, file: str, size: int, sha256: str, xxh128: str) -> Entry:
    """One of the paper's models."""
    purpose = "Everyday images, any object"
    return Entry(name, name, purpose, file, (META + file,), size, sha256, xxh128, "Apache-2.0", SAM_BY)


def _micro(
    name: str, purpose: str, url: str, xxh128: str, licence: str | None, iou: float, stability: float
) -> Entry:
    """One of micro-sam's fine-tuned models; sizes and sha256 are not published."""
    architecture = name[:5]
    return Entry(
        name,
        architecture,
        purpose,
        f"{name}.pt",
        (url,),
        None,
        None,
        xxh128,
        licence,
        MICRO_BY,
        iou,
        stability,
    )


LIGHT = "Cells and nuclei in light microscopy"
ELECTRON = "Mitochondria and nuclei in electron microscopy"
TISSUE = "Nuclei in stained tissue"
MEDICAL = "Organs and lesions in medical images"
CC_BY = "CC-BY-4.0"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "vit_t",
        "vit_t",
        "Everyday images, small and quick",
        "mobile_sam.pt",
        (
            "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
            f"{GWDG}TuDzuwVDHd1ZDnQ/download",
        ),
        40_728_226,
        "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        "8eadbc88aeb9d8c7e0b4b60c3db48bd0",
        "Apache-2.0",
        MOBILE_BY,
    ),
    _sam(
        "vit_b",
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "6923c33df3637b6a922d7682bfc9a86b",
    ),
    _sam(
        "vit_l",
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "a82beb3c660661e3dd38d999cc860e9a",
    ),
    _sam(
        "vit_h",
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        "97698fac30bd929c2e6d8d8cc15933c2",
    ),
    *(
        _micro(name, purpose, BIOIMAGE + path, xxh128, CC_BY, iou, stability)
        for name, purpose, path, xxh128, iou, stability in (
            (
                "vit_t_lm",
                LIGHT,
                "faithful-chicken/1.1/files/vit_t.pt",
                "72ec5074774761a6e5c05a08942f981e",
                0.6,
                0.65,
            ),
            (
                "vit_b_lm",
                LIGHT,
                "diplomatic-bug/1.2/files/vit_b.pt",
                "fe9252a29f3f4ea53c15a06de471e186",
                0.65,
                0.7,
            ),
            (
                "vit_l_lm",
                LIGHT,
                "idealistic-rat/1.2/files/vit_l.pt",
                "017f20677997d628426dec80a8018f9d",
                0.65,
                0.73,
            ),
            (
                "vit_t_em_organelles",
                ELECTRON,
                "greedy-whale/1/files/vit_t.pt",
                "253474720c497cce605e57c9b1d18fd9",
                0.75,
                0.75,
            ),
            (
                "vit_b_em_organelles",
                ELECTRON,
                "noisy-ox/1.2/files/vit_b.pt",
                "f3bf2ed83d691456bae2c3f9a05fb438",
                0.75,
                0.75,
            ),
            (
                "vit_l_em_organelles",
                ELECTRON,
                "humorous-crab/1.2/files/vit_l.pt",
                "810b084b6e51acdbf760a993d8619f2d",
                0.8,
                0.8,
            ),
        )
    ),
    *(
        _micro(name, purpose, f"{GWDG}{share}/download", xxh128, None, 0.88, 0.95)
        for name, purpose, share, xxh128 in (
            ("vit_b_histopathology", TISSUE, "sBB4H8CTmIoBZsQ", "ffd1a2cd84570458b257bd95fdd8f974"),
            ("vit_l_histopathology", TISSUE, "IZgnn1cpBq2PHod", "b591833c89754271023e901281dee3f2"),
            ("vit_h_histopathology", TISSUE, "L7AcvVz7DoWJ2RZ", "bd1856dafc156a43fb3aa705f1a6e92e"),
            (
                "vit_b_medical_imaging",
                MEDICAL,
                "f5Ol4FrjPQWfjUF",
                "40169f1e3c03a4b67bff58249c176d92",
            ),
        )
    ),
)
"""Every known model; ``entries`` leaves out those without a licence."""
