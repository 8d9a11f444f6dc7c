"""Settings: where they come from, and what is refused."""

from __future__ import annotations

import json

import pytest

from conf.dsn import in_utf8
from conf.settings import Settings, SettingsError, settings


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("MART_HOME", str(tmp_path))
    settings.cache_clear()
    yield tmp_path
    settings.cache_clear()


def test_environment_over_state_file_over_default(own_home, monkeypatch):
    assert settings().kafka_topic == "invoices"
    (own_home / "stack.json").write_text(
        json.dumps({"kafka_bootstrap_servers": "127.0.0.1:9", "mart_dsn": "postgresql:///of-stack"})
    )
    settings.cache_clear()
    assert settings().require_kafka() == "127.0.0.1:9"
    assert settings().require_mart() == in_utf8("postgresql:///of-stack")
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "broker:1")
    monkeypatch.setenv("KAFKA_TOPIC", "sales")
    settings.cache_clear()
    assert settings().require_kafka() == "broker:1"
    assert settings().kafka_topic == "sales"
    assert settings().require_mart() == in_utf8("postgresql:///of-stack")


def test_external_mart_hides_every_dsn_of_the_embedded_one(own_home, monkeypatch):
    (own_home / "stack.json").write_text(
        json.dumps({f"mart_{role}dsn": f"dbname={role or 'a'}" for role in ("", "owner_", "reader_")})
    )
    monkeypatch.setenv("MART_DSN", "dbname=mine")
    assert {settings().require_mart(role) for role in ("writer", "owner", "reader")} == {in_utf8("dbname=mine")}


def test_missing_servers_name_the_fix():
    with pytest.raises(SettingsError, match=r"`retail-mart up`, or set KAFKA_BOOTSTRAP_SERVERS"):
        settings().require_kafka()
    with pytest.raises(SettingsError, match=r"`retail-mart up`, or set MART_DSN"):
        settings().require_mart()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHOP_TIME_ZONE", "Mars/Olympus"),
        ("RETURNS_POLICY", "perhaps"),
        ("MAX_INVOICES_PER_BATCH", "0"),
        ("KAFKA_TIMEOUT_SECONDS", "soon"),
    ],
)
def test_wrong_value_is_named_with_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"{name}: .*'?{value}'?"):
        settings()


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"ALERT_EMAIL_TO": "a@b.example", "SMTP_HOST": "mail"}, "need a sender: set SMTP_FROM"),
        ({"SMTP_SECURITY": "none", "SMTP_PASSWORD": "s3cret"}, "use starttls or tls"),
        ({"SLACK_WEBHOOK_URL": "hooks.slack.com/s3cret"}, "SLACK_WEBHOOK_URL: .*give it as Slack shows it"),
    ],
)
def test_half_a_way_to_tell_people_is_refused_and_no_secret_told(monkeypatch, environment, says):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says) as refused:
        settings()
    assert "s3cret" not in str(refused.value)


def test_addresses_of_alerts_are_parted_at_commas():
    assert Settings(alert_email_to=" a@b.example, ,c@d.example ").alert_addresses == ["a@b.example", "c@d.example"]
    assert Settings().alert_addresses == []


@pytest.mark.parametrize("name", ["MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN"])
def test_a_dsn_with_an_unescaped_character_is_named_with_the_fix_and_not_shown(own_home, monkeypatch, name):
    for value in ("postgresql://writer:hidden@word@host/mart", "postgresql://writer:hidden%word@host/mart"):
        monkeypatch.setenv(name, value)
        settings.cache_clear()
        with pytest.raises(SettingsError, match=rf"^{name}: .*@ as %40") as refused:
            settings()
        assert "hidden" not in str(refused.value)
    monkeypatch.delenv(name)
    (own_home / "stack.json").write_text(json.dumps({name.lower(): "garbage"}))
    settings.cache_clear()
    with pytest.raises(SettingsError, match=rf"^{name}: PostgreSQL cannot read it"):
        settings()


def test_passwords_do_not_show(monkeypatch):
    monkeypatch.setenv("MART_DSN", "postgresql://writer:hidden-word@host/mart")
    assert "hidden-word" not in repr(settings()) + str(settings())
    assert "hidden-word" in settings().require_mart()
