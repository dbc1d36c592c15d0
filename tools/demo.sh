#!/usr/bin/env bash
# demo.sh [PROMPT…]: from a fresh clone to a completion by the real Gemma 3 270M.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/setup.sh"

install_missing
fetch_model
configure_release || die "the build could not be configured"
cmake --build "$root/build" --target lapidary_cli >&2 || die "the build failed"

prompt=${*:-The most beautiful thing about gemstones is}
say "build/lapidary generate -m $model -n 128 -p '$prompt'"
exec "$root/build/lapidary" generate -m "$model" -n 128 -p "$prompt" < /dev/null
