"""Masking: every spelling of every secret, and nothing else."""

from __future__ import annotations

import errno
import html
import io
import json
import logging
import re
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from psycopg2.extensions import make_dsn
from pydantic import ValidationError

from conf import masking
from conf.dsn import fault
from conf.logs import configure_logs
from conf.masking import MaskedError, MaskedStream, conceal, masked
from conf.settings import Settings, _in_jaas

passwords = st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="*"), min_size=6, max_size=20)


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(masking, "_known", ())
    for name in masking.FOREIGN:
        monkeypatch.delenv(name, raising=False)


@given(passwords.filter(lambda password: len(password.split()) and len(" ".join(password.split())) >= 4))
def test_a_password_is_masked_in_every_spelling(password):
    masking._known = ()
    url = f"postgresql://writer:{quote(password, safe='')}@db.example:5432/mart"
    conceal(url)
    java = _in_jaas(password)
    for spelling in (
        password, " ".join(password.split()), quote(password, safe=""), quote(password), quote_plus(password),
        json.dumps(password)[1:-1], json.dumps(password, ensure_ascii=False)[1:-1], json.dumps(repr(password))[1:-1],
        repr(password)[1:-1], java[1:-1], json.dumps(java[1:-1])[1:-1], html.escape(password),
        html.escape(password, quote=False), make_dsn(password=password).removeprefix("password="),
    ):  # fmt: skip
        assert re.fullmatch(r"""<[\\"']*\*\*\*[\\"']*>""", masked(f"<{spelling}>")), spelling  # quotes of the form
    assert masked(url) == "postgresql://writer:***@db.example:5432/mart"
    assert (
        masked("FATAL: database mart does not exist at db.example")
        == "FATAL: database mart does not exist at db.example"
    )


@pytest.mark.parametrize(
    ("dsn", "said"),
    [
        ("postgresql://u:qqxx%zzwwvv@h/d", 'invalid percent-encoded token: "qqxx%zzwwvv"'),
        ("postgresql://u:qqxx@wwvv@h/d", 'could not translate host name "wwvv@h" to address'),
        ("postgresql://u:qqxx/wwvv@h/d", 'invalid integer value "qqxx" for connection option "port"'),
        ("host=h password=qqxx wwvv dbname=d", 'missing "=" after "wwvv" in connection info string'),
    ],
)
def test_what_postgresql_breaks_out_of_a_faulty_dsn(dsn, said):
    conceal(dsn)
    told = masked(f"{said} {dsn}")
    assert "qqxx" not in told
    assert "wwvv" not in told


def test_our_own_advice_stays_readable():
    advice = fault("postgresql://u:qqxx%zz@h/d")
    assert advice is not None
    assert masked(advice) == advice


def test_a_piece_is_no_part_of_another_word():
    conceal("postgresql://u:ss@word@h/d")
    assert masked("password: word, %40word") == "password: ***, %40***"
    conceal("postgresql://u:my-mart-2024@h/d")  # sound: nobody breaks it apart
    assert masked("the mart, 2024-01-31") == "the mart, 2024-01-31"


def test_what_no_setting_names(monkeypatch):
    assert masked("proxy http://me:pr0xy@proxy:3128 refused") == "proxy http://me:***@proxy:3128 refused"
    assert masked("host=h password='a b' user=u, password=ab, and a password") == (
        "host=h password=*** user=u, password=*** and a password"
    )
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws/k+ey")
    assert masked("aws/k+ey aws%2Fk%2Bey") == "*** ***"
    conceal("https://hooks.slack.example/services/T0/B0/t0ken")
    assert masked("POST /services/T0/B0/t0ken to hooks.slack.example") == "POST /*** to hooks.slack.example"


def test_every_secret_setting_is_known_even_if_the_settings_are_wrong():
    secret = [name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)]
    assert {"mart_dsn", "kafka_sasl_password", "smtp_password", "slack_webhook_url"} <= set(secret)
    values = {name: f"https://x.example/{name}-5ecret" if name.endswith("url") else f"{name}-5ecret" for name in secret}
    for name in ("mart_dsn", "mart_owner_dsn", "mart_reader_dsn"):
        values[name] = f"postgresql://u:{values[name]}@h/d"
    with pytest.raises(ValidationError) as refused:
        Settings(**values, metrics_port="x")
    assert "5ecret" not in str(refused.value)
    assert "5ecret" not in masked(" ".join(f"{name}-5ecret" for name in secret))


def test_no_more_are_kept_than_a_process_has():
    for number in range(1_000):
        conceal(f"secret-{number:04}")
    assert len(masking._known) <= 64
    assert masked("secret-0999 secret-0000") == "*** secret-0000"


def test_errors_logs_and_the_stream_of_errors(capsys):
    conceal("hidden-word")
    assert str(MaskedError("it is hidden-word")) == "it is ***"
    before = sys.stderr
    for form in ("json", "plain"):
        configure_logs(Settings(log_format=form))
        try:
            try:
                raise ValueError("hidden-word")
            except ValueError:
                structlog.get_logger().exception("hidden-word", deep={"a": ["hidden-word"]}, key=b"hidden-word")
        finally:
            structlog.reset_defaults()
            sys.stderr = before
        told = capsys.readouterr().err
        assert "hidden-word" not in told
        assert told.count("***") >= 4
    stream = MaskedStream(sys.stderr)
    handler = logging.StreamHandler(stream)
    handler.emit(logging.LogRecord("x", logging.ERROR, "x", 1, "of %s", ("hidden-word",), None))
    stream.writelines(["hidden-word\n"])
    print("hidden-word", file=stream)
    assert capsys.readouterr().err == "of ***\n***\n***\n"
    assert stream.encoding == sys.stderr.encoding


class Disk(io.StringIO):
    """Takes text while it is not full."""

    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_log_that_cannot_be_written_stops_nobody_and_says_what_it_lacks():
    """The job ended with a traceback, exit code 1, when the disk of its log was full, or its terminal gone."""
    disk = Disk()
    stream = MaskedStream(disk)
    print("one", file=stream, flush=True)
    disk.full = True
    print("two", file=stream, flush=True)
    disk.full = False
    print("three", file=stream, flush=True)
    lines = disk.getvalue().splitlines()
    assert (lines[0], lines[2:]) == ("one", ["three"])
    assert lines[1].endswith("lost: No space left on device]")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_command_whose_standard_error_is_full_ends_as_it_would():
    program = (
        "import structlog, typer; from cli.run import run_command; from conf.logs import configure_logs\n"
        "from conf.settings import Settings\n"
        "def command():\n"
        "    configure_logs(Settings())\n"
        "    [structlog.get_logger().info('a line of the log', number=n) for n in range(1000)]\n"
        "    print('done')\n"
        "app = typer.Typer(); app.command()(command); run_command(app, 'test')\n"
    )
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full)
    assert (ended.returncode, ended.stdout) == (0, b"done\n")
