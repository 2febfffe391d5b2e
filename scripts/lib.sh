# Shared by the scripts beside it; sourced, not run.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
config=${QUORATE_CONFIG:-$root/nodes.json}
data_dir=${QUORATE_DATA_DIR:-$root/data}

say() { printf '%s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

# Builds the program once and prints its path; QUORATE_BIN names another one.
program() {
    if [[ -z ${QUORATE_BIN:-} ]]; then
        cargo build --quiet --release --package quorate --manifest-path "$root/Cargo.toml" >&2
        QUORATE_BIN=${CARGO_TARGET_DIR:-$root/target}/release/quorate
    fi
    printf '%s' "$QUORATE_BIN"
}

# One line `id addr` for each node of the configuration.
nodes() {
    tr '\n' ' ' <"$config" | grep -o '{[^{}]*"addr"[^{}]*}' |
        sed -E 's/.*"id" *: *"([^"]*)".*/\1 &/; s/ .*"addr" *: *"([^"]*)".*/ \1/'
}

ids() { nodes | cut -d ' ' -f 1; }

# The address of node $1.
addr_of() {
    local found
    found=$(nodes | sed -n "s/^$1 //p")
    [[ -n $found ]] || fail "$config has no node $1; it lists $(ids | tr '\n' ' ')"
    printf '%s' "$found"
}

# http METHOD ADDR PATH [BODY]: prints the status, a line feed, and the body; 000 if nobody answers.
http() {
    local method=$1 addr=$2 path=$3 body=${4-} status line
    local LC_ALL=C # lengths are in bytes
    {
        exec 3<>"/dev/tcp/${addr%:*}/${addr##*:}"
    } 2>/dev/null || {
        echo 000
        return
    }
    printf '%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s' \
        "$method" "$path" "$addr" "${#body}" "$body" >&3 2>/dev/null || true
    read -r -t 10 _ status _ <&3 || status=000
    printf '%s\n' "$status"
    while read -r -t 10 line <&3 && [[ $line != $'\r' ]]; do :; done
    cat <&3 2>/dev/null || true
    exec 3>&-
}

status_of() { (http "$@") | sed -n 1p; }
body_of() { (http "$@") | tail -n +2; }

# expect STATUS METHOD ADDR PATH [BODY]: fails unless the node answers with this status.
expect() {
    local expected=$1 status
    shift
    status=$(status_of "$@")
    [[ $status == "$expected" ]] || fail "$1 http://$2$3 gave $status, not $expected"
}

# expect_body BODY ADDR PATH: fails unless a GET gives exactly this.
expect_body() {
    local body
    expect 200 GET "$2" "$3"
    body=$(body_of GET "$2" "$3")
    [[ $body == "$1" ]] || fail "GET http://$2$3 gave '$body', not '$1'"
}

# within SECONDS WHAT COMMAND...: asks until COMMAND succeeds.
within() {
    local seconds=$1 what=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until "$@"; do
        ((SECONDS < end)) || fail "$what: not within $seconds seconds"
        sleep 0.1
    done
}

is_ready() { [[ $(status_of GET "$(addr_of "$1")" /ready) == 200 ]]; }

# How many hints node $1 holds; empty if it does not say.
hints_at() { body_of GET "$(addr_of "$1")" /debug/hints | grep -oE '"count": ?[0-9]+' | head -n 1 | grep -oE '[0-9]+$' || true; }

# What node $1 says of its store in field $2.
persisted_at() { body_of GET "$(addr_of "$1")" /debug/persist | jq ".$2"; }

# The seconds since $1, an EPOCHREALTIME that has a point in it, in thousandths.
seconds_since() { jq -n "($EPOCHREALTIME - $1) * 1000 | floor / 1000"; }

has_no_hints() { [[ $(hints_at "$1") == 0 ]]; }

# Whether node $1 itself holds a record of key $2 (a live one, or with $3 = deleted a tombstone).
holds() {
    local answer kind=live
    answer=$(body_of POST "$(addr_of "$1")" /internal/get "{\"key\":\"$2\"}" | tr -d ' \n')
    [[ $answer == *'"found":true'* ]] || return 1
    if [[ $answer == *'"deleted":true'* ]]; then kind=deleted; fi
    [[ $kind == "${3:-live}" ]]
}

pid_file() { printf '%s/%s.pid' "$data_dir" "$1"; }

# The command line of process $1.
command_of() {
    if [[ -d /proc/self ]]; then
        tr '\0' ' ' <"/proc/$1/cmdline"
    else
        ps -ww -o args= -p "$1"
    fi 2>/dev/null || true
}

# The process of node $1 that these scripts started, if it still runs. A number that has since been
# given to another program does not count.
pid_of() {
    local pid
    pid=$(cat "$(pid_file "$1")" 2>/dev/null) || return 1
    [[ $(command_of "$pid") == *"serve --id $1 "* ]] || return 1
    printf '%s' "$pid"
}

# Starts node $1 in the background.
start_node() {
    local bin
    addr_of "$1" >/dev/null
    if pid_of "$1" >/dev/null; then fail "$1 runs already"; fi
    bin=$(program)
    mkdir -p "$data_dir"
    nohup "$bin" serve --id "$1" --config "$config" --data-dir "$data_dir/$1" \
        >>"$data_dir/$1.log" 2>&1 </dev/null &
    echo $! >"$(pid_file "$1")"
    disown # so that bash does not report its end
}

# Waits until node $1 is ready, or says why it is not.
await_node() {
    local end=$((SECONDS + 30))
    until is_ready "$1"; do
        pid_of "$1" >/dev/null || fail "$1 has ended: $(tail -n 3 "$data_dir/$1.log")"
        ((SECONDS < end)) || fail "$1 is not ready: $(body_of GET "$(addr_of "$1")" /ready)"
        sleep 0.1
    done
}

# Starts all nodes that do not run, and waits for them.
start_all() {
    local id
    for id in $(ids); do
        pid_of "$id" >/dev/null || start_node "$id"
    done
    for id in $(ids); do await_node "$id"; done
}

# stop_node ID SIGNAL: ends the process that was started for the node, if there is one.
stop_node() {
    local pid end=$((SECONDS + 15))
    if pid=$(pid_of "$1"); then
        kill "-$2" "$pid" 2>/dev/null || true
        while pid_of "$1" >/dev/null; do
            ((SECONDS < end)) || kill -KILL "$pid" 2>/dev/null || true
            sleep 0.05
        done
    fi
    rm -f "$(pid_file "$1")"
}

# stop_all SIGNAL: ends all nodes that were started.
stop_all() {
    local id
    for id in $(ids); do stop_node "$id" "$1"; done
}

missed=0
# bar WHAT FIGURE TEST BOUND: prints a figure and whether it meets its bar.
bar() {
    local verdict=ok
    awk -v a="$2" -v b="$4" "BEGIN {exit !(a $3 b)}" || { verdict=MISSED && missed=1; }
    printf '  %-62s %12s  %s %-10s %s\n' "$1" "$2" "$3" "$4" "$verdict"
}

# Ends the nodes of this script's own cluster, and removes what they kept.
end_own_cluster() {
    stop_all KILL
    rm -rf "$data_dir"
}

# Starts a cluster of three nodes of this script's own, on ports and in a folder that nobody else
# uses; both are given back when the script ends.
own_cluster() {
    local port i
    data_dir=$(mktemp -d)
    config=$data_dir/nodes.json
    for ((i = 0; i < 50; i++)); do
        port=$((21000 + RANDOM % 10000))
        [[ $(status_of GET "127.0.0.1:$port" /)$(status_of GET "127.0.0.1:$((port + 1))" /)$(
            status_of GET "127.0.0.1:$((port + 2))" /
        ) == 000000000 ]] && break
    done
    cat >"$config" <<JSON
{"nodes": [{"id": "n1", "addr": "127.0.0.1:$port"},
           {"id": "n2", "addr": "127.0.0.1:$((port + 1))"},
           {"id": "n3", "addr": "127.0.0.1:$((port + 2))"}]}
JSON
    trap end_own_cluster EXIT
    trap 'exit 130' INT TERM
    QUORATE_BIN=$(program)
    start_all
    say "three nodes on 127.0.0.1:$port to $((port + 2))"
}
