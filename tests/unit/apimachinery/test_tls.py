"""TLS files are checked when loaded, with errors that name the file."""

from pathlib import Path

import pytest

from apimachinery.tls import ClientTls, ServerTls, TlsError, load_ca, load_pair
from tests.support.certificates import Authority


def test_good_files(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    key, chain = load_pair(pair.certificate, pair.key)
    assert b"PRIVATE KEY" in key
    assert b"CERTIFICATE" in chain
    assert load_ca(authority.ca) == authority.ca.read_bytes()
    tls = ServerTls(pair.certificate, pair.key, authority.ca)
    assert tls.mutual
    tls.credentials()
    ClientTls(authority.ca, pair.certificate, pair.key).credentials()
    ClientTls().credentials()


def test_unusable_files_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair, other = authority.issue("one"), authority.issue("two")
    expired = authority.issue("old", days=-1)
    text = tmp_path / "text"
    text.write_text("no certificate")
    absent = tmp_path / "absent"
    cases = [
        (absent, pair.key, f"{absent}: No such file"),
        (text, pair.key, f"{text}: no PEM certificate"),
        (pair.certificate, text, f"{text}: not an unencrypted PEM private key"),
        (pair.certificate, other.key, f"{other.key}: not the key of"),
        (expired.certificate, expired.key, f"{expired.certificate}: expired at"),
        (tmp_path, pair.key, f"{tmp_path}: Is a directory"),
    ]
    for certificate, key, message in cases:
        with pytest.raises(TlsError) as refused:
            load_pair(certificate, key)
        assert message in str(refused.value)
    with pytest.raises(TlsError, match="no PEM certificate"):
        ServerTls(pair.certificate, pair.key, text).credentials()
    with pytest.raises(TlsError, match="only usable together"):
        ClientTls(authority.ca, pair.certificate).credentials()
