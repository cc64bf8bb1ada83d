"""The accounting of a cluster as code: what the module slurm_accounts works with. Pure: nothing here runs a program.

`keys` has what the keys of sacctmgr(1) mean, `state` what the database holds, `wanted` what the variables say, `plan` what makes the one
into the other. Values are kept as texts, the database's or the user's; `Key.meaning` is what is compared.
"""


class Refused(Exception):
    """What is wrong with the variables, or what sacctmgr said; the text is for the user."""
