"""A bad image ends with a reason; the rest of its batch is scored."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from support.photos import encode, jpeg, png


def huge_header():
    """Return a PNG whose header claims 30,000 x 30,000 pixels."""
    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def test_bad_inputs_end_with_a_reason_and_the_rest_is_scored(system, s3):
    s3.put("text.jpg", b"<html>this is not an image</html>")
    s3.put("truncated.jpg", jpeg(0.5, (300, 300))[:-2000])
    s3.put("empty.jpg", b"")
    s3.put("huge.png", huge_header())
    s3.put("deleted.png", png(0.1))
    s3.delete("deleted.png")
    s3.put("gone.png", png(0.1))
    s3.put("overwritten.png", png(0.1))
    s3.put("overwritten.png", png(0.8))
    s3.put("16bit.png", encode(Image.fromarray(np.full((64, 64), 32768, np.uint16)), "PNG"))
    s3.put("cmyk.jpg", encode(Image.new("CMYK", (64, 64), (0, 0, 0, 0)), "JPEG"))
    s3.put("a key/with ümlauts+and %41.png", png(0.3))
    for number in range(10):
        s3.put(f"good/{number}.png", png(number / 10))
    system.listener()
    system.wait(lambda: system.value("SELECT count(*) FROM items") == 21, "21 items")
    s3.delete("gone.png")
    system.worker("student")
    system.worker("teacher")
    system.wait(lambda: system.ended() == 21, "21 ended items")

    ends = {}
    for key, state, reason in system.rows(
        "SELECT i.key, t.state, t.reason FROM items t JOIN images i ON i.id = t.image_id ORDER BY i.current"
    ):
        ends.setdefault(key, []).append((state, reason))
    assert ends["text.jpg"] == [("rejected", "not_an_image")]
    assert ends["truncated.jpg"] == [("rejected", "truncated")]
    assert ends["empty.jpg"] == [("rejected", "empty")]
    assert ends["huge.png"] == [("rejected", "too_many_pixels")]
    assert ends["deleted.png"] == [("deleted", "object_deleted")]
    assert ends["gone.png"] == [("deleted", "object_deleted")]
    assert ends["overwritten.png"] == [("superseded", "newer_version"), ("scored", None)]
    scores = dict(system.rows("SELECT key, score FROM results WHERE current"))
    expected = {f"good/{number}.png": number / 10 for number in range(10)}
    expected |= {"16bit.png": 0.5, "cmyk.jpg": 1.0, "overwritten.png": 0.8, "a key/with ümlauts+and %41.png": 0.3}
    assert scores == {key: pytest.approx(score, abs=0.01) for key, score in expected.items()}
