"""`westward site add` where there is a description already: what is kept of it, and what becomes of jobs."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import pytest
import yaml

from unit.catalogue.answering import ACCOUNT, Answering
from unit.cli.sites import SSH, Westward, failed, fill_in, the_file
from unit.cli.sites import behind as behind  # a fixture
from unit.cli.sites import westward as westward  # a fixture
from unit.store.test_ledger import add as add_job
from unit.store.test_ledger import let_go
from westward.catalogue.load import load_site
from westward.errors import Unsafe, WestwardError
from westward.model.site import ClusterState, ShellDoor
from westward.store.ledger import Ledger


class TestAddAgain:
    FIGURE: ClassVar = {"value": 9.0, "source": "our tariff", "as_of": "2026", "estimated": False}

    @pytest.fixture(autouse=True)
    def added(self, westward: Westward) -> None:
        westward("add", "west", SSH)

    def test_what_the_user_filled_in_is_kept_and_said(
        self, westward: Westward, behind: dict[str, Answering | WestwardError]
    ) -> None:
        own = {
            "region": "ningxia", "place": "Zhongwei", "environment": {"A": "b"}, "power": {"pue": {**self.FIGURE, "value": 1.2}},
            "prices": {"currency": "CNY", "accelerator_hour": {"h100": self.FIGURE}}, "mpi": "cray_shasta",
            "links": {"mars": {"rtt_ms": self.FIGURE}}, "access": {"doors": [{"door": "shell", "host": "h"}], "files": {"/p": "/mnt/p"}},
        }  # fmt: skip
        fill_in(**own)
        before, text = load_site(the_file()), the_file().read_text()
        behind[f"shell {SSH}"] = Answering(replace(ACCOUNT, mpi=(), default_account="teaching"))
        assert yaml.safe_load(westward("add", "west", SSH, "--dry-run").stdout)["region"] == "ningxia"
        result = westward("add", "west", SSH, "--force")
        assert result.exit_code == 0, result.output
        now = load_site(the_file())
        for name in ("region", "place", "environment", "power", "prices", "mpi", "files"):
            assert getattr(now, name) == getattr(before, name), name
        assert set(now.links) > {"mars"}
        assert (now.account, now.doors) == ("teaching", (ShellDoor("login.west", "u17"),)), (
            "what the cluster tells is new"
        )
        backup = the_file().with_name("west.yaml.bak")
        assert backup.read_text() == text
        for word in (str(backup), "kept of it: region, place, files, prices, power, mpi, environment, links"):
            assert word in result.output

    def test_what_is_measured_and_wished_for_comes_first(self, westward: Westward) -> None:
        fill_in(mpi="none", root="/old")
        westward("add", "west", SSH, "--force", "--root", "/new")
        assert (load_site(the_file()).mpi, load_site(the_file()).root) == ("pmix", "/new")

    def test_the_prices_of_another_cluster_are_not_taken_over(self, westward: Westward) -> None:
        fill_in(cluster="old", place="Beijing")
        result = westward("add", "west", SSH, "--force")
        assert "kept of it: nothing" in result.output
        assert load_site(the_file()).place == "unknown"

    def test_one_that_cannot_be_read_is_kept_beside(self, westward: Westward) -> None:
        the_file().write_text("a: [")
        result = westward("add", "west", SSH, "--force")
        assert result.exit_code == 0, result.output
        assert the_file().with_name("west.yaml.bak").read_text() == "a: ["
        assert load_site(the_file()).cluster == "west"

    def test_a_file_that_describes_another_site_is_not_overwritten(self, westward: Westward) -> None:
        fill_in(name="other")
        assert "other.yaml" in failed(westward("add", "west", SSH, "--force"), Unsafe).next_step
        assert load_site(the_file()).name == "other"

    def test_of_two_at_once_the_second_is_refused(
        self, westward: Westward, behind: dict[str, Answering | WestwardError]
    ) -> None:
        class Meanwhile(Answering):
            def state(self) -> ClusterState:
                the_file("new").write_text("somebody else's")
                return super().state()

        behind[f"shell {SSH}"] = Meanwhile()
        failed(westward("add", "new", SSH), Unsafe)
        assert the_file("new").read_text() == "somebody else's"


class TestAddWhileJobsGoOn:
    @pytest.fixture(autouse=True)
    def jobs_at_west(self, westward: Westward, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
        westward("add", "west", SSH)
        ledger = Ledger()
        self.doubtful, self.running = add_job(ledger), let_go(ledger)
        ledger.close()

    def end(self) -> None:
        ledger = Ledger()
        ledger.abandon(["west"], "the end")
        ledger.close()

    def test_the_same_cluster_may_be_described_anew(self, westward: Westward) -> None:
        assert westward("add", "west", SSH, "--force").exit_code == 0

    def test_another_cluster_of_that_name_is_refused(self, westward: Westward) -> None:
        fill_in(cluster="old")
        error = failed(westward("add", "west", SSH, "--force"), Unsafe)
        assert "2 jobs of 'west' that have not ended went to the cluster 'old'" in str(error)
        assert "choose another name" in error.next_step
        assert load_site(the_file()).cluster == "old"
        assert westward("add", "elsewhere", SSH).exit_code == 0
        self.end()
        assert westward("add", "west", SSH, "--force").exit_code == 0

    def test_where_the_description_is_gone_the_user_has_to_say_that_it_is_the_same(self, westward: Westward) -> None:
        the_file().unlink()
        error = failed(westward("add", "west", SSH), Unsafe)
        assert "--force" in error.next_step
        assert not the_file().exists()
        assert westward("add", "west", SSH, "--force").exit_code == 0

    def test_where_it_cannot_be_read_it_has_to_be_moved_away_first(self, westward: Westward) -> None:
        the_file().write_text("a: [")
        error = failed(westward("add", "west", SSH, "--force"), Unsafe)
        assert f"move {the_file()} away and add --force" in error.next_step
        assert the_file().read_text() == "a: ["
