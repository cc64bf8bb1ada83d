"""Each template that ships as a script, and containers, modules and inputs at sites that call things otherwise.

WESTWARD_UPDATE_GOLDEN=1 pytest tests/golden/test_templates.py writes them anew: read the difference then.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from golden.kept import as_kept, bash_reads
from golden.test_script import KEY, a_site, offer, run
from westward.errors import InputError
from westward.jobs.template import compose_job
from westward.jobs.templatefiles import names
from westward.model.accelerators import Granted
from westward.model.container import Container, Runtime
from westward.model.decision import Offer
from westward.model.job import JobSpec, Launcher
from westward.model.site import Site
from westward.model.sitemap import SiteMap
from westward.slurm.script import render

HERE = Path(__file__).parent / "data" / "templates"
MAP = SiteMap(
    accounts={"physics": "phys-123"},
    qos={"long": "weekly"},
    modules={"cuda": ("cuda/12.4",), "python": ("GCC/13.2.0", "Python/3.11.5")},
    paths={"/project/u17": "/gpfs/u17", "/project/u17/big": "/scratch/big data"},
)


def shipped(name: str) -> str:
    spec = compose_job(name, ["inputs=[/project/u17/a.txt]"] if name == "analysis" else []).spec
    asked = spec.resources.asked
    granted = Granted(str(asked), "h100", spec.resources.accelerator_count, 1, vendor="NVIDIA") if asked else None
    return render(spec, replace(offer("west", "h100" if asked else None), granted=granted), a_site(), KEY).script


def in_an_image(
    chip: str | None, vendor: str | None, runtime: Runtime | None, *overrides: str, template: str = "gemm"
) -> str:
    image = "container.image=docker://registry.example:5000/team/tool:1.2"
    spec = compose_job(
        template, [image, "container.binds=[/project/u17/in:/data:ro,/project/u17/code,/scratch]", *overrides]
    ).spec
    granted = Granted("any:2", chip, 2, 1, vendor=vendor) if chip else None
    spec = replace(spec, resources=compose_job("gemm", ["accelerators=any:2"] if chip else []).spec.resources)
    return render(
        spec, replace(offer("west", chip), granted=granted), replace(a_site(), containers=runtime, sitemap=MAP), KEY
    ).script


def mapped() -> str:
    words = ["account=physics", "qos=long", "modules=[cuda,python,GROMACS/2024]", "command=[gmx,mdrun]"]
    data = ["inputs=[/project/u17/big/x.tpr,file:///project/u17/y,sets/z]"]
    return render(
        compose_job("command", [*words, *data]).spec, offer("west", None, "cpu"), replace(a_site(), sitemap=MAP), KEY
    ).script


GOLDEN: dict[str, Callable[[], str]] = {
    **{f"{name}.sbatch": partial(shipped, name) for name in names("job")},
    "container-apptainer-nvidia.sbatch": partial(in_an_image, "h100", "NVIDIA", None),
    "container-apptainer-amd-mpi.sbatch": partial(in_an_image, "mi300x", "AMD", Runtime.APPTAINER, template="allreduce"),
    "container-apptainer-ascend.sbatch": partial(in_an_image, "npu:910b", "Huawei", None, "container.options=[--cleanenv]"),
    "container-pyxis.sbatch": partial(in_an_image, "h100", "NVIDIA", Runtime.PYXIS, "container.options=[--no-container-mount-home]"),
    "container-pyxis-once.sbatch": partial(in_an_image, None, None, Runtime.PYXIS, template="command"),
    "mapped.sbatch": mapped,
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_the_script_is_what_it_was(name: str) -> None:
    assert as_kept(GOLDEN[name](), HERE / name)


@pytest.mark.parametrize("name", GOLDEN)
def test_bash_can_read_it(name: str) -> None:
    assert bash_reads(GOLDEN[name]())


def rendered(container: Container, site: Site | None = None, where: Offer | None = None, **more: object) -> str:
    spec = JobSpec("x", ("run", "it's $(id)"), launcher=Launcher.NONE, container=container, **more)  # type: ignore[arg-type]
    return render(spec, where or offer("west", None), site or a_site(), KEY).script


class TestContainers:
    @pytest.mark.parametrize(
        ("image", "enroot"),
        [
            ("docker://ubuntu:24.04", "ubuntu:24.04"), ("docker://library/ubuntu", "library/ubuntu"),
            ("docker://nvcr.io/nvidia/pytorch:24.01-py3", "nvcr.io#nvidia/pytorch:24.01-py3"), ("docker://localhost/x", "localhost#x"),
            ("images/x.sqsh", "/shared/researcher/images/x.sqsh"), ("/x.sqsh", "/x.sqsh"),
        ],
    )  # fmt: skip
    def test_an_image_as_enroot_writes_it(self, image: str, enroot: str) -> None:
        script = rendered(Container(image, Runtime.PYXIS))
        line = script.splitlines()[-1]
        assert line == (
            f"srun --nodes=1 --ntasks=1 --cpus-per-task=1 --container-image='{enroot}' ".replace(
                "'", "'" if "#" in enroot else ""
            )
            + """--container-mounts="$PWD:$PWD" --container-workdir="$PWD" run 'it'"'"'s $(id)'"""
        )

    @pytest.mark.parametrize(
        ("container", "told"),
        [
            (Container("oras://x/y", Runtime.PYXIS), "which knows no oras://"),
            (Container("--fakeroot"), "is no image"),
            (Container("a\nb"), "is no image"),
            (Container("x.sif", binds=("data",)), "is not of the form /DIRECTORY"),
            (Container("x.sif", binds=("/a,/etc",)), "is not of the form /DIRECTORY"),
            (Container("x.sif", binds=("/a\n",)), "is not of the form /DIRECTORY"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, container: Container, told: str) -> None:
        with pytest.raises(InputError) as caught:
            rendered(container)
        assert told in str(caught.value)

    def test_a_root_that_no_bind_can_name_is_refused(self) -> None:
        with pytest.raises(InputError, match="has a colon or comma"):
            rendered(Container("x.sif"), replace(a_site(), root="/a,b"))

    @pytest.mark.parametrize("word", ["$(touch owned)", "`touch owned`", "a b", "'", '"', ";touch owned"])
    def test_hostile_words_run_nothing(self, tmp_path: Path, word: str) -> None:
        """A stand-in for apptainer that prints its arguments."""
        program = tmp_path / "apptainer"
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        program.chmod(0o755)
        script = rendered(
            Container(f"/images/{word}", binds=(f"/{word}",), options=(word,)),
            replace(a_site(), root=str(tmp_path)),
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        )
        done = run(script, tmp_path)
        directory = f"{tmp_path}/x~{KEY}"
        assert done.stdout.decode().splitlines() == [
            "exec", f"--bind={directory}", f"--pwd={directory}", f"--bind=/{word}", word, f"/images/{word}", "run", "it's $(id)",
        ]  # fmt: skip
        assert not (tmp_path / "owned").exists() and not (Path(directory) / "owned").exists()

    def test_none_runs_the_same_without_an_image(self) -> None:
        assert compose_job("gemm", ["container.image=x.sif", "container.runtime=none"]).spec.container is None
        assert compose_job("apptainer", ["container.runtime=pyxis"]).spec.container == Container(
            "docker://python:3.12-slim", Runtime.PYXIS
        )
        with pytest.raises(InputError, match="one of apptainer, pyxis, none was expected"):
            compose_job("gemm", ["container.image=x.sif", "container.runtime=docker"])


class TestInputs:
    @pytest.mark.parametrize("path", ["s3://bucket/x", "https://x/y", "~/x", "", "a\nb"])
    def test_what_is_no_path_is_refused(self, path: str) -> None:
        with pytest.raises(InputError, match="inputs: "):
            render(JobSpec("x", ("true",), inputs=(path,)), offer("west", None), a_site(), KEY)

    def test_all_that_are_missing_are_named_and_nothing_is_run(self, tmp_path: Path) -> None:
        (tmp_path / "it's here").write_text("x")
        spec = JobSpec(
            "x", ("touch", "ran"), launcher=Launcher.NONE, inputs=("it's here", "/no/$(touch owned)", "gone")
        )
        done = run(render(spec, offer("west", None), replace(a_site(), root=str(tmp_path)), KEY).script, tmp_path)
        assert done.returncode == 66
        assert done.stderr.decode().splitlines() == [
            "westward: the input /no/$(touch owned) is not at site west, or may not be read there",
            f"westward: the input {tmp_path}/gone is not at site west, or may not be read there",
        ]
        assert not list(tmp_path.rglob("ran")) and not list(tmp_path.rglob("owned"))


class TestModules:
    def test_they_are_loaded_in_order_by_the_site_s_names(self, tmp_path: Path) -> None:
        site = replace(a_site(), root=str(tmp_path), sitemap=MAP)
        defined = 'module() { : "$unset_by_old_ones"; echo "$@"; }; export -f module; '
        spec = JobSpec("x", ("echo", "ran"), launcher=Launcher.NONE, modules=("cuda", "python", "GROMACS/2024"))
        script = render(spec, offer("west", None), site, KEY).script
        done = subprocess.run(
            ["bash", "-c", f"{defined} bash"], input=script, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [
            "load cuda/12.4",
            "load GCC/13.2.0",
            "load Python/3.11.5",
            "load GROMACS/2024",
            "ran",
        ]

    def test_one_that_is_missing_ends_the_job(self, tmp_path: Path) -> None:
        spec = JobSpec("x", ("echo", "ran"), launcher=Launcher.NONE, modules=("nowhere",))
        done = run(render(spec, offer("west", None), replace(a_site(), root=str(tmp_path)), KEY).script, tmp_path)
        assert done.returncode != 0 and done.stdout == b""

    @pytest.mark.parametrize("word", ["a b", "$(id)", "-x", "", "a;b"])
    def test_what_is_no_module_is_refused(self, word: str) -> None:
        with pytest.raises(InputError, match="is not the name of a module"):
            compose_job("command", [f"modules=['{word}']"])
