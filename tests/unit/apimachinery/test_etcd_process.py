from __future__ import annotations

from pathlib import Path

import pytest

from apimachinery.etcd.process import (
    MAX_RESTART_DELAY,
    EtcdSettings,
    arguments,
    clean_environment,
    find_processes,
    parse_version,
    restart_delay,
)


def test_arguments_follow_the_version() -> None:
    old = arguments(EtcdSettings(retention="2h", quota_bytes=123), Path("/d"), (3, 4))
    assert {"--data-dir=/d", "--auto-compaction-retention=2h", "--quota-backend-bytes=123", "--logger=zap"} <= set(old)
    assert "--experimental-watch-progress-notify-interval=5s" in old
    assert "--logger=zap" not in arguments(EtcdSettings(), Path("/d"), (3, 5))
    assert "--watch-progress-notify-interval=5s" in arguments(EtcdSettings(), Path("/d"), (3, 6))


def test_nothing_listens_on_a_network() -> None:
    flags = arguments(EtcdSettings(), Path("/d"), (3, 4))
    urls = [flag.split("=", 1)[1] for flag in flags if "-urls=" in flag]
    assert len(urls) == 4
    assert all(url.startswith("unix://") for url in urls)


def test_version() -> None:
    assert parse_version("etcd Version: 3.4.23\nGit SHA: x\n") == (3, 4)
    with pytest.raises(ValueError, match="not the output"):
        parse_version("bash: etcd: command not found")


def test_restarts_slow_down() -> None:
    delays = [restart_delay(crashes) for crashes in range(1, 30)]
    assert delays[0] == 0.1
    assert delays == sorted(delays)
    assert delays[-1] == MAX_RESTART_DELAY


def test_processes_are_found_by_their_data_directory(tmp_path: Path) -> None:
    for pid, command in {
        "7": b"etcd\0--name=default\0--data-dir=/a/b\0",
        "8": b"etcd\0--data-dir=/a/bc\0",
        "9": b"",
        "self": b"etcd\0--data-dir=/a/b\0",
    }.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "cmdline").write_bytes(command)
    (tmp_path / "10").mkdir()  # ended meanwhile
    assert find_processes(Path("/a/b"), tmp_path) == [7]


def test_no_flag_comes_from_the_environment() -> None:
    assert clean_environment({"ETCD_NAME": "x", "NOTIFY_SOCKET": "/n", "PATH": "/bin"}) == {"PATH": "/bin"}
