"""Peak memory of a decode process on bombs of every format, and on sound images up to the limits.

    python benchmarks/decode_memory.py

Each image has a process of its own. Printed: the outcome, the peak of resident memory, and the time.
"""

import argparse
import io
import struct
import sys
import time
import zlib
from collections.abc import Iterator

import numpy as np
import psutil
from PIL import Image

from dpiqa.errors import DpiqaError, ImageRejected
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.preprocessing import Preprocessing

SIZE = Preprocessing(width=512, height=512)
WIDTH, HEIGHT = 8000, 6240  #: just within 50 megapixels


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    """Return the bytes of the image in a format."""
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int, colour: int, channels: int) -> bytes:
    """Return a PNG of zeros: a few kilobytes that become gigabytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    row = b"\0" + bytes((width * channels * bits + 7) // 8)
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def profile_bomb(n_bytes: int) -> bytes:
    """Return a small PNG whose ICC profile and text unpack to this many bytes each."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    whole = png(64, 64, 8, 2, 3)
    at = whole.index(b"IDAT") - 4
    packed = zlib.compress(bytes(n_bytes), 9)
    return whole[:at] + chunk(b"iCCP", b"p\0\0" + packed) + chunk(b"zTXt", b"t\0\0" + packed) + whole[at:]


def tiff_bomb() -> bytes:
    """Return a TIFF whose header promises a strip of the largest size."""
    small = bytearray(encoded(Image.new("RGB", (16, 16)), "TIFF", compression="tiff_deflate"))
    for tag, value in ((256, 16_000), (257, 3_000), (278, 3_000)):
        at = small.index(struct.pack("<HH", tag, 4)) if struct.pack("<HH", tag, 4) in small else -1
        at = at if at >= 0 else small.index(struct.pack("<HH", tag, 3))
        small[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(small)


def corpus() -> Iterator[tuple[str, bytes]]:
    """Yield names and bytes, one at a time: they are large."""
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    yield "sound: JPEG, 50 MP", encoded(photo, "JPEG", quality=85)
    yield "sound: JPEG, 50 MP, progressive", encoded(photo, "JPEG", quality=85, progressive=True)
    yield "sound: JPEG, 50 MP, CMYK", encoded(photo.convert("CMYK"), "JPEG", quality=60)
    exif = Image.Exif()
    exif[274] = 6
    yield "sound: JPEG, 50 MP, turned", encoded(photo, "JPEG", quality=85, exif=exif)
    yield "sound: WebP, 50 MP", encoded(photo, "WEBP", quality=60, method=0)
    yield "sound: AVIF, 50 MP", encoded(photo, "AVIF", quality=40, speed=10)
    yield "sound: JPEG 2000, 12 MP", encoded(photo.resize((4000, 3000)), "JPEG2000", quality_layers=[40])
    yield "sound: BMP, 16 MP", encoded(photo.resize((4608, 3456)), "BMP")
    yield "sound: TIFF, 50 MP, deflate", encoded(photo, "TIFF", compression="tiff_deflate")
    yield "sound: GIF, 50 MP", encoded(photo.quantize(64), "GIF")
    yield "sound: PNG, 50 MP, RGB", encoded(photo, "PNG", compress_level=1)
    del photo
    yield "sound: PNG, 50 MP, RGBA of 16 bits", png(WIDTH, HEIGHT, 16, 6, 4)
    yield "sound: PNG, 50 MP, grey of 16 bits", png(WIDTH, HEIGHT, 16, 0, 1)
    yield "sound: PNG, 50 MP, RGB of 16 bits", png(WIDTH, HEIGHT, 16, 2, 3)
    yield "bomb: PNG, 268 MP", png(16_384, 16_384, 1, 0, 1)
    yield "bomb: PNG, profile and text of 1 GB", profile_bomb(10**9)
    yield "bomb: GIF, 49 MP in 200 bytes", encoded(Image.new("P", (7000, 7000)), "GIF")
    frames = [Image.new("P", (4000, 4000), n % 256) for n in range(30)]
    yield "bomb: GIF, 30 frames of 16 MP", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    yield (
        "bomb: WebP, 30 frames of 16 MP",
        encoded(frames[0].convert("RGB"), "WEBP", save_all=True, append_images=[f.convert("RGB") for f in frames[1:9]]),
    )
    yield "bomb: TIFF, strip that is not there", tiff_bomb()
    yield "bomb: JPEG, 65500 x 700 in its header", _jpeg_with_size(65_500, 700)
    yield "bomb: JPEG, 7000 x 7000 in its header", _jpeg_with_size(7_000, 7_000)
    yield "bomb: JPEG, 300 scans", _many_scans(300)
    yield "bomb: TIFF, float, 12000 x 4000", encoded(Image.fromarray(np.zeros((4000, 12000), np.float32)), "TIFF",
                                                     compression="tiff_deflate")  # fmt: skip


def _jpeg_with_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(Image.new("RGB", (64, 64)), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _many_scans(n: int) -> bytes:
    data = encoded(Image.new("RGB", (7000, 7000)), "JPEG", progressive=True)
    at = data.rindex(b"\xff\xda")
    return data[:at] + data[at:-2] * n + data[-2:]


def measure(data: bytes) -> tuple[str, int, float]:
    """Decode in a process of its own; return the outcome, its peak in bytes and the seconds."""
    with DecodePool(1, Limits()) as pool:
        pool.start()
        (child,) = [p for p in psutil.Process().children() if "dpiqa.imaging.child" in " ".join(p.cmdline())]
        began, peak = time.monotonic(), 0
        future = pool.submit(data, SIZE)
        while True:
            ended = future.done()
            try:
                with open(f"/proc/{child.pid}/status") as status:  # noqa: PTH123
                    peaks = [int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM")]
                peak = max([peak, *peaks])
            except OSError:
                pass
            if ended:
                break
            time.sleep(0.01)
        try:
            future.result()
            outcome = "decoded"
        except ImageRejected as error:
            outcome = f"{error.reason}: {error.message}"
        except DpiqaError as error:
            outcome = str(error)
    return outcome, peak, time.monotonic() - began


def main() -> int:
    """Print a line per image. Returns 1 if a peak is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=700, help="MB that no process may exceed")
    parser.add_argument("--only", default="", help="only images whose name has this part")
    arguments = parser.parse_args()
    highest = 0
    for name, data in corpus():
        if arguments.only in name:
            outcome, peak, seconds = measure(data)
            highest = max(highest, peak)
            print(f"{name:40} {len(data) / 1e6:8.2f} MB  peak {peak / 1e6:5.0f} MB  {seconds:5.1f} s  {outcome[:90]}")
    print(f"highest peak {highest / 1e6:.0f} MB")
    return int(highest > arguments.limit * 10**6)


if __name__ == "__main__":
    sys.exit(main())
