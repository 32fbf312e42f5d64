"""How much of a frontier goes out in one call: pure policy, no Ray.

A call is a few open nodes with the largest bounds and a time; what is left of them comes back and is dealt anew. Long
calls cost the driver little; short ones, while there are few nodes for every worker, let nobody idle for long.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEPTH", "Share", "share_of"]

# Calls at every worker, the one that it computes included: the next one waits there while an answer travels.
DEPTH = 2
SHORTEST, LONGEST = 0.05, 2.0
# Seconds for every open node that a worker has waiting behind it.
SECONDS_A_NODE = 0.05
MOST_NODES = 16


@dataclass(frozen=True, slots=True)
class Share:
    """What one call gets: so many open nodes, and so many seconds to search below them."""

    nodes: int
    seconds: float


def share_of(open_nodes: int, workers: int) -> Share:
    """The next call's share.

    Args:
        open_nodes: that nobody has yet.
        workers: all of them, busy or not.
    """
    each = open_nodes / workers
    nodes = int(min(max(each / (2 * DEPTH), 1), MOST_NODES))
    return Share(nodes, min(max(SECONDS_A_NODE * each, SHORTEST), LONGEST))
