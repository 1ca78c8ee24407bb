#!/bin/sh
# Makes a usable root directory of packages that were unpacked but never configured.
#
#   fix-up.sh before ROOT    merged /usr, as every current release has it
#   fix-up.sh after ROOT     what the packages' own scripts would have done, as far as we need it
#
# Runs on the host beside a root directory that may be of another architecture: it must not run
# any program from there.
set -eu
stage=$1
root=$2

if [ "$stage" = before ]; then
    for directory in bin sbin lib lib64; do
        mkdir -p "$root/usr/$directory"
        ln -s "usr/$directory" "$root/$directory"
    done
    exit 0
fi

mkdir -p "$root/usr/local/bin" "$root/usr/local/sbin" "$root/usr/local/lib"
for table in passwd group; do
    cp "$root/usr/share/base-passwd/$table.master" "$root/etc/$table"
done
[ -e "$root/etc/nsswitch.conf" ] || cp "$root/usr/share/libc-bin/nsswitch.conf" "$root/etc/nsswitch.conf"
[ -e "$root/usr/bin/awk" ] || ln -s mawk "$root/usr/bin/awk"

# The host's bundle and not the archive's: where TLS is re-signed, only the host's knows by whom.
bundle=$root/etc/ssl/certs/ca-certificates.crt
mkdir -p "$root/etc/ssl/certs"
if [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    cp /etc/ssl/certs/ca-certificates.crt "$bundle"
else
    cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$bundle"
fi
mkdir -p "$root/usr/lib/ssl"
ln -sf /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"

rm -rf "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/info \
    "$root"/usr/share/locale "$root"/usr/share/lintian "$root"/usr/share/bash-completion
# A set-uid program has no use in a container whose processes may gain no privileges.
find "$root" -xdev -perm /6000 -type f -exec chmod a-s {} +
