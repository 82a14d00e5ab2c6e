//! Images through the engine: what dockerd answers, and what is left behind.

#[path = "../../registry/tests/support/fake.rs"]
#[allow(dead_code, unreachable_pub)]
mod fake;
#[path = "../../registry/tests/support/image.rs"]
#[allow(dead_code, unreachable_pub)]
mod image;
#[path = "../../registry/tests/support/reference.rs"]
#[allow(dead_code, unreachable_pub)]
mod reference;
mod support;

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use api::Filters;
use api::progress::Message;
use bytes::Bytes;
use engine::image::{
    CommitOptions, ImportOptions, ListOptions, LoadOptions, ProgressStream, PullOptions, PushOptions, RemoveOptions,
};
use engine::{Engine, Error, Kind};
use futures_util::{StreamExt, TryStreamExt, stream};
use support::World;

/// A tar with one file.
fn archive(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

fn body(bytes: &[u8]) -> impl futures_util::Stream<Item = io::Result<Bytes>> + Send + Unpin + use<> {
    stream::iter(bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>())
}

async fn lines(stream: Result<ProgressStream, Error>) -> Vec<Message> {
    stream.unwrap().collect().await
}

/// What the lines say, without byte counts.
async fn statuses(stream: Result<ProgressStream, Error>) -> Vec<String> {
    let lines = lines(stream).await;
    let shown = lines.into_iter().filter(|line| line.progress.is_empty()).map(|line| match line.error.is_empty() {
        true if line.id.is_empty() => format!("{}{}", line.status, line.stream),
        true => format!("{}: {}", line.id, line.status),
        false => format!("error: {}", line.error),
    });
    shown.collect()
}

async fn import(engine: &Engine, repo: &str, tag: &str, bytes: Vec<u8>, changes: &[&str]) -> String {
    let options = ImportOptions {
        source: "-".into(),
        repo: repo.into(),
        tag: tag.into(),
        changes: changes.iter().map(|text| (*text).to_owned()).collect(),
        ..ImportOptions::default()
    };
    lines(engine.image_import(options, body(&bytes)).await).await.remove(0).status
}

async fn names(engine: &Engine, filters: &str) -> Vec<String> {
    let options = ListOptions { filters: Filters::parse(filters).unwrap(), ..ListOptions::default() };
    engine.image_list(options).await.unwrap().into_iter().flat_map(|image| image.repo_tags).collect()
}

async fn remove(engine: &Engine, name: &str) -> Result<Vec<String>, Error> {
    let removed = engine.image_remove(name, RemoveOptions::default()).await?;
    Ok(removed.into_iter().map(|item| format!("{}{}", item.untagged, item.deleted)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_listed_and_removed() {
    let world = World::new().await;
    let engine = &world.engine;
    let id = import(engine, "a/b", "1", archive("f", b"hello"), &["CMD echo x", "LABEL k=v"]).await;
    engine.image_tag("a/b:1", "other", "").await.unwrap();
    let image = engine.image_inspect("other").await.unwrap();
    assert_eq!((&image.id, image.size, image.comment.as_str()), (&id, 5, "Imported from -"));
    assert_eq!(image.repo_tags, ["a/b:1", "other:latest"]);
    assert_eq!(image.config.unwrap().cmd.unwrap(), ["/bin/sh", "-c", "echo x"]);
    let history = engine.image_history(&id[7..19]).await.unwrap();
    assert_eq!((history.len(), history[0].size, history[0].id.as_str()), (1, 5, id.as_str()));

    assert_eq!(names(engine, r#"{"label":["k=v"]}"#).await, ["a/b:1", "other:latest"]);
    assert_eq!(names(engine, r#"{"reference":["a/*"]}"#).await, ["a/b:1"]);
    assert_eq!(names(engine, r#"{"reference":["other"],"dangling":["false"]}"#).await, ["other:latest"]);
    assert_eq!(names(engine, r#"{"before":["other"]}"#).await, ["busybox:latest"]);
    assert_eq!(names(engine, r#"{"since":["busybox"]}"#).await, ["a/b:1", "other:latest"]);
    assert_eq!(names(engine, r#"{"until":["24h"]}"#).await, ["busybox:latest"]);

    let error = remove(engine, &id).await.unwrap_err();
    let expected = format!(
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
        &id[7..19]
    );
    assert_eq!((error.message(), error.kind()), (expected.as_str(), Kind::Conflict));
    assert_eq!(remove(engine, "other").await.unwrap(), ["other:latest"]);
    let layer = image.root_fs.layers[0].clone();
    assert_eq!(remove(engine, "a/b:1").await.unwrap(), ["a/b:1".to_owned(), id.clone(), layer]);
    let error = engine.image_inspect("a/b:1").await.unwrap_err();
    assert_eq!((error.message(), error.kind()), ("No such image: a/b:1", Kind::NotFound));

    // What cannot be read leaves nothing; the failure is a status, since no line was written.
    let options = ImportOptions { source: "-".into(), ..ImportOptions::default() };
    let mut cut = archive("f", &[7; 5000]);
    cut.truncate(3000);
    assert!(engine.image_import(options, body(&cut)).await.is_err());
    assert_eq!(names(engine, "").await, ["busybox:latest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_holds_what_the_container_changed() {
    let world = World::new().await;
    let engine = &world.engine;
    let id = world.run("writer", World::request(&["sh", "-c", "echo kept > /kept"])).await;
    assert_eq!(world.exit_code(&id).await, 0);
    let commit = |container: &str, changes: &[&str]| CommitOptions {
        container: container.to_owned(),
        repo: "made".into(),
        tag: "1".into(),
        comment: "why".into(),
        author: "me".into(),
        pause: true,
        changes: changes.iter().map(|text| (*text).to_owned()).collect(),
    };
    let base = engine.image_inspect("busybox").await.unwrap();
    let made = engine.commit(commit("writer", &["CMD [\"cat\",\"/kept\"]"]), None).await.unwrap().id;
    let image = engine.image_inspect("made:1").await.unwrap();
    assert_eq!(
        (&image.id, &image.parent, image.author.as_str(), image.comment.as_str()),
        (&made, &base.id, "me", "why")
    );
    assert_eq!(image.root_fs.layers.len(), base.root_fs.layers.len() + 1);
    assert_eq!(image.size, base.size + 5);
    let history = engine.image_history("made:1").await.unwrap();
    assert_eq!(history[0].created_by, "sh -c echo kept > /kept");

    let mut request = World::request(&[]);
    request.config.image = "made:1".into();
    request.config.cmd = None;
    let reader = world.run("reader", request).await;
    assert_eq!(world.exit_code(&reader).await, 0);
    assert!(world.log(&reader).await.contains("kept\n"));

    // In use, and a base of another image.
    let error = remove(engine, "made:1").await.unwrap_err();
    let expected = format!(
        "conflict: unable to remove repository reference \"made:1\" (must force) - container {} is using its referenced image {}",
        &reader[..12],
        &made[7..19]
    );
    assert_eq!(error.message(), expected);
    let text = engine.commit(commit("writer", &["RUN x"]), None).await.unwrap_err();
    assert_eq!((text.message(), text.kind()), ("RUN is not a valid change command", Kind::InvalidParameter));
    let error = engine.commit(commit("nosuch", &[]), None).await.unwrap_err();
    assert_eq!(error.message(), "No such container: nosuch");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_and_loaded() {
    let world = World::new().await;
    let engine = &world.engine;
    let id = import(engine, "x", "1", archive("f", b"content"), &["ENV A=1"]).await;
    engine.image_tag("x:1", "x", "2").await.unwrap();
    let saved: Vec<Bytes> = engine.image_save(&["x".into()], "").await.unwrap().try_collect().await.unwrap();
    let saved = saved.concat();
    for tag in ["x:1", "x:2"] {
        remove(engine, tag).await.unwrap();
    }
    let loaded =
        statuses(engine.image_load(LoadOptions { quiet: true, ..LoadOptions::default() }, body(&saved)).await).await;
    assert_eq!(loaded, ["Loaded image: x:1\n", "Loaded image: x:2\n"]);
    assert_eq!(engine.image_inspect("x:2").await.unwrap().id, id);
    for (bytes, expected) in [
        (archive("manifest.json", b"[{\"Config\":\"nosuch\"}]"), "invalid archive: nosuch is missing"),
        (archive("f.json", b"{}"), "invalid archive: does not contain a manifest.json"),
    ] {
        let error = engine.image_load(LoadOptions::default(), body(&bytes)).await.unwrap_err();
        assert_eq!((error.message(), error.kind()), (expected, Kind::InvalidParameter));
    }
    let error = engine.image_save(&["nosuch".into()], "").await.err().unwrap();
    assert_eq!((error.message(), error.kind()), ("No such image: nosuch", Kind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_and_pulled() {
    let registry = reference::Registry::start();
    let world = World::new().await;
    let engine = &world.engine;
    let name = registry.name("e/f");
    let id = import(engine, &name, "1", archive("f", &vec![1; 100_000]), &[]).await;
    let push = || PushOptions { name: name.clone(), tag: "1".into(), ..PushOptions::default() };
    let pushed = lines(engine.image_push(push()).await).await;
    assert_eq!(pushed[0].status, format!("The push refers to repository [{name}]"));
    let aux = pushed.last().unwrap().aux.clone().unwrap();
    let digest = aux["Digest"].as_str().unwrap().to_owned();
    assert_eq!(aux["Tag"], "1");
    let image = engine.image_inspect(&id).await.unwrap();
    assert_eq!(image.repo_digests, [format!("{name}@{digest}")]);

    let removed = remove(engine, &format!("{name}:1")).await.unwrap();
    assert_eq!(removed[..3], [format!("{name}:1"), format!("{name}@{digest}"), id.clone()]);
    let pull = |tag: &str| PullOptions { from_image: name.clone(), tag: tag.into(), ..PullOptions::default() };
    let pulled = statuses(engine.image_pull(pull("1")).await).await;
    assert_eq!(pulled[0], "1: Pulling from e/f");
    assert!(pulled[1].ends_with(": Pulling fs layer"), "{pulled:?}");
    assert_eq!(pulled[pulled.len() - 2], format!("Digest: {digest}"));
    assert_eq!(pulled[pulled.len() - 1], format!("Status: Downloaded newer image for {name}:1"));
    let again = statuses(engine.image_pull(pull("")).await).await;
    let up_to_date = format!("Status: Image is up to date for {name}");
    assert_eq!(again, ["1: Pulling from e/f".to_owned(), format!("Digest: {digest}"), up_to_date]);
    assert_eq!(
        lines(engine.image_push(push()).await).await.last().unwrap().aux.as_ref().unwrap()["Digest"],
        digest.as_str()
    );

    let error = engine.image_pull(pull("nosuch")).await.unwrap_err();
    let expected = format!("manifest for {name}:nosuch not found: manifest unknown: manifest unknown");
    assert_eq!((error.message(), error.kind()), (expected.as_str(), Kind::NotFound));
    let missing = statuses(engine.image_push(PushOptions { name: registry.name("no"), ..push() }).await).await;
    let expected = format!("error: An image does not exist locally with the tag: {}", registry.name("no"));
    assert_eq!(missing, [format!("The push refers to repository [{}]", registry.name("no")), expected]);
    let other = PullOptions { platform: "linux/s390x".into(), ..pull("1") };
    let complaint = statuses(engine.image_pull(other).await).await.pop().unwrap();
    assert!(
        complaint.ends_with("does not match the specified platform: wanted linux/s390x, actual: linux/amd64"),
        "{complaint}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_needs_no_registry() {
    let world = World::new().await;
    let pull = || PullOptions { from_image: "hello".into(), tag: "latest".into(), ..PullOptions::default() };
    let first = statuses(world.engine.image_pull(pull()).await).await;
    assert_eq!(first[0], "latest: Pulling from library/hello");
    assert_eq!(first.last().unwrap(), "Status: Downloaded newer image for hello:latest");
    let again = statuses(world.engine.image_pull(pull()).await).await;
    assert_eq!(again.last().unwrap(), "Status: Image is up to date for hello:latest");
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned() {
    let world = World::new().await;
    let engine = &world.engine;
    let first = import(engine, "p", "1", archive("f", b"first"), &[]).await;
    import(engine, "p", "1", archive("f", b"second"), &[]).await;
    let pruned = engine.image_prune(&Filters::default()).await.unwrap();
    let deleted: Vec<String> = pruned.images_deleted.unwrap().into_iter().map(|item| item.deleted).collect();
    assert_eq!((deleted.len(), &deleted[0], pruned.space_reclaimed), (2, &first, 5));
    let id = world.create("keeper", World::request(&["true"])).await;
    let all = engine.image_prune(&Filters::parse(r#"{"dangling":["false"]}"#).unwrap()).await.unwrap();
    assert_eq!(all.space_reclaimed, 6);
    assert_eq!(names(engine, "").await, ["busybox:latest"], "in use by {id}");
    assert_eq!(engine.image_prune(&Filters::default()).await.unwrap().images_deleted, None);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned_by_label_and_age() {
    let world = World::new().await;
    let engine = &world.engine;
    world.create("keeper", World::request(&["true"])).await;
    for (tag, change) in [("one", "LABEL a=1"), ("two", "LABEL a=2"), ("three", "LABEL b=1")] {
        import(engine, "p", tag, archive("f", tag.as_bytes()), &[change]).await;
    }
    for (filter, left) in [
        (r#""until":["24h"]"#, &["busybox:latest", "p:one", "p:three", "p:two"][..]),
        (r#""label":["a=1"]"#, &["busybox:latest", "p:three", "p:two"]),
        (r#""label!":["a"]"#, &["busybox:latest", "p:two"]),
        (r#""label":["a"],"until":["2001-02-03"]"#, &["busybox:latest", "p:two"]),
        (r#""until":["2100-01-01T00:00:00"]"#, &["busybox:latest"]),
    ] {
        let filters = Filters::parse(&format!(r#"{{"dangling":["false"],{filter}}}"#)).unwrap();
        engine.image_prune(&filters).await.unwrap();
        let mut names = names(engine, "").await;
        names.sort();
        assert_eq!(names, left, "{filter}");
    }
    world.end().await;
}

/// A client that hangs up ends its pull, also one that has nothing to tell, and leaves nobody waiting for it.
#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_ends_the_pull() {
    let world = World::new().await;
    let good = image::image(1, 1, 300_000);
    let (blob, body, tries) = (oci::Digest::of(&good.layers[0].blob), good.layers[0].blob.clone(), AtomicUsize::new(0));
    let path = format!("blobs/{blob}");
    let asked = path.clone();
    // The first to ask gets some bytes, and then nothing for as long as the engine waits.
    let fake = fake::Fake::serve(good, move |r| {
        (r.inside() == asked && tries.fetch_add(1, Ordering::SeqCst) == 0)
            .then(|| fake::Reply { stall: Some(200_000), ..fake::Reply::new(200, body.clone()) })
    })
    .await;
    let pull = || {
        let options = PullOptions { from_image: fake.name("a"), tag: "latest".into(), ..PullOptions::default() };
        world.engine.image_pull(options)
    };
    let mut first = pull().await.unwrap();
    while fake.count(&path) == 0 {
        first.next().await.unwrap();
    }
    drop(first);
    // Much less than the time after which a silent registry is given up.
    let told = tokio::time::timeout(Duration::from_secs(15), async { statuses(pull().await).await }).await;
    let told = told.expect("nobody has the layer's turn");
    assert!(told.last().unwrap().starts_with("Status: Downloaded newer image"), "{told:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_name_is_in_its_registry() {
    let world = World::new().await;
    let good = image::image(1, 1, 10);
    let manifest = good.manifest.clone();
    let served = fake::Fake::serve(good.clone(), |r| {
        (r.header("authorization") != "Bearer r0").then(|| {
            fake::Reply::new(401, "")
                .with("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/\",error=\"invalid_token\"")
        })
    })
    .await;
    let auth = |token: &str| api::auth::AuthConfig { registrytoken: token.into(), ..Default::default() };
    for name in [served.name("a"), format!("{}@{}", served.name("a"), good.digest())] {
        let found = world.engine.image_distribution(&name, &auth("r0")).await.unwrap();
        let kind = oci::media_type::DOCKER_MANIFEST;
        assert_eq!(found.descriptor, oci::Descriptor::new(kind, good.digest(), manifest.len() as u64));
        assert_eq!(found.platforms, [oci::Platform { variant: None, ..oci::Platform::host() }]);
    }
    let refused = world.engine.image_distribution(&served.name("a"), &auth("r1")).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Unauthorized);
    let missing = world.engine.image_distribution(&served.name("a:no"), &auth("r0")).await.unwrap_err();
    assert_eq!((missing.kind(), missing.message()), (Kind::NotFound, "manifest unknown: manifest unknown"));
    assert_eq!(served.requests().iter().filter(|r| r.inside().starts_with("blobs/")).count(), 2, "configurations");

    // The same token lets an image in.
    let options =
        PullOptions { from_image: served.name("a"), tag: "latest".into(), auth: auth("r0"), ..Default::default() };
    let told = statuses(world.engine.image_pull(options).await).await;
    assert!(told.last().unwrap().starts_with("Status: Downloaded newer image"), "{told:?}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_from_a_url() {
    let world = World::new().await;
    let tar = archive("f", b"hello");
    let web = fake::Fake::serve(image::image(1, 1, 1), move |r| match r.path.as_str() {
        "/root.tar" => Some(fake::Reply::new(302, "").with("Location", "/there.tar")),
        "/there.tar" => Some(fake::Reply::new(200, tar.clone())),
        "/short.tar" => Some(fake::Reply { cut: Some(600), ..fake::Reply::new(200, tar.clone()) }),
        _ => Some(fake::Reply::new(404, "")),
    })
    .await;
    let import = |path: &str| {
        // Without a scheme it is plain http.
        let source = web.name(path);
        let options = ImportOptions { source, repo: "web".into(), tag: "1".into(), ..ImportOptions::default() };
        world.engine.image_import(options, body(&[]))
    };
    let told = statuses(import("root.tar").await).await;
    assert_eq!(told[0], format!("Downloading from http://{}", web.name("root.tar")));
    let inspected = world.engine.image_inspect("web:1").await.unwrap();
    assert_eq!((told.last().unwrap(), inspected.size), (&inspected.id, 5));
    assert_eq!(inspected.comment, format!("Imported from {}", web.name("root.tar")));
    let error = import("none.tar").await.unwrap_err();
    assert_eq!(error.message(), format!("bad response from \"http://{}\": 404 Not Found", web.name("none.tar")));
    let told = statuses(import("short.tar").await).await;
    assert!(told.last().unwrap().contains("unexpected EOF"), "{told:?}");
    world.end().await;
}
