"""Why kafka-python could not connect: its exception says that the time is up, and only its log says what went wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

_LOGGER = logging.getLogger("kafka.net.manager")
_LOGIN = "SaslAuthenticationFailedError"
REFUSED_LOGIN = "refuses the login: check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM"


class Reasons:
    """What went wrong while a client tried to connect, oldest first."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @property
    def login_refused(self) -> bool:
        return any(_LOGIN in message for message in self.messages)

    def hint(self, security: Mapping[str, Any] | None) -> str:
        """What the last attempt ran into, and what to check. `security` is Settings.kafka_security().

        A broker that refuses a login says so and hangs up; now and then the client only sees the latter, or the end of
        its time. So the login is always to be checked, unless it did not come that far.
        """
        protocol = (security or {}).get("security_protocol", "PLAINTEXT")
        failed = [message for message in self.messages if not message.startswith("KafkaTimeoutError")]
        check = f"asked with KAFKA_SECURITY_PROTOCOL={protocol}: is that what the brokers' listener speaks?"
        if protocol.startswith("SASL") and not any("CERTIFICATE_VERIFY_FAILED" in message for message in failed):
            check += " And are KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM right?"
        return f" ({failed[-1] + '; ' if failed else ''}{check})"


class _Collector(logging.Handler):
    def __init__(self, reasons: Reasons) -> None:
        super().__init__(logging.WARNING)
        self._reasons = reasons

    def emit(self, record: logging.LogRecord) -> None:
        error = next((a for a in record.args if isinstance(a, Exception)), None) if record.args else None
        if error is not None:
            self._reasons.messages.append(f"{type(error).__name__}: {error}")


@contextmanager
def connecting(reasons: Reasons | None = None) -> Iterator[Reasons]:
    """Collect the reasons of failed connections while a client is made, in `reasons` if there are some already."""
    reasons = Reasons() if reasons is None else reasons
    collector = _Collector(reasons)
    level = _LOGGER.level
    _LOGGER.addHandler(collector)
    if not _LOGGER.isEnabledFor(logging.WARNING):
        _LOGGER.setLevel(logging.WARNING)
    try:
        yield reasons
    finally:
        _LOGGER.removeHandler(collector)
        _LOGGER.setLevel(level)
