# `podman-vm.sh root|user RUNTIME`, in the machine with cgroup v2: installs Podman from its archive, and runs the checks as root or as an ordinary user in
# a session of systemd's. The machine is slow, so a check may take long.
chmod 755 /in /in/*
tar -C / --skip-old-files -xf podman.tar && ldconfig
ip link set lo up
export LIMIT=200 NAME=conformance WORK=/var/tmp/conformance RUNTIME=$2 IMAGE=/in/busybox.tar
mkdir -p "$WORK"
if [ "$1" = root ]; then
    exec sh podman.sh
fi
useradd -m -u 1234 user
grep -q user /etc/subuid || usermod --add-subuids 100000-165535 --add-subgids 100000-165535 user
chown user "$WORK"
loginctl enable-linger user
for _ in $(seq 300); do [ -S /run/user/1234/bus ] && break; sleep 0.2; done
exec systemd-run --quiet --uid=1234 --gid=1234 -p PAMName=login -p WorkingDirectory=/ -E XDG_RUNTIME_DIR=/run/user/1234 \
    -E LIMIT -E NAME -E WORK -E RUNTIME -E IMAGE --pipe --wait --collect sh /in/podman.sh
