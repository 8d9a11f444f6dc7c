"""Where the alerts of a test arrive: a real SMTP server, and an HTTP server that answers as Slack's webhooks do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller
from jsonschema import Draft202012Validator, ValidationError

from stack.process import free_port

# What Slack documents of a message to an incoming webhook (docs.slack.dev: "Sending messages using incoming
# webhooks", "Message payloads", Block Kit's limits). Channel, user name and icon belong to the webhook and are refused.
_BLOCK = {
    "type": "object",
    "required": ["type"],
    "properties": {"type": {"enum": ["actions", "context", "divider", "header", "image", "rich_text", "section"]}},
}
_SLACK_MESSAGE = Draft202012Validator(
    {
        "type": "object",
        "properties": {
            "text": {"type": "string", "minLength": 1, "maxLength": 40_000},
            "blocks": {"type": "array", "minItems": 1, "maxItems": 50, "items": _BLOCK},
            "attachments": {"type": "array", "maxItems": 100, "items": {"type": "object"}},
            "thread_ts": {"type": "string"},
            "mrkdwn": {"type": "boolean"},
            "unfurl_links": {"type": "boolean"},
            "unfurl_media": {"type": "boolean"},
        },
        "anyOf": [{"required": ["text"]}, {"required": ["blocks"]}, {"required": ["attachments"]}],
        "additionalProperties": False,
    }
)


@dataclass
class Sinks:
    """What arrived so far, and the environment variables that send it here."""

    environment: dict[str, str]
    mails: list[EmailMessage] = field(default_factory=list)
    slack_texts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def clear(self) -> None:
        self.mails.clear()
        self.slack_texts.clear()


@contextmanager
def listening() -> Iterator[Sinks]:
    """Both servers on free ports of 127.0.0.1, until the end of the block."""
    found = Sinks({})

    class Mailbox:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            message = BytesParser(policy=default).parsebytes(envelope.content)
            message["X-Recipients"] = ", ".join(envelope.rcpt_tos)
            found.mails.append(message)
            return "250 OK"

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            problem = _slack_problem(self.path, self.headers.get("Content-Type", ""), body)
            if problem:
                found.refused.append(f"{problem}: {body!r}")
            else:
                found.slack_texts.append(json.loads(body)["text"])
            answer = (problem or "ok").encode()
            self.send_response(400 if problem else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args):
            pass

    smtp = Controller(Mailbox(), hostname="127.0.0.1", port=free_port())  # it refuses port 0
    http = ThreadingHTTPServer(("127.0.0.1", 0), Webhook)
    smtp.start()
    threading.Thread(target=http.serve_forever, daemon=True).start()
    webhook = f"http://127.0.0.1:{http.server_port}/services/T0/B0/secret"
    found.environment |= {
        "ALERT_EMAIL_TO": "shop@example.com, data@example.com",
        "AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(
            {
                "conn_type": "smtp",
                "host": "127.0.0.1",
                "port": smtp.port,
                "extra": {"disable_ssl": True, "disable_tls": True, "from_email": "mart@example.com"},
            }
        ),
        "AIRFLOW_CONN_SLACK_DEFAULT": json.dumps({"conn_type": "slackwebhook", "password": webhook}),
        # The same for `retail-mart watch`.
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": str(smtp.port),
        "SMTP_SECURITY": "none",
        "SMTP_FROM": "mart@example.com",
        "SLACK_WEBHOOK_URL": webhook,
    }
    try:
        yield found
    finally:
        smtp.stop()
        http.shutdown()
        http.server_close()


def _slack_problem(path: str, content_type: str, body: bytes) -> str | None:
    """The error that Slack answers with, or None for a message that it takes."""
    if path != "/services/T0/B0/secret":
        return "invalid_token"
    if not content_type.startswith("application/json"):
        return "invalid_payload"
    try:
        _SLACK_MESSAGE.validate(json.loads(body))
    except (ValueError, ValidationError) as error:
        return f"invalid_payload ({error})"
    return None
