"""Addresses: what is accepted, what is local, what is refused with which words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimachinery.endpoints import Endpoint, parse_endpoint, parse_targets


@pytest.mark.parametrize(
    ("text", "local"),
    [
        ("127.0.0.1:80", True),
        ("127.8.9.1:80", True),
        ("localhost:0", True),
        ("[::1]:65535", True),
        ("unix:/run/x.sock", True),
        ("0.0.0.0:80", False),
        ("[::]:80", False),
        ("192.0.2.1:80", False),
        ("[2001:db8::1]:80", False),
        ("localhost.example.com:80", False),
        ("host:80", False),
    ],
)
def test_accepted(text: str, local: bool) -> None:
    endpoint = parse_endpoint(text)
    assert endpoint.is_local is local
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected host:port"),
        ("host", "expected host:port"),
        (":80", "expected host:port"),
        ("host:", "port must be"),
        ("host:65536", "port must be"),
        ("host:-1", "port must be"),
        ("host:٣", "port must be"),
        ("::1:80", "needs brackets"),
        ("[::1:80", "needs brackets"),
        ("[fe80::%eth0]x:80", "needs brackets"),
        ("[1.2.3.4]:80", "no IPv6 address"),
        ("a b:80", "no host name"),
        ("dns:///host:80", "needs brackets"),
        ("unix:", "socket path"),
        ("unix:/" + "x" * 107, "socket path"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refused:
        parse_endpoint(text)
    assert repr(text) in str(refused.value)


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except ValueError:
        return
    assert parse_endpoint(str(endpoint)) == endpoint


def test_targets() -> None:
    assert parse_targets("a:1, unix:/x") == [Endpoint("a", 1), Endpoint(path="/x")]
    assert parse_targets(["a:1", "b:2"]) == [Endpoint("a", 1), Endpoint("b", 2)]
    for wrong in ("", ",", "a:0", []):
        with pytest.raises(ValueError):
            parse_targets(wrong)
