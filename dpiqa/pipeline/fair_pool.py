"""Threads that groups, such as buckets, share fairly: a group that is slow holds its own part of them and no more."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")
G = TypeVar("G", bound=Hashable)  #: a group


@dataclass(eq=False, slots=True)
class _Call(Generic[G]):
    """One call, waiting or running."""

    group: G
    function: Callable[..., Any]
    args: tuple[Any, ...]
    future: "Future[Any]" = field(default_factory=Future)
    started: float | None = None  #: by `time.monotonic`


@dataclass(slots=True)
class _Waiting(Generic[G]):
    """The calls of a group that wait, each kind in the order of their arrival."""

    urgent: deque[_Call[G]] = field(default_factory=deque)
    other: deque[_Call[G]] = field(default_factory=deque)


class FairPool(Generic[G]):
    """Runs calls in up to `threads` threads. Groups with waiting calls take turns; urgent calls of any group go first.

    `has_room(group, running, urgent)` says whether another call of a group may start beside `running`, the number of
    running calls by group. It is asked under the pool's lock: it must be quick, and must not call the pool. When its
    answer may have changed other than by the end of a call, call `start`.
    """

    def __init__(
        self, threads: int, *, has_room: Callable[[G, Mapping[G, int], bool], bool], name: str = "pool"
    ) -> None:
        self._n_threads, self._has_room = threads, has_room
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._waiting: OrderedDict[G, _Waiting[G]] = OrderedDict()  # the group whose turn is next comes first
        self._running: dict[G, set[_Call[G]]] = {}
        self._calls: dict[Future[Any], _Call[G]] = {}  # running
        self._closed = False

    def submit(self, group: G, function: Callable[..., T], *args: object, urgent: bool = False) -> "Future[T]":
        """Call the function in a thread, when it is its turn. The future can be cancelled until then.

        Raises `RuntimeError` after `close`.
        """
        call = _Call(group, function, args)
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            waiting = self._waiting.setdefault(group, _Waiting())
            (waiting.urgent if urgent else waiting.other).append(call)
        self.start()
        return cast("Future[T]", call.future)

    def start(self) -> None:
        """Start the calls that have room."""
        with self._lock:
            while not self._closed and len(self._calls) < self._n_threads:
                call = self._next()
                if call is None:
                    return
                call.started = time.monotonic()
                self._calls[call.future] = call
                self._running.setdefault(call.group, set()).add(call)
                self._threads.submit(self._run, call)

    def ages(self) -> dict[G, list[float]]:
        """Return for how many seconds the running calls have run, by group."""
        now = time.monotonic()
        with self._lock:
            return {group: [now - (call.started or now) for call in calls] for group, calls in self._running.items()}

    def age(self, future: "Future[Any]") -> float | None:
        """Return for how many seconds this call has run; None where it is waiting or has ended."""
        with self._lock:
            call = self._calls.get(future)
        return None if call is None or call.started is None else time.monotonic() - call.started

    def close(self) -> None:
        """Cancel the waiting calls and wait for the running ones. Idempotent."""
        with self._lock:
            self._closed = True
            waiting = [call for of_group in self._waiting.values() for call in (*of_group.urgent, *of_group.other)]
            self._waiting.clear()
        for call in waiting:
            call.future.cancel()
        self._threads.shutdown(wait=True)

    def _next(self) -> _Call[G] | None:
        """Take the call whose turn it is, and let its group wait for its next turn. None if none has room."""
        running = {group: len(calls) for group, calls in self._running.items()}
        for urgent in (True, False):
            for group, waiting in list(self._waiting.items()):
                calls = waiting.urgent if urgent else waiting.other
                while calls and calls[0].future.cancelled():
                    calls.popleft()
                if not waiting.urgent and not waiting.other:
                    del self._waiting[group]
                elif calls and self._has_room(group, running, urgent):
                    self._waiting.move_to_end(group)
                    return calls.popleft()
        return None

    def _run(self, call: _Call[G]) -> None:
        result: Any = None
        error: BaseException | None = None
        is_running = call.future.set_running_or_notify_cancel()
        if is_running:
            try:
                result = call.function(*call.args)
            except BaseException as raised:  # the future carries it to the caller
                error = raised
        with self._lock:
            del self._calls[call.future]
            calls = self._running[call.group]
            calls.remove(call)
            if not calls:
                del self._running[call.group]
        if error is not None:
            call.future.set_exception(error)
        elif is_running:
            call.future.set_result(result)
        self.start()
