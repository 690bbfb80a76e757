"""Tables and descriptions."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ironcore.meta.v1 import meta_pb2
from ironcore.networking.v1 import network_interface_pb2, network_pb2

from apimachinery.scheme import kind_info
from ironcore_net_server.cli.describe import describe
from ironcore_net_server.cli.table import NOTHING, columns_of, format_age, plain_lines, print_table, style_of

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def nic() -> network_interface_pb2.NetworkInterface:
    obj = network_interface_pb2.NetworkInterface(
        metadata=meta_pb2.ObjectMeta(
            name="vm1",
            namespace="team",
            uid="uid-1",
            generation=3,
            resource_version=42,
            labels={"b": "2", "a": "1"},
            finalizers=["net.dev/work"],
            owner_references=[
                meta_pb2.OwnerReference(kind="Machine", name="m1", uid="u", controller=True, block_owner_deletion=True)
            ],
        )
    )
    obj.metadata.creation_timestamp.FromDatetime(NOW - timedelta(hours=5))
    obj.spec.network_ref.name = "blue"
    obj.status.ips.extend(["10.0.0.1", "fd00::1"])
    return obj


def cells(obj: network_interface_pb2.NetworkInterface, **options: bool) -> dict[str, str]:
    chosen = {"namespace": False, **options}
    return {column.heading: column.cell(obj) for column in columns_of(kind_info(obj), now=NOW, **chosen)}


def test_columns_come_from_the_kind() -> None:
    shown = cells(nic())
    assert next(iter(shown)) == "NAME"
    assert list(shown)[-1] == "AGE"
    assert (shown["NAME"], shown["NETWORK"], shown["IPS"], shown["AGE"]) == ("vm1", "blue", "10.0.0.1,fd00::1", "5h")
    assert shown["MACHINE"] == NOTHING
    assert "PROVIDERID" not in shown
    more = cells(nic(), namespace=True, wide=True, labels=True)
    assert next(iter(more)) == "NAMESPACE"
    assert more["LABELS"] == "a=1,b=2"
    assert "PROVIDERID" in more


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (190, "3m10s"),
        (600, "10m"),
        (7199, "119m"),
        (7200, "2h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (729 * 86_400, "729d"),
        (770 * 86_400, "2y40d"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


WORDS = st.text("abcdef-", min_size=1, max_size=12)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS), max_size=8))
def test_columns_are_aligned_and_complete(rows: list[tuple[str, str, str]]) -> None:
    lines = plain_lines(("A", "B", "C"), rows)
    assert len(lines) == len(rows) + 1
    for line, row in zip(lines[1:], rows, strict=True):
        assert line.split() == list(row)
    assert all(line == line.rstrip() for line in lines)
    column = lines[0].index("B")
    for line, row in zip(lines[1:], rows, strict=True):
        assert line[column - 1 : column + 1] == " " + row[1][0]


def test_a_table_that_is_no_terminal_is_plain() -> None:
    out = io.StringIO()
    print_table(out, ("NAME", "STATE"), [("a", "Ready")], header=False)
    assert out.getvalue() == "a   Ready\n"


def test_a_terminal_gets_colours_but_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    print_table(out, ("NAME", "STATE"), [("a", "Ready"), ("b", "Error")])
    assert "\x1b[" in out.getvalue()
    narrow = Terminal()
    monkeypatch.setenv("COLUMNS", "5")
    print_table(narrow, ("NAME", "STATE"), [("a", "Ready")])
    assert narrow.getvalue() == "NAME   STATE\na      Ready\n"
    assert (style_of("Ready"), style_of("Error"), style_of("Pending"), style_of("blue")) == (
        "green",
        "red",
        "yellow",
        "",
    )


def test_description() -> None:
    obj = nic()
    obj.metadata.deletion_timestamp.FromDatetime(NOW - timedelta(seconds=30))
    condition = obj.status.conditions.add(
        type="Ready",
        status=meta_pb2.CONDITION_STATUS_FALSE,
        reason="NoDevice",
        message="no device is free",
        observed_generation=2,
    )
    condition.last_transition_time.FromDatetime(NOW - timedelta(minutes=3))
    text = describe(obj, NOW)
    for expected in (
        "Name:        vm1\n",
        "Namespace:   team\n",
        "Created:     2026-05-06T02:08:09Z (5h ago)\n",
        "(30s ago); waits for net.dev/work\n",
        "Finalizers:  net.dev/work\n",
        "  a: 1\n  b: 2\n",
        "  Machine m1 u (controller, blocks deletion)\n",
        "  networkRef:\n    name: blue\n",
        "False (of an older generation)",
        "NoDevice",
        "no device is free",
    ):
        assert expected in text
    assert "lastTransitionTime" not in text


def test_an_empty_object_is_described_without_holes() -> None:
    text = describe(network_pb2.Network(metadata=meta_pb2.ObjectMeta(name="a")), NOW)
    assert text.count(NOTHING) == 7
