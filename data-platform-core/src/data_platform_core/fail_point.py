"""Places where a test makes a process die as if by `kill -9`."""

from __future__ import annotations

import os
import signal

from data_platform_core.settings import Settings


def fail_point(name: str, settings: Settings) -> None:
    """Die here, at once and without clean-up, where the setting `CRM_FAIL_POINT` has this name."""
    if settings.fail_point == name:
        os.kill(os.getpid(), signal.SIGKILL)
