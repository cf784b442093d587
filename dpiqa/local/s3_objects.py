"""Objects of the embedded S3 on disk: moto keeps them in memory, and they would end with its process.

One file per object: a line of JSON with its key, ETag, date and headers, then its bytes. Of a bucket with versions only
the newest one is kept; notifications, policies and other settings of buckets are not.
"""

import contextlib
import functools
import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from dpiqa.files import replace_file

_Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class ObjectFolder:
    """A folder with a copy of every object, up to date before the request that changed it is answered."""

    def __init__(self, folder: Path, backend: Any) -> None:
        """`backend` is moto's `S3Backend` of the account; its methods are wrapped to see what changes."""
        self._folder, self._backend = folder, backend
        self._request = threading.local()  # `changed`: what this thread's request has changed
        for name in ("create_bucket", "delete_bucket", "put_object", "delete_object"):
            setattr(backend, name, self._noting(getattr(backend, name)))

    def load(self) -> int:
        """Give the backend the buckets and objects of the folder; return how many objects. Sends no events."""
        self._request.changed = set()
        n = 0
        for bucket in sorted(path for path in self._folder.glob("*") if path.is_dir()):
            self._backend.create_bucket(bucket.name, "us-east-1")
            for path in bucket.iterdir():
                if ".partial-" in path.name:  # of a process that was killed while it wrote
                    path.unlink()
                    continue
                with path.open("rb") as file:
                    header = json.loads(file.readline())
                    key = self._backend.put_object(
                        bucket.name, header["key"], file.read(), storage=header["storage"], etag=header["etag"]
                    )
                key.last_modified = datetime.fromisoformat(header["last_modified"])
                key.set_metadata(header["metadata"], replace=True)
                n += 1
        return n

    def saving(self, app: _Wsgi) -> _Wsgi:
        """Return the app; what a request changed is on disk before its answer is sent."""

        def saved(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            self._request.changed = set()
            answer = app(environ, start_response)
            for bucket, key in self._request.changed:
                self._save(bucket, key)
            return answer

        return saved

    def _noting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def noting(bucket_name: str, *args: Any, **kwargs: Any) -> Any:
            key = kwargs.get("key_name", args[0] if args else None) if "object" in method.__name__ else None
            self._request.changed.add((bucket_name, key))
            return method(bucket_name, *args, **kwargs)

        return noting

    def _save(self, bucket: str, key: str | None) -> None:
        """Make the folder equal to the backend in one object, or in one bucket's existence."""
        folder = self._folder / bucket
        if bucket not in self._backend.buckets:
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()
            return
        folder.mkdir(parents=True, exist_ok=True)
        if key is None:
            return
        path = folder / hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        stored = self._backend.buckets[bucket].keys.get(key)
        if not hasattr(stored, "value"):  # deleted, or a delete marker
            path.unlink(missing_ok=True)
            return
        header = {
            "key": key,
            "etag": stored.etag.strip('"'),
            "last_modified": stored.last_modified.isoformat(),
            "storage": stored.storage_class,
            "metadata": dict(stored.metadata),
        }
        replace_file(path, lambda partial: partial.write_bytes(json.dumps(header).encode() + b"\n" + stored.value))
