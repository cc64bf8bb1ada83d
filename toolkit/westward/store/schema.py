"""The tables of the ledger, and how an older one becomes this one."""

from __future__ import annotations

import sqlalchemy as sql

from westward.store.database import VERSION
from westward.store.rows import SENT_AGAIN

metadata = sql.MetaData()
schema = sql.Table("schema", metadata, sql.Column("version", sql.Integer, nullable=False))
# what a list or a poll needs stands first: SQLite reads a row from its beginning, and the texts at the end are long
jobs = sql.Table(
    "jobs",
    metadata,
    sql.Column("key", sql.String(12), primary_key=True),
    sql.Column("phase", sql.Text, nullable=False),
    sql.Column("state", sql.Text, nullable=False),
    sql.Column("site", sql.Text, nullable=False),
    sql.Column("job_id", sql.BigInteger),
    sql.Column("slurm_name", sql.Text, nullable=False),
    sql.Column("created_at", sql.Float, nullable=False, index=True),
    sql.Column("reason", sql.Text, nullable=False, default=""),
    sql.Column("exit_code", sql.Integer),
    sql.Column("signal", sql.Integer),
    sql.Column("attempts", sql.Integer, nullable=False, default=0),
    sql.Column("restarts", sql.Integer, nullable=False, default=0),
    sql.Column("cancelled", sql.Boolean, nullable=False, default=False),
    sql.Column("cancel_sent", sql.Boolean, nullable=False, default=False),
    sql.Column("attempted_at", sql.Float),
    sql.Column("twins_searched_at", sql.Float),
    sql.Column("seen_at", sql.Float),
    sql.Column("missing_since", sql.Float),
    sql.Column("started_at", sql.Float),
    sql.Column("ended_at", sql.Float),
    sql.Column("estimated_start", sql.Float),
    sql.Column("claim", sql.Text),
    sql.Column("claimed_at", sql.Float),
    sql.Column("sweep", sql.String(12)),
    sql.Column("project", sql.Text),
    sql.Column("currency", sql.Text),
    sql.Column("limit_s", sql.Float),
    sql.Column("ran_before_s", sql.Float),
    sql.Column("money", sql.Float),
    sql.Column("accelerator_hours", sql.Float),
    sql.Column("carbon_kg", sql.Float),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("template", sql.Text),
    sql.Column("waits_for", sql.JSON, nullable=False, default=list),
    sql.Column("tasks", sql.JSON, nullable=False, default=dict),
    sql.Column("task_ids", sql.JSON, nullable=False, default=dict),
    sql.Column("outputs", sql.JSON, nullable=False),
    sql.Column("submission", sql.JSON, nullable=False),
    sql.Column("decision", sql.JSON, nullable=False),
    sql.Column("config", sql.JSON),
    sql.Column("origin", sql.String(64)),
    sql.Index("jobs_by_phase", "phase", "site", "state"),
    sql.Index("jobs_of_sweep", "sweep"),
    sql.Index("jobs_by_project", "project", "created_at"),
)
sweeps = sql.Table(
    "sweeps",
    metadata,
    sql.Column("key", sql.String(12), primary_key=True),
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("template", sql.Text),
    sql.Column("site", sql.Text),
    sql.Column("created_at", sql.Float, nullable=False, index=True),
    sql.Column("overrides", sql.JSON, nullable=False),
    sql.Column("shapes", sql.JSON, nullable=False),
)
points = sql.Table(
    "points",
    metadata,
    sql.Column("sweep", sql.String(12), primary_key=True),
    sql.Column("number", sql.Integer, primary_key=True, autoincrement=False),
    sql.Column("job", sql.String(12), nullable=False),
    sql.Column("task", sql.Integer),
    sql.Column("shape", sql.Integer, nullable=False),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("overrides", sql.JSON, nullable=False),
    sql.Column("command", sql.JSON, nullable=False),
    sql.Column("env", sql.JSON, nullable=False),
)
# where jobs were submitted from, by the digest of what is said of it: many jobs share one
origins = sql.Table(
    "origins",
    metadata,
    sql.Column("digest", sql.String(64), primary_key=True),
    sql.Column("said", sql.JSON, nullable=False),
)
sites = sql.Table(
    "sites",
    metadata,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("answered_at", sql.Float),
    sql.Column("silent_since", sql.Float),
    sql.Column("problem", sql.Text, nullable=False, default=""),
)
leases = sql.Table(
    "leases",
    metadata,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("holder", sql.Text, nullable=False),
    sql.Column("since", sql.Float, nullable=False),
    sql.Column("until", sql.Float, nullable=False),
)


def prepare(db: sql.Connection) -> int | None:
    """Make the tables where there are none, and bring older ones up to date; the version found then."""
    there = set(sql.inspect(db).get_table_names())
    if jobs.name not in there:
        _create(db)
        db.execute(sql.insert(schema).values(version=VERSION))
    if schema.name not in there and jobs.name in there:
        return None
    found = db.execute(sql.select(schema.c.version)).scalar()
    if found in (1, 2, 3):
        _made_anew(db)
        found = VERSION
    return found


def _create(db: sql.Connection) -> None:
    metadata.create_all(db)
    # these few are looked for again and again; both databases use it for exactly this condition. In words, since to say it of a Table
    # loads every driver of PostgreSQL there is, whenever a command starts
    db.execute(sql.text(f"CREATE INDEX jobs_sent_again ON jobs (attempts) WHERE {SENT_AGAIN}"))


def _made_anew(db: sql.Connection) -> None:
    """Older versions had the same jobs, without some columns or in another order: 1 knew neither sites nor leases, 2 no sweeps, 3 not
    what a job ran before it was put back."""
    old = sql.Table("jobs", sql.MetaData(), autoload_with=db)
    rows = [dict(row._mapping) for row in db.execute(sql.select(old))]
    old.drop(db)
    _create(db)
    for row in rows:
        row = {name: value for name, value in row.items() if name in jobs.c}
        db.execute(sql.insert(jobs).values(**{"slurm_name": row["submission"]["name"], **row}))
    db.execute(sql.update(schema).values(version=VERSION))
