#!/bin/sh
# Makes the secrets of deploy/compose.yaml, those that do not exist yet. The files are mounted as they are, and the processes
# in the containers are other users: so they may be read, but the directory is yours alone.
#
#   deploy/compose/secrets.sh [DIRECTORY]
#
# Users' tokens are signed with jwt_secret: put your issuer's HS256 key there (32 bytes at least) before the first start, or
# give the edges and services other settings of auth.jwt.
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
chmod 700 "$directory"
cd "$directory"
umask 022

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
# NAME VALUE: whole or not at all.
keep() {
    [ -s "$1" ] && return
    printf '%s' "$2" >"$1.new"
    mv "$1.new" "$1"
    echo "made $directory/$1"
}

keep postgres_password "$(random)"
keep store_url "postgres://switchboard:$(cat postgres_password)@postgres/switchboard"
keep bus_token "$(random)"
keep nats_auth "authorization { token: \"$(cat bus_token)\" }"
keep grpc_token "$(random)"
keep jwt_secret "$(random)"
