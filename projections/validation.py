"""A run's directory ➜ where it breaks the data contract, as far as its files alone can tell.

In: a directory. Out: violations, each with the id of its rule, the file and a sentence; none means that all of `RULES` hold. Whether the
numbers are right, only the event log can tell: `engine.run_checks` adds those rules, and those about several runs.
"""

from __future__ import annotations

from pathlib import Path

from otel_control_gym.projections.decision_rules import DECISION_RULES
from otel_control_gym.projections.file_rules import FILE_RULES
from otel_control_gym.projections.rules import CheckedRun, Rule, Violation, checked_run
from otel_control_gym.projections.schemas import CONTRACT_VERSION
from otel_control_gym.projections.table_rules import TABLE_RULES

__all__ = ("EVERY_CONTRACT", "RULES", "Violation", "validate", "violations_of")

RULES: tuple[Rule, ...] = (*FILE_RULES, *TABLE_RULES, *DECISION_RULES)
EVERY_CONTRACT = ("file-unreadable", "contract-version", "archive-digest", "file-digest")
"""Rules that also a run of another contract has to keep: the others are about today's."""


def validate(directory: Path | str) -> list[Violation]:
    """Return where the files of a run break the contract, sorted by file."""
    return violations_of(checked_run(Path(directory)))


def violations_of(run: CheckedRun, rules: tuple[Rule, ...] = RULES) -> list[Violation]:
    """Return where a run breaks rules, sorted by file.

    Rules about content are left out where metadata or graph don't keep their schemas: what they say can't be relied on.
    """
    if run.metadata and run.metadata.get("contract_version") != CONTRACT_VERSION:
        rules = tuple(rule for rule in rules if rule.id in EVERY_CONTRACT)
    found = [violation for rule in rules if not rule.of_content for violation in rule.violations(run)]
    broken = {violation.file for violation in found if violation.rule_id == "document"}
    told = [name for name in ("metadata.json", "graph.json") if name in run.documents and name not in broken]
    if len(told) == 2:
        found += [violation for rule in rules if rule.of_content for violation in rule.violations(run)]
    return sorted(found, key=lambda violation: (violation.file, violation.rule_id, violation.message))
