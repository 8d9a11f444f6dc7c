"""What can stop a command. Each message names what was found and the fix; exit codes: cli.errors.

OperatorError            somebody has something to do
├─ StreamingError        the stream, or what an operator does, must stop
│  ├─ FencedError        another job with a newer epoch has taken over
│  ├─ GapError           records between the mart's next offset and the first one that can be read are missing
│  └─ TopicChangedError  the topic was deleted and created again: the mart's next offsets belong to the old one
└─ SettingsError, RulesError, StackError, …: each beside what raises it
UnavailableError         Kafka, PostgreSQL or the lake's storage is unavailable now
UsageError               what was asked for makes no sense
"""

import re

from conf.masking import MaskedError


class OperatorError(MaskedError):
    """An operator must act; the message says how."""


class StreamingError(OperatorError):
    """The job must stop: an operator must act."""


class FencedError(StreamingError):
    """Another job with a newer epoch has taken over."""


class GapError(StreamingError):
    """Records between the mart's next offset and the first one that can be read are missing."""


class TopicChangedError(StreamingError):
    """The topic was deleted and created again: the mart's next offsets belong to the old one."""


class UnavailableError(MaskedError):
    """Kafka, PostgreSQL or the lake's storage is unavailable now; worth a retry."""

    when_back = (
        ". When it is back, run it again: `retail-mart servers` shows what runs here, `retail-mart up` starts it"
    )


class UsageError(MaskedError):
    """The request makes no sense; retrying changes nothing."""


def in_plain_words(said: str) -> str:
    """What pydantic says about a wrong value, without pydantic's own terms."""
    said = re.sub(r", unable to parse .*", "", said.removeprefix("Value error, "))
    said = re.sub(r"^Input should be (?:an? valid )?", "must be ", said)
    return said.replace("must be number", "must be a number").replace("must be integer", "must be an integer")
