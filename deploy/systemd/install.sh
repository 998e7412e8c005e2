#!/bin/sh
# Installs fraudstream as systemd services, or takes it away again. Running it again changes nothing
# that is right already, and never a setting.
#
#   sudo deploy/systemd/install.sh PACKAGE     a wheel, or a name such as fraudstream==1.0.0
#   sudo deploy/systemd/install.sh --files-only        units and users; the package is there already
#   sudo deploy/systemd/install.sh --uninstall         settings in /etc/fraudstream stay
#   … --root DIR       into a tree that is not running, an image for example
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=
package=
mode=install
units='fraudstream.service fraudstream-api.service'

fail() {
    echo "install.sh: $*" >&2
    exit 2
}

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "$0"
}

while [ $# -gt 0 ]; do
    case $1 in
        --root)
            [ $# -ge 2 ] || fail "--root wants a directory"
            [ -d "$2" ] || fail "--root $2 is no directory"
            root=$(cd "$2" && pwd)
            [ "$root" != / ] || root=
            shift
            ;;
        --files-only) mode=files ;;
        --uninstall) mode=uninstall ;;
        -h | --help)
            usage
            exit 0
            ;;
        -*) fail "$1 is unknown; see --help" ;;
        *)
            [ -z "$package" ] || fail "one package, not $package and $1"
            package=$1
            ;;
    esac
    shift
done
[ "$mode" != install ] || [ -n "$package" ] || {
    usage >&2
    exit 2
}
[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail "this needs root, or --root DIR"

# systemctl for the running system, or for the tree.
manage() {
    if [ -n "$root" ]; then
        case $1 in
            daemon-reload | stop) return 0 ;;
        esac
        systemctl --root="$root" "$@"
    else
        systemctl "$@"
    fi
}

# Put file $1 to $2 with mode $3, unless it is there already.
put() {
    if ! cmp -s "$here/$1" "$root$2"; then
        install -D -m "$3" "$here/$1" "$root$2"
        echo "$2"
    fi
}

if [ "$mode" = uninstall ]; then
    for unit in $units; do
        if [ -e "$root/etc/systemd/system/$unit" ]; then
            manage stop "$unit"
            manage disable "$unit" 2>/dev/null
            rm -f "$root/etc/systemd/system/$unit"
            echo "removed $unit"
        fi
    done
    rm -f "$root/usr/lib/sysusers.d/fraudstream.conf" "$root/usr/lib/tmpfiles.d/fraudstream.conf"
    rm -rf "$root/opt/fraudstream" "$root/run/fraudstream" "$root/run/fraudstream-api"
    manage daemon-reload
    if [ -d "$root/etc/fraudstream" ]; then
        echo "settings are left in $root/etc/fraudstream"
    fi
    exit 0
fi

install -d -m 0755 "$root/etc"
put fraudstream.sysusers /usr/lib/sysusers.d/fraudstream.conf 0644
put fraudstream.tmpfiles /usr/lib/tmpfiles.d/fraudstream.conf 0644
if [ -n "$root" ]; then
    systemd-sysusers --root="$root" "$root/usr/lib/sysusers.d/fraudstream.conf"
else
    systemd-sysusers fraudstream.conf
fi

if [ "$mode" = install ]; then
    [ -x "$root/opt/fraudstream/bin/python" ] || python3 -m venv "$root/opt/fraudstream"
    "$root/opt/fraudstream/bin/python" -m pip install --quiet --upgrade "$package"
fi

install -d -m 0750 "$root/etc/fraudstream"
if [ ! -e "$root/etc/fraudstream/fraudstream.yaml" ] && [ "$mode" = install ]; then
    "$root/opt/fraudstream/bin/fraudstream" init "$root/etc/fraudstream"
fi
if [ ! -e "$root/etc/fraudstream/fraudstream.env" ]; then
    install -m 0640 "$here/fraudstream.env.example" "$root/etc/fraudstream/fraudstream.env"
    echo /etc/fraudstream/fraudstream.env
fi
if [ -z "$root" ]; then
    chgrp -R fraudstream /etc/fraudstream
fi

for unit in $units; do
    put "$unit" "/etc/systemd/system/$unit" 0644
done
manage daemon-reload

cat <<'END'
Edit /etc/fraudstream/fraudstream.yaml and fraudstream.env, then:
  sudo -u fraudstream /opt/fraudstream/bin/fraudstream check --config /etc/fraudstream/fraudstream.yaml
  systemctl enable --now fraudstream        # the daemon
  systemctl enable --now fraudstream-api    # decisions over HTTP; needs the extra fraudstream[api]
END
