"""Where the files are that tests read: the project's own, and data of others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# UCI Online Retail by day: where UCI_ONLINE_RETAIL says, else in the project's data folder or one shared beside it.
UCI = next(
    (
        folder
        for folder in (
            Path(os.environ.get("UCI_ONLINE_RETAIL") or "data/uci-online-retail"),
            ROOT.parent / "shared" / "data" / "uci-online-retail",
        )
        if folder.is_dir()
    ),
    None,
)
needs_uci = pytest.mark.skipif(UCI is None, reason="no UCI Online Retail here: set UCI_ONLINE_RETAIL to its folder")
