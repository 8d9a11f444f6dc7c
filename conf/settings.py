"""The only place where configuration is read: environment variables take precedence over the stack's state file, and
that over defaults."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    JsonConfigSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from conf.dsn import fault, in_utf8
from conf.errors import OperatorError, in_plain_words
from conf.lake_storage import checked_location
from conf.masking import conceal

STATE_FILE_NAME = "stack.json"
_MOST_DAYS = 100_000


class SettingsError(OperatorError):
    """A setting is missing or wrong; the message names the variable, the value and the fix."""


def mart_home() -> Path:
    """The folder of everything that a run leaves behind on this machine: data, checkpoints, logs, state."""
    return Path(os.environ.get("MART_HOME") or ".mart").absolute()


def log_format() -> str:
    """LOG_FORMAT, before the settings are known to be valid."""
    return os.environ.get("LOG_FORMAT") or "plain"


def external_servers() -> tuple[str | None, str | None]:
    """(Kafka's bootstrap servers, the mart's DSN) as the environment names them; None: the embedded one."""
    return os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or None, os.environ.get("MART_DSN") or None


class _StackState(JsonConfigSettingsSource):
    """What `retail-mart up` wrote. A server named in the environment takes precedence over the embedded one."""

    def __call__(self) -> dict[str, Any]:
        state = super().__call__()
        kafka, mart = external_servers()
        if mart:
            state = {k: v for k, v in state.items() if not k.startswith("mart_")}
        if kafka:
            state = {k: v for k, v in state.items() if not k.startswith("kafka_")}
        return state


class Settings(BaseSettings):
    """Every setting; the environment variable is the field's name in capitals.

    `retail-mart settings` prints them as the table of docs/settings.md.
    """

    model_config = SettingsConfigDict(
        extra="ignore", env_ignore_empty=True, case_sensitive=False, hide_input_in_errors=True
    )

    kafka_bootstrap_servers: str | None = Field(
        None, description="Kafka brokers, host:port[,host:port]. Set: use these, start none."
    )
    kafka_topic: str = Field("invoices", description="Topic of the invoices.")
    kafka_topic_partitions: int = Field(
        2, ge=1, le=1024, description="Partitions of the topic when `retail-mart up` creates it."
    )
    kafka_timeout_seconds: float = Field(
        30, gt=0, description="How long producer and job wait for the broker before they say that it is unavailable."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Protocol of the brokers' listener: SSL is TLS, SASL is a login by name and password."
    )
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = Field(
        "SCRAM-SHA-512", description="Login mechanism, with SASL_SSL or SASL_PLAINTEXT."
    )
    kafka_sasl_username: str | None = Field(None, description="Name to log in with.")
    kafka_sasl_password: SecretStr | None = Field(None, description="Password to log in with.")
    kafka_ssl_ca_file: Path | None = Field(
        None, description="Certificates (PEM) that sign the brokers' own. Default: those that the system trusts."
    )
    mart_dsn: SecretStr | None = Field(
        None, description="PostgreSQL of the mart, as the writer; TLS: ?sslmode=verify-full&sslrootcert=FILE."
    )
    mart_owner_dsn: SecretStr | None = Field(
        None, description="The same database as its owner, for migrations. Default: MART_DSN."
    )
    mart_reader_dsn: SecretStr | None = Field(
        None, description="The same database as analytics_reader, for dashboards. Default: MART_DSN."
    )
    mart_home: Path = Field(
        default_factory=mart_home, description="Folder of data, logs, checkpoints, state. Default: ./.mart"
    )
    mart_cache: Path = Field(
        default_factory=lambda: platformdirs.user_cache_path("retail-mart"),
        description="Folder of jars and class archives, shared by clones. Default: the user's cache folder.",
    )
    ivy_settings: Path | None = Field(
        None, description="Ivy settings file naming a mirror for the jars. Default: Maven Central."
    )
    lake_path: str | None = Field(
        None,
        description="Delta table of the invoices: a folder, or s3://bucket/path. Default: MART_HOME/lake/invoices.",
    )
    lake_retention_hours: int = Field(
        168, ge=1, description="`compact` deletes files that no version of the lake within this time needs (hours)."
    )
    landing_trigger_seconds: float = Field(
        60, ge=1, description="The lake is at most this far behind the topic; a full batch lands sooner."
    )
    checkpoint_dir: str | None = Field(
        None,
        description="Spark's checkpoints: a folder or URL, scratch space. Default: MART_HOME/checkpoint.",
    )
    scratch_dir: Path | None = Field(
        None,
        description="Temporary files of Spark, its Java and DuckDB (Spark's larger ones: SPARK_LOCAL_DIRS wins). "
        "Default: MART_HOME/scratch.",
    )
    shop_time_zone: str = Field("Asia/Jakarta", description="Zone of the shop's local times.")
    returns_policy: Literal["ignore", "net"] = Field(
        "ignore", description="Returns: `ignore` them, or `net` them against monetary."
    )
    recency_clock: Literal["event", "wall"] = Field(
        "event", description="As-of date of recency: newest `event` (replays) or `wall` clock (live shop)."
    )
    max_invoices_per_batch: int = Field(40_000, ge=1, description="Most invoices in one micro-batch.")
    max_message_bytes: int = Field(
        1_000_000,
        ge=1_000,
        description="Largest message that is read (bytes); a larger one is quarantined as too_large.",
    )
    outage_patience_seconds: float = Field(
        600,
        ge=0,
        description="How long the job retries while Kafka or PostgreSQL is unavailable, before it gives up.",
    )
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port of the streaming job's metrics for Prometheus; 0: none."
    )
    metrics_host: str = Field("127.0.0.1", description="Address that the metrics are served on.")
    history_minutes_days: int = Field(
        2, ge=1, description="Days of the segments' history kept by the minute; then the last of each hour."
    )
    history_hours_days: int = Field(60, ge=1, description="Days of it kept by the hour; then the last of each day.")
    rule_runs_kept: int = Field(30, ge=1, description="Published runs of association rules that the mart keeps.")
    invoices_kept_days: int = Field(
        0,
        ge=0,
        le=_MOST_DAYS,
        description="Days up to the as-of date whose invoices `prune` keeps in the mart, one by one; 0: all.",
    )
    moves_kept_days: int = Field(
        0,
        ge=0,
        le=_MOST_DAYS,
        description="Days up to the as-of date whose moves between segments `prune` keeps; 0: all.",
    )
    lake_kept_days: int = Field(
        0,
        ge=0,
        le=_MOST_DAYS,
        description="Business dates up to the as-of date that `prune` keeps in the lake; 0: all.",
    )
    quarantine_kept_days: int = Field(
        0, ge=0, le=_MOST_DAYS, description="Days that `prune` keeps quarantined records, waiting or not; 0: for good."
    )
    batches_kept_days: int = Field(
        0, ge=0, le=_MOST_DAYS, description="Days that `prune` keeps the log of batches and self-checks; 0: for good."
    )
    currency: str = Field("Rp", max_length=8, description="Sign of the shop's currency on the dashboards: Rp, £, €.")
    metabase_url: str = Field("http://127.0.0.1:3000", description="Metabase, as a browser reaches it.")
    metabase_admin_email: str = Field(
        "admin@mart.example", description="Metabase's administrator; `metabase apply` creates the first one."
    )
    metabase_admin_password: SecretStr | None = Field(
        None,
        description="The administrator's password. Default: the one in MART_HOME/metabase.json, else a generated one.",
    )
    metabase_api_key: SecretStr | None = Field(
        None, description="An API key of Metabase's group Administrators, in place of e-mail and password."
    )
    metabase_timeout_seconds: float = Field(
        180, gt=0, description="How long `metabase apply` waits for a Metabase that is starting."
    )
    metabase_database_host: str | None = Field(
        None, description="PostgreSQL's host as Metabase reaches it. Default: that of MART_READER_DSN."
    )
    metabase_database_port: int | None = Field(
        None, ge=1, le=65535, description="PostgreSQL's port as Metabase reaches it. Default: that of MART_READER_DSN."
    )
    mart_python: Path | None = Field(
        None, description="Python that Airflow's tasks run the project with. Default: .venv/bin/python of the project."
    )
    airflow_python: Path | None = Field(
        None, description="Python of Airflow's own environment. Default: .venv-airflow/bin/python of the project."
    )
    alert_email_to: str | None = Field(
        None,
        description="Addresses (comma between them) told of alerts and of their end, by `watch` and by Airflow.",
    )
    smtp_host: str | None = Field(
        None, description="Mail server of `watch`. Default: none, no e-mail. (Airflow: AIRFLOW_CONN_SMTP_DEFAULT.)"
    )
    smtp_port: int = Field(587, ge=1, le=65535, description="Port of the mail server; with tls usually 465.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="Encryption of the connection to it; the system must trust its certificate."
    )
    smtp_username: str | None = Field(None, description="Name to log in with. Default: no login.")
    smtp_password: SecretStr | None = Field(None, description="Password to log in with.")
    smtp_from: str | None = Field(None, description="Sender of the e-mails. Default: SMTP_USERNAME.")
    slack_webhook_url: SecretStr | None = Field(
        None, description="Slack's incoming webhook of `watch`, a secret. (Airflow: AIRFLOW_CONN_SLACK_DEFAULT.)"
    )
    alert_stale_seconds: float = Field(
        60, ge=0, description="Alert: no batch for this long while records wait. 0, here and below: never."
    )
    alert_lag_records: int = Field(100_000, ge=0, description="Alert: more records than this are not applied yet.")
    alert_reject_percent: float = Field(
        5, ge=0, le=100, description="Alert: more than this share of the newest records was quarantined (percent)."
    )
    alert_reject_minutes: int = Field(10, ge=1, description="Minutes that ALERT_REJECT_PERCENT looks back.")
    alert_nightly_hours: float = Field(
        26, ge=0, description="Alert: no rules were published for this long; and: the newest run was kept back."
    )
    alert_disk_free_percent: float = Field(
        10, ge=0, lt=80, description="Alert: less than this is free on the disk of the lake or of the checkpoints."
    )
    spark_master: str = Field("local[*]", description="Spark master of the jobs.")
    spark_driver_memory: str = Field("1g", description="Heap of Spark's driver (all of Spark in local mode).")
    spark_executor_memory: str = Field("1g", description="Heap of each executor, on a cluster.")
    spark_ui_port: int = Field(0, ge=0, le=65535, description="Port of Spark's UI, on 127.0.0.1; 0: no UI.")
    log_format: Literal["plain", "json"] = Field("plain", description="Log lines: plain text or JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Minimum log level; debug: Spark's stack traces of a failure, too."
    )

    @model_validator(mode="before")
    @classmethod
    def _conceal_secrets(cls, values: Any) -> Any:
        """Before anything is checked, so that no message about it shows one."""
        for name, field in cls.model_fields.items():
            value = values.get(name) if _is_secret(field) else None
            conceal(value.get_secret_value() if isinstance(value, SecretStr) else value)
        return values

    @field_validator("mart_dsn", "mart_owner_dsn", "mart_reader_dsn")
    @classmethod
    def _sound_dsn(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (wrong := fault(value.get_secret_value())):
            raise ValueError(wrong)
        return value

    @field_validator("shop_time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"{value!r} is not an IANA time zone; use one like Asia/Jakarta")
        return value

    @field_validator("metabase_url")
    @classmethod
    def _web_address(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", value):
            raise ValueError("give it like http://127.0.0.1:3000, without an account, a query or a fragment")
        return value.rstrip("/")

    @field_validator("slack_webhook_url")
    @classmethod
    def _secret_web_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"https?://[^/\s]+/\S*", value.get_secret_value()):
            raise ValueError("give it as Slack shows it, like https://hooks.slack.com/services/…")
        return value

    @field_validator("mart_home", "mart_cache", "scratch_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value and value.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        state = _StackState(settings_cls, json_file=mart_home() / STATE_FILE_NAME)
        return init_settings, env_settings, state

    @model_validator(mode="after")
    def _whole_kafka_security(self) -> Settings:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL={self.kafka_security_protocol} needs KAFKA_SASL_USERNAME and "
                "KAFKA_SASL_PASSWORD"
            )
        if self.kafka_security_protocol.endswith("SSL") and self.kafka_ssl_ca_file:
            try:
                self.kafka_ssl_ca_file.read_bytes()
            except OSError as error:
                raise ValueError(f"KAFKA_SSL_CA_FILE={self.kafka_ssl_ca_file}: {error.strerror}") from None
        return self

    @model_validator(mode="after")
    def _usable_lake(self) -> Settings:
        if self.lake_path is not None:
            self.lake_path = checked_location(self.lake_path)
        return self

    @model_validator(mode="after")
    def _whole_mail(self) -> Settings:
        if self.alert_addresses and self.smtp_host and not (self.smtp_from or self.smtp_username):
            raise ValueError("SMTP_HOST and ALERT_EMAIL_TO need a sender: set SMTP_FROM")
        if self.smtp_password and self.smtp_security == "none":
            raise ValueError("SMTP_SECURITY=none would show SMTP_PASSWORD to the network: use starttls or tls")
        return self

    @property
    def alert_addresses(self) -> list[str]:
        return [address.strip() for address in (self.alert_email_to or "").split(",") if address.strip()]

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.shop_time_zone)

    @property
    def lake(self) -> str:
        return self.lake_path or str(self.mart_home / "lake" / "invoices")

    @property
    def checkpoints(self) -> str:
        return self.checkpoint_dir or str(self.mart_home / "checkpoint")

    @property
    def scratch(self) -> Path:
        return self.scratch_dir or self.mart_home / "scratch"

    def require_kafka(self) -> str:
        """The brokers' addresses, or SettingsError naming the two ways to get some."""
        if self.kafka_bootstrap_servers is None:
            raise SettingsError(
                "no Kafka: start the embedded one with `retail-mart up`, or set KAFKA_BOOTSTRAP_SERVERS"
            )
        return self.kafka_bootstrap_servers

    def kafka_security(self) -> dict[str, Any]:
        """kafka-python's options for TLS and login, for every client we make. None for plain text."""
        options: dict[str, Any] = {}
        if self.kafka_security_protocol != "PLAINTEXT":
            options["security_protocol"] = self.kafka_security_protocol
        if self.kafka_security_protocol.endswith("SSL"):
            options["ssl_cafile"] = str(self.kafka_ssl_ca_file) if self.kafka_ssl_ca_file else None
        if self.kafka_security_protocol.startswith("SASL") and self.kafka_sasl_password:
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            options["sasl_plain_username"] = self.kafka_sasl_username
            options["sasl_plain_password"] = self.kafka_sasl_password.get_secret_value()
        return options

    def spark_kafka_security(self) -> dict[str, str]:
        """The same as options of Spark's Kafka source. The certificates are passed by value, so executors need no
        file."""
        options: dict[str, str] = {}
        if self.kafka_security_protocol != "PLAINTEXT":
            options["kafka.security.protocol"] = self.kafka_security_protocol
        if self.kafka_security_protocol.endswith("SSL") and self.kafka_ssl_ca_file:
            options["kafka.ssl.truststore.type"] = "PEM"
            options["kafka.ssl.truststore.certificates"] = self.kafka_ssl_ca_file.read_text()
        if self.kafka_security_protocol.startswith("SASL") and self.kafka_sasl_password:
            module = "plain.Plain" if self.kafka_sasl_mechanism == "PLAIN" else "scram.Scram"
            options["kafka.sasl.mechanism"] = self.kafka_sasl_mechanism
            options["kafka.sasl.jaas.config"] = (
                f"org.apache.kafka.common.security.{module}LoginModule required "
                f"username={_in_jaas(self.kafka_sasl_username or '')} "
                f"password={_in_jaas(self.kafka_sasl_password.get_secret_value())};"
            )
        return options

    def require_mart(self, role: Literal["writer", "owner", "reader"] = "writer") -> str:
        """The mart's DSN for a role, set to UTF-8, or SettingsError naming the two ways to get one."""
        special = {"writer": None, "owner": self.mart_owner_dsn, "reader": self.mart_reader_dsn}[role]
        dsn = special or self.mart_dsn
        if dsn is None:
            raise SettingsError("no PostgreSQL: start the embedded one with `retail-mart up`, or set MART_DSN")
        return in_utf8(dsn.get_secret_value())


def _in_jaas(value: str) -> str:
    """A value as a quoted string of Java's login configuration."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


@lru_cache
def settings() -> Settings:
    """The settings of this process, read once. Raises what `read_settings` raises."""
    return read_settings()


def read_settings(**given: Any) -> Settings:
    """The settings as given, otherwise from the environment and the state file.

    Raises SettingsError naming each wrong variable, its value and what is allowed.
    """
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(map(_in_words, error.errors()))) from None


def _in_words(error: ErrorDetails) -> str:
    """A fault of one variable with its value; of several together, or of a secret one, without."""
    if not error["loc"]:
        return in_plain_words(error["msg"])
    name = str(error["loc"][0])
    field = Settings.model_fields.get(name)
    value = "" if field is None or _is_secret(field) else f" (got {error['input']!r})"
    return f"{name.upper()}: {in_plain_words(error['msg'])}{value}"
