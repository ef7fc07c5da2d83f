"""Which relay shard works for which connection, when the node gets more shards or fewer.

A shard's state is a function of the records that stand here, so nothing has to be moved: every
worker begins a new epoch with the records of the connections that are its own now.
"""

from typing import TYPE_CHECKING

from broker.tcp_shard import ShardWork

if TYPE_CHECKING:
    from broker.tcp import RelayTcp


def share_anew(tcp: "RelayTcp", now: float) -> None:
    """Follows the relay's slot table; every input was committed before."""
    table = tcp.hooks.slots("relay")
    if table is None:
        return
    works = tcp.works
    for work in works.values():
        if work.up:
            tcp.worker_gone(work, now)
    doubtful = [row for work in works.values() for row in work.suspects]
    for work in works.values():
        work.suspects.clear()
    for shard in set(table.shards):
        if shard not in works:
            works[shard] = ShardWork(shard, tcp.limits, tcp.directory)
    fresh = {number for number in table.shards if not works[number].population}
    for connection in tcp.connections.values():
        if connection.key:
            shard = table.shard_of(connection.key)
            # Others stay where they are: clients who talk to each other were brought together.
            if shard in fresh or connection.shard not in table.shards:
                connection.shard = shard
    for connection in doubtful:
        if connection.key:
            works[connection.shard].suspects.append(connection)
    here = tcp.hooks.relay_shards()
    for work in list(works.values()):
        if work.number in here:
            tcp.worker_here(work, now)
        else:
            forget(tcp, work)


def forget(tcp: "RelayTcp", work: ShardWork) -> None:
    """Lets go of the work of a shard that is gone for good: it has no slots any more."""
    table = tcp.hooks.slots("relay")
    if table is not None and work.number not in table.shards:
        tcp.works.pop(work.number, None)
