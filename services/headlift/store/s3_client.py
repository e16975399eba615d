"""S3 client with bounded waits, and its errors as StoreErrors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import certifi
import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from headlift.errors import InvalidInputError, NotFoundError, StoreError, StoreFullError

REFUSED = "STORE_REFUSED"  # the server answers, but refuses: wrong keys, missing rights
_NO_SERVER = "HEADLIFT_S3_ENDPOINT is no server; write http(s)://HOST:PORT."
_CONNECT_S = 2.0
_POOL = 32
_NOT_THERE = {"NoSuchKey", "NoSuchUpload"}
_KEYS = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
_FULL = {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "InsufficientStorage"}


def connect(endpoint: str, access_key: str, secret_key: str, region: str, timeout_s: float) -> Minio:
    """A client of the server at ``http(s)://HOST:PORT`` (https where no scheme is given).

    Raises:
        InvalidInputError: Endpoint or keys are missing or no such thing.
    """
    if not endpoint or not access_key or not secret_key:
        raise InvalidInputError(
            "An S3 bucket needs a server and keys: set HEADLIFT_S3_ENDPOINT, HEADLIFT_S3_ACCESS_KEY and "
            "HEADLIFT_S3_SECRET_KEY."
        )
    url = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    if not url.netloc or url.path.strip("/") or url.scheme not in ("http", "https"):
        raise InvalidInputError(_NO_SERVER)
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=min(_CONNECT_S, timeout_s), read=timeout_s),
        maxsize=_POOL,
        cert_reqs="CERT_REQUIRED",
        ca_certs=certifi.where(),
        # A connection that the server closed while it lay idle, or one hiccup, is not an outage.
        retries=urllib3.Retry(total=1, backoff_factor=0.1, status_forcelist=[500, 502, 503, 504]),
    )
    try:
        return Minio(
            endpoint=url.netloc,
            access_key=access_key,
            secret_key=secret_key,
            secure=url.scheme == "https",
            region=region,
            http_client=pool,
        )
    except ValueError:
        raise InvalidInputError(_NO_SERVER) from None


@contextmanager
def as_store_error() -> Iterator[None]:
    """Translate what the S3 client and its transport raise, without addresses.

    Raises:
        NotFoundError: There is no such object.
        StoreFullError: The server has no space left.
        StoreError: Anything else.
    """
    try:
        yield
    except S3Error as error:
        raise _refusal(error.code or "without a reason") from error
    except (MinioException, HTTPError, OSError) as error:
        raise StoreError(
            f"The S3 server cannot be used ({type(error).__name__}); check it and HEADLIFT_S3_ENDPOINT."
        ) from error


def _refusal(code: str) -> StoreError | NotFoundError:
    if code in _NOT_THERE:
        return NotFoundError("There is no such object in the bucket.")
    if code in _FULL:
        return StoreFullError("The S3 server has no space left; nothing was written. Delete heads or give it more.")
    if code in _KEYS:
        return StoreError(
            f"The S3 server refused our keys ({code}); correct HEADLIFT_S3_ACCESS_KEY, HEADLIFT_S3_SECRET_KEY or "
            "the rights that they have.",
            reason=REFUSED,
        )
    return StoreError(f"The S3 server refused ({code}); check bucket, keys and rights.")
