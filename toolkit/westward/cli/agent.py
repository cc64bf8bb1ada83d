"""`westward agent`: what goes on after you log off."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from westward import process
from westward.cli import show
from westward.directories import config_home, state_dir, state_path, write_private
from westward.errors import Unreachable, Unsafe
from westward.federation.broker import Broker
from westward.federation.presence import LEASE, LEASE_LASTS, alive, waiting_for_agent
from westward.model.site import Door, ShellDoor, Site
from westward.model.units import format_duration
from westward.store.database import has_password
from westward.store.ledger import Ledger, Phase
from westward.store.owner import pid_here

IDLE_S = 600.0
STARTS_WITHIN_S = 15.0
STOPS_WITHIN_S = 90.0
UNIT = "westward-agent.service"
# what the unit keeps of the environment it is written in; not SSH_AUTH_SOCK, since that socket ends with the login session
_KEPT = ("WESTWARD_STATE_DIR", "WESTWARD_LEDGER", "XDG_CONFIG_HOME", "XDG_STATE_HOME")
_KEPT_FILES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "PGPASSFILE")
_UNIT_TEXT = """\
[Unit]
Description=Westward agent: settles, releases and watches the jobs of this user

[Service]
{environment}ExecStart={command}
Restart=on-failure
RestartSec=10

[Install]
WantedBy=default.target
"""

app = typer.Typer(
    help="What goes on after you log off: submissions in doubt, jobs that wait for other sites, watching.",
    no_args_is_help=True,
)


@app.command()
def run(
    until_idle: Annotated[
        bool, typer.Option("--until-idle", help=f"End when no job has been open for {IDLE_S / 60:.0f} min.")
    ] = False,
) -> None:
    """Be the agent, in the foreground (what the systemd unit starts). SIGTERM and Ctrl-C end it after its turn."""
    from westward.catalogue.load import known_sites, left_out

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("paramiko").setLevel(logging.WARNING)
    ledger = Ledger()

    def sites() -> dict[str, Site]:
        return known_sites(lambda about, error: broker.say(about, left_out(error)))

    broker = Broker(ledger, sites, IDLE_S if until_idle else None)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: broker.stop())
    if not broker.run():
        raise Unsafe(f"another agent acts on this ledger already ({_holder(ledger)})", "westward agent status")


@app.command()
def start() -> None:
    """Start the agent in the background, on this host. It ends by itself when no job has been open for a while."""
    ledger = Ledger()
    if alive(ledger):
        show.out.print(f"an agent is running already ({_holder(ledger)})")
        return
    log = log_file()
    program = [sys.executable, "-m", "westward.cli.main", "agent", "run", "--until-idle"]
    status = process.start_detached(program, log)
    until = time.monotonic() + STARTS_WITHIN_S
    while not alive(ledger):
        if status() is not None or time.monotonic() > until:
            last = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise Unreachable("the agent did not start: " + "\n".join(last), f"all it said: {log}")
        time.sleep(0.1)
    show.out.print(f"agent started ({_holder(ledger)}); it writes to {log}")
    _tell_borrowed_keys()


@app.command()
def stop() -> None:
    """End the agent of this ledger, after its present turn. Jobs go on; what it would have done waits for the next command."""
    ledger = Ledger()
    lease = ledger.lease(LEASE)
    pid = pid_here(lease.holder) if lease else None
    if lease is None or (pid is None and not lease.alive):
        show.out.print("no agent is running")
        return
    if pid is None:
        raise Unsafe(f"the agent runs on another host ({_holder(ledger)})", "run 'westward agent stop' there")
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        raise Unsafe(f"the agent runs as another user ({_holder(ledger)})", "ask that user to stop it") from error
    until = time.monotonic() + STOPS_WITHIN_S
    while pid_here(lease.holder) == pid:
        if time.monotonic() > until:
            raise Unreachable(
                f"the agent (process {pid}) has not ended within {STOPS_WITHIN_S:.0f} s", f"see {log_file()}"
            )
        time.sleep(0.1)
    show.out.print("agent stopped")


@app.command()
def status(as_json: show.AsJson = False) -> None:
    """Whether an agent runs, and what waits for one."""
    ledger = Ledger()
    lease = ledger.lease(LEASE)
    waiting = waiting_for_agent(ledger)
    running = lease is not None and lease.alive
    if as_json:
        show.print_json(
            {
                "alive": running,
                "holder": lease.holder if lease and running else None,
                "since": lease.since if lease and running else None,
                "waiting": [show.job_facts(job) for job in waiting],
            }
        )
        return
    if lease is not None and not running and pid_here(lease.holder):
        hangs = format_duration((datetime.now(UTC) - lease.until + LEASE_LASTS).total_seconds())
        said = (
            f"the agent has not moved for {hangs} ({_holder(ledger)}): westward agent stop, then westward agent start"
        )
    else:
        said = f"an agent is running ({_holder(ledger)})" if running else "no agent is running; westward agent start"
    show.out.print(said, soft_wrap=True)
    if waiting:
        show.out.print(show.jobs_table(waiting))
    else:
        show.out.print("nothing waits for one")


@app.command()
def install() -> None:
    """Write a systemd user unit that keeps an agent running, and say how to enable it. Nothing is enabled here."""
    base = config_home() / "systemd" / "user"
    state_path()  # refuses a relative path: the unit runs in another directory
    program = shutil.which("westward")
    command = [program] if program else [sys.executable, "-m", "westward.cli.main"]
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    kept |= {name: os.path.join(os.getcwd(), path) for name in _KEPT_FILES if (path := os.environ.get(name))}
    if has_password(os.environ.get("WESTWARD_LEDGER") or "sqlite://"):
        raise Unsafe("WESTWARD_LEDGER holds a password, which does not belong in a unit file", "put it into ~/.pgpass")
    environment = "".join(f"Environment={_unit_quoted(f'{name}={value}')}\n" for name, value in kept.items())
    base.mkdir(parents=True, exist_ok=True)
    text = _UNIT_TEXT.format(environment=environment, command=" ".join(map(_unit_quoted, [*command, "agent", "run"])))
    write_private(base / UNIT, text)
    show.out.print(
        f"written: {base / UNIT}\nenable it:           systemctl --user enable --now {UNIT}\n"
        "and after log-off:   loginctl enable-linger   (where the site's administrators allow it)",
        soft_wrap=True,
    )
    _tell_borrowed_keys()


def log_file() -> Path:
    """What an agent in the background writes."""
    return state_dir() / "agent.log"


def tell_waiting(ledger: Ledger) -> None:
    """Say when no agent is alive and what waits for it; nothing where nothing does. Reads no job, since there may be many."""
    if not ledger.unsettled() or alive(ledger):
        return
    phases: Counter[Phase] = Counter()
    for (phase, _), count in ledger.counts().items():
        phases[phase] += count
    held, doubt = phases[Phase.HELD], phases[Phase.INTENT] + phases[Phase.SUBMITTING]
    what = [f"{doubt} in doubt"] if doubt else []
    what += [f"{held} held until what they wait for has come"] if held else []
    show.err.print(
        f"no agent is running, and it has something to do: {', '.join(what)}. Start one: westward agent start",
        soft_wrap=True,
    )


def _tell_borrowed_keys() -> None:
    """Say which sites we may be let into only by an ssh-agent that ends with this login session."""
    from westward.catalogue.load import known_sites

    if not os.environ.get("SSH_AUTH_SOCK"):
        return
    names = [name for name, site in known_sites().items() if any(map(_may_borrow_its_key, site.doors))]
    if names:
        note = (
            f"after you log off these may refuse the agent: {', '.join(names)}; name a key with identity_file, or a renew_command, "
            "in their descriptions"
        )
        show.err.print(Text.assemble(("note: ", "yellow"), show.printable(note)), soft_wrap=True)


def _may_borrow_its_key(door: Door) -> bool:
    return isinstance(door, ShellDoor) and bool(door.host) and not (door.identity_file or door.renew_command)


def _holder(ledger: Ledger) -> str:
    lease = ledger.lease(LEASE)
    if lease is None:
        return "it has just ended"
    host, pid, _ = lease.holder.rsplit("/", 2)
    return f"process {pid} on {host}, for {format_duration(max(0.0, time.time() - lease.since.timestamp()))}"


def _unit_quoted(word: str) -> str:
    """A word for systemd.unit(5), which reads C escapes within quotes and its own %."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%") + '"'
