"""`westward plan` and `submit` with requests that name no chip, as a user runs them: real processes, and programs that stand for Slurm's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from unit.cli.test_multirun import lines, westward
from unit.federation.worlds import SITES
from unit.slurm.fakes import FakeSlurm, said
from westward.directories import config_dir
from westward.store.ledger import Ledger

# what the nodes of each site have in the place of the four H100 that were captured
GRES = {"west": "gpu:h100:4", "east": "dcu:k100_ai:8", "north": "gpu:a100:4", "south": "gpu:k80:4"}


def make(name: str, gres: str, folder: Path) -> FakeSlurm:
    """A cluster with two nodes, and its description."""
    folder.mkdir()
    slurm = FakeSlurm(folder)
    kind, chip, _ = gres.split(":")
    for answer in ("node", "partition", "config"):
        text = said("24.11", answer).replace("gpu:h100:4", gres).replace("gpu:h100", f"{kind}:{chip}")
        (folder / f"{answer}.txt").write_text(text)
    slurm.program("scontrol", f'for word; do last=$word; done; [ "$1" = release ] || cat {folder}/$last.txt')
    slurm.program("sacct", "")
    slurm.program("squeue", "")
    slurm.program("sbatch", "cat > /dev/null; echo 1001")
    site = yaml.safe_load((SITES / "west.yaml").read_text())
    site |= {"name": name, "cluster": "v2411", "access": {"doors": [{"door": "shell", "commands": str(folder)}]}}
    site["prices"]["accelerator_hour"] = {chip: site["prices"]["accelerator_hour"]["h100"]}
    (config_dir() / "sites" / f"{name}.yaml").write_text(yaml.safe_dump(site))
    return slurm


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, FakeSlurm]:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.delenv("WESTWARD_LEDGER", raising=False)
    (config_dir() / "sites").mkdir(parents=True)
    return {name: make(name, gres, tmp_path / name) for name, gres in GRES.items()}


def planned(*words: str) -> subprocess.CompletedProcess[str]:
    return westward("plan", "command", *words)


@pytest.mark.usefixtures("clusters")
class TestPlan:
    def test_says_for_every_site_what_compute_became_or_why_it_did_not(self) -> None:
        done = planned("compute=2PFLOPS@bf16")
        assert (done.returncode, done.stderr) == (0, "")
        assert "west/gpu: 2PFLOPS@bf16 = 3 x h100 (989.5 TFLOPS each, 2.969 PFLOPS) on 1 node" in done.stdout
        assert "north/gpu: 2PFLOPS@bf16 = 8 x a100 (312 TFLOPS each, 2.496 PFLOPS) on 2 nodes" in done.stdout
        for site, chip in (("east", "dcu:k100_ai"), ("south", "k80")):
            (line,) = [line for line in lines(done.stdout, f" {site} ") if "out:" in line]
            assert f"no chip here has a known bf16 peak; it has {chip} (unknown)" in line
        assert "#SBATCH --gres=gpu:h100:3\n" in done.stdout

    def test_and_so_it_does_for_machines(self) -> None:
        facts = json.loads(planned("compute=2PFLOPS@bf16", "--json").stdout)
        became = {offer["site"]: offer["granted"] for offer in facts["offers"]}
        assert {site: (one["count"], one["per_node"], one["nodes"]) for site, one in became.items()} == {
            "west": (3, 3, 1), "north": (8, 4, 2),
        }  # fmt: skip
        assert became["west"]["text"] == "2PFLOPS@bf16 = 3 x h100 (989.5 TFLOPS each, 2.969 PFLOPS) on 1 node"
        assert {rejection["site"] for rejection in facts["rejections"]} == {"east", "south"}

    def test_each_point_of_a_sweep_in_its_own_way(self) -> None:
        done = planned("compute=1PFLOPS@bf16,3PFLOPS@bf16", "-m")
        assert [line.split()[1:7] for line in lines(done.stdout, " west ")[:2]] == [
            ["west", "gpu", "2", "x", "h100", "now"], ["west", "gpu", "4", "x", "h100", "?"],
        ]  # fmt: skip

    def test_any_chip_is_one_of_each_site_by_the_words_of_that_site(self) -> None:
        done = planned("accelerators=any:4", "--site", "east")
        assert done.returncode == 0
        for line in ("west/gpu: any:4 = 4 x h100", "east/gpu: any:4 = 4 x dcu:k100_ai", "south/gpu: any:4 = 4 x k80"):
            assert line in done.stdout
        assert "#SBATCH --gres=dcu:k100_ai:4\n" in done.stdout

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            (["compute=2PFLOPS@bf16", "accelerators=h100:4"], 2, "contradict each other"),
            (["compute=2PFLOPS"], 2, "for example 2PFLOPS@bf16"),
            (["compute=100PFLOPS@bf16"], 3, "takes 102 x h100 (989.5 TFLOPS each), 8 are on the 2 largest nodes"),
            (["compute=10PFLOPS@bf16", "nodes=1"], 3, "takes 11 x h100 (989.5 TFLOPS each), 4 are on 1 node asked for"),
        ],
    )
    def test_what_cannot_be_meant_or_met(self, words: list[str], code: int, told: str) -> None:
        done = planned(*words)
        assert done.returncode == code
        assert told in done.stderr
        assert "next:" in done.stderr or "write " in done.stderr


def test_a_job_is_submitted_with_what_it_became_and_its_decision_keeps_it(clusters: dict[str, FakeSlurm]) -> None:
    done = westward("submit", "command", "compute=3PFLOPS@bf16", "ntasks_per_accelerator=1")
    assert done.returncode == 0, done.stderr
    sentence = "3PFLOPS@bf16 = 4 x h100 (989.5 TFLOPS each, 3.958 PFLOPS) on 1 node"
    assert sentence in done.stdout
    (job,) = Ledger().jobs()
    assert (job.site, job.submission.gres, job.submission.nodes, job.submission.ntasks) == ("west", "gpu:h100:4", 1, 4)
    assert len(clusters["west"].calls("sbatch")) == 1
    assert job.decision["chosen"]["granted"]["asked"] == "3PFLOPS@bf16"
    (told,) = json.loads(westward("jobs", "--json").stdout)
    assert told["granted"] == sentence
