"""The one error tree. Each message names the thing, the place and the mend."""


class CrmError(Exception):
    """Something foreseeable went wrong; the message is for the user, without a stack trace."""


class UsageError(CrmError):
    """The user asked for something impossible; exit code 2."""


class ContractBroken(CrmError):
    """A record or a derived file does not agree with its contract."""


class StoresDisagree(CrmError):
    """The stores do not hold the same records."""


class ComponentFailed(CrmError):
    """A component of the stack did not start, died or is out of reach."""


class GateFailed(CrmError):
    """A quality gate is closed: what is downstream of it stays as it was."""


class Interrupted(CrmError):
    """The user stopped it; exit code 130."""
