"""The lake's lease: one streaming application owns the tables, and a second one is refused.

An object in the lake, written only where it is as it was read (`If-Match`, `If-None-Match`). Its holder
signs it every few seconds; a lease without a sign for `seconds` may be taken. A holder that slept so long
notices before it commits, and if it slept in the middle of a commit, the log store refuses it.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from data_platform_core.errors import ComponentFailed, CrmError
from data_platform_core.layers import lease
from data_platform_core.s3 import place_of, s3_client
from data_platform_core.settings import Settings

_log = logging.getLogger(__name__)
_REFUSED = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")


class LeaseLost(CrmError):
    """Another application owns the lake, or may do so by now."""


class Lease:
    """The right to write the lake's tables; renewed by a thread of its own until it is released."""

    def __init__(self, settings: Settings) -> None:
        self._client = s3_client(settings)
        self._bucket, self._key = place_of(lease(settings.lake_root))
        self._seconds = settings.lake_lease_seconds
        self._me = {
            "holder": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "boot": _boot(),
            "pid": os.getpid(),
            "born": _born(os.getpid()),
            "seconds": self._seconds,
        }
        self._etag = ""
        self._signed = 0.0
        self._lost = False
        self._ended = threading.Event()

    def take(self) -> None:
        """Take the lease, waiting until one that a dead application left has run out.

        Raises:
            CrmError: another application holds it.
            ComponentFailed: the store is out of reach.
        """
        try:
            etag, held = self._read()
            if held and not held.get("released") and not self._is_dead(held):
                self._wait_until_it_runs_out(etag, held)
            self._write(etag)  # over what was seen to run out, and nothing newer
        except (BotoCoreError, ClientError) as error:
            if _is_refusal(error):
                raise CrmError(self._words(self._read()[1])) from None
            raise ComponentFailed(f"the lake's store does not answer: {str(error)[:300]}") from None
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    def check(self) -> None:
        """Refuse where the lease is, or may be, another's.

        Raises:
            LeaseLost: says who has it, or since when the store has not answered.
        """
        silent = time.monotonic() - self._signed
        if self._lost:
            raise LeaseLost("another streaming application has taken over the lake: this one writes nothing more")
        if silent > self._seconds:
            raise LeaseLost(f"the lease on the lake could not be renewed for {silent:.0f} s: nothing is written on it")

    def release(self) -> None:
        """Give the lease back, so that the next application need not wait."""
        self._ended.set()
        try:
            self._write(self._etag, released=True)
        except (BotoCoreError, ClientError):
            pass  # it runs out by itself

    def regain(self) -> bool:
        """Sign again after the store was silent; False where another has taken the lease."""
        try:
            self._sign()
        except (BotoCoreError, ClientError):
            pass
        return not self._lost

    def _renew(self) -> None:
        while not self._ended.wait(self._seconds / 5):
            try:
                self._sign()
            except (BotoCoreError, ClientError) as error:
                _log.warning("the lease on the lake could not be renewed: %s", str(error)[:200])

    def _sign(self) -> None:
        if self._lost or self._ended.is_set():
            return
        try:
            self._write(self._etag)
        except ClientError as error:
            if not _is_refusal(error):
                raise
            etag, held = self._read()
            if held and held.get("holder") == self._me["holder"]:
                self._etag = etag  # an answer that was lost on its way
            else:
                self._lost = True

    def _read(self) -> tuple[str, dict[str, Any] | None]:
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=self._key)
        except self._client.exceptions.NoSuchKey:
            return "", None
        try:
            return found["ETag"], dict(json.loads(found["Body"].read()))
        except (ValueError, TypeError):
            return found["ETag"], {"released": True}  # nobody's words: whoever writes next, over these ones, has it

    def _write(self, etag: str, released: bool = False) -> None:
        started = time.monotonic()
        condition = {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}
        body = json.dumps(self._me | {"signed_at": time.time(), "released": released}).encode()
        self._etag = self._client.put_object(Bucket=self._bucket, Key=self._key, Body=body, **condition)["ETag"]
        self._signed = started

    def _is_dead(self, held: dict[str, Any]) -> bool:
        """Whether the holder was a process of this machine that lives no more."""
        return self._is_of_this_boot(held) and _born(int(held.get("pid", 0))) != held.get("born")

    def _is_of_this_boot(self, held: dict[str, Any]) -> bool:
        """Machines may share a name, and containers a machine: only both together tell whose process a number is."""
        return bool(self._me["boot"]) and all(held.get(name) == self._me[name] for name in ("host", "boot"))

    def _wait_until_it_runs_out(self, etag: str, held: dict[str, Any]) -> None:
        if self._is_of_this_boot(held):
            raise CrmError(self._words(held))
        deadline = time.monotonic() + float(held.get("seconds", self._seconds)) + 1
        _log.info("the lake's lease is held by %s; waiting whether it is renewed", held.get("host"))
        while time.monotonic() < deadline:
            time.sleep(0.5)
            now, other = self._read()
            if now != etag and not (other or {}).get("released"):
                raise CrmError(self._words(other))

    def _words(self, held: dict[str, Any] | None) -> str:
        who = f"process {held.get('pid')} on {held.get('host')}" if held else "somebody"
        return (
            f"the lake is owned by another streaming application ({who}): a second writer would damage its tables. "
            "Stop that one first (`crm down stream`)"
        )


def _is_refusal(error: Exception) -> bool:
    return isinstance(error, ClientError) and str(error.response.get("Error", {}).get("Code")) in _REFUSED


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _born(pid: int) -> str:
    """When a process began, in the kernel's ticks: a number that is used again does not deceive; "" if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except OSError:
        return ""
