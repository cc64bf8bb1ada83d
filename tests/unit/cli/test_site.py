"""`westward site`, as a user meets it; the clusters are in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from unit.catalogue.answering import ACCOUNT, Answering
from unit.cli.sites import SSH, Westward, failed, the_file
from unit.cli.sites import behind as behind  # a fixture
from unit.cli.sites import westward as westward  # a fixture
from unit.federation.worlds import SITES, cluster, full, node
from westward.catalogue.load import load_catalogue, load_site
from westward.directories import config_dir, state_dir
from westward.errors import AccessRefused, InputError, NotFound, Unreachable, Unsafe, WestwardError
from westward.model.site import RestDoor, ShellDoor


class TestAdd:
    def test_a_site_in_one_command(self, westward: Westward) -> None:
        result = westward("add", "west", SSH)
        assert result.exit_code == 0, result.output
        assert the_file().stat().st_mode & 0o777 == 0o600
        site = load_catalogue().sites["west"]
        assert site.doors == (ShellDoor("login.west", "u17"),)
        assert (site.root, site.account) == ("/home/u17", "physics")
        for words in (
            "Slurm 24.11.5",
            "h100 0/4",
            "/home/u17",
            "physics",
            "unknown",
            "price of h100",
            "westward submit command 'command=[hostname]' --site west\n",
        ):
            assert words in result.output, words

    def test_more_doors_are_written_as_far_as_they_answer(
        self, westward: Westward, behind: dict[str, Answering | WestwardError], tmp_path: Path
    ) -> None:
        (tmp_path / "token").write_text("t")
        behind["rest https://gate.west"] = Answering(replace(ACCOUNT, home=None))
        behind["shell on this host"] = Unreachable("the program 'sinfo' is not installed here", "install it")
        options = ["--user", "u17", "--token-file", str(tmp_path / "token")]
        result = westward("add", "west", "https://gate.west", "--door", SSH, "--door", "local", *options)
        assert result.exit_code == 0, result.output
        assert [type(door) for door in load_site(the_file()).doors] == [RestDoor, ShellDoor]
        assert "left out of 'west': shell on this host: the program 'sinfo' is not installed here" in result.output

    def test_a_refusal_is_shown_as_it_is_and_nothing_is_written(
        self, westward: Westward, behind: dict[str, Answering | WestwardError]
    ) -> None:
        behind[f"shell {SSH}"] = AccessRefused("login.west showed an unknown host key", "ask for its fingerprint")
        error = failed(westward("add", "west", SSH), AccessRefused)
        assert (error.exit_code, error.next_step) == (4, "ask for its fingerprint")
        assert not the_file().exists()

    def test_a_dry_run_prints_what_would_be_written(self, westward: Westward) -> None:
        result = westward("add", "west", SSH, "--dry-run")
        assert yaml.safe_load(result.stdout)["name"] == "west"
        assert not the_file().exists()

    def test_a_description_is_overwritten_only_by_force(self, westward: Westward) -> None:
        westward("add", "west", SSH)
        the_file().write_text(the_file().read_text() + "# mine\n")
        assert failed(westward("add", "west", SSH), Unsafe).exit_code == 5
        assert "# mine" in the_file().read_text()
        assert westward("add", "west", SSH, "--dry-run").exit_code == 0
        assert westward("add", "west", SSH, "--force").exit_code == 0
        assert "# mine" not in the_file().read_text()

    def test_the_name_of_a_lab_s_site_is_taken(self, westward: Westward) -> None:
        lab = state_dir() / "labs" / "x" / "sites"
        lab.mkdir(parents=True)
        (lab / "other-file.yaml").write_text((SITES / "west.yaml").read_text())
        for words in ((), ("--force",)):
            assert "other-file.yaml" in str(failed(westward("add", "west", SSH, *words), InputError))

    @pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "-x", "a b", "a\n", "x" * 64])
    def test_what_cannot_be_a_name(self, westward: Westward, name: str) -> None:
        failed(westward("add", "--", name, SSH), InputError)

    def test_a_file_that_is_not_there_is_named_before_anybody_is_asked(self, westward: Westward) -> None:
        error = failed(westward("add", "west", SSH, "--identity-file", "/nowhere/key"), InputError)
        assert "--identity-file: there is no file '/nowhere/key'" in str(error)

    def test_a_token_s_file_may_be_one_that_its_command_will_make(
        self, westward: Westward, behind: dict[str, Answering | WestwardError], tmp_path: Path
    ) -> None:
        behind["rest https://gate.west"] = Answering()
        words = ["add", "west", "https://gate.west", "--user", "u17", "--token-file", str(tmp_path / "new.jwt")]
        assert "there is no file" in str(failed(westward(*words), InputError))
        result = westward(*words, "--token-command", "ssh login 'scontrol token'")
        assert result.exit_code == 0, result.output
        (door,) = load_site(the_file()).doors
        assert door == RestDoor("https://gate.west", "u17", tmp_path / "new.jwt", ("ssh", "login", "scontrol token"))

    def test_a_key_may_be_one_that_its_command_will_make(self, westward: Westward, tmp_path: Path) -> None:
        words = ["add", "west", SSH, "--identity-file", str(tmp_path / "new")]
        assert "there is no file" in str(failed(westward(*words), InputError))
        result = westward(*words, "--renew-command", "sign --as 'my name'")
        assert result.exit_code == 0, result.output
        (door,) = load_site(the_file()).doors
        made = ("sign", "--as", "my name")
        assert door == ShellDoor("login.west", "u17", identity_file=tmp_path / "new", renew_command=made)

    @pytest.mark.parametrize(
        ("option", "value", "said"),
        [
            ("--token-command", "foo 'bar", "--token-command: No closing quotation"),
            ("--renew-command", "foo 'bar", "--renew-command: No closing quotation"),
            ("--token-file", "/nowhere/at/all/jwt", "--token-file: there is no directory '/nowhere/at/all'"),
            ("--token-file", "/etc", "--token-file: there is no file '/etc'"),
            ("--user", "a b", "'a b' cannot be the name of a user"),
            ("--commands", "bin", "'bin' does not say where the Slurm commands are"),
        ],
    )
    def test_an_option_that_cannot_be_meant_is_named_before_anybody_is_asked(
        self, westward: Westward, option: str, value: str, said: str
    ) -> None:
        options = {"--user": "u17", "--token-command": "renew", option: value}
        words = [word for pair in options.items() for word in pair]
        for url in ("https://gate.west", SSH):
            assert said in str(failed(westward("add", "west", url, *words), InputError))
        assert not the_file().exists()

    def test_what_the_reader_would_refuse_is_not_written(
        self, westward: Westward, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("westward.cli.site.site_text", lambda site: "name: west\n")
        error = failed(westward("add", "west", SSH), InputError)
        assert f"{the_file()}: access: is missing" in str(error)
        assert not the_file().exists()

    def test_a_wrong_clock_is_told(self, westward: Westward, behind: dict[str, Answering | WestwardError]) -> None:
        behind[f"shell {SSH}"] = Answering(ahead_s=90)
        result = westward("add", "west", SSH)
        assert result.exit_code == 0
        assert "warning: its clock is 1 min 30 s ahead of this host's" in result.output


class TestCheck:
    def test_a_site_that_is_as_described(self, westward: Westward) -> None:
        westward("add", "west", SSH)
        result = westward("check")
        assert result.exit_code == 0, result.output
        assert "24.11.5" in result.output
        assert "u17" in result.output

    def test_a_changed_partition_is_a_warning(
        self, westward: Westward, behind: dict[str, Answering | WestwardError]
    ) -> None:
        westward("add", "west", SSH)
        behind[f"shell {SSH}"] = Answering(state_=cluster(node(), max_walltime_s=60, default=True))
        result = westward("check", "west")
        assert result.exit_code == 0
        assert "time limit 00:01:00 (was none)" in result.output
        (told,) = json.loads(westward("check", "--json").stdout)
        assert told["doors"][0]["answers"]
        assert "time limit" in told["warnings"][0]

    def test_a_site_without_a_way_in_ends_with_4(
        self, westward: Westward, behind: dict[str, Answering | WestwardError]
    ) -> None:
        westward("add", "west", SSH)
        behind[f"shell {SSH}"] = Unreachable("nobody answers", "is it up?")
        result = westward("check")
        error = failed(result, Unreachable)
        assert (error.exit_code, error.next_step) == (4, "is it up?")
        assert "nobody answers" in str(error)

    def test_no_site_and_an_unknown_site_say_what_to_do(self, westward: Westward) -> None:
        assert "westward site add" in failed(westward("check"), NotFound).next_step
        assert "westward site add x" in failed(westward("check", "x"), NotFound).next_step


class TestShow:
    def test_what_is_known_and_what_is_going_on(
        self, westward: Westward, behind: dict[str, Answering | WestwardError]
    ) -> None:
        westward("add", "west", SSH)
        nodes = [full("n1"), node("n2"), node("n3", states=("DOWN",), reason="fan broken")]
        behind[f"shell {SSH}"] = Answering(state_=cluster(*nodes, default=True))
        result = westward("show", "west")
        assert result.exit_code == 0, result.output
        for words in (
            "gpu*",
            "1 idle, 1 in use, 1 out",
            "n3: fan broken",
            "64/192",
            "h100 4/12",
            "physics*",
            "teaching",
        ):
            assert words in result.output, words

    def test_for_machines(self, westward: Westward) -> None:
        westward("add", "west", SSH)
        told = json.loads(westward("show", "west", "--json").stdout)
        assert told["prices"]["cpu_hour"] is None
        assert told["doors"][0]["door"] == f"shell {SSH}"
        assert told["live"]["state"]["version"] == "24.11.5"
        assert "the PUE" in told["unknown"]

    def test_a_silent_site_is_described_all_the_same(
        self, westward: Westward, behind: dict[str, Answering | WestwardError]
    ) -> None:
        westward("add", "west", SSH)
        behind[f"shell {SSH}"] = Unreachable("nobody answers")
        result = westward("show", "west")
        assert "/home/u17" in result.output
        failed(result, Unreachable)


class TestWhatToFillIn:
    """'westward plan' sends here whoever sees an unknown cost."""

    @pytest.fixture(autouse=True)
    def a_chip_that_nobody_knows(self, behind: dict[str, Answering | WestwardError]) -> None:
        behind[f"shell {SSH}"] = Answering(state_=cluster(node(accelerators={"X9000": 8}), default=True))

    def test_add_and_show_name_the_chip_and_where_its_power_goes(self, westward: Westward) -> None:
        for words in (("add", "west", SSH), ("show", "west"), ("show", "west", "--json")):
            said = westward(*words).output.replace("\n", "")
            assert "the price of x9000" in said, words
            assert f"the power of x9000 (in {config_dir()}/accelerators.yaml)" in said, words

    def test_show_names_a_chip_that_the_description_does_not(self, westward: Westward) -> None:
        westward("add", "west", SSH)
        content = yaml.safe_load(the_file().read_text())
        del content["observed"], content["prices"]
        the_file().write_text(yaml.safe_dump(content))
        assert "the price of x9000" in westward("show", "west").output

    def test_a_file_of_chips_that_cannot_be_read_hides_nothing(
        self, westward: Westward, caplog: pytest.LogCaptureFixture
    ) -> None:
        config_dir().mkdir(parents=True)
        (config_dir() / "accelerators.yaml").write_text("x9000: fast")
        result = westward("add", "west", SSH)
        assert result.exit_code == 0, result.output
        assert "the power of x9000" in result.output
        assert "accelerators.yaml: x9000" in caplog.text


def test_the_list_asks_nobody(westward: Westward, behind: dict[str, Answering | WestwardError]) -> None:
    assert "westward site add" in westward("list").output
    westward("add", "west", SSH)
    behind.clear()
    result = westward("list")
    assert result.exit_code == 0, result.output
    assert SSH in result.output
    (told,) = json.loads(westward("list", "--json").stdout)
    assert (told["name"], told["file"]) == ("west", str(the_file()))


class TestBrokenDescriptions:
    @pytest.fixture(autouse=True)
    def one_is_broken(self, westward: Westward) -> None:
        westward("add", "west", SSH)
        the_file("broken").write_text("place: 2026-02-30")

    @pytest.mark.parametrize(
        "words", [("list",), ("show", "west"), ("check", "west"), ("check",), ("add", "new", SSH)], ids=" ".join
    )
    def test_the_other_sites_go_on_with_a_warning(
        self, westward: Westward, caplog: pytest.LogCaptureFixture, words: tuple[str, ...]
    ) -> None:
        result = westward(*words)
        assert result.exit_code == 0, result.output
        assert SSH in result.output
        (told,) = caplog.messages
        assert "broken.yaml" in told

    @pytest.mark.parametrize("verb", ["show", "check"])
    def test_the_one_itself_says_what_is_wrong(
        self, westward: Westward, caplog: pytest.LogCaptureFixture, verb: str
    ) -> None:
        error = failed(westward(verb, "broken"), InputError)
        assert "day is out of range" in str(error)
        assert caplog.messages == [], "it is not told twice"

    def test_a_name_that_is_described_twice_is_listed_twice_and_asked_never(
        self, westward: Westward, caplog: pytest.LogCaptureFixture
    ) -> None:
        the_file("broken").write_text(the_file().read_text())
        told = json.loads(westward("list", "--json").stdout)
        assert [(site["name"], site["used"]) for site in told] == [("west", False)] * 2
        assert "described twice" in caplog.text
        error = failed(westward("show", "west"), InputError)
        assert "broken.yaml and" in str(error)
        assert "rename or remove one" in error.next_step


def test_nothing_that_a_cluster_says_reaches_the_terminal_as_a_command(
    westward: Westward, behind: dict[str, Answering | WestwardError]
) -> None:
    evil = "\x1b[31m[bold]x[/nope]"
    account = replace(ACCOUNT, default_account=evil, associations=(replace(ACCOUNT.associations[0], account=evil),))
    state = cluster(node(partitions=(evil,), states=("DOWN",), reason=evil), name=evil)
    behind[f"shell {SSH}"] = Answering(account, replace(state, version=evil))
    for words in (("add", "west", SSH), ("show", "west"), ("check",), ("list",)):
        result = westward(*words)
        assert result.exit_code == 0, result.output
        assert "\x1b" not in result.output
        assert load_site(the_file()).account == evil
