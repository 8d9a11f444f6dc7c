"""What our Java trusts: which certificates are found, and that the store holds them and Java's own."""

from __future__ import annotations

import shutil
import subprocess

import pytest
import trustme

from conf.settings import settings
from jvm.certificates import java_key_store, system_certificates, system_sources, trust_store
from jvm.java import java_home


def listed(store) -> int:
    """How many certificates keytool finds in a store of Java's."""
    command = [java_home() / "bin" / "keytool", "-list", "-keystore", store, "-storepass", "changeit"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return run.stdout.count("trustedCertEntry")


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """A folder with one certificate twice and a file of none; all that this system trusts."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    certificate = trustme.CA().cert_pem.bytes()
    (folder / "authority.pem").write_bytes(b"# Our own\n" + certificate)
    (folder / "0a1b2c3d.0").write_bytes(certificate)
    (folder / "README").write_bytes(b"\xff no certificate")
    (folder / "java").mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "authority.pem"))
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("MART_CACHE", str(tmp_path / "cache"))
    settings.cache_clear()
    yield folder
    settings.cache_clear()


def test_each_certificate_of_a_folder_is_found_once(authority):
    assert system_sources() == [authority / "authority.pem", authority]
    assert len(system_certificates(system_sources())) == 1


def test_the_store_holds_the_systems_and_javas_own_and_is_made_once(authority):
    made = trust_store()
    [store] = (settings().mart_cache / "java").iterdir()
    assert made.options[0] == f"-Djavax.net.ssl.trustStore={store}"
    assert listed(store) == 1 + listed(java_home() / "lib" / "security" / "cacerts") > 50
    written = store.stat().st_mtime_ns
    assert trust_store() == made
    assert store.stat().st_mtime_ns == written
    (authority / "authority.pem").write_bytes(trustme.CA().cert_pem.bytes())
    assert trust_store().options != made.options  # another system, another store


def test_a_store_that_the_environment_names_stands(authority, monkeypatch):
    monkeypatch.setenv("JDK_JAVA_OPTIONS", "-Xmx1g -Djavax.net.ssl.trustStore=/etc/ours.jks")
    assert trust_store() == ((), "the store that JDK_JAVA_OPTIONS names")


def test_without_certificates_of_the_system_java_has_its_own(authority, monkeypatch):
    shutil.rmtree(authority)
    monkeypatch.setattr("jvm.certificates._BUNDLES", ())
    options, description = trust_store()
    assert options == ()
    assert description.startswith("Java's own certificates alone")


def test_a_cache_that_is_not_ours_to_write_is_said(authority, capsys):
    settings().mart_cache.write_text("a file, no folder")
    options, description = trust_store()
    assert options == ()
    assert "the system's cannot be added" in description
    assert "Java runs without the system's certificates" in capsys.readouterr().out


def test_an_empty_store_is_one(tmp_path):
    (tmp_path / "empty.jks").write_bytes(java_key_store([]))
    assert listed(tmp_path / "empty.jks") == 0
