"""Device pool: its notation, the choice of devices, claims on disk, virtual functions in sysfs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metalnet_daemon.device.claims import ClaimStore
from metalnet_daemon.device.pci import find_virtual_functions, representor
from metalnet_daemon.device.pool import assign, combine, parse_pool
from metalnet_daemon.device.types import Device, PciAddress

POOL = parse_pool("dtapvf_{0..3}=net_tap{2..5}")


def test_pool_notation() -> None:
    assert [(device.name, device.engine) for device in POOL] == [
        ("dtapvf_0", "net_tap2"),
        ("dtapvf_1", "net_tap3"),
        ("dtapvf_2", "net_tap4"),
        ("dtapvf_3", "net_tap5"),
    ]
    assert parse_pool("vm1=net_af_packet7") == [Device("vm1", "net_af_packet7")]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("dtapvf_{0..3}", "no '='"),
        ("a{0..3}=b{0..2}", "names 4 devices, but 3"),
        ("a{3..0}=b{3..0}", "empty range"),
        ("a{0..1}{0..1}=b{0..3}", "more than one range"),
        ("abcdefghijklmnop=x", "not the name of a network device"),
        ("a b=x", "not the name of a network device"),
        ("=x", "not the name of a network device"),
        ("a=", "not an engine device"),
        ("a{0..999999}=b{0..999999}", "more than 4096"),
    ],
)
def test_bad_pool_notation(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_pool(text)


def test_a_device_is_in_the_pool_once() -> None:
    with pytest.raises(ValueError, match=r"dtapvf_0 .* twice"):
        combine([*POOL, Device("dtapvf_0", "other")])
    with pytest.raises(ValueError, match="twice"):
        combine([*POOL, Device("other", "net_tap2")])


ids = st.sampled_from([f"nic{number}" for number in range(6)])
names = st.sampled_from([device.name for device in POOL] + ["elsewhere"])


@given(
    st.dictionaries(ids, names),
    st.sets(ids),
    st.dictionaries(ids, st.sampled_from([device.engine for device in POOL] + ["unknown"])),
)
def test_no_device_goes_to_two_interfaces(claims: dict[str, str], wanted: set[str], programmed: dict[str, str]) -> None:
    if len(set(programmed.values())) != len(programmed):
        return  # an engine device carries one interface
    result = assign(POOL, claims, wanted, programmed)
    chosen = [device.name for device in result.devices.values()]
    assert len(chosen) == len(set(chosen))
    assert result.devices.keys() | result.problems.keys() == wanted
    assert not result.devices.keys() & result.problems.keys()
    engines = {device.engine: uid for uid, device in result.devices.items()}
    for uid, engine in programmed.items():
        if engine in engines and engines[engine] != uid:
            # Only an interface whose own claim names another device may lose the one it has.
            assert claims[uid] != result.devices[engines[engine]].name


@given(st.sets(ids, max_size=4))
def test_choices_are_stable_once_claimed(wanted: set[str]) -> None:
    first = assign(POOL, {}, wanted, {})
    claims = {uid: device.name for uid, device in first.devices.items()}
    second = assign(POOL, claims, wanted, {})
    assert second.devices == first.devices
    assert not second.new


def test_a_programmed_interface_without_claim_keeps_its_device() -> None:
    result = assign(POOL, {}, {"a", "b"}, {"b": "net_tap2"})
    assert {uid: device.name for uid, device in result.devices.items()} == {"a": "dtapvf_1", "b": "dtapvf_0"}
    assert set(result.new) == {"a", "b"}


def test_a_device_of_an_interface_that_is_going_away_is_not_free_yet() -> None:
    assert assign(POOL[:1], {"gone": "dtapvf_0"}, {"new"}, {}).problems == {
        "new": "no device is free: all 1 of the pool are taken"
    }
    assert "new" in assign(POOL[:1], {}, {"new"}, {"foreign": "net_tap2"}).problems


def test_claims_survive_and_are_replaced_whole(tmp_path: Path) -> None:
    store = ClaimStore(tmp_path / "claims")
    store.claim("a", "dtapvf_0")
    store.claim("b", "dtapvf_1")
    store.claim("a", "dtapvf_2")
    store.release("missing")
    assert (tmp_path / "claims/a").read_text() == "dtapvf_2"
    assert ClaimStore(tmp_path / "claims").claims == {"a": "dtapvf_2", "b": "dtapvf_1"}
    store.release("b")
    assert ClaimStore(tmp_path / "claims").claims == {"a": "dtapvf_2"}


def test_unusable_claims_are_ignored_and_kept(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "directory").mkdir()
    (tmp_path / ".a.x.tmp").write_text("half")
    assert ClaimStore(tmp_path).claims == {}
    assert (tmp_path / "empty").exists()
    assert not (tmp_path / ".a.x.tmp").exists()


def test_collecting_claims_spares_the_living_and_reservations(tmp_path: Path) -> None:
    store = ClaimStore(tmp_path)
    reserved = "00000001-0000-4000-8000-000000000000"
    for uid, device in (("a", "dtapvf_0"), ("b", "dtapvf_1"), (reserved, "dtapvf_2")):
        store.claim(uid, device)
    assert store.collect({"a"}) == ["b"]
    assert ClaimStore(tmp_path).claims == {"a": "dtapvf_0", reserved: "dtapvf_2"}


def test_pci_addresses() -> None:
    assert str(PciAddress.parse("3B:02.1")) == "0000:3b:02.1"
    assert str(PciAddress.parse("0000:03:00.7").offset(1)) == "0000:03:01.0"
    for wrong in ("", "3b:02", "0000:3b:02.8", "0000:3b:20.0", "0000:3b:02.1\n", "g000:3b:02.1"):
        with pytest.raises(ValueError, match=r"PCI|device number"):
            PciAddress.parse(wrong)


def sysfs_with_functions(root: Path, pf: str, offset: int, count: int) -> None:
    devices = root / "bus/pci/devices"
    directory = devices / pf
    directory.mkdir(parents=True)
    base = PciAddress.parse(pf)
    files = {"vendor": "0x15b3", "class": "0x020000", "sriov_numvfs": count, "sriov_offset": offset, "sriov_stride": 1}
    for name, value in files.items():
        (directory / name).write_text(f"{value}\n")
    for number in range(count):
        function = devices / str(base.offset(offset + number))
        function.mkdir()
        (function / "physfn").symlink_to(directory)
        (directory / f"virtfn{number}").symlink_to(function)


def test_virtual_functions_come_from_sysfs(tmp_path: Path) -> None:
    sysfs_with_functions(tmp_path, "0000:3b:00.1", 2, 10)
    devices = find_virtual_functions(sysfs=tmp_path)
    assert [device.name for device in devices][:2] == ["0000:3b:00.3", "0000:3b:00.4"]
    assert [device.engine for device in devices] == [f"0000:3b:00.1_representor_vf{number}" for number in range(10)]
    assert representor(PciAddress.parse("0000:3b:00.3"), multiport=True, sysfs=tmp_path).endswith("_c0pf0vf0")


def test_without_sysfs_entries_functions_are_generated_behind_the_given_pf(tmp_path: Path) -> None:
    assert find_virtual_functions(sysfs=tmp_path) == []
    devices = find_virtual_functions(PciAddress.parse("0000:03:00.0"), sysfs=tmp_path)
    assert len(devices) == 126
    assert (devices[0].name, devices[-1].name) == ("0000:03:00.3", "0000:03:10.0")
    assert devices[5] == Device("0000:03:01.0", "0000:03:00.0_representor_vf5", PciAddress(0, 3, 1, 0))
