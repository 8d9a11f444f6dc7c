"""The whole streaming job, Spark and all, with a kill point in it: `python -m torture.job POINT TIMES` catches up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from conf.logs import configure_logs
from conf.phases import Phases
from conf.settings import settings
from streaming.main import RunOptions, run
from torture import kill_points


def main() -> None:
    point, times = sys.argv[1], int(sys.argv[2])
    current = settings().model_copy(update={"max_invoices_per_batch": 40})
    configure_logs(current)
    phases: Callable[[], Phases] = Phases
    if point == kill_points.CHECKPOINT_WRITE:
        kill_points.strike_in_checkpoint_write(Path(current.checkpoints), times)
    else:
        phases = kill_points.striking(point, times)
    run(current, RunOptions(available_now=True, warm_up_rounds=0, phases=phases))


if __name__ == "__main__":
    main()
