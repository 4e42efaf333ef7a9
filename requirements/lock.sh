#!/bin/sh
# Locks every environment anew: versions with hashes, and no index address. Run it after changing a .in file.
set -eu
cd "$(dirname "$0")"
for name in uv platform spark airflow dbt; do
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header "$name.in" -o "$name.txt" "$@"
done
for name in postgres java go seaweedfs; do # single packages that carry binaries: theirs alone
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-deps \
    --no-emit-index-url --no-header "$name.in" -o "$name.txt" "$@"
done
