"""Slurm's configuration files, read: lines, comments, quotes, DEFAULT lines, files that include others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from westward.errors import InputError
from westward.slurm.conf import GRES_LINES, SLURM_LINES, Settings, parse, parse_text, written


def test_a_key_is_found_in_any_case_and_the_last_one_holds() -> None:
    settings = parse_text("clustername=a\nKILLWAIT=30\nKillWait=31\n").settings
    assert (settings["ClusterName"], settings["killwait"], len(settings)) == ("a", "31", 2)
    assert settings == Settings({"CLUSTERNAME": "a", "killwait": "31"})
    assert list(settings) == ["clustername", "KillWait"]


def test_a_key_that_nobody_knows_is_kept() -> None:
    assert parse_text("SomethingOfTomorrow=yes\n").settings["SomethingOfTomorrow"] == "yes"


def test_comments_blanks_and_quotes() -> None:
    text = '\n  # all of it\nKillWait = 30 # seconds\nProlog="/opt/my prolog"\r\nEpilog=/e\\#1\n\t\n'
    assert dict(parse_text(text).settings) == {"KillWait": "30", "Prolog": "/opt/my prolog", "Epilog": "/e#1"}


def test_a_line_goes_on_behind_a_backslash_and_keeps_its_number() -> None:
    conf = parse_text(
        "SchedulerParameters=a=1,\\\nb=2\nNodeName=n1 \\\n  CPUs=4 \\\n  Weight=2\nPartitionName=p Nodes=n1"
    )
    assert conf.settings["SchedulerParameters"] == "a=1,b=2"
    (node,) = conf.of("NodeName")
    assert (dict(node.settings), node.where) == ({"CPUs": "4", "Weight": "2"}, "slurm.conf:3")
    assert parse_text("KillWait=3\\").settings["KillWait"] == "3"


def test_default_lines_hold_for_what_comes_after_them() -> None:
    conf = parse_text(
        "PartitionName=early Nodes=n1\nPartitionName=DEFAULT MaxTime=60 State=UP\nPartitionName=default state=down\n"
        "PartitionName=p Nodes=n1 maxtime=5\nNodeName=n1\n"
    )
    early, late = conf.of("PartitionName")
    assert dict(early.settings) == {"Nodes": "n1"}
    assert late.settings == Settings({"Nodes": "n1", "MaxTime": "5", "State": "down"})
    assert dict(conf.of("NodeName")[0].settings) == {}


def test_a_default_of_gres_conf_is_a_name_like_any_other() -> None:
    conf = parse_text("AutoDetect=off\nNodeName=n1 Name=gpu File=/dev/x\nName=gpu Count=2", "gres.conf", GRES_LINES)
    assert [(line.kind, line.name) for line in conf.lines] == [("NodeName", "n1"), ("Name", "gpu")]
    assert conf.settings["AutoDetect"] == "off"


INCLUDING = {
    "/etc/slurm/slurm.conf": "ClusterName=west\ninclude nodes.conf\nInclude /opt/%c.conf\n",
    "/etc/slurm/nodes.conf": "NodeName=n1\n",
    "/opt/west.conf": "\nKillWait 30\n",
}


class TestInclude:
    def test_others_are_read_where_they_are_named(self) -> None:
        files = {**INCLUDING, "/opt/west.conf": "KillWait=30\n"}
        conf = parse("/etc/slurm/slurm.conf", files.__getitem__, SLURM_LINES)
        assert conf.files == tuple(files)
        assert (conf.settings["KillWait"], conf.lines[0].where) == ("30", "/etc/slurm/nodes.conf:1")

    def test_a_path_is_from_the_directory_of_the_first_file(self) -> None:
        files = {"/e/slurm.conf": "Include sub/a.conf", "/e/sub/a.conf": "Include b.conf", "/e/b.conf": "KillWait=3"}
        assert parse("/e/slurm.conf", files.__getitem__).settings["KillWait"] == "3"

    def test_a_bad_line_is_named_with_its_own_file(self) -> None:
        with pytest.raises(InputError, match=r"^/opt/west\.conf:2: KEY=VALUE was expected, not 'KillWait 30'$"):
            parse("/etc/slurm/slurm.conf", INCLUDING.__getitem__, SLURM_LINES)

    def test_files_that_include_each_other_are_refused(self) -> None:
        with pytest.raises(InputError, match=r"a\.conf: files include each other"):
            parse("/a.conf", lambda path: "Include a.conf", SLURM_LINES)

    def test_a_text_alone_includes_nothing(self) -> None:
        with pytest.raises(InputError, match=r"there is no 'more\.conf' to include"):
            parse_text("Include more.conf")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("KillWait", "slurm.conf:1: KEY=VALUE was expected, not 'KillWait'"),
        ("\n\nKillWait=30 seconds\n", "slurm.conf:3: KEY=VALUE was expected, not 'seconds'"),
        ("KillWait=", "slurm.conf:1: KEY=VALUE was expected, not 'KillWait='"),
        ('Prolog="/opt/x y', "slurm.conf:1: KEY=VALUE was expected, not 'y'"),
        ("KillWait=30 MinJobAge=3", "slurm.conf:1: a line has one key, and 'MinJobAge' stands behind 'KillWait'"),
        ("SlurmctldHost=a NodeName=n1", "a line has one key, and 'NodeName' stands behind 'SlurmctldHost'"),
        ("KillWait+=3", r"'KillWait\+=' is no '='"),
        ("<html>", "slurm.conf:1: KEY=VALUE was expected, not '<html>'"),
        ("SchedulerParameters=a,\\\n  b", "slurm.conf:1: KEY=VALUE was expected, not 'b'"),
    ],
)
def test_what_cannot_be_meant_is_named_with_file_and_line(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_text(text)


def test_a_password_is_not_repeated_by_an_error() -> None:
    with pytest.raises(InputError, match=r"slurmdbd\.conf:1") as caught:
        parse_text("StoragePass=open sesame", "slurmdbd.conf", ())
    assert "sesame" not in str(caught.value)


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20))
def test_what_is_written_is_read_back_the_same(value: str) -> None:
    try:
        text = written(value)
    except InputError:
        assert '"' in value
        return
    assert dict(parse_text(f"Key={text}\nNext=x").settings) == {"Key": value, "Next": "x"}


@pytest.mark.parametrize("value", ['a "b" c', "two\nlines"])
def test_what_slurm_has_no_way_to_write_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="Slurm has no way to write the value"):
        written(value)
