"""docker-compose.yml: what must hold of every service, read without Docker; and Docker's own reading, where it is."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess

import pytest
import yaml

from conf.settings import Settings
from stack.env_file import PASSWORDS, write_env_file
from tests.builders.files import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE = yaml.safe_load(TEXT)
SERVICES = COMPOSE["services"]
LONG_RUNNING = {name: s for name, s in SERVICES.items() if s["restart"] != "no"}
DEFAULT = {name: s for name, s in SERVICES.items() if "profiles" not in s}


def megabytes(limit: str) -> int:
    return int(limit[:-1]) * {"m": 1, "g": 1024}[limit[-1]]


def test_ports_are_published_on_this_machine_alone():
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) >= 5
    assert all(port.startswith("127.0.0.1:") for port in published), published


@pytest.mark.parametrize("name", SERVICES)
def test_service_has_a_limit_and_a_pinned_image(name):
    service = SERVICES[name]
    assert megabytes(service["mem_limit"]) > 0
    assert not service["image"].endswith(":latest")
    assert ":" in service["image"]


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_long_running_service_has_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"]
    assert SERVICES[name]["restart"] == "unless-stopped"


def test_default_services_fit_into_8_gb():
    assert sum(megabytes(service["mem_limit"]) for service in DEFAULT.values()) <= 8 * 1024


def test_with_monitoring_they_still_do():
    """`prepare` has ended before the streaming job takes its memory. Prometheus' and Grafana's images are not run here:
    their limits are what their makers call enough, not measured."""
    monitoring = [s for s in SERVICES.values() if s.get("profiles") == ["monitoring"]]
    assert len(monitoring) == 2
    running = [s for s in DEFAULT.values() if s["restart"] != "no"] + monitoring
    assert sum(megabytes(service["mem_limit"]) for service in running) <= 8 * 1024


def test_every_published_service_is_on_a_network_that_can_publish():
    for name, service in SERVICES.items():
        if "ports" in service:
            assert "edge" in service["networks"], name


def test_the_watch_reads_as_the_least_role_and_reaches_the_world():
    watch = SERVICES["watch"]
    assert watch["environment"]["MART_READER_DSN"].startswith("postgresql://analytics_reader:")
    assert not {"MART_DSN", "MART_OWNER_DSN"} & set(watch["environment"])
    assert set(watch["networks"]) == {"data", "edge"}  # Slack and the mail server are out there
    named = {name for name in watch["environment"] if name.startswith(("ALERT_", "SMTP_", "SLACK_"))}
    assert named == {n for n in map(str.upper, Settings.model_fields) if n.startswith(("ALERT_", "SMTP_", "SLACK_"))}
    assert watch["volumes"] == SERVICES["streaming"]["volumes"]  # the disk that the job writes on


def test_who_touches_the_lake_gets_its_place_and_keys_and_reaches_them():
    """The variables are those that the operator's page names. Where .env has none, none is passed: an empty
    AWS_ENDPOINT_URL would be an address to delta-rs."""
    page = (ROOT / "docs/operations.md").read_text() + (ROOT / "conf/lake_storage.py").read_text()
    of_no_use = {
        "AWS_PROFILE",  # names a section of a file that no container has
        "AWS_S3_ALLOW_UNSAFE_RENAME",
        "AWS_CONDITIONAL_PUT",
    }
    named = set(re.findall(r"\bAWS_[A-Z0-9_]*[A-Z0-9]\b", page)) - of_no_use
    assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"} <= named
    for name in ("streaming", "prepare", "airflow"):
        given = SERVICES[name]["environment"]
        assert {"LAKE_PATH", *named} <= set(given), name
        assert all(given[variable] is None for variable in named), name
        assert "edge" in SERVICES[name]["networks"], name
    assert "LAKE_PATH" in SERVICES["watch"]["environment"]


def test_executors_find_the_driver_on_the_network_that_they_share():
    """A container on two networks has two addresses: the driver's name must have the one that a worker reaches."""
    driver = SERVICES["streaming"]
    assert driver["environment"]["SPARK_LOCAL_HOSTNAME"] in driver["networks"]["data"]["aliases"]
    assert not driver["networks"]["edge"]
    assert SERVICES["spark-worker"]["networks"] == ["data"]


def test_metabase_takes_every_login_that_the_settings_know():
    logins = {n for n in map(str.upper, Settings.model_fields) if n.startswith(("METABASE_ADMIN_", "METABASE_API_"))}
    assert logins >= {"METABASE_API_KEY"}
    assert logins <= set(SERVICES["metabase-cards"]["environment"])


# Settings that are not of the whole pipeline: a service's own, with the test or the line above that holds it.
OF_ONE_SERVICE = {
    *("MART_DSN", "MART_OWNER_DSN", "MART_READER_DSN", "LAKE_PATH"),
    *("METRICS_PORT", "METRICS_HOST", "SPARK_MASTER", "SPARK_DRIVER_MEMORY", "SPARK_EXECUTOR_MEMORY"),
    *("METABASE_URL", "METABASE_ADMIN_EMAIL", "METABASE_ADMIN_PASSWORD", "METABASE_API_KEY"),
    *(n for n in map(str.upper, Settings.model_fields) if n.startswith(("ALERT_", "SMTP_", "SLACK_"))),
}
NOT_FOR_COMPOSE = {
    *(
        "MART_HOME",
        "MART_CACHE",
        "CHECKPOINT_DIR",
        "SCRATCH_DIR",
        "MART_PYTHON",
        "AIRFLOW_PYTHON",
    ),  # places in the image
    "IVY_SETTINGS",  # the image has its jars
    # Its broker is its own, and speaks plain text within the network `data`.
    *(n for n in map(str.upper, Settings.model_fields) if n.startswith("KAFKA_S")),
    *("METABASE_DATABASE_HOST", "METABASE_DATABASE_PORT", "METABASE_TIMEOUT_SECONDS"),  # as PostgreSQL is reached there
    "SPARK_UI_PORT",  # on 127.0.0.1 of the container
}


def test_every_setting_of_the_pipeline_reaches_every_service_that_runs_it():
    """What a new setting is, is to be said here or in the file."""
    of_the_pipeline = set(map(str.upper, Settings.model_fields)) - OF_ONE_SERVICE - NOT_FOR_COMPOSE
    assert {"RETURNS_POLICY", "RECENCY_CLOCK", "SHOP_TIME_ZONE", "INVOICES_KEPT_DAYS"} <= of_the_pipeline
    ours = {
        name: service["environment"]
        for name, service in SERVICES.items()
        if service["image"].startswith("retail-mart") and not name.startswith("spark-")
    }
    assert set(ours) >= {"prepare", "streaming", "watch", "page", "producer", "metabase-cards", "airflow"}
    assert not {name: missing for name, given in ours.items() if (missing := of_the_pipeline - set(given))}
    assert {n for given in ours.values() for n in given} >= OF_ONE_SERVICE
    assert not NOT_FOR_COMPOSE & {n for given in ours.values() for n in given}


def test_every_needed_service_is_waited_for():
    for name, service in SERVICES.items():
        for needed, condition in service.get("depends_on", {}).items():
            assert condition["condition"] in ("service_healthy", "service_completed_successfully"), (name, needed)


def test_no_password_stands_in_the_file():
    for line in TEXT.splitlines():
        for value in re.findall(r"PASS(?:WORD)?: +(\S+)", line) + re.findall(r"://\w+:([^@]+)@", line):
            assert value.startswith("${"), line


def test_env_file_has_every_required_variable_and_keeps_what_it_has(tmp_path):
    required = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert required == set(PASSWORDS)
    env = tmp_path / ".env"
    env.write_text("POSTGRES_PASSWORD=mine")
    assert set(write_env_file(env)) == required - {"POSTGRES_PASSWORD"}
    first = env.read_text()
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert write_env_file(env) == []
    assert env.read_text() == first
    assert first.startswith("POSTGRES_PASSWORD=mine\n")
    values = [line.partition("=")[2] for line in first.splitlines()]
    assert len(set(values)) == len(values) == len(required)
    assert all(len(value) >= 24 for value in values[1:])


class TestWithDocker:
    @pytest.fixture(scope="class")
    def compose(self):
        found = shutil.which("docker")
        if not found or subprocess.run([found, "compose", "version"], capture_output=True).returncode:
            pytest.skip("no Docker with its Compose plugin on this machine")
        return [found, "compose", "--file", str(ROOT / "docker-compose.yml"), "--profile", "*"]

    def test_it_reads_the_file(self, compose, tmp_path):
        env = tmp_path / ".env"
        write_env_file(env)
        done = subprocess.run([*compose, "--env-file", str(env), "config", "--quiet"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def test_it_refuses_to_start_without_passwords(self, compose, tmp_path):
        env = tmp_path / ".env"
        env.write_text("")
        environment = {name: value for name, value in os.environ.items() if name not in PASSWORDS}
        done = subprocess.run(
            [*compose, "--env-file", str(env), "config", "--quiet"], capture_output=True, text=True, env=environment
        )
        assert done.returncode != 0
        assert "make env" in done.stderr
