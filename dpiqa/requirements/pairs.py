"""Image-score pairs (ISPs): what a requirement is made of, and the list that people write them in. Pure but for a file.

A list is a CSV with the columns `path` and `score`; others are for its author. Paths are relative to the CSV's folder,
absolute, or `s3://bucket/key`; scores lie between 0 and 1.
"""

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.objects.addresses import is_s3, parse_s3
from dpiqa.types import ImageRef

#: The issue's floor; PromptIQA's own demonstration uses 10.
MIN_PAIRS = 5
#: PromptIQA was trained with prompts of 43 pairs (a batch of 44 less the image itself): far above nobody knows.
MAX_PAIRS = 200
#: One step of the five-grade scale of ITU-R BT.500 on 0-1. Scores closer than that may mean the same grade.
GRADE = 0.2
_COLUMNS = ("path", "score")
_ROUNDING = 1e-9  # 0.7 - 0.5 is a grade, whatever floating point says


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and the score that it deserves under the requirement."""

    path: str  #: absolute, or `s3://bucket/key`
    score: float  #: 0 to 1

    @property
    def ref(self) -> ImageRef:
        """The image as object stores take it; without a bucket the key is a path. Whatever is there now counts."""
        if not is_s3(self.path):
            return ImageRef(bucket="", key=self.path, etag="")
        address = parse_s3(self.path)
        return ImageRef(bucket=address.bucket, key=address.key, etag="")


def read_pairs(file: Path) -> tuple[Pair, ...]:
    """Read a list of pairs. Raises `NotFound`, and `InvalidRequest` naming the line and what to write there."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return tuple(_rows(csv.DictReader(stream, strict=True), file))
    except FileNotFoundError:
        raise NotFound(f"{file} does not exist", cure="name a CSV with the columns path and score") from None
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}", cure="check its permissions") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} is no CSV in UTF-8: {error}", cure="save it as CSV, UTF-8") from error


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Raise `InvalidRequest` unless there are enough pairs, of scores that lie apart.

    The scores must span at least one grade (0.2): PromptIQA takes the scale from them, and pairs of one grade do not
    say what is better.
    """
    if not MIN_PAIRS <= len(pairs) <= MAX_PAIRS:
        raise InvalidRequest(
            f"a requirement has {MIN_PAIRS} to {MAX_PAIRS} image-score pairs, not {len(pairs)}",
            cure="about 10 pairs over the whole scale serve well",
        )
    scores = [pair.score for pair in pairs]
    if max(scores) - min(scores) < GRADE - _ROUNDING:
        raise InvalidRequest(
            f"the scores lie between {min(scores):g} and {max(scores):g}: too close to tell good from bad",
            cure=f"give pairs whose scores span at least {GRADE:g} of the scale 0 to 1",
        )


def is_far(first: float, second: float) -> bool:
    """Whether two scores lie more than one grade apart."""
    return abs(first - second) > GRADE + _ROUNDING


def _rows(reader: "csv.DictReader[str]", file: Path) -> Iterator[Pair]:
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InvalidRequest(
            f"{file}, line 1: no column {' and no column '.join(missing)}",
            cure="begin the file with the line path,score",
        )
    for row in reader:
        where = f"{file}, line {reader.line_num}"
        if None in row:
            raise InvalidRequest(f"{where}: more cells than the header has", cure='write paths with commas in "quotes"')
        yield Pair(_path(row["path"], file.parent, where), _score(row["score"], where))


def _path(text: str | None, folder: Path, where: str) -> str:
    if not text or "\x00" in text:
        raise InvalidRequest(f"{where}: no path", cure="name an image file or s3://bucket/key")
    if not is_s3(text):
        return str((folder / Path(text).expanduser()).absolute())
    try:
        address = parse_s3(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error.message}", cure=error.cure) from None
    if not address.key:
        raise InvalidRequest(f"{where}: {text} names a bucket, not an image", cure="write s3://bucket/key")
    return str(address)


def _score(text: str | None, where: str) -> float:
    try:
        score = float(text or "")
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise InvalidRequest(f"{where}: {text!r} is no score", cure="write a number from 0 to 1, such as 0.75")
    return score
