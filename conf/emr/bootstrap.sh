#!/usr/bin/env bash
# A bootstrap action of EMR: unpacks the project and its environment to /opt/handshape on this node.
#
#     bootstrap.sh s3://BUCKET/handshape/handshape.tar.gz
#
# It can be run again. If it fails, EMR stops the node, and the last line of its output says why.
set -euo pipefail
archive=${1:?"error: the URL of the archive is missing"}
root=${HANDSHAPE_ROOT:-}          # tests unpack into another root
target=$root/opt/handshape
fail() { echo "error: $*" >&2; exit 1; }

[ -n "$root" ] || command -v python3.11 >/dev/null || sudo dnf install --quiet --assumeyes python3.11 \
  || fail "Python 3.11 cannot be installed: does this node reach the package repository?"
unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
case $archive in
  s3://*) aws s3 cp --only-show-errors "$archive" "$unpacked/archive" || fail "$archive cannot be read: does the instance's role allow s3:GetObject?" ;;
  *) cp "$archive" "$unpacked/archive" || fail "$archive cannot be read" ;;
esac
mkdir "$unpacked/new"
tar --extract --gzip --file "$unpacked/archive" --directory "$unpacked/new" 2>"$unpacked/log" \
  || fail "$archive cannot be unpacked: $(tail -n 1 "$unpacked/log")"
python=$unpacked/new/opt/handshape/.venv/bin/python
[ -x "$python" ] || fail "$archive has no opt/handshape/.venv/bin/python: it was not made by conf/emr/build.sh, or this node has no Python 3.11"
sudo=$([ -w "${root:-/opt}" ] || command -v sudo) || true
$sudo mkdir -p "$root/opt"
$sudo rm -rf "$target.old"
if [ -e "$target" ]; then $sudo mv "$target" "$target.old"; fi
$sudo mv "$unpacked/new/opt/handshape" "$target"
$sudo rm -rf "$target.old"
[ -n "$root" ] || "$target/.venv/bin/python" -c "import horovod.tensorflow, petastorm" 2>"$unpacked/log" \
  || fail "the environment does not work on this node: $(tail -n 1 "$unpacked/log")"
echo "$target is ready"
