# A real dockerd whose configured runtime is the one under test. It has its own network, process and mount namespaces,
# so whatever it leaves ends with this script.
cd "$WORK" || exit 1
export DOCKER_HOST=unix://$WORK/docker.sock DOCKER_CLI_HINTS=false HOME=$WORK
ip link set lo up
cat >daemon.json <<JSON
{ "runtimes": { "gantry": { "path": "$RUNTIME" } }, "default-runtime": "gantry" }
JSON
dockerd --config-file "$WORK/daemon.json" --data-root "$WORK/data" --exec-root "$WORK/exec" \
    --pidfile "$WORK/dockerd.pid" -H "$DOCKER_HOST" --cgroup-parent "/$NAME" --bip 172.28.200.1/24 \
    --containerd-namespace "$NAME" --containerd-plugins-namespace "$NAME-plugins" >"$WORK/dockerd.log" 2>&1 &
check "dockerd starts" until_like ServerVersion docker info --format ServerVersion={{.ServerVersion}}
same "it is the default runtime" gantry docker info --format '{{.DefaultRuntime}}'
same "its path" "$RUNTIME" docker info --format '{{(index .Runtimes "gantry").Path}}'
like "an image" sha256 docker import "$IMAGE" box

same "run" "hello" docker run --rm box echo hello
same "run --runtime" "hello" docker run --rm --runtime gantry box echo hello
same "run with the engine's own runtime" "hello" docker run --rm --runtime runc box echo hello
same "the runtime of a container" gantry sh -c 'docker create --name which --runtime gantry box true >&2; docker inspect -f {{.HostConfig.Runtime}} which; docker rm which >&2'
fails "exit code" 42 docker run --rm box sh -c 'exit 42'
fails "death by a signal" 137 docker run --rm --init box sh -c 'kill -9 $$'
fails "a program that is not there" 127 docker run --rm box no-such-program
like "and its error text" 'exec: "no-such-program": executable file not found in \$PATH' sh -c 'docker run --rm box no-such-program 2>&1; true'
fails "a program that cannot be executed" 126 docker run --rm box /etc/passwd
same "standard input" "typed" sh -c 'echo typed | docker run --rm -i box cat'
same "the two outputs stay apart" "out" sh -c 'docker run --rm box sh -c "echo out; echo err >&2" 2>/dev/null'
like "a terminal" '^/dev/pts/0' docker run --rm -t box tty
same "--init" "docker-init" docker run --rm --init box cat /proc/1/comm
same "user, group and directory" "65534:65534:/tmp" docker run --rm -u 65534:65534 -w /tmp box sh -c 'echo $(id -u):$(id -g):$(pwd)'
same "additional groups" "0 7 9" docker run --rm --group-add 7 --group-add 9 box id -G
same "host name" "box.name" docker run --rm -h box.name box hostname
same "capabilities" "0000000000000400" docker run --rm --cap-drop all --cap-add net_bind_service box sh -c 'grep CapEff /proc/self/status | tr -d "[:space:]" | cut -d: -f2'
same "privileged" "rw" docker run --rm --privileged box sh -c 'test -b /dev/vda -o -c /dev/kmsg && touch /sys/fs/cgroup/x 2>/dev/null; grep -q " /proc/sys .*ro," /proc/mounts || echo rw'
same "--read-only, --tmpfs and --volume" "here" docker run --rm --read-only --tmpfs /t:size=1m -v "$WORK:/w:ro" box sh -c 'touch /x 2>/dev/null && exit 9; touch /w/x 2>/dev/null && exit 8; touch /t/x && test -e /w/docker.sock && echo here'
same "a kernel parameter" "1" docker run --rm --sysctl net.ipv4.ip_forward=1 box cat /proc/sys/net/ipv4/ip_forward
same "a resource limit" "64" docker run --rm --ulimit nofile=64:64 box sh -c 'ulimit -n'
same "shared memory" "16384" docker run --rm --shm-size 16m box sh -c 'df -k /dev/shm | tail -1 | awk "{print \$2}"'
same "a device" "1:3" docker run --rm --device /dev/null:/dev/other box stat -c '%t:%T' /dev/other
same "the default seccomp profile" "refused" docker run --rm box sh -c 'unshare -U true 2>/dev/null || echo refused'
same "no new privileges" "NoNewPrivs:1" docker run --rm --security-opt no-new-privileges box sh -c 'grep NoNewPrivs /proc/self/status | tr -d "[:space:]"'
names='for n in pid net ipc uts; do readlink /proc/self/ns/$n; done'
same "the host's namespaces" "$(sh -c "$names")" docker run --rm --pid host --network host --ipc host --uts host box sh -c "$names"

# One container that stays.
like "run -d" '^[0-9a-f]{64}$' docker run -d --name stays --memory 64m --cpus 0.5 --pids-limit 50 box sh -c 'trap "echo bye; exit 7" TERM; echo begun; while :; do sleep 0.1; done'
check "it runs" until_like begun docker logs stays
same "a namespace is joined" "$(docker exec stays readlink /proc/1/ns/net)" docker run --rm --network container:stays box readlink /proc/self/ns/net
same "exec" "inside" docker exec stays echo inside
fails "exec's exit code" 9 docker exec stays sh -c 'exit 9'
fails "exec of what is not there" 126 docker exec stays no-such-program
like "exec with a terminal" '^/dev/pts/[0-9]' docker exec -t stays tty
same "exec as a user, with an environment" "1000 b /tmp" docker exec -u 1000 -e A=b -w /tmp stays sh -c 'echo $(id -u) $A $(pwd)'
check "exec -d" docker exec -d stays touch /tmp/detached
check "it did" until_like detached docker exec stays ls /tmp
like "top" 'sleep 0.1|trap' docker top stays
like "stats" '^[1-9].* / 64MiB [1-9]' docker stats --no-stream --format '{{.MemUsage}} {{.PIDs}}' stays
check "pause" docker pause stays
same "paused" "paused" docker inspect -f '{{.State.Status}}' stays
check "unpause" docker unpause stays
same "running" "running" docker inspect -f '{{.State.Status}}' stays
group() { cat "/sys/fs/cgroup/$1/$NAME/$(docker inspect -f '{{.Id}}' stays)/$2"; }
same "memory limit" "67108864" group memory memory.limit_in_bytes
same "processor limit" "50000" group cpu cpu.cfs_quota_us
same "process limit" "50" group pids pids.max
check "update" docker update --memory 128m --memory-swap 256m --cpus 1.5 --cpu-shares 512 --pids-limit 77 stays
same "memory limit after update" "134217728" group memory memory.limit_in_bytes
same "processor limit after update" "150000" group cpu cpu.cfs_quota_us
same "shares after update" "512" group cpu cpu.shares
same "process limit after update" "77" group pids pids.max
check "restart" docker restart -t 60 stays
same "it runs again" "true" docker inspect -f '{{.State.Running}}' stays
check "the trap is set" until_like 'begun.*begun' sh -c 'docker logs stays | tr "\n" " "'
check "stop" docker stop -t 60 stays
same "with the program's own exit code" "7 exited" docker inspect -f '{{.State.ExitCode}} {{.State.Status}}' stays
same "logs" "begun bye begun bye" sh -c 'echo $(docker logs stays)'
check "start" docker start stays
check "kill" docker kill stays
check "it died" until_like exited docker inspect -f '{{.State.Status}}' stays
same "of the signal" "137" docker inspect -f '{{.State.ExitCode}}' stays
check "rm" docker rm stays

check "a health check" docker run -d --name healthy --health-cmd 'test -e /ready' --health-interval 1s box sh -c 'touch /ready; exec sleep 1000'
check "it is healthy" until_like '^healthy' docker inspect -f '{{.State.Health.Status}}' healthy
check "rm -f" docker rm -f healthy
docker run --name oom --memory 16m --memory-swap 16m box sh -c 'x=a; while :; do x=$x$x; done' >/dev/null 2>&1
same "out of memory is noticed" "true 137" docker inspect -f '{{.State.OOMKilled}} {{.State.ExitCode}}' oom
check "a restart policy" docker run -d --name again --restart on-failure:2 box false
check "it was tried again" until_like '^2 exited' docker inspect -f '{{.RestartCount}} {{.State.Status}}' again

# Networks.
check "a network" docker network create --subnet 172.28.201.0/24 conformance
check "a server" docker run -d --name server --network conformance -p 127.0.0.1:8089:80 box sh -c 'echo page >/tmp/index.html; exec httpd -f -p 80 -h /tmp'
same "its name is found" "page" docker run --rm --network conformance box sh -c 'for i in $(seq 100); do wget -qO- http://server/index.html && exit; sleep 0.1; done; exit 1'
same "its port is published" "page" curl -sS http://127.0.0.1:8089/index.html
check "another network" docker network connect bridge server
same "it has two" "eth0 eth1 lo" sh -c 'echo $(docker exec server ls /sys/class/net)'
check "rm -f of the server" docker rm -f server

# Building runs containers too.
printf 'FROM box\nRUN echo built >/file\nCMD cat /file\n' >"$WORK/Dockerfile"
check "build" env DOCKER_BUILDKIT=0 docker build -q -t built -f "$WORK/Dockerfile" "$WORK/empty"
same "what was built" "built" docker run --rm built
check "cp" docker create --name copied box true
check "into a container" docker cp "$WORK/Dockerfile" copied:/tmp/

# Refusals reach the user in the runtime's own words.
like "a refusal" 'no-such-namespace|sysctl' sh -c 'docker run --rm --sysctl kernel.no.such=1 box true 2>&1; true'
docker ps -aq | xargs -r docker rm -f >/dev/null
same "nothing is left of the runtime's state" "" find "$WORK/exec/runtime-runc/$NAME" -mindepth 1
finish
