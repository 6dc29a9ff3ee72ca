"""Checks of an application's feature flags: variants and effects that can be.

In: a service configuration. Out: nothing, or the error that says where, what, and what would be right. Upstream: `configuration_checks`.

That an effect is on a service, call or flow which isn't there is no error: one file of flags serves several configurations.
"""

from __future__ import annotations

from otel_control_gym.engine.errors import ConfigurationError, nearest
from otel_control_gym.engine.settings import FlagEffect, ServiceConfiguration

__all__ = ("check_flags",)

_ON_OPERATIONS = ("failure_status", "delay_ms", "serial", "work_ms", "busy_threads", "leak_bytes")
_ON_CALLS = ("copies",)
_AMOUNTS = ("failure_ratio", "delay_ms", "work_ms", "busy_threads", "leak_bytes", "copies")


def check_flags(services: ServiceConfiguration, file: str) -> None:
    """See to it that defaults are variants, and that effects are of the kind that operations, calls and flows can have.

    Raises:
        ConfigurationError: they aren't.
    """
    for name, flag in services.flags.items():
        key = f"flags.{name}"
        if flag.default not in flag.variants:
            problem = "none of the flag's variants"
            _refuse(file, f"{key}.default", flag.default, problem, nearest(flag.default, list(flag.variants)))
        for number, effect in enumerate(flag.effects):
            _check_effect(effect, file, f"{key}.effects[{number}]")


def _check_effect(effect: FlagEffect, file: str, key: str) -> None:
    if sum(map(bool, (effect.operation, effect.flow, effect.unready))) != 1:
        found = {"operation": effect.operation, "flow": effect.flow, "unready": effect.unready}
        _refuse(file, key, found, "an effect is on one thing", "name an operation, or a flow, or a service in unready")
    for field in ("operation", "call"):
        address = getattr(effect, field)
        if address and not all(address.partition(":")[::2]):
            _refuse(file, f"{key}.{field}", address, "not an operation of a service", "write service:operation")
    if effect.call and not effect.operation:
        _refuse(file, f"{key}.call", effect.call, "a call is made by an operation", "name the calling operation too")
    for field in _ON_OPERATIONS if effect.call else _ON_CALLS:
        if getattr(effect, field):
            kind, remedy = ("a call", "failure_ratio or copies") if effect.call else ("an operation", "call, too")
            _refuse(file, f"{key}.{field}", getattr(effect, field), f"no effect on {kind}", f"use {remedy}")
    for field in _AMOUNTS:
        if getattr(effect, field) < 0:
            _refuse(file, f"{key}.{field}", getattr(effect, field), "below 0", "use a number from 0 on")


def _refuse(file: str, key: str, found: object, problem: str, remedy: str) -> None:
    raise ConfigurationError(file=file, key=key, found=found, problem=problem, remedy=remedy)
