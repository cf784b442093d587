"""A camera raw file: a DNG with a tiny thumbnail, a mosaic, and a JPEG preview."""

import struct

import numpy as np

from support.images import encoded

_FORMATS = {1: "B", 3: "H", 4: "I"}
_THUMBNAIL, _MOSAIC = (24, 16), (128, 96)


def _directory(at, *entries):
    """A directory of a little-endian TIFF at an offset; entries are (tag, type, values or bytes)."""
    body, extra, end = b"", b"", at + 2 + 12 * len(entries) + 4
    for tag, kind, values in sorted(entries, key=lambda entry: entry[0]):
        if isinstance(values, bytes):
            raw = values
        elif kind in (5, 10):
            raw = b"".join(struct.pack("<ii", *value) for value in values)
        else:
            raw = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        if len(raw) > 4:
            body += struct.pack("<HHII", tag, kind, len(values), end + len(extra))
            extra += raw + b"\0" * (len(raw) % 2)
        else:
            body += struct.pack("<HHI", tag, kind, len(values)) + raw.ljust(4, b"\0")
    return struct.pack("<H", len(entries)) + body + struct.pack("<I", 0) + extra


def dng(preview, *, orientation=1, jpeg=None):
    """Bytes of a DNG whose largest preview shows `preview`; `jpeg`: that preview, encoded already."""
    jpeg = jpeg or encoded(preview, "JPEG", quality=95)
    thumbnail = np.asarray(preview.resize(_THUMBNAIL)).tobytes()
    mosaic = np.full(_MOSAIC[::-1], 3000, "<u2").tobytes()
    matrix = [(int(row == column), 1) for row in range(3) for column in range(3)]

    def directories(thumbnail_at, mosaic_at, jpeg_at, first_at, second_at):
        layout = [(259, 3, [1]), (284, 3, [1])]
        return (
            _directory(
                8, *layout, (254, 4, [1]), (256, 4, [_THUMBNAIL[0]]), (257, 4, [_THUMBNAIL[1]]), (258, 3, [8, 8, 8]),
                (262, 3, [2]), (271, 2, b"Acme\0"), (272, 2, b"Box\0"), (273, 4, [thumbnail_at]),
                (274, 3, [orientation]), (277, 3, [3]), (278, 4, [_THUMBNAIL[1]]), (279, 4, [len(thumbnail)]),
                (330, 4, [first_at, second_at]), (50706, 1, [1, 4, 0, 0]), (50707, 1, [1, 1, 0, 0]),
                (50708, 2, b"Acme Box\0"), (50721, 10, matrix), (50728, 5, [(1, 1)] * 3), (50778, 3, [21]),
            ),
            _directory(
                first_at, *layout, (254, 4, [0]), (256, 4, [_MOSAIC[0]]), (257, 4, [_MOSAIC[1]]), (258, 3, [16]),
                (262, 3, [32803]), (273, 4, [mosaic_at]), (277, 3, [1]), (278, 4, [_MOSAIC[1]]),
                (279, 4, [len(mosaic)]), (33421, 3, [2, 2]), (33422, 1, [0, 1, 1, 2]), (50717, 3, [4095]),
            ),
            _directory(
                second_at, (259, 3, [7]), (284, 3, [1]), (254, 4, [1]), (256, 4, [preview.width]),
                (257, 4, [preview.height]), (258, 3, [8, 8, 8]), (262, 3, [6]), (273, 4, [jpeg_at]), (277, 3, [3]),
                (278, 4, [preview.height]), (279, 4, [len(jpeg)]),
            ),
        )  # fmt: skip

    sizes = [len(part) for part in directories(0, 0, 0, 0, 0)]
    first_at = 8 + sizes[0]
    second_at = first_at + sizes[1]
    thumbnail_at = second_at + sizes[2]
    mosaic_at = thumbnail_at + len(thumbnail)
    jpeg_at = mosaic_at + len(mosaic)
    head = b"II*\0" + struct.pack("<I", 8)
    return head + b"".join(
        (*directories(thumbnail_at, mosaic_at, jpeg_at, first_at, second_at), thumbnail, mosaic, jpeg)
    )
