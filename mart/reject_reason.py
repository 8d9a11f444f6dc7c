"""Why a record is quarantined; the table `mart.reject_reason` holds the same."""

from enum import StrEnum


class RejectReason(StrEnum):
    """One member per reason; the value is its name in the mart, MEANING what an operator reads."""

    NO_VALUE = "no_value"
    TOO_LARGE = "too_large"
    NOT_UTF8 = "not_utf8"
    NOT_JSON = "not_json"
    DUPLICATE_KEY = "duplicate_key"
    NOT_AN_OBJECT = "not_an_object"
    UNKNOWN_VERSION = "unknown_version"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    EMPTY_TEXT = "empty_text"
    TEXT_TOO_LONG = "text_too_long"
    NUL_CHARACTER = "nul_character"
    BAD_CHARACTER = "bad_character"
    BAD_DATE = "bad_date"
    FUTURE_DATE = "future_date"
    NOT_FINITE = "not_finite"
    BAD_NUMBER = "bad_number"
    PRICE_SCALE = "price_scale"
    NO_LINES = "no_lines"
    CONFLICTING_DUPLICATE = "conflicting_duplicate"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    BAD_TIMESTAMP = "bad_timestamp"
    INTERNAL_ERROR = "internal_error"


MEANING = {
    RejectReason.NO_VALUE: "the record has no value (a tombstone)",
    RejectReason.TOO_LARGE: "the record is larger than MAX_MESSAGE_BYTES",
    RejectReason.NOT_UTF8: "the bytes are not UTF-8",
    RejectReason.NOT_JSON: "not one JSON document: malformed, truncated, nested too deeply, or followed by more",
    RejectReason.DUPLICATE_KEY: "a JSON object names the same key twice",
    RejectReason.NOT_AN_OBJECT: "JSON, but not an object where one is required",
    RejectReason.UNKNOWN_VERSION: "the version is not one that this job knows",
    RejectReason.MISSING_FIELD: "a required field is absent",
    RejectReason.WRONG_TYPE: "a field has another JSON type than the contract's",
    RejectReason.EMPTY_TEXT: "an invoice number, customer id or stock code of no characters",
    RejectReason.TEXT_TOO_LONG: "a text is longer than the contract allows",
    RejectReason.NUL_CHARACTER: "a text holds the character U+0000",
    RejectReason.BAD_CHARACTER: "a text holds half a surrogate pair, which no encoding can store",
    RejectReason.BAD_DATE: "not a date and time like 2010-12-01T08:26:00 or 2010-12-01T01:26:00.5Z, one that no "
    "calendar has, or finer than a microsecond",
    RejectReason.FUTURE_DATE: "more than a day after the broker's record timestamp",
    RejectReason.NOT_FINITE: "NaN or Infinity",
    RejectReason.BAD_NUMBER: "not a number of the contract's kind, or out of its range",
    RejectReason.PRICE_SCALE: "a price with more than 2 decimals",
    RejectReason.NO_LINES: "an invoice without lines",
    RejectReason.CONFLICTING_DUPLICATE: "the invoice number was applied before with other content",
    RejectReason.AMOUNT_OUT_OF_RANGE: "the lines' absolute amounts add up to more than 10^15",
    RejectReason.BAD_TIMESTAMP: "the record's own Kafka timestamp is not of the years 1970 to 2099, or there is none",
    RejectReason.INTERNAL_ERROR: "reading or storing the record failed in a way that no other reason names: report it",
}
