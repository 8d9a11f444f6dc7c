"""E-mail to a real SMTP server, and Slack messages to a server that answers as Slack's webhooks do."""

from __future__ import annotations

import ssl

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword
from structlog.testing import capture_logs

from conf.settings import Settings, SettingsError
from operations import notify
from operations.alerts import Message
from operations.notify import Email, NotDeliveredError, Slack, channels
from stack.process import free_port
from tests.builders.sinks import listening

MESSAGE = Message("lag_high.20260311T120000.firing", "retail-mart: <far> behind", "5 > 3 & 2 < 4\n", True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(notify, "wait_exponential", lambda **_: lambda _state: 0)


@pytest.fixture
def sinks():
    with listening() as found:
        yield found


def settings_of(environment, **more):
    fields = {name.lower(): value for name, value in environment.items() if not name.startswith("AIRFLOW")}
    return Settings(**{**fields, **more})


def test_both_channels_deliver_what_a_mail_program_and_slack_take(sinks):
    settings = settings_of(sinks.environment)
    for channel in channels(settings):
        channel.send(MESSAGE)
    [mail], [text] = sinks.mails, sinks.slack_texts
    assert sinks.refused == []
    assert mail["Subject"] == "retail-mart: <far> behind"
    assert (mail["From"], mail["To"]) == ("mart@example.com", "shop@example.com, data@example.com")
    assert mail["X-Recipients"] == "shop@example.com, data@example.com"
    assert mail["Message-ID"] == "<lag_high.20260311T120000.firing@retail-mart>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail.get_content().splitlines() == ["5 > 3 & 2 < 4"]
    assert text == "*retail-mart: &lt;far&gt; behind*\n5 &gt; 3 &amp; 2 &lt; 4\n"


def test_only_what_the_settings_name(sinks):
    assert channels(Settings()) == []
    [slack] = channels(settings_of(sinks.environment, smtp_host=None, alert_email_to=None))
    assert slack.name == "slack"
    with capture_logs() as lines:
        assert channels(Settings(smtp_host="mail.example.com", smtp_from="a@example.com")) == []
    assert "set ALERT_EMAIL_TO" in lines[0]["reason"]
    with pytest.raises(SettingsError, match=r"ALERT_EMAIL_TO=a@example\.com: no mail server is named; set SMTP_HOST"):
        channels(Settings(alert_email_to="a@example.com"))


def test_login_by_starttls_and_a_refused_one(monkeypatch, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    arrived = []

    class Mailbox:
        async def handle_DATA(self, server, session, envelope):  # noqa: N802
            arrived.append((session.ssl is not None, session.authenticated, envelope.rcpt_tos))
            return "250 OK"

    def login(server, session, envelope, mechanism, data):
        return AuthResult(success=isinstance(data, LoginPassword) and data.password == b"s3cret", handled=False)

    server = Controller(
        Mailbox(),
        hostname="localhost",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        authenticator=login,
        auth_required=True,
    )
    server.start()
    try:
        settings = Settings(
            alert_email_to="shop@example.com",
            smtp_host="localhost",
            smtp_port=server.port,
            smtp_username="mart@example.com",
            smtp_password="s3cret",
        )
        Email(settings).send(MESSAGE)
        assert arrived == [(True, True, ["shop@example.com"])]
        wrong = settings.model_copy(update={"smtp_password": Settings(smtp_password="wr0ng").smtp_password})
        with pytest.raises(NotDeliveredError, match=r"refuses the login .* check SMTP_USERNAME") as refused:
            Email(wrong).send(MESSAGE)
        assert "wr0ng" not in str(refused.value)
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(NotDeliveredError, match="certificate verify failed"):
            Email(settings).send(MESSAGE)
        assert len(arrived) == 1
    finally:
        server.stop()


def test_a_server_that_is_unavailable_is_tried_again(monkeypatch):
    tries = []
    monkeypatch.setattr(notify.smtplib, "SMTP", lambda *_, **__: tries.append(1) or (_ for _ in ()).throw(OSError()))
    with pytest.raises(NotDeliveredError, match=r"SMTP_HOST=mail\.example\.com port 587"):
        Email(Settings(smtp_host="mail.example.com", smtp_from="a@b", alert_email_to="c@d")).send(MESSAGE)
    assert len(tries) == 3


def test_slack_refuses_and_no_error_holds_the_url(sinks):
    url = sinks.environment["SLACK_WEBHOOK_URL"]
    with pytest.raises(NotDeliveredError, match="400 'invalid_token': is SLACK_WEBHOOK_URL right") as refused:
        Slack(url.replace("secret", "other-secret")).send(MESSAGE)
    with pytest.raises(NotDeliveredError, match="ConnectError") as unavailable:
        Slack(f"http://127.0.0.1:{free_port()}/services/T0/B0/secret").send(MESSAGE)
    for error in (refused, unavailable):
        assert "secret" not in str(error.value)
        assert "/services" not in str(error.value)
    assert len(sinks.refused) == 1  # a wrong token is not tried again
