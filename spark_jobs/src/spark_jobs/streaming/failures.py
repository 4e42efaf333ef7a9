"""Why a query ended, in one line, and whether it may go on by itself."""

from __future__ import annotations

import re

from pyspark.errors import StreamingQueryException

_OUT_OF_REACH = re.compile(
    r"ConnectException|Connection refused|SdkClientException|AWSClientIOException|AWSServiceIOException|ServiceUnavail"
    r"|SlowDown|NoHttpResponse|SocketTimeout|TimeoutException|UnknownHost|Connection reset|connection was closed"
    r"|EndpointConnectionError|AWSStatus5|Status Code: 5\d\d|could not be renewed|is out of reach|does not answer"
    r"|DisconnectException|does not tell its offsets|NotLeaderOrFollower|XMinioServerNotInitialized"
    r"|ConcurrentTransactionException"  # a commit whose answer was lost: it meets itself
    r"|CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND"  # an executor died with its part of a batch
)
_FULL = re.compile(r"StorageFull|Status Code: 507")
_LONGEST = 1200


def reason_of(error: StreamingQueryException | None) -> str:
    """What ended a query: the innermost words of ours where there are some."""
    if error is None:
        return "it was stopped"
    text = str(error)
    ours = re.findall(r"data_platform_core\.errors\.\w+: (.+)|spark_jobs\.[\w.]+: (.+)", text)
    if ours:
        return next(word for word in ours[-1] if word).strip()
    return in_one_line(text)


def in_one_line(text: str) -> str:
    """The first words of an error of Spark's, and those of its causes."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("at ")]
    causes = [line for line in lines if "Exception" in line or "Error" in line]
    return " | ".join(dict.fromkeys(lines[:2] + causes[:3]))[:_LONGEST]


def is_out_of_reach(reason: str) -> bool:
    """Whether a store was not to be reached: it may come back."""
    return _OUT_OF_REACH.search(reason) is not None


def is_a_full_store(reason: str) -> bool:
    """Whether the lake's store is full: it may be given room."""
    return _FULL.search(reason) is not None
