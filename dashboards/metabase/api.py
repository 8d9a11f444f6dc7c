"""Calls to Metabase's REST API: one method per verb, retried where that is safe, failures as one clear message."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential, wait_fixed

from conf.errors import OperatorError, UnavailableError
from conf.masking import MaskedError, conceal, masked

_REQUEST_SECONDS = 60  # a database that is added is connected to before Metabase answers
_ATTEMPTS = 4
_LONGEST_MESSAGE = 300
_ADMINISTRATOR = "METABASE_ADMIN_EMAIL must name an administrator"


class MetabaseError(OperatorError):
    """Metabase refused something, or operator action required; the message says what and the fix."""


class MetabaseUnavailableError(MetabaseError, UnavailableError):
    """Metabase is unavailable, or too slow."""

    when_back = ". When it is back, run it again"  # none of the servers here


class MetabaseConflictError(MetabaseError):
    """Someone else changed the same thing since it was read; the message is Metabase's."""


class _NotReadyError(MaskedError):
    """What Metabase, or nobody, said instead of `ok`."""


class Metabase:
    """One Metabase, logged in after `log_in` or `set_up`, or authorised by `use_key`. A context manager: leaving it
    logs out.

    No message contains a secret: Metabase's error responses quote what was sent, so that is concealed first.
    """

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        self._http = httpx.Client(
            base_url=url,
            timeout=_REQUEST_SECONDS,
            transport=transport,
            headers={"Accept": "application/json"},
            # httpx by itself trusts a list of its own, which lacks a company's certificates.
            verify=ssl.create_default_context(),
        )
        self._logged_in = False
        self._with_key = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._logged_in:
                self._http.delete("/api/session", timeout=5)
        except httpx.HTTPError:
            pass  # the session ends by itself
        finally:
            self._http.close()

    def wait_until_healthy(self, seconds: float, waiting: Callable[[str], None]) -> None:
        """Wait until Metabase has started. `waiting` is told once why. Raises MetabaseUnavailableError after
        `seconds`."""
        told = False

        def look() -> None:
            nonlocal told
            try:
                self._look()
            except _NotReadyError as reason:
                if not told:
                    waiting(f"waiting for Metabase at {self.url}: {reason}")
                    told = True
                raise

        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, _NotReadyError)),
            wait=wait_fixed(1),
            stop=stop_after_delay(seconds),
            reraise=True,
        )
        try:
            retrying(look)
        except _NotReadyError as reason:
            raise MetabaseUnavailableError(
                f"Metabase at {self.url} is not ready after {seconds:g} s: {reason}. "
                "Start it, or set METABASE_URL (and METABASE_TIMEOUT_SECONDS for a slow start)"
            ) from None

    def _look(self) -> None:
        try:
            response = self._http.get("/api/health", timeout=5)
        except httpx.TransportError as error:
            raise _NotReadyError(str(error) or type(error).__name__) from None
        if response.status_code == httpx.codes.OK:
            if self._json(response, dict).get("status") != "ok":
                raise self._not_metabase()
            return
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise _NotReadyError(self._said(response))
        raise self._not_metabase()

    def _not_metabase(self) -> MetabaseError:
        return MetabaseError(f"what answers at {self.url} is not Metabase (/api/health): set METABASE_URL")

    def use_key(self, key: str) -> None:
        """Send this API key with each call. Whether Metabase takes it, the first call shows."""
        conceal(key)
        self._http.headers["X-Api-Key"] = key
        self._with_key = True

    def set_up(self, token: str, email: str, password: str, site_name: str) -> None:
        """Create the first administrator of a fresh Metabase and be logged in as it."""
        conceal(password)
        conceal(token)
        body = {
            "token": token,
            "user": {"email": email, "password": password, "first_name": "Retail", "last_name": "Mart"},
            "prefs": {"site_name": site_name, "site_locale": "en"},
        }
        self._use_session(self.call("POST", "/api/setup", body))

    def log_in(self, email: str, password: str) -> None:
        """Log in. Raises MetabaseError if the password is not the account's, or after too many wrong ones."""
        conceal(password)
        response = self._send("POST", "/api/session", {"username": email, "password": password})
        # throttled, Metabase refuses the right password too, with the same status as a wrong one
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS or "Too many attempts" in response.text:
            raise MetabaseError(f"Metabase at {self.url} wants a pause after wrong passwords: {self._said(response)}")
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise MetabaseError(
                f"Metabase at {self.url} does not take the password of {email}: "
                "set METABASE_ADMIN_EMAIL and METABASE_ADMIN_PASSWORD to an administrator's"
            )
        self._use_session(self._checked("POST", "/api/session", response))

    def _use_session(self, answer: Any) -> None:
        if not isinstance(answer, dict) or not answer.get("id"):
            raise MetabaseError(f"Metabase at {self.url} gave no session to log in with")
        conceal(str(answer["id"]))
        self._http.headers["X-Metabase-Session"] = str(answer["id"])
        self._logged_in = True

    def get(self, path: str, **query: str) -> Any:
        """The answer of a GET."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.call("POST", path, body)

    def put(self, path: str, body: dict[str, Any]) -> Any:
        return self.call("PUT", path, body)

    def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
    ) -> Any:
        """The JSON that Metabase answers. Raises MetabaseError with what it said instead."""
        return self._checked(method, path, self._send(method, path, body, query))

    def _send(
        self, method: str, path: str, body: dict[str, Any] | None = None, query: dict[str, str] | None = None
    ) -> httpx.Response:
        """Send, again if that cannot do a thing twice: a GET and a PUT always, a POST if it was never received."""
        lost = httpx.ConnectError if method == "POST" else httpx.TransportError
        retrying = Retrying(
            retry=retry_if_exception(lambda error: isinstance(error, lost)),
            wait=wait_exponential(multiplier=0.2, max=2),
            stop=stop_after_attempt(_ATTEMPTS),
            reraise=True,
        )
        try:
            return retrying(self._http.request, method, path, json=body, params=query)
        except httpx.TransportError as error:
            raise MetabaseUnavailableError(
                f"Metabase at {self.url} became unavailable ({method} {path}: {str(error) or type(error).__name__}): "
                "run `metabase apply` again when it is back, it goes on where it was"
            ) from None

    def _checked(self, method: str, path: str, response: httpx.Response) -> Any:
        if response.is_success:
            return self._json(response, object) if response.content else None
        if response.status_code == httpx.codes.UNAUTHORIZED and self._with_key:
            raise MetabaseError(
                f"Metabase at {self.url} does not take the key of METABASE_API_KEY: an administrator makes one under "
                "Admin → Authentication → API keys, in the group Administrators"
            )
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise MetabaseError(f"Metabase ended the session ({method} {path}): run it again")
        said = self._said(response)
        if response.status_code == httpx.codes.FORBIDDEN:
            who = "the group of METABASE_API_KEY must be Administrators" if self._with_key else _ADMINISTRATOR
            raise MetabaseError(f"Metabase does not allow {method} {path}: {said}. {who}")
        kind = MetabaseConflictError if response.status_code == httpx.codes.CONFLICT else MetabaseError
        raise kind(f"Metabase refused {method} {path} ({response.status_code}): {said}")

    def _json(self, response: httpx.Response, kind: type) -> Any:
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if answer is None or not isinstance(answer, kind):
            start = masked(response.text)[:80]
            raise MetabaseError(f"the answer of {response.request.url} is not Metabase's: {start!r}; set METABASE_URL")
        return answer

    def _said(self, response: httpx.Response) -> str:
        """What Metabase said in a refusal, without the secrets that it quotes."""
        return _told(masked(response.text))[:_LONGEST_MESSAGE] or f"status {response.status_code}"


def _told(text: str) -> str:
    """What Metabase said in a refusal, on one line: the message, and the errors by field where it names some."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = text
    if isinstance(answer, dict):
        errors = answer.get("specific-errors") or answer.get("errors") or {}
        fields = [f"{name}: {text}" for name, text in errors.items()] if isinstance(errors, dict) else [str(errors)]
        answer = "; ".join(
            filter(None, [*map(str, filter(None, [answer.get("message") or answer.get("status")])), *fields])
        )
    return " ".join(str(answer).split())
