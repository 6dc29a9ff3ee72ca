"""The messages of the remote environment protocol: what processes in any language say to each other over NATS, as JSON.

In: observations, infos, requests. Out: bytes and structs. Every message has `version`; a request says what it is in `request`, an answer
that is none has `error` alone. Two conversations use them: a process that drives an environment of ours (`engine.environment_server`), and
a policy that is asked by us (`policies.remote`). The tables of docs/reference/remote-protocol.md are made of these structs. Pure.

Arrays are lists with null for what is unknown, or, where they are asked for as `base64`, the bytes of little-endian float64 with NaN: a
third of the size, and exact in either case.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from otel_control_gym.engine.env import Info
from otel_control_gym.engine.errors import OtelControlGymError, UsageError
from otel_control_gym.engine.observation import Observation

__all__ = (
    "VERSION",
    "Answer",
    "Arrays",
    "Begin",
    "Begun",
    "Close",
    "Closed",
    "Decide",
    "Decided",
    "DriverRequest",
    "Observe",
    "Observed",
    "Open",
    "Opened",
    "PackedArray",
    "Problem",
    "Refusal",
    "Reset",
    "Step",
    "Stepped",
    "driver_request",
    "info_message",
    "observation_message",
    "refusal",
)

VERSION = 1

Arrays = Literal["lists", "base64"]


class _Request(msgspec.Struct, frozen=True, kw_only=True, tag_field="request", forbid_unknown_fields=True):
    version: int  #: of the protocol: 1


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION


class PackedArray(msgspec.Struct, frozen=True, kw_only=True):
    """An array as bytes."""

    shape: tuple[int, ...]  #: the last axis varies fastest
    dtype: str  #: `<f8`: little-endian float64, NaN where unknown
    base64: bytes  #: the numbers


# --- whoever drives an environment of ours asks -------------------------------------------------------------------------------


class Open(_Request, frozen=True, kw_only=True, tag="open"):
    """Give me an environment; asked on the server's subject, answered by `Opened`."""

    arrays: Arrays = "lists"  #: how arrays are sent to this session
    window_seconds: int | None = None  #: of the observations of this session; null: the configuration's


class Reset(_Request, frozen=True, kw_only=True, tag="reset"):
    """Begin an episode; asked on the session's subject like all that follow, answered by `Observed`."""

    seed: int | None = None  #: of every exogenous draw; null: the configuration's


class Observe(_Request, frozen=True, kw_only=True, tag="observe"):
    """Look again, at other times or a coarser granularity; answered by `Observed`."""

    window_seconds: int | None = None  #: null: the session's
    bucket_seconds: int | None = None  #: null: the configuration's


class Step(_Request, frozen=True, kw_only=True, tag="step"):
    """Act, and let time pass; answered by `Stepped`."""

    action: dict[str, Any]  #: JSON form of docs/reference/actions.md
    step: int | None = None  #: number of this step, from 0: the one just done is answered again, not done again
    seconds: int | None = None  #: null: the control step
    propensity: float | None = None  #: probability with which the action was chosen
    alternatives: list[dict[str, Any]] | None = (
        None  #: what could have been chosen, each with `action` and `probability`
    )


class Close(_Request, frozen=True, kw_only=True, tag="close"):
    """End the episode, keep its dataset, and give the environment back; answered by `Closed`."""


DriverRequest = Open | Reset | Observe | Step | Close


class Opened(_Answer, frozen=True, kw_only=True):
    """An environment is there, under a lease that every request renews."""

    session: str  #: its id
    subject: str  #: where this session is asked
    lease_seconds: float  #: without a request for so long, the episode is ended and the session is over
    application: str  #: the service configuration
    nodes: tuple[str, ...]  #: services, in the order of the observation's axis
    edges: tuple[tuple[str, str, str], ...]  #: source, target, protocol; likewise
    control_step_seconds: int  #: how long a step lasts unless it says otherwise
    horizon_seconds: int  #: how long control lasts


class Observed(_Answer, frozen=True, kw_only=True):
    """What a policy may see: the fields of `Observation`, without the masks, which null and NaN say."""

    observation: dict[str, Any]  #: times [T] in ns, `nodes` [T, N, F], `edges` [T, E, G], names, and the rest
    run_id: str  #: of the episode


class Stepped(_Answer, frozen=True, kw_only=True):
    """What a step came to."""

    observation: dict[str, Any]  #: as in `Observed`
    reward: float  #: sum of the reward buckets that ended in the step
    done: bool  #: the episode is over; `reset` begins another
    info: dict[str, Any]  #: as `Env.step` tells it
    step: int  #: number of the step that was done


class Closed(_Answer, frozen=True, kw_only=True):
    """The session is over."""

    run_dir: str | None  #: where the last episode's dataset is, on the server's machine; null: there was none


# --- we ask a policy ------------------------------------------------------------------------------------------------------------


class Begin(_Request, frozen=True, kw_only=True, tag="begin"):
    """An episode begins; answered by `Begun`. Nothing of the scenario or the seed is told."""

    episode: str  #: names it in the questions that follow
    application: str  #: the service configuration
    nodes: tuple[str, ...]  #: services, in the order of the observation's axis
    edges: tuple[tuple[str, str, str], ...]  #: source, target, protocol; likewise
    control_step_seconds: int  #: how long a step lasts
    horizon_seconds: int  #: how long control lasts
    menu: tuple[dict[str, Any], ...] = ()  #: actions that are suggested; empty: all of the catalogue


class Begun(_Answer, frozen=True, kw_only=True):
    """Who decides."""

    policy_version: str = "remote"  #: identifies it in the log
    information: Literal["public", "privileged"] = "public"  #: privileged: it knows more than it is shown
    arrays: Arrays = "lists"  #: how arrays are sent to it


class Decide(_Request, frozen=True, kw_only=True, tag="decide"):
    """What now? Answered by `Decided`."""

    episode: str  #: as it was named by `begin`
    step: int  #: from 0
    seconds: int  #: since control began
    observation: dict[str, Any]  #: as in `Observed`


class Decided(_Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """This."""

    action: dict[str, Any]  #: JSON form of docs/reference/actions.md
    propensity: float | None = None  #: probability with which it was chosen
    alternatives: tuple[dict[str, Any], ...] | None = None  #: all that could have been: `action`, `probability`


# --- what goes wrong ------------------------------------------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error as one message for a person."""

    type: str  #: `InvalidAction`, `UsageError`, … as in Python; `Busy`: all environments are taken
    message: str  #: what is wrong, where, and what would be right


class Refusal(_Answer, frozen=True, kw_only=True):
    """The answer to what can't be done; whatever went on goes on."""

    error: Problem  #: what is wrong


Answer = Opened | Observed | Stepped | Closed | Begun | Decided | Refusal


def refusal(error: OtelControlGymError | str, kind: str = "") -> Refusal:
    """Return the answer that tells an error."""
    return Refusal(error=Problem(type=kind or type(error).__name__, message=str(error)))


def driver_request(body: bytes) -> DriverRequest:
    """Return the request in a message.

    Raises: UsageError: it isn't one of this version; says where and what would be right.
    """
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
        if found.get("version") != VERSION:
            raise UsageError(f"version = {found.get('version')!r}: this server speaks version {VERSION}")
        request: DriverRequest = msgspec.convert(found, type=DriverRequest)
        return request
    except msgspec.DecodeError as error:
        raise UsageError(f"that is no request: {error}") from error


def observation_message(observation: Observation, arrays: Arrays) -> dict[str, Any]:
    """Return an observation as it is sent."""
    fields = msgspec.structs.asdict(observation)
    for mask in ("node_mask", "edge_mask"):
        del fields[mask]
    for name in ("nodes", "edges", "offered_rate", "users_target"):
        fields[name] = _sent(fields[name], arrays)
    fields["time"] = fields["time"].tolist()
    return fields


def info_message(info: Info) -> dict[str, Any]:
    """Return a step's info as it is sent."""
    sent: dict[str, Any] = msgspec.to_builtins(info)
    return sent


def _sent(array: npt.NDArray[np.float64], arrays: Arrays) -> Any:
    if arrays == "lists":
        return array.tolist()  # JSON has no NaN: msgspec writes null
    return PackedArray(shape=array.shape, dtype="<f8", base64=array.astype("<f8").tobytes())
