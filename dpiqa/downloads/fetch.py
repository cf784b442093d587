"""The download of one file: tries until it is whole, each going on where the last stopped, even of another process."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.wait import wait_exponential, wait_random

from dpiqa.downloads.answers import read_answer
from dpiqa.downloads.errors import Interrupted
from dpiqa.downloads.part import Part
from dpiqa.downloads.patience import Pace, Patience
from dpiqa.errors import SourceUnavailable

log = structlog.get_logger()
#: Told how many bytes are here, and how many there will be (None: unknown).
Progress = Callable[[int, int | None], None]


def fetch(
    url: str,
    target: Path,
    *,
    headers: Mapping[str, str] | None = None,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> None:
    """Download `url` to `target`, which appears when it is whole; an existing file is replaced.

    A part that an earlier call left is continued: with If-Range where the server names the version of its file, and in
    any case by fetching the last 64 KiB again and comparing them. `headers` go to the host of `url` only. Raises
    `SourceUnavailable` (what came is kept), `NotFound`, `ConfigurationError` for a disk that is full or not writable.
    """
    allowed = patience or Patience()
    timeout = httpx.Timeout(allowed.stall_seconds, connect=allowed.connect_seconds)
    with Part(target) as part, httpx.Client(timeout=timeout, follow_redirects=True, headers=headers) as client:
        _Download(client, url, part, allowed, progress or _unwatched).run()


class _Download:
    """The tries of one download."""

    def __init__(self, client: httpx.Client, url: str, part: Part, patience: Patience, progress: Progress) -> None:
        self._client, self._url, self._part, self._patience, self._progress = client, url, part, patience, progress
        self._deadline = time.monotonic() + patience.total_seconds
        self._furthest, self._idle = part.have, 0

    def run(self) -> None:
        """Try until the file is whole."""
        tries = Retrying(
            retry=retry_if_exception_type((Interrupted, httpx.TransportError)),
            stop=self._is_enough,
            wait=self._pause,
            before_sleep=self._note,
            reraise=True,
        )
        try:
            tries(self._try)
        except (Interrupted, httpx.TransportError) as error:
            place = httpx.URL(self._url).copy_with(query=None)
            raise SourceUnavailable(
                f"{place} could not be downloaded: {_reason(error)}; {self._part.have:,} bytes are here",
                hint="try again: the download goes on where it stopped",
            ) from error
        except (httpx.RequestError, httpx.InvalidURL) as error:  # redirects without end, an address that is none
            raise SourceUnavailable(f"{self._url}: {error}", hint="correct the source") from error

    def _try(self) -> None:
        with self._client.stream("GET", self._url, headers=self._part.headers) as response:
            if response.status_code == 416:  # what is here is longer than the file there
                self._part.reset()
                raise Interrupted("the file at the source is shorter than what is here")
            self._take(response)
        self._part.finish()

    def _take(self, response: httpx.Response) -> None:
        place = self._part.begin(read_answer(response))
        pace = Pace(self._patience, self._deadline)
        for chunk in response.iter_raw():
            pace.got(len(chunk))
            self._part.put(place, chunk)
            place += len(chunk)
            self._progress(self._part.have, self._part.total)

    def _is_enough(self, _: RetryCallState) -> bool:
        """Count tries that brought nothing; one that did starts the count afresh."""
        have = self._part.have
        self._idle = 0 if have > self._furthest else self._idle + 1
        self._furthest = max(self._furthest, have)
        return self._idle >= self._patience.tries or time.monotonic() > self._deadline

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = getattr(error, "retry_after", None) or 0.0
        first, longest = self._patience.wait_seconds, self._patience.longest_wait
        growing = wait_exponential(multiplier=first, max=longest) + wait_random(0, first)
        return float(min(longest, max(asked, growing(state))))

    def _note(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning("download_interrupted", reason=_reason(error), have=self._part.have, again=state.attempt_number + 1)


def _unwatched(_done: int, _total: int | None) -> None:
    """Nobody looks."""


def _reason(error: BaseException | None) -> str:
    """Say what happened; httpx's timeouts have no text of their own."""
    if isinstance(error, httpx.TimeoutException):
        return "the server fell silent" if isinstance(error, httpx.ReadTimeout) else "the server does not answer"
    return str(error) or type(error).__name__
