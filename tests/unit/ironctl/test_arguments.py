"""What users name: kinds, objects, times; and every way to name it wrongly."""

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ironcore_net_server.cli.arguments import Duration, parse_targets, resolve_kind, scheme


@pytest.mark.parametrize(
    ("arguments", "targets"),
    [
        (["networks"], ["networks.networking"]),
        (["net,nic"], ["networks.networking", "networkinterfaces.networking"]),
        (["Network", "a", "b"], ["networks.networking/a", "networks.networking/b"]),
        (["networks.apinet", "a"], ["networks.apinet/a"]),
        (["networks.core.apinet.ironcore.dev"], ["networks.apinet"]),
        (["net/a", "nic/b"], ["networks.networking/a", "networkinterfaces.networking/b"]),
        (["nodes.metalnet/h1"], ["nodes.metalnet/h1"]),
    ],
)
def test_targets(arguments: list[str], targets: list[str]) -> None:
    assert [str(target) for target in parse_targets(arguments, scheme())] == targets


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a resource type"),
        (["foo"], 'no kind is called "foo"'),
        (["net,nic", "a"], "single resource type"),
        (["net/a", "b"], "'b': expected TYPE/NAME"),
        (["net/"], "'net/': expected TYPE/NAME"),
        (["net/a/b"], "'net/a/b': expected TYPE/NAME"),
        (["/a"], "no kind is called"),
        (["networks.nowhere"], "no kind is called"),
        ([""], "no kind is called"),
    ],
)
def test_wrong_targets(arguments: list[str], message: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parse_targets(arguments, scheme())
    assert message in refused.value.message


def test_every_kind_is_found_by_its_full_name_and_tenants_come_first() -> None:
    for info in scheme():
        assert resolve_kind(info.resource_type, scheme()) is info
        assert resolve_kind(info.plural, scheme()).plural == info.plural
    assert resolve_kind("networks", scheme()).group == "networking"


@given(st.text(max_size=20))
def test_any_word_is_resolved_or_refused(word: str) -> None:
    try:
        parse_targets([word], scheme())
    except click.UsageError as error:
        assert error.message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m30s", 90), ("2h", 7200), ("500ms", 0.5), ("5", 5), ("1.5", 1.5), ("1.5m", 90)],
)
def test_durations(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1x", "1s x", "1e3s", "one"])
def test_wrong_durations(text: str) -> None:
    with pytest.raises(click.BadParameter):
        Duration().convert(text, None, None)
