"""A commit while the process runs, and what is committed being run."""

import time
from pathlib import Path

from tests.running.conftest import Box

WRITER = """
i=0
while true; do
    i=$((i+1))
    echo "$i" >> /log
    : > /names/$i
done
"""
"""Appends to a file, then creates a name: the name is never to be there without its line."""


def test_no_name_is_committed_without_what_was_written_before(anywhere: Box):
    anywhere.ok("create", "--name", "web", "box", "sh", "-c", f"mkdir -p /names; {WRITER}")
    anywhere.ok("start", "web")
    time.sleep(0.5)
    for number in range(5):
        anywhere.ok("commit", "web", f"moment:{number}")
    anywhere.ok("rm", "-f", "web")
    for number in range(5):
        count = anywhere.run(
            f"moment:{number}", "sh", "-c", "wc -l < /log; ls /names | sort -n | tail -1"
        )
        lines, last = map(int, count.split())
        assert lines >= last > 0
    anywhere.require_clean()


def test_the_process_goes_on_after_the_commit(box: Box):
    box.ok("run", "-d", "--name", "web", "box", "sh", "-c", "while true; do date >> /n; done")
    box.ok("commit", "web", "moment")
    assert box.state("web")["Status"] == "running"
    first = box.ok("exec", "web", "wc", "-l", "/n")
    time.sleep(0.2)
    assert box.ok("exec", "web", "wc", "-l", "/n") != first


def test_without_pause_nothing_is_frozen(box: Box, tmp_path: Path):
    box.ok("run", "-d", "--name", "web", "box", "sleep", "1000")
    box.ok("commit", "--no-pause", "web", "moment")
    box.ok("commit", "--pause", "web", "moment")


def test_a_package_of_steps_becomes_an_image_that_runs(box: Box):
    box.ok(
        "run",
        "--name",
        "one",
        "box",
        "sh",
        "-c",
        "printf '#!/bin/sh\\necho built\\n' > /bin/tool; chmod +x /bin/tool",
    )
    box.ok("commit", "-c", 'CMD ["tool"]', "one", "built:1")
    assert box.run("built:1") == "built\n"
    assert box.lines("diff", "built:1") == ["C /bin", "A /bin/tool"]
