"""What Java trusts: its own certificates and those that this system trusts, which no Java knows by itself."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import structlog

from conf.settings import settings
from jvm.java import java_home

log = structlog.get_logger()

# Beside OpenSSL's own places (SSL_CERT_FILE, SSL_CERT_DIR): what pip and curl are told by.
_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
# Where systems keep them; the OpenSSL of a Python built elsewhere looks in another place.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_PASSWORD = "changeit"  # noqa: S105 Java's own: certificates are no secret
_OPTION = "javax.net.ssl.trustStore"


class TrustStore(NamedTuple):
    """The options that make a Java use a store, and whose certificates it holds, for people to read."""

    options: tuple[str, ...]
    description: str


def trust_store() -> TrustStore:
    """What our Java is to trust. The store is made once for the same certificates and kept in the cache.

    A store that JDK_JAVA_OPTIONS or JAVA_TOOL_OPTIONS names stands.
    """
    for variable in ("JDK_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS"):
        if _OPTION in os.environ.get(variable, ""):
            return TrustStore((), f"the store that {variable} names")
    own = _own()
    sources = system_sources()
    certificates = system_certificates(sources)
    if not certificates:
        return TrustStore((), f"Java's own certificates alone ({own}); the system has none in {_named(sources)}")
    digest = hashlib.sha256(b"".join([own.read_bytes(), *certificates])).hexdigest()[:12]
    store = settings().mart_cache / "java" / f"trusted-{digest}.jks"
    if not store.is_file():
        try:
            _make(store, own, certificates)
        except OSError as error:  # a cache that is not ours to write, a store that keytool does not read
            log.warning("Java runs without the system's certificates", store=str(store), reason=str(error))
            return TrustStore((), f"Java's own certificates alone ({own}), the system's cannot be added: {error}")
    options = (f"-D{_OPTION}={store}", f"-D{_OPTION}Type=JKS")  # without its password it is read all the same
    return TrustStore(options, f"{store}: the certificates of {_named(sources)} and Java's own ({own})")


def _own() -> Path:
    """Java's own store, in the order in which it looks."""
    folder = java_home() / "lib" / "security"
    return folder / "jssecacerts" if (folder / "jssecacerts").exists() else folder / "cacerts"


def system_sources() -> list[Path]:
    """The files and folders of PEM certificates that are trusted here, as OpenSSL, pip and curl would be told."""
    told = ssl.get_default_verify_paths()
    found = [Path(path) for path in (told.cafile, told.capath) if path]
    if not told.cafile:
        found += [path for path in map(Path, _BUNDLES) if path.is_file()][:1]
    found += [Path(value) for name in _VARIABLES if (value := os.environ.get(name)) and Path(value).exists()]
    return list(dict.fromkeys(found))


def system_certificates(sources: Iterable[Path]) -> list[bytes]:
    """The certificates (DER) of files and folders, each once, in a fixed order."""
    files = [file for source in sources for file in (sorted(source.iterdir()) if source.is_dir() else [source])]
    readable = [file for file in files if file.is_file() and os.access(file, os.R_OK)]
    blocks = (block for file in readable for block in _PEM.findall(file.read_text(errors="replace")))
    return sorted({ssl.PEM_cert_to_DER_cert(block) for block in blocks})


def _named(sources: Iterable[Path]) -> str:
    return ", ".join(map(str, sources)) or "any place that OpenSSL, pip and curl look in"


def _make(store: Path, own: Path, certificates: Iterable[bytes]) -> None:
    """Write the store, whole or not at all. Raises OSError."""
    store.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store.parent) as scratch:
        new = Path(scratch) / store.name
        new.write_bytes(java_key_store(certificates))
        keytool = [str(java_home() / "bin" / "keytool"), "-importkeystore", "-noprompt"]
        source = ["-srckeystore", str(own), "-srcstorepass", _PASSWORD]
        target = ["-destkeystore", str(new), "-deststoretype", "JKS", "-deststorepass", _PASSWORD]
        run = subprocess.run([*keytool, *source, *target], capture_output=True, text=True, errors="replace")
        if run.returncode != 0:
            raise OSError(f"keytool cannot read {own}: {(run.stdout + run.stderr).strip()}")
        new.replace(store)


def java_key_store(certificates: Iterable[bytes]) -> bytes:
    """A store in Java's own format (JKS) that trusts these certificates (DER), each under its fingerprint.

    By hand, for what can write one also reads the certificates, and stricter than Java: a company's may have a serial
    number of 0. Numbers are big-endian; at the end is a digest with the password and a phrase that is always the same.
    """
    entries = [
        struct.pack(">I", 2) + _text(hashlib.sha256(der).hexdigest()) + bytes(8)  # 2: trusted; made in 1970
        + _text("X.509") + struct.pack(">I", len(der)) + der
        for der in certificates
    ]  # fmt: skip
    body = struct.pack(">III", 0xFEEDFEED, 2, len(entries)) + b"".join(entries)
    return body + hashlib.sha1(_PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()  # noqa: S324


def _text(value: str) -> bytes:
    return struct.pack(">H", len(value)) + value.encode("ascii")
