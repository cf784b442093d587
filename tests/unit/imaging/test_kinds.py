"""Pictures of every row of the table of kinds, written sample by sample, against their expected pixels."""

from dataclasses import fields
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from support.images import encoded, photograph
from support.raw_files import bmp_file, bmp_rows, compressed, packed_rows, png_file, tiff_file

from dpiqa.errors import ImageRejected
from dpiqa.imaging.decode import Limits, decode
from dpiqa.imaging.headers import read_header
from dpiqa.imaging.kinds import TABLE, Kind, Row, require_decoded
from dpiqa.types import Reason

FILES = Path(__file__).parent / "pictures"
PHOTO = photograph(48, 32)
RGB = np.asarray(PHOTO)
GREY = np.asarray(PHOTO.convert("L"))
ALPHA = RGB[..., 0]
PALETTE = np.random.default_rng(5).integers(0, 256, (256, 3), dtype=np.uint8)
CODINGS = {
    "none": (1, None),
    "LZW": (5, "tiff_lzw"),
    "deflate": (8, "tiff_adobe_deflate"),
    "PackBits": (32773, "packbits"),
    "LZMA": (34925, "lzma"),
    "Zstandard": (50000, "zstd"),
    "CCITT RLE": (2, "tiff_ccitt"),
    "CCITT G3": (3, "group3"),
    "CCITT G4": (4, "group4"),
}


def grey(samples):
    return np.dstack([samples] * 3)


def over_grey(colour, alpha):
    share = np.asarray(alpha)[..., None] / 255
    return colour * share + 128 * (1 - share)


def depth(samples, bits):
    """8-bit samples at another depth, and what they are in 8 bits then."""
    white = (1 << bits) - 1
    deep = (samples.astype(np.uint64) * white + 127) // 255
    return deep.astype(np.uint16 if bits > 8 else np.uint8), np.rint(deep * (255 / white))


def kinds(row):
    names = [field.name for field in fields(Row)[1:]]
    for values in product(*(getattr(row, name) for name in names)):
        yield Kind(format=row.format, **dict(zip(names, values, strict=True)))


def png_picture(kind):
    bits = int(kind.bits)
    options = {"bits": bits, "interlaced": kind.planes == "interlaced"}
    if kind.colours == "palette":
        index, _ = depth(GREY, bits)
        colours, entries = PALETTE[index], 1 << bits
        options |= {"palette": PALETTE[:entries].tobytes(), "colour_type": 3}
        if kind.alpha == "named":
            opacity = np.arange(255, 255 - entries, -1).clip(0)[::-1]
            options["after_palette"] = [(b"tRNS", bytes(opacity.tolist()))]
            colours = over_grey(colours, opacity[index])
        return png_file(index, **options), colours
    samples, shown = depth(GREY if kind.colours == "grey" else RGB, bits)
    shown = grey(shown) if kind.colours == "grey" else shown
    if kind.alpha == "channel":
        alpha, _ = depth(ALPHA, bits)
        samples = np.dstack([samples, alpha])
        return png_file(samples, colour_type=4 if kind.colours == "grey" else 6, **options), over_grey(shown, ALPHA)
    if kind.alpha == "named":
        if bits == 16:
            samples[:8] ^= 1  # colours that differ in the last bit only
            samples[:4, :20] = samples[20, 20]
            samples[4:8, :20] = samples[20, 20] ^ 1
            shown = np.rint(samples / 257.0) if kind.colours == "RGB" else grey(np.rint(samples / 257.0))
        named = samples[20, 20]
        same = (samples == named).reshape(*GREY.shape, -1).all(axis=-1)
        options["after_palette"] = [(b"tRNS", np.atleast_1d(named).astype(">u2").tobytes())]
        shown = over_grey(shown, np.where(same, 0, 255))
    return png_file(samples, colour_type=0 if kind.colours == "grey" else 2, **options), shown


PHOTOMETRIC = {"min-is-white": 0, "min-is-black": 1, "RGB": 2, "palette": 3, "CMYK": 5}
EXTRA = {"none": [], "channel": [2], "premultiplied": [1], "ignored": [0]}


def tiff_samples(kind):
    """Samples (H, W) or (H, W, N) of a kind, and the expected pixels."""
    bits = int(kind.bits)
    if kind.samples == "float":
        samples, shown = (GREY / 255).astype(np.float32), grey(GREY)
    elif kind.samples == "signed" or bits == 32:  # from 0 to 65,535 white is known; more is stretched
        samples = (
            (GREY.astype(np.int64) * 100 - 9000) if kind.samples == "signed" else GREY.astype(np.int64) * 9_000_000
        )
        samples = samples.astype(f"{'i' if kind.samples == 'signed' else 'u'}{bits // 8}")
        shown = grey(np.rint((GREY - float(GREY.min())) * 255 / (int(GREY.max()) - int(GREY.min()))))
    elif kind.colours == "palette":
        samples, _ = depth(GREY, bits)
        shown = PALETTE[samples]
    elif kind.colours == "CMYK":
        inks = np.dstack([255 - RGB, GREY // 4])
        samples, _ = depth(inks, bits)
        shown = np.asarray(Image.fromarray(inks, "CMYK").convert("RGB"))
    else:
        samples, shown = depth(RGB if kind.colours == "RGB" else GREY, bits)
        shown = shown if kind.colours == "RGB" else grey(shown)
    if kind.colours == "min-is-white":
        shown = 255 - shown
    meaning, _, more = kind.alpha.partition(" + ")
    if meaning != "none":
        alpha, _ = depth(ALPHA, bits)
        if meaning == "premultiplied":
            samples = np.rint(samples * (ALPHA / 255.0 if samples.ndim == 2 else ALPHA[..., None] / 255.0))
            samples = samples.astype(alpha.dtype)
        samples = np.dstack([samples, alpha, *([alpha] if more else [])])
        shown = shown if meaning == "ignored" else over_grey(shown, ALPHA)
    return samples, shown


def tiff_picture(kind, order="<", big=False):
    if kind.coding == "JPEG":
        return jpeg_in_tiff(kind), RGB if kind.colours in ("RGB", "YCbCr") else grey(GREY)
    if kind.colours == "CIELab":
        return encoded(lab_photo(), "TIFF", compression=CODINGS[kind.coding][1]), RGB
    bits = int(kind.bits)
    number, pillow_name = CODINGS[kind.coding]
    if kind.colours == "YCbCr 4:4:4":
        samples, shown = np.asarray(PHOTO.convert("YCbCr")), RGB
    else:
        samples, shown = tiff_samples(kind)
    count = 1 if samples.ndim == 2 else samples.shape[2]
    planes = [samples] if kind.planes == "plain" else [samples[..., n] for n in range(count)]
    strips = [compressed(packed_rows(plane, bits, order), pillow_name) for plane in planes]
    meaning, _, more = kind.alpha.partition(" + ")
    tags = {256: 48, 257: 32, 258: [bits] * count, 259: number, 262: PHOTOMETRIC.get(kind.colours, 6), 277: count}
    tags |= {278: 32, 284: 1 if kind.planes == "plain" else 2}
    if extra := EXTRA[meaning] + [0] * bool(more):
        tags[338] = extra
    if kind.samples != "unsigned":
        tags[339] = [2 if kind.samples == "signed" else 3]
    if kind.colours == "palette":
        tags[320] = (PALETTE[: 1 << bits].T.astype(int) * 257).ravel().tolist()
    if kind.colours == "YCbCr 4:4:4":
        tags[530] = [1, 1]
    return tiff_file(tags, strips, order, big), shown


def jpeg_in_tiff(kind):
    whole = {"min-is-white": 255 - GREY, "min-is-black": GREY}.get(kind.colours, RGB)
    planes = [whole] if kind.planes == "plain" else [whole[..., n] for n in range(3)]
    options = {"keep_rgb": True} if kind.colours == "RGB" and kind.planes == "plain" else {"subsampling": 0}
    strips = [encoded(Image.fromarray(plane), "JPEG", quality=98, **options) for plane in planes]
    count = 1 if whole.ndim == 2 else 3
    photometric = 6 if kind.colours == "YCbCr" else PHOTOMETRIC[kind.colours]
    tags = {256: 48, 257: 32, 258: [8] * count, 259: 7, 262: photometric, 277: count, 278: 32}
    tags |= {284: 1 if kind.planes == "plain" else 2}
    return tiff_file(tags | ({530: [1, 1]} if photometric == 6 else {}), strips)


def lab_photo():
    lab = ImageCms.createProfile("LAB")
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), lab, "RGB", "LAB")
    return ImageCms.applyTransform(PHOTO, to_lab)


def jpeg_picture(kind):
    if kind.coding.startswith("arithmetic"):
        name = f"{kind.coding.replace(' ', '_')}_{kind.colours.lower()}.jpg"
        return (FILES / name).read_bytes(), grey(GREY) if kind.colours == "grey" else RGB
    options = {"quality": 98, "progressive": kind.coding == "progressive"}
    if kind.colours in ("CMYK", "YCCK"):
        if kind.colours == "YCCK":
            inks = np.dstack([np.asarray(Image.fromarray(255 - RGB).convert("YCbCr")), 255 - GREY // 4])
            shown = np.asarray(Image.fromarray(np.dstack([255 - RGB, GREY // 4]), "CMYK").convert("RGB"))
            data = bytearray(encoded(Image.fromarray(255 - inks, "CMYK"), "JPEG", **options))
            data[data.index(b"Adobe") + 11] = 2
        else:
            image = Image.fromarray(np.dstack([255 - RGB, GREY // 4]), "CMYK")
            data, shown = bytearray(encoded(image, "JPEG", **options)), np.asarray(image.convert("RGB"))
    else:
        more = {"keep_rgb": True} if kind.colours == "RGB" else {"subsampling": 0}
        more = {} if kind.colours == "grey" else more
        data = bytearray(encoded(PHOTO.convert("L") if kind.colours == "grey" else PHOTO, "JPEG", **options, **more))
        shown = grey(GREY) if kind.colours == "grey" else RGB
    if kind.coding == "extended":
        data[data.index(b"\xff\xc0") + 1] = 0xC1  # baseline is a part of it
    return bytes(data), shown


def bmp_picture(kind):
    size = (48, 32)
    if kind.colours == "palette":
        bits = int(kind.bits) if kind.coding == "none" else {"RLE4": 4, "RLE8": 8}[kind.coding]
        index, _ = depth(GREY, bits)
        palette = np.column_stack([PALETTE[: 1 << bits, ::-1], np.zeros(1 << bits, np.uint8)]).tobytes()
        if kind.coding == "none":
            return bmp_file(bmp_rows(packed_rows(index, bits)), size, bits, palette=palette), PALETTE[index]
        runs = b"".join(
            b"".join(bytes([1, value << 4 if bits == 4 else value]) for value in row.tolist()) + b"\0\0"
            for row in index[::-1]
        )
        data = bmp_file(runs + b"\0\1", size, bits, compression={4: 2, 8: 1}[bits], palette=palette)
        return data, PALETTE[index]
    if kind.alpha == "channel":
        rows = np.dstack([RGB[..., ::-1], ALPHA]).reshape(32, -1)
        masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        return bmp_file(bmp_rows(rows), size, 32, compression=3, masks=masks, header=124), over_grey(RGB, ALPHA)
    if kind.bits == "8:8:8":
        return bmp_file(bmp_rows(RGB[..., ::-1].reshape(32, -1)), size, 24), RGB
    widths = [int(width) for width in kind.bits.split(":")]
    parts = [RGB[..., n].astype(int) >> 8 - width for n, width in enumerate(widths)]
    words = parts[0] << widths[1] + widths[2] | parts[1] << widths[2] | parts[2]
    shown = np.dstack([np.rint(part * 255 / ((1 << width) - 1)) for part, width in zip(parts, widths, strict=True)])
    masks = ((1 << 5) - 1 << widths[1] + 5, (1 << widths[1]) - 1 << 5, 31)
    options = {"compression": 3, "masks": masks} if kind.bits == "5:6:5" else {}
    rows = words.astype("<u2").view(np.uint8)
    data = bmp_file(bmp_rows(rows), size, 16, **options)
    if options:  # the masks stand between header and pixels
        data = data[:10] + (66).to_bytes(4, "little") + data[14:]
    return data, shown


def webp_picture(kind):
    image = PHOTO.copy()
    if kind.alpha == "channel":
        image.putalpha(Image.fromarray(ALPHA))
    data = encoded(image, "WEBP", quality=100, lossless=kind.coding == "lossless", exact=True)
    return data, over_grey(RGB, ALPHA) if kind.alpha == "channel" else RGB


def gif_picture(kind):
    image = PHOTO.quantize(64)
    shown = np.asarray(image.convert("RGB"))
    options = {"interlace": int(kind.planes == "interlaced")}
    if kind.alpha == "named":
        index = int(np.asarray(image)[5, 5])
        options["transparency"] = index
        shown = over_grey(shown, np.where(np.asarray(image) == index, 0, 255))
    return encoded(image, "GIF", optimize=False, **options), shown


def avif_picture(kind):
    name = f"{kind.colours.lower()}{'_alpha' if kind.alpha == 'channel' else ''}_{kind.bits}bit.avif"
    shown = grey(GREY) if kind.colours == "grey" else RGB
    return (FILES / name).read_bytes(), over_grey(shown, ALPHA) if kind.alpha == "channel" else shown


PICTURES = {
    "PNG": (png_picture, 0.6),
    "TIFF": (tiff_picture, 1.5),
    "JPEG": (jpeg_picture, 2.5),
    "BMP": (bmp_picture, 0.6),
    "WEBP": (webp_picture, 9),
    "GIF": (gif_picture, 0.6),
    "AVIF": (avif_picture, 1.5),
}
#: No encoder at hand writes these; the rows' other kinds stand for them.
UNWRITTEN = {("AVIF", "12", "channel"), ("AVIF", "RGB", "channel")}


def name_of(row):
    return f"{row.format}-{row.colours[0]}-{row.bits[-1]}-{row.alpha[-1]}-{row.coding[0]}"


@pytest.mark.parametrize("row", TABLE, ids=name_of)
def test_every_kind_of_a_row_gives_its_pixels(row):
    picture, tolerance = PICTURES[row.format]
    for kind in kinds(row):
        if {(kind.format, kind.bits, kind.alpha), (kind.format, kind.colours, kind.alpha)} & UNWRITTEN:
            continue
        data, expected = picture(kind)
        if kind.format != "GIF":  # its header says of all the same
            assert read_header(data, kind.format).kind == kind
        shown = np.asarray(decode(data, Limits()), dtype=float)
        limit = 4 if kind.coding == "JPEG" else 2 if kind.alpha.startswith("premultiplied") else tolerance
        assert np.abs(shown - expected).mean() <= limit, kind


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_byte_orders_and_big_tiffs(order, big):
    for kind in (kind for row in TABLE if row.format == "TIFF" for kind in kinds(row)):
        if kind.coding not in ("none", "LZW") or kind.colours == "CIELab" or (kind.bits == "12" and order == ">"):
            continue
        data, expected = tiff_picture(kind, order, big)
        shown = np.asarray(decode(data, Limits()), dtype=float)
        assert np.abs(shown - expected).mean() <= (2 if kind.alpha.startswith("premultiplied") else 1.5), kind


def rejection(data):
    with pytest.raises(ImageRejected) as caught:
        decode(data, Limits())
    return caught.value


def tiff_of(samples, **tags):
    """A TIFF of grey or RGB, with other tags."""
    count = 1 if samples.ndim == 2 else samples.shape[2]
    bits = samples.dtype.itemsize * 8
    own = {256: 48, 257: 32, 258: [bits] * count, 259: 1, 262: 1 if count == 1 else 2, 277: count, 278: 32}
    return tiff_file(own | {int(tag[1:]): value for tag, value in tags.items()}, [samples.tobytes()])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff_of(GREY.astype(np.int8), t339=[2]), "signed samples"),
        (tiff_of(GREY.astype(np.float64), t339=[3]), "64 bits, float samples"),
        (tiff_of(GREY.astype(np.float16), t339=[3]), "16 bits, float samples"),
        (tiff_of(GREY.astype(np.complex64), t339=[6]), "complex samples"),
        (tiff_of(RGB, t262=9), "ICCLab"),
        (tiff_of(RGB, t262=6, t530=[2, 2]), "YCbCr 4:2:0"),
        (tiff_of(GREY, t262=77), "photometric interpretation 77"),
        (tiff_file({256: 48, 257: 32, 258: 8, 259: 1, 277: 1}, [GREY.tobytes()]), "does not say what its samples mean"),
        (tiff_of(GREY, t262=32803), "a colour filter array"),
        (tiff_of(RGB, t259=6), "old-style JPEG"),
        (tiff_of(RGB, t259=34712), "JPEG 2000"),
        (tiff_of(RGB, t259=50001), "WebP"),
        (tiff_of(RGB, t259=12345), "compression 12345"),
        (tiff_of(RGB, t266=2), "reversed bits"),
        (tiff_of(np.dstack([RGB, ALPHA])), "4 samples per pixel, of which 0 are declared extra"),
        (tiff_of(np.dstack([RGB, ALPHA]), t262=5, t332=2), "inks that are not CMYK"),
        (tiff_of(GREY, t254=1), "first picture is a preview"),
        (tiff_file({256: 48, 257: 32}, [bytes(48 * 32)], ">", big=True), "BigTIFF in big-endian byte order"),
        (bmp_file(bytes(48 * 32), (48, 32), 8, compression=4, palette=bytes(1024)), "coding: JPEG"),
        (bmp_file(bytes(48 * 32 * 4), (48, 32), 32, compression=6, masks=(1, 2, 4, 8)), "coding: alpha bit fields"),
        (bmp_file(bytes(12 * 32), (48, 32), 2, palette=bytes(16)), "2 bits"),
        (bmp_file(b"\0\1", (48, 32), 8, compression=1, palette=bytes(1024)), "leave pixels out"),
        (png_file(GREY, colour_type=5), "colour type 5"),
        (encoded(PHOTO, "JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"), "12 bits"),
        (encoded(PHOTO, "JPEG").replace(b"\xff\xc0", b"\xff\xc3"), "lossless"),
        (encoded(PHOTO, "JPEG").replace(b"\x08\0\x20\0\x30", b"\x08\0\0\0\x30"), "DNL"),
    ],
)
def test_what_is_not_in_the_table_is_named(data, words):
    rejected = rejection(data)
    assert rejected.reason is Reason.UNSUPPORTED_FORMAT
    assert words in rejected.message


def test_a_tiff_that_lacks_strips_is_damaged():
    rejected = rejection(tiff_of(GREY, t278=8))
    assert (rejected.reason, rejected.message) == (Reason.CORRUPT, "TIFF of 4 strips, of which 1 are there")


def test_no_kind_outside_the_table_is_decoded():
    with pytest.raises(ImageRejected, match="TIFF of CIELab, 16 bits, coding: none is not decoded"):
        require_decoded(Kind(format="TIFF", colours="CIELab", bits="16"))
