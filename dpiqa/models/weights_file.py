"""Layout of safetensors files, as far as it is needed to name a damaged tensor. Free of torch.

A file: 8 bytes with the header's length; the header, JSON: name -> dtype, shape, first and last byte; the tensors.
Files that we write carry a digest of every tensor: the file's own sha256 shows that something changed, these show what.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

DIGESTS = "dpiqa.digests"  #: the one metadata key: with several, safetensors would write equal files in unequal bytes
_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000  #: bytes, the format's own limit
_DIGEST_LENGTH = 16  #: hex digits, against accidents; the card's sha256 guards against tampering


@dataclass(frozen=True, slots=True)
class Header:
    """Header of a safetensors file."""

    ranges: dict[str, tuple[int, int]]  #: tensor -> first byte, byte after the last, from the start of the file
    metadata: dict[str, str]


def read_header(path: Path) -> Header:
    """Read the header. Raises `ValueError` saying what is wrong with it, `OSError` for a file that cannot be read."""
    with path.open("rb") as file:
        length = _header_length(file, path.stat().st_size)
        try:
            entries = json.loads(file.read(length))
            metadata = entries.pop("__metadata__", {})
            start = _LENGTH_BYTES + length
            ranges = {name: _byte_range(entry, start) for name, entry in entries.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("its header is not a safetensors header") from error
    return Header(ranges, metadata)


def find_damage(path: Path) -> str:
    """Describe the first damage of a safetensors file, naming the tensor; "" if there is none."""
    try:
        header = read_header(path)
        size = path.stat().st_size
        for name, (_, end) in sorted(header.ranges.items(), key=lambda entry: entry[1]):
            if end > size:
                return f"it is cut off within tensor {name}, which ends at byte {end:,} of {size:,}"
        expected = json.loads(header.metadata.get(DIGESTS, "{}"))
        with path.open("rb") as file:
            return next(_changed(file, header, expected), "")
    except (TypeError, AttributeError):
        return "its metadata is damaged"
    except (ValueError, OSError) as error:
        return str(error)


def digest_of(data: Any) -> str:
    """Return the digest of one tensor's bytes (anything with the buffer protocol)."""
    return hashlib.sha256(data).hexdigest()[:_DIGEST_LENGTH]


def digests_entry(digests: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that carries the digests of a file's tensors, the same text for the same tensors."""
    return {DIGESTS: json.dumps(dict(digests), sort_keys=True, separators=(",", ":"))}


def _header_length(file: BinaryIO, size: int) -> int:
    first = file.read(_LENGTH_BYTES)
    length = int.from_bytes(first, "little")
    if len(first) < _LENGTH_BYTES or length > _LONGEST_HEADER:
        raise ValueError("it is not a safetensors file")
    if _LENGTH_BYTES + length > size:
        raise ValueError(f"it is cut off within its header: {size:,} bytes exist")
    return length


def _byte_range(entry: Mapping[str, Any], start: int) -> tuple[int, int]:
    first, end = entry["data_offsets"]
    if not isinstance(first, int) or not isinstance(end, int) or not 0 <= first <= end:
        raise ValueError("the offsets are not valid")
    return start + first, start + end


def _changed(file: BinaryIO, header: Header, expected: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for every tensor whose bytes are not those of its digest."""
    for name, digest in expected.items():
        if name not in header.ranges:
            yield f"tensor {name} was removed"
            continue
        first, end = header.ranges[name]
        file.seek(first)
        if digest_of(file.read(end - first)) != digest:
            yield f"tensor {name} was changed"
