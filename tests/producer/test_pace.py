from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from producer.pace import Pace, parse_rate, parse_speed

MORNING = datetime(2024, 1, 1, 8)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "rate"), [("1000/s", 1000), ("300/m", 5), ("1800 / h", 0.5), ("2.5", 2.5), (" 7/s ", 7)]
)
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "0/s", "-1/s", "1/d", "fast", "1e3/s", "inf", "nan"])
def test_no_rates(text: str) -> None:
    with pytest.raises(ValueError, match="is not a valid rate"):
        parse_rate(text)


def test_speeds() -> None:
    assert parse_speed("3600x") == parse_speed("3600") == 3600
    for text in ("", "0x", "x", "-2x"):
        with pytest.raises(ValueError, match="is not a valid speed"):
            parse_speed(text)


def test_flat_out_never_waits() -> None:
    pace = Pace()
    assert [pace.wait_for(MORNING + timedelta(days=d)) for d in range(3)] == [0, 0, 0]


def test_a_rate_catches_up_with_a_delay() -> None:
    clock = Clock()
    pace = Pace(rate=10, clock=clock)
    assert pace.wait_for(MORNING) == 0
    assert pace.wait_for(MORNING) == pytest.approx(0.1)
    clock.now += 0.5
    assert pace.wait_for(MORNING) == pytest.approx(-0.3)  # the third was due at 0.2


def test_a_speed_follows_the_shops_clock() -> None:
    clock = Clock()
    pace = Pace(speed=3600, clock=clock)
    assert pace.wait_for(MORNING) == 0
    assert pace.wait_for(MORNING + timedelta(hours=2)) == pytest.approx(2)
    clock.now += 2
    assert pace.wait_for(MORNING + timedelta(hours=1)) < 0  # dated before its predecessor: at once
    assert pace.wait_for(MORNING + timedelta(days=1)) == pytest.approx(22)
