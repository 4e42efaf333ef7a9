"""Why a message can be refused: a closed list. A reason is a code, or `code:field`."""

from __future__ import annotations

REASONS = {
    "empty": "there is nothing in it",
    "not_utf8": "its bytes are no UTF-8",
    "not_json": "it is not one JSON value and nothing else",
    "not_an_object": "it is JSON, but no object",
    "missing_field": "a field of the contract is not there",
    "unknown_field": "it has a field that its version of the contract does not have",
    "wrong_type": "a field has a value of another type",
    "unknown_version": "its schema_version is older than the contract, or no version at all",
    "unknown_value": "a field has a value that is not in the contract's list",
    "out_of_range": "a number, a length or a count is outside its bounds",
    "bad_format": "a text does not match its pattern",
    "not_an_instant": "a time is not UTC with microseconds, or no time that exists",
    "law_broken": "its fields contradict each other",
}


def code_of(reason: str) -> str:
    """The code of a reason."""
    return reason.partition(":")[0]
