# A real containerd whose runc-shim is given the runtime under test as its binary. It has its own network, process and
# mount namespaces, so whatever it leaves ends with this script.
cd "$WORK" || exit 1
export HOME=$WORK CONTAINERD_ADDRESS=$WORK/containerd.sock CONTAINERD_NAMESPACE=$NAME
ip link set lo up
cat >containerd.toml <<TOML
version = 2
root = "$WORK/containerd"
state = "$WORK/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "$CONTAINERD_ADDRESS"
TOML
containerd --config containerd.toml >containerd.log 2>&1 &
check "containerd starts" until_like '^ *Revision|^Server' ctr version

umoci init --layout layout >/dev/null 2>&1 && umoci new --image layout:box >/dev/null 2>&1 &&
    umoci unpack --image layout:box bundle >/dev/null 2>&1 && tar -C bundle/rootfs -xf "$IMAGE" &&
    umoci repack --image layout:box bundle >/dev/null 2>&1 && tar -C layout -cf box.tar .
check "an image" ctr images import --index-name box box.tar
image=$(ctr images ls -q | head -n 1)
mkdir -p bin
printf '#!/bin/sh\nexec ctr run --runc-binary %s --cgroup %s "$@"\n' "$RUNTIME" "/$NAME/task" >bin/run
chmod 755 bin/run
PATH=$WORK/bin:$PATH

same "run" "hello" run --rm "$image" once /bin/echo hello
fails "exit code" 42 run --rm "$image" once /bin/sh -c 'exit 42'
like "a program that is not there" 'exec: "no-such-program": executable file not found in \$PATH' sh -c "run --rm $image once no-such-program 2>&1; true"
same "a root file system of the host" "hello" run --rm --rootfs bundle/rootfs once /bin/echo hello
same "standard input" "typed" sh -c "echo typed | run --rm $image once /bin/head -n 1"
same "an environment and a directory" "b /tmp" run --rm --env A=b --cwd /tmp "$image" once /bin/sh -c 'echo $A $(pwd)'
same "a mount" "there" run --rm --mount "type=bind,src=$WORK/here,dst=/data,options=rbind:ro" "$image" once /bin/sh -c 'touch /data/x 2>/dev/null || cat /data/file'
same "a user" "65534" run --rm --user 65534 "$image" once /bin/id -u
same "privileged" "rw" run --rm --privileged "$image" once /bin/sh -c 'grep -q " /proc/sys .*ro," /proc/mounts || echo rw'
same "the host's network" "$(readlink /proc/self/ns/net)" run --rm --net-host "$image" once /bin/readlink /proc/self/ns/net
same "seccomp" "refused" run --rm --seccomp "$image" once /bin/sh -c 'unshare -U true 2>/dev/null || echo refused'
same "read only" "refused" run --rm --read-only "$image" once /bin/sh -c 'touch /x 2>/dev/null || echo refused'

check "run -d" run -d --memory-limit 67108864 --cpu-quota 50000 --cpu-period 100000 "$image" stays /bin/sh -c 'trap "exit 7" TERM; echo begun; while :; do sleep 0.1; done'
like "it is a task" '^stays +[0-9]+ +RUNNING' ctr tasks ls
same "exec" "inside" ctr tasks exec --exec-id e1 stays /bin/echo inside
fails "exec's exit code" 9 ctr tasks exec --exec-id e2 stays /bin/sh -c 'exit 9'
like "exec of what is not there" 'executable file not found' sh -c 'ctr tasks exec --exec-id e3 stays no-such-program 2>&1; true'
like "ps" '^[0-9]+' ctr tasks ps stays
like "metrics" '(memory.usage_in_bytes|memory.usage) +[1-9]' ctr tasks metrics stays
check "pause" ctr tasks pause stays
like "it is paused" '^stays +[0-9]+ +PAUSED' ctr tasks ls
check "resume" ctr tasks resume stays
like "it runs again" '^stays +[0-9]+ +RUNNING' ctr tasks ls
check "kill by TERM" ctr tasks kill -s SIGTERM stays
check "it stops" until_like '^stays +[0-9]+ +STOPPED' ctr tasks ls
like "with the program's own exit code" 'exit code 7' ctr tasks rm stays
check "the container is deleted" ctr containers rm stays

check "kill --all" run -d "$image" stays /bin/sh -c 'trap "" TERM; sleep 1000 & sleep 1000 & wait'
check "of all" ctr tasks kill --all -s SIGKILL stays
check "they stop" until_like '^stays +[0-9]+ +STOPPED' ctr tasks ls
check "delete --force" ctr tasks rm --force stays
check "the container is deleted" ctr containers rm stays
check "delete --force of a running task" sh -c "run -d $image stays /bin/sleep 1000 && ctr tasks rm --force stays; ctr containers rm stays"

ctr events >events.log 2>/dev/null &
events=$!
check "events are watched" until_like exit sh -c "run --rm $image once /bin/true; cat events.log"
run --rm --memory-limit 16777216 "$image" full /bin/sh -c 'x=a; while :; do x=$x$x; done' >/dev/null 2>&1
check "out of memory is an event" until_like '/tasks/oom.*full' cat events.log
kill $events

same "nothing is left of the runtime's state" "" find "/run/containerd/runc/$NAME" -mindepth 1
finish
