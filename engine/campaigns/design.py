"""A campaign's settings ➜ its runs.

In: settings, and the applications and workloads that they name. Out: a `CampaignPlan`. Pure: the same file gives the same runs.

How a run is drawn. Run i of a stratum takes the levels of its factors by turns: the type is i modulo their number, and whenever all types
had their turn, each type moves on to the next configuration, workload and strength; long runs go round likewise. So every type meets every
level as soon as it has as many runs, and none can be told by it. Target, duration and moments are drawn under the key (seed, stratum, i),
so no run depends on how many there are. Where a run has a fault and an action, pairs that were seldom are taken first: within every kind
of fault all kinds of action are about equally common, or a model could read one off the other.

Times. Faults begin in the first third of control, actions one to two minutes after them, and what is longest to be foretold (300 s) fits in
behind. `recovery_phase` decides whether the fault ends early or lasts to the end. Runs are shuffled, so that their order says nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from otel_control_gym.engine.campaigns.candidates import Action, Candidates, helps, place_of
from otel_control_gym.engine.campaigns.keyed_draws import Draws
from otel_control_gym.engine.campaigns.plans import CampaignPlan, Factors, PlannedRun
from otel_control_gym.engine.campaigns.settings import STRATA, CampaignSettings, Stratum
from otel_control_gym.engine.errors import ConfigurationError
from otel_control_gym.engine.randomness import derive_seed, draw_bits, draw_uniform
from otel_control_gym.engine.settings import (
    Granularity,
    PlannedAction,
    PolicySettings,
    Scenario,
    ServiceConfiguration,
    Workload,
)

__all__ = ("FORESIGHT_SECONDS", "SIBLING", "make_plan")

SIBLING = "-sibling"  #: after the key of the run that it is the sibling of

FORESIGHT_SECONDS = 300  #: the longest horizon that is to be foretold, ten control steps of 30 s
_SEED_BITS = 53  #: so that a seed survives every JSON reader
_PAIRED: tuple[Stratum, ...] = ("single_action", "single_fault", "zero_strength")
_OF_FAULTS: tuple[Stratum, ...] = (
    "single_fault",
    "fault_with_recovery",
    "wrong_remedy",
    "multi_fault",
    "zero_strength",
)  #: whose kinds are those of interventions
_MENU = 8  #: alternatives beside noop: each has a probability of 1/9
_UNDONE_BY = {"disable_group": "enable_group", "rollout_config": "rollback_config"}
_WITH_DURATION = ("scale", "set_resources", "set_autoscaler", "shift_traffic", "disable_group", "set_workload")


class _Parts(msgspec.Struct, frozen=True):
    """What a run's levels are drawn of."""

    number: int
    draws: Draws
    configuration: str
    workload: str
    candidates: Candidates
    application: ServiceConfiguration
    length: Literal["short", "long"]
    control: int  #: seconds
    step: int  #: seconds
    word: str  #: strength
    onset: int  #: seconds

    def after(self, purpose: str, fewest: int, most: int) -> int:
        """Return a moment some steps after the onset [s], before the last step is over."""
        last = (self.control // self.step - 1) * self.step
        return min(last, self.onset + self.draws.between(purpose, fewest * self.step, most * self.step, self.step))


def make_plan(
    settings: CampaignSettings,
    *,
    application: Callable[[str], ServiceConfiguration],
    workload: Callable[[str], Workload],
    granularity: Granularity,
) -> CampaignPlan:
    """Return the runs of a campaign.

    Args:
        application: returns a service configuration by the name that the settings use for it; `workload` a workload.
        granularity: of all runs.

    Raises: ConfigurationError: a type can't be planned in any of the configurations, or control is too short for what is to be seen in it.
    """
    planner = _Planner(settings, application, workload, granularity)
    runs = [
        run
        for stratum in STRATA
        for number in range(settings.strata.get(stratum, 0))
        for run in planner.runs(stratum, number)
    ]
    runs.sort(key=lambda run: (draw_bits(derive_seed(settings.seed, f"order/{run.key}")), run.key))
    digest = hashlib.sha256(msgspec.json.encode([settings, runs], order="deterministic")).hexdigest()
    return CampaignPlan(settings=settings, digest=digest, runs=tuple(runs))


class _Planner:
    def __init__(
        self,
        settings: CampaignSettings,
        application: Callable[[str], ServiceConfiguration],
        workload: Callable[[str], Workload],
        granularity: Granularity,
    ) -> None:
        self._settings = settings
        self._application, self._workload = application, workload
        self._step = granularity.control_step_seconds
        self._pairs: dict[bool, Counter[tuple[str, str]]] = {True: Counter(), False: Counter()}
        # may help -> (fault type, action type) -> runs so far: of each stratum, so that one grows without the other
        order = Draws(settings.seed, "levels")
        self._configurations = order.shuffled("configurations", settings.configurations)
        self._workloads = order.shuffled("workloads", settings.workloads)
        self._faults = order.shuffled("interventions", settings.interventions)
        self._actions = order.shuffled(
            "actions", [kind for kind in settings.actions if kind not in ("enable_group", "rollback_config")]
        )
        self._check_length()

    def _check_length(self) -> None:
        needed = 4 * self._step + 120 + FORESIGHT_SECONDS
        shortest = self._settings.length.short_seconds
        if shortest < needed and self._settings.bounds is not None:
            raise ConfigurationError(
                file=f"campaign {self._settings.name!r}",
                key="length.short_seconds",
                found=shortest,
                problem=f"a fault's onset, its effect and {FORESIGHT_SECONDS} s of foresight don't fit in",
                remedy=f"use at least {needed}",
            )

    # --- runs -------------------------------------------------------------------------------------------------------------

    def runs(self, stratum: Stratum, number: int) -> list[PlannedRun]:
        """Return run `number` of a stratum, and its sibling if it has one."""
        parts = self._parts(stratum, number)
        interventions, policy, factors = self._script(stratum, parts)
        scenario = self._scenario(f"{stratum}-{number:04d}", parts, interventions, policy)
        paired = stratum in _PAIRED and self._settings.cluster is None  # on a cluster nothing happens twice
        main = self._planned(stratum, "main", scenario, factors, paired=paired)
        if main.pair_id is None:
            return [main]
        bare = self._scenario(f"{stratum}-{number:04d}", parts, (), PolicySettings())
        plain = Factors(configuration=parts.configuration, workload=parts.workload, length=parts.length)
        sibling = msgspec.structs.replace(
            main, key=f"{main.key}{SIBLING}", role="sibling", scenario=bare, factors=plain
        )
        return [main, sibling]

    def _parts(self, stratum: Stratum, number: int) -> _Parts:
        settings = self._settings
        draws = Draws(settings.seed, f"{stratum}/{number}")
        kinds = max(1, len(self._faults if stratum in _OF_FAULTS else self._actions))
        turn, kind = divmod(number, kinds)
        first = STRATA.index(stratum)
        round_ = first + kind + turn
        configuration = self._configurations[round_ % len(self._configurations)]
        workload = self._workloads[(first + 2 * kind + turn) % len(self._workloads)]
        length = self._length(stratum, number)
        low, high = settings.length.long_seconds
        control = settings.length.short_seconds if length == "short" else draws.between("length", low, high, self._step)
        latest = max(self._step, min(control // 3, control - FORESIGHT_SECONDS - 120))
        earliest = 2 * self._step if settings.cluster is None else settings.cluster.before_seconds
        onset = draws.between("onset", min(earliest, latest), latest, self._step)
        application = self._application(configuration)
        return _Parts(
            number=number,
            draws=draws,
            configuration=configuration,
            workload=workload,
            candidates=Candidates(application, self._workload(workload)),
            application=application,
            length=length,
            control=control,
            step=self._step,
            word=settings.intensities[round_ % len(settings.intensities)],
            onset=onset,
        )

    def _length(self, stratum: Stratum, number: int) -> Literal["short", "long"]:
        """Return how long a run is: one of each block is long, at a place that moves on from block to block, so that no kind owns it."""
        share = self._settings.length.long_share
        if share <= 0:
            return "short"
        size = max(1, round(1 / share))
        block, place = divmod(number, size)
        position = block * size + (place + block) % size
        offset = draw_uniform(derive_seed(self._settings.seed, f"long/{stratum}"))
        return "long" if int((position + 1) * share + offset) > int(position * share + offset) else "short"

    def _scenario(
        self, name: str, parts: _Parts, interventions: Sequence[PlannedAction], policy: PolicySettings
    ) -> Scenario:
        settings = self._settings
        return Scenario(
            name=name,
            services=parts.configuration,
            workload=parts.workload,
            granularity=settings.granularity,
            reward=settings.reward,
            episode=settings.episode,
            telemetry=settings.telemetry,
            horizon_seconds=parts.control,
            interventions=tuple(interventions),
            policy=policy,
            randomize=settings.randomize,
        )

    def _planned(
        self, stratum: Stratum, role: Literal["main", "sibling"], scenario: Scenario, factors: Factors, *, paired: bool
    ) -> PlannedRun:
        seed = derive_seed(self._settings.seed, f"run/{scenario.name}") >> (64 - _SEED_BITS)
        template = msgspec.json.encode([scenario, seed], order="deterministic")
        family = hashlib.sha256(template).hexdigest()[:16]
        return PlannedRun(
            key=scenario.name,
            stratum=stratum,
            role=role,
            scenario=scenario,
            seed=seed,
            family_id=family,
            pair_id=family if paired else None,
            factors=factors,
        )

    # --- scripts ----------------------------------------------------------------------------------------------------------

    def _script(self, stratum: Stratum, parts: _Parts) -> tuple[Sequence[PlannedAction], PolicySettings, Factors]:
        factors = Factors(configuration=parts.configuration, workload=parts.workload, length=parts.length)
        match stratum:
            case "baseline":
                return (), PolicySettings(), factors
            case "normal_control":
                policy = self._at_work(parts)
                return (), policy, msgspec.structs.replace(factors, policy=policy.name)
            case "single_action":
                return self._single_action(parts, factors)
            case "single_fault":
                fault, factors = self._fault(parts, factors, self._turn(self._faults, parts), parts.onset)
                return (fault,), PolicySettings(), factors
            case "fault_with_recovery" | "wrong_remedy":
                return self._fault_and_action(parts, factors, wanted=stratum == "fault_with_recovery")
            case "multi_action":
                return self._two_actions(parts, factors)
            case "multi_fault":
                first, factors = self._fault(parts, factors, self._turn(self._faults, parts), parts.onset)
                other = self._faults[(parts.number + 1 + parts.number // len(self._faults)) % len(self._faults)]
                later = parts.after("second", 1, 5)
                also, _ = self._fault(parts, factors, other, later, purpose="second")
                return (first, also), PolicySettings(), factors
            case "randomised":
                return self._randomised(parts, factors)
            case "zero_strength":
                nil = msgspec.structs.replace(parts, word="zero")
                fault, factors = self._fault(nil, factors, self._turn(self._faults, parts), parts.onset)
                return (fault,), PolicySettings(), factors

    def _turn(self, kinds: Sequence[str], parts: _Parts) -> str:
        return kinds[parts.number % len(kinds)]

    def _fault(
        self,
        parts: _Parts,
        factors: Factors,
        kind: str,
        at: int,
        *,
        purpose: str = "fault",
        persistence: str = "workload",
    ) -> tuple[PlannedAction, Factors]:
        """Return an intervention of a kind, or of the next kind that this application can suffer."""
        kind, targets = self._possible(parts, kind)
        action = dict(parts.draws.choice(f"{purpose} target", targets))
        place = action.get("target", action.get("flag", ""))
        action["intensity"] = parts.word
        recovers = parts.draws.share(f"{purpose} recovers") < 0.5
        left = parts.control - at
        if not recovers:
            action["duration_seconds"], duration = left, "to_the_end"
        else:
            duration = self._duration(parts)
            action["duration"] = duration
        if kind in ("cpu_pressure", "memory_pressure", "network_delay", "packet_loss", "network_partition", "pod_kill"):
            action["persistence"] = persistence
        return PlannedAction(at_seconds=at, action=action), msgspec.structs.replace(
            factors,
            fault_type=kind,
            fault_target=str(place),
            fault_intensity=parts.word,
            fault_duration=duration,
            recovery_phase=recovers,
            persistence=action.get("persistence"),
        )

    def _possible(self, parts: _Parts, kind: str) -> tuple[str, list[Action]]:
        start = self._faults.index(kind)
        for candidate in (*self._faults[start:], *self._faults[:start]):
            targets = parts.candidates.faults(candidate)
            if targets:
                return candidate, targets
        raise ConfigurationError(
            file=f"campaign {self._settings.name!r}",
            key="interventions",
            found=list(self._faults),
            problem=f"none of them can be injected into {parts.configuration!r}",
            remedy="add an intervention, or leave the configuration out",
        )

    def _duration(self, parts: _Parts) -> str:
        words = ("transient", "medium") if parts.length == "short" else ("medium", "slow_burn")
        return parts.draws.choice("duration", words)

    def _action(self, parts: _Parts, kind: str, purpose: str) -> tuple[str, Action]:
        """Return an action of a kind, or of the next kind that there is in this application."""
        start = self._actions.index(kind)
        for candidate in (*self._actions[start:], *self._actions[:start]):
            makers = parts.candidates.actions(candidate)
            if makers:
                action = parts.draws.choice(f"{purpose} target", makers)(parts.word)
                if candidate in _WITH_DURATION and parts.draws.share(f"{purpose} timed") < 0.5:
                    action["duration"] = self._duration(parts)
                return candidate, action
        raise ConfigurationError(
            file=f"campaign {self._settings.name!r}",
            key="actions",
            found=list(self._actions),
            problem=f"none of them can be done to {parts.configuration!r}",
            remedy="add an action, or leave the configuration out",
        )

    def _single_action(
        self, parts: _Parts, factors: Factors
    ) -> tuple[Sequence[PlannedAction], PolicySettings, Factors]:
        kind, action = self._action(parts, self._turn(self._actions, parts), "action")
        planned = PlannedAction(at_seconds=parts.onset, action=action)
        return (), PolicySettings(name="scripted", actions=(planned,)), _acting(factors, kind, action, "scripted")

    def _two_actions(self, parts: _Parts, factors: Factors) -> tuple[Sequence[PlannedAction], PolicySettings, Factors]:
        undone = self._undone(parts.number)
        kind, first = self._action(parts, undone or self._turn(self._actions, parts), "first")
        if kind == undone:
            first.pop("duration", None)
            second = {"type": _UNDONE_BY[kind], "target": first["target"]}
        else:
            other = self._actions[(parts.number + 1 + parts.number // len(self._actions)) % len(self._actions)]
            _, second = self._action(parts, other, "second")
        later = parts.after("later", 3, 6)
        actions = (PlannedAction(at_seconds=parts.onset, action=first), PlannedAction(at_seconds=later, action=second))
        return (), PolicySettings(name="scripted", actions=actions), _acting(factors, kind, first, "scripted")

    def _undone(self, number: int) -> str | None:
        """Return what is done and then undone in run `number` of two actions: in two of three, since nowhere else anything is undone."""
        there = [kind for kind, by in _UNDONE_BY.items() if {kind, by} <= {*self._settings.actions}]
        if not there or number % 3 == 2:
            return None
        return there[(number - number // 3) % len(there)]

    def _fault_and_action(
        self, parts: _Parts, factors: Factors, *, wanted: bool
    ) -> tuple[Sequence[PlannedAction], PolicySettings, Factors]:
        kinds = [kind for kind in self._settings.actions if kind not in ("enable_group", "noop", "rollout_config")]
        options: list[tuple[str, str, str]] = []
        for suffered in self._faults:
            for persistence in ("workload", "pod"):
                options += [
                    (suffered, kind, persistence) for kind in kinds if helps(kind, suffered, persistence) is wanted
                ]
        options = parts.draws.shuffled("pair", options)
        options.sort(key=lambda option: self._pairs[wanted][option[:2]])
        for fault_kind, kind, persistence in options:
            targets = parts.candidates.faults(fault_kind)
            if not targets:
                continue
            fault, described = self._fault(parts, factors, fault_kind, parts.onset, persistence=persistence)
            action = parts.candidates.remedy(kind, place_of(fault.action, parts.application), parts.word)
            if action is None:
                continue
            self._pairs[wanted][fault_kind, kind] += 1
            later = parts.after("reaction", 2, 4)
            policy = PolicySettings(
                name="scripted", actions=(PlannedAction(at_seconds=later, action=action),), information="privileged"
            )
            return (fault,), policy, _acting(described, kind, action, "scripted")
        raise ConfigurationError(
            file=f"campaign {self._settings.name!r}",
            key="strata",
            found="fault_with_recovery" if wanted else "wrong_remedy",
            problem=f"no pair of fault and action of this kind fits {parts.configuration!r}",
            remedy="add actions or interventions, or set this stratum to 0",
        )

    def _menu(self, parts: _Parts) -> tuple[Action, ...]:
        """Return what a public policy draws from: as many kinds as there are places, each with a target and a strength of its own."""
        menu: list[Action] = []
        for number, kind in enumerate(parts.draws.shuffled("menu", self._actions)):
            makers = parts.candidates.actions(kind)
            if makers and kind != "set_workload" and len(menu) < _MENU:
                word = self._settings.intensities[(parts.number + number) % len(self._settings.intensities)]
                menu.append(parts.draws.choice(f"menu {kind}", makers)(word))
        return tuple(menu)

    def _at_work(self, parts: _Parts) -> PolicySettings:
        """Return an operator who has things to do from time to time: one who draws them, or (every third) a person."""
        pause = 5 * parts.step
        moments = range(parts.onset, parts.control - FORESIGHT_SECONDS + 1, pause)
        times = tuple(moments)[:8] or (parts.onset,)
        name: Literal["random", "human_like"] = "human_like" if parts.number % 3 == 2 else "random"
        return PolicySettings(name=name, menu=self._menu(parts), decide_at_seconds=times)

    def _randomised(self, parts: _Parts, factors: Factors) -> tuple[Sequence[PlannedAction], PolicySettings, Factors]:
        interventions: tuple[PlannedAction, ...] = ()
        if parts.number % 2:
            kind = self._faults[(parts.number // 2) % len(self._faults)]
            fault, factors = self._fault(parts, factors, kind, parts.onset)
            interventions = (fault,)
        at = parts.after("decision", 2, 4)
        policy = PolicySettings(name="random", menu=self._menu(parts), decide_at_seconds=(at,))
        return interventions, policy, msgspec.structs.replace(factors, policy="random")


def _acting(factors: Factors, kind: str, action: dict[str, Any], policy: str) -> Factors:
    return msgspec.structs.replace(
        factors,
        action_type=kind,
        action_target=str(action.get("target", "")),
        action_intensity=action.get("intensity"),
        policy=policy,
    )
