# Podman with the runtime under test as its configured runtime: conmon, netavark, pods and builds on top of it. As an ordinary
# user it is the same, but for what only root or a delegated control group can.
cd "$WORK" || exit 1
export HOME=$WORK
root() { [ "$(id -u)" = 0 ]; }
mkdir -p "$WORK/bin"
printf '#!/bin/sh\nexec %s "$@"\n' \
    "podman --runtime $RUNTIME --cgroup-manager cgroupfs --root $WORK/storage --runroot $WORK/run --tmpdir $WORK/libpod" >"$WORK/bin/p"
chmod 755 "$WORK/bin/p"
PATH=$WORK/bin:$PATH
like "podman" '^[0-9]' p version --format '{{.Client.Version}}'
same "its runtime" "$RUNTIME" p info --format '{{.Host.OCIRuntime.Path}}'
like "an image" '^sha256' p import "$IMAGE" localhost/box

same "run" "hello" p run --rm box echo hello
cat >containers.conf <<TOML
[engine]
runtime = "gantry"
cgroup_manager = "cgroupfs"
[engine.runtimes]
gantry = ["$RUNTIME"]
TOML
same "run with a runtime of containers.conf" "hello" env CONTAINERS_CONF="$WORK/containers.conf" \
    podman --root "$WORK/storage" --runroot "$WORK/run" --tmpdir "$WORK/libpod" run --rm localhost/box echo hello
fails "exit code" 42 p run --rm box sh -c 'exit 42'
fails "a program that is not there" 127 p run --rm box no-such-program
fails "a program that cannot be executed" 126 p run --rm box /etc/passwd
same "standard input" "typed" sh -c 'echo typed | p run --rm -i box cat'
like "a terminal" '^/dev/pts/0' p run --rm -t box tty
same "user, group and directory" "65534:65534:/tmp" p run --rm -u 65534:65534 -w /tmp box sh -c 'echo $(id -u):$(id -g):$(pwd)'
same "additional groups" "0 7 9" p run --rm --group-add 7 --group-add 9 box id -G
same "host name" "name" p run --rm --hostname name box hostname
same "capabilities" "0000000000000400" p run --rm --cap-drop all --cap-add net_bind_service box sh -c 'grep CapEff /proc/self/status | tr -d "[:space:]" | cut -d: -f2'
same "privileged" "rw" p run --rm --privileged box sh -c 'grep -q " /proc/sys .*ro," /proc/mounts || echo rw'
echo there >"$WORK/file"
same "--read-only, --tmpfs and --volume" "there" p run --rm --read-only --tmpfs /t:size=1m -v "$WORK/file:/file:ro" box sh -c 'touch /x 2>/dev/null && exit 9; echo >/file 2>/dev/null; touch /t/x && cat /file'
same "a named volume" "kept" sh -c 'p run --rm -v kept:/v box sh -c "echo kept >/v/x" && p run --rm -v kept:/v box cat /v/x'
same "a kernel parameter" "1" p run --rm --sysctl net.ipv4.ip_forward=1 --network none box cat /proc/sys/net/ipv4/ip_forward
same "a resource limit" "64" p run --rm --ulimit nofile=64:64 box sh -c 'ulimit -n'
same "shared memory" "16384" p run --rm --shm-size 16m box sh -c 'df -k /dev/shm | tail -1 | awk "{print \$2}"'
same "the default seccomp profile" "refused" p run --rm box sh -c 'mount -t tmpfs x /mnt 2>/dev/null || unshare -m true 2>/dev/null || echo refused'
same "no new privileges" "NoNewPrivs:1" p run --rm --security-opt no-new-privileges box sh -c 'grep NoNewPrivs /proc/self/status | tr -d "[:space:]"'
names='for n in net ipc uts; do readlink /proc/self/ns/$n; done'
same "the host's namespaces" "$(sh -c "$names")" p run --rm --network host --ipc host --uts host box sh -c "$names"
echo given >"$WORK/given"
same "a preserved descriptor" "given" sh -c 'p run --rm --preserve-fds 1 box cat /proc/self/fd/3 3<"$WORK/given"'
root && same "a user namespace" "0 100000 65536" sh -c 'echo $(p run --rm --uidmap 0:100000:65536 --gidmap 0:100000:65536 box cat /proc/self/uid_map)'
root || same "the user's own id" "$(id -u)" p run --rm --userns keep-id box id -u
like "an annotation" 'conformance' sh -c 'p --log-level debug run --rm --annotation org.example=conformance box true 2>&1'

# One container that stays.
limits="--memory 64m --cpus 0.5 --pids-limit 50"
root || limits=
like "run -d" '^[0-9a-f]{64}$' p run -d --name stays $limits box sh -c 'trap "echo bye; exit 7" TERM; echo begun; while :; do sleep 0.1; done'
check "it runs" until_like begun p logs stays
same "its runtime is in its record" "$RUNTIME" p inspect -f '{{.OCIRuntime}}' stays
same "a namespace is joined" "$(p exec stays readlink /proc/1/ns/net)" p run --rm --network container:stays box readlink /proc/self/ns/net
same "exec" "inside" p exec stays echo inside
fails "exec's exit code" 9 p exec stays sh -c 'exit 9'
fails "exec of what is not there" 127 p exec stays no-such-program
like "exec with a terminal" '^/dev/pts/[0-9]' p exec -t stays tty
same "exec as a user, with an environment" "1000 b /tmp" p exec -u 1000 -e A=b -w /tmp stays sh -c 'echo $(id -u) $A $(pwd)'
check "exec -d" p exec -d stays touch /tmp/detached
check "it did" until_like detached p exec stays ls /tmp
like "top" 'sleep|trap' p top stays
if root; then
    like "stats" '^[1-9].* / 67.11MB [1-9]' p stats --no-stream --format '{{.MemUsage}} {{.PIDS}}' stays
    check "pause" p pause stays
    same "paused" "paused" p inspect -f '{{.State.Status}}' stays
    check "unpause" p unpause stays
    same "running" "running" p inspect -f '{{.State.Status}}' stays
    group() { cat "/sys/fs/cgroup$(p inspect -f '{{.State.CgroupPath}}' stays)/$1"; }
    same "memory limit" "67108864" group memory.max
    same "processor limit" "50000 100000" group cpu.max
    same "process limit" "50" group pids.max
    check "update" p update --memory 128m --memory-swap 256m --cpus 1.5 --cpu-shares 512 stays
    same "memory limit after update" "134217728" group memory.max
    same "processor limit after update" "150000 100000" group cpu.max
fi
same "running" "running" p inspect -f '{{.State.Status}}' stays
check "restart" p restart -t 60 stays
check "the trap is set" until_like 'begun.*begun' sh -c 'echo $(p logs stays)'
check "stop" p stop -t 60 stays
same "with the program's own exit code" "7 exited" p inspect -f '{{.State.ExitCode}} {{.State.Status}}' stays
check "start" p start stays
check "kill" p kill stays
same "it died of the signal" "137" p wait stays
check "rm" p rm stays

check "a health check" p run -d --name healthy --health-cmd 'test -e /ready' --health-interval disable box sh -c 'touch /ready; exec sleep 1000'
check "it is healthy" p healthcheck run healthy
check "rm -f" p rm -f -t 0 healthy
if root; then
    p run --name oom --memory 16m --memory-swap 16m box sh -c 'x=a; while :; do x=$x$x; done' >/dev/null 2>&1
    same "out of memory is noticed" "true 137" p inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oom
    check "a network" p network create conformance
    like "a server" '^[0-9a-f]{64}$' p run -d --name server --network conformance -p 8089:80 box sh -c 'echo page >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
    same "its name is found" "page" p run --rm --network conformance box sh -c 'for i in $(seq 100); do wget -qO- http://server/index.html && exit; sleep 0.1; done; exit 1'
else
    like "a server" '^[0-9a-f]{64}$' p run -d --name server -p 8089:80 box sh -c 'echo page >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
fi
check "its port is published" until_like '^page' curl -sS http://127.0.0.1:8089/index.html
check "rm -f of the server" p rm -f -t 0 server

like "a pod" '^[0-9a-f]{64}$' p pod create --name pod --infra-image localhost/box --infra-command "sleep 1000"
check "a container of it" p run -d --name first --pod pod box sh -c 'echo page >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
same "another sees it on the loopback" "page" p run --rm --pod pod box sh -c 'for i in $(seq 100); do wget -qO- http://127.0.0.1/index.html && exit; sleep 0.1; done; exit 1'
check "the pod is stopped" p pod stop -t 0 pod
check "and removed" p pod rm pod

mkdir -p "$WORK/empty"
printf 'FROM localhost/box\nRUN echo built >/file\nCMD cat /file\n' >"$WORK/Dockerfile"
check "build" p build --isolation oci -q -t built -f "$WORK/Dockerfile" "$WORK/empty"
same "what was built" "built" p run --rm built

p rm -af -t 0 >/dev/null
same "nothing is left of the runtime's state" "" sh -c 'find "$WORK/run" "$WORK/libpod" /run/gantry-runtime "${XDG_RUNTIME_DIR:-/run}/gantry-runtime" -path "*gantry-runtime/*" 2>/dev/null; true'
finish
