"""What can stop a nightly run; exit codes: cli.errors."""

from conf import errors


class RulesError(errors.OperatorError):
    """An operator must act; the message says how."""


class KeptBackError(RulesError):
    """A guard kept the run back: the published rules are still those of the last good run."""


class QualityError(RulesError):
    """There is a published run, but a check found it unsound."""


class NotLandedError(RulesError):
    """The lake and the mart do not agree on a business date yet: worth a retry later."""
