"""Space that an installation with each extra takes: bytes of its packages' files, and those of CUDA among them.

    python benchmarks/install_size.py                 a table for docs/installation.md
    python benchmarks/install_size.py --images        the packages of the containers' targets, for docs/containers.md
    python benchmarks/install_size.py --largest 8     and the largest packages

Reads the environment that it runs in (that of `make test` has every extra): follows the requirements of dpiqa with an
extra, and adds up the files that each package installed. Nothing is downloaded.
"""

import argparse
import re
import sys
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dpiqa.text import markdown_table

#: NVIDIA's libraries and what only they use. PyTorch's CPU build comes without them.
CUDA = re.compile(r"nvidia-.*|cuda-.*|triton")
EXTRAS = ("", "worker", "api", "parquet", "formats", "raw", "local", "models", "server", "demo", "train", "all")
#: Extras of the targets of deploy/Dockerfile that install anything of their own.
IMAGES = ("api,worker,parquet", "worker,models,parquet,promptiqa,formats,raw")


def closure(name: str, extras: str) -> set[str]:
    """Return the names of all packages that `name[extras]` requires here, itself included."""
    found: set[tuple[str, str]] = set()
    waiting = [(canonicalize_name(name), extra) for extra in ("", *filter(None, extras.split(",")))]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        for text in distribution(one[0]).requires or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate({"extra": one[1]}):
                continue
            waiting += [(canonicalize_name(requirement.name), wanted) for wanted in ("", *requirement.extras)]
    return {package for package, _ in found}


def size(package: Distribution) -> int:
    """Return the bytes of the files that a package installed, with those that pip compiled."""
    files = [Path(file.locate()) for file in package.files or []]
    return sum(file.stat().st_size for file in files if file.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=0, metavar="N", help="also list the N largest packages")
    parser.add_argument("--images", action="store_true", help="the containers' targets instead of single extras")
    words = parser.parse_args()
    sizes: dict[str, int] = {canonicalize_name(found.name): size(found) for found in distributions()}
    rows = []
    for extra in IMAGES if words.images else EXTRAS:
        packages = closure("dpiqa", extra) - {"dpiqa"}
        cuda = sum(sizes[name] for name in packages if CUDA.fullmatch(name))
        total = sum(sizes[name] for name in packages)
        rows.append(
            (f"`dpiqa[{extra}]`" if extra else "`dpiqa`", len(packages), *(f"{n / 1e6:,.0f} MB" for n in (total, cuda)))
        )
    sys.stdout.write(markdown_table(("install", "packages", "size", "of it CUDA"), rows) + "\n")
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True)[: words.largest]:
        sys.stdout.write(f"{sizes[name] / 1e6:8,.0f} MB  {name}\n")


if __name__ == "__main__":
    main()
