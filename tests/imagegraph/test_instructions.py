"""`commit -c`: Dockerfile instructions change a configuration as Docker's commit does."""

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagegraph.errors import StoreError
from imagegraph.instructions import InvalidInstruction, apply, apply_all

BASE = {
    "Cmd": ["bash"],
    "Env": ["PATH=/usr/bin:/bin", "HOME=/root"],
    "Labels": {"a": "1"},
    "WorkingDir": "/srv",
    "ExposedPorts": {"22/tcp": {}},
    "Volumes": {"/data": {}},
    "OnBuild": ["RUN one"],
    "ArgsEscaped": True,
}


@pytest.mark.parametrize(
    ("instruction", "field", "value"),
    [
        ("CMD ls -l", "Cmd", ["/bin/sh", "-c", "ls -l"]),
        ('CMD ["ls", "-l"]', "Cmd", ["ls", "-l"]),
        ('CMD ["ls", -l]', "Cmd", ["/bin/sh", "-c", '["ls", -l]']),
        ("CMD " + "[" * 100_000, "Cmd", ["/bin/sh", "-c", "[" * 100_000]),
        ("CMD echo $HOME 'x'", "Cmd", ["/bin/sh", "-c", "echo $HOME 'x'"]),
        ("CMD []", "Cmd", []),
        ("CMD -- --help", "Cmd", ["/bin/sh", "-c", "--help"]),
        ("cmd ls", "Cmd", ["/bin/sh", "-c", "ls"]),
        ("  CMD\tls  ", "Cmd", ["/bin/sh", "-c", "ls"]),
        ('ENTRYPOINT ["/init"]', "Entrypoint", ["/init"]),
        ("ENTRYPOINT exec top", "Entrypoint", ["/bin/sh", "-c", "exec top"]),
        ("ENV A=1", "Env", ["PATH=/usr/bin:/bin", "HOME=/root", "A=1"]),
        ("ENV HOME=/h", "Env", ["PATH=/usr/bin:/bin", "HOME=/h"]),
        ("ENV PATH=/opt:$PATH", "Env", ["PATH=/opt:/usr/bin:/bin", "HOME=/root"]),
        ("ENV A=1 B=$A", "Env", ["PATH=/usr/bin:/bin", "HOME=/root", "A=1", "B="]),
        ("ENV A='x y' B=\"z\"", "Env", ["PATH=/usr/bin:/bin", "HOME=/root", "A=x y", "B=z"]),
        (r"ENV A=x\ y", "Env", ["PATH=/usr/bin:/bin", "HOME=/root", "A=x y"]),
        ("ENV A=", "Env", ["PATH=/usr/bin:/bin", "HOME=/root", "A="]),
        ("ENV A x  y=z", "Env", ["PATH=/usr/bin:/bin", "HOME=/root", "A=x  y=z"]),
        ("EXPOSE 8080", "ExposedPorts", {"22/tcp": {}, "8080/tcp": {}}),
        ("EXPOSE 53/UDP 80", "ExposedPorts", {"22/tcp": {}, "53/udp": {}, "80/tcp": {}}),
        ("EXPOSE 7-8/sctp", "ExposedPorts", {"22/tcp": {}, "7/sctp": {}, "8/sctp": {}}),
        ("HEALTHCHECK NONE", "Healthcheck", {"Test": ["NONE"]}),
        ("HEALTHCHECK CMD curl -f x", "Healthcheck", {"Test": ["CMD-SHELL", "curl -f x"]}),
        ('healthcheck cmd ["a", "b"]', "Healthcheck", {"Test": ["CMD", "a", "b"]}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=3s --start-period=0 --retries=5 CMD x",
            "Healthcheck",
            {
                "Test": ["CMD-SHELL", "x"],
                "Interval": 90 * 10**9,
                "Timeout": 3 * 10**9,
                "Retries": 5,
            },
        ),
        ("LABEL b=2", "Labels", {"a": "1", "b": "2"}),
        ('LABEL a="x y" "b c"=$HOME', "Labels", {"a": "x y", "b c": "/root"}),
        ("LABEL a two words", "Labels", {"a": "two words"}),
        ("ONBUILD RUN make", "OnBuild", ["RUN one", "RUN make"]),
        ("ONBUILD copy --from=x a b", "OnBuild", ["RUN one", "copy --from=x a b"]),
        ('SHELL ["/bin/bash", "-lc"]', "Shell", ["/bin/bash", "-lc"]),
        ("STOPSIGNAL SIGQUIT", "StopSignal", "SIGQUIT"),
        ("STOPSIGNAL rtmin+3", "StopSignal", "rtmin+3"),
        ("STOPSIGNAL 9", "StopSignal", "9"),
        ("USER app:app", "User", "app:app"),
        ("USER ${U:-nobody}", "User", "nobody"),
        ("VOLUME /a /b", "Volumes", {"/data": {}, "/a": {}, "/b": {}}),
        ('VOLUME ["/a b", "$HOME/v"]', "Volumes", {"/data": {}, "/a b": {}, "/root/v": {}}),
        ("WORKDIR /x/../y/", "WorkingDir", "/y"),
        ("WORKDIR sub/dir", "WorkingDir", "/srv/sub/dir"),
        ("WORKDIR ../../..", "WorkingDir", "/"),
        ("WORKDIR //x", "WorkingDir", "/x"),
        ("WORKDIR $HOME/w", "WorkingDir", "/root/w"),
    ],
)
def test_an_instruction_sets_its_field_and_no_other(instruction, field, value):
    before = copy.deepcopy(BASE)
    changed = apply(BASE, instruction)
    assert changed[field] == value
    others = {field, "Cmd"} if field == "Entrypoint" else {field}
    assert {k: v for k, v in changed.items() if k not in others} == {
        k: v for k, v in BASE.items() if k not in others
    }
    assert before == BASE


@pytest.mark.parametrize(
    "field", ["Cmd", "Env", "ExposedPorts", "Labels", "OnBuild", "Volumes", "WorkingDir", "Shell"]
)
def test_a_field_that_is_null_counts_as_absent(field):
    instructions = ["CMD x", "ENV a=1", "EXPOSE 1", "LABEL a=1", "ONBUILD RUN x"]
    instructions += ["VOLUME /v", "WORKDIR w"]
    assert apply_all({field: None}, instructions)["WorkingDir"] == "/w"


def test_an_entrypoint_clears_the_command_of_the_image():
    assert "Cmd" not in apply(BASE, 'ENTRYPOINT ["/init"]')


@pytest.mark.parametrize("order", [["CMD x", "ENTRYPOINT y"], ["ENTRYPOINT y", "CMD x"]])
def test_an_entrypoint_keeps_a_command_that_was_given_with_it(order):
    assert apply_all(BASE, order)["Cmd"] == ["/bin/sh", "-c", "x"]


def test_an_empty_entrypoint_removes_it():
    config = {"Entrypoint": ["/init"], "Cmd": ["x"]}
    assert apply(config, "ENTRYPOINT []") == {}
    assert apply(config, "ENTRYPOINT") == {}


def test_the_shell_form_uses_the_shell_of_the_image():
    assert apply_all({}, ['SHELL ["/bin/bash", "-lc"]', "CMD x"])["Cmd"] == [
        "/bin/bash",
        "-lc",
        "x",
    ]


def test_instructions_see_what_those_before_them_did():
    config = apply_all({}, ["ENV ROOT=/opt", "ENV BIN=$ROOT/bin", "WORKDIR $BIN", "WORKDIR x"])
    assert config == {"Env": ["ROOT=/opt", "BIN=/opt/bin"], "WorkingDir": "/opt/bin/x"}


def test_exposed_ports_may_come_from_one_variable():
    config = apply({"Env": ["PORTS=80 443/udp"]}, "EXPOSE $PORTS")
    assert config["ExposedPorts"] == {"80/tcp": {}, "443/udp": {}}


def test_the_environment_of_the_host_is_not_seen(monkeypatch):
    monkeypatch.setenv("SECRET", "leaked")
    assert apply({}, "USER a$SECRET")["User"] == "a"


def test_lines_are_continued_by_a_backslash_and_comments_are_dropped():
    text = "# first\nENV A=1 \\\n# between\n\n  B=2\nUSER app\n"
    assert apply({}, text) == {"Env": ["A=1", "B=2"], "User": "app"}


def test_no_instructions_change_nothing():
    assert apply_all(BASE, []) == BASE


def test_the_result_shares_nothing_with_the_configuration_it_came_from():
    config = {"Env": ["A=1"], "Foreign": {"deep": [1]}}
    changed = apply(config, "ENV A=2")
    changed["Foreign"]["deep"].append(2)
    assert config == {"Env": ["A=1"], "Foreign": {"deep": [1]}}


@pytest.mark.parametrize(
    ("instruction", "why"),
    [
        ("", "no instruction"),
        ("# only a comment", "no instruction"),
        ("RUN make", "RUN cannot change a configuration; use CMD, ENTRYPOINT"),
        ("FROM debian", "FROM cannot"),
        ("CMD", "needs an argument"),
        ('CMD ["a", 1]', "strings only"),
        ('CMD ["\\ud800"]', "surrogate"),
        ("CMD --x y", "unknown flag --x"),
        ("ENV", "needs an argument"),
        ("ENV A", "no value"),
        ("ENV A=1 B", "no = in 'B'"),
        ("ENV =1", "name is empty"),
        ("ENV A='x", "single quote"),
        ("LABEL A=${B", "bad substitution"),
        ("EXPOSE http", "not PORT"),
        ("EXPOSE 80/icmp", "not PORT"),
        ("EXPOSE 127.0.0.1:80:80", "not PORT"),
        ("EXPOSE 0", "from 1 to 65535"),
        ("EXPOSE 65536", "from 1 to 65535"),
        ("EXPOSE 9-8", "from 1 to 65535"),
        ("HEALTHCHECK", "needs an argument"),
        ("HEALTHCHECK CMD", "no command"),
        ("HEALTHCHECK CMD []", "no command"),
        ("HEALTHCHECK NONE x", "takes no arguments"),
        ("HEALTHCHECK curl x", "unknown type 'CURL'"),
        ("HEALTHCHECK --interval=5 CMD x", "invalid duration '5'"),
        ("HEALTHCHECK --interval=1us CMD x", "less than 1ms"),
        ("HEALTHCHECK --retries=-1 CMD x", "not negative"),
        ("HEALTHCHECK --timeout=1s --timeout=2s CMD x", "given twice"),
        ("HEALTHCHECK --often CMD x", "unknown flag --often"),
        ("ONBUILD", "needs an argument"),
        ("ONBUILD ONBUILD RUN x", "not allowed"),
        ("ONBUILD FROM x", "not allowed"),
        ("SHELL /bin/sh -c", "JSON array"),
        ("SHELL []", "JSON array"),
        ("STOPSIGNAL SIGNOPE", "not a signal"),
        ("STOPSIGNAL 65", "not a signal"),
        ("STOPSIGNAL RTMIN+16", "not a signal"),
        ("USER", "needs an argument"),
        ("VOLUME []", "empty"),
        ('VOLUME ["/a", " "]', "empty"),
        ("VOLUME $UNSET", "empty"),
        ("WORKDIR $UNSET", "empty"),
        ("USER a\udcff", "not UTF-8"),
    ],
)
def test_a_bad_instruction_gets_one_line_that_names_it(instruction, why):
    with pytest.raises(InvalidInstruction) as caught:
        apply(BASE, instruction)
    message = str(caught.value)
    assert message.startswith("invalid instruction ")
    assert why in message
    assert message.isprintable()
    assert isinstance(caught.value, StoreError)


def test_a_configuration_of_the_wrong_shape_is_refused():
    with pytest.raises(InvalidInstruction, match="Env is not a list of strings"):
        apply({"Env": {"A": "1"}}, "ENV B=2")
    with pytest.raises(InvalidInstruction, match="Labels is not an object"):
        apply({"Labels": ["a"]}, "LABEL b=2")
    with pytest.raises(InvalidInstruction, match="WorkingDir is not a string"):
        apply({"WorkingDir": 7}, "WORKDIR x")


KEYWORDS = st.sampled_from(
    "CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD SHELL STOPSIGNAL USER VOLUME "
    "WORKDIR".split()
)


@given(KEYWORDS, st.text())
def test_any_instruction_is_either_applied_or_refused(keyword, rest):
    try:
        apply(BASE, f"{keyword} {rest}")
    except InvalidInstruction as error:
        assert str(error).isprintable()


@given(KEYWORDS, st.text(alphabet="a1=$ {}'\"\\[],:-/\n\t"))
def test_any_syntax_is_either_applied_or_refused(keyword, rest):
    try:
        apply(BASE, f"{keyword} {rest}")
    except InvalidInstruction as error:
        assert str(error).isprintable()
