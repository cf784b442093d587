"""`dpiqa audit`: who did what."""

from typing import Annotated

import typer
from sqlalchemy import Connection

from dpiqa.cli.support import console, context, options
from dpiqa.cli.support.groups import command
from dpiqa.cli.support.output import TABLE_ROWS
from dpiqa.cli.support.pages import read_pages
from dpiqa.storage.audit import AuditEntry, AuditFilter, list_audit
from dpiqa.storage.pages import Page
from dpiqa.types import AuditAction

SinceOption = Annotated[str | None, typer.Option(help="Only entries of this time: the last 12h, 30d, 8w.")]
ActorOption = Annotated[str | None, typer.Option(help="Only of this key, by name or id; or cli, local, bootstrap.")]
SubjectOption = Annotated[str | None, typer.Option(help="Only of this job, key or address; its beginning is enough.")]


@command("audit", "dpiqa audit", "dpiqa audit --actor uploader --since 30d", "dpiqa audit --action key_create --json")
def audit(
    since: SinceOption = None,
    actor: ActorOption = None,
    action: Annotated[AuditAction | None, typer.Option(help="Only of this kind.")] = None,
    subject: SubjectOption = None,
    limit: options.LimitOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Show who submitted, cancelled, deleted, exported, and changed keys and watches, the newest first.

    Entries are kept for DPIQA_AUDIT_DAYS days.
    """
    chosen = AuditFilter(
        since=None if since is None else options.ago(since), actor=actor, action=action, subject=subject
    )

    def read_page(connection: Connection, rows: int, cursor: str | None) -> Page[AuditEntry]:
        return list_audit(connection, chosen, limit=rows, cursor=cursor)

    with context.database() as engine:
        entries = list(read_pages(engine, read_page, limit or TABLE_ROWS))
    if as_json:
        console.print_json("audit-entry@1", entries)
    elif entries:
        names = ("time", "actor", "from", "action", "subject", "detail")
        console.table(names, map(_cells, entries), whole=("time",), droppable=("detail",))
    else:
        console.note("no entries")


def _cells(entry: AuditEntry) -> tuple[object, ...]:
    detail = " ".join(f"{name}={value}" for name, value in (entry.detail or {}).items())
    actor = entry.actor if entry.key_id is None else f"{entry.actor} ({entry.key_id})"
    return entry.at, actor, entry.account or entry.address, entry.action, entry.subject, detail
