"""Where a lake may be, and what is made of a storage's failure."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from deltalake.exceptions import DeltaError

from conf.lake_storage import (
    checked_location,
    delta_options,
    failure,
    local_folder,
    spark_location,
    spark_options,
)
from conf.settings import SettingsError, settings


@pytest.mark.parametrize(
    ("given", "location"),
    [
        ("lake/invoices", "lake/invoices"),
        ("/srv/lake", "/srv/lake"),
        ("file:///srv/lake/", "file:///srv/lake"),
        ("s3://bucket/lake/", "s3://bucket/lake"),
        ("S3://bucket/Lake", "s3://bucket/Lake"),
        ("az://container/lake", "az://container/lake"),
        ("abfss://container@account.dfs.core.windows.net/lake", "abfss://container@account.dfs.core.windows.net/lake"),
        ("gs://bucket/lake", "gs://bucket/lake"),
    ],
)
def test_folders_and_known_urls(given, location):
    assert checked_location(given) == location


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("s3a://bucket/lake", "give it as s3://bucket/path"),
        ("hdfs://name/lake", "nothing here reads hdfs://; give a folder, file:///folder or s3://bucket/path"),
        ("https://bucket/lake", "nothing here reads https://"),
        ("s3:/bucket/lake", "name the bucket and a path"),
        ("s3:///lake", "name the bucket and a path"),
        ("s3://bucket", "name the bucket and a path"),
        ("s3://bucket/lake?versionId=1", "without . and #"),
        ("file://srv/lake", "three slashes"),
        ("s3://key:hidden-word@bucket/lake", "keys go into AWS_ACCESS_KEY_ID"),
    ],
)
def test_what_is_no_lake_is_refused_with_the_setting(monkeypatch, tmp_path, given, says):
    monkeypatch.setenv("MART_HOME", str(tmp_path))
    monkeypatch.setenv("LAKE_PATH", given)
    settings.cache_clear()
    with pytest.raises(SettingsError, match=says) as refused:
        settings()
    settings.cache_clear()
    assert "LAKE_PATH" in str(refused.value)
    assert "hidden-word" not in str(refused.value)


def test_a_lake_on_this_machine_has_a_folder():
    assert local_folder("file:///srv/the%20lake") == Path("/srv/the lake")
    assert local_folder("lake") == Path("lake")
    assert local_folder("s3://bucket/lake") is None


def test_only_s3_has_options_and_another_name_for_spark():
    assert delta_options("s3://bucket/lake")["conditional_put"] == "etag"
    assert delta_options("/srv/lake") == {}
    assert spark_location("s3://bucket/s3:/lake") == "s3a://bucket/s3:/lake"
    assert spark_options("/srv/lake", {"AWS_REGION": "x"}) == {}
    assert spark_options("s3://bucket/lake", {}) == {}
    own = spark_options("s3://bucket/lake", {"AWS_ENDPOINT_URL": "http://minio:9000"})
    assert own == {
        "spark.hadoop.fs.s3a.endpoint": "http://minio:9000",
        "spark.hadoop.fs.s3a.endpoint.region": "us-east-1",
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
    }


# As delta-rs 1.6.6, Arrow and DuckDB say them; the documents cut short.
_GET = "Error performing GET http://127.0.0.1:9000/lakes/lake/_delta_log/_last_checkpoint in 3.7s, after 10 retries, "
_REFUSED = (
    "Generic S3 error\n  \x1b[31m↳\x1b[0m Error performing list request\n  \x1b[31m↳\x1b[0m Server returned non-2xx "
    "status code\n \x1b[31m↳\x1b[0m 403 Forbidden\n \x1b[31m↳\x1b[0m <Error><Code>SignatureDoesNotMatch</Code>"
    "<AWSAccessKeyId>mart</AWSAccessKeyId><StringToSign>hidden-word</StringToSign></Error>"
)
_UNREACHABLE = (
    f"Kernel error -> Generic S3 error ↳ {_GET}max_retries ↳ 10, retry_timeout ↳ 180s - HTTP error ↳ error sending "
    "request ↳ client error (Connect) ↳ tcp connect error ↳ Connection refused (os error 111)"
)


@pytest.mark.parametrize(
    ("error", "reason", "passing"),
    [
        (OSError(_REFUSED), "refuses the login (SignatureDoesNotMatch): check", False),
        (DeltaError(f"Failed to parse parquet: External: {_REFUSED}"), "refuses the login", False),
        (duckdb.Error(f"arrow_scan: get_next failed(): IOError: {_REFUSED}"), "refuses the login", False),
        (OSError(f"{_GET} - Server returned non-2xx status code ↳ 403 Forbidden ↳"), "refuses the login (403)", False),
        (OSError(_UNREACHABLE), "is unavailable: client error (Connect): tcp connect error: Connection refused", True),
        (
            OSError("Generic S3 error ↳ Error performing PUT http://169.254.169.254/latest/api/token in 1ms - timeout"),
            "was not asked: there are no credentials",
            False,
        ),
        (OSError("Object at location x not found: <Code>NoSuchKey</Code>"), "lost a file of the version", True),
        (OSError("Generic S3 error: http://me:hidden-word@minio is odd"), "is unavailable: ", True),
        (OSError("No space left on device"), "is unavailable: No space left on device", True),
    ],
)
def test_a_failure_of_the_storage_in_one_line(error, reason, passing):
    found = failure(error)
    assert found is not None
    assert (found.reason[: len(reason)], found.passing) == (reason, passing)
    assert "hidden-word" not in found.reason
    assert "\n" not in found.reason


def test_what_is_not_of_the_storage_is_none_of_its_failures():
    assert failure(DeltaError("Invalid table version: 99")) is None
    assert failure(duckdb.Error("Out of Range Error: overflow")) is None
