"""Formats that not every installation decodes: HEIC, JPEG XL and camera raw (extras), JPEG 2000 (Pillow's)."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from PIL import Image, features

from dpiqa.errors import ImageRejected
from dpiqa.extras import EXTRA_OF_MODULE
from dpiqa.imaging import heif, jpeg2000, jxl, raw
from dpiqa.types import Reason


@dataclass(frozen=True, slots=True)
class OptionalFormat:
    """A format that not every installation decodes."""

    decode: Callable[[bytes, Callable[[int, int], None]], bytes | Image.Image]  #: to a picture, or to a JPEG file
    module: str  #: that it needs
    load: Callable[[], object] = lambda: None  #: imports the module


RAW = "camera raw"  #: for which `sniff` has many names; the preview of such a file
#: By the names of `dpiqa.imaging.formats.sniff`, but for `RAW`.
OPTIONAL: dict[str, OptionalFormat] = {
    "HEIC": OptionalFormat(heif.decode, "pi_heif", heif.library),
    "JPEG XL": OptionalFormat(jxl.decode, "pillow_jxl", jxl.library),
    "JPEG 2000": OptionalFormat(jpeg2000.decode, "PIL"),
    RAW: OptionalFormat(raw.extract_preview, "rawpy", raw.library),
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


def decode_optional(data: bytes, image_format: str, check_size: Callable[[int, int], None]) -> bytes | Image.Image:
    """Decode one of `OPTIONAL` to a picture, or return the JPEG file that it holds.

    Raises `ImageRejected`, with `DECODER_MISSING` where its decoder is not installed, and what `check_size` raises for
    the size in the header; other errors mean damage.
    """
    if not is_installed(image_format):
        module = OPTIONAL[image_format].module
        extra = EXTRA_OF_MODULE.get(module)
        install = f"pip install 'dpiqa[{extra}]'" if extra else "install a Pillow that has it"
        raise ImageRejected(Reason.DECODER_MISSING, f"{image_format} needs {module}, which is not installed: {install}")
    return OPTIONAL[image_format].decode(data, check_size)
