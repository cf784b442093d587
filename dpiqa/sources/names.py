"""Names of objects: which by their name are not images, and which match a glob. Pure."""

import fnmatch
import re
from collections.abc import Callable, Sequence

_EXTENSIONS = """
txt md rst rtf pdf doc docx odt xls xlsx ods ppt pptx htm html css js ts py sh log tex
json jsonl ndjson geojson xml csv tsv yaml yml toml ini cfg conf sql db sqlite sqlite3
parquet orc avro arrow feather npy npz h5 hdf5 pkl pickle pt pth ckpt onnx safetensors tfrecord mat lmdb
xmp aae pp3 dop lrcat lrprev lrdata cos cop manifest
mp4 m4v mov avi mkv webm wmv flv mpg mpeg mts m2ts 3gp ogv mp3 wav m4a aac flac ogg opus
zip tar gz tgz bz2 xz zst 7z rar iso md5 sha1 sha256 sha512 crc sfv sig asc checksum
tmp bak part partial crdownload lock lnk url torrent exe dll so
"""
#: Extensions of files that lie beside images in archives and are not images. An image of an unusual format is not among
#: them: it becomes an item, and its job says that the format is unsupported.
NOT_IMAGES = frozenset(_EXTENSIONS.split())
_NAMES = frozenset({"thumbs.db", ".ds_store", "desktop.ini", "ehthumbs.db", ".localized", ".picasa.ini", "_success"})


def is_no_image(key: str) -> bool:
    """Return whether the name alone says that the object is not an image: an extension, `._*`, or a folder's own file.

    A key that ends with `/` is a folder marker.
    """
    name = key.rpartition("/")[2]
    if not name or name.startswith("._"):
        return True
    stem, dot, extension = name.rpartition(".")
    return bool(dot and stem and extension.lower() in NOT_IMAGES) or name.lower() in _NAMES


def matcher(globs: Sequence[str]) -> Callable[[str], bool] | None:
    """Return a function that says whether a key matches any of the globs; None where there are none.

    A glob without `/` is compared with the last part of the key, another one with the whole key. `*` also matches `/`.
    Case counts.
    """
    if not globs:
        return None
    of_names = [fnmatch.translate(glob) for glob in globs if "/" not in glob]
    of_keys = [fnmatch.translate(glob) for glob in globs if "/" in glob]
    match_name = re.compile("|".join(of_names)).match if of_names else None
    match_key = re.compile("|".join(of_keys)).match if of_keys else None

    def matches(key: str) -> bool:
        if match_key is not None and match_key(key):
            return True
        return match_name is not None and match_name(key.rpartition("/")[2]) is not None

    return matches
