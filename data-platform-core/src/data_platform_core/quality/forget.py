"""What gates keep of a customer: keys of rows that broke an expectation, in `ops.gate_results` and in pages."""

from __future__ import annotations

from data_platform_core.quality.docs import pages
from data_platform_core.settings import Settings
from data_platform_core.warehouse import connect


def forget_verdicts(settings: Settings, customer_id: str) -> None:
    """Take a customer's id out of kept verdicts, and remove the pages that show it.

    Raises:
        ComponentFailed: the warehouse is out of reach.
    """
    with connect(settings) as connection:
        connection.execute(
            "update ops.gate_results set failed_keys = '[]' where position(%s in failed_keys::text) > 0", (customer_id,)
        )
    for page in pages(settings).rglob("*"):
        if page.is_file() and customer_id in page.read_text(errors="replace"):
            page.unlink()
