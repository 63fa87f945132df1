"""A pool's last scrub or resilver and its raidz expansion: ZPoolScrub, ZPoolRaidzExpand."""

import datetime
import time
from typing import TYPE_CHECKING, Any

from backends.libzfs.enums import ScanFunction, ScanState
from backends.libzfs.values import utc

if TYPE_CHECKING:
    from backends.libzfs.pools import ZFSPool
    from backends.libzfs.zfs import ZFS


class ZPoolScrub:
    """The last scrub or resilver; everything is None if there was none.

    Byte counts are None where the command prints none (OpenZFS before 2.3).
    """

    def __init__(self, root: "ZFS", pool: "ZFSPool") -> None:
        self.root = root
        self.pool = pool
        self._scan = pool._status().scan

    @property
    def state(self) -> ScanState | None:
        """Whether it runs, has ended or was stopped."""
        return self._scan.state if self._scan else None

    @property
    def function(self) -> ScanFunction | None:
        """Scrub or resilver."""
        return self._scan.function if self._scan else None

    @property
    def start_time(self) -> datetime.datetime | None:
        """When it began, in UTC."""
        return _time(self._scan.start) if self._scan else None

    @property
    def end_time(self) -> datetime.datetime | None:
        """When it ended, in UTC; None while it runs."""
        if self._scan is None or self.state is ScanState.SCANNING:
            return None
        return _time(self._scan.end)

    @property
    def bytes_to_scan(self) -> int | None:
        """Bytes to be looked at."""
        return self._scan.to_examine if self._scan else None

    @property
    def bytes_scanned(self) -> int | None:
        """Bytes found so far."""
        return self._scan.examined if self._scan else None

    @property
    def bytes_issued(self) -> int | None:
        """Bytes read so far."""
        return self._scan.issued if self._scan else None

    @property
    def bytes_issued_per_pass(self) -> int | None:
        """Bytes read since the scan began or went on."""
        return self._scan.issued_per_pass if self._scan else None

    @property
    def bytes_skipped(self) -> int | None:
        """Bytes that need no reading."""
        return self._scan.skipped if self._scan else None

    @property
    def total_secs_left(self) -> int | None:
        """Seconds until it ends, at the pace so far; None if it does not run."""
        scan = self._scan
        if scan is None or scan.state is not ScanState.SCANNING:
            return None
        if scan.to_examine is None or scan.pass_start is None:
            return None
        elapsed = int(time.time()) - scan.pass_start - (scan.spent_paused or 0) or 1
        pace = (scan.issued_per_pass or 1) / elapsed
        return int((scan.to_examine - (scan.skipped or 0) - (scan.issued or 0)) / pace)

    @property
    def pause(self) -> datetime.datetime | None:
        """Since when it is paused, in UTC; None if it is not."""
        if self._scan is None or self.state is not ScanState.SCANNING or not self._scan.paused:
            return None
        return _time(self._scan.paused)

    @property
    def errors(self) -> int | None:
        """Errors found."""
        return self._scan.errors if self._scan else None

    @property
    def percentage(self) -> float | None:
        """How much of it is done."""
        scan = self._scan
        if scan is None:
            return None
        total = (scan.to_examine or 0) - (scan.skipped or 0)
        return (scan.issued or 0) / total * 100 if total else 0

    def asdict(self) -> dict[str, Any]:
        """The scan in plain types."""
        return {
            "function": self.function.name if self.function else None,
            "state": self.state.name if self.state is not None else None,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "percentage": self.percentage,
            # The two are the wrong way round in py-libzfs, and programs know them so.
            "bytes_to_process": self.bytes_scanned,
            "bytes_processed": self.bytes_to_scan,
            "bytes_issued": self.bytes_issued,
            "pause": self.pause,
            "errors": self.errors,
            "total_secs_left": self.total_secs_left,
        }


class ZPoolRaidzExpand:
    """The last raidz expansion (OpenZFS 2.3); everything is None if there was none."""

    def __init__(self, root: "ZFS", pool: "ZFSPool") -> None:
        self.root = root
        self.pool = pool
        self._stats = pool._status().expansion

    def _number(self, key: str) -> int | None:
        return int(self._stats[key]) if self._stats else None

    @property
    def state(self) -> ScanState | None:
        """Whether it runs, has ended or was stopped."""
        return ScanState[self._stats["state"]] if self._stats else None

    @property
    def expanding_vdev(self) -> int | None:
        """Which of the top-level vdevs grows."""
        return self._number("expanding_vdev")

    @property
    def start_time(self) -> datetime.datetime | None:
        """When it began, in UTC."""
        return _time(self._number("start_time"))

    @property
    def end_time(self) -> datetime.datetime | None:
        """When it ended, in UTC; None while it runs."""
        return None if self.state is ScanState.SCANNING else _time(self._number("end_time"))

    @property
    def bytes_to_reflow(self) -> int | None:
        """Bytes to be moved."""
        return self._number("to_reflow")

    @property
    def bytes_reflowed(self) -> int | None:
        """Bytes moved so far."""
        return self._number("reflowed")

    @property
    def waiting_for_resilver(self) -> int | None:
        """1 while a resilver must end first."""
        return self._number("waiting_for_resilver")

    @property
    def total_secs_left(self) -> int | None:
        """Seconds until it ends, at the pace so far; None if it does not run."""
        if self.state is not ScanState.SCANNING:
            return None
        done, start = self.bytes_reflowed or 0, self._number("start_time") or 0
        pace = done / (time.time() - start or 1) or 1
        return int(((self.bytes_to_reflow or 1) - done) / pace)

    @property
    def percentage(self) -> float | None:
        """How much of it is done."""
        if self._stats is None:
            return None
        return (self.bytes_reflowed or 0) / (self.bytes_to_reflow or 1) * 100

    def asdict(self) -> dict[str, Any]:
        """The expansion in plain types."""
        return {
            "state": self.state.name if self.state is not None else None,
            "expanding_vdev": self.expanding_vdev,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "bytes_to_reflow": self.bytes_to_reflow,
            "bytes_reflowed": self.bytes_reflowed,
            "waiting_for_resilver": self.waiting_for_resilver,
            "total_secs_left": self.total_secs_left,
            "percentage": self.percentage,
        }


def _time(seconds: int | None) -> datetime.datetime | None:
    return None if seconds is None else utc(seconds)
