"""What serve says about where it listens."""

from __future__ import annotations

from pathlib import Path

import pytest

from headlift.commands.serve import exposure, is_loopback
from headlift.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "unix:/run/headlift.sock"])
def test_only_this_machine_reaches_loopback(host):
    assert is_loopback(host)
    assert exposure(host, f"{host}:1", Settings()) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "[::]", "10.1.2.3", "heads.example"])
def test_what_others_reach_is_warned_of(host):
    plain = exposure(host, f"{host}:50051", Settings())
    assert plain.startswith(f"{host}:50051 ")
    assert "--auth" in plain
    assert "--tls-cert" in plain
    asks = exposure(host, f"{host}:50051", Settings(auth="keys"))
    assert "--auth" not in asks
    assert "--tls-cert" in asks
    assert exposure(host, f"{host}:50051", Settings(auth="keys", tls_cert=Path("c.pem"), tls_key=Path("k.pem"))) is None
