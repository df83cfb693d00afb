"""Options of `pipeline` are judged when it is made, not with the first call."""

from __future__ import annotations

from typing import Any

import pytest

import streamkp
from streamkp.errors import UsageError


@pytest.mark.parametrize(
    ("options", "what"),
    [({"tiles": 0}, "tiles"), ({"score": 2}, "score"), ({"max_persons": 0}, "max_persons"), ({"rotate": 45}, "rotate")],
)
def test_what_cannot_work_is_said_at_once(options: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        streamkp.pipeline("body-2d-keypoints", **options)
