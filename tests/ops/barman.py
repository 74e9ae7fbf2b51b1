"""The disaster of restore.py with Barman as the keeper of the backups: `make check.barman`.

Barman takes the base backup and receives the log by streaming, through a slot; PostgreSQL itself archives nothing.
"""

import shutil
import sys

from cluster import Node, wait
from restore import Copies, disaster

CONFIGURATION = """
[barman]
barman_user = {user}
barman_home = {home}
barman_lock_directory = {home}
log_file = {home}/barman.log

[stuff]
description = what must not be lost
conninfo = {url}
streaming_conninfo = {url}
backup_method = postgres
immediate_checkpoint = true
streaming_archiver = on
slot_name = barman
create_slot = auto
path_prefix = {programs}
"""


class Barman(Copies):
    """Backups by Barman, as the user who owns the node."""

    def __init__(self, node: Node) -> None:
        self.node, home, user = node, node.folder.with_suffix(".barman"), node.folder.owner()
        self.conf = home / "barman.conf"
        home.mkdir()
        shutil.chown(home, user, node.folder.group())
        self.conf.write_text(CONFIGURATION.format(user=user, home=home, url=node.url, programs=node.programs))
        self.barman("cron")  # starts to receive, in its own time
        wait("receiving", lambda: node.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"))
        self.keep()
        self.barman("check", "stuff")

    def barman(self, *arguments: str) -> None:
        self.node.command("barman", "-c", self.conf, *arguments)

    def backup(self) -> None:
        self.barman("backup", "--wait", "stuff")

    def keep(self) -> None:
        self.barman("switch-wal", "--force", "--archive", "--archive-timeout", "30", "stuff")

    def restore(self, node: Node, moment: str) -> None:
        target = ("--target-time", moment, "--target-action", "promote")
        self.barman("recover", *target, "stuff", "latest", str(node.folder))

    def stop(self) -> None:
        self.barman("receive-wal", "--stop", "stuff")


if __name__ == "__main__":
    if not shutil.which("barman"):
        sys.exit("barman is needed (Debian: apt install barman)")
    disaster(Barman)
