"""`python -m dpiqa.pipeline.listener`: S3 events from an SQS queue into the ledger.

A message is deleted only after its rows are committed. One that is no event is counted and left to the queue's
dead-letter policy; where the queue has none, it is deleted after `MAX_RECEIVES` receives.
"""

import signal
import threading
from collections.abc import Sequence

import structlog
from sqlalchemy import Engine

from dpiqa.doorbell import Doorbell, load_doorbell
from dpiqa.errors import ConfigurationError, DpiqaError, InvalidRequest, Unavailable
from dpiqa.events import Parsed, parse
from dpiqa.logs import configure_logging
from dpiqa.objects.sqs import EventsQueue, Message
from dpiqa.pipeline import metrics
from dpiqa.pipeline.failures import delay
from dpiqa.pipeline.ingest import ingest
from dpiqa.pipeline.startup import or_refuse, refuse, require_schema, serve_metrics, wait_for
from dpiqa.profiles import Profile, load_profile
from dpiqa.settings import Settings, load_settings
from dpiqa.storage.engine import make_engine
from dpiqa.text import first_line

log = structlog.get_logger()

MAX_RECEIVES = 5


class Listener:
    """Moves events from the queue into the ledger until it is stopped."""

    def __init__(
        self, engine: Engine, doorbell: Doorbell, queue: EventsQueue, settings: Settings, profile: Profile
    ) -> None:
        self._engine, self._doorbell, self._queue = engine, doorbell, queue
        self._settings, self._profile = settings, profile
        self._stopping = threading.Event()
        self._leave_malformed = True
        self._polling = False

    def stop(self) -> None:
        """Finish the messages in hand, then return from `run`. To be called by a signal handler of `run`'s thread.

        Raises `SystemExit` where it only waits for messages: what SQS hands out in that moment it hands out again.
        """
        self._stopping.set()
        if self._polling:
            raise SystemExit(0)

    def run(self) -> None:
        """Receive until stopped; what is away is waited for. Raises `ConfigurationError`: there is no such queue."""
        attempt = 0
        self._leave_malformed = wait_for(self._queue.has_dead_letters, is_over=self._stopping.is_set)
        log.info("listening", dead_letters=self._leave_malformed)
        while not self._stopping.is_set():
            try:
                self.receive_once()
                attempt = 0
            except Unavailable as error:
                attempt += 1
                log.warning("listener_waits", error=str(error))
                self._stopping.wait(delay(attempt, base=0.5, cap=15))

    def receive_once(self) -> int:
        """Take one batch of messages through; return how many. Raises `Unavailable`, by which nothing is lost."""
        messages = self._receive()
        self._queue.delete(self._take_in(messages))
        return len(messages)

    def _receive(self) -> list[Message]:
        self._polling = True
        try:
            return self._queue.receive()
        finally:
            self._polling = False

    def _take_in(self, messages: Sequence[Message]) -> list[Message]:
        """Commit what the messages say; return those that may be deleted."""
        parsed: list[tuple[Message, Parsed]] = []
        done: list[Message] = []
        for message in messages:
            try:
                parsed.append((message, parse(message.body)))
            except InvalidRequest as error:
                done += self._malformed(message, error)
        return done + self._ingest(parsed)

    def _ingest(self, parsed: list[tuple[Message, Parsed]]) -> list[Message]:
        """Commit all in one transaction; where that fails, each in its own, so that one cannot hold up the others."""
        if not parsed:
            return []
        try:
            found = ingest(self._engine, self._doorbell, [one for _, one in parsed], self._settings, self._profile)
        except (Unavailable, ConfigurationError):
            raise
        except Exception as error:
            if len(parsed) > 1:
                return [message for one in parsed for message in self._ingest([one])]
            return self._malformed(parsed[0][0], error)
        metrics.EVENTS.labels("ingested").inc(len(parsed))
        log.info(
            "events_ingested",
            messages=len(parsed),
            items=len(found.items),
            removed=found.removed,
            unwatched=found.unwatched,
            ignored=[reason for _, one in parsed for reason in one.ignored][:5],
        )
        return [message for message, _ in parsed]

    def _malformed(self, message: Message, error: Exception) -> list[Message]:
        """Count a message that is of no use. Return it if nothing but us would ever remove it."""
        give_up = not self._leave_malformed and message.receives >= MAX_RECEIVES
        metrics.EVENTS.labels("malformed").inc()
        log.warning(
            "event_malformed", message=message.id, receives=message.receives, deleted=give_up, error=first_line(error)
        )
        return [message] if give_up else []


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    settings = or_refuse(load_settings)
    configure_logging(settings)
    try:
        _run(settings)
    except DpiqaError as error:
        refuse(error)


def _run(settings: Settings) -> None:
    engine = make_engine(settings.require_database_url(), application_name="dpiqa-listener")
    listener = Listener(
        engine,
        load_doorbell(settings),
        EventsQueue(settings),
        settings,
        load_profile(settings.profile, settings.profiles_dir),
    )
    over = threading.Event()

    def leave(*_: object) -> None:
        over.set()
        listener.stop()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    serve_metrics()
    wait_for(lambda: require_schema(engine), is_over=over.is_set)
    listener.run()
    engine.dispose()


if __name__ == "__main__":
    main()
