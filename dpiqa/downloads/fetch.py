"""Download of one file: tries until it is complete. Each try resumes where the last one stopped, in any process.

The reasons why this is not `huggingface_hub` or `gdown` are in `docs/decisions/0008-downloads.md`.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

from dpiqa.downloads.partial_file import PartialFile, open_partial_file
from dpiqa.downloads.responses import Interrupted, read_response
from dpiqa.errors import SourceUnavailable

log = structlog.get_logger()
#: Called with the bytes received, and the bytes of the whole file (None: unknown).
Progress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Time bounds of one download. Tries without a new byte are counted; a try with one resets the count."""

    connect_seconds: float = 10
    stall_seconds: float = 30  #: without a byte, or slower than `min_bytes_per_second` during all of it
    min_bytes_per_second: float = 1024
    tries: int = 6
    wait_seconds: float = 1  #: before the second try; doubles from try to try
    max_wait_seconds: float = 60  #: between two tries, also when a server asks for more
    total_seconds: float = 24 * 3600


@dataclass
class RateLimit:
    """Lower limit of one try's rate."""

    timeouts: Timeouts
    deadline: float  #: on `clock`
    clock: Callable[[], float] = time.monotonic
    _since: float = field(init=False)
    _bytes: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._since = self.clock()

    def add(self, count: int) -> None:
        """Count received bytes. Raises `Interrupted` when the rate is too low or the deadline has passed."""
        now = self.clock()
        self._bytes += count
        if now > self.deadline:
            raise Interrupted(f"it took longer than {self.timeouts.total_seconds:.0f} s in all")
        elapsed = now - self._since
        if elapsed < self.timeouts.stall_seconds:
            return
        if self._bytes < elapsed * self.timeouts.min_bytes_per_second:
            raise Interrupted(f"only {self._bytes:,} bytes came in {elapsed:.0f} s")
        self._since, self._bytes = now, 0


def fetch(
    url: str,
    target: Path,
    *,
    headers: Mapping[str, str] | None = None,
    timeouts: Timeouts | None = None,
    progress: Progress | None = None,
) -> None:
    """Download `url` to `target`, which appears when it is complete; an existing file is replaced.

    A partial file of an earlier call is resumed: with If-Range where the server names the version of its file, and in
    any case by fetching the last 64 KiB again and comparing them. `headers` go to the host of `url` only. Raises
    `SourceUnavailable` (received bytes are kept), `NotFound`, `ConfigurationError` for a disk that is full or not
    writable.
    """
    timeouts = timeouts or Timeouts()
    limits = httpx.Timeout(timeouts.stall_seconds, connect=timeouts.connect_seconds)
    with (
        open_partial_file(target) as partial,
        httpx.Client(timeout=limits, follow_redirects=True, headers=headers) as client,
    ):
        _Download(client, url, partial, timeouts, progress or (lambda _received, _total: None)).run()


class _Download:
    """Tries of one download."""

    def __init__(
        self, client: httpx.Client, url: str, partial: PartialFile, timeouts: Timeouts, progress: Progress
    ) -> None:
        self._client, self._url, self._partial, self._progress = client, url, partial, progress
        self._timeouts = timeouts
        self._deadline = time.monotonic() + timeouts.total_seconds
        self._largest_size, self._tries_without_bytes = partial.size, 0

    def run(self) -> None:
        """Try until the file is complete."""
        tries = Retrying(
            retry=retry_if_exception_type((Interrupted, httpx.TransportError)),
            stop=self._is_enough,
            wait=self._wait_seconds,
            before_sleep=self._log,
            reraise=True,
        )
        try:
            tries(self._try)
        except (Interrupted, httpx.TransportError) as error:
            address = httpx.URL(self._url).copy_with(query=None)
            raise SourceUnavailable(
                f"{address} could not be downloaded: {_reason(error)}; {self._partial.size:,} bytes downloaded",
                hint="try again: the download resumes where it stopped",
            ) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:  # endless redirects, or not an address
            raise SourceUnavailable(f"{self._url}: {error}", hint="correct the source") from error

    def _try(self) -> None:
        with self._client.stream("GET", self._url, headers=self._partial.request_headers) as response:
            if response.status_code == 416:  # the partial file is longer than the file at the source
                self._partial.reset()
                raise Interrupted("the file at the source is shorter than the partial file")
            offset = self._partial.begin(read_response(response))
            rate = RateLimit(self._timeouts, self._deadline)
            for chunk in response.iter_raw():
                rate.add(len(chunk))
                self._partial.write(offset, chunk)
                offset += len(chunk)
                self._progress(self._partial.size, self._partial.total)
        self._partial.finish()

    def _is_enough(self, _: RetryCallState) -> bool:
        """Return whether too many tries brought no new byte; a try with new bytes resets the count."""
        size = self._partial.size
        self._tries_without_bytes = 0 if size > self._largest_size else self._tries_without_bytes + 1
        self._largest_size = max(self._largest_size, size)
        return self._tries_without_bytes >= self._timeouts.tries or time.monotonic() > self._deadline

    def _wait_seconds(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        retry_after = getattr(error, "retry_after", None) or 0.0
        first, longest = self._timeouts.wait_seconds, self._timeouts.max_wait_seconds
        growing = wait_exponential(multiplier=first, max=longest) + wait_random(0, first)
        return float(min(longest, max(retry_after, growing(state))))

    def _log(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        next_try = state.attempt_number + 1
        log.warning("download_interrupted", reason=_reason(error), have=self._partial.size, again=next_try)


def _reason(error: BaseException | None) -> str:
    """Describe the error; httpx's timeouts have no text of their own."""
    if isinstance(error, httpx.TimeoutException):
        return "the server stopped responding" if isinstance(error, httpx.ReadTimeout) else "the server does not answer"
    return str(error) or type(error).__name__
