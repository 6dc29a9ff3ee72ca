"""The log records of a log window ➜ templates and how often each was used.

In: the public log records of a window. Out: `LogPattern` rows. The live observation's `log_patterns` and `log_patterns.parquet` are these
rows. The miner is Drain (He et al., ICWS 2017), of the library drain3.

**What a window's templates hang on.** Drain learns: a text that comes later can make an earlier template more general, and the order of
the texts matters. So a service's texts are mined anew in each window, each distinct text once, in alphabetical order: the templates are a
function of the *set* of texts in the window. Neither the cutting of the log, nor what was said before or afterwards, nor the order of
records of the same moment changes them, and a window that is over keeps its templates. What it costs: a text that says the same with
another name in every window, and that alone, has another template in every window.

Most of what varies is therefore taken out before: ids, addresses, numbers become placeholders. `pattern_id` is a hash of the template, the
same wherever it is found. Only the first line of a record counts: what follows is a stack trace.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from otel_control_gym.engine.events import LogRow

__all__ = ("LogPattern", "masked", "summarize_logs")

_LONGEST = 1000  #: characters of a line that are looked at, and of an example
_SIMILARITY = 0.6  #: share of the words in which two texts must agree to have one template
_PARAMETER = "<*>"  #: Drain's placeholder, for a word
_ID_BYTES = 8
_MASKS = tuple(
    (re.compile(pattern), placeholder)
    for pattern, placeholder in (
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<uuid>"),
        (r"\b[\w.+-]+@[\w-]+\.[\w.-]+\b", "<email>"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\b", "<time>"),
        (r"\b(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?\b", "<ip>"),
        (r"\b(?:0x[0-9a-fA-F]+|(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,})\b", "<hex>"),
        (r"\b(?=[A-Za-z]*\d)(?=\d*[A-Za-z])[A-Za-z0-9]{8,}\b", "<id>"),
        (r"(?<![\w.])[+-]?\d+(?:\.\d+)?(?=(?:ns|us|µs|ms|s|m|h|[KMG]i?B?|B|%)?(?!\w))", "<number>"),
    )
)


class LogPattern(msgspec.Struct, frozen=True, kw_only=True):
    """The log records of a service, severity and template in a log window."""

    time: int  #: start of the window
    service: str
    severity: str
    pattern_id: str  #: hash of the template, 16 hex digits
    template: str
    count: float  #: estimate of how many there were
    sampled_count: int  #: records behind the estimate
    example: str  #: the first of them


def summarize_logs(start: int, rows: Sequence[LogRow]) -> tuple[LogPattern, ...]:
    """Return one row per (service, severity, template) of the window that begins at `start`, sorted; `rows` are in order of time."""
    texts: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        texts[row.service].add(masked(row.body))
    templates = {service: _templates(sorted(found)) for service, found in sorted(texts.items())}
    groups: defaultdict[tuple[str, str, str], list[LogRow]] = defaultdict(list)
    for row in rows:
        groups[row.service, row.severity, templates[row.service][masked(row.body)]].append(row)
    patterns = [
        LogPattern(
            time=start,
            service=service,
            severity=severity,
            pattern_id=hashlib.blake2b(template.encode(), digest_size=_ID_BYTES).hexdigest(),
            template=template,
            count=sum(1 / row.sampling_probability for row in found),
            sampled_count=len(found),
            example=found[0].body[:_LONGEST],
        )
        for (service, severity, template), found in groups.items()
    ]
    return tuple(sorted(patterns, key=lambda pattern: (pattern.service, pattern.severity, pattern.pattern_id)))


@lru_cache(maxsize=1 << 14)
def masked(body: str) -> str:
    """Return a record's first line, in which ids, addresses and numbers are placeholders and words stand one blank apart."""
    line = body.strip().partition("\n")[0][:_LONGEST]
    for pattern, placeholder in _MASKS:
        line = pattern.sub(placeholder, line)
    return " ".join(line.split())


def _templates(texts: list[str]) -> dict[str, str]:
    """Return the template of each text."""
    from drain3.drain import (
        Drain,
    )  # late: it takes as long as the rest of the room, and a run without logs doesn't need it

    miner = Drain(sim_th=_SIMILARITY, param_str=_PARAMETER)
    clusters = {text: miner.add_log_message(text)[0] for text in texts}
    return {text: cluster.get_template() for text, cluster in clusters.items()}
