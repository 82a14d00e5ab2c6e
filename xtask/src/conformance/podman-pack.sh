# Podman and what it needs from Debian, as one archive to unpack over another Debian's root: package files and the
# libraries that their programs are linked with.
cd / || exit 1
packages="podman conmon netavark aardvark-dns golang-github-containers-common golang-github-containers-image"
{
    dpkg -L $packages | grep -v -e ^/usr/share/man -e ^/usr/share/doc -e ^/usr/share/bash-completion -e ^/usr/share/zsh -e ^/usr/share/fish -e podman-testing | while read -r path; do
        [ -d "$path" ] || echo "$path"
    done
    ldd /usr/bin/podman /usr/bin/conmon /usr/lib/podman/netavark /usr/lib/podman/aardvark-dns /usr/libexec/podman/rootlessport 2>/dev/null |
        sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | while read -r library; do
            echo "$library"; readlink -f "$library"
        done
} | sort -u | sed 's|^/||' | grep -v -e '^lib64/ld' >"$WORK/podman.list"
tar -cf "$WORK/podman.tar" -T "$WORK/podman.list"
