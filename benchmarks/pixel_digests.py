"""Digests of the pixels that images are scored by, to compare two releases.

    python benchmarks/pixel_digests.py FOLDER > before.txt      # with one release installed
    python benchmarks/pixel_digests.py FOLDER > after.txt       # with the other
    diff before.txt after.txt

Prints, for every file below the folder, the SHA-256 of its pixels at 512x512 or the reason of its rejection, and its
path. On stderr: the processor time per image.
"""

import argparse
import hashlib
import sys
import time
from pathlib import Path

from dpiqa.errors import ImageRejected
from dpiqa.imaging.decode import Limits, decode_and_prepare
from dpiqa.imaging.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(width=512, height=512)


def digest(file: Path) -> str:
    """Return the digest of an image's pixels, or the reason why it has none."""
    try:
        pixels = decode_and_prepare(file.read_bytes(), PREPROCESSING, Limits())
    except ImageRejected as rejection:
        return str(rejection.reason)
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def main() -> None:
    """Print the digests of all files below a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    if not folder.is_dir():
        parser.error(f"{folder} is not a folder")
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    started = time.process_time()
    for file in files:
        sys.stdout.write(f"{digest(file)}  {file.relative_to(folder)}\n")
    milliseconds = 1000 * (time.process_time() - started) / max(len(files), 1)
    sys.stderr.write(f"{len(files)} files, {milliseconds:.1f} ms of processor time each\n")


if __name__ == "__main__":
    main()
