"""When records are sent: a window of history at once, live by the wall clock, or again at another speed."""

from typing import Literal

AfterStall = Literal["catch-up", "skip"]
"""What a live run does with seconds that it missed."""
