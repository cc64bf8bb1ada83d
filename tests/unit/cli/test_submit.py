"""`westward templates`, as a user reads it."""

from __future__ import annotations

from unit.cli.test_jobs import westward
from westward.jobs.template import common_keys


def test_the_list_of_templates_names_every_key_that_all_of_them_take() -> None:
    said = westward("templates").stdout
    named = said.partition("All take: ")[2].partition("Example:")[0].split()
    assert named == common_keys()
    assert {
        "nodes",
        "array",
        "depends_on",
        "begin",
        "requeue",
        "idempotent",
        "options",
        "outputs",
        "policy",
        "currency",
    } <= {*named}
    assert not {"choices", "description"} & {*named}
