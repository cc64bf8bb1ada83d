"""How a command is started in a container: `apptainer exec`, or srun with the options that Pyxis adds to it. Pure."""

from __future__ import annotations

import posixpath
import re
import shlex
from dataclasses import dataclass

from westward.errors import InputError
from westward.model.container import Container, Runtime
from westward.model.decision import Offer
from westward.model.site import Site
from westward.model.tres import chip_kind

# what makes the libraries of the host's driver seen within; others than these are bound by hand
_DRIVERS = {"nvidia": "--nv", "amd": "--rocm", "hygon": "--rocm"}
_KIND_DRIVERS = {"gpu": "--nv", "dcu": "--rocm"}
_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<rest>.+)")
_WITHIN = '"$PWD"'  # the job's own directory, which the script has entered


@dataclass(frozen=True, slots=True)
class Contained:
    """What a container adds, as shell words: before the command, and to srun; and where its image lies, if that is a file."""

    before: str = ""
    srun: str = ""
    file: str = ""


def contained(container: Container, offer: Offer, site: Site) -> Contained:
    """What starts a command in that container at that site, the job's directory being the one that is worked in.

    Raises:
        InputError: an image or a bind cannot be meant there.
    """
    runtime = container.runtime or site.containers or Runtime.APPTAINER
    binds = [_bind(bind, site) for bind in container.binds]
    file = "" if _SCHEME.fullmatch(container.image) else shlex.quote(_file_or_address(container.image, site))
    if re.search(r"[:,]", site.root):
        raise InputError(
            f"site '{site.name}': its root {site.root} has a colon or comma, which no bind of a container can name"
        )
    if runtime is Runtime.PYXIS:
        mounts = ",".join(f"{bind}:{bind}" if ":" not in bind else bind for bind in binds)
        own = f'"$PWD:$PWD"{shlex.quote("," + mounts) if mounts else ""}'
        image = shlex.quote(_enroot(container.image, site))
        more = "".join(f" {shlex.quote(word)}" for word in container.options)
        return Contained(
            srun=f" --container-image={image} --container-mounts={own} --container-workdir={_WITHIN}{more}", file=file
        )
    words = [*_driver(offer), *(f"--bind={bind}" for bind in binds), *container.options]
    quoted = "".join(f" {shlex.quote(word)}" for word in words)
    image = shlex.quote(_file_or_address(container.image, site))
    return Contained(before=f"apptainer exec --bind={_WITHIN} --pwd={_WITHIN}{quoted} {image} ", file=file)


def _driver(offer: Offer) -> list[str]:
    """The option for the accelerators that the job is given."""
    if offer.chip is None:
        return []
    vendor = offer.granted.vendor if offer.granted else None
    flag = _DRIVERS.get(vendor.lower()) if vendor else _KIND_DRIVERS.get(chip_kind(offer.chip))
    return [flag] if flag else []


def _bind(bind: str, site: Site) -> str:
    source, colon, rest = bind.partition(":")
    if not source.startswith("/") or "," in bind or not bind.isprintable():
        raise InputError(
            f"container.binds: '{bind}' is not of the form /DIRECTORY[:/WITHIN[:ro]]",
            "name directories from / on, without commas",
        )
    here = site.sitemap.located(source)
    if not colon and here != source:
        return f"{here}:{source}"  # within it is where its user named it
    return f"{here}{colon}{rest}"


def _file_or_address(image: str, site: Site) -> str:
    if image.startswith("-") or not image.isprintable():
        raise InputError(f"container.image: '{image}' is no image: a file, or an address such as docker://python:3.12")
    if _SCHEME.fullmatch(image):
        return image
    return posixpath.join(site.root, site.sitemap.located(image))


def _enroot(image: str, site: Site) -> str:
    """The image as Enroot writes it: REGISTRY#NAME:TAG for what others call docker://REGISTRY/NAME:TAG."""
    match = _SCHEME.fullmatch(image)
    if match is None:
        return _file_or_address(image, site)
    if match["scheme"] != "docker":
        raise InputError(
            f"container.image: site '{site.name}' runs containers with Pyxis, which knows no {match['scheme']}://",
            "name a docker:// address, or a .sqsh file of the site",
        )
    registry, slash, name = match["rest"].partition("/")
    if slash and re.search(r"[.:]|^localhost$", registry):
        return f"{registry}#{name}"
    return match["rest"]
