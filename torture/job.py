"""The whole streaming job, Spark and all, with a kill point in it: `python -m torture.job POINT TIMES run …`."""

from __future__ import annotations

import sys
from pathlib import Path

from cli import main as front_door
from conf.settings import settings
from torture import kill_points


def main() -> None:
    point, times, *arguments = sys.argv[1:]
    if point == kill_points.CHECKPOINT_WRITE:
        kill_points.install_in_checkpoint_write(Path(settings().checkpoints), int(times))
    else:
        kill_points.install(point, int(times))
    sys.argv[1:] = arguments
    front_door.main()


if __name__ == "__main__":
    main()
