# Every recipe is a thin call that works without just, too.

set positional-arguments

_default:
    @just --list --unsorted

# Run a cluster in the foreground until Ctrl-C
cluster *args:
    cargo run --release -- cluster "$@"

# Start the nodes of nodes.json in the background
up:
    scripts/up

# Stop what `up` started
down:
    scripts/down

# Show which nodes run
ps:
    scripts/ps

# Follow what the nodes write
logs *id:
    scripts/logs "$@"

# Kill a node as a crash would
kill id:
    scripts/kill "$1"

# Start a node that is down
start id:
    scripts/start "$1"

# Check a running cluster (--own: start one for it)
smoke *addrs:
    scripts/smoke "$@"

# A dead node gets what it missed
demo-hints:
    scripts/demo-hints

# What was deleted stays deleted
demo-tombstone:
    scripts/demo-tombstone

# A stale replica is mended in the background
demo-anti-entropy:
    scripts/demo-anti-entropy

# All nodes are killed, nothing is lost
demo-restart:
    scripts/demo-restart

# All tests
test *args:
    cargo test --workspace "$@"

# All benches
bench *args:
    cargo bench --package quorate-benches "$@"

# Random faults over whole clusters in one thread: all that CI runs, or one seed again
sim *args:
    scripts/sim "$@"

# Bytes that nobody thought of: every target, or one, and how many executions each
fuzz *args:
    scripts/fuzz "$@"

# Cut a disk's power under load, again and again (Linux, root)
torture-power *args:
    scripts/torture-power "$@"

# Kill, pause, part, wipe and mislead five real nodes for minutes, and judge what their clients were told
torture *args:
    scripts/torture "$@"

# Ten times the load that three nodes of 256 MiB bear, then one that stands still (memory limits: Linux, root)
overload *args:
    scripts/overload "$@"

# A node that missed 200,000 writes comes back while clients go on, with hints and without
catch-up *args:
    scripts/catch-up "$@"

# 100,000 deletes are forgotten when all nodes are well, and not before
forget *args:
    scripts/forget "$@"

# The store beside redb, sled, fjall and RocksDB: see benches/peers/README.md
peers *args:
    cd benches/peers && cargo run --release -- "$@"

# Format, clippy, documentation
lint:
    scripts/lint

# What must be green before a commit
check: lint test
