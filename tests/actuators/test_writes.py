"""What was written to which object, from which version to which, is read off the answers that the server gave anyway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_control_gym.actuators.writes import WriteBook

APPS = "apis/apps/v1/namespaces/otel-demo"


def item(version: str, uid: str = "u", name: str = "cart") -> dict[str, Any]:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": version}}


def answer(body: Any) -> bytes:
    return json.dumps(body).encode()


def test_a_write_goes_from_the_version_that_was_read_last_to_that_of_its_answer() -> None:
    book = WriteBook()
    book.read(answer(item("7")))
    book.read(answer({"items": [item("9"), item("3", "other", "quote")]}))
    for version in ("12", "15"):
        book.wrote("PATCH", f"{APPS}/deployments/cart/scale", answer(item(version)))
    first, second = book.take()
    assert (first.method, first.kind, first.name, first.uid) == ("PATCH", "deployments/scale", "cart", "u")
    assert (first.version_before, first.version_after) == ("9", "12")
    assert (second.version_before, second.version_after) == ("12", "15")
    assert book.take() == (), "each is told once"


def test_what_nobody_had_read_has_no_version_before() -> None:
    book = WriteBook()
    book.wrote("POST", f"{APPS}/deployments", answer(item("4", "new", "cart-canary")))
    (made,) = book.take()
    assert (made.kind, made.name, made.version_before, made.version_after) == ("deployments", "cart-canary", "", "4")


@pytest.mark.parametrize(
    "gone",
    [
        item("8"),
        {"kind": "Status", "status": "Success", "details": {"name": "cart", "kind": "deployments", "uid": "u"}},
    ],
    ids=["object", "status"],
)
def test_what_is_deleted_has_no_version_after_whatever_the_server_answers(gone: dict[str, Any]) -> None:
    book = WriteBook()
    book.read(answer(item("7")))
    book.wrote("DELETE", f"{APPS}/deployments/cart", answer(gone))
    (deleted,) = book.take()
    assert (deleted.uid, deleted.name, deleted.version_before, deleted.version_after) == ("u", "cart", "7", "")


def test_an_answer_that_is_no_object_is_a_write_of_the_one_in_the_path() -> None:
    book = WriteBook()
    book.wrote("PATCH", f"{APPS}/deployments/cart", b"<html>")
    (written,) = book.take()
    assert (written.kind, written.name, written.uid) == ("deployments", "cart", "")
