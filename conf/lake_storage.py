"""Where the lake may be, how delta-rs and Spark reach it, and why a storage failed, in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
# az, abfss and gs are passed to delta-rs; nobody has tried them with this project.
_SCHEMES = ("file", "s3", "az", "abfss", "gs")
_S3_OPTIONS = {
    # The default of this delta-rs, made certain: a commit is written only where no other one is, whatever the
    # environment says of unsafe renames. Two writers cannot overwrite one another's commits then.
    "conditional_put": "etag",
    # The job waits for an unavailable storage and says so, rather than waiting silently in here for three minutes.
    "max_retries": "4",
    "retry_timeout": "20s",
}


def checked_location(value: str) -> str:
    """A folder or URL of a lake, with its scheme in small letters and without a slash at its end.

    Raises ValueError, without the value if it may hold a password, for what is none.
    """
    found = _SCHEME.match(value)
    if found is None:
        return value
    scheme = found[1].lower()
    if scheme == "s3a":
        raise ValueError("LAKE_PATH: give it as s3://bucket/path; the jobs that read by Spark say s3a:// by themselves")
    if scheme not in _SCHEMES:
        raise ValueError(
            f"LAKE_PATH: nothing here reads {scheme}://; give a folder, file:///folder or s3://bucket/path "
            "(az://, abfss:// and gs:// are handed to delta-rs as they are, and are not tested)"
        )
    url = urlsplit(value)
    if "@" in url.netloc and scheme != "abfss":
        raise ValueError("LAKE_PATH: no account in the URL: keys go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if url.query or url.fragment:
        raise ValueError("LAKE_PATH: a bucket and a path, without ? and #")
    if scheme == "file" and (url.netloc or not url.path.startswith("/")):
        raise ValueError("LAKE_PATH: give a folder as file:///folder, with three slashes, or as it is")
    if scheme == "s3" and not (url.netloc and url.path.strip("/")):
        raise ValueError("LAKE_PATH: name the bucket and a path in it, like s3://bucket/lake/invoices")
    return url._replace(scheme=scheme).geturl().rstrip("/")


def local_folder(location: str) -> Path | None:
    """The folder of a lake on this machine; None if it is elsewhere."""
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return None if "://" in location else Path(location)


def delta_options(location: str) -> dict[str, str]:
    """delta-rs's storage options for a lake; anything specific to a shop comes from the environment (AWS_…)."""
    return dict(_S3_OPTIONS) if location.startswith("s3:") else {}


def spark_location(location: str) -> str:
    """The same place in Spark's notation."""
    return re.sub("^s3:", "s3a:", location)


def spark_options(location: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Spark's settings to reach a lake on S3 the way delta-rs does. They do not include the keys: Spark looks for them
    where delta-rs does, in the environment, the profile or the machine's role."""
    if not location.startswith("s3:"):
        return {}
    found = os.environ if environment is None else environment
    endpoint = found.get("AWS_ENDPOINT_URL_S3") or found.get("AWS_ENDPOINT_URL")
    region = found.get("AWS_REGION") or found.get("AWS_DEFAULT_REGION")
    options = {}
    if region or endpoint:
        options["spark.hadoop.fs.s3a.endpoint.region"] = region or "us-east-1"
    if endpoint:
        options["spark.hadoop.fs.s3a.endpoint"] = endpoint
        options["spark.hadoop.fs.s3a.path.style.access"] = "true"
        options["spark.hadoop.fs.s3a.connection.ssl.enabled"] = str(endpoint.startswith("https:")).lower()
    return options


@dataclass(frozen=True)
class Failure:
    """What a storage said. `passing`: a retry may succeed; otherwise an operator must act."""

    reason: str
    passing: bool


_OF_STORAGE = re.compile(
    r"Generic \w+ error|Error performing |[Oo]bject [Ss]tore error|error sending request|Parquet input source"
)
_LOGIN = (
    "refuses the login ({code}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and what that "
    "account may do there (list, read, write, delete)"
)
_CLOCK = "refuses this machine's clock ({code}): it is more than 15 minutes off. Set it right"
_BUCKET = "has no such bucket ({code}): create it, or set LAKE_PATH"
_REGION = "is in another region ({code}): set AWS_REGION to the bucket's"
_REFUSALS = {
    "AccessDenied": _LOGIN,
    "AccountProblem": _LOGIN,
    "AllAccessDisabled": _LOGIN,
    "ExpiredToken": _LOGIN,
    "InvalidAccessKeyId": _LOGIN,
    "InvalidClientTokenId": _LOGIN,
    "InvalidToken": _LOGIN,
    "SignatureDoesNotMatch": _LOGIN,
    "TokenRefreshRequired": _LOGIN,
    "Unauthorized": _LOGIN,
    "401": _LOGIN,
    "403": _LOGIN,
    "RequestTimeTooSkewed": _CLOCK,
    "NoSuchBucket": _BUCKET,
    "InvalidBucketName": _BUCKET,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "PermanentRedirect": _REGION,
    "NoSuchKey": "lost a file of the version that was being read (`compact` and `erase` delete old ones): run it again",
    "NotImplemented": "does not know conditional writes ({code}), without which two writers overwrite one another",
}
_WITHOUT_A_CODE = (
    (re.compile("169\\.254\\."), "was not asked: there are no credentials. Set AWS_ACCESS_KEY_ID and "
     "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give this machine a role"),
    (re.compile("URL scheme is not allowed"), "would be asked without TLS: give AWS_ENDPOINT_URL as https://…, or, in "
     "a network of your own, set AWS_ALLOW_HTTP=true"),
    (re.compile("Received redirect without LOCATION"), _REGION.format(code="a redirect")),
    (re.compile("invalid peer certificate|certificate verify failed"), "shows a certificate that is not trusted here: "
     "name the file of those that sign it in SSL_CERT_FILE"),
)  # fmt: skip
_CODE = re.compile(r"<Code>(\w{1,80})</Code>")
_STATUS = re.compile(r"non-2xx status code\W+(\d{3})")


def failure(error: BaseException) -> Failure | None:
    """What a storage's failure was, from delta-rs's, Arrow's or DuckDB's error about it; None if it is of something
    else. Never a part of the storage's own document, which may repeat keys and what was signed."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    if not isinstance(error, OSError) and not _OF_STORAGE.search(text):
        return None
    code = next((found[1] for found in (_CODE.search(text), _STATUS.search(text)) if found), None)
    if code in _REFUSALS:
        return Failure(_REFUSALS[code].format(code=code), passing=code == "NoSuchKey")
    for pattern, reason in _WITHOUT_A_CODE:
        if pattern.search(text):
            return Failure(reason, passing=False)
    if code is not None:
        return Failure(f"is unavailable: {code}", passing=True)
    said = re.sub(r"<[^>]*>|//[^/@\s]*@", "", text.split(". Detail: Python exception")[0])
    # The last reasons are the first causes; the way there is delta-rs's own business.
    causes = [cause.strip() for cause in re.split("↳|: (?=[A-Za-z])", said.split("Error performing")[-1])]
    return Failure(f"is unavailable: {': '.join(causes[-3:])[:300]}", passing=True)
