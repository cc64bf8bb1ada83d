"""Where a job fits, why it does not, and when it could start."""

from __future__ import annotations

from dataclasses import replace

import pytest

from unit.federation.worlds import GIB, cluster, full, node, wants
from westward.federation.predict import fits
from westward.model.resources import Resources
from westward.model.site import ClusterState


def the_start(resources: Resources, state: ClusterState) -> float | None:
    good, reasons = fits(resources, state)
    assert not reasons
    return good[0].start_in_s


def the_reason(resources: Resources, state: ClusterState) -> str:
    good, reasons = fits(resources, state)
    assert not good
    (reason,) = reasons
    return reason


class TestFits:
    def test_on_an_idle_node_now(self) -> None:
        good, reasons = fits(wants(), cluster())
        assert [(fit.partition, fit.chip, fit.start_in_s) for fit in good] == [("gpu", "h100", 0.0)]
        assert not reasons

    def test_any_chip_becomes_the_one_that_is_there(self) -> None:
        good, _ = fits(wants("any:2"), cluster(node(accelerators={"a100": 8})))
        assert good[0].chip == "a100"

    def test_a_job_without_accelerators_names_no_chip(self) -> None:
        good, _ = fits(wants(None), cluster())
        assert good[0].chip is None

    def test_exactly_the_limits_are_within_them(self) -> None:
        state = cluster(node("n1"), node("n2"), max_walltime_s=3600, max_nodes=2)
        assert the_start(wants(nodes=2, cpus_per_task=64, mem_bytes=256 * GIB), state) == 0

    def test_the_default_partition_comes_first(self) -> None:
        state = cluster(node(partitions=("debug", "batch", "gpu")))
        gpu = state.partitions[0]
        state = replace(
            state, partitions=(replace(gpu, name="debug", default=False), gpu, replace(gpu, name="batch", default=True))
        )
        good, _ = fits(wants(), state)
        assert [fit.partition for fit in good] == ["batch", "debug", "gpu"]

    def test_beside_another_job_where_there_is_room(self) -> None:
        busy = node(states=("MIXED",), cpus_used=32, mem_used_bytes=128 * GIB, accelerators_used={"h100": 2})
        assert the_start(wants("h100:2", cpus_per_task=32, mem_bytes=128 * GIB), cluster(busy)) == 0

    @pytest.mark.parametrize("states", [("IDLE", "PLANNED"), ("MIXED",), ("ALLOCATED",), ("IDLE", "COMPLETING")])
    def test_nodes_that_slurm_would_use_count(self, states: tuple[str, ...]) -> None:
        assert the_start(wants(), cluster(node(states=states))) == 0


class TestReasons:
    def test_a_time_limit_over_the_partition_s(self) -> None:
        reason = the_reason(wants(walltime_s=7200), cluster(max_walltime_s=3600))
        assert reason == "gpu: time limit 01:00:00 is below the 02:00:00 asked for"

    def test_too_many_nodes_for_the_partition(self) -> None:
        reason = the_reason(wants(nodes=3), cluster(*(node(f"n{i}") for i in range(4)), max_nodes=2))
        assert reason == "gpu: allows 2 nodes, 3 were asked for"

    def test_more_nodes_than_there_are(self) -> None:
        assert the_reason(wants(nodes=3), cluster()) == "gpu: 1 of 1 nodes usable, 3 were asked for"

    def test_another_chip(self) -> None:
        assert the_reason(wants("a100:4"), cluster()) == "gpu: has h100:4 a node, 1 x a100:4 were asked for"

    def test_too_few_of_the_chip(self) -> None:
        assert the_reason(wants("h100:8"), cluster()) == "gpu: has h100:4 a node, 1 x h100:8 were asked for"

    def test_no_accelerators_at_all(self) -> None:
        reason = the_reason(wants("any:1"), cluster(node(accelerators={})))
        assert reason == "gpu: has no accelerators a node, 1 x any:1 were asked for"

    def test_too_few_cpus(self) -> None:
        reason = the_reason(wants(ntasks_per_node=8, cpus_per_task=10), cluster())
        assert reason == "gpu: has at most 64 CPUs a node, 80 were asked for"

    def test_too_little_memory(self) -> None:
        reason = the_reason(wants(mem_bytes=512 * GIB), cluster())
        assert reason == "gpu: has at most 256 GiB a node, 512 GiB were asked for"

    @pytest.mark.parametrize(
        "states",
        [("DOWN",), ("IDLE", "DRAIN"), ("MIXED", "DRAIN"), ("DOWN", "NOT_RESPONDING"), ("UNKNOWN",), ("FUTURE",)],
    )
    def test_a_node_that_is_out_says_why(self, states: tuple[str, ...]) -> None:
        reason = the_reason(wants(nodes=2), cluster(node("n1"), node("n2", states=states, reason="fan broken")))
        assert "1 of 2 nodes usable, 2 were asked for" in reason
        assert f"n2 is {'+'.join(states)}: fan broken" in reason

    def test_a_partition_that_is_down(self) -> None:
        assert the_reason(wants(), cluster(up=False)) == "gpu: is not up"

    def test_a_partition_without_nodes(self) -> None:
        assert "0 of 0 nodes usable" in the_reason(wants(), cluster(node(partitions=("other",))))

    def test_no_node_that_has_everything_at_once(self) -> None:
        """Some have the accelerators, others the CPUs; memory is not what is missing."""
        state = cluster(node("n1", cpus=4), node("n2", cpus=64, accelerators={}))
        reason = the_reason(wants("h100:4", cpus_per_task=32), state)
        assert "0 B" not in reason
        assert "256 GiB" not in reason

    def test_too_few_nodes_of_that_size(self) -> None:
        """A reason must not contradict itself: there is a node with enough CPUs, but not two."""
        state = cluster(node("n1", cpus=64), node("n2", cpus=8))
        reason = the_reason(wants(nodes=2, cpus_per_task=32), state)
        assert "at most 64 CPUs a node, 32 were asked for" not in reason
        assert "2" in reason.partition("gpu: ")[2]


class TestStart:
    def test_now_where_enough_nodes_are_free(self) -> None:
        assert the_start(wants(nodes=2), cluster(full("n1"), node("n2"), node("n3"), ends={"n1": 500})) == 0

    def test_when_the_running_jobs_reach_their_limits(self) -> None:
        state = cluster(full("n1"), full("n2"), full("n3"), ends={"n1": 900, "n2": 300, "n3": 600})
        assert the_start(wants(nodes=1), state) == 300
        assert the_start(wants(nodes=2), state) == 600
        assert the_start(wants(nodes=3), state) == 900

    def test_free_nodes_count_first(self) -> None:
        state = cluster(full("n1"), node("n2"), full("n3"), ends={"n1": 900, "n3": 600})
        assert the_start(wants(nodes=2), state) == 600

    def test_an_end_that_is_over_is_now(self) -> None:
        assert the_start(wants(), cluster(full("n1"), ends={"n1": -30})) == 0

    def test_unknown_where_no_end_is_known(self) -> None:
        """PrivateData hides the jobs of others: that is no reason to refuse a job that would only have to wait."""
        assert the_start(wants(), cluster(full("n1"))) is None

    def test_unknown_where_too_few_ends_are_known(self) -> None:
        state = cluster(full("n1"), full("n2"), ends={"n1": 300})
        assert the_start(wants(nodes=1), state) == 300
        assert the_start(wants(nodes=2), state) is None

    def test_full_memory_is_not_free(self) -> None:
        busy = node("n1", states=("MIXED",), mem_used_bytes=200 * GIB)
        assert the_start(wants(mem_bytes=100 * GIB), cluster(busy, ends={"n1": 60})) == 60
