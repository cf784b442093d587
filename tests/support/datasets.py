"""Tiny trees of our own in the published layouts of data sets: real files, few images, labels that are easy to say."""

import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from openpyxl import Workbook
from PIL import Image
from scipy.io import savemat

from dpiqa.datasets.synthetic import LIVE_FOLDERS

_FORMATS = {".jpg": "JPEG", ".png": "PNG", ".bmp": "BMP"}


@dataclass(frozen=True)
class Tiny:
    """The images and labels that a reader should find."""

    labels: dict[str, float]  #: MOS from 0 to 1 by path below the root
    label_file: str  #: without which the layout is wrong
    splits: dict[str, int] | None = None  #: sizes of the official split; None: there is none
    groups: int = 0
    subsets: tuple[str, ...] = ()


def pictures(root: Path, names: Iterable[str]) -> None:
    """Write a picture of 4x4 pixels under each name, encoded as its ending says."""
    encoded: dict[str, bytes] = {}
    for name in names:
        kind = _FORMATS[Path(name).suffix.lower()]
        if kind not in encoded:
            buffer = io.BytesIO()
            Image.new("RGB", (4, 4), (200, 120, 40)).save(buffer, kind)
            encoded[kind] = buffer.getvalue()
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded[kind])


def table(file: Path, head: list[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a CSV with a header."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([head, *rows])


def sheet(file: Path, rows: Iterable[Iterable[object]], *, second: str = "") -> None:
    """Write the first sheet of an Excel file, or one of that name behind an empty one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    book = Workbook()
    page = book.create_sheet(second) if second else book.worksheets[0]
    for row in rows:
        page.append(list(row))
    book.save(file)


def cells(texts: Iterable[str]) -> np.ndarray:
    """Return a column of MATLAB cells."""
    return np.array([[text] for text in texts], dtype=object)


def koniq10k(root: Path) -> Tiny:
    mos = {f"{number}.jpg": 10.0 * number for number in range(10)}
    words = ["training"] * 6 + ["validation"] * 1 + ["test"] * 3
    rows = [(name, 0, 100, value, 0.5, word) for (name, value), word in zip(mos.items(), words, strict=True)]
    table(root / "koniq10k_distributions_sets.csv", ["image_name", "c1", "c_total", "MOS", "SD", "set"], rows)
    return _tiny(root, "1024x768", mos, 0, 100, "koniq10k_distributions_sets.csv", splits=_sizes(6, 1, 3))


def clive(root: Path) -> Tiny:
    mos = {f"{number}.bmp": 9.5 * number for number in range(10)}
    trained = [f"t{number}.bmp" for number in range(1, 8)]
    (root / "Data").mkdir(parents=True)
    savemat(root / "Data/AllImages_release.mat", {"AllImages_release": cells([*trained, *mos])})
    savemat(root / "Data/AllMOS_release.mat", {"AllMOS_release": np.array([[50.0] * 7 + list(mos.values())])})
    pictures(root / "Images/trainingImages", trained)
    return _tiny(root, "Images", mos, 0, 100, "AllMOS_release.mat")


def flive(root: Path) -> Tiny:
    names = [f"voc_emotic_ava/EMOTIC__{number}.jpg" for number in range(4)]
    names += ["voc_emotic_ava/VOC2012__7.jpg", "voc_emotic_ava/JPEGImages__7.jpg", "blur_dataset/motion1.jpg"]
    mos = {name: 12.5 * number for number, name in enumerate(names)}
    table(root / "labels_image.csv", ["name", "mos"], mos.items())
    head = ["mos_patch_1", "mos_image", "name_image"]
    table(root / "labels640.csv", head, [(0, mos[name], name) for name in names[:2]])
    rest = [(0, mos[name], name, name == names[2]) for name in names[2:]]
    table(root / "labels=640_padded.csv", [*head, "is_valid"], rest)
    subsets = ("blur_dataset", "voc_emotic_ava")
    return _tiny(root, "", mos, 0, 100, "labels_image.csv", splits=_sizes(4, 1, 2), groups=6, subsets=subsets)


def spaq(root: Path) -> Tiny:
    mos = {f"{number:05d}.jpg": 9.0 * number for number in range(1, 11)}
    rows = [("Image name", "MOS", "Brightness"), *((name, value, 50) for name, value in mos.items())]
    sheet(root / "Annotations/MOS and Image attribute scores.xlsx", rows)
    return _tiny(root, "TestImage", mos, 0, 100, "MOS and Image attribute scores.xlsx")


def biq2021(root: Path) -> Tiny:
    mos = {f"ss0{1 + number % 3} ({number}).jpg": 0.1 * number for number in range(10)}
    rows = list(mos.items())
    table(root / "Train.csv", ["Image Name", "MOS"], rows[:8])
    table(root / "Test.csv", ["Image Name", "MOS"], rows[8:])
    subsets = ("ss01", "ss02", "ss03")
    return _tiny(root, "Images", mos, 0, 1, "Train.csv", splits=_sizes(8, 0, 2), subsets=subsets)


def bid(root: Path) -> Tiny:
    mos = {f"DatabaseImage{number:04d}.JPG": 0.45 * number for number in range(1, 11)}
    rows = [(number, value, 0.3) for number, value in enumerate(mos.values(), 1)]
    sheet(root / "DatabaseGrades.xlsx", [("Image Number", "Average Subjective Grade", "std"), *rows])
    return _tiny(root, "ImageDatabase", mos, 0, 5, "DatabaseGrades.xlsx")


def kadid10k(root: Path) -> Tiny:
    names = [(reference, f"I{reference:02d}_{kind:02d}_01.png") for reference in range(1, 6) for kind in (1, 25)]
    mos = {name: 1 + 0.4 * index for index, (_, name) in enumerate(names)}
    rows = [(name, f"I{reference:02d}.png", mos[name], 0.5) for reference, name in names]
    table(root / "dmos.csv", ["dist_img", "ref_img", "dmos", "var"], rows)
    subsets = ("distortion 01", "distortion 25")
    return _tiny(root, "images", mos, 1, 5, "dmos.csv", groups=5, subsets=subsets)


def tid2013(root: Path) -> Tiny:
    """The list has capital letters where the files have small ones, as in the set itself."""
    names = [f"i{reference:02d}_{kind:02d}_1.bmp" for reference in range(1, 6) for kind in (1, 24)]
    mos = {name: 0.7 * index for index, name in enumerate(names)}
    lines = [f"{value:.5f} {name.replace('i', 'I')}" for name, value in mos.items()]
    (root / "mos_with_names.txt").write_text("\r\n".join(lines) + "\r\n")
    subsets = ("distortion 01", "distortion 24")
    return _tiny(root, "distorted_images", mos, 0, 9, "mos_with_names.txt", groups=5, subsets=subsets)


def live(root: Path) -> Tiny:
    """The whole number of images: their order is all that says which score is whose."""
    names = [f"{kind}/img{number}.bmp" for kind, images in LIVE_FOLDERS.items() for number in range(1, images + 1)]
    scores = np.linspace(-2.6, 111.7, len(names))
    originals = np.arange(len(names)) % 5 == 0  # 197 references among them
    references = [f"reference{number % 29}.bmp" for number in range(len(names))]
    savemat(root / "dmos_realigned.mat", {"dmos_new": scores[None], "orgs": originals[None].astype(float)})
    savemat(root / "refnames_all.mat", {"refnames_all": cells(references).T})
    dmos = {name: score for name, score, original in zip(names, scores, originals, strict=True) if not original}
    return _tiny(root, "", dmos, 112, -3, "dmos_realigned.mat", groups=29, subsets=tuple(sorted(LIVE_FOLDERS)))


def csiq(root: Path) -> Tiny:
    kinds = {"noise": "awgn/{}.AWGN", "jpeg 2000": "jpeg2000/{}.jpeg2000", "contrast": "contrast/{}.contrast"}
    rows, dmos = [], {}
    for image in (1600.0, "aerial_city", "boston", "bridge"):
        for kind, name in kinds.items():
            dmos[f"{name.format(str(image).removesuffix('.0'))}.1.png"] = round(0.08 * len(dmos), 2)
            rows.append((None, None, image, 1, kind, 1, 0.1, list(dmos.values())[-1]))
    head = (None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos")
    sheet(root / "csiq.DMOS.xlsx", [("CSIQ",), (), head, *rows], second="all_by_image")
    subsets = ("awgn", "contrast", "jpeg2000")
    return _tiny(root, "dst_imgs", dmos, 1, 0, "csiq.DMOS.xlsx", groups=4, subsets=subsets)


def agiqa3k(root: Path) -> Tiny:
    mos = {f"{model}_normal_{number:03d}.jpg": 0.4 * number for number in range(5) for model in ("glide", "sd1.5")}
    head = ["name", "prompt", "mos_quality", "std_quality", "mos_align"]
    table(root / "data.csv", head, [(name, "a cat, a dog", value, 0.2, 5) for name, value in mos.items()])
    return _tiny(root, "", mos, 0, 5, "data.csv", subsets=("glide", "sd1.5"))


def aigciqa2023(root: Path) -> Tiny:
    mos = {f"{number}.png": 20 + 0.1 * number for number in range(410)}
    (root / "DATA/MOS").mkdir(parents=True)
    savemat(root / "DATA/MOS/mosz1.mat", {"MOSz": np.array(list(mos.values()))[:, None]})
    return _tiny(root, "Image/allimg", mos, 0, 100, "mosz1.mat", subsets=("model 1", "model 2"))


def gfiqa20k(root: Path) -> Tiny:
    mos = {f"{number}.png": 0.1 * number for number in range(10)}
    table(root / "mos_rating.csv", ["img_name", "mos"], mos.items())
    return _tiny(root, "image", mos, 0, 1, "mos_rating.csv")


def uwiqa(root: Path) -> Tiny:
    mos = {f"{number:04d}.png": 0.1 * number for number in range(1, 11)}
    sheet(root / "IQA_Value.xlsx", [("img", "mos"), *enumerate(mos.values(), 1)])
    return _tiny(root, "img", mos, 0, 1, "IQA_Value.xlsx")


def own_csv(root: Path) -> Tiny:
    mos = {f"photos/{number}.jpg": 0.1 * number for number in range(10)}
    table(root / "labels.csv", ["path", "MOS"], mos.items())
    return _tiny(root, "", mos, 0, 1, "labels.csv")


#: Every reader's tree, by the data set's name.
LAYOUTS: dict[str, Callable[[Path], Tiny]] = {
    maker.__name__: maker
    for maker in (koniq10k, clive, flive, spaq, biq2021, bid, kadid10k, tid2013, live, csiq, agiqa3k, aigciqa2023)
} | {"gfiqa20k": gfiqa20k, "uwiqa": uwiqa, "csv": own_csv}


def build(name: str, root: Path) -> Tiny:
    """Write the tiny tree of data set `name` into `root`, which is made."""
    root.mkdir(parents=True, exist_ok=True)
    return LAYOUTS[name](root)


def _tiny(
    root: Path, folder: str, scores: dict[str, float], worst: float, best: float, label_file: str, **facts: object
) -> Tiny:
    pictures(root / folder, scores)
    labels = {str(Path(folder, name)): (score - worst) / (best - worst) for name, score in scores.items()}
    return Tiny(labels=labels, label_file=label_file, **facts)


def _sizes(train: int, val: int, test: int) -> dict[str, int]:
    return {name: size for name, size in (("train", train), ("val", val), ("test", test)) if size}
