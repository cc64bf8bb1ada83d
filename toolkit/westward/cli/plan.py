"""`westward plan`: everything that submit would do, and nothing done."""

from __future__ import annotations

from rich.syntax import Syntax
from rich.text import Text

from westward.catalogue.load import load_catalogue
from westward.cli import show
from westward.cli.arguments import Multirun, Overrides, SiteOption, TemplateName
from westward.cli.multirun import plan_points
from westward.federation.deciding import decide
from westward.federation.router import chosen_offer
from westward.model.job import KEY_LENGTH
from westward.slurm.script import render


def plan(
    template: TemplateName,
    overrides: Overrides = None,
    site: SiteOption = None,
    multirun: Multirun = False,
    as_json: show.AsJson = False,
) -> None:
    """Show what submit would do, and do nothing: the offers of all sites with their costs, and the script.

    Of several jobs (-m): where each goes, and what it costs there.
    """
    if multirun:
        plan_points(template, overrides or [], site, as_json)
        return
    catalogue = load_catalogue()
    composed, decision = decide(template, overrides or [], site, catalogue)
    if as_json:
        show.print_json(show.decision_facts(decision))
    else:
        show.out.print(show.decision_table(decision, composed.spec.name))
    offer = chosen_offer(decision, site)
    if not as_json:
        script = render(composed.spec, offer, catalogue.sites[offer.site], "k" * KEY_LENGTH).script
        show.out.print(
            Text(f"script for {offer.site} ({'k' * KEY_LENGTH} stands for the key that submit makes)", style="bold")
        )
        if show.out.is_terminal:
            show.out.print(Syntax(script, "bash", background_color="default", word_wrap=True))
        else:
            show.out.print(Text(script), soft_wrap=True)
