#!/usr/bin/env bash
# Set up everything this checkout needs: Debian packages for Qt and a virtual screen, .venv, and the
# Python packages at the versions of constraints.txt. Safe to run again; `make` calls it only when
# pyproject.toml, constraints.txt or this file changed.
# Usage: scripts/setup.sh [dependency group ...]   (default: dev)
set -euo pipefail
cd "$(dirname "$0")/.."
groups=("${@:-dev}")
pip_version=26.3

# What the Qt wheels load at run time but do not carry, a software OpenGL, a font, a virtual screen.
debian_packages=(
    xvfb xauth libgl1 libgl1-mesa-dri libegl1 libdbus-1-3 libfontconfig1 fonts-dejavu-core
    libglib2.0-0 libx11-xcb1 libxkbcommon0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4
    libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-sync1
    libxcb-xfixes0 libxcb-xinerama0 libxcb-xkb1
)

say() { printf '\033[1m%s\033[0m\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 1
    fi
}

apt_install() {
    as_root true || return 1
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq \
        && as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -qq -y --no-install-recommends "$@"
}

install_debian_packages() {
    command -v dpkg-query >/dev/null || return 0  # another system: Qt says itself what it misses
    local missing=() package
    for package in "${debian_packages[@]}"; do
        dpkg-query -W -f '${Status}\n' "$package" 2>/dev/null | grep -q 'ok installed' \
            || missing+=("$package")
    done
    [ "${#missing[@]}" = 0 ] && return 0
    say "Installing Debian packages: ${missing[*]}"
    apt_install "${missing[@]}" \
        || say "Could not install them. The window may not open until you run:" \
               "sudo apt-get install ${missing[*]}"
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed and none was found: install it, or name it with PYTHON=..."
}

make_environment() {
    .venv/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
        && return
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        say "Installing python3-venv: $python cannot make environments yet"
        apt_install python3-venv \
            || die "$python has no venv module: run sudo apt-get install python3-venv"
    fi
    say "Making .venv with $("$python" --version)"
    "$python" -m venv --clear .venv
}

install_python_packages() {
    local group options=()
    for group in "${groups[@]}"; do options+=(--group "$group"); done
    say "Installing the Python packages"
    .venv/bin/python -m pip install -q "pip==$pip_version"
    .venv/bin/python -m pip install -q --progress-bar off --constraint constraints.txt \
        --editable '.[all]' "${options[@]}"
}

install_debian_packages
make_environment
install_python_packages
say "Ready: $(.venv/bin/python --version), napari $(.venv/bin/python -c \
    'from importlib.metadata import version as v; print(v("napari") + ", torch " + v("torch"))')"
