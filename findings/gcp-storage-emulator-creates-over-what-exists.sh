#!/usr/bin/env bash
# One would expect: code that takes a lock in Google Cloud Storage, by creating an object only if there is none
# (`if_generation_match=0`), can be tested against gcp-storage-emulator, which answers Google's own client.
#
# What happens (gcp-storage-emulator 2026.7.19, google-cloud-storage 3.17.1, CPython 3.11, Linux, 2026-11-30): the second
# creation succeeds, too, and replaces the object, where the service answers 412. A test of two that want one lock says that
# both have it; one that expects the error fails though the code is right. Output seen:
#
#   second upload: no error; the object is now b'second'
#
# agentd's store asks each new place for this once and refuses one that does not know the condition; its tests add the
# condition to the emulator. This script needs python3 >= 3.11 and a package index, and fails if that changes.
set -eu
set -o pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -q gcp-storage-emulator==2026.7.19 google-cloud-storage==3.17.1

cat >"$folder/lock.py" <<'PYTHON'
import os

from gcp_storage_emulator.server import create_server

server = create_server("127.0.0.1", 0, in_memory=True)
server.start()
os.environ["STORAGE_EMULATOR_HOST"] = "http://%s:%s" % server._api._httpd.server_address[:2]
try:
    from google.api_core.exceptions import PreconditionFailed
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    bucket = storage.Client(project="p", credentials=AnonymousCredentials()).create_bucket("b")
    bucket.blob("lock").upload_from_string("first", if_generation_match=0)
    try:
        bucket.blob("lock").upload_from_string("second", if_generation_match=0)
        print("second upload: no error; the object is now", bucket.blob("lock").download_as_bytes())
    except PreconditionFailed as error:
        print("second upload:", type(error).__name__)
finally:
    server.stop()
PYTHON
cd "$folder"
"$folder/venv/bin/python" lock.py 2>/dev/null | tee said
printf "second upload: no error; the object is now b'second'\n" >expected
if ! diff expected said; then
    echo "it has changed: that is no longer what is written above"
    exit 1
fi
echo "as written above"
