"""What is kept of a forgotten customer."""

from __future__ import annotations

import re
from hashlib import sha256

from data_platform_core.errors import UsageError


def fingerprint_of(customer_id: str) -> str:
    """The SHA-256 of a customer's id, in hexadecimal: enough to know the customer again, and not to name them.

    Raises:
        UsageError: it is no customer's id.
    """
    if not re.fullmatch(r"cus_[0-9a-f]{16}", customer_id):
        raise UsageError(f"{customer_id!r} is no customer's id: they look like cus_0123456789abcdef")
    return sha256(customer_id.encode()).hexdigest()
