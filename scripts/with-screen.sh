#!/usr/bin/env bash
# Run a command with a screen: the real one where there is one, else a virtual one of 1280x800.
set -euo pipefail
if [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ] || [ "$(uname)" != Linux ]; then
    exec "$@"
fi
command -v xvfb-run >/dev/null || {
    echo "No display, and no virtual one: run sudo apt-get install xvfb xauth" >&2
    exit 1
}
exec xvfb-run -a -s "-screen 0 1280x800x24" "$@"
