"""`python -m dpiqa.pipeline.listener`: records S3 events from an SQS queue in the database.

A message is deleted only after its rows are committed. One that parsing refuses is counted and left to the queue's
dead-letter policy; where the queue has none, it is deleted after `MAX_RECEIVES` receives. One that cannot be recorded,
for whatever reason, stays.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Sequence

import structlog
from sqlalchemy import Engine

from dpiqa.doorbell import Doorbell, load_doorbell
from dpiqa.errors import ConfigurationError, DatabaseFailed, DpiqaError, InvalidRequest, Unavailable
from dpiqa.events import Parsed, parse
from dpiqa.logs import configure_logging
from dpiqa.objects.sqs import EventsQueue, Message
from dpiqa.pipeline import metrics
from dpiqa.pipeline.ingest import ingest
from dpiqa.pipeline.startup import exit_with, or_exit, require_schema, serve_metrics, wait_for
from dpiqa.profiles import Profile, load_profile
from dpiqa.retries import retry_until_available
from dpiqa.settings import Settings, load_settings
from dpiqa.signals import on_signals
from dpiqa.storage.engine import open_engine
from dpiqa.storage.watches import LISTENER
from dpiqa.text import first_line
from dpiqa.watchdog import WATCHDOG, beat

log = structlog.get_logger()

MAX_RECEIVES = 5
DEPTH_SECONDS = 30.0  #: between two looks at how many messages wait


class Listener:
    """Records events from the queue until it is stopped."""

    def __init__(
        self, engine: Engine, doorbell: Doorbell, queue: EventsQueue, settings: Settings, profile: Profile
    ) -> None:
        self._engine, self._doorbell, self._queue = engine, doorbell, queue
        self._settings, self._profile = settings, profile
        self._stopping = threading.Event()
        self._leave_malformed = True
        self._polling = False
        self._next_depth = 0.0

    def stop(self) -> None:
        """Finish the received messages, then return from `run`. Called by a signal handler of `run`'s thread.

        Raises `SystemExit` while it only waits for messages: messages received then are redelivered.
        """
        self._stopping.set()
        if self._polling:
            raise SystemExit(0)

    def run(self) -> None:
        """Wait for the schema, then receive until stopped. Waits for whatever is unavailable.

        Raises `ConfigurationError` where waiting does not help, such as for a queue that does not exist.
        """
        wait_for(lambda: require_schema(self._engine), stopping=self._stopping)
        self._leave_malformed = wait_for(self._queue.has_dead_letters, stopping=self._stopping)
        log.info("listening", dead_letters=self._leave_malformed)
        with WATCHDOG.watch("listener", self._settings.loop_seconds):
            while not self._stopping.is_set():
                beat()
                with contextlib.suppress(Unavailable):  # raised only once it is stopping
                    retry_until_available(
                        self.receive_once, event="listener_waits", base=0.5, cap=15, stopping=self._stopping
                    )

    def receive_once(self) -> int:
        """Process one batch of messages; return how many. Raises `Unavailable`, which loses nothing."""
        self._polling = True
        try:
            messages = self._queue.receive()
        finally:
            self._polling = False
        parsed: list[tuple[Message, Parsed]] = []
        processed: list[Message] = []
        for message in messages:
            try:
                parsed.append((message, parse(message.body)))
            except InvalidRequest as error:
                processed += self._malformed(message, error)
        self._measure([message for message, _ in parsed])
        ingested = self._ingest(parsed)
        self._queue.delete(processed + ingested)
        if len(ingested) < len(parsed):
            raise Unavailable(f"{len(parsed) - len(ingested)} of {len(parsed)} messages could not be recorded now")
        return len(messages)

    def _ingest(self, parsed: Sequence[tuple[Message, Parsed]]) -> list[Message]:
        """Commit all in one transaction; where that fails, each in its own, so that one cannot hold up the others.

        Returns the messages that may be deleted: those that were recorded. Whatever is wrong with another one, it was
        understood, so it stays in the queue. Raises `DatabaseUnavailable` where the database refuses all of them.
        """
        if not parsed:
            return []
        events = [event for _, event in parsed]
        try:
            ingested = ingest(self._engine, self._doorbell, events, self._settings, self._profile)
        except Exception as error:
            if isinstance(error, ConfigurationError | Unavailable) and not isinstance(error, DatabaseFailed):
                raise
            if len(parsed) > 1:
                return [message for pair in parsed for message in self._ingest([pair])]
            metrics.EVENTS.labels("kept").inc()
            message = parsed[0][0]
            log.error("event_kept", message=message.id, receives=message.receives, error=first_line(error))
            return []
        metrics.EVENTS.labels("ingested").inc(len(parsed))
        log.info(
            "events_ingested",
            messages=len(parsed),
            items=len(ingested.items),
            removed=ingested.removed,
            unwatched=ingested.unwatched,
            passed_over=ingested.passed_over,
            n_ignored=sum(len(event.ignored) for event in events),
            ignored=[reason for event in events for reason in event.ignored][:5],
        )
        return [message for message, _ in parsed]

    def _measure(self, received: Sequence[Message]) -> None:
        """Show how old the oldest of these is, and now and then how many wait. What is malformed stays and ages."""
        metrics.LAG.set(max((time.time() - message.sent_at for message in received if message.sent_at), default=0.0))
        if time.monotonic() >= self._next_depth:
            self._next_depth = time.monotonic() + DEPTH_SECONDS
            with contextlib.suppress(DpiqaError):  # reading the events matters more
                metrics.EVENT_QUEUE.set(self._queue.depth())

    def _malformed(self, message: Message, error: Exception) -> list[Message]:
        """Count an unparseable message. Return it if nothing but this listener would ever remove it."""
        give_up = not self._leave_malformed and message.receives >= MAX_RECEIVES
        metrics.EVENTS.labels("malformed").inc()
        log.warning(
            "event_malformed", message=message.id, receives=message.receives, deleted=give_up, error=first_line(error)
        )
        return [message] if give_up else []


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = or_exit(load_settings)
    configure_logging(settings)
    try:
        engine = open_engine(settings, LISTENER)
        profile = load_profile(settings.profile, settings.profiles_dir)
        listener = Listener(engine, load_doorbell(settings), EventsQueue(settings), settings, profile)
        on_signals(listener.stop, signal.SIGTERM, signal.SIGINT)
        serve_metrics(settings)
        listener.run()
        engine.dispose()
    except DpiqaError as error:
        exit_with(error)


if __name__ == "__main__":
    main()
