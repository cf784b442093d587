"""Sets of photographs as cameras made them: origin, scale and layout."""

import re
from pathlib import Path

from dpiqa.datasets.label_files import Tree, number, read_columns, read_matlab, sibling, table, unified_list
from dpiqa.datasets.spec import DatasetSpec, LabelRow, LayoutReader
from dpiqa.datasets.splits import split_name
from dpiqa.errors import InvalidRequest

NOT_STATED = "not stated where we looked: ask the authors"
TEXAS = "University of Texas at Austin's notice: any use, with the notice and a citation"


def _four_digits(number: str) -> str:
    """Return an image's number as its file name has it; Excel may have made 7.0 of 7."""
    return number.removesuffix(".0").zfill(4)


def _koniq(path: Path) -> list[LabelRow]:
    columns = ("image_name", "MOS", "set")
    return [LabelRow(name, number(mos, path), split_name(split)) for name, mos, split in read_columns(path, columns)]


KONIQ10K = DatasetSpec(
    name="koniq10k",
    title="KonIQ-10k",
    size=10_073,
    worst=0,
    best=100,
    split="official: 7,058 train, 1,000 val, 2,015 test",
    layout=("koniq10k_distributions_sets.csv", "1024x768/*.jpg or 512x384/*.jpg"),
    terms="labels MIT; images Creative Commons, each its own (YFCC100M)",
    homepage="https://database.mmsp-kn.de/koniq-10k-database.html",
    citation="Hosu et al., KonIQ-10k, IEEE TIP 29, 2020",
    readers=(
        LayoutReader(("koniq10k_distributions_sets.csv",), ("1024x768", "512x384"), _koniq),
        LayoutReader(
            ("koniq10k_scores_and_distributions.csv",), ("1024x768", "512x384"), table("image_name", "MOS_zscore")
        ),
    ),
    note="koniq10k_scores_and_distributions.csv is read too, but it has no official split: 80/20 at random then.",
)


def _clive(path: Path) -> list[LabelRow]:
    """Read names and scores from two files; the first images, t1 to t7, trained the raters and are in no study."""
    images = read_matlab(sibling(path, "AllImages_release.mat"), "AllImages_release")
    scores = read_matlab(path, "AllMOS_release")
    if len(images) != len(scores):
        raise InvalidRequest(f"{path} has {len(scores)} scores for {len(images)} images", hint="unpack the set again")
    rated = [(str(name), float(mos)) for name, mos in zip(images, scores, strict=True)]
    return [LabelRow(name, mos) for name, mos in rated if not re.match(r"t\d+\.", name)]


CLIVE = DatasetSpec(
    name="clive",
    title="CLIVE (LIVE In the Wild Challenge)",
    size=1_162,
    worst=0,
    best=100,
    split="none: 80/20 at random",
    layout=("Data/AllMOS_release.mat", "Data/AllImages_release.mat", "Images/*.bmp, *.jpg"),
    terms=TEXAS,
    homepage="https://live.ece.utexas.edu/research/ChallengeDB/",
    citation="Ghadiyaram and Bovik, Massive online crowdsourced study of picture quality, IEEE TIP 25(1), 2016",
    readers=(
        LayoutReader(("Data/AllMOS_release.mat",), ("Images",), _clive),
        unified_list("LIVE_Challenge.txt"),
    ),
    note="The seven images that the raters were trained with are left out, as everywhere.",
)

_FLIVE_TEST = ("labels640.csv", "labels>640.csv")
_FLIVE_REST = ("labels=640_padded.csv", "labels<=640_padded.csv")


def _flive(path: Path) -> list[LabelRow]:
    """Pictures larger than 640 pixels are the test set; of the rest a table says which are for validation.

    JPEGImages__X and VOC2012__X are copies of one picture.
    """
    rows = list(read_columns(path, ("name", "mos")))
    tree = Tree(path.parent)
    splits = {name: "" for name, _ in rows}
    if tree.find(*_FLIVE_TEST) or tree.find(*_FLIVE_REST):
        test = {name for (name,) in read_columns(sibling(path, *_FLIVE_TEST), ("name_image",))}
        rest = read_columns(sibling(path, *_FLIVE_REST), ("name_image", "is_valid"))
        val = {name for name, valid in rest if valid.casefold() == "true"}
        splits = {name: "test" if name in test else "val" if name in val else "train" for name in splits}
    return [
        LabelRow(name, number(mos, path), splits[name], name.split("/")[0], name.split("__")[-1].casefold())
        for name, mos in rows
    ]


FLIVE = DatasetSpec(
    name="flive",
    title="FLIVE (LIVE-FB, PaQ-2-PiQ)",
    size=39_810,
    worst=0,
    best=100,
    split="official, if its two files are there: test are the pictures above 640 pixels; else 80/20 at random",
    layout=(
        "labels_image.csv",
        "labels640.csv or labels>640.csv, labels=640_padded.csv or labels<=640_padded.csv (the split)",
        "voc_emotic_ava/*.jpg, blur_dataset/*.jpg, EE371R/*.jpg",
    ),
    terms=f"{NOT_STATED}; the pictures are those of AVA, EMOTIC, VOC and CUHK's blur set, each with its terms",
    homepage="https://github.com/baidut/PaQ-2-PiQ",
    citation="Ying et al., From patches to pictures (PaQ-2-PiQ), CVPR 2020",
    readers=(LayoutReader(("labels_image.csv", "database/labels_image.csv"), ("database", ""), _flive),),
    groups="copies of one VOC picture",
    note="Pictures, not patches. The official split is taken as published.",
)

SPAQ = DatasetSpec(
    name="spaq",
    title="SPAQ",
    size=11_125,
    worst=0,
    best=100,
    split="none: 80/20 at random",
    layout=("Annotations/MOS and Image attribute scores.xlsx", "TestImage/*.jpg"),
    terms=NOT_STATED,
    homepage="https://github.com/h4nwei/SPAQ",
    citation="Fang et al., Perceptual quality assessment of smartphone photography, CVPR 2020",
    readers=(
        LayoutReader(
            (
                "Annotations/MOS and Image attribute scores.xlsx",
                "Annotations/MOS_and_Image_attribute_scores.xlsx",
            ),
            ("TestImage", "Dataset/TestImage"),
            table("Image name", "MOS"),
        ),
        unified_list("SPAQ.txt"),
    ),
)


def _biq2021(path: Path) -> list[LabelRow]:
    """Read the training file, and the test file with the corresponding name beside it."""
    columns, subset = ("Image Name", "MOS"), lambda name: name.split(" ")[0]
    test = sibling(path, re.sub("train", "Test", path.name, flags=re.IGNORECASE))
    return [
        row
        for file, split in ((path, "train"), (test, "test"))
        for row in table(*columns, split=split, subset=subset)(file)
    ]


BIQ2021 = DatasetSpec(
    name="biq2021",
    title="BIQ2021",
    size=12_000,
    worst=0,
    best=1,
    split="official: 10,000 train, 2,000 test",
    layout=("Train.csv", "Test.csv", "Images/*.jpg"),
    terms="freely available for use and benchmarking, says its paper; no licence text",
    homepage="https://github.com/nisarahmedrana/BIQ2021",
    citation="Ahmed and Asif, BIQ2021, Journal of Electronic Imaging 31(5), 2022",
    readers=(LayoutReader(("Train.csv", "Train (Images and MOS).csv"), ("Images",), _biq2021),),
    note="A few labels are a little below 0; they count as 0.",
    slack=0.2,
)

BID = DatasetSpec(
    name="bid",
    title="BID (blurred image database)",
    size=586,
    worst=0,
    best=5,
    split="none: 80/20 at random",
    layout=("DatabaseGrades.xlsx", "ImageDatabase/DatabaseImage0001.JPG, ..."),
    terms=NOT_STATED,
    homepage="https://www02.smt.ufrj.br/~eduardo/ImageDatabase.htm",
    citation="Ciancio et al., No-reference blur assessment of digital pictures, IEEE TIP 20(1), 2011",
    readers=(
        LayoutReader(
            ("DatabaseGrades.xlsx", "ImageDatabase/DatabaseGrades.xlsx"),
            ("ImageDatabase", ""),
            table(
                "Image Number",
                "Average Subjective Grade",
                file_name=lambda text: f"DatabaseImage{_four_digits(text)}.JPG",
            ),
        ),
    ),
)

GFIQA20K = DatasetSpec(
    name="gfiqa20k",
    title="GFIQA-20k (faces)",
    size=19_998,
    worst=0,
    best=1,
    split="none published as files: 80/20 at random",
    layout=("mos_rating.csv, mos_val_rating.csv or mos.csv", "image/*.png"),
    terms=NOT_STATED,
    homepage="https://database.mmsp-kn.de/gfiqa-20k-database.html",
    citation="Su et al., Going the extra mile in face image quality assessment, arXiv 2207.04904, 2022",
    readers=(
        LayoutReader(
            ("mos_rating.csv", "mos_val_rating.csv", "mos.csv"), ("image", "images"), table("img_name", "mos")
        ),
    ),
)

UWIQA = DatasetSpec(
    name="uwiqa",
    title="UWIQA (under water)",
    size=890,
    worst=0,
    best=1,
    split="none: 80/20 at random",
    layout=("IQA_Value.xlsx", "img/0001.png, ..."),
    terms=NOT_STATED,
    homepage="https://doi.org/10.1016/j.image.2021.116218",
    citation="Yang et al., A reference-free underwater image quality assessment metric in frequency domain, 2021",
    readers=(
        LayoutReader(("IQA_Value.xlsx",), ("img",), table(0, 1, file_name=lambda text: f"{_four_digits(text)}.png")),
    ),
    note="The first row is a header; the columns are the image's number and its score.",
)
