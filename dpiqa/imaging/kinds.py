"""Kinds of pictures that are decoded: one table, each row proved against an independent decoder.

A picture of another kind is rejected with `UNSUPPORTED_FORMAT`, even if Pillow would return pixels for it: for many
kinds it returns wrong ones without an error. Tests decode pictures of every row. `make docs` writes the table into
`docs/imaging.md`.
"""

from dataclasses import dataclass, fields

from dpiqa.errors import ImageRejected
from dpiqa.types import Reason

_SIZES = ("1", "2", "4", "8")
_LOSSLESS = ("none", "LZW", "deflate", "PackBits", "LZMA", "Zstandard")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Coding of the samples of a file, by its header, in the words of the table."""

    format: str
    colours: str  #: `grey`, `RGB`, `palette`, `CMYK`, ...
    bits: str = "8"  #: per sample
    samples: str = "unsigned"  #: `unsigned`, `signed`, `float`
    alpha: str = "none"  #: `none`, `channel`, `named` (one colour, or palette entries), `premultiplied`, `ignored`
    planes: str = "plain"  #: order of the samples: `plain`, `interlaced`, `separate`
    coding: str = "none"  #: compression

    def __str__(self) -> str:
        extra = [] if self.samples == "unsigned" else [f"{self.samples} samples"]
        extra += [] if self.alpha == "none" else [f"alpha: {self.alpha}"]
        extra += [] if self.planes == "plain" else [f"{self.planes} planes"]
        return ", ".join([f"{self.format} of {self.colours}", f"{self.bits} bits", *extra, f"coding: {self.coding}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Kinds that are decoded in the same way: every combination of the fields' values."""

    format: str
    colours: tuple[str, ...]
    bits: tuple[str, ...] = ("8",)
    samples: tuple[str, ...] = ("unsigned",)
    alpha: tuple[str, ...] = ("none",)
    planes: tuple[str, ...] = ("plain",)
    coding: tuple[str, ...] = ("none",)

    def admits(self, kind: Kind) -> bool:
        """Return whether the kind is one of the row's."""
        return self.format == kind.format and all(
            getattr(kind, field.name) in getattr(self, field.name) for field in fields(Row)[1:]
        )


_ALL_PLANES = ("plain", "separate")
_FAX = ("CCITT RLE", "CCITT G3", "CCITT G4")
TABLE: tuple[Row, ...] = (
    Row(
        format="JPEG",
        colours=("grey", "YCbCr", "RGB", "CMYK", "YCCK"),
        coding=("baseline", "extended", "progressive"),
    ),
    Row(format="JPEG", colours=("grey", "YCbCr"), coding=("arithmetic", "arithmetic progressive")),
    Row(
        format="PNG",
        colours=("grey",),
        bits=("1", "2", "4", "8", "16"),
        alpha=("none", "named"),
        planes=("plain", "interlaced"),
        coding=("deflate",),
    ),
    Row(
        format="PNG",
        colours=("RGB",),
        bits=("8", "16"),
        alpha=("none", "named"),
        planes=("plain", "interlaced"),
        coding=("deflate",),
    ),
    Row(
        format="PNG",
        colours=("grey", "RGB"),
        bits=("8", "16"),
        alpha=("channel",),
        planes=("plain", "interlaced"),
        coding=("deflate",),
    ),
    Row(
        format="PNG",
        colours=("palette",),
        bits=_SIZES,
        alpha=("none", "named"),
        planes=("plain", "interlaced"),
        coding=("deflate",),
    ),
    Row(format="GIF", colours=("palette",), alpha=("none", "named"), planes=("plain", "interlaced"), coding=("LZW",)),
    Row(format="WEBP", colours=("YCbCr",), alpha=("none", "channel"), coding=("lossy",)),
    Row(format="WEBP", colours=("RGB",), alpha=("none", "channel"), coding=("lossless",)),
    Row(
        format="AVIF",
        colours=("grey", "YCbCr", "RGB"),
        bits=("8", "10", "12"),
        alpha=("none", "channel"),
        coding=("AV1",),
    ),
    Row(format="BMP", colours=("palette",), bits=("1", "4", "8")),
    Row(format="BMP", colours=("palette",), bits=("4",), coding=("RLE4",)),
    Row(format="BMP", colours=("palette",), coding=("RLE8",)),
    Row(format="BMP", colours=("RGB",), bits=("5:5:5", "5:6:5", "8:8:8")),
    Row(format="BMP", colours=("RGB",), bits=("8:8:8",), alpha=("channel",)),
    Row(format="TIFF", colours=("min-is-white", "min-is-black"), bits=("1",), coding=(*_LOSSLESS, *_FAX)),
    Row(format="TIFF", colours=("min-is-white", "min-is-black"), bits=("2", "4", "16"), coding=_LOSSLESS),
    Row(format="TIFF", colours=("min-is-white", "min-is-black"), coding=(*_LOSSLESS, "JPEG")),
    Row(format="TIFF", colours=("min-is-black",), bits=("12",)),
    Row(format="TIFF", colours=("min-is-black",), alpha=("channel", "premultiplied", "ignored"), coding=_LOSSLESS),
    Row(format="TIFF", colours=("min-is-white", "min-is-black"), bits=("32",), samples=("float",), coding=_LOSSLESS),
    Row(format="TIFF", colours=("min-is-black",), bits=("16", "32"), samples=("signed",), coding=_LOSSLESS),
    Row(format="TIFF", colours=("min-is-black",), bits=("32",), coding=_LOSSLESS),
    Row(format="TIFF", colours=("RGB",), planes=_ALL_PLANES, coding=(*_LOSSLESS, "JPEG")),
    Row(format="TIFF", colours=("RGB",), bits=("16",), planes=_ALL_PLANES, coding=_LOSSLESS),
    Row(
        format="TIFF",
        colours=("RGB",),
        bits=("8", "16"),
        alpha=("channel", "premultiplied", "ignored"),
        planes=_ALL_PLANES,
        coding=_LOSSLESS,
    ),
    Row(
        format="TIFF",
        colours=("RGB",),
        alpha=("channel + more", "premultiplied + more", "ignored + more"),
        coding=_LOSSLESS,
    ),
    Row(format="TIFF", colours=("palette",), bits=_SIZES, coding=_LOSSLESS),
    Row(format="TIFF", colours=("palette",), alpha=("channel", "ignored"), coding=_LOSSLESS),
    Row(format="TIFF", colours=("CMYK",), bits=("8", "16"), planes=_ALL_PLANES, coding=_LOSSLESS),
    Row(format="TIFF", colours=("CMYK",), alpha=("ignored",), coding=_LOSSLESS),
    Row(format="TIFF", colours=("YCbCr",), coding=("JPEG",)),
    Row(format="TIFF", colours=("YCbCr 4:4:4",), coding=_LOSSLESS),
    Row(format="TIFF", colours=("CIELab",), coding=_LOSSLESS),
)


def require_decoded(kind: Kind) -> None:
    """Raise `ImageRejected` with `UNSUPPORTED_FORMAT` unless pictures of the kind are decoded."""
    if not any(row.admits(kind) for row in TABLE):
        raise ImageRejected(Reason.UNSUPPORTED_FORMAT, f"{kind} is not decoded")


def markdown_rows() -> list[tuple[str, ...]]:
    """Return the cells of the table, row by row, for documents."""
    return [(row.format, *(", ".join(getattr(row, field.name)) for field in fields(Row)[1:])) for row in TABLE]
