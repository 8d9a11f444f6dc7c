"""Watch on looks made by hand: told once, over once, whatever is restarted or fails in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from conf.settings import SettingsError
from operations import watch as watch_module
from operations.alerts import Alert
from operations.notify import NotDeliveredError
from operations.watch import State, Watch, describe, read_state, write_state
from stack.process import free_port
from tests.builders.files import ROOT
from tests.builders.looks import LIMITS, MART_UNAVAILABLE, batches, look
from tests.builders.rendered import rendered

FINE = look()
BEHIND = look(lag=5000)
STALE_AND_BEHIND = look(lag=5000, waiting=5000, batches=batches(300))


class Recorder:
    """A channel that keeps what it is told; while `broken` it takes nothing."""

    def __init__(self, name="slack"):
        self.name, self.broken, self.told = name, False, []

    def send(self, message):
        if self.broken:
            raise NotDeliveredError("Slack answers 503")
        self.told.append(message.message_id.split(".")[0] + (" fires" if message.firing else " over"))


@pytest.fixture
def seen(monkeypatch):
    """The looks that are to come, first one first."""
    coming = []
    monkeypatch.setattr(watch_module, "observe", lambda settings: coming.pop(0))
    return coming


@pytest.fixture
def settings(tmp_path):
    return LIMITS.model_copy(update={"mart_home": tmp_path / "home", "kafka_bootstrap_servers": "kafka:9092"})


def looks(settings, seen, channels, *coming):
    """Each look by a watch of its own, as after a restart."""
    seen.extend(coming)
    return [Watch(settings, channels).look() for _ in coming]


def test_told_once_and_over_once_by_a_watch_restarted_each_time(settings, seen):
    slack = Recorder()
    looks(settings, seen, [slack], FINE, BEHIND, BEHIND, BEHIND)
    assert slack.told == ["lag_high fires"]
    looks(settings, seen, [slack], STALE_AND_BEHIND, BEHIND, BEHIND)
    assert slack.told == ["lag_high fires", "stream_stale fires", "stream_stale over"]
    looks(settings, seen, [slack], look(lag=900), FINE, FINE, BEHIND)
    assert slack.told[3:] == ["lag_high over", "lag_high fires"]  # 900 of 1,000 was not yet over


def test_an_outage_hides_no_alert_and_ends_none(settings, seen):
    slack = Recorder()
    looks(settings, seen, [slack], BEHIND, MART_UNAVAILABLE, MART_UNAVAILABLE, BEHIND, FINE)
    assert slack.told == ["lag_high fires", "mart_unreachable fires", "mart_unreachable over", "lag_high over"]
    state = read_state(settings.mart_home / "watch.json")
    assert (state.firing, state.told) == ({}, {"log": {}, "slack": {}})


def test_since_is_the_first_look(settings, seen):
    looks(settings, seen, [], BEHIND)
    first = read_state(settings.mart_home / "watch.json")
    looks(settings, seen, [], MART_UNAVAILABLE, BEHIND)
    later = read_state(settings.mart_home / "watch.json")
    assert later.firing == {Alert.LAG_HIGH: first.looked_at} == first.firing
    assert first.looked_at < later.looked_at


def test_a_channel_that_fails_is_told_later_and_the_others_not_again(settings, seen):
    slack, email = Recorder(), Recorder("email")
    slack.broken = True
    [first, second] = looks(settings, seen, [slack, email], BEHIND, BEHIND)
    assert (first.undelivered, second.undelivered) == (1, 1)
    assert (slack.told, email.told) == ([], ["lag_high fires"])
    slack.broken = False
    looks(settings, seen, [slack, email], BEHIND, FINE)
    assert slack.told == email.told == ["lag_high fires", "lag_high over"]
    slack.broken = True  # what began and ended meanwhile needs no telling
    looks(settings, seen, [slack, email], BEHIND, FINE)
    slack.broken = False
    looks(settings, seen, [slack, email], FINE)
    assert len(slack.told) == 2
    assert len(email.told) == 4


def test_killed_between_two_channels_nobody_hears_it_twice(settings, seen):
    class Killed(Recorder):
        def send(self, message):
            raise KeyboardInterrupt

    email = Recorder("email")
    with pytest.raises(KeyboardInterrupt):
        looks(settings, seen, [email, Killed()], BEHIND)
    slack = Recorder()
    looks(settings, seen, [email, slack], BEHIND)
    assert email.told == slack.told == ["lag_high fires"]


def test_two_watches_of_one_home_take_turns(settings, seen):
    slack = Recorder()
    watching = Watch(settings, [slack])
    seen.append(BEHIND)
    hold = "import filelock, sys\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True); input()"
    other = subprocess.Popen(
        [sys.executable, "-c", hold, str(settings.mart_home / "watch.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    mine = threading.Thread(target=watching.look)
    mine.start()
    mine.join(timeout=0.5)
    assert (mine.is_alive(), slack.told, len(seen)) == (True, [], 1)  # it waits before it looks
    other.communicate("\n", timeout=30)
    mine.join(timeout=30)
    assert slack.told == ["lag_high fires"]


def test_a_full_disk_silences_nothing(settings, seen, monkeypatch):
    slack = Recorder()
    watching = Watch(settings, [slack])
    seen.extend([BEHIND, BEHIND, FINE])
    with monkeypatch.context() as full, capture_logs() as lines:
        full.setattr(watch_module, "write_state", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        watching.look()
        watching.look()
    assert slack.told == ["lag_high fires"]  # remembered without the file
    assert "state not written" in {line["event"] for line in lines}
    watching.look()
    assert slack.told == ["lag_high fires", "lag_high over"]
    assert read_state(settings.mart_home / "watch.json").firing == {}


def test_the_log_is_a_channel_too(settings, seen):
    with capture_logs() as lines:
        looks(settings, seen, [], BEHIND, BEHIND, FINE)
    told = [(line["log_level"], line["subject"]) for line in lines if line["event"] == "alert"]
    assert told == [
        ("warning", "retail-mart: the stream is far behind"),
        ("info", "retail-mart: resolved: the stream is far behind"),
    ]


@pytest.mark.parametrize("text", ["", "{", '{"firing": {"no_such_alert": "2026-03-11T12:00:00Z"}}', "\x80"])
def test_a_broken_state_begins_anew(tmp_path, text):
    path = tmp_path / "watch.json"
    path.write_bytes(text.encode("latin-1"))
    with capture_logs() as lines:
        assert read_state(path) == State()
    assert lines[0]["event"] == "state not readable, beginning anew"


def test_the_state_is_replaced_whole(tmp_path):
    at = datetime(2026, 3, 11, 12, tzinfo=UTC)
    state = State(looked_at=at, firing={Alert.DISK_LOW: at}, told={"log": {Alert.DISK_LOW: at}})
    write_state(tmp_path / "watch.json", state)
    assert read_state(tmp_path / "watch.json") == state
    assert [path.name for path in tmp_path.iterdir()] == ["watch.json"]
    assert json.loads((tmp_path / "watch.json").read_text())["firing"] == {"disk_low": "2026-03-11T12:00:00Z"}


def test_a_home_that_cannot_be_written_is_told(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"MART_HOME=\S+/file"):
        Watch(settings.model_copy(update={"mart_home": tmp_path / "file"}), [])


def test_it_stops_at_once_when_it_is_told_to(settings, seen):
    stopping = threading.Event()
    seen.extend([FINE, BEHIND])
    watching = threading.Thread(target=Watch(settings, []).run, args=(3600, stopping))
    watching.start()
    while len(seen) == 2:
        pass
    stopping.set()
    watching.join(timeout=30)
    assert not watching.is_alive()
    assert len(seen) == 1


IMPATIENT = (
    "import sys; from mart import status; status._PATIENCE_SECONDS = 1; "
    "from cli.main import main; sys.argv[1:] = ['watch', '--once']; main()"
)


def watch_once(tmp_path, **environment):
    return subprocess.run(
        [sys.executable, "-c", IMPATIENT],
        cwd=ROOT,
        env={"MART_HOME": str(tmp_path), "COLUMNS": "200", "PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_once_tells_of_servers_that_are_unavailable_and_exits_with_1(tmp_path):
    done = watch_once(
        tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}",
        KAFKA_TIMEOUT_SECONDS="1",
        MART_DSN=f"postgresql://reader:s3cret@127.0.0.1:{free_port()}/mart",
        SLACK_WEBHOOK_URL=f"http://127.0.0.1:{free_port()}/services/T0/B0/t0ken",
    )
    assert done.returncode == 1, done.stderr
    assert "broker_unreachable" in done.stdout
    assert "Connection refused" in done.stdout
    assert "unknown" in done.stdout
    assert "not delivered" in done.stderr
    for text in (done.stdout, done.stderr):
        assert "s3cret" not in text
        assert "t0ken" not in text
        assert "Traceback" not in text
    state = json.loads((tmp_path / "watch.json").read_text())
    assert {"broker_unreachable", "mart_unreachable"} <= set(state["firing"])


def test_once_after_down_is_an_alert_of_both_servers(tmp_path):
    done = watch_once(tmp_path)
    assert done.returncode == 1, done.stderr
    told = json.loads((tmp_path / "watch.json").read_text())["told"]["log"]
    assert {"broker_unreachable", "mart_unreachable"} <= set(told)
    assert "the mart cannot be read: no PostgreSQL: start the embedded one with `retail-mart up`" in done.stdout
    assert "the topic cannot be read: no Kafka: start the embedded one with `retail-mart up`" in done.stdout
    assert "no answer from PostgreSQL and Kafka" in done.stdout
    alerts = [line for line in done.stderr.splitlines() if "mart cannot be read" in line]
    assert len(alerts) == 1, "one line each, with no \\n in it"
    assert "\\n" not in alerts[0]
    assert " | What to do: See PostgreSQL's log" in alerts[0]


def test_the_table_has_a_word_for_each_alert(settings, seen):
    [looked] = looks(settings, seen, [], STALE_AND_BEHIND)
    shown = rendered(describe(looked, settings.model_copy(update={"alert_nightly_hours": 0})), 200)
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in shown.splitlines()}
    assert lines["lag_high"].startswith("fires the stream is far behind: 5,000 records")
    assert lines["nightly_late"] == "off ALERT_NIGHTLY_HOURS=0"
    assert lines["scores_wrong"] == "fine always on"
    assert lines["rejects_high"] == f"fine ALERT_REJECT_PERCENT={settings.alert_reject_percent:g}"


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        (
            {"ALERT_EMAIL_TO": "shop@example.com", "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "MART_DSN": "host=none"},
            "ALERT_EMAIL_TO=shop@example.com: no mail server is named; set SMTP_HOST",
        ),
        ({"SLACK_WEBHOOK_URL": "hooks.slack.com/s3cret"}, "SLACK_WEBHOOK_URL: give it as Slack shows it"),
    ],
)
def test_what_is_missing_is_told_in_one_line(tmp_path, environment, says):
    done = watch_once(tmp_path, **environment)
    assert done.returncode == 1
    assert says in " ".join(done.stderr.split())
    assert "s3cret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_watch_needs_no_spark():
    """Its container is a small one."""
    code = "import operations.watch, operations.notify, sys; sys.exit('pyspark' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
