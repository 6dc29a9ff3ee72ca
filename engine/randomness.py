"""Counter-based random draws: a draw is a function of (seed, purpose, entity, index), not of the draws before it.

So an action shifts no draw but those it causes, and two processes that ask for the same draw get the same number. The mixer is
the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), applied once per key part. `stands.twin.draws` holds the same
function for compiled code; a test compares the two.
"""

from __future__ import annotations

import hashlib

__all__ = ("derive_key", "derive_seed", "draw_bits", "draw_identifier", "draw_uniform")

_MASK = (1 << 64) - 1


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def draw_bits(seed: int, *key: int) -> int:
    """Return 64 random bits for (seed, key)."""
    state = _mix(seed & _MASK)
    for part in key:
        state = _mix(state ^ (part & _MASK))
    return state


def draw_uniform(seed: int, *key: int) -> float:
    """Return a float in [0, 1) for (seed, key), with 53 random bits."""
    return (draw_bits(seed, *key) >> 11) * 2.0**-53


def derive_seed(seed: int, component: str) -> int:
    """Return the 64-bit seed of a named component's own stream."""
    digest = hashlib.blake2b(component.encode(), digest_size=8).digest()
    return draw_bits(seed, int.from_bytes(digest, "big"))


def derive_key(seed: int, component: str) -> int:
    """Return the 64-bit seed of a component whose draws show in public: unlike `derive_seed`'s, nobody can reckon back from it."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{component}".encode(), digest_size=8).digest(), "big")


def draw_identifier(seed: int, *key: int, alphabet: str = "bcdfghjklmnpqrstvwxz2456789", length: int = 5) -> str:
    """Return a short name for (seed, key); the default alphabet is the one of Kubernetes' generated names."""
    bits = draw_bits(seed, *key)
    letters = []
    for _ in range(length):
        bits, rest = divmod(bits, len(alphabet))
        letters.append(alphabet[rest])
    return "".join(letters)
