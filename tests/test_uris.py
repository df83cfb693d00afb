from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.uris import mask


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("rtsp://10.0.0.5:554/live", "rtsp://10.0.0.5:554/live"),
        ("rtsp://cam:s3cret@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
        ("rtsp://s3cret@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
        ("rtsp://cam:s3@cret@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
        ("rtsp://cam:s3/cret@10.0.0.5/live", "rtsp://***@10.0.0.5/live"),
        ("rtsp://cam:s3?cret#@[::1]:554/live", "rtsp://***@[::1]:554/live"),
        ("http://host/mail/me@example", "http://host/mail/me@example"),
        ("ws://h/ws?stream=a&token=s3cret&x=1", "ws://h/ws?stream=a&token=***&x=1"),
        ("https://h/v.mp4?X-Amz-Signature=s3cret", "https://h/v.mp4?X-Amz-Signature=***"),
        ("cannot open rtsp://u:s3cret@h/a: refused", "cannot open rtsp://***@h/a: refused"),
        ("clip.mp4", "clip.mp4"),
        ("C:\\clips\\a.mp4", "C:\\clips\\a.mp4"),
    ],
)
def test_mask(uri: str, shown: str) -> None:
    assert mask(uri) == shown


@given(st.text(st.characters(exclude_categories=("Z", "C"), exclude_characters="\"'<>"), min_size=1))
def test_no_password_survives(password: str) -> None:
    secret = password + "~PASSWORD~"
    shown = mask(f"rtsp://user:{secret}@host:554/path")
    assert "PASSWORD" not in shown
    assert shown.endswith("@host:554/path")
