# Real clients of Gantry's registry: a real dockerd with the docker command line, skopeo, buildah, podman, and Gantry's own
# engine. What one pushes, all others pull, with the same digest. Everything is in namespaces of its own.
cd "$WORK" || exit 1
export DOCKER_CLI_HINTS=false HOME=$WORK LIMIT=200 XDG_RUNTIME_DIR=$WORK
docker=unix://$WORK/docker.sock gantry=unix://$WORK/gantry.sock registry=localhost:5000 closed=localhost:5001
real() { DOCKER_HOST=$docker limited docker "$@"; }
ours() { DOCKER_HOST=$gantry limited docker "$@"; }
own() { DOCKER_HOST=$gantry limited "$GANTRY" "$@"; }
ip link set lo up
dockerd --data-root "$WORK/data" --exec-root "$WORK/exec" --pidfile "$WORK/dockerd.pid" -H "$docker" \
    --cgroup-parent "/${CGROUP:-$NAME}" --bip 172.28.202.1/24 --containerd-namespace "$NAME" \
    --containerd-plugins-namespace "$NAME-plugins" >"$WORK/dockerd.log" 2>&1 &
"$GANTRY" daemon --data-root "$WORK/own-data" --exec-root "$WORK/own-exec" --pidfile "$WORK/own.pid" -H "$gantry" \
    --cgroup-parent "/${CGROUP:-$NAME}" --bridge-name own0 >"$WORK/own.log" 2>&1 &
"$GANTRY" registry serve --storage "$WORK/registry" --listen "$registry" --access-log "$WORK/access.log" >"$WORK/registry.log" 2>&1 &
# A second one that asks who is there, with a token service: alice, secret.
perl -e 'print "alice:", crypt("secret", "\$2y\$05\$" . "abcdefghijklmnopqrstuu"), "\n"' >users
"$GANTRY" registry serve --storage "$WORK/closed" --listen "$closed" --htpasswd users --token-service \
    --token-key "$WORK/token.pem" --access-log none >"$WORK/closed.log" 2>&1 &
check "dockerd starts" until_like Version real version
check "Gantry starts" until_like Version ours version
check "the registry answers" until_like '^200' curl -s -o /dev/null -w '%{http_code}\n' "http://$registry/v2/"
check "the closed one refuses" until_like '^401' curl -s -o /dev/null -w '%{http_code}\n' "http://$closed/v2/"
printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n' >containers.conf
export CONTAINERS_CONF=$WORK/containers.conf
# Podman takes no path of more than 50 characters for what it runs; nobody else sees this one.
mount -t tmpfs clients /mnt || exit 1
buildah="buildah --root $WORK/b --runroot /mnt/b --storage-driver vfs"
podman="podman --root $WORK/p --runroot /mnt/p --storage-driver vfs"
digest() { skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/$1"; }

# What each pushes.
check "dockerd: an image" real import --change 'CMD ["sh"]' "$IMAGE" "$registry/from/docker:1"
check "docker push" real push -q "$registry/from/docker:1"
check "Gantry: an image" ours import --change 'CMD ["sh"]' "$IMAGE" "$registry/from/gantry:1"
check "Gantry pushes" own push -q "$registry/from/gantry:1"
check "skopeo copies" skopeo copy -q --src-tls-verify=false --dest-tls-verify=false "docker://$registry/from/docker:1" "docker://$registry/from/skopeo:1"
printf 'FROM %s/from/docker:1\nCOPY users /users\n' "$registry" >Dockerfile
check "buildah builds" $buildah bud --tls-verify=false --isolation chroot -q -t made .
check "buildah pushes OCI" $buildah push -q --tls-verify=false --format oci made "docker://$registry/from/buildah:1"
check "podman pulls" $podman pull -q --tls-verify=false "$registry/from/docker:1"
check "podman pushes zstd" $podman push -q --tls-verify=false --compression-format zstd "$registry/from/docker:1" "$registry/from/podman:1"
check "podman: a manifest list" $podman manifest create list
check "of two" sh -c "$podman manifest add --tls-verify=false list docker://$registry/from/docker:1 && $podman manifest add --tls-verify=false --arch arm64 --os linux list docker://$registry/from/buildah:1"
check "podman pushes it with all" $podman manifest push -q --all --tls-verify=false list "docker://$registry/from/list:1"

# And what all others make of it.
for from in docker gantry skopeo buildah podman list; do
    image=$registry/from/$from:1
    has=$(digest "from/$from:1")
    like "$from, pulled by dockerd" "$has" real pull "$image"
    same "$from, run by it" hello real run --rm --net none "$image" echo hello
    like "$from, pulled by Gantry" "$has" ours pull "$image"
    same "$from, run by it" hello ours run --rm --net none "$image" echo hello
    check "$from, copied by skopeo" skopeo copy -q --all --src-tls-verify=false "docker://$image" "dir:$WORK/dir-$from"
    check "$from, pulled by buildah" $buildah pull -q --tls-verify=false "$image"
    check "$from, pulled by podman" $podman pull -q --tls-verify=false "$image"
done
like "tags" '"1"' skopeo list-tags --tls-verify=false "docker://$registry/from/docker"
like "search" 'from/buildah' $podman search --tls-verify=false --list-tags "$registry/from/buildah"
check "skopeo deletes" skopeo delete --tls-verify=false "docker://$registry/from/skopeo:1"
fails "what is deleted is gone" 1 sh -c "docker -H $docker pull -q $registry/from/skopeo:1 2>/dev/null"
check "skopeo synchronises" skopeo sync --src docker --dest dir --src-tls-verify=false "$registry/from/docker" "$WORK/sync"

# Archives, from the one engine to the other.
check "Gantry saves" own save -o ours.tar "$registry/from/gantry:1"
check "dockerd forgets it" real rmi -f "$registry/from/gantry:1"
like "dockerd loads it" "Loaded image: $registry/from/gantry:1" real load -i ours.tar
same "and runs it" hello real run --rm --net none "$registry/from/gantry:1" echo hello
check "dockerd saves" real save -o theirs.tar "$registry/from/docker:1"
check "Gantry forgets it" ours rmi -f "$registry/from/docker:1"
like "Gantry loads it" "Loaded image: $registry/from/docker:1" ours load -i theirs.tar
same "and runs it" hello ours run --rm --net none "$registry/from/docker:1" echo hello

# Who may.
fails "dockerd without a password" 1 sh -c "docker -H $docker tag $registry/from/docker:1 $closed/x && docker -H $docker push -q $closed/x 2>/dev/null"
check "docker login" sh -c "echo secret | docker -H $docker login -u alice --password-stdin $closed"
check "docker push" real push -q "$closed/x"
fails "a wrong password" 1 sh -c "echo wrong | docker -H $docker login -u alice --password-stdin $closed 2>/dev/null"
check "Gantry's login" sh -c "echo secret | HOME=$WORK/other $GANTRY -H $gantry login -u alice --password-stdin $closed"
check "and pull" sh -c "HOME=$WORK/other $GANTRY -H $gantry pull -q $closed/x"
check "podman login" sh -c "echo secret | $podman login --tls-verify=false -u alice --password-stdin $closed"
check "podman pull" $podman pull -q --tls-verify=false "$closed/x"
check "skopeo with credentials" skopeo inspect --tls-verify=false --creds alice:secret "docker://$closed/x"
fails "skopeo without" 1 skopeo inspect --tls-verify=false --no-creds "docker://$closed/x"
check "buildah with credentials" $buildah pull -q --tls-verify=false --creds alice:secret "$closed/x"

# From an engine's store to another engine, with no third part.
"$GANTRY" registry serve --from-engine --engine-socket "$WORK/gantry.sock" --listen localhost:5002 --access-log none >"$WORK/engine.log" 2>&1 &
check "the engine's own store is a registry" until_like '^200' curl -s -o /dev/null -w '%{http_code}\n' "http://localhost:5002/v2/"
check "dockerd pulls from it" real pull -q localhost:5002/from/gantry:1
like "an image has the digest that it came with" "$(digest from/buildah:1)" real pull localhost:5002/from/buildah:1
like "the access log has them all" 'Docker-Client|docker/' cat access.log
real ps -aq | xargs -r docker -H "$docker" rm -f >/dev/null 2>&1
finish
