"""Notify: send a message by e-mail and to a Slack webhook, if the settings name them."""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate
from typing import Protocol

import httpx
import structlog
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from conf.masking import MaskedError, masked
from conf.settings import Settings, SettingsError
from operations.alerts import Message

log = structlog.get_logger()
_TIMEOUT_SECONDS = 15
_TRIES = 3


class NotDeliveredError(MaskedError):
    """A channel did not accept a message; the text says why, and contains no secret."""


class _PassingError(NotDeliveredError):
    """Worth an immediate retry."""


class Channel(Protocol):
    """A way to notify people."""

    name: str

    def send(self, message: Message) -> None:
        """Deliver it, or raise NotDeliveredError after some tries."""


class Email:
    """Through SMTP_HOST, from SMTP_FROM, to everyone in ALERT_EMAIL_TO in one message."""

    name = "email"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def send(self, message: Message) -> None:
        for attempt in _patiently():
            with attempt:
                self._send(self._mail(message))

    def _mail(self, message: Message) -> EmailMessage:
        settings = self._settings
        mail = EmailMessage()
        mail["Subject"] = message.subject
        mail["From"] = settings.smtp_from or settings.smtp_username or ""
        mail["To"] = ", ".join(settings.alert_addresses)
        mail["Date"] = formatdate(usegmt=True)
        # The same notice keeps its id: sent again after a crash, mail programs show it once.
        mail["Message-ID"] = f"<{message.message_id}@retail-mart>"
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(message.text)
        return mail

    def _send(self, mail: EmailMessage) -> None:
        settings = self._settings
        place = f"SMTP_HOST={settings.smtp_host} port {settings.smtp_port}"
        try:
            with self._connect() as server:
                if settings.smtp_security == "starttls":
                    server.starttls(context=ssl.create_default_context())
                if settings.smtp_username and settings.smtp_password:
                    server.login(settings.smtp_username, settings.smtp_password.get_secret_value())
                refused = server.send_message(mail)
        except smtplib.SMTPAuthenticationError as error:
            raise NotDeliveredError(
                f"{place} refuses the login (code {error.smtp_code}): check SMTP_USERNAME and SMTP_PASSWORD"
            ) from None
        except ssl.SSLError as error:
            raise NotDeliveredError(f"{place}: no TLS ({error}); is SMTP_SECURITY right?") from None
        except (smtplib.SMTPException, OSError) as error:
            raise _PassingError(f"{place}: {type(error).__name__} {error}") from None
        for address, answer in refused.items():
            log.error("address refused", channel=self.name, address=address, answer=str(answer))

    def _connect(self) -> smtplib.SMTP:
        host, port = self._settings.smtp_host or "", self._settings.smtp_port
        if self._settings.smtp_security == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT_SECONDS, context=ssl.create_default_context())
        return smtplib.SMTP(host, port, timeout=_TIMEOUT_SECONDS)


class Slack:
    """To the incoming webhook SLACK_WEBHOOK_URL. The URL is a secret and appears in no error."""

    name = "slack"

    def __init__(self, url: str) -> None:
        self._url = url

    def send(self, message: Message) -> None:
        payload = {"text": f"*{_escaped(message.subject)}*\n{_escaped(message.text)}"}
        for attempt in _patiently():
            with attempt:
                self._post(payload)

    def _post(self, payload: dict[str, str]) -> None:
        try:
            # httpx by itself trusts a list of its own, which lacks a company's certificates.
            trusted = ssl.create_default_context()
            answer = httpx.post(self._url, json=payload, timeout=_TIMEOUT_SECONDS, verify=trusted)
        except httpx.TransportError as error:
            raise _PassingError(f"Slack: {type(error).__name__} {error}") from None
        if answer.status_code == 429 or answer.status_code >= 500:
            raise _PassingError(f"Slack answers {answer.status_code}")
        if answer.status_code != 200:
            raise NotDeliveredError(
                f"Slack answers {answer.status_code} {masked(answer.text)[:100]!r}: is SLACK_WEBHOOK_URL right?"
            )


def channels(settings: Settings) -> list[Channel]:
    """The channels in the settings. Raises SettingsError for an address without a mail server; a mail server without an
    address is mentioned in the log."""
    found: list[Channel] = []
    if settings.alert_addresses and not settings.smtp_host:
        raise SettingsError(f"ALERT_EMAIL_TO={settings.alert_email_to}: no mail server is named; set SMTP_HOST")
    if settings.alert_addresses:
        found.append(Email(settings))
    elif settings.smtp_host:
        log.warning("no e-mail", reason=f"SMTP_HOST={settings.smtp_host}, but nobody to write to: set ALERT_EMAIL_TO")
    if settings.slack_webhook_url:
        found.append(Slack(settings.slack_webhook_url.get_secret_value()))
    return found


def _patiently() -> Retrying:
    return Retrying(
        retry=retry_if_exception_type(_PassingError),
        stop=stop_after_attempt(_TRIES),
        wait=wait_exponential(multiplier=0.5, max=5),
        reraise=True,
    )


def _escaped(text: str) -> str:
    """Escapes what Slack requires, and nothing else."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
