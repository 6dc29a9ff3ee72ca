"""Runs in the formats that neighbouring tools read.

Here: one module per format, each a function from what a run's directory holds to files, and `FORMATS`, what each format is, which of its
fields are which of ours and what it can't hold (docs/reference/exports.md is made of it). Not here: which runs, where the files go, and
how a run is opened or rebuilt (`engine.export`).

A format's own answer key is the only place where ground truth goes. What only one format needs of other libraries is imported when it is
used.
"""

from __future__ import annotations

from otel_control_gym.projections.adapters.action_encoding import ActionEncoding
from otel_control_gym.projections.adapters.catalogue import FORMATS, reference_page
from otel_control_gym.projections.adapters.formats import Correspondence, FileKind, Format, Omission
from otel_control_gym.projections.adapters.recordings import Recording

__all__ = (
    "FORMATS",
    "ActionEncoding",
    "Correspondence",
    "FileKind",
    "Format",
    "Omission",
    "Recording",
    "reference_page",
)
