"""A Kafka of TLS and SCRAM alone, a PostgreSQL of TLS alone, and certificates for both, made anew for each run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from stack import broker, database
from stack.privileges import owner_for

# Quotes and backslashes have a meaning in Java's login configuration: they must come through.
SASL_USER, SASL_PASSWORD = "mart", 'sasl-5ecret"\\93'


class Certificates:
    """An authority, and a server's certificate for 127.0.0.1 that it signed; another authority that signed nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost")
        key = serialization.load_pem_private_key(server.private_key_pem.bytes(), None).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
        self.authority = self._file("ca.pem", authority.cert_pem.bytes())
        self.stranger = self._file("stranger.pem", trustme.CA().cert_pem.bytes())
        self.key = self._file("server.key", key)
        self.chain = self._file("server.crt", chain)
        self.both = self._file("server.pem", key + chain)

    def _file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        path.chmod(0o600)
        return path


@contextmanager
def secure_broker(home: Path, certificates: Certificates) -> Iterator[str]:
    """The address of a broker that takes SASL_SSL alone, from SASL_USER."""
    secure = broker.Secure(SASL_USER, SASL_PASSWORD, certificates.both, certificates.authority)
    server = broker.start(home, secure=secure)
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        broker.stop(home, server)


def system_postgres() -> Path | None:
    """The folder of a PostgreSQL built with TLS: Debian's; the embedded one is built without."""
    on_path = shutil.which("postgres")
    found = [Path(on_path).resolve().parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(found) if (folder / "initdb").exists()), None)


@contextmanager
def tls_postgres(home: Path, certificates: Certificates) -> Iterator[dict[str, str]]:
    """The DSNs (owner, writer, reader) at a PostgreSQL that refuses connections without TLS."""
    folder = system_postgres()
    assert folder is not None
    if user := owner_for(home / "postgres" / "data"):
        os.chown(certificates.key, *user)
        os.chown(certificates.chain, *user)
    files = {"ssl_cert_file": str(certificates.chain), "ssl_key_file": str(certificates.key)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_bin", lambda: folder)
        server = database.start(home, configuration={"ssl": "on", **files})
    try:
        rules = home / "postgres" / "data" / "pg_hba.conf"
        rules.write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
        psutil.Process(server.pid).send_signal(signal.SIGHUP)
        options = f"?sslmode=verify-full&sslrootcert={certificates.authority}"
        roles = {"owner": database.OWNER, "writer": database.WRITER, "reader": database.READER}
        yield {name: database.dsn(home, role, server.port) + options for name, role in roles.items()}
    finally:
        database.stop(home, server)


def password(dsn: str) -> str:
    found = urlsplit(dsn).password
    assert found
    return found
