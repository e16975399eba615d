"""A whole S3 server in one process: OpenStack Swift (account, container, object, proxy with s3api) on loopback.

Run by the interpreter that Debian's python3-swift belongs to: ``/usr/bin/python3 swift_node.py FOLDER PORT``. PORT 0
takes a free one. Prints ``PORT\\n`` once it serves, and ends with its standard input. No root, /etc/swift or memcached:
the hash path and the storage policy are read from FOLDER.
"""

import sys
import threading
import time
from pathlib import Path

import eventlet

eventlet.monkey_patch(thread=False)

from eventlet import wsgi  # noqa: E402

now = time.time
ACCESS_KEY, SECRET_KEY, REGION = "test:tester", "testing", "us-east-1"
SWIFT_CONF = """
[swift-hash]
swift_hash_path_suffix = headlift
swift_hash_path_prefix = headlift
[storage-policy:0]
name = gold
default = yes
"""
BACKEND_CONF = """
[DEFAULT]
swift_dir = {folder}
devices = {folder}/srv
mount_check = false
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
PROXY_CONF = """
[DEFAULT]
swift_dir = {folder}
[pipeline:main]
pipeline = catch_errors listing_formats bulk s3api tempauth slo dlo symlink versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
check_bucket_owner = false
location = {region}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:symlink]
use = egg:swift#symlink
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""


def main(folder: Path, port: int) -> None:
    """Serve until standard input ends."""
    (folder / "srv/d1").mkdir(parents=True, exist_ok=True)
    (folder / "swift.conf").write_text(SWIFT_CONF)
    from swift.common import utils

    utils.SWIFT_CONF_FILE = str(folder / "swift.conf")
    utils.validate_hash_conf()
    from swift.common.storage_policy import reload_storage_policies

    reload_storage_policies()
    serve(folder, port)


def serve(folder: Path, port: int) -> None:
    """Listen first, so that rings can be written with ports that are really free; then load what answers."""
    from swift.common.wsgi import ConfigString, loadapp

    sockets = {kind: eventlet.listen(("127.0.0.1", 0)) for kind in ("account", "container", "object")}
    for kind, listening in sockets.items():
        build_ring(folder / f"{kind}.ring.gz", listening.getsockname()[1])
    confs = {kind: BACKEND_CONF.format(folder=folder, kind=kind) for kind in sockets}
    confs["proxy"] = PROXY_CONF.format(folder=folder, region=REGION, secret=SECRET_KEY)
    sockets["proxy"] = eventlet.listen(("127.0.0.1", port), backlog=256, reuse_port=False)
    for kind, conf in confs.items():
        app = with_cache(loadapp(ConfigString(conf), global_conf={"log_name": kind}))
        eventlet.spawn(wsgi.server, sockets[kind], app, log_output=False)
    eventlet.sleep(0)
    sys.stdout.write(f"{sockets['proxy'].getsockname()[1]}\n")
    sys.stdout.flush()
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        eventlet.sleep(0.2)


class Cache:
    """What Swift asks of memcached, for one process."""

    def __init__(self) -> None:
        self._kept = {}

    def get(self, key, **_):
        """The value, while its time has not come."""
        value, until = self._kept.get(key, (None, 0.0))
        return value if until == 0.0 or now() < until else None

    def set(self, key, value, time=0, **_):
        """Keep for ``time`` seconds; 0 is for ever."""
        self._kept[key] = (value, now() + time if time else 0.0)

    def delete(self, key, **_):
        """Forget."""
        self._kept.pop(key, None)

    def incr(self, key, delta=1, time=0, **_):
        """Count."""
        value = int(self.get(key) or 0) + delta
        self.set(key, value, time)
        return value


def with_cache(app):
    """``app`` with the cache where Swift's own middleware would put memcached."""
    cache = Cache()

    def call(environ, start_response):
        environ["swift.cache"] = cache
        return app(environ, start_response)

    return call


def build_ring(path: Path, port: int) -> None:
    """A ring of one device."""
    from swift.common.ring import RingBuilder

    builder = RingBuilder(2, 1, 0)
    device = {"id": 0, "region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1.0}
    builder.add_dev(device | {"replication_ip": "127.0.0.1", "replication_port": port, "meta": ""})
    builder.rebalance()
    builder.get_ring().save(str(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
