"""Back up, lose everything, restore to the moment before: `make check.restore`.

A base backup and an archive of the write-ahead log, by PostgreSQL's own means, as docs/scaling.md has it. The server is asked
afterwards, on the restored database: all that was acknowledged before the disaster must be there, and nothing of the disaster.
"""

import shutil
import sys
import time

from cluster import NODE, Cluster, Load, Node, ask_once, serving, wait, workplace

ARCHIVE = """
archive_mode = on
archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'
"""
RECOVER = """
archive_mode = off
restore_command = 'cp {archive}/%f %p'
recovery_target_time = '{moment}'
recovery_target_action = promote
"""


class Copies:
    """Backups by PostgreSQL's own means: a copy of the data, and of each segment of the log."""

    def __init__(self, node: Node) -> None:
        self.node, self.archive, self.base = node, node.folder.with_suffix(".archive"), node.folder.with_suffix(".base")
        self.archive.mkdir()
        shutil.chown(self.archive, node.folder.owner(), node.folder.group())
        node.configure(ARCHIVE.format(archive=self.archive))
        node.command("pg_ctl", "-D", node.folder, "-l", f"{node.folder}.log", "-s", "-w", "restart")

    def backup(self) -> None:
        self.node.command("pg_basebackup", "-D", self.base, "-d", self.node.url, "-c", "fast", "-X", "none")

    def keep(self) -> None:
        """See the log to the archive, up to now."""
        now = self.node.sql("SELECT clock_timestamp(), pg_switch_wal()")[0][0]
        wait("archived", lambda: self.node.sql("SELECT last_archived_time > %s FROM pg_stat_archiver", now)[0][0], 30)

    def restore(self, node: Node, moment: str) -> None:
        """Make the data of a node, as of a moment."""
        node.command("cp", "-a", self.base, node.folder)
        node.configure(RECOVER.format(archive=self.archive, moment=moment))
        (node.folder / "recovery.signal").touch()

    def stop(self) -> None:
        """Nothing of it runs by itself."""


def disaster(way: type[Copies]) -> None:
    """All rows are deleted while the server is in use, and restored to the moment before."""
    with workplace() as folder:
        cluster = Cluster(folder, nodes=1)
        node, other = cluster.primary, Node(folder, "restored", cluster.primary.programs)
        try:
            backups = way(node)
            try:
                node.sql("CREATE DATABASE stuff_test")
                with serving(folder, cluster.url()) as port:
                    with Load(port, clients=6) as load:
                        time.sleep(1)
                        backups.backup()
                        time.sleep(1)
                    moment = str(node.sql("SELECT clock_timestamp()")[0][0])
                    time.sleep(0.2)
                    with Load(port, clients=3) as late:
                        time.sleep(0.5)
                    node.sql("DELETE FROM Stuff", dbname="stuff_test")
                    backups.keep()
            finally:
                backups.stop()
            node.stop()
            began = time.monotonic()
            backups.restore(other, moment)
            other.configure(NODE.format(port=other.port))
            other.start()
            wait("promoted", lambda: not other.sql("SELECT pg_is_in_recovery()")[0][0], 60)
            took = time.monotonic() - began
            found = other.stored()
            lost, later = load.acknowledged() - found, late.acknowledged() & found
            url = f"host=127.0.0.1 port={other.port} user=postgres dbname=stuff_test"
            with serving(folder, url) as port:
                status = [ask_once(port, method, "after the disaster").status for method in ("GET", "POST")]
        finally:
            node.stop()
            other.stop()
    print(f"restored to {moment} in {took:.1f} s: lost {len(lost)} of {len(load.acknowledged())} writes before it,")
    print(f"kept {len(later)} of {len(late.acknowledged())} after it; the server on it answers {status}")
    if lost or later or status != [200, 201] or not load.acknowledged() or not late.acknowledged():
        sys.exit("not restored")


if __name__ == "__main__":
    disaster(Copies)
