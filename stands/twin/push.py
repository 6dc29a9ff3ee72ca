"""The twin's last hop of OTLP: export requests to the gym's receiver, answered before time goes on.

In: serialised requests. Out: HTTP posts to `/v1/traces` and `/v1/logs`; an answer other than 200 is an error, because on the twin nothing
may be lost in silence.
"""

from __future__ import annotations

import aiohttp

from otel_control_gym.engine.errors import StandError
from otel_control_gym.stands.twin.spans import Export

__all__ = ("OtlpPush",)

_HEADERS = {"Content-Type": "application/x-protobuf"}
_ANSWER_SECONDS = 60.0


class OtlpPush:
    """Posts to one receiver; `session` stays the caller's."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self.endpoint = endpoint.rstrip("/")  #: empty: nobody receives

    async def send(self, export: Export) -> None:
        """Post one request.

        Raises: StandError: the receiver can't be reached or refuses.
        """
        url = f"{self.endpoint}/v1/{export.signal}"
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        try:
            async with self._session.post(url, data=export.body, headers=_HEADERS, timeout=timeout) as response:
                answer = await response.read()
                if response.status != 200:
                    text = answer.decode("utf-8", "replace")[:200]
                    raise StandError(f"the OTLP receiver at {url} answered {response.status}: {text}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StandError(f"the OTLP receiver at {url} gave no answer: {error or type(error).__name__}") from error
