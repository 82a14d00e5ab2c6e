# Layers and archives of other tools. Each builds an image that does what layers can do, and puts it into the reference
# registry; a real dockerd and Gantry pull it and have to see the same files. Everything is in namespaces of its own.
cd "$WORK" || exit 1
export DOCKER_CLI_HINTS=false HOME=$WORK LIMIT=200 XDG_RUNTIME_DIR=$WORK
docker=unix://$WORK/docker.sock gantry=unix://$WORK/gantry.sock registry=127.0.0.1:5000
real() { DOCKER_HOST=$docker limited docker "$@"; }
ours() { DOCKER_HOST=$gantry limited docker "$@"; }
own() { DOCKER_HOST=$gantry limited "$GANTRY" "$@"; }
ip link set lo up
dockerd --data-root "$WORK/data" --exec-root "$WORK/exec" --pidfile "$WORK/dockerd.pid" -H "$docker" \
    --cgroup-parent "/$NAME" --bip 172.28.201.1/24 --containerd-namespace "$NAME" \
    --containerd-plugins-namespace "$NAME-plugins" >"$WORK/dockerd.log" 2>&1 &
"$GANTRY" daemon --data-root "$WORK/own-data" --exec-root "$WORK/own-exec" --pidfile "$WORK/own.pid" -H "$gantry" \
    --cgroup-parent "/$NAME" --bridge-name own0 >"$WORK/own.log" 2>&1 &
cat >registry.yml <<YML
version: 0.1
storage: {filesystem: {rootdirectory: $WORK/registry}, delete: {enabled: true}}
http: {addr: "$registry"}
YML
docker-registry serve registry.yml >"$WORK/registry.log" 2>&1 &
check "dockerd starts" until_like Version real version
check "Gantry starts" until_like Version ours version
check "a registry" until_like '^200' curl -s -o /dev/null -w '%{http_code}\n' "http://$registry/v2/"
mkdir -p /etc/containers
cat >/etc/containers/registries.conf.d/999-local.conf 2>/dev/null <<CONF || true
[[registry]]
location = "$registry"
insecure = true
CONF

# Every file but those that an engine makes itself, with all that is to be seen of it. Of directories neither size nor
# time, which an overlay changes; of times whole seconds, since Docker writes no more into its layers.
cat >list <<'LIST'
cd / && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./.dockerenv -o -path ./etc/hosts \
    -o -path ./etc/hostname -o -path ./etc/resolv.conf -o -path ./etc/mtab \) -prune -o -print | sort | while read -r f; do
    if [ -d "$f" ] && [ ! -L "$f" ]; then stat -c '%n %f %u:%g' "$f"; continue; fi
    stat -c '%N %f %u:%g %s %Y %t:%T %h' "$f"
    if [ -f "$f" ] && [ ! -L "$f" ]; then md5sum <"$f"; fi
done
LIST
listing() { # ENGINE IMAGE
    "$1" run --rm --net none "$2" sh -c "$(cat list)"
}
agree() { # NAME IMAGE: what dockerd and Gantry see of it
    "real" pull -q "$2" >/dev/null && listing real "$2" >"$WORK/theirs" 2>&1
    "ours" pull -q "$2" >/dev/null && listing ours "$2" >"$WORK/mine" 2>&1
    same "$1" "$(cat "$WORK/theirs")" cat "$WORK/mine"
    like "$1: not nothing" '^\./deep/|/deep/' cat "$WORK/mine"
}

mkdir context && cd context || exit 1
cat >first.sh <<'FIRST'
set -e
mkdir -p /deep/a/b /gone/x /becomes-file/x /opaque/old /sticky /setgid
echo one >/deep/a/file; ln /deep/a/file /deep/a/b/hard; ln -s ../file /deep/a/b/soft; ln -s /nowhere /deep/dangling
echo x >/gone/x/y; echo x >/becomes-file/x/y; echo old >/opaque/old/file; echo x >/becomes-dir; echo removed >/removed
chmod 1777 /sticky; chmod 2755 /setgid; cp /bin/busybox /deep/suid; chmod 4711 /deep/suid; chown 1234:4321 /deep/suid
mkfifo /deep/fifo; mknod /deep/null c 1 3 || true
dd if=/dev/zero of=/deep/sparse bs=1 count=1 seek=5000000 2>/dev/null
long=$(printf 'n%.0s' $(seq 120)); mkdir -p "/deep/$long/$long"; echo long >"/deep/$long/$long/$long"
echo umlaut >"/deep/ä ö"; touch -d '1999-12-31 23:59:58' /deep/a/file; touch -d '@4294967297' /deep/late; chown 3000000:3000001 /deep/late
FIRST
cat >second.sh <<'SECOND'
set -e
rm -r /gone /removed /becomes-file /becomes-dir /opaque
echo now >/becomes-file; mkdir /becomes-dir /opaque; echo new >/opaque/new; echo in >/becomes-dir/in
echo changed >>/deep/a/b/hard; chmod 700 /sticky; mv /deep/a/b/soft /deep/a/b/moved; chown 7:8 /deep/dangling -h
SECOND
cat >Dockerfile <<'FILE'
FROM base
COPY first.sh second.sh /
RUN sh /first.sh
RUN sh /second.sh
COPY --chown=5:6 first.sh /deep/copied/one/
WORKDIR /deep/work
CMD ["sh"]
FILE
cd .. || exit 1
check "dockerd: an image" real import "$IMAGE" base
check "docker build" env DOCKER_BUILDKIT=0 DOCKER_HOST="$docker" docker build -q -t "$registry/classic" context
check "docker push" real push -q "$registry/classic"
agree "layers of Docker" "$registry/classic"

check "a base in the registry" sh -c "docker -H $docker tag base $registry/base && docker -H $docker push -q $registry/base"
sed "s|FROM base|FROM $registry/base|; s|COPY --chown|COPY --link --chown|" context/Dockerfile >context/Dockerfile.linked
check "BuildKit" env DOCKER_HOST="$docker" docker buildx build -q -f context/Dockerfile.linked -t "$registry/buildkit" context
check "docker push" real push -q "$registry/buildkit"
agree "layers of BuildKit" "$registry/buildkit"

# What this machine's root may not raise is not raised.
printf '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n' >containers.conf
export CONTAINERS_CONF=$WORK/containers.conf
store="--root $WORK/containers --runroot $WORK/containers-run --storage-driver vfs"
sed "s|FROM base|FROM $registry/base|" context/Dockerfile >context/Dockerfile.named
for format in oci docker; do
    check "buildah bud, $format" buildah $store bud --isolation chroot --tls-verify=false --layers --format $format -f context/Dockerfile.named -t $format context
    check "buildah push" buildah $store push --tls-verify=false $format "docker://$registry/buildah-$format"
    agree "layers of buildah, $format" "$registry/buildah-$format"
done
check "podman push, zstd" podman $store push --tls-verify=false --compression-format zstd --force-compression oci "$registry/podman-zstd"
agree "layers in zstd" "$registry/podman-zstd"
check "podman push, zstd:chunked" podman $store push --tls-verify=false --compression-format zstd:chunked --force-compression oci "$registry/podman-chunked"
agree "layers in zstd:chunked" "$registry/podman-chunked"

check "skopeo to an OCI layout" skopeo copy -q --src-tls-verify=false "docker://$registry/classic" oci:layout:latest
check "umoci unpack" umoci unpack --image layout:latest bundle
cp context/first.sh context/second.sh bundle/rootfs/ && check "changes" unshare --root=bundle/rootfs sh -c 'rm -rf /deep /opaque /becomes-file /becomes-dir; sh /first.sh; sh /second.sh'
check "umoci repack" umoci repack --image layout:umoci bundle
check "skopeo to the registry" skopeo copy -q --dest-tls-verify=false oci:layout:umoci "docker://$registry/umoci"
agree "layers of umoci" "$registry/umoci"

# Archives, both ways.
check "Gantry saves" own save -o saved.tar "$registry/classic" "$registry/umoci"
real rmi -f "$registry/classic" "$registry/umoci" >/dev/null
like "dockerd loads it" "Loaded image: $registry/classic" real load -i saved.tar
listing ours "$registry/classic" >mine
same "and sees the same" "$(cat mine)" listing real "$registry/classic"
check "skopeo reads it as Docker's archive" skopeo copy -q docker-archive:saved.tar:"$registry/classic:latest" dir:out
check "Gantry saves one" own save -o one.tar "$registry/classic"
mkdir one && tar -xf one.tar -C one
like "and skopeo reads it as an OCI layout" 'schemaVersion' skopeo inspect --raw oci:one
check "dockerd saves" real save -o theirs.tar "$registry/buildkit"
ours rmi -f "$registry/buildkit" >/dev/null
like "Gantry loads it" "Loaded image: $registry/buildkit" ours load -i theirs.tar
listing real "$registry/buildkit" >theirs
same "and sees the same" "$(cat theirs)" listing ours "$registry/buildkit"
check "skopeo writes an OCI archive" skopeo copy -q --src-tls-verify=false "docker://$registry/buildah-oci" oci-archive:oci.tar:loaded:1
like "Gantry loads it" 'Loaded image: loaded:1' ours load -i oci.tar
check "skopeo writes a Docker archive" skopeo copy -q --src-tls-verify=false "docker://$registry/buildah-docker" docker-archive:docker.tar:loaded:2
like "Gantry loads it" 'Loaded image: loaded:2' ours load -i docker.tar

# What Gantry makes, for the others.
check "Gantry commits" sh -c "docker -H $gantry run --name maker $registry/base sh -c 'mkdir /deep; ln -s x /deep/l; rm -r /home; echo hi >/deep/f' && docker -H $gantry commit maker $registry/made"
check "Gantry pushes" ours push -q "$registry/made"
agree "layers of Gantry" "$registry/made"
check "skopeo verifies it" skopeo copy -q --src-tls-verify=false "docker://$registry/made" dir:made
check "an image as it came" sh -c "docker -H $gantry tag $registry/buildah-oci $registry/again && docker -H $gantry push -q $registry/again"
same "has the digest that it had" "$(skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/buildah-oci")" skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$registry/again"
like "everything is what its digest says" 'all as they should be' own system verify
check "the store is whole after all of that" own system df
real ps -aq | xargs -r docker -H "$docker" rm -f >/dev/null 2>&1
ours ps -aq | xargs -r docker -H "$gantry" rm -f >/dev/null 2>&1
finish
