"""Every error that a caller may meet, as one tree; a test compares the tree with the classes.

    DpiqaError
    ├─ ImageRejected          about this image; never retried; carries a `Reason`
    ├─ ObjectGone             the object (or that version) no longer exists
    ├─ ObjectChanged          the object's bytes are no longer those of the ETag
    ├─ Unavailable            about a service outside; retried with a delay, forever
    │  ├─ DecoderKilled       the machine ended the decode process: nothing is said about the image
    │  ├─ StoreUnavailable    S3, SQS
    │  ├─ DatabaseUnavailable Postgres, for the moment; carries a `DatabaseFault`
    │  │  ├─ DatabaseMisconfigured  Postgres, until somebody changes rights, schema, login or URL; exit code 78
    │  │  └─ DatabaseFailed   Postgres, with an error that no table names
    │  ├─ BrokerUnavailable   Redis
    │  │  └─ BrokerRefuses    it answers, and stores or keeps no messages
    │  ├─ SourceUnavailable   where weights are downloaded from
    │  └─ Overloaded          too much waits already; the same request may work later
    ├─ NotFound               about the request; the API's 404, the CLI's exit code 4
    ├─ Forbidden              about the caller's key; the API's 403
    ├─ LimitExceeded          about how much the caller asks for; the API's 429
    ├─ InvalidRequest         about the request; the API's 422, the CLI's exit code 2
    │  ├─ Conflict            about the request and what is stored already; the API's 409
    │  └─ ValueRefused        a value that Postgres cannot store
    ├─ RowRefused             a constraint forbids a row; the same statement fails again
    ├─ LeaseLost              another worker took this work over; stop, and let the transaction roll back
    ├─ DeviceMemoryError      a batch does not fit on the device; a smaller one is tried
    ├─ DeviceBrokenError      the device's context is lost; the worker ends with exit code 70
    ├─ ConfigurationError     about the deployment; a process refuses to start
    │  ├─ CheckpointError     weights missing, damaged or of another architecture
    │  └─ AlreadyRunningError another `dpiqa local` runs in the same home
    ├─ TrainingDiverged       the loss of a training run is no longer a number
    └─ TrainingInterrupted    a training run was asked to stop; it is saved and can go on

Each message is one line that names the fault; `hint` names the next step.
Vendor errors (botocore, SQLAlchemy, redis, Pillow) become ours where they enter, nowhere else.
"""

from dpiqa.types import DatabaseFault, ImageRef, Reason


class DpiqaError(Exception):
    """Base of all errors raised on purpose."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ImageRejected(DpiqaError):
    """This image cannot be scored, and trying again will not help."""

    def __init__(self, reason: Reason, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or reason.value, hint=hint)
        self.reason = reason

    def __reduce__(self) -> tuple[type["ImageRejected"], tuple[Reason, str]]:
        return ImageRejected, (self.reason, self.message)  # crosses the decode process


class ObjectGone(DpiqaError):
    """The object, or the requested version of it, no longer exists."""


class ObjectChanged(DpiqaError):
    """The object has other bytes than those of the requested ETag: it was overwritten."""

    def __init__(self, message: str, *, current: ImageRef) -> None:
        super().__init__(message)
        self.current = current  #: the object as it is now


class Unavailable(DpiqaError):
    """A service outside is unreachable or overloaded; the same call may work later."""


class StoreUnavailable(Unavailable):
    """The object store, or the queue of its events, does not answer."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        retry_after: float | None = None,
        may_be_object: bool = False,
        answered: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after  #: seconds that the server asked to wait
        self.may_be_object = may_be_object  #: the fault may be of the one object that was read
        self.answered = answered  #: the store answered, with an error
        self.is_object = False  #: it is: another object of the bucket was returned since


class DecoderKilled(Unavailable):
    """The machine, or somebody on it, ended the decode process, or gave it no time: nothing is said about the image."""


class DatabaseUnavailable(Unavailable):
    """Postgres did not do it now. Nothing is wrong with the values, so nothing may be given up because of it."""

    def __init__(self, message: str, *, hint: str = "", fault: DatabaseFault = DatabaseFault.UNREACHABLE) -> None:
        super().__init__(message, hint=hint)
        self.fault = fault  #: what it is about


class DatabaseMisconfigured(DatabaseUnavailable):
    """Postgres refuses until somebody changes something: rights, tables, the login, the URL.

    A process that starts ends with it; one that runs waits, and says why.
    """


class DatabaseFailed(DatabaseUnavailable):
    """Postgres failed in an unexpected way. It may be about one statement, so others are tried apart from it."""


class BrokerUnavailable(Unavailable):
    """The message broker does not answer. Harmless: the database records the work."""


class BrokerRefuses(BrokerUnavailable):
    """The message broker answers, but stores no messages, or may drop those that it holds."""


class SourceUnavailable(Unavailable):
    """A source of models does not answer, or answers with something else. Bytes downloaded so far are kept."""


class Overloaded(Unavailable):
    """Too much work waits already; the same request may work later."""


class NotFound(DpiqaError):
    """The requested job, score, model or profile does not exist."""


class Forbidden(DpiqaError):
    """The caller's key does not permit this."""


class LimitExceeded(DpiqaError):
    """The caller has, or asks for, more than its key permits."""

    def __init__(self, message: str, *, hint: str = "", retry_seconds: int = 60) -> None:
        super().__init__(message, hint=hint)
        self.retry_seconds = retry_seconds  #: after which it may be permitted


class InvalidRequest(DpiqaError):
    """The request itself is wrong."""


class Conflict(InvalidRequest):
    """The request contradicts what is stored: its key is taken, its job has ended, or its watch or model exists."""


class ValueRefused(InvalidRequest):
    """A value of the request cannot be stored: a NUL character, half a surrogate pair, a number that is too large."""


class RowRefused(DpiqaError):
    """A constraint of the tables forbids a row. The same statement fails again, unless other rows change."""


class LeaseLost(DpiqaError):
    """The lease ran out and another worker took this work over: stop, and let the transaction roll back."""


class DeviceMemoryError(DpiqaError):
    """The batch did not fit on the device; a smaller one may."""


class DeviceBrokenError(DpiqaError):
    """The device's context is unusable; only a new process can use the device again."""


class ConfigurationError(DpiqaError):
    """A setting is missing or wrong."""


class CheckpointError(ConfigurationError):
    """Weights are missing, damaged, tampered with or of another architecture."""


class AlreadyRunningError(ConfigurationError):
    """The embedded stack of this home is already running."""


class TrainingDiverged(DpiqaError):
    """The loss became infinite or NaN: more training would only ruin the weights."""


class TrainingInterrupted(DpiqaError):
    """The run was asked to stop; its state is on disk, and the same command resumes it."""
