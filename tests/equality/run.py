"""Runs makers against worlds: as many packets of a kind as are wanted."""

import os
from collections import Counter

from tests.equality.makers import MAKERS
from tests.equality.relay_world import RelayWorld
from tests.equality.world import World

SEED = os.environ.get("TOXMESH_EQUALITY_SEED", "1")
"""Another seed makes other packets; a mismatch names the one that found it."""
WORLD_SIZE = 1000  # packets for one world
RELAY_WORLD_SIZE = 2000  # frames for one relay shard
_SIZES = (1, 1, 2, 5, 13, 33, 64, 90)  # of batches, before they are split among sockets


def compare(name: str, count: int, seed: str = SEED) -> Counter[str]:
    """Gives `count` packets of one of `MAKERS` to workers and declared modules. Returns how many
    were answered, and how many were refused for which reasons. Raises Mismatch."""
    role, make = MAKERS[name]
    seen: Counter[str] = Counter()
    for number in range(0, count, WORLD_SIZE):
        world = World(f"{seed} {name} {number}", role, number // WORLD_SIZE)
        maker = make(world)
        left = min(WORLD_SIZE, count - number)
        while left:
            size = min(left, world.chance.choice(_SIZES))
            sent = world.give([maker.case() for _ in range(size)])
            seen["answered"] += len(sent)
            maker.learn(sent)
            world.pass_time(size)
            left -= size
        for out in world.out:
            seen.update(out.drops)
    return seen


def compare_relay(count: int, seed: str = SEED) -> Counter[str]:
    """Gives `count` frames in streams to hot and declared relay shards. Returns how often frames
    were taken and sealed, waited, and led to which effects. Raises Mismatch."""
    seen: Counter[str] = Counter()
    for number in range(0, count, RELAY_WORLD_SIZE):
        world = RelayWorld(f"{seed} relay {number}", number // RELAY_WORLD_SIZE)
        left = min(RELAY_WORLD_SIZE, count - number)
        while left:
            left -= world.turn(left)
        seen.update(world.seen)
    return seen
