#!/bin/sh
# Installs clat and plat below /usr/local, or removes them: ./install.sh, ./install.sh --remove
# DESTDIR=DIR is a directory that stands for the root. Configuration in /etc stays in both cases.
set -eu
cd "$(dirname "$0")"
root=${DESTDIR:-}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

# All files of this archive, as "FROM TO".
files() {
    find sbin share lib -type f | while read -r file; do echo "$file /usr/local/$file"; done
    # Only where OpenRC is.
    if [ -d "$root/etc/init.d" ] && [ -e "$root/sbin/openrc-run" ]; then
        for name in clat plat; do echo "etc/init.d/$name /etc/init.d/$name"; done
    fi
}

# Units that the system manager has to read again, where there is one.
reload() {
    if [ -z "$root" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
}

case "${1:-}" in
    --remove)
        if [ -z "$root" ] && [ -d /run/systemd/system ]; then
            systemctl disable --now clat.service plat.service 2>/dev/null || :
        fi
        files | while read -r _ to; do rm -f "$root$to"; done
        rmdir "$root/usr/local/share/doc/clat" "$root/usr/local/share/doc/plat" 2>/dev/null || :
        reload
        ;;
    "")
        mkdir -p "$root/usr/local/sbin" "$root/etc" 2>/dev/null || :
        [ -w "$root/usr/local/sbin" ] || fail "$root/usr/local/sbin cannot be written: run it as root"
        files | while read -r from to; do
            mkdir -p "$(dirname "$root$to")"
            # A program that runs cannot be overwritten, but replaced.
            cp "$from" "$root$to.new"
            mv "$root$to.new" "$root$to"
        done
        for name in clat plat; do
            [ -e "$root/etc/$name.toml" ] || cp "etc/$name.toml" "$root/etc/$name.toml"
        done
        reload
        echo "installed; start with: systemctl enable --now clat (or plat)"
        ;;
    *) fail "usage: ./install.sh [--remove]" ;;
esac
