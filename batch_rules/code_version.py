"""Which code made a run."""

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def code_version() -> str:
    """The package's version, and in a checkout the commit: `0.2.0 (1a2b3c4)`, `…+` with local changes."""
    try:
        package = version("retail-mart")
    except PackageNotFoundError:
        package = "unpackaged"
    git = shutil.which("git")
    if git is None:
        return package
    commit = subprocess.run(
        [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"],
        capture_output=True,
        text=True,
    )
    return f"{package} ({commit.stdout.strip()})" if commit.returncode == 0 else package
