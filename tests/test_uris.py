from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkp.errors import UsageError
from streamkp.uris import check_address, encoded, expand, expand_argument, local_path, mask, mask_address, split


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
        ("rtsp:/cam:s3cret@h/a is no graph file", "rtsp:/***@h/a is no graph file"),
        ('rtsp://u:s3 cr"e<t>@h/a: refused', "rtsp://***@h/a: refused"),
        ("a rtsp://u:s3cret@h/a and rtsp://h:554/b", "a rtsp://***@h/a and rtsp://h:554/b"),
        ("http://h/v?loginuse=me&loginpas=s3cret&x=1", "http://h/v?loginuse=***&loginpas=***&x=1"),
        ("http://h/v?pw=s3cret", "http://h/v?pw=***"),
        ("http://h/v?a=1&psw=s3cret#x", "http://h/v?a=1&psw=***#x"),
        (
            "rtsp://h:554/user=admin_password=s3cret_channel=1_stream=0.sdp",
            "rtsp://h:554/user=***_password=***_channel=1_stream=0.sdp",
        ),
        ("rtsp://h/user=admin&password=s3_cret&channel=1", "rtsp://h/user=***&password=***&channel=1"),
        ("clip.mp4", "clip.mp4"),
        ("C:\\clips\\a.mp4", "C:\\clips\\a.mp4"),
    ],
)
def test_mask(uri: str, shown: str) -> None:
    assert mask(uri) == shown


@given(st.text(st.characters(exclude_categories=("C",), exclude_characters="\u2028\u2029"), min_size=1))
def test_no_password_survives(password: str) -> None:
    secret = password + "~PASSWORD~"
    shown = mask(f"rtsp://user:{secret}@host:554/path")
    assert "PASSWORD" not in shown
    assert shown.endswith("@host:554/path")


@given(st.text(st.characters(exclude_categories=("C",)), min_size=1))
def test_no_password_with_any_sign_survives_in_an_address(password: str) -> None:
    address = f"rtsp://user:{password}~PASSWORD~@host:554/path"
    assert mask_address(address) == "rtsp://***@host:554/path"
    assert mask(f"cannot open {address}: refused") == "cannot open rtsp://***@host:554/path: refused"


@given(st.text(st.characters(exclude_categories=("C",)), min_size=1))
def test_a_password_in_a_variable_arrives_as_it_is(password: str) -> None:
    address = expand("rtsp://admin:${PW}@10.0.0.5:554/live", {"PW": password})
    userinfo, _, rest = address.removeprefix("rtsp://").partition("@")
    assert rest == "10.0.0.5:554/live"
    assert not set("/?#@ ") & set(userinfo)
    if "%" not in password:
        assert split(address).password == password
    assert encoded(address) == address


@pytest.mark.parametrize(
    ("text", "value", "expanded"),
    [
        ("rtsp://u:${V}@h/live", "p/s#?@", "rtsp://u:p%2Fs%23%3F%40@h/live"),
        ("rtsp://u:${V}@h/live", "p%2Fs", "rtsp://u:p%2Fs@h/live"),  # encoded already
        ("rtsp://u:${V}@h/live", "100%", "rtsp://u:100%25@h/live"),
        ("rtsp://${V}@h/live", "u:p/s", "rtsp://u:p%2Fs@h/live"),
        ("rtsp://${V}/live", "cam.local:554", "rtsp://cam.local:554/live"),
        ("rtsp://u:p@h/${V}", "a/b?c", "rtsp://u:p@h/a/b?c"),
        ("mqtt://u:${V}@h", "12#34", "mqtt://u:12%2334@h"),
        ("${V}/clip.mp4", "/videos", "/videos/clip.mp4"),
    ],
)
def test_variables_in_addresses(text: str, value: str, expanded: str) -> None:
    assert expand(text, {"V": value}) == expanded


@pytest.mark.parametrize(
    ("address", "fixed"),
    [
        ("rtsp://admin:p/s#s@10.0.0.5/live", "rtsp://admin:p%2Fs%23s@10.0.0.5/live"),
        ("rtsp://admin:p@ss@10.0.0.5/live", "rtsp://admin:p%40ss@10.0.0.5/live"),
        ("rtsp://10.0.0.5:554/live@2", "rtsp://10.0.0.5:554/live@2"),
        ("http://h/me@home", "http://h/me@home"),
        ("me@home.mp4", "me@home.mp4"),
    ],
)
def test_literal_passwords_are_encoded_where_it_is_certain(address: str, fixed: str) -> None:
    assert encoded(address) == fixed
    assert encoded(fixed) == fixed


def test_an_address_taken_apart() -> None:
    found = split("MQTT://me:12#34@broker:1883")
    assert (found.scheme, found.user, found.password, found.rest) == ("mqtt", "me", "12#34", "broker:1883")
    assert split("broker").user is None


def test_a_variable_that_is_not_set_is_named_and_nothing_else() -> None:
    with pytest.raises(UsageError, match="NOPE is not set") as error:
        expand_argument("rtsp://u:s3cret${NOPE}@h/", {})
    assert "s3cret" not in str(error.value)


def test_masking_takes_time_in_proportion() -> None:
    """Six times as long a text may not take thirty-six times as many steps: 400 kB of every kind that could."""
    for piece in ("rtsp://u:p@h", "a", "?a", "rtsp://", " rtsp://h", "_pw=", "pass=", "rtsp://x:_a", "rtsp://a@ "):
        text = piece * (400_000 // len(piece))
        assert len(mask(text)) > 0
        assert len(mask("rtsp://" + text)) > 0


def test_files_of_this_machine() -> None:
    assert str(local_path("file:///tmp/a%20b.mp4")) == "/tmp/a b.mp4"
    assert str(local_path("file:clips/a%20b.mp4")) == "clips/a b.mp4"
    assert str(local_path("FILE:/tmp/a.mp4")) == "/tmp/a.mp4"
    assert local_path("rtsp://h/a.mp4") is local_path("0") is local_path("sample:walk") is None
    assert str(local_path("a.mp4")) == "a.mp4"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("rtsp://u:s3cret@[::1/x", "malformed host or port"),
        ("rtsp://u:s3cret@h:99999/x", "malformed host or port"),
        ("rtsp://u:s3cret@h:s3cret/x", "malformed host or port"),
        ("RTSP:///live", "no host"),
    ],
)
def test_addresses_that_lead_nowhere(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        check_address(address)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "address",
    [
        "0",
        "a.mp4",
        "sample:walk",
        "udp://@:5000",
        "rtsp://u:p@[::1]:554/x",
        "rtsp://[fe80::1%25eth0]/x",
        "https://h/a b",
    ],
)
def test_addresses_that_may_lead_somewhere(address: str) -> None:
    check_address(address)


@pytest.mark.parametrize("mistyped", ["cam:s3cret@h/x", "rtsp:\\\\cam:s3cret@h/x", "rtsp//cam:s3cret@h/x"])
def test_a_mistyped_address_hides_its_password_too(mistyped: str) -> None:
    assert mask_address(mistyped) == "***@h/x"
    assert mask_address("clips/me@home.mp4") == "clips/me@home.mp4"
