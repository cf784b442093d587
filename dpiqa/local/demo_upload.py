"""The thread that spoils and uploads the demo's photographs while the main thread looks after the processes."""

import threading

from dpiqa.local.demo_photos import Plan
from dpiqa.local.s3 import make_client


class Uploader(threading.Thread):
    """Spoils and uploads the photographs."""

    def __init__(self, photographs: Plan, endpoint: str, bucket: str) -> None:
        super().__init__(name="uploader", daemon=True)
        self._plan, self._bucket = photographs, bucket
        self._s3 = make_client("s3", endpoint)
        self.sent = 0
        self.total = photographs.total
        self.error: Exception | None = None

    def run(self) -> None:
        """Upload everything, or keep the error for the main thread."""
        try:
            for upload in self._plan.uploads():
                self._s3.put_object(Bucket=self._bucket, Key=upload.key, Body=upload.data)
                self.sent += 1
            self.total = self.sent  # a file that is no image has no copies
        except Exception as error:
            self.error = error
