"""Whether whoever asks may do something (`SelfSubjectAccessReview`), which programs ask before they begin.

In: the review's body. Out: the review with its status. The twin has one user, who has shown the token and may do everything: so the answer
is yes, to whatever is asked properly.
"""

from __future__ import annotations

from typing import Any

from otel_control_gym.stands.twin import api_errors
from otel_control_gym.stands.twin.objects import Object

__all__ = ("REVIEWS", "reviewed")

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def reviewed(body: Any) -> Object:
    """Return the answer to a review.

    Raises: ApiError: it doesn't say what is to be reviewed.
    """
    spec = body.get("spec") if isinstance(body, dict) else None
    asked = [spec.get(key) for key in ("resourceAttributes", "nonResourceAttributes")] if isinstance(spec, dict) else []
    if len([attributes for attributes in asked if isinstance(attributes, dict)]) != 1:
        raise api_errors.bad_request("exactly one of nonResourceAttributes or resourceAttributes must be specified")
    return {
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "metadata": {"creationTimestamp": None},
        "spec": spec,
        "status": {"allowed": True, "reason": "the twin's one user may do everything"},
    }
