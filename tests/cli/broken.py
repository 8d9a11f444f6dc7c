"""Broken surroundings: each verb of the front door run in each, and what came of it as a table of Markdown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2
import pytest

import stack
from conf.kafka import Brokers
from conf.settings import Settings
from lake.table import open_lake
from mart.connection import connect
from mart.migrate import migrate
from mart.next_offsets import advance, take_over
from mart.shop_rules import adopt_rules
from stack.process import free_port
from tests.builders.pipeline import Mart, new_mart
from tests.builders.verbs import Ended, run
from topic.describe import describe_topic

BREAKS = {
    "nothing running": {"mart", "kafka", "lake", "metabase"},
    "PostgreSQL unreachable": {"mart"},
    "wrong password": {"mart"},
    "mart not migrated": {"mart"},
    "broker unreachable": {"kafka"},
    "no lake": {"lake"},
    "Metabase unreachable": {"metabase"},
}
"""What is amiss in each of the surroundings."""


@dataclass(frozen=True)
class Verb:
    """A verb, with arguments to do its work ({home}: MART_HOME, {dump}: a backup), and what it asks."""

    name: str
    arguments: tuple[str, ...]
    asks: frozenset[str]

    def asked(self, surrounding: str) -> bool:
        return bool(self.asks & BREAKS[surrounding]) and (self.name, surrounding) not in WORKS

    @property
    def words(self) -> str:
        """As it is called."""
        telling = ("--repair", "--listed", "--only", "land", "apply")
        return " ".join((self.name, *(argument for argument in self.arguments if argument in telling)))


_MART = frozenset({"mart"})
VERBS = (
    Verb("replay", ("{home}/shop", "--no-progress"), frozenset({"kafka"})),
    Verb("live", ("--duration", "0.2", "--no-progress"), frozenset({"kafka"})),
    Verb("migrate", (), _MART),
    Verb("run", ("--available-now", "--only", "apply", "--warm-up-rounds", "0"), frozenset({"mart", "kafka"})),
    Verb("status", (), frozenset({"mart", "kafka"})),
    Verb("explain", ("c1",), _MART),
    Verb("page", (), _MART),
    Verb("metabase apply", (), frozenset({"metabase"})),
    Verb("metabase diff", (), frozenset({"metabase"})),
    Verb("mine", (), frozenset({"mart", "lake"})),
    Verb("landed", (), frozenset({"mart", "lake"})),
    Verb("check", (), _MART),
    Verb("recommend", ("A1",), _MART),
    Verb("runs", (), _MART),
    Verb("rollback", ("1",), _MART),
    Verb("verify", ("--wait", "0"), frozenset({"mart", "lake"})),
    Verb("verify", ("--wait", "0", "--repair"), frozenset({"mart", "kafka", "lake"})),
    Verb("rewind", ("--yes",), frozenset({"mart", "kafka"})),
    Verb("rewind", ("--only", "land", "--yes"), frozenset({"kafka", "lake"})),
    Verb("compact", (), frozenset({"lake"})),
    Verb("prune", ("--yes",), _MART),
    Verb("backup", (), _MART),
    Verb("restore", ("{dump}",), _MART),
    Verb("watch", ("--once",), frozenset({"mart", "kafka"})),
    Verb("export", ("c1",), _MART),
    Verb("erase", ("c1", "--yes", "--accept-unknown"), _MART),
    Verb("erase", ("--listed", "--yes"), _MART),
    Verb("rejected list", (), _MART),
    Verb("rejected show", ("0:1",), _MART),
    Verb("rejected redrive", ("--all",), frozenset({"mart", "kafka"})),
)
_PAGE = "serves, says so on the page, and goes on by itself when it is back"
WORKS = {
    ("migrate", "mart not migrated"): "makes the tables",
    ("restore", "mart not migrated"): "restores into it",
    ("page", "PostgreSQL unreachable"): _PAGE,
    ("page", "wrong password"): _PAGE,
    ("page", "mart not migrated"): _PAGE,
}
"""Where a verb does its work all the same."""
ASK_NOTHING = {
    "demo": "starts servers of its own",
    "up": "starts what does not run",
    "servers": "shows what does not run (exit code 3)",
    "down": "ends what runs",
    "reset": "ends what runs, and deletes its data",
    "airflow": "starts Airflow, whose tasks are the verbs above",
    "with-servers": "starts servers of its own, or takes those that run",
    **dict.fromkeys(("generate", "env", "settings"), "asks no server"),
    **dict.fromkeys(("jvm java", "jvm jars", "jvm spark-jars", "jvm s3-jars", "jvm log-options"), "asks no server"),
}
"""Why the other verbs have no such surroundings."""

FIX = re.compile(r"`retail-mart |\b(?:MART|KAFKA|LAKE|METABASE)_[A-Z_]+")
"""What a sentence that says what to do names: a command, or a setting."""


@dataclass(frozen=True)
class Outcome:
    """How a verb ended: exit code, all that it wrote, and the sentence of it without what differs from run to run."""

    code: int
    text: str
    sentence: str


@contextmanager
def surrounding(name: str, servers: stack.State, topic: str, home: Path) -> Iterator[Path]:
    """The environment of one of BREAKS until the block's end; yields a backup for `restore`."""
    with pytest.MonkeyPatch.context() as patch, new_mart(servers) as healthy, new_mart(servers) as empty:
        for setting in Settings.model_fields:
            patch.delenv(setting.upper(), raising=False)
        patch.setattr("mart.status._PATIENCE_SECONDS", 0.1)
        _set(patch, MART_HOME=home, KAFKA_TIMEOUT_SECONDS="0.3", OUTAGE_PATIENCE_SECONDS="1", COLUMNS="300")
        _set(patch, METABASE_URL=f"http://127.0.0.1:{free_port()}", METABASE_TIMEOUT_SECONDS="0.3")
        assert run("generate", "--lines", "100", "--days", "1", "--output", str(home / "shop")).code == 0
        bootstrap = servers.kafka_bootstrap_servers or ""
        with closing(psycopg2.connect(healthy.owner_dsn)) as owner:
            migrate(owner)
        with closing(connect(healthy.writer_dsn)) as writer, writer, writer.cursor() as cursor:
            writer = take_over(cursor, describe_topic(Brokers(bootstrap), topic), "test")
            advance(cursor, writer, {0: 1})
            adopt_rules(cursor, Settings())
        _name(patch, healthy)
        dump = run("backup")
        assert dump.code == 0, dump
        if name == "nothing running":
            for dsn in ("MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN"):
                patch.delenv(dsn)
        else:
            _set(patch, KAFKA_BOOTSTRAP_SERVERS=bootstrap, KAFKA_TOPIC=topic)
        if BREAKS[name] != {"kafka"} and name != "nothing running":
            _set(patch, KAFKA_TIMEOUT_SECONDS="20")
        if name == "broker unreachable":
            _set(patch, KAFKA_BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")
        if name == "PostgreSQL unreachable":
            dsn = f"postgresql://writer:secret@127.0.0.1:{free_port()}/mart"
            _name(patch, Mart("none", dsn, dsn, dsn))
        if name == "wrong password":
            url = urlsplit(healthy.writer_dsn)
            dsn = urlunsplit(url._replace(netloc=f"{url.username}:wrong@{url.hostname}:{url.port}"))
            _name(patch, Mart("refused", dsn, dsn, dsn))
        if name == "mart not migrated":
            _name(patch, empty)
        if "lake" not in BREAKS[name]:
            open_lake(str(home / "lake" / "invoices"))
        yield Path(dump.out.strip())


def outcomes(name: str, home: Path, dump: Path) -> dict[Verb, Outcome]:
    """Each verb that is asked there, run as a command is: the job, which starts a Java, beside the others."""
    with ExitStack() as ended:
        asked = [verb for verb in VERBS if verb.asked(name)]
        jobs = {
            verb: ended.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "cli", verb.name, *verb.arguments],
                    env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                )
            )
            for verb in asked if verb.name == "run"
        }  # fmt: skip
        found = {}
        for verb in asked:
            if verb not in jobs:
                arguments = [argument.format(home=home, dump=dump) for argument in verb.arguments]
                found[verb] = _outcome(run(verb.name, *arguments), home)
        for verb, job in jobs.items():
            _, said = job.communicate(timeout=120)
            found[verb] = _outcome(Ended(job.returncode, "", said), home)
    return {verb: found[verb] for verb in asked}


def table(found: dict[str, dict[Verb, Outcome]]) -> str:
    """Verb by surrounding, with exit code and number of the sentence; then the sentences."""
    sentences: list[str] = []

    def cell(verb: Verb, name: str) -> str:
        if verb not in found[name]:
            return "works" if (verb.name, name) in WORKS else ""
        outcome = found[name][verb]
        if outcome.sentence not in sentences:
            sentences.append(outcome.sentence)
        return f"{outcome.code} ({sentences.index(outcome.sentence) + 1})"

    rows = [(f"`{verb.words}`", *(cell(verb, name) for name in BREAKS)) for verb in VERBS]
    works = {f"`{verb}`, {name}: {why}" for (verb, name), why in WORKS.items()}
    reasons: dict[str, list[str]] = {}
    for verb, why in ASK_NOTHING.items():
        reasons.setdefault(why, []).append(f"`{verb}`")
    return "\n".join(
        [
            *_markdown(("verb", *BREAKS), rows),
            "",
            *(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1)),
            "",
            "An empty field: the verb does not ask for it. Where it works:",
            "",
            *(f"* {line}" for line in sorted(works)),
            "",
            "Verbs without such surroundings:",
            "",
            *(f"* {', '.join(verbs)}: {why}" for why, verbs in reasons.items()),
        ]
    )


def _markdown(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    for row in (header, ("---",) * len(header), *rows):
        yield f"| {' | '.join(row)} |"


def _name(patch: pytest.MonkeyPatch, mart: Mart) -> None:
    _set(patch, MART_DSN=mart.writer_dsn, MART_OWNER_DSN=mart.owner_dsn, MART_READER_DSN=mart.reader_dsn)


def _set(patch: pytest.MonkeyPatch, **values: object) -> None:
    for name, value in values.items():
        patch.setenv(name, str(value))


def _outcome(ended: Ended, home: Path) -> Outcome:
    return Outcome(ended.code, ended.text, _sentence(ended.text.strip(), home))


def _sentence(text: str, home: Path) -> str:
    if text.startswith(("Kafka ", "alert ")):  # `status`, `watch --once`
        return "the table says what"
    line = text.splitlines()[-1].replace(str(home), "MART_HOME") if text else ""
    for pattern, words in (
        (r"127\.0\.0\.1:\d+", "HOST:PORT"),
        (r"(Kafka at HOST:PORT is unavailable): .*(?=\. When)", r"\1: …"),
        (r"(PostgreSQL is unavailable): .*(?=\. When)", r"\1: …"),
        (r"(PostgreSQL refuses): .*(password authentication failed).*(?=\. Check)", r"\1: … \2 …"),
        (r"(Metabase at \S+) .*(?=\. When)", r"\1 …"),
        (r'(relation|schema|function) "?[\w.]+"?(\(\w*\))? does not exist', r"\1 … does not exist"),
    ):
        line = re.sub(pattern, words, line)
    return line
