import os
import signal
import subprocess
import threading

import pytest

from dpiqa.signals import deferred, interrupted_by


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_inside_a_hook_of_a_fork_is_not_lost(number):
    sent = []

    def hook():  # as `filelock` has one
        if not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    os.register_at_fork(before=hook)
    with interrupted_by(signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt), deferred(signal.SIGINT, signal.SIGTERM):
            process = subprocess.Popen(["true"], preexec_fn=os.getpid)  # noqa: PLW1509 - for the hooks
        assert process.wait() == 0
    assert sent == [number]


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred(signal.SIGHUP):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_have_no_handlers_to_defer():
    entered = []

    def run():
        with deferred(signal.SIGINT):
            entered.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert entered == [signal.getsignal(signal.SIGINT)]
