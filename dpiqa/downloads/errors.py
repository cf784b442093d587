"""What ends one try of a download. Never seen outside `dpiqa.downloads`."""


class Interrupted(Exception):
    """This try ended early; the next one may go on where it stopped."""

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after  #: seconds that the server asks to wait
