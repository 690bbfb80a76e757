"""Command line: texts to values, and errors that name what is wrong."""

import pytest
from click.testing import CliRunner

from metalbond import cli
from metalbond.main import main
from metalbond.types import Destination, HopType, NextHop, Route
from metalbond.wire import parse_endpoint


def test_announcements() -> None:
    net = Destination.parse("10.0.0.5/24")
    assert cli.announcement("7#10.0.0.5/24#fd00::1") == Route(7, net, NextHop.to("fd00::1"))
    assert cli.announcement("7#10.0.0.5/24#fd00::1#STD").hop.type == HopType.STANDARD
    assert cli.announcement("7#10.0.0.5/24#fd00::1#LbTarget").hop.type == HopType.LOADBALANCER_TARGET
    assert cli.announcement("7#10.0.0.5/24#fd00::1#nat#1024#65535") == Route(
        7, net, NextHop.to("fd00::1", HopType.NAT, nat_from=1024, nat_to=65535)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("7#10.0.0.0/24", "VNI#PREFIX#NEXTHOP"),
        ("7#10.0.0.0/24#fd00::1#nat#5", "VNI#PREFIX#NEXTHOP"),
        ("16777216#10.0.0.0/24#fd00::1", "16777215"),
        ("-1#10.0.0.0/24#fd00::1", "VNI"),
        ("7#10.0.0.0/33#fd00::1", "10.0.0.0/33"),
        ("7#10.0.0.0/24#host", "host"),
        ("7#10.0.0.0/24#fd00::1#other", "std, lb or nat"),
        ("7#10.0.0.0/24#fd00::1#nat", "FROM#TO"),
        ("7#10.0.0.0/24#fd00::1#std#1#2", "FROM#TO"),
        ("7#10.0.0.0/24#fd00::1#nat#-1#2", "port"),
        ("7#10.0.0.0/24#fd00::1#nat#1#65536", "nat_port_range"),
    ],
)
def test_bad_announcements(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cli.announcement(text)


def test_endpoints() -> None:
    assert parse_endpoint("[fd00::1]:4711") == ("fd00::1", 4711)
    assert parse_endpoint("router.example:4711") == ("router.example", 4711)


@pytest.mark.parametrize("text", ["", "4711", ":4711", "fd00::1:4711", "host:", "host:x", "host:65536", "host:-1"])
def test_bad_endpoints(text: str) -> None:
    with pytest.raises(ValueError):
        parse_endpoint(text)


def test_lists_may_be_repeated_and_hold_commas() -> None:
    parse = cli.split_list(cli.vni)
    assert cli.flatten([parse("1, 2"), parse("2"), parse("3")]) == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["server", "--listen", ":4711"], "--listen"),
        (["server", "--keepalive", "-1"], "--keepalive"),
        (["server", "--max-hold", "x"], "--max-hold"),
        (["client"], "--server"),
        (["client", "--server", "[::1]:1", "--subscribe", "1,x"], "--subscribe"),
        (["client", "--server", "[::1]:1", "--announce", "1#2"], "--announce"),
        (["client", "--server", "[::1]:1", "--identity", "n" * 65], "identity"),
    ],
)
def test_usage_errors_name_the_option(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert message in result.output
