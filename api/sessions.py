"""Sessions of the pages: a signed cookie in place of the key, which is entered once.

The cookie names the key and does not contain it, so whether the key still lives, and what it may do, is looked up for
every request. Signed by itsdangerous, which also bounds its age.
"""

import hashlib
import hmac
import secrets
from http.cookies import CookieError, SimpleCookie

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import Headers
from starlette.responses import Response

from dpiqa.settings import Settings

COOKIE = "dpiqa_session"
_BOOTSTRAP = "bootstrap:"


class Sessions:
    """Makes and reads the cookies of one service; processes with the same secret read each other's."""

    def __init__(self, settings: Settings, bootstrap_digest: bytes | None) -> None:
        """`bootstrap_digest`: SHA-256 of `DPIQA_API_KEY`; None: there is none."""
        secret = settings.session_secret.get_secret_value() if settings.session_secret else secrets.token_urlsafe(32)
        signer = {"digest_method": hashlib.sha256}
        self._serializer = URLSafeTimedSerializer(secret, salt="dpiqa-session", signer_kwargs=signer)
        self._seconds = int(settings.session_hours * 3600)
        self._bootstrap = None if bootstrap_digest is None else f"{_BOOTSTRAP}{bootstrap_digest.hex()[:32]}"

    def begin(self, response: Response, key_id: str | None, *, path: str, secure: bool) -> None:
        """Set the cookie of a key that was entered: a stored one, or, for None, the bootstrap key."""
        subject = self._bootstrap if key_id is None else key_id
        response.set_cookie(
            COOKIE,
            str(self._serializer.dumps(subject)),
            max_age=self._seconds,
            path=path,
            secure=secure,
            httponly=True,
            samesite="strict",
        )

    @staticmethod
    def end(response: Response, *, path: str) -> None:
        """Remove the cookie."""
        response.delete_cookie(COOKIE, path=path, httponly=True, samesite="strict")

    def subject_of(self, headers: Headers) -> str | None:
        """Return what the cookie of a request names: the id of a stored key, or the bootstrap key.

        None: there is no cookie, or it was forged, altered or is too old.
        """
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return None
        if morsel is None:
            return None
        try:
            subject = self._serializer.loads(morsel.value, max_age=self._seconds)
        except BadSignature:
            return None
        return subject if isinstance(subject, str) else None

    def is_bootstrap(self, subject: str) -> bool:
        """Return whether a subject is the bootstrap key that the service has now."""
        return self._bootstrap is not None and hmac.compare_digest(subject, self._bootstrap)
