"""What a repository says of a large file it does not hold: the pointer files of Git LFS.

    version https://git-lfs.github.com/spec/v1
    oid sha256:<64 hexadecimal digits>
    size <bytes>

Such a file is part of the commit, so the commit's hash covers it. Nothing here computes that hash:
that this is the pointer of that commit is the server's word.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

__all__ = ["Pointer", "fetch_object", "fetch_pointer", "parse_pointer"]

SIZES = (1_000_000, 1_000_000_000)  # bytes that a file of weights may have
POINTER_MOST, OBJECT_MOST = 1_000, 64_000  # bytes
FORM = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n"
    rb"oid sha256:([0-9a-f]{64})\n"
    rb"size (0|[1-9][0-9]{0,11})\n"
)


@dataclass(frozen=True)
class Pointer:
    """The size in bytes and the SHA-256 of the file pointed to."""

    size: int
    sha256: str


def parse_pointer(data: bytes) -> Pointer:
    """The pointer in ``data``; ValueError unless it is one, to the letter, of a credible size."""
    match = FORM.fullmatch(data)
    if match is None:
        raise ValueError(f"must be a Git LFS pointer, got {len(data)} bytes: {data[:40]!r}")
    low, high = SIZES
    if not low <= int(match[2]) <= high:
        raise ValueError(f"must point to {low:,} to {high:,} bytes, got {int(match[2]):,}")
    return Pointer(int(match[2]), match[1].decode())


def fetch_pointer(url: str, timeout: float) -> Pointer:
    """The pointer at ``url``. ConnectionError in a few words if it cannot be had."""
    try:
        return parse_pointer(_get(url, POINTER_MOST, timeout))
    except ValueError as error:
        raise ConnectionError(f"{url}: {error}") from error


def fetch_object(url: str, timeout: float) -> bytes | None:
    """The JSON object at ``url`` as it is written there; None if there is no such file.

    Raises:
        ConnectionError: no answer, an error other than 404, or no JSON object of at most 64 kB.
    """
    try:
        data = _get(url, OBJECT_MOST, timeout)
        fields = json.loads(data)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:  # the latter: of brackets in brackets
        raise ConnectionError(f"{url}: must be a JSON object ({error})") from error
    if not isinstance(fields, dict):
        raise ConnectionError(f"{url}: must be a JSON object, got {type(fields).__name__}")
    return data


def _get(url: str, most: int, timeout: float) -> bytes:
    """At most ``most`` bytes. FileNotFoundError: 404. ConnectionError: anything else of the net."""
    import requests
    from urllib3.exceptions import HTTPError

    try:
        headers = {"Accept-Encoding": "identity"}
        with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
            if response.status_code == 404:
                raise FileNotFoundError(f"{url}: 404 {response.reason}")
            response.raise_for_status()
            data: bytes = response.raw.read(most + 1, decode_content=False)
    except requests.HTTPError as error:
        raise ConnectionError(f"{url}: {response.status_code} {response.reason}") from error
    except (requests.RequestException, HTTPError) as error:
        slow = "timed out" in str(error)
        reason = f"no answer for {timeout:g} s" if slow else "no connection"
        raise ConnectionError(f"{url}: {reason}") from error
    if len(data) > most:
        raise ValueError(f"must have at most {most:,} bytes, got more")
    return data
