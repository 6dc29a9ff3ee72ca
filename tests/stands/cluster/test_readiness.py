"""Whatever hangs is named in the words of whoever knows, with what to do about it; what doesn't hang isn't named.

A case is a file of `reasons/`: what an API server tells, and what is to come of it; of a remedy, its beginning.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import yaml

from otel_control_gym.stands.cluster.readiness import Seen, crashed, readiness

CASES = sorted((Path(__file__).parent / "reasons").glob("*.yaml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_case(path: Path) -> None:
    case = yaml.safe_load(path.read_text(encoding="utf-8"))
    seen = msgspec.convert(case["given"], Seen)
    found = readiness(seen, case["expected"])
    assert (found.ready, list(found.missing)) == (case["ready"], case["missing"])
    assert [(reason.object, reason.found) for reason in found.reasons] == [
        (reason["object"], reason["found"]) for reason in case["reasons"]
    ]
    for reason, wanted in zip(found.reasons, case["reasons"], strict=True):
        assert reason.remedy.startswith(wanted["remedy"])
    assert found.complete is (found.ready == found.wanted)


def test_last_words_are_asked_of_what_has_ended_and_of_nothing_else() -> None:
    asked = {
        path.stem: crashed(yaml.safe_load(path.read_text(encoding="utf-8"))["given"].get("pods", ())) for path in CASES
    }
    assert {name: found for name, found in asked.items() if found} == {
        "crash-loop": (("product-catalog-1", "product-catalog"),),
        "no-ebpf": (("coroot-node-agent-5xk2p", "node-agent"),),
        "out-of-memory": (("ad-1", "ad"),),
    }


def test_a_long_message_is_cut_and_a_reason_is_told_once() -> None:
    pod = {
        "metadata": {"name": "cart-1"},
        "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no " * 400}]},
    }
    found = readiness(Seen(pods=[pod, pod]), ["cart"])
    (reason,) = found.reasons
    assert len(reason.found) <= 300
    assert reason.found.endswith("…")
