"""Manifests: files, directories, standard input; a mistake anywhere reads nothing."""

import io
from pathlib import Path

import pytest
from google.protobuf.message import Message

from apimachinery.errors import InvalidArgument
from apimachinery.scheme import metadata_of
from ironcore_net_server.cli.arguments import scheme
from ironcore_net_server.cli.files import read_manifests

MANIFEST = "apiVersion: networking.ironcore.dev/v1alpha1\nkind: Network\nmetadata: {name: %s}\n"


def names(objects: list[Message]) -> list[str]:
    return [metadata_of(obj).name for obj in objects]


def test_sources_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "d"
    (directory / "sub.yaml").mkdir(parents=True)
    (directory / "2.yml").write_text(MANIFEST % "second")
    (directory / "1.yaml").write_text(MANIFEST % "first" + "---\n" + MANIFEST % "first-too")
    (directory / "notes.txt").write_text("not a manifest")
    single = tmp_path / "any.txt"
    single.write_text(MANIFEST % "single")
    monkeypatch.setattr("sys.stdin", io.StringIO(MANIFEST % "input"))
    found = read_manifests([str(single), str(directory), "-"], scheme())
    assert names(found) == ["single", "first", "first-too", "second", "input"]


def test_mistakes_name_file_and_field(tmp_path: Path) -> None:
    good, bad, binary = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "binary.yaml"
    good.write_text(MANIFEST % "good")
    bad.write_text(MANIFEST % "bad" + "spec: {providerId: x}\n")
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgument, match=r"bad\.yaml") as wrong:
        read_manifests([str(good), str(bad)], scheme())
    assert wrong.value.violations[0].field == "spec.providerId"
    for source, message in ((binary, "not UTF-8"), (tmp_path / "none", "No such file")):
        with pytest.raises(InvalidArgument, match=message):
            read_manifests([str(source)], scheme())
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidArgument, match="no objects"):
        read_manifests([str(tmp_path / "empty")], scheme())
