"""What a policy sees: the fold of the public log, and its own actions that are in force.

In: the state of the public fold and a moment. Out: an `Observation`. Nothing of the truth stream can be in it, because the state that it
is made of was never shown any of it; `reveal_truth` adds what is in force as a field of its own, and is recorded in the metadata.
"""

from __future__ import annotations

from typing import Any

import msgspec

from otel_control_gym.engine.protocols import ActionRecord
from otel_control_gym.projections import ObservationArrays, RunState, observation_arrays

__all__ = ("Observation", "observe")


class Observation(ObservationArrays, frozen=True, kw_only=True, eq=False):
    """A window of T buckets over N nodes and E edges; what is missing is NaN and masked, never zero.

    T is window / bucket always; rows before the run began are masked. N and E are those of the declared graph for the whole run. `nodes`
    [T, N, F] and `edges` [T, E, G] hold the numeric columns of `node_features.parquet` and `edge_features.parquet`, in that order and unit
    (`docs/reference/data-dictionary.md`), bit for bit.
    """

    actions_in_force: tuple[ActionRecord, ...]  #: the policy's own, applied and not taken back
    truth: tuple[ActionRecord, ...] | None  #: interventions in force; None unless the run was made with `reveal_truth`
    log_sequence: int  #: this observation is the fold of the public log up to here


def observe(
    state: RunState,
    *,
    end: int,
    window_seconds: int,
    bucket_seconds: int,
    in_force: tuple[ActionRecord, ...],
    truth: tuple[ActionRecord, ...] | None,
) -> Observation:
    """Return the observation of the last `window_seconds` before `end` [ns] in buckets of `bucket_seconds`.

    Raises: ConfigurationError: the log can't answer that bucket, or the window is no multiple of it.
    """
    arrays = observation_arrays(state, end, window_seconds=window_seconds, bucket_seconds=bucket_seconds)
    fields: dict[str, Any] = msgspec.structs.asdict(arrays)
    return Observation(**fields, actions_in_force=in_force, truth=truth, log_sequence=state.sequence)
