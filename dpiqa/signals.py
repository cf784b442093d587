"""Signal handlers of commands and long-running processes. They can be installed in the main thread only."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


def on_signals(action: Callable[[], object], *numbers: signal.Signals) -> None:
    """Call `action` whenever one of these signals arrives, from now on.

    It interrupts the main thread, so it must not take a lock that the main thread may hold. Setting a
    `threading.Event` that the main thread waits for takes one: poll such an event instead.
    """

    def handle(_number: int, _frame: FrameType | None) -> None:
        action()

    for number in numbers:
        signal.signal(number, handle)


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once while modules are imported, where it would raise `KeyboardInterrupt`.

    Python prints a traceback of one that it meets inside its own import machinery.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupted_by(*numbers: signal.Signals) -> Iterator[None]:
    """Let these signals end the block by `KeyboardInterrupt`, also where they were ignored."""

    def interrupt() -> NoReturn:
        raise KeyboardInterrupt

    previous = {number: signal.getsignal(number) for number in numbers}
    on_signals(interrupt, *numbers)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def ignored(*numbers: signal.Signals) -> Iterator[None]:
    """Ignore these signals during the block: for the short work that must not be left half done."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def deferred(*numbers: signal.Signals) -> Iterator[None]:
    """Let the handlers of these signals run when the block has ended, in the main thread; elsewhere they do at once.

    For blocks that run hooks of other libraries, such as a fork: Python prints what a handler raises inside a hook, and
    goes on as if the signal had not come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in handled}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for arrived in came:
        signal.raise_signal(signal.Signals(arrived))
