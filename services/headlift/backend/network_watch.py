"""What the edge knows about the network behind remote stages, while new weights may be rolled out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from headlift.backend.protocol import Network
from headlift.errors import HeadliftError

_log = logging.getLogger(__name__)


class NetworkWatch:
    """The network as things stand, kept right by what replicas answer.

    Every reply names the weights that it was computed with. The first that names others tells that weights are being
    rolled out: from then on nothing is settled, so that no cache takes an old result under a new key or the other way
    round, and the replicas are asked until they agree and no reply has disagreed for a while.
    """

    def __init__(
        self, network: Network, ask: Callable[[], Sequence[Network]], *, calm_s: float = 5.0, every_s: float = 1.0
    ) -> None:
        """Start with what is known.

        Args:
            network: Now.
            ask: Asks one replica of each deployment; may raise HeadliftError.
            calm_s: Seconds without a reply that disagrees, after which a roll-out is over.
            every_s: Seconds between two questions.
        """
        self._network, self._ask, self._calm_s, self._every_s = network, ask, calm_s, every_s
        self._lock = threading.Lock()
        self._settled, self._disagreed = True, 0.0
        self._expected = network.weights_hash
        self._over = threading.Event()

    def current(self) -> Network:
        """The network that was last agreed on."""
        return self._network

    def settled(self) -> bool:
        """Whether every reply of late was computed with it."""
        return self._settled

    def report_weights(self, weights_hash: str) -> None:
        """Take in that a reply was computed with these weights; empty: it did not say."""
        if not weights_hash or (weights_hash == self._expected and weights_hash == self._network.weights_hash):
            return
        with self._lock:
            if weights_hash != self._expected:
                self._disagreed = time.monotonic()
            if self._settled:
                self._settled = False
                _log.warning("replicas answer with other weights: nothing is remembered until they agree")
                threading.Thread(target=self._poll, name="weights", daemon=True).start()

    def close(self) -> None:
        """Ask no more."""
        self._over.set()

    def _poll(self) -> None:
        while not self._over.wait(self._every_s):
            try:
                found = self._ask()
            except HeadliftError:
                continue
            with self._lock:
                if len({n.weights_hash for n in found}) != 1:
                    self._disagreed = time.monotonic()
                elif found[0].weights_hash != self._expected:
                    self._expected, self._disagreed = found[0].weights_hash, time.monotonic()
                elif time.monotonic() - self._disagreed > self._calm_s:
                    self._network, self._settled = found[0], True
                    _log.warning("all replicas answer with the weights %s", self._expected[:12])
                    return
