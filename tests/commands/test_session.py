"""What all commands share."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from headlift.commands.session import interruptible


def test_an_interruption_that_was_swallowed_is_not_lost() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as check:
        check()
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            swallowed = True  # as a destructor would
        assert swallowed
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_have_nothing_to_do_with_it() -> None:
    done = []

    def work() -> None:
        with interruptible() as check:
            check()
            done.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGINT)]


def test_help_loads_neither_networks_nor_numpy_nor_grpc():
    """They take most of a second, and ``--help`` needs none of them."""
    code = (
        "import sys, headlift.cli; headlift.cli.parser(); "
        "print(*sorted({'torch', 'numpy', 'grpc', 'PIL', 'prometheus_client', 'pydantic', 'ray'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
