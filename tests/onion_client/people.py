"""People with onion clients in a simulated world: their sockets, relays and DHTs are pretended."""

from collections import Counter
from collections.abc import Callable

from core.crypto import PublicKey
from core.endpoint import Endpoint
from core.messages import Message, RelayDeliver
from core.onion import OnionModule
from core.onion_client import OnionClient
from core.packets.nodes import NodeInfo
from tests.onion_client.told import Told
from tests.simulation import Node, World
from tests.simulation.chance import StreamedEntropy
from tests.simulation.dweller import Dweller

UNIX = 1.6e9
"""What makes unix time of the world's time."""


def info(node: Node) -> NodeInfo:
    """Returns a node as a path node."""
    return NodeInfo(PublicKey(node.key), node.endpoint)


class Person(Told):
    """One identity: it is the ways and the listener of its own onion client."""

    def __init__(self, town: "Town", name: str, known: list[Node], udp: bool = True) -> None:
        super().__init__()
        self.town = town
        self.world = town.world
        self.name = name
        self.real = self.world.keys(f"{name}/real")
        self.dht = self.world.keys(f"{name}/dht/{len(town.people)}")
        self.key = self.real.public
        self.known = [info(node) for node in known]
        self.udp = udp
        self.relays: list[FakeRelay] = []
        self.own: list[NodeInfo] = [NodeInfo(PublicKey(bytes(31) + b"\7"), town.address, True)]
        self.drops: Counter[str] = Counter()
        self.wakes = 0
        self.host = Dweller(self.world, name, keys=self.dht)
        entropy = StreamedEntropy(f"{self.world.seed}/{name}/{len(town.people)}")
        self.client = OnionClient(
            self.real, self.dht, entropy, self, self, self.drops, self.world.now, UNIX
        )
        town.people.append(self)
        self.host.move_in(self)

    # What the host gives to whoever lives there

    def handle_packet(self, packet: bytes, source: Endpoint, now: float) -> None:
        """Passes a datagram on."""
        self.client.handle_packet(packet, source, now)

    def handle_timer(self, now: float) -> None:
        """Passes a wake on, and sees that it was for something and the next one will be."""
        self.wakes += 1
        self.client.handle_timer(now)
        after = self.client.next_timer()
        assert after is None or after > now, "it would be woken for nothing"

    def next_timer(self) -> float | None:
        """Returns when the client wants to be woken."""
        return self.client.next_timer()

    def plan(self) -> None:
        """To be called after each command."""
        self.host.plan()

    @property
    def alive(self) -> bool:
        """Whether the program runs."""
        return self.host.lodger is not None

    def befriend(self, *others: "Person") -> None:
        """Adds friends."""
        for other in others:
            self.client.add_friend(other.key, self.world.now)
        self.plan()

    def online(self, other: "Person", online: bool) -> None:
        """Tells the client of a session that is up or down."""
        self.client.set_online(other.key, online, self.world.now)
        self.plan()

    def stop(self) -> None:
        """Ends the program."""
        self.host.leave()

    def knows(self, other: "Person") -> bool:
        """Tells whether the other's DHT key has come."""
        return any((key, dht) == (other.key, other.dht.public) for key, dht, _ in self.found)

    # OnionWays

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        self.host.send_udp(endpoint, packet)

    def path_nodes(self) -> list[NodeInfo]:
        return list(self.known)

    def onion_relays(self) -> list[NodeInfo]:
        return [relay.info for relay in self.relays if relay.up]

    def send_onion(self, relay_key: PublicKey, packet: bytes, now: float) -> bool:
        for relay in self.relays:
            if relay.info.key == relay_key and relay.up:
                relay.take(self, packet)
                return True
        return False

    def uses_udp(self) -> bool:
        return self.udp

    def send_dht_request(self, dht_key: PublicKey, plain: bytes, now: float) -> int:
        for other in self.town.people:
            if other.dht.public == dht_key and other.alive and other.reachable:
                self.world.at(now + 0.1, other.hear_request, self.dht.public, plain)
                return 1
        return 0

    def own_nodes(self, most: int) -> list[NodeInfo]:
        return self.own[:most]

    # The pretended DHT

    reachable = False
    """Whether DHT requests reach this person."""

    def hear_request(self, sender: PublicKey, plain: bytes) -> None:
        """A DHT request arrives, opened."""
        self.client.dht_key_heard(sender, plain, self.world.now)
        self.plan()


class FakeRelay:
    """A relay of a real onion node: its clients' packets get the first hop there."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.info = NodeInfo(PublicKey(node.key), node.endpoint, True)
        self.up = True
        self.clients: list[Person] = []
        self.taken: list[bytes] = []

    def take(self, person: Person, packet: bytes) -> None:
        """Takes an 08 of a client."""
        self.taken.append(packet)
        if person not in self.clients:
            self.clients.append(person)
        module = self.node.modules["onion"][0]
        assert isinstance(module, OnionModule)
        serial = self.clients.index(person) + 1
        assert module.hops.relay_onion_request(packet, serial, person.world.now)

    def deliver(self, serial: int, frame: bytes) -> None:
        """Gives a client what came back for it: 09 and data."""
        assert frame[0] == 9
        person = self.clients[serial - 1]
        person.client.handle_relay(self.info.key, frame[1:], person.world.now)
        person.plan()


class Town:
    """A world of onion nodes, and the people in it."""

    def __init__(self, nodes: int = 30, seed: int = 1, loss: float = 0.0, idle: int = 0) -> None:
        """`idle` of the nodes are nodes of the DHT alone: no hops, no stores."""
        self.world = World(seed=seed, roles={"dht": 1, "onion": 1}, loss=loss)
        self.people: list[Person] = []
        self.address = self.world.next_address()
        self.nodes = [self.world.add_node("first")]
        for number in range(1, nodes + idle):
            roles = {"dht": 1, "onion": 1} if number < nodes else {"dht": 1}
            first = self.nodes[:1]
            self.nodes.append(self.world.add_node(f"n{number}", bootstrap=first, roles=roles))
            self.world.run_for(0.2)
        self.world.run_for(60.0)

    def person(self, name: str, known: int = 12, udp: bool = True) -> Person:
        """Adds somebody whose DHT talks with a few random nodes."""
        chance = StreamedEntropy(f"{self.world.seed}/{name}/known/{len(self.people)}")
        nodes = list(self.nodes)
        few = [nodes.pop(chance.below(len(nodes))) for _ in range(min(known, len(nodes)))]
        return Person(self, name, few, udp)

    def relay(self, node: Node) -> FakeRelay:
        """Makes a node a relay."""
        relay = FakeRelay(node)

        def deliver(message: Message) -> None:
            assert isinstance(message, RelayDeliver)
            relay.deliver(message.serial, message.frame)

        node.broker = deliver
        return relay

    def until(self, predicate: Callable[[], object], limit: float) -> bool:
        """Lets time pass until it holds."""
        return self.world.run_until(predicate, limit)
