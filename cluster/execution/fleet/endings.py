"""What Ray says of an actor's end, as a short reason and whether its own process died."""

from __future__ import annotations

import re

__all__ = ["ending_of"]


def ending_of(text: str) -> tuple[str, bool]:
    """A reason for people, and whether what the actor computed is suspect.

    Args:
        text: of Ray's `ActorDiedError`.
    """
    if "node has died" in text or "preempted" in text:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "its node died", False
    code = re.search(r"exit code (-?\d+)", text)
    if "low on memory" in text or "memory pressure" in text:
        return "out of memory: Ray's memory monitor killed it", True
    if code:
        return f"its process ended with exit code {code[1]}", True
    if "connection error code 2" in text:
        return "its process crashed or was killed (segmentation fault, SIGKILL, or out of memory)", True
    last = text.strip().splitlines()[-1].strip() if text.strip() else "no reason given"
    # Without a node to blame, a process died: were nobody blamed, a trial could kill workers for ever.
    return last, True
