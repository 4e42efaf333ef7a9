"""Which broker holds which replica: even over brokers, apart over racks, and as little moved as possible."""

from __future__ import annotations

from collections import Counter


def spread(current, racks, replication_factor):
    """The replicas that every partition should have.

    `current`: partition → broker numbers, the first of them the preferred leader. `racks`: broker
    number → rack, of the brokers that may hold replicas. Returns partition → broker numbers.

    Raises:
        ValueError: there are fewer brokers than replicas asked for.
    """
    if len(racks) < replication_factor:
        raise ValueError(f"{replication_factor} replicas need as many brokers, and there are {len(racks)}")
    load = Counter(dict.fromkeys(racks, 0))
    target = {}
    for partition in sorted(current):
        target[partition] = [broker for broker in current[partition] if broker in racks][:replication_factor]
        load.update(target[partition])
    for replicas in target.values():
        while len(replicas) < replication_factor:
            broker = min(
                (b for b in racks if b not in replicas), key=lambda b: (_crowd(b, replicas, racks), load[b], b)
            )
            replicas.append(broker)
            load[broker] += 1
    _even_out(target, load, racks)
    _even_out_leaders(target, racks)
    return target


def _crowd(broker, replicas, racks):
    """How many of a partition's replicas stand in the broker's rack."""
    return sum(racks[other] == racks[broker] for other in replicas if other != broker)


def _even_out(target, load, racks):
    """Move replicas from the fullest broker to the emptiest while that evens them out and crowds no rack."""
    while True:
        move = next(_moves(target, load, racks), None)
        if move is None:
            return
        replicas, index, to = move
        load[replicas[index]] -= 1
        load[to] += 1
        replicas[index] = to


def _moves(target, load, racks):
    for to in sorted(racks, key=lambda broker: (load[broker], broker)):
        for partition in sorted(target):
            replicas = target[partition]
            for index, broker in enumerate(replicas):
                rest = [other for other in replicas if other != broker]
                if (
                    load[broker] - load[to] > 1
                    and to not in replicas
                    and _crowd(to, rest, racks) <= _crowd(broker, rest, racks)
                ):
                    yield replicas, index, to


def _even_out_leaders(target, racks):
    """Let every broker lead about as many partitions, by the order of replicas alone: nothing is moved for it."""
    leads = Counter(replicas[0] for replicas in target.values())
    changed = True
    while changed:
        changed = False
        for partition in sorted(target):
            replicas = target[partition]
            least = min(replicas, key=lambda broker: (leads[broker], broker))
            if leads[replicas[0]] - leads[least] > 1:
                leads[replicas[0]] -= 1
                leads[least] += 1
                replicas.remove(least)
                replicas.insert(0, least)
                changed = True
