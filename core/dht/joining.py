"""Finding the network: whom to ask while we know nobody, in which order and how often."""

from collections.abc import Iterable

from core.endpoint import Endpoint
from core.module import NodeOptions

SAVED_A_STEP = 8  # c-toxcore DHT.c: SAVE_BOOTSTAP_FREQUENCY
SAVED_STEP_S = 1.0
FIRST_WAIT_S = 5.0  # between two rounds of the bootstrap nodes; doubled after each
LAST_WAIT_S = 60.0
MAX_BOOTSTRAP = 256  # bootstrap nodes kept, with those that become known after the start
CONNECTED_LOOK_S = 15.0  # a connected node looks no more often whether it still is


class Joining:
    """The bootstrap nodes and the nodes saved at the last stop.

    Bootstrap nodes are asked at the start, and again with growing pauses while no node is good.
    Saved nodes are asked eight in a second, round and round, until a node outside the local
    networks is good; one that knows only local nodes gives up on them after one round.
    """

    def __init__(self, options: NodeOptions) -> None:
        self._bootstrap = options.bootstrap
        self._saved = list(options.saved_nodes)
        self._position = 0
        self._bootstrap_at = float("-inf")
        self._wait = FIRST_WAIT_S
        self._added: list[tuple[Endpoint, bytes]] = []
        self._started = False
        self._connected = False

    def step(self, good: bool, good_wan: bool, now: float) -> list[tuple[Endpoint, bytes]]:
        """Returns the nodes to ask now."""
        to_ask: list[tuple[Endpoint, bytes]] = []
        self._connected = good
        if good:
            self._wait = FIRST_WAIT_S
        if self._saved and (good_wan or (good and self._position >= len(self._saved))):
            self._saved = []
        if not self._started or (not good and now >= self._bootstrap_at + self._wait):
            if self._started:
                self._wait = min(2 * self._wait, LAST_WAIT_S)
            self._started = True
            self._bootstrap_at = now
            to_ask += self._bootstrap
        else:
            to_ask += self._added
        self._added = []
        for _ in range(min(SAVED_A_STEP, len(self._saved))):
            to_ask.append(self._saved[self._position % len(self._saved)])
            self._position += 1
        return to_ask

    def add(self, nodes: Iterable[tuple[Endpoint, bytes]]) -> None:
        """Takes bootstrap nodes that became known after the start; the next step asks them."""
        room = max(0, MAX_BOOTSTRAP - len(self._bootstrap))
        fresh = [node for node in nodes if node not in self._bootstrap][:room]
        self._bootstrap += tuple(fresh)
        self._added += fresh

    def next_step(self, now: float, bad_at: float) -> float:
        """Returns when to call step() again; `bad_at`: when no node will be good any more unless
        one answers until then."""
        if self._saved:
            return now + SAVED_STEP_S
        if self._connected:
            return max(now + CONNECTED_LOOK_S, bad_at)
        return max(self._bootstrap_at + self._wait, now + SAVED_STEP_S)

    def unused(self) -> list[tuple[Endpoint, bytes]]:
        """Returns saved nodes while they are not yet replaced by better ones: saved again."""
        return self._saved
