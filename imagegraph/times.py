"""Points in time and spans of it, in nanoseconds, as Docker reads and prints them.

A time is an integer: nanoseconds since 1970-01-01T00:00:00Z. No float comes near it.
"""

import re
import time

from imagegraph.errors import StoreError

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": MINUTE,
    "h": HOUR,
}
_SPAN = r"(?P<whole>[0-9]{0,18})(?:\.(?P<part>[0-9]{0,18}))?(?P<unit>ns|us|µs|μs|ms|s|m|h)"
_SPAN_MAX = 2**63 - 1
_MOMENT = (
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2})(?::(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<part>[0-9]+))?)?)?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?"
)


def rfc3339(moment: int) -> str:
    """The time in UTC with all its nanoseconds, as Go's RFC3339Nano: 2024-05-01T10:00:00.12Z."""
    seconds, nanoseconds = divmod(moment, SECOND)
    t = time.gmtime(seconds)
    part = f".{nanoseconds:09}".rstrip("0") if nanoseconds else ""
    return (
        f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}"
        f"T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}{part}Z"
    )


def parse_rfc3339(text: str) -> int:
    """The time that an RFC 3339 timestamp names, to the nanosecond; raises StoreError."""
    match = re.fullmatch(_MOMENT, text)
    if match is None or match["second"] is None or match["zone"] is None:
        raise StoreError(f"invalid time {text[:64]!r}: it must be like 2024-05-01T10:00:00Z")
    return _moment(match)


def stated(text: str) -> int | None:
    """The time that a foreign document states; None for none, and where 64 bits are too few.

    Go's zero time, the year 1, is one of the latter, and many builders write it.
    """
    try:
        moment = parse_rfc3339(text)
    except StoreError:
        return None
    return moment if -(1 << 63) <= moment < 1 << 63 else None


def parse_duration(text: str) -> int:
    """Nanoseconds of a span in Go's notation, e.g. 90s, 1h30m, 1.5h, 100ms; raises StoreError."""
    spans = list(re.finditer(_SPAN, text))
    numbers = all(span["whole"] or span["part"] for span in spans)
    if not spans or not numbers or "".join(span[0] for span in spans) != text:
        raise StoreError(
            f"invalid duration {text[:64]!r}: write numbers with h, m, s, ms, us or ns, e.g. 1h30m"
        )
    total = 0
    for span in spans:
        part = span["part"] or ""
        total += int(span["whole"] + part) * _UNITS[span["unit"]] // 10 ** len(part)
    if total > _SPAN_MAX:
        raise StoreError(f"invalid duration {text[:64]!r}: it must be less than 292 years")
    return total


def parse_time(text: str, now: int) -> int:
    """The time that `--filter until=TEXT` means at the time `now`.

    A duration (10m, 1h30m) lies that far before `now`; a date or a timestamp without a zone is in
    the local one; a number, with or without a fraction, is seconds since 1970. Raises StoreError.
    """
    if re.fullmatch(r"[0-9]{1,11}(?:\.[0-9]{1,9})?", text):
        seconds, _, part = text.partition(".")
        return int(seconds) * SECOND + int(f"{part:0<9}")
    if match := re.fullmatch(_MOMENT, text):
        return _moment(match)
    try:
        return now - parse_duration(text)
    except StoreError:
        raise StoreError(
            f"invalid time {text[:64]!r}: write a duration (10m, 1h30m), a date (2024-05-01), "
            "a timestamp (2024-05-01T10:00:00Z) or seconds since 1970"
        ) from None


def human_age(moment: int, now: int) -> str:
    """How long before `now` it was, as Docker's tables say: About a minute ago, 3 weeks ago."""
    return f"{_human_span(now - moment)} ago"


def _human_span(span: int) -> str:
    seconds, minutes = span // SECOND, span // MINUTE
    hours = (span + HOUR // 2) // HOUR
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{span // HOUR // 24 // 365} years"


def _moment(match: re.Match[str]) -> int:
    """The time that a match of _MOMENT stands for; what is left out is 0, or the local zone."""
    from datetime import UTC, datetime

    clock = f"{match['hour'] or '00'}:{match['minute'] or '00'}:{match['second'] or '00'}"
    zone = (match["zone"] or "").replace("Z", "+00:00")
    try:
        when = datetime.fromisoformat(f"{match['day']}T{clock}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise StoreError(f"invalid time {match[0]!r}: {error}") from None
    # timestamp() would go through a float.
    span = when - datetime(1970, 1, 1, tzinfo=UTC)
    nanoseconds = int(f"{match['part'] or '':0<9.9}")
    return (span.days * 86400 + span.seconds) * SECOND + nanoseconds
