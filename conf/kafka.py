"""Kafka: the only place where clients of the brokers are made and where kafka-python's failures become our errors.

It is here, below topic/, because the producer connects too and shares no code with topic/. Only the library's log says
why a client could not connect; its exception just says that the time is up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import kafka
from kafka.errors import AuthorizationError, KafkaError

from conf.errors import StreamingError, UnavailableError
from conf.settings import Settings, SettingsError

_LOGGER = logging.getLogger("kafka.net.manager")
_LOGIN = "SaslAuthenticationFailedError"
_Client = TypeVar("_Client")


class Reasons:
    """What went wrong while a client tried to connect, oldest first."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    @property
    def login_refused(self) -> bool:
        return any(_LOGIN in message for message in self.messages)

    def hint(self, security: Mapping[str, Any]) -> str:
        """What the last attempt ran into, and what to check. `security` is Settings.kafka_security().

        A broker that refuses a login says so and hangs up; now and then the client only sees the latter, or the end of
        its time. So the login is always to be checked, unless it did not come that far.
        """
        protocol = security.get("security_protocol", "PLAINTEXT")
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
def _collected(reasons: Reasons) -> Iterator[None]:
    collector = _Collector(reasons)
    level = _LOGGER.level
    _LOGGER.addHandler(collector)
    if not _LOGGER.isEnabledFor(logging.WARNING):
        _LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        _LOGGER.removeHandler(collector)
        _LOGGER.setLevel(level)


@dataclass(frozen=True)
class Brokers:
    """The brokers, how long to wait for an answer, and kafka-python's options for TLS and login. Create and use clients
    within `answering`."""

    servers: str
    timeout_seconds: float = 30
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Brokers:
        """Those from the settings. Raises SettingsError if there are none."""
        return cls(settings.require_kafka(), settings.kafka_timeout_seconds, settings.kafka_security())

    @property
    def timeout_ms(self) -> int:
        return max(1, int(self.timeout_seconds * 1000))

    def admin(self, **options: Any) -> kafka.KafkaAdminClient:
        return self._made(kafka.KafkaAdminClient, {"request_timeout_ms": self.timeout_ms} | options)

    def consumer(self, **options: Any) -> kafka.KafkaConsumer:
        """A consumer that commits nothing; each request to it takes a `timeout_ms`."""
        return self._made(kafka.KafkaConsumer, {"enable_auto_commit": False} | options)

    def producer(self, max_message_bytes: int) -> kafka.KafkaProducer:
        return self._made(kafka.KafkaProducer, producer_options(self.timeout_ms, max_message_bytes))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Raises UnavailableError if there is no answer, StreamingError if the brokers refuse the login or deny a
        permission."""
        reasons = Reasons()
        try:
            with _collected(reasons):
                yield
        except (KafkaError, OSError) as error:
            raise self.explained(error, reasons) from error

    def explained(self, error: BaseException, reasons: Reasons | None = None) -> StreamingError | UnavailableError:
        """Kafka's error as ours, with the reasons collected so far."""
        reasons = reasons or Reasons()
        if reasons.login_refused:
            return StreamingError(
                f"Kafka at {self.servers} refuses the login: check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and "
                "KAFKA_SASL_MECHANISM"
            )
        kind, said = type(error).__name__, str(error)
        said = said if said.startswith(kind) else f"{kind} {said}".strip()  # most of Kafka's name themselves
        if isinstance(error, AuthorizationError):
            return StreamingError(f"Kafka at {self.servers} refuses it: {said}. Give KAFKA_SASL_USERNAME the right")
        return UnavailableError(f"Kafka at {self.servers} is unavailable: {said}{reasons.hint(self.security)}")

    def _made(self, kind: Callable[..., _Client], options: dict[str, Any]) -> _Client:
        servers = self.servers.split(",")
        try:
            return kind(
                bootstrap_servers=servers, **{"bootstrap_timeout_ms": self.timeout_ms} | options, **self.security
            )
        except ValueError as error:
            raise SettingsError(
                f"KAFKA_BOOTSTRAP_SERVERS={self.servers}: give host:port[,host:port] ({error})"
            ) from None


def producer_options(timeout_ms: int, max_message_bytes: int) -> dict[str, Any]:
    """How kafka-python sends: retries lose and duplicate nothing, in order, compressed.

    The linger is short for the sake of latency; at full speed the batches fill up long before it ends.
    """
    return {
        "client_id": "producer",
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": "lz4",
        "linger_ms": 5,
        "batch_size": 256 * 1024,
        "max_request_size": max(1_048_576, max_message_bytes + 1_024),
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": timeout_ms,
        "max_block_ms": timeout_ms,
        "delivery_timeout_ms": timeout_ms + 5,
        "request_timeout_ms": max(1, timeout_ms // 3),
    }
