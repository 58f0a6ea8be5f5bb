"""Admin: accounts and keys, usage, sources, deletions, the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nicegui import ui

from agora.server.accounts import SCOPES, NewKey
from agora.server.api.holdings import NewDeletion
from agora.server.web.parts import (
    box,
    button,
    choice,
    count,
    day,
    empty,
    moment,
    note,
    on_enter,
    sheet,
    sub_pages,
    table,
    text,
    tile,
    waiting,
)
from agora.server.web.site import Shown, Site, Viewer, formed, loaded, quick

TABS = {"keys": "Accounts and keys", "usage": "Usage", "sources": "Sources", "deletions": "Deletions", "audit": "Audit log"}


def add_pages(site: Site) -> None:
    """/admin"""

    @site.page("/admin", "Admin", "admin")
    def show(viewer: Viewer, tab: str = "keys") -> None:
        _Admin(site, viewer).build(tab if tab in TABS else "keys")


class _Admin:
    """One tab of the page; each has an address of its own."""

    def __init__(self, site: Site, viewer: Viewer) -> None:
        self.site, self.viewer = site, viewer

    def build(self, tab: str) -> None:
        text("h1", "Admin")
        sub_pages({f"/admin?tab={key}": name for key, name in TABS.items()}, f"/admin?tab={tab}")
        self.area = box("stack wide")
        with self.area:
            waiting(5)
        loaded(
            self.area,
            {"keys": self.keys, "usage": self.usage, "sources": self.sources, "deletions": self.deletions, "audit": self.audit}[tab],
        )

    async def keys(self) -> None:
        accounts = await self.site.call(self.viewer, self.site.people.accounts.all)
        keys = await self.site.call(self.viewer, self.site.people.accounts.keys)
        num_people = await self.site.call(self.viewer, self.site.people.accounts.num_people)
        self.area.clear()
        with self.area:
            if not num_people:
                note("No accounts: whoever reaches this port from this machine may do everything. An account ends that.", "warn")
            with box("card"):
                with box("line apart"):
                    text("h2", "Accounts")
                    button("Add an account", self.add_account, "main", "person_add")
                for one in accounts:
                    with box("line apart").style("border-top:1px solid var(--line); padding-top:8px"):
                        with box("line").style("width:auto"):
                            text("span", one["name"], "strong wrap")
                            for scope in one["scopes"]:
                                text("span", scope, "chip")
                            if one["disabled_at"]:
                                text("span", "disabled", "chip bad")
                        with box("line").style("width:auto"):
                            button("New key", lambda one=one: self.add_key(one["name"]), "ghost", "key")
                            is_off = bool(one["disabled_at"])
                            button(
                                "Enable" if is_off else "Disable", lambda one=one, off=is_off: self.change(one["name"], not off), "ghost"
                            )
            with box("card"):
                text("h2", "Keys")
                if not keys:
                    text("p", "No keys yet. A key lets programs ask: OpenAI's clients, scripts, other servers.", "soft")
                for one in keys:
                    with box("line apart").style("border-top:1px solid var(--line); padding-top:8px"):
                        with box("stack tight grow"):
                            with box("line"):
                                text("span", one["name"], "strong wrap")
                                text("code", one["shown"])
                                if one["revoked_at"]:
                                    text("span", "revoked", "chip")
                            used = f"last used {moment(one['last_used_at'])}" if one["last_used_at"] else "never used"
                            text("p", f"{one['account']}  ·  {', '.join(one['scopes'])}  ·  {used}", "small soft wrap")
                        if not one["revoked_at"]:
                            button("Revoke", lambda one=one: self.revoke(one["id"]), "danger")

    def add_account(self) -> None:
        with sheet("Add an account") as dialog:
            name = ui.input("Name").props("outlined dense autofocus maxlength=64")
            password = ui.input("Password, for signing in here", password=True, password_toggle_button=True).props("outlined dense")
            scopes = ui.select(
                {key: f"{key}: {words}" for key, words in SCOPES.items()}, value=["member"], multiple=True, label="May"
            ).props("outlined dense use-chips")

            async def add() -> None:
                people, who = self.site.people, self.viewer.caller.name
                named, allowed, secret = name.value or "", list(scopes.value), password.value or None

                def work() -> None:
                    people.accounts.add(named, scopes=allowed, password=secret)
                    people.audit.add(who, "accounts.add", named, scopes=allowed)

                if await self.does(work):
                    dialog.close()
                    await self.again()

            on_enter(name, add)
            on_enter(password, add)
            with box("line"):
                button("Add", add, "main")
                button("Cancel", dialog.close, "plain")

    async def change(self, name: str, is_disabled: bool) -> None:
        people, who = self.site.people, self.viewer.caller.name

        def work() -> None:
            people.accounts.change(name, is_disabled=is_disabled)
            people.audit.add(who, "accounts.change", name, is_disabled=is_disabled)

        if await self.does(work):
            await self.again()

    async def add_key(self, account: str) -> None:
        people, who = self.site.people, self.viewer.caller.name

        def work() -> NewKey:
            new = people.accounts.new_key(account, name="key")
            people.audit.add(who, "keys.add", str(new.id), account=account)
            return new

        try:
            made = await self.site.call(self.viewer, work)
        except Shown as problem:
            quick(problem)
            return
        await self.again()
        with self.area, sheet("The new key") as dialog:
            text("p", "It is shown once: only its hash is kept.", "soft")
            text("code", made.secret, "wrap")
            with box("line"):
                button("Copy", lambda: ui.clipboard.write(made.secret), "plain", "content_copy")
                button("Done", dialog.close, "main")

    async def revoke(self, key: int) -> None:
        people, who = self.site.people, self.viewer.caller.name

        def work() -> None:
            people.accounts.revoke(key)
            people.audit.add(who, "keys.revoke", str(key))

        if await self.does(work):
            await self.again()

    async def does(self, work: Callable[[], None]) -> bool:
        """Whether an action and its line in the audit log are done; what hinders them is told."""
        try:
            await self.site.call(self.viewer, work)
        except Shown as problem:
            quick(problem)
            return False
        return True

    async def again(self) -> None:
        """The list as it is now."""
        try:
            await self.keys()
        except Shown as problem:
            quick(problem)

    async def usage(self) -> None:
        rows = await self.site.call(self.viewer, self.site.people.usage.read)
        self.area.clear()
        with self.area:
            if not rows:
                empty("Nothing was asked yet", "Requests and tokens are counted by day, caller, key and route.")
                return
            with box("tiles"):
                tile("Requests", count(sum(row["requests"] for row in rows)))
                tile("Tokens read", count(sum(row["prompt_tokens"] for row in rows)))
                tile("Tokens written", count(sum(row["completion_tokens"] for row in rows)))
            with box("card"):
                table(
                    ("day", "who", "key", "route", "requests", "read", "written"),
                    [
                        (
                            day(row["day"]),
                            row["who"],
                            row["key_name"] or "",
                            row["route"],
                            row["requests"],
                            row["prompt_tokens"],
                            row["completion_tokens"],
                        )
                        for row in rows[:500]
                    ],
                    numbers=(4, 5, 6),
                )

    async def sources(self) -> None:
        found = await self.site.call(self.viewer, self.site.areas.holdings.sources)
        self.area.clear()
        with self.area:
            with box("tiles"):
                tile("Posts", f"{found.posts:,}")
                tile("Accounts", f"{found.accounts:,}")
                tile("From", day(found.first), f"to {day(found.last)}")
                tile("Deletions", f"{found.deletions:,}")
            with box("thirds"):
                for title, counts in (("Source", found.sources), ("Kind", found.kinds), ("Language", found.langs)):
                    with box("card"):
                        text("h2", title)
                        table(("", "posts"), [(name, f"{number:,}") for name, number in list(counts.items())[:20]], numbers=(1,))
            if found.quarantined:
                with box("card"):
                    text("h2", "Quarantine")
                    text("p", "Records that could not be read lie in these files.", "soft")
                    for name in found.quarantined:
                        text("code", name, "wrap")

    async def deletions(self) -> None:
        known = await self.site.call(self.viewer, self.site.areas.holdings.deletions)
        self.area.clear()
        with self.area:
            with box("card"):
                text("h2", "Delete")
                text("p", "Posts, or everything of an account, with reposts of it. It does not come back with a later import.", "soft")
                kind = choice({"posts": "Posts", "authors": "Accounts"}, "posts", name="What is deleted")
                keys = ui.textarea("One id or account a line").props("outlined autogrow")

                def confirm() -> None:
                    named = [line.strip() for line in (keys.value or "").splitlines() if line.strip()]
                    if not named:
                        ui.notify("Name what is to be deleted.")
                        return
                    names = {"posts": ("post", "posts"), "authors": ("account with all it wrote", "accounts with all they wrote")}
                    with sheet(f"Delete {len(named)} {names[kind.value][len(named) > 1]}?") as dialog:
                        text("p", ", ".join(named[:20]), "wrap")
                        with box("line"):
                            button("Delete for good", lambda: self.delete(kind.value, named, dialog), "danger")
                            button("Cancel", dialog.close, "plain")

                with box("line"):
                    button("Delete", confirm, "danger")
            with box("card"):
                text("h2", "Deleted so far")
                if known:
                    table(("when", "what", "key"), [(moment(one.at), one.kind, one.key) for one in known])
                else:
                    text("p", "Nothing was deleted.", "soft")

    async def delete(self, kind: str, named: list[str], dialog: ui.dialog) -> None:
        try:
            body = formed(NewDeletion, **{kind: named})
            done = await self.site.call(self.viewer, self.site.areas.holdings.delete, self.viewer.caller, body)
        except Shown as problem:
            quick(problem)
            return
        dialog.close()
        ui.notify(f"{done.removed:,} posts removed.", type="positive")
        await self.deletions()

    async def audit(self) -> None:
        rows: list[dict[str, Any]] = await self.site.call(self.viewer, self.site.people.audit.read, limit=200)
        self.area.clear()
        with self.area:
            if not rows:
                empty("Nothing yet", "Verdicts, deletions, keys, accounts, ads and promotions of models are written down here.")
                return
            with box("card"):
                table(
                    ("when", "who", "did", "what", "details"),
                    [
                        (moment(row["at"]), row["who"], row["action"], row["what"], json.dumps(row["details"], ensure_ascii=False)[:300])
                        for row in rows
                    ],
                )
