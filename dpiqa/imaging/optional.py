"""Formats whose decoders are extras: HEIC, JPEG XL; and JPEG 2000, which Pillow decodes where it was built with it."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image, features

from dpiqa.errors import ImageRejected
from dpiqa.extras import EXTRA_OF_MODULE
from dpiqa.imaging import heif, jpeg2000, jxl
from dpiqa.types import Reason


@dataclass(frozen=True, slots=True)
class OptionalFormat:
    """A format that not every installation decodes."""

    decode: Callable[[bytes, Callable[[int, int], None]], Image.Image]  #: see `dpiqa.imaging.heif.decode`
    ends_early: Callable[[bytes], bool]
    module: str  #: that it needs
    load: Callable[[], object] = lambda: None  #: imports the module


#: By the names of `dpiqa.imaging.formats.sniff`.
OPTIONAL: dict[str, OptionalFormat] = {
    "HEIC": OptionalFormat(heif.decode, heif.ends_early, "pi_heif", heif.library),
    "JPEG XL": OptionalFormat(jxl.decode, jxl.ends_early, "pillow_jxl", jxl.library),
    "JPEG 2000": OptionalFormat(jpeg2000.decode, jpeg2000.ends_early, "PIL"),
}


@cache
def is_installed(image_format: str) -> bool:
    """Return whether this installation decodes an optional format. Only the first call opens files."""
    if image_format == "JPEG 2000":
        return bool(features.check("jpg_2000"))
    return importlib.util.find_spec(OPTIONAL[image_format].module) is not None


def load_installed() -> None:
    """Import the decoders that are installed: a decode process must not open files later."""
    for name, optional in OPTIONAL.items():
        if is_installed(name):
            optional.load()


def decode_optional(data: bytes, image_format: str, check_size: Callable[[int, int], None]) -> Image.Image:
    """Decode one of `OPTIONAL`. Raises `ImageRejected` with `DECODER_MISSING`; else as `dpiqa.imaging.heif.decode`."""
    if not is_installed(image_format):
        module = OPTIONAL[image_format].module
        extra = EXTRA_OF_MODULE.get(module)
        install = f"pip install 'dpiqa[{extra}]'" if extra else "install a Pillow that has it"
        raise ImageRejected(Reason.DECODER_MISSING, f"{image_format} needs {module}, which is not installed: {install}")
    return OPTIONAL[image_format].decode(data, check_size)
