"""What Spark's Java says becomes part of our own log: the same format, the same level, secrets masked."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyspark import SparkContext

from conf.settings import Settings

_CONFIGURATION = Path(__file__).with_name("log4j2.properties").as_uri()
_SPARKS_DEFAULT = "log4j2-defaults.properties"
# Spark starts every Java with options that the one or the other has a word about.
ALWAYS_SAID = re.compile(
    r"WARNING: (Using incubator modules: jdk\.incubator\.vector|package sun\.security\.action not in java\.base)"
)


def log_options(settings: Settings) -> tuple[str, ...]:
    """The Java options with which a driver logs as LOG_FORMAT and LOG_LEVEL say."""
    properties = {"log4j2.configurationFile": _CONFIGURATION, **_properties(settings)}
    return tuple(f"-D{name}={value}" for name, value in properties.items())


def log_as_configured(settings: Settings) -> None:
    """The same for the driver of a running session that spark-submit has started without these options; a configuration
    of the user's own stands."""
    jvm = SparkContext._jvm
    assert jvm is not None  # noqa: S101
    log4j = jvm.org.apache.logging.log4j
    source = log4j.LogManager.getContext(False).getConfiguration().getConfigurationSource().getLocation()
    if source and not source.endswith(_SPARKS_DEFAULT):
        return
    for name, value in _properties(settings).items():
        jvm.java.lang.System.setProperty(name, value)
    log4j.core.config.Configurator.reconfigure(jvm.java.net.URI.create(_CONFIGURATION))


def _properties(settings: Settings) -> dict[str, str]:
    return {
        "retail_mart.log_format": settings.log_format,
        "retail_mart.failures": "error" if settings.log_level == "debug" else "off",
    }


@contextmanager
def own_output() -> Iterator[int]:
    """A file handle, for the start of a process: what is written to it goes to our standard error, line by line."""
    reading, writing = os.pipe()
    threading.Thread(target=_pass_on, args=(reading,), name="java's output", daemon=True).start()
    try:
        yield writing
    finally:
        os.close(writing)


def _pass_on(reading: int) -> None:
    with open(reading, errors="backslashreplace") as lines:
        for line in lines:
            if not ALWAYS_SAID.fullmatch(line.rstrip()):
                with suppress(ValueError):  # standard error is closed: nobody reads it any more
                    sys.stderr.write(line)
                    sys.stderr.flush()
