"""Which signals end a command, and which it leaves alone."""

import os
import signal
from contextlib import contextmanager

import pytest

from conf.stop_signals import STOPS, cleared_away, ended_by_signals, stop_signals


@contextmanager
def handler_before(number, handler):
    """The signal's handler as whoever started the command has it."""
    before = signal.signal(number, handler)
    try:
        yield
        assert signal.getsignal(number) is handler  # given back
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_signal_is_an_event(number):
    with stop_signals() as stopping:
        assert not stopping.is_set()
        os.kill(os.getpid(), number)
        assert stopping.wait(10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_ends_a_block_that_clears_away_with_its_exit_code(number):
    with handler_before(number, signal.SIG_DFL), pytest.raises(SystemExit) as ended, cleared_away():
        signal.raise_signal(number)
    assert ended.value.code == 128 + number


@pytest.mark.parametrize("block", [stop_signals, cleared_away, ended_by_signals])
def test_nohup_keeps_the_end_of_a_terminal_away(block):
    with handler_before(signal.SIGHUP, signal.SIG_IGN), block():
        signal.raise_signal(signal.SIGHUP)


def test_a_command_that_takes_sigterm_for_ctrl_c_keeps_it_so():
    with (
        handler_before(signal.SIGTERM, signal.default_int_handler),
        pytest.raises(KeyboardInterrupt),
        cleared_away(),
    ):
        signal.raise_signal(signal.SIGTERM)


def test_a_scripts_background_job_hears_sigint_where_it_has_servers_to_stop():
    with handler_before(signal.SIGINT, signal.SIG_IGN):
        with cleared_away():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(SystemExit) as ended, ended_by_signals():
            signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130
