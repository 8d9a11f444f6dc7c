"""What can stop a nightly run; exit codes: cli.errors."""

from conf import errors


class RulesError(errors.OperatorError):
    """An operator has something to do; the message says what."""


class KeptBackError(RulesError):
    """A guard kept the run back: the published rules are still those of the last good run."""


class QualityError(RulesError):
    """The published run is there, but a check says that it is not sound."""


class NotLandedError(RulesError):
    """The lake and the mart do not agree on a business date yet: worth another try later."""
