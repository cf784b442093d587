"""Photographs of the demo: those inside the scikit-image and scikit-learn wheels, or the user's own.

Each gets copies with our own distortions at the strengths 1 to 5. Nothing is downloaded.
"""

import importlib.util
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from dpiqa.errors import ConfigurationError, InvalidRequest
from dpiqa.imaging.distortions import STRENGTHS, distort
from dpiqa.sources.folders import find_files

#: Package and folder -> its photographs. The other files there are drawings, masks, scans and microscopy.
_IN_WHEELS = {
    ("skimage", "data"): (
        "astronaut brick camera chelsea clock_motion coffee coins grass gravel hubble_deep_field moon "
        "motorcycle_left rocket"
    ),
    ("sklearn", "datasets/images"): "china flower",
}
#: The most frequent faults of photographs. Each photograph gets some of them, in turn: the fewer photographs, the more.
KINDS = ("gaussian_blur", "jpeg", "gaussian_noise", "motion_blur", "low_resolution")
ORIGINAL = "original"
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"})  #: in wheels
_MAX_WITH_COPIES = 30  #: more photographs of the user's own need no distorted copies
_COPIES = 240  #: about as many in all
_COPY_SIDE = 640  #: pixels; copies of larger photographs are scaled down to that


@dataclass(frozen=True)
class Upload:
    """One object for the bucket."""

    key: str
    data: bytes


@dataclass(frozen=True)
class UploadPlan:
    """Objects to upload."""

    photographs: Sequence[tuple[str, Path]]  #: key without ending -> file
    with_copies: bool

    @property
    def n_kinds(self) -> int:
        """Kinds of distortion that each photograph gets, so that a mean is one over several photographs."""
        fitting = _COPIES // (len(STRENGTHS) * len(self.photographs))
        return min(len(KINDS), max(1, fitting)) if self.with_copies else 0

    @property
    def total(self) -> int:
        """Objects that `uploads` makes."""
        return len(self.photographs) * (1 + self.n_kinds * len(STRENGTHS))

    def uploads(self) -> Iterator[Upload]:
        """Yield originals as they are, each followed by its copies."""
        for number, (name, path) in enumerate(self.photographs):
            data = path.read_bytes()
            if not self.with_copies:
                yield Upload(name + path.suffix.lower(), data)
                continue
            yield Upload(f"{name}/{ORIGINAL}{path.suffix.lower()}", data)
            yield from _copies(name, data, [KINDS[(number + i) % len(KINDS)] for i in range(self.n_kinds)])


def plan(folder: Path | None) -> UploadPlan:
    """Plan the demo's photographs, or those of a folder. Raises `InvalidRequest`, `ConfigurationError`."""
    if folder is None:
        return UploadPlan(_wheel_photographs(), with_copies=True)
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a folder", hint="give a folder with photographs: --photos DIR")
    try:
        files = [path for path in find_files(folder) if path.is_file()]
    except OSError as error:
        raise InvalidRequest(f"{folder} cannot be read: {error.strerror}", hint="check its permissions") from None
    if not files:
        raise InvalidRequest(f"{folder} holds no photographs", hint="give a folder with photographs: --photos DIR")
    names = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
    with_copies = len(files) <= _MAX_WITH_COPIES and len(set(names)) == len(names)
    return UploadPlan(list(zip(names, files, strict=True)), with_copies=with_copies)


def parse_key(key: str) -> tuple[str, str, int]:
    """Return photograph, kind and strength of a key of ours; strength 0 is an original."""
    photograph, _, last = key.rpartition("/")
    kind, _, strength = last.partition(".")[0].rpartition("-")
    if photograph and kind in KINDS and strength.isdecimal():
        return photograph, kind, int(strength)
    return (photograph or key), ORIGINAL, 0


def _copies(name: str, data: bytes, kinds: Sequence[str]) -> Iterator[Upload]:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            image = opened.convert("RGB")
    except OSError:
        return  # the system itself must report what is wrong with the file
    image.thumbnail((_COPY_SIDE, _COPY_SIDE), Image.Resampling.LANCZOS)
    for kind in kinds:
        for strength in STRENGTHS:
            buffer = io.BytesIO()
            distort(image, kind, strength, seed=strength).save(buffer, "JPEG", quality=95, subsampling=0)
            yield Upload(f"{name}/{kind}-{strength}.jpg", buffer.getvalue())


def _wheel_photographs() -> list[tuple[str, Path]]:
    photographs = []
    for (package, folder), names in _IN_WHEELS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            hint = "pip install 'dpiqa[demo]', or give your own: --photos DIR"
            raise ConfigurationError(f"the demo's photographs are missing: {package} is not installed", hint=hint)
        stems = set(names.split())
        files = sorted((Path(next(iter(spec.submodule_search_locations))) / folder).iterdir())
        photographs += [(path.stem, path) for path in files if path.stem in stems and path.suffix in _SUFFIXES]
    return photographs
