"""Image files written sample by sample, for kinds that no library writes: PNG, TIFF and BMP."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

#: First pixel and step of the seven passes of an interlaced PNG: y, x, dy, dx.
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def packed_rows(samples, bits, order=">"):
    """Rows of samples, (H, W) or (H, W, N), as bytes: each row begins with a new byte."""
    height = samples.shape[0]
    flat = samples.reshape(height, -1)
    if bits >= 16 or samples.dtype.kind == "f":
        return flat.astype(f"{order}{samples.dtype.kind}{bits // 8}").view(np.uint8).reshape(height, -1)
    if bits == 8:
        return flat.astype(np.uint8)
    each = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(each.reshape(height, -1).astype(np.uint8), axis=1)


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_file(samples, *, colour_type, bits=8, before=(), after_palette=(), palette=None, interlaced=False):
    """A PNG; `before` and `after_palette`: pairs of name and body of further chunks."""
    height, width = samples.shape[:2]
    parts = [samples[y::dy, x::dx] for y, x, dy, dx in ADAM7] if interlaced else [samples]
    rows = [row.tobytes() for part in parts if part.size for row in packed_rows(part, bits)]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, int(interlaced))), *before]
    chunks += [(b"PLTE", palette)] if palette is not None else []
    chunks += [*after_palette, (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def tiff_file(tags, strips, order="<", big=False):
    """A TIFF of one directory. `tags`: number -> integer, list of integers (of 16 bits), or bytes."""
    count, offset = ("Q", 8) if big else ("I", 4)
    values = {tag: value if isinstance(value, list | bytes) else [value] for tag, value in tags.items()}
    values |= {273: [0] * len(strips), 279: [len(strip) for strip in strips]}
    n_head = 16 if big else 8
    n_directory = (16 + 20 * len(values)) if big else (6 + 12 * len(values))
    at, entries, blobs = n_head + n_directory, b"", b""
    ends = np.cumsum([0, *map(len, strips)]).tolist()

    def field(tag, value):
        if isinstance(value, bytes):
            return 2 if value.endswith(b"\0") else 7, len(value), value
        kind, code = (4, "I") if tag in (273, 279) else (3, "H")
        return kind, len(value), struct.pack(f"{order}{len(value)}{code}", *value)

    out_of_line = sum(len(raw) + len(raw) % 2 for _, _, raw in map(field, values, values.values()) if len(raw) > offset)
    values[273] = [at + out_of_line + end for end in ends[:-1]]
    for tag in sorted(values):
        kind, number, raw = field(tag, values[tag])
        if len(raw) > offset:
            place = struct.pack(f"{order}{count}", at + len(blobs))
            blobs += raw + bytes(len(raw) % 2)
        else:
            place = raw.ljust(offset, b"\0")
        entries += struct.pack(f"{order}HH{count}", tag, kind, number) + place
    mark = b"II" if order == "<" else b"MM"
    head = struct.pack(f"{order}HHHQ", 43, 8, 0, 16) if big else struct.pack(f"{order}HI", 42, 8)
    directory = struct.pack(f"{order}{'Q' if big else 'H'}", len(values)) + entries + bytes(offset)
    return mark + head + directory + blobs + b"".join(strips)


def compressed(rows, coding):
    """Rows of bytes, (H, W), as Pillow's encoder of this TIFF compression packs them, in one strip."""
    if coding is None:
        return rows.tobytes()
    if coding in ("tiff_ccitt", "group3", "group4"):
        image = Image.frombytes("1", (rows.shape[1] * 8, rows.shape[0]), rows.tobytes())
    else:
        image = Image.fromarray(rows)
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", compression=coding, tiffinfo={278: rows.shape[0]}, strip_size=1 << 30)
    with Image.open(buffer) as saved:
        [start], [size] = saved.tag_v2[273], saved.tag_v2[279]
    return buffer.getvalue()[start : start + size]


def bmp_file(rows, size, bits, *, compression=0, masks=(), palette=b"", header=40, colours=0, after=b""):
    """A BMP from its bytes. `rows`: bytes of the pixels, `size`: width, height."""
    if header == 12:
        head = struct.pack("<IHHHH", 12, *size, 1, bits)
    else:
        head = struct.pack("<IiiHHIIiiII", header, *size, 1, bits, compression, len(rows), 0, 0, colours, 0)
        more = struct.pack(f"<{len(masks)}I", *masks)
        head += more if header == 40 else more.ljust(header - 40, b"\0")
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + head + palette + rows + after


def bmp_rows(rows):
    """Rows of bytes, (H, W), from the last to the first, each padded to four bytes."""
    return np.pad(rows[::-1], ((0, 0), (0, -rows.shape[1] % 4))).tobytes()
