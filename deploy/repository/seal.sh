#!/bin/sh
# seal.sh FOLDER: writes SHA256SUMS, the hash of every file of a model repository, and prints the hash of that.
set -eu
cd "$1"
sums=$(find . -type f ! -name SHA256SUMS | LC_ALL=C sort | while IFS= read -r file; do sha256sum "$file"; done)
echo "$sums" > SHA256SUMS
sha256sum SHA256SUMS | cut -d ' ' -f 1
