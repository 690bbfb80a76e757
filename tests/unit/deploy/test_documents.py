"""What the documents name exists: files, flags, metrics, drop reasons."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted((ROOT / "docs").glob("*.md"))
SOURCES = ("apimachinery", "ironcore_net_server", "metalnet_daemon", "metalbond", "dpservice")
# Flags of other programs that the text tells operators to use.
FOREIGN_FLAGS = {
    *(
        "--auto-compaction-retention",
        "--experimental-watch-progress-notify-interval",
        "--max-txn-ops",
        "--data-dir",
        "--name",
        "--initial-cluster",
        "--initial-advertise-peer-urls",
        "--endpoints",
        "--prefix",
    ),
    *("--keys-only", "--vdev", "--in-memory", "--no-huge", "--file-prefix", "--now", "--no-deps", "--create"),
}


def sources() -> str:
    return "\n".join(path.read_text() for room in SOURCES for path in sorted((ROOT / room).rglob("*.py")))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_files_exist(document: Path) -> None:
    named = re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|cc|h|md|proto|service|conf|yaml|env))`", document.read_text())
    named = [name for name in named if not name.startswith("/")]
    assert named
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_flags_exist(document: Path) -> None:
    text = sources()
    # Groups of flags are made of a prefix in the code: --api-server-ca is "--{flag}-ca".
    known = set(re.findall(r"--[a-z][a-z0-9-]+", text)) | {
        f"--{name}" for name in re.findall(r'Option\(\s*"([a-z0-9-]+)"', text)
    }
    for flag in re.findall(r'connect_options\(\s*"([a-z-]+)"', text):
        known |= {f"--{flag}{suffix}" for suffix in ("", "-tls", "-ca", "-cert", "-key", "-tls-name")}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", document.read_text())) - FOREIGN_FLAGS
    assert named - known == set()


def test_metrics_exist() -> None:
    text = sources()
    named = set(re.findall(r"`((?:ironcore|metalnet|dpservice|metalbond)_[a-z_]+)(?:\{[a-z,]+\})?`", operations()))
    assert len(named) > 20
    suffixes = re.compile(r"(_total|_seconds|_bucket|_count|_sum)$")
    parts = {
        f"{room}_{part}"
        for room in ("dpservice_port", "dpservice_worker", "dpservice_ha")
        for part in re.findall(r'\("(\w+)", "', text)
    }
    parts |= {f"metalbond_{name}" for name in re.findall(r'(?:_counters?\(|yield )"(\w+)"', text)}
    parts |= {f"dpservice_table_{name}" for name in ("used", "capacity")}
    parts |= {f"dpservice_uplink_{name}" for name in ("link_up", "neighbour_known")}
    missing = [
        name
        for name in named
        if suffixes.sub("", name) not in parts
        and suffixes.sub("", name).replace("_", ".") not in text
        and f'"{suffixes.sub("", name)}"' not in text
    ]
    assert not missing


def test_every_metric_of_the_daemons_is_explained() -> None:
    text = "".join((ROOT / room / "metrics.py").read_text() for room in ("apimachinery", "metalnet_daemon"))
    made = re.findall(r'(create_\w+|Observed\w+)\(\s*"([\w.]+)"(, unit="s")?', text)
    assert len(made) > 25
    suffix = {"create_counter": "_total", "ObservedCounter": "_total", "create_histogram": "_seconds"}
    names = [name.replace(".", "_") + suffix.get(kind, "") for kind, name, _ in made]
    assert all(unit for kind, _, unit in made if kind == "create_histogram")
    explained = set(re.findall(r"`(\w+)(?:\{[\w,]+\})?`", operations()))
    assert [name for name in names if name not in explained] == []


def test_every_drop_reason_is_explained() -> None:
    header = (ROOT / "cpp" / "include" / "ironcore" / "drop_reason.h").read_text()
    reasons = re.findall(r"^  X\((\w+), ", header, re.MULTILINE)
    assert len(reasons) > 30
    explained = operations()
    assert [reason for reason in reasons if f"`{reason}`" not in explained] == []


def operations() -> str:
    return (ROOT / "docs" / "operations.md").read_text()
