"""A campaign's certificates ➜ which kinds of action and fault users feel, at which strength, in how many of the applications.

In: certificates with what they are of. Out: a `KindSummary` per kind and intensity. Pure.

- In a configuration a kind counts as visible where at least half of its certificates there are; else as masked where one changed anything;
  else as none.
- A kind whose `visible` is visible in no more than half of its configurations is *weak*: the word promises what the numbers behind it don't
  keep. It isn't where the settings say why nobody need feel it (`meant_masked`), such as more replicas of what isn't short of any.

Upstream: `certifying`. Downstream: `certificate_tables`, `report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Literal

import msgspec

from otel_control_gym.engine.campaigns.certificates import Certificate, Class

__all__ = ("CLASSES", "CertifiedEffect", "KindSummary", "in_order", "summarise")

CLASSES: tuple[Class, ...] = ("visible", "masked", "none")
_PROMISING = "visible"  #: the intensity whose name says what users do


class CertifiedEffect(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate, and what it is of."""

    key: str  #: of the run in the campaign's plan
    run_id: str
    action_class: Literal["action", "intervention"]
    kind: str
    target: str
    intensity: str  #: empty: the kind has no words for its strength
    configuration: str
    workload: str
    certificate: Certificate


class KindSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What the certificates of a kind say at one intensity."""

    action_class: Literal["action", "intervention"]
    kind: str
    intensity: str
    counts: dict[Class, int]  #: certificates
    configurations: dict[str, Class]  #: configuration -> what the kind counts as there
    delay_s: float | None  #: median; null where nothing changed
    spread_hops: float | None  #: median
    meant_masked: str | None  #: why users needn't feel it

    def configurations_of(self, effect_class: Class) -> int:
        """Return in how many configurations the kind counts as of a class."""
        return sum(found == effect_class for found in self.configurations.values())

    @property
    def is_weak(self) -> bool:
        """Whether the word is `visible`, most configurations don't show it, and no reason is given why."""
        if self.intensity != _PROMISING or self.meant_masked is not None:
            return False
        return 2 * self.configurations_of("visible") <= len(self.configurations)


def in_order(effects: Iterable[CertifiedEffect]) -> list[CertifiedEffect]:
    """Return certificates by kind, intensity, target and configuration."""
    return sorted(effects, key=lambda one: (*_kind_of(one), one.target, one.configuration, one.key))


def summarise(effects: Iterable[CertifiedEffect], meant_masked: Mapping[str, str]) -> tuple[KindSummary, ...]:
    """Return a summary per class, kind and intensity, in their order.

    Args:
        meant_masked: kind -> why users needn't feel it.
    """
    by_kind: dict[tuple[str, str, int], list[CertifiedEffect]] = {}
    for effect in in_order(effects):
        by_kind.setdefault(_kind_of(effect), []).append(effect)
    return tuple(_summary(same, meant_masked) for same in by_kind.values())


def _kind_of(effect: CertifiedEffect) -> tuple[str, str, int]:
    strengths = ("", "zero", "mild", "visible", "severe")
    return effect.action_class, effect.kind, strengths.index(effect.intensity)


def _summary(effects: Sequence[CertifiedEffect], meant_masked: Mapping[str, str]) -> KindSummary:
    first, found = effects[0], [effect.certificate for effect in effects]
    names = sorted({effect.configuration for effect in effects})
    there = {name: [one.certificate for one in effects if one.configuration == name] for name in names}
    return KindSummary(
        action_class=first.action_class,
        kind=first.kind,
        intensity=first.intensity,
        counts=_counts(found),
        configurations={name: _class_there(there[name]) for name in names},
        delay_s=_median(one.delay_s for one in found),
        spread_hops=_median(one.spread_hops for one in found),
        meant_masked=meant_masked.get(first.kind),
    )


def _counts(found: Sequence[Certificate]) -> dict[Class, int]:
    return {name: sum(one.effect_class == name for one in found) for name in CLASSES}


def _class_there(found: Sequence[Certificate]) -> Class:
    counts = _counts(found)
    if 2 * counts["visible"] >= len(found):
        return "visible"
    return "none" if counts["none"] == len(found) else "masked"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
