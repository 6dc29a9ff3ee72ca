"""What a doctor says: findings, each with its remedy.

In: what a check has seen. Out: `Finding`s, and a `Diagnosis` of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

__all__ = ("APPLY", "Diagnosis", "Finding", "failed", "fine", "name_of", "unknown", "warning")

APPLY = "kubectl apply -f deploy/stand/"  #: what a remedy begins with that is one of our manifests

Status = Literal["ok", "warning", "failed", "unknown"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    check: str
    status: Status  #: `unknown`: it couldn't be looked at; `warning`: episodes run, and something is missing in them
    found: str
    remedy: str = ""  #: what to do about it; empty where nothing is to be done


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, in the order in which they were made."""

    findings: tuple[Finding, ...]

    @property
    def healthy(self) -> bool:
        """Return whether episodes can run: nothing failed."""
        return all(finding.status != "failed" for finding in self.findings)


def fine(check: str, found: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(check=check, status="ok", found=found)


def warning(check: str, found: str, remedy: str) -> Finding:
    """Return a finding with which episodes run, and lack something."""
    return Finding(check=check, status="warning", found=found, remedy=remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    """Return a finding with which no episode can be trusted."""
    return Finding(check=check, status="failed", found=found, remedy=remedy)


def unknown(check: str, found: str, remedy: str) -> Finding:
    """Return what couldn't be looked at."""
    return Finding(check=check, status="unknown", found=found, remedy=remedy)


def name_of(item: Mapping[str, Any]) -> str:
    """Return the name of a Kubernetes object."""
    return str(item["metadata"]["name"])
