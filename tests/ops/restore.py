"""Back up, lose everything, restore to the moment before: `make check.restore`.

A base backup and an archive of the write-ahead log, by PostgreSQL's own means, as docs/scaling.md has it. The server is asked
afterwards, on the restored database: all that was acknowledged before the disaster must be there, and nothing of the disaster.
"""

import shutil
import sys
import time
from pathlib import Path

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


def archiving(node: Node, archive: Path) -> None:
    archive.mkdir()
    shutil.chown(archive, node.folder.owner(), node.folder.group())
    node.configure(ARCHIVE.format(archive=archive))
    node.command("pg_ctl", "-D", node.folder, "-l", f"{node.folder}.log", "-s", "-w", "restart")


def restore(node: Node, base: Path, archive: Path, moment: str) -> None:
    """Make a node from a base backup and the archive, as of a moment."""
    node.command("cp", "-a", base, node.folder)
    node.configure(NODE.format(port=node.port) + RECOVER.format(archive=archive, moment=moment))
    (node.folder / "recovery.signal").touch()
    node.start()
    wait("promoted", lambda: not node.sql("SELECT pg_is_in_recovery()")[0][0], 60)


def main() -> None:
    with workplace() as folder:
        cluster = Cluster(folder, nodes=1)
        node, archive, base = cluster.primary, folder / "archive", folder / "base"
        other = Node(folder, "restored", node.programs)
        try:
            archiving(node, archive)
            node.sql("CREATE DATABASE stuff_test")
            with serving(folder, cluster.url()) as port:
                with Load(port, clients=6) as load:
                    time.sleep(1)
                    node.command("pg_basebackup", "-D", base, "-d", node.url, "-c", "fast", "-X", "none")
                    time.sleep(1)
                moment = str(node.sql("SELECT clock_timestamp()")[0][0])
                time.sleep(0.2)
                with Load(port, clients=3) as late:
                    time.sleep(0.5)
                node.sql("DELETE FROM Stuff", dbname="stuff_test")
                node.sql("SELECT pg_switch_wal()")
                wait("archived", lambda: node.sql("SELECT last_archived_time > %s FROM pg_stat_archiver", moment)[0][0], 30)
            node.stop()
            began = time.monotonic()
            restore(other, base, archive, moment)
            took = time.monotonic() - began
            found = {row[0] for row in other.sql("SELECT stuff FROM Stuff", dbname="stuff_test")}
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
    main()
