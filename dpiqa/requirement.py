"""Requirements as values: image-score pairs, the request for a version, its prompt features. Free of torch."""

import csv
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpiqa.addresses import is_s3, parse_s3
from dpiqa.errors import InvalidRequest, NotFound
from dpiqa.files import expanded
from dpiqa.types import Direction, ImageRef

#: Pattern of names, which are part of scorer ids (`...:portraits@1`) and of profiles: without `:` and `@`.
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"
#: `portraits@2`, or `portraits`: the newest version.
NAME_OR_ID_PATTERN = NAME_PATTERN.replace("$", r"(@[1-9][0-9]{0,8})?$")
#: The least that is accepted; PromptIQA's own demonstration uses 10.
MIN_PAIRS = 5
#: PromptIQA was trained with prompts of 43 pairs (a batch of 44 less the image itself); far more were never tried.
MAX_PAIRS = 200
#: One step of the five-grade scale of ITU-R BT.500 on 0-1. Scores closer than that may mean the same grade.
GRADE = 0.2
_NAME = re.compile(NAME_PATTERN.replace("$", r"\Z"))
_COLUMNS = ("path", "score")
_ROUNDING = 1e-9  # 0.7 - 0.5 is a grade, despite floating point


@dataclass(frozen=True, slots=True)
class Pair:
    """One image and the score that it deserves under the requirement."""

    path: str  #: absolute, or `s3://bucket/key`
    score: float  #: 0 to 1

    @property
    def ref(self) -> ImageRef:
        """The image for an object store, with whatever bytes it has now; without a bucket the key is a path."""
        if not is_s3(self.path):
            return ImageRef(bucket="", key=self.path, etag="")
        address = parse_s3(self.path)
        return ImageRef(bucket=address.bucket, key=address.key, etag="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequirementRequest:
    """A request for a new version: its pairs, the direction of its scores, and the model to check them with."""

    name: str
    pairs: tuple[Pair, ...]
    direction: Direction
    model: str  #: name of a PromptIQA model
    force: bool = False  #: accept pairs that contradict each other

    def check(self) -> None:
        """Raise `InvalidRequest` for what is wrong without looking at the images."""
        if not _NAME.match(self.name):
            raise InvalidRequest(
                f"{self.name!r} is not a valid name for a requirement",
                hint="use up to 63 of a-z 0-9 . _ - beginning with a letter or digit; versions are numbered by dpiqa",
            )
        check_pairs(self.pairs)

    @property
    def hash(self) -> str:
        """Digest in hex that equal requests share, before any image is read."""
        pairs = [[pair.path, pair.score] for pair in self.pairs]
        return _digest([self.direction, self.model, self.force, pairs])

    def content_hash(self, digests: Sequence[str]) -> str:
        """Return the digest in hex that equal requirements share: of the images' bytes, the scores and the direction.

        Not of paths, and not of the order of the pairs: the model sees neither. `digests`: sha256 of each image's
        bytes.
        """
        scores = [pair.score for pair in self.pairs]
        return _digest([self.direction, sorted(zip(digests, scores, strict=True))])


@dataclass(frozen=True, slots=True)
class Stability:
    """Leave-one-out agreement: each pair's image, scored by the prompt features of the other pairs alone."""

    srcc: float | None  #: of predicted with given scores; None where the model scored all images alike
    mae: float  #: mean absolute difference, in units of the scores (0-1)
    scores: tuple[float, ...]  #: of each pair's image, predicted from the other pairs, in the pairs' order

    @property
    def is_contradictory(self) -> bool:
        """Return whether the other pairs rank the left-out images no better than chance, or in reverse."""
        return self.srcc is None or self.srcc <= 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preparation:
    """The pairs of a requirement as one checkpoint sees them: prompt features and checks."""

    scorer_id: str  #: of the checkpoint, without a requirement
    features: np.ndarray  #: (N, D) float32, in the pairs' order
    stability: Stability
    contradictions: tuple[str, ...]  #: a sentence each; empty unless the requirement was forced


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedRequirement:
    """The prompt features of one version of a requirement, ready to score by."""

    name: str
    version: int  #: from 1
    base_scorer_id: str  #: of the checkpoint that made the features, without a requirement
    features: np.ndarray  #: (N, D) float32, one row per image-score pair
    direction: Direction

    @property
    def id(self) -> str:
        """Name and version as in scorer ids, such as `portraits@1`."""
        return f"{self.name}@{self.version}"


def read_pairs(file: Path) -> tuple[Pair, ...]:
    """Read a CSV of pairs. Raises `NotFound`, and `InvalidRequest` naming the line and how to correct it."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return tuple(_read_rows(csv.DictReader(stream, strict=True), file))
    except FileNotFoundError:
        raise NotFound(f"{file} does not exist", hint="name a CSV with the columns path and score") from None
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}", hint="check its permissions") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{file} is not a CSV in UTF-8: {error}", hint="save it as CSV, UTF-8") from error


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Raise `InvalidRequest` unless there are enough pairs, of different images, and of scores that lie apart.

    The scores must span at least one grade (0.2): PromptIQA takes the scale from them, and pairs of one grade do not
    say what is better.
    """
    if not MIN_PAIRS <= len(pairs) <= MAX_PAIRS:
        raise InvalidRequest(
            f"a requirement has {MIN_PAIRS} to {MAX_PAIRS} image-score pairs, not {len(pairs)}",
            hint="about 10 pairs over the whole scale serve well",
        )
    n_images = len({pair.path for pair in pairs})
    if n_images < MIN_PAIRS:
        raise InvalidRequest(
            f"the pairs name {n_images} different image{'s' if n_images > 1 else ''}, at least {MIN_PAIRS} are needed",
            hint="name each image once",
        )
    if repeated := [pair for pair, n in Counter(pairs).items() if n > 1]:
        raise InvalidRequest(f"{repeated[0].path} is listed twice with the same score", hint="leave one of them out")
    scores = [pair.score for pair in pairs]
    if max(scores) - min(scores) < GRADE - _ROUNDING:
        raise InvalidRequest(
            f"the scores lie between {min(scores):g} and {max(scores):g}: too close to tell good from bad",
            hint=f"give pairs whose scores span at least {GRADE:g} of the scale 0 to 1",
        )


def is_far(first: float, second: float) -> bool:
    """Return whether two scores lie more than one grade apart."""
    return abs(first - second) > GRADE + _ROUNDING


def _read_rows(reader: "csv.DictReader[str]", file: Path) -> Iterator[Pair]:
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InvalidRequest(
            f"{file}, line 1: no column {' and no column '.join(missing)}",
            hint="begin the file with the line path,score",
        )
    for row in reader:
        line = f"{file}, line {reader.line_num}"
        if None in row:
            raise InvalidRequest(f"{line}: more cells than the header has", hint='write paths with commas in "quotes"')
        path = _absolute_path(row["path"], file.parent, line)
        try:
            score = float(row["score"] or "")
        except ValueError:
            score = math.nan
        if not 0 <= score <= 1:
            raise InvalidRequest(
                f"{line}: {row['score']!r} is not a valid score", hint="write a number from 0 to 1, such as 0.75"
            )
        yield Pair(path, score)


def _absolute_path(text: str | None, folder: Path, line: str) -> str:
    if not text or "\x00" in text:
        raise InvalidRequest(f"{line}: no path", hint="name an image file or s3://bucket/key")
    if not is_s3(text):
        return str((folder / expanded(text)).absolute())
    try:
        address = parse_s3(text)
    except InvalidRequest as error:
        raise InvalidRequest(f"{line}: {error.message}", hint=error.hint) from None
    if not address.key:
        raise InvalidRequest(f"{line}: {text} names a bucket, not an image", hint="write s3://bucket/key")
    return str(address)


def _digest(values: list[object]) -> str:
    return hashlib.sha256(json.dumps(values, separators=(",", ":")).encode()).hexdigest()
