#!/bin/sh
# copy.sh FROM TO: copies a sealed model repository, then checks every file of the copy.
# REPOSITORY_SHA256 is what seal.sh printed, the hash of SHA256SUMS. Ends with status 1 unless the copy has those files, whole, and no others.
set -eu
if [ -z "${REPOSITORY_SHA256:-}" ]; then
  echo "REPOSITORY_SHA256 is not set: set it to the hash of SHA256SUMS in the repository's image" >&2
  exit 1
fi
# A container that is started again finds what it copied before.
rm -rf "$2"/* "$2"/.[!.]*
cp -R "$1/." "$2"
cd "$2"
if ! echo "$REPOSITORY_SHA256  SHA256SUMS" | sha256sum -c - > /dev/null 2>&1; then
  echo "this is not repository $REPOSITORY_SHA256: deploy the image with that hash, or set the hash of this one" >&2
  exit 1
fi
if ! checked=$(sha256sum -c SHA256SUMS 2>&1); then
  echo "files of the repository are damaged: $(echo "$checked" | grep -v ': OK$')" >&2
  exit 1
fi
listed=$(wc -l < SHA256SUMS)
found=$(find . ! -type d ! -name SHA256SUMS | wc -l)
if [ "$found" -ne "$listed" ]; then
  echo "the repository has $found files, and its SHA256SUMS lists $listed" >&2
  exit 1
fi
echo "$listed files of repository $REPOSITORY_SHA256"
