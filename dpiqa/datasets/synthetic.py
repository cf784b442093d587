"""Synthetic sets: reference images with distortions added, and images that models generated from prompts.

Random splits keep the images of one reference on one side.
"""

import re
from pathlib import Path

from dpiqa.datasets.label_files import number, read_columns, read_matlab, sibling, table, unified_list
from dpiqa.datasets.photographs import NOT_STATED, TEXAS
from dpiqa.datasets.spec import DatasetSpec, LabelRow, LayoutReader
from dpiqa.errors import InvalidRequest

BY_REFERENCE = "80/20 at random, by reference image"
REFERENCE = "reference image"


KADID10K = DatasetSpec(
    name="kadid10k",
    title="KADID-10k",
    size=10_125,
    worst=1,
    best=5,
    split=f"none: {BY_REFERENCE}",
    groups=REFERENCE,
    layout=("dmos.csv", "images/*.png"),
    terms=NOT_STATED,
    homepage="https://database.mmsp-kn.de/kadid-10k-database.html",
    citation="Lin, Hosu and Saupe, KADID-10k, QoMEX 2019",
    readers=(
        LayoutReader(
            ("dmos.csv",),
            ("images",),
            table(
                "dist_img",
                "dmos",
                subset=lambda name: f"distortion {name.split('_')[1]}" if "_" in name else "",
                group=lambda name: name.split("_")[0].casefold(),
            ),
        ),
        unified_list("KADID-10k.txt"),
    ),
    note="The column is called dmos, but higher is better.",
)


def _tid2013(path: Path) -> list[LabelRow]:
    """Lines of score and name, such as `5.51429 I01_01_1.bmp`: reference, distortion, level."""
    rows = []
    for line in path.read_text("utf-8", "replace").splitlines():
        if match := re.fullmatch(r"\s*(\S+)\s+(i(\d+)_(\d+)_\d+\.bmp)\s*", line, re.IGNORECASE):
            mos, name, reference, kind = match.groups()
            rows.append(LabelRow(name, number(mos, path), "", f"distortion {kind}", f"i{reference}"))
        elif line.strip():
            raise InvalidRequest(f"{path}: {line!r} is not a score and a name", hint="take the set's own file")
    return rows


TID2013 = DatasetSpec(
    name="tid2013",
    title="TID2013",
    size=3_000,
    worst=0,
    best=9,
    split=f"none: {BY_REFERENCE}",
    groups=REFERENCE,
    layout=("mos_with_names.txt", "distorted_images/*.bmp"),
    terms=NOT_STATED,
    homepage="https://www.ponomarenko.info/tid2013.htm",
    citation="Ponomarenko et al., Image database TID2013, Signal Processing: Image Communication 30, 2015",
    readers=(LayoutReader(("mos_with_names.txt",), ("distorted_images",), _tid2013), unified_list("TID2013.txt")),
)

#: LIVE's folders, in the order of its scores, with the number of images in each; 203 of them are references.
LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}


def _live(path: Path) -> list[LabelRow]:
    scores, references = read_matlab(path, "dmos_new"), read_matlab(path, "orgs")
    names = read_matlab(sibling(path, "refnames_all.mat"), "refnames_all")
    files = [(kind, number) for kind, images in LIVE_FOLDERS.items() for number in range(1, images + 1)]
    if {len(scores), len(references), len(names)} != {len(files)}:
        raise InvalidRequest(
            f"{path} has {len(scores)} scores and {len(names)} reference names, {len(files)} are expected",
            hint="it is release 2 of the set that is read",
        )
    return [
        LabelRow(f"{kind}/img{number}.bmp", float(score), "", kind, Path(str(name)).stem.casefold())
        for (kind, number), score, reference, name in zip(files, scores, references, names, strict=True)
        if not reference
    ]


LIVE = DatasetSpec(
    name="live",
    title="LIVE (release 2)",
    size=779,
    worst=112,
    best=-3,
    split=f"none: {BY_REFERENCE}",
    groups=REFERENCE,
    layout=("dmos_realigned.mat", "refnames_all.mat", "jp2k/, jpeg/, wn/, gblur/, fastfading/ with img1.bmp, ..."),
    terms=TEXAS,
    homepage="https://live.ece.utexas.edu/research/quality/subjective.htm",
    citation="Sheikh, Sabir and Bovik, A statistical evaluation of full reference algorithms, IEEE TIP 15(11), 2006",
    readers=(LayoutReader(("dmos_realigned.mat",), ("",), _live), unified_list("LIVE.txt")),
    note="The realigned scores run from -2.64 to 111.77, so the scale is -3 to 112. The references are left out.",
)

#: CSIQ's folder and the middle of the file's name, by the name of the distortion in the sheet.
_CSIQ_KINDS = {
    "noise": ("awgn", "AWGN"),
    "blur": ("blur", "BLUR"),
    "contrast": ("contrast", "contrast"),
    "fnoise": ("fnoise", "fnoise"),
    "jpeg": ("jpeg", "JPEG"),
    "jpeg 2000": ("jpeg2000", "jpeg2000"),
}


def _csiq(path: Path) -> list[LabelRow]:
    rows = []
    columns = ("image", "dst_type", "dst_lev", "dmos")
    for cell, kind, level, dmos in read_columns(path, columns, sheet="all_by_image"):
        image = cell.removesuffix(".0")  # one image is called 1600, which Excel takes for a number
        if kind not in _CSIQ_KINDS:
            raise InvalidRequest(
                f"{path}: {kind!r} is not a distortion of the set", hint=f"one of {', '.join(_CSIQ_KINDS)}"
            )
        folder, middle = _CSIQ_KINDS[kind]
        name = f"{folder}/{image}.{middle}.{int(number(level, path))}.png"
        rows.append(LabelRow(name, number(dmos, path), "", folder, image.casefold()))
    return rows


def _csiq_list(path: Path) -> list[LabelRow]:
    """Lines of name and DMOS, such as `1600.AWGN.1.png 0.062`."""
    folders = {middle.casefold(): folder for folder, middle in _CSIQ_KINDS.values()}
    rows = []
    for line in filter(str.strip, path.read_text("utf-8", "replace").splitlines()):
        match = re.fullmatch(r"\s*((\S+)\.(\w+)\.\d\.png)\s+(\S+)\s*", line, re.IGNORECASE)
        if not match or match[3].casefold() not in folders:
            raise InvalidRequest(f"{path}: {line!r} is not a name and a score", hint="take csiq.DMOS.xlsx")
        folder = folders[match[3].casefold()]
        rows.append(LabelRow(f"{folder}/{match[1]}", number(match[4], path), "", folder, match[2].casefold()))
    return rows


CSIQ = DatasetSpec(
    name="csiq",
    title="CSIQ",
    size=866,
    worst=1,
    best=0,
    split=f"none: {BY_REFERENCE}",
    groups=REFERENCE,
    layout=("csiq.DMOS.xlsx or csiq_label.txt", "dst_imgs/awgn/, blur/, contrast/, fnoise/, jpeg/, jpeg2000/"),
    terms=NOT_STATED,
    homepage="https://s2.smu.edu/~eclarson/csiq.html",
    citation="Larson and Chandler, Most apparent distortion, Journal of Electronic Imaging 19(1), 2010",
    readers=(
        LayoutReader(("csiq.DMOS.xlsx",), ("dst_imgs", ""), _csiq),
        LayoutReader(("csiq_label.txt",), ("dst_imgs", ""), _csiq_list),
        unified_list("CSIQ.txt"),
    ),
)

AGIQA3K = DatasetSpec(
    name="agiqa3k",
    title="AGIQA-3K",
    size=2_982,
    worst=0,
    best=5,
    split="none: 80/20 at random",
    layout=("data.csv", "*.jpg, in the same folder or in img/ or images/"),
    terms="labels MIT; images not stated",
    homepage="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
    citation="Li et al., AGIQA-3K, IEEE TCSVT 34(8), 2024",
    readers=(
        LayoutReader(
            ("data.csv",),
            ("img", "images", "AGIQA-3K", ""),
            table("name", "mos_quality", subset=lambda name: name.split("_")[0]),
        ),
    ),
    note="Quality, not alignment with the prompt. Images of one prompt may lie on both sides of a split.",
)

_IMAGES_PER_MODEL = 400


def _aigciqa2023(path: Path) -> list[LabelRow]:
    """Read the scores of 0.png, 1.png, ...: six models in turn, 100 prompts of four images each."""
    return [
        LabelRow(f"{number}.png", float(score), "", f"model {number // _IMAGES_PER_MODEL + 1}")
        for number, score in enumerate(read_matlab(path, "MOSz"))
    ]


AIGCIQA2023 = DatasetSpec(
    name="aigciqa2023",
    title="AIGCIQA2023",
    size=2_400,
    worst=0,
    best=100,
    split="none: 80/20 at random",
    layout=("DATA/MOS/mosz1.mat", "Image/allimg/0.png, ..."),
    terms=NOT_STATED,
    homepage="https://github.com/wangjiarui153/AIGCIQA2023",
    citation="Wang et al., AIGCIQA2023, arXiv 2307.00211, 2023",
    readers=(LayoutReader(("DATA/MOS/mosz1.mat",), ("Image/allimg", "Image"), _aigciqa2023),),
    note="Quality (mosz1), not authenticity or correspondence. Images of one prompt may lie on both sides of a split.",
)
