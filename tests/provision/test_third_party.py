"""What jobs call that a cluster's users bring along, as Debian has it: PyTorch's torchrun, Environment Modules, Lmod."""

from __future__ import annotations

import textwrap

import pytest

from provision.sites import Fleet, Played
from provision.templates import run_template

pytestmark = [pytest.mark.lab, pytest.mark.full]
# torchrun, but for its store: Debian builds PyTorch without libuv, and torchrun has no way to say so; its workers have, where they do not
# share its store
TORCHRUN = """\
    #!/usr/bin/python3
    import functools
    import torch.distributed

    torch.distributed.TCPStore = functools.partial(torch.distributed.TCPStore, use_libuv=False)
    from torch.distributed.run import main
    main()
"""
WITHOUT_LIBUV = ("env.USE_LIBUV='0'", "env.TORCH_DISABLE_SHARE_RDZV_TCP_STORE='1'")
# one step of training on data of each worker's own: afterwards all have the same weights, if the gradients went round
TRAIN = """\
    import os, socket, sys
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = torch.nn.Linear(4, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    model = torch.nn.parallel.DistributedDataParallel(model)
    loss = (model(torch.full((1, 4), float(rank))) ** 2).mean()
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=float(sys.argv[1])).step()
    with open(f"rank-{rank}", "w") as out:
        print(socket.gethostname(), dist.get_world_size(), os.environ["LOCAL_RANK"], os.environ["OMP_NUM_THREADS"], model.module.weight[0, 0].item(), file=out)
    dist.destroy_process_group()
"""
MODULEFILE = "#%Module1.0\nsetenv LOADED well\n"
# where each looks for modules, as Debian sets it up
MODULES = {"environment-modules": "/usr/share/modules/modulefiles", "lmod": "/etc/lmod/modules"}


def install(fleet: Fleet, package: str, *hosts: str) -> None:
    for host in hosts:
        fleet.said(
            host,
            "env",
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "--no-install-recommends",
            package,
        )


def test_torchrun_trains_on_two_nodes(fleet: Fleet, first: Played) -> None:
    install(fleet, "python3-torch", "n1", "n2")
    for name, text in (("train.py", TRAIN), ("torchrun", TORCHRUN)):
        fleet.said(
            "n1", "sh", "-c", 'printf %s "$2" >"$1" && chmod 755 "$1"', "sh", f"/shared/{name}", textwrap.dedent(text)
        )
    words = ["script=/shared/train.py", "args=['0.1']", "cpus_per_task=2", "mem=1800M", "walltime=00:05:00"]
    ran = run_template(fleet, "torchrun", [*words, "torchrun=/shared/torchrun", *WITHOUT_LIBUV])
    assert ran.status == 0, ran.log
    said = [fleet.said("n1", "cat", f"{ran.made.directory}/rank-{rank}").split() for rank in range(4)]
    assert [words[:4] for words in said] == [[host, "4", local, "1"] for host in ("n1", "n2") for local in ("0", "1")]
    # the loss of rank r is (4r)^2 at weights of 1: its gradient is 2 * 4r * r, 28 on the average of four, times 0.1
    assert [float(words[4]) for words in said] == pytest.approx([1 - 0.1 * 28] * 4, rel=1e-5)
    fleet.said("n1", "rm", "-r", "/shared/jobs", "/shared/train.py", "/shared/torchrun")


@pytest.mark.parametrize("package", MODULES)
def test_modules_are_loaded(fleet: Fleet, first: Played, package: str) -> None:
    install(fleet, package, "n1")
    folder = f"{MODULES[package]}/tool"
    fleet.said("n1", "sh", "-c", f'mkdir -p {folder} && printf %s "$1" >{folder}/1.0', "sh", MODULEFILE)
    try:
        ran = run_template(
            fleet, "command", ["modules=[tool/1.0]", "command=[sh,-c,'echo loaded $LOADED']"], "-w", "n1"
        )
        assert (ran.status, ran.log) == (0, "loaded well\n")
        ran = run_template(fleet, "command", ["modules=[nothing/2]", "command=[echo,started]"], "-w", "n1")
        assert ran.status != 0 and "nothing/2" in ran.log and "started" not in ran.log
    finally:
        fleet.said("n1", "sh", "-c", f"rm -rf /shared/jobs {folder} && apt-get purge -y --autoremove {package}")
