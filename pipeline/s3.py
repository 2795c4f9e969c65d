"""What S3 can do beyond what all fsspec drivers have in common: as values and functions for s3fs' file system."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

PROTOCOLS = frozenset({"s3", "s3a"})
UPLOAD = {"chunksize": 16 << 20, "max_concurrency": 4}  # holds 64 MiB at most; the driver's own choice is 500

# A request is tried so often, with jitter, before the whole operation counts as failed: a large upload need not begin
# again for one part's sake.
_CONFIG = {"retries": {"mode": "standard", "total_max_attempts": 3}, "connect_timeout": 3}
# Where a listing that has another page says how to ask for it, and where to say it.
_NEXT = {
    "NextContinuationToken": "ContinuationToken",
    "NextKeyMarker": "KeyMarker",
    "NextUploadIdMarker": "UploadIdMarker",
}


def with_config(options: Mapping[str, Any]) -> dict[str, Any]:
    """The user's storage options, and ours where they leave a choice."""
    return {**options, "config_kwargs": _CONFIG | options.get("config_kwargs", {})}


def next_page(page: Mapping[str, Any]) -> dict[str, str] | None:
    """What to ask for behind this page of a listing; None if it was the last."""
    if not page.get("IsTruncated"):
        return None
    return {asked: page[told] for told, asked in _NEXT.items() if page.get(told)}


async def read_range(system: Any, place: str, start: int, stop: int, etag: str) -> bytes:
    """Bytes of one version of an object; of any other the server answers 412."""
    bucket, key, version = system.split_path(place)
    request = {"Bucket": bucket, "Key": key, "Range": f"bytes={start}-{stop - 1}", "IfMatch": f'"{etag}"'}
    if version:
        request["VersionId"] = version
    response = await system._call_s3("get_object", **request)
    async with response["Body"] as body:
        return cast(bytes, await body.read())
