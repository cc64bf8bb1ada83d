#!/usr/bin/python
"""Accounting as code: brings what slurmdbd knows of accounts, users and QOS to what the variables say, and changes only what differs.

What that means and in which order it is done is in module_utils/sacctmgr; here the programs are run.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.sacctmgr import Refused
from ansible.module_utils.sacctmgr.plan import Plan, as_text, in_the_way, make_plan
from ansible.module_utils.sacctmgr.state import QUERIES, State, parse_state
from ansible.module_utils.sacctmgr.wanted import check_references, parse_wanted

DOCUMENTATION = r"""
module: slurm_accounts
short_description: Accounts, users, QOS, shares and limits in Slurm's accounting
description:
  - Compares by meaning, so the order of TRES, units, forms of a time and case make no difference.
  - Runs on a host where sacctmgr and squeue work, as root or another administrator of the accounting.
  - A key of sacctmgr that is not mentioned is left alone and told in C(drift); with I(exclusive) it is set back. The word C(omit), or null,
    sets one back in any case. Description and organization that are not mentioned are left alone.
  - The account and user root and the QOS normal are never removed, nor is what other clusters of the same database use. Where jobs run or
    wait, nothing at all is changed if something of theirs were to be removed.
options:
  cluster: {description: Slurm's ClusterName. Registered if it is not., type: str, required: true}
  qos: {description: "Each a name and native parameters.", type: list, elements: dict}
  accounts: {description: "Each a name, parent, description, organization and native parameters.", type: list, elements: dict}
  users: {description: "Each a name, accounts, default_account, admin_level and native parameters of its associations.", type: list,
    elements: dict}
  exclusive: {description: Whether what is not named is removed. A list that is left out is of no concern., type: bool, default: false}
author: [Westward]
"""

RETURN = r"""
commands: {description: What was run to change something; in check mode, what would be., type: list, elements: str, returned: always}
drift: {description: What is in the database and not in the variables; with I(exclusive) it was removed., type: list, elements: str,
  returned: always}
"""

TIMEOUT_S = 300  # slurmdbd can take this long over a large change; a sacctmgr that hangs is not waited for for ever


def run(*argv: str) -> str:
    """What a program printed. Refused, in its words, where it failed; FileNotFoundError where it is not installed."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise Refused(
            f"{' '.join(argv)}: no end after {TIMEOUT_S} s; is slurmdbd busy? (journalctl -u slurmdbd)"
        ) from None
    if done.returncode:
        said = "\n".join(filter(None, (done.stderr.strip(), done.stdout.strip()))) or f"exit status {done.returncode}"
        raise Refused(f"{_quoted(argv)}: {said}{_advice(said)}")
    return done.stdout


def _advice(said: str) -> str:
    if re.search(r"talking to the database|persistent connection|PersistInit|Connection refused", said):
        return "\nslurmdbd does not answer: systemctl status slurmdbd on its host"
    if "no TRES known" in said:
        return "\nAccountingStorageTRES of slurm.conf names the TRES that can be limited; slurmctld tells slurmdbd when it starts"
    return ""


def _quoted(argv: Sequence[str]) -> str:
    """To be read, and pasted into a shell."""
    return " ".join(
        word if re.fullmatch(r"[\w@%+=:,./-]+", word) else "'" + word.replace("'", "'\\''") + "'" for word in argv
    )


def read_state(cluster: str) -> State:
    return parse_state(cluster, {name: run("sacctmgr", "-nP", *query) for name, query in QUERIES.items()})


def look(module: AnsibleModule) -> Plan:
    """What is to be done, of what is there now."""
    params = module.params
    managed = [
        kind for kind, key in (("qos", "qos"), ("account", "accounts"), ("user", "users")) if params[key] is not None
    ]
    wanted = parse_wanted(params)
    try:
        state = read_state(params["cluster"])
    except FileNotFoundError:
        if not module.check_mode:
            raise Refused("sacctmgr is not installed on this host") from None
        # a host that is yet to be provisioned
        return make_plan(params["cluster"], wanted, State(), managed, exclusive=False)
    check_references(wanted, state, managed if params["exclusive"] else [])
    return make_plan(params["cluster"], wanted, state, managed, params["exclusive"])


def look_for_jobs(cluster: str, plan: Plan) -> None:
    """Refused where jobs are in the way of a removal."""
    if not plan.removed:
        return
    queue = run("squeue", f"--clusters={cluster}", "--all", "--noheader", "--format=%i|%a|%u|%q")
    found = in_the_way(plan.removed, queue)
    if found:
        raise Refused(f"nothing was changed, since jobs run or wait of what is to be removed: {'; '.join(found)}")


def apply(module: AnsibleModule, plan: Plan, done: list[str]) -> None:
    """Step by step, noted in `done`; then looks again whether all of it was taken."""
    for step in plan.steps:
        run("sacctmgr", *step.argv)
        done.append(_quoted(["sacctmgr", *step.argv]))
    if done:
        left = look(module).steps
        if left:
            raise Refused(
                "sacctmgr took everything, and still differs: " + "; ".join(_quoted(step.argv) for step in left)
            )


def main() -> None:
    """The module's entry."""
    entry = {"name": {"type": "str", "required": True}, "parameters": {"type": "dict"}}
    text = {"type": "str"}
    account = {**entry, "parent": text, "description": text, "organization": text}
    user = {
        **entry,
        "accounts": {"type": "list", "elements": "raw", "required": True},
        "default_account": text,
        "admin_level": text,
    }
    module = AnsibleModule(
        argument_spec={
            "cluster": {"type": "str", "required": True},
            "qos": {"type": "list", "elements": "dict", "options": entry},
            "accounts": {"type": "list", "elements": "dict", "options": account},
            "users": {"type": "list", "elements": "dict", "options": user},
            "exclusive": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    plan, done = Plan(), []  # type: tuple[Plan, list[str]]
    try:
        plan = look(module)
        look_for_jobs(module.params["cluster"], plan)
        if not module.check_mode:
            apply(module, plan, done)
    except (Refused, OSError) as error:
        before = "".join(f"\n  {command}" for command in done)
        before = f"\ndone before that:{before}" if done else ""
        module.fail_json(msg=f"{error}{before}", changed=bool(done), commands=done, drift=plan.drift)
    if plan.drift and not module.params["exclusive"]:
        module.warn("in the accounting and not in the variables, left as it is: " + "; ".join(plan.drift))
    module.exit_json(
        changed=bool(plan.steps),
        commands=[_quoted(["sacctmgr", *step.argv]) for step in plan.steps],
        drift=plan.drift,
        diff={"before": as_text(plan.changes, after=False), "after": as_text(plan.changes, after=True)},
    )


if __name__ == "__main__":
    main()
