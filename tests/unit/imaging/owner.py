"""A program that owns a decode pool with one idle and one hanging process, prints their ids and waits to be killed."""

import sys
import threading
import time

from dpiqa.errors import ImageRejected
from dpiqa.imaging.decode import Limits
from dpiqa.imaging.pool import DecodePool
from dpiqa.imaging.preprocessing import Preprocessing


def main():
    pool = DecodePool(2, Limits(seconds=600), command=(sys.executable, "-P", sys.argv[1]))
    square = Preprocessing(width=8, height=8)
    starter = threading.Thread(target=lambda: [pool.submit(b"pid", square).exception() for _ in range(2)])
    starter.start()
    starter.join()  # the thread that first used the pool is gone
    pids = set()
    while len(pids) < 2:
        futures = [pool.submit(b"pid", square) for _ in range(8)]
        pids |= {error.message for f in futures if isinstance(error := f.exception(), ImageRejected)}
    pool.submit(b"hang", square)
    time.sleep(0.3)
    print(*pids, flush=True)  # noqa: T201
    time.sleep(600)


if __name__ == "__main__":
    main()
