"""What can stop the stream. Each message names what was found and the fix."""

from conf.masking import MaskedError


class StreamingError(MaskedError):
    """The job must stop: the operator has something to do. Exit code 1."""


class FencedError(StreamingError):
    """Another job with a newer epoch has taken over. Exit code 3."""


class GapError(StreamingError):
    """Records between the mart's position and the first one that can be read are missing."""


class TopicChangedError(StreamingError):
    """The topic was deleted and created again: the mart's positions belong to the old one."""


class AwayError(MaskedError):
    """Kafka, PostgreSQL or the lake's storage does not answer now; worth another try."""
