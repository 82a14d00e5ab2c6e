//! Images: names, lookup, and what `rmi` removes.

mod support;

use oci::{Descriptor, Digest, Reference, media_type};
use store::{Error, ImageId, ImageUsers, NewImage, Removal, Store};
use support::{Tar, TestStore, config};

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn nobody(_: &ImageId) -> ImageUsers {
    ImageUsers::default()
}

/// Removals as `docker rmi` prints them.
fn printed(removals: &[Removal]) -> Vec<String> {
    removals
        .iter()
        .map(|removal| match removal {
            Removal::Untagged { name, .. } => format!("Untagged: {}", name.familiar()),
            Removal::Deleted(id) => format!("Deleted: {}", id.short()),
            Removal::DeletedLayer(_) => "Deleted: layer".to_owned(),
        })
        .collect()
}

fn remove(store: &Store, name: &str, force: bool) -> Result<Vec<String>, String> {
    store.image_remove(name, force, true, &nobody).map(|removals| printed(&removals)).map_err(|error| error.to_string())
}

/// Two images that share their first layer.
fn two(test: &TestStore) -> [ImageId; 2] {
    let lease = test.store.lease();
    let shared = test.layer(&lease, &Tar::new().file("shared", b"12345").done()).diff_id;
    ["one", "two"].map(|mark| {
        let own = test.layer(&lease, &Tar::new().file(mark, b"123").done()).diff_id;
        test.image_of(&lease, vec![shared.clone(), own], mark)
    })
}

#[test]
fn found_by_any_name() {
    let test = TestStore::new();
    let [one, two] = two(&test);
    test.store.image_tag(&reference("busybox"), &one).unwrap();
    test.store.image_tag(&reference("localhost:5000/x/y:v1"), &two).unwrap();
    let digest = Digest::of(b"manifest");
    let by_digest = reference("busybox").with_digest(digest.clone());
    test.store.image_add_repo_digest(&one, &by_digest, None).unwrap();
    let found = |name: &str| test.store.image_resolve(name);
    for name in [
        "busybox",
        "busybox:latest",
        "docker.io/library/busybox",
        &format!("busybox@{digest}"),
        &format!("busybox:other@{digest}"),
        one.as_str(),
        one.digest().hex(),
        one.short(),
        &one.as_str()[..12],
    ] {
        assert_eq!(found(name).unwrap(), one, "{name}");
    }
    assert_eq!(found("localhost:5000/x/y:v1").unwrap(), two);
    for (name, text) in [
        ("busybox:2", "No such image: busybox:2"),
        ("nothing", "No such image: nothing:latest"),
        ("localhost:5000/x/y", "No such image: localhost:5000/x/y:latest"),
        ("UP", "invalid reference format: repository name (library/UP) must be lowercase"),
        ("", "invalid reference format"),
    ] {
        assert_eq!(found(name).unwrap_err().to_string(), text);
    }
    let missing = "0".repeat(64);
    assert_eq!(found(&missing).unwrap_err().to_string(), format!("No such image: sha256:{missing}"));

    // Both ids begin so: an empty beginning fits all, and is none.
    assert!(found("sha256:").is_err());
    let image = test.store.image(&one).unwrap();
    assert_eq!((image.tags, image.repo_digests), (vec![reference("busybox:latest")], vec![by_digest]));
    assert_eq!(image.size, 8);
    assert!(image.last_tagged_ns.is_some() && !test.store.image(&two).unwrap().is_dangling());
}

#[test]
fn names_move() {
    let test = TestStore::new();
    let [one, two] = two(&test);
    assert_eq!(test.store.image_tag(&reference("a"), &one).unwrap(), None);
    assert_eq!(test.store.image_tag(&reference("a:latest"), &two).unwrap(), Some(one.clone()));
    assert!(test.store.image(&one).unwrap().is_dangling());
    assert_eq!(test.store.image_untag(&reference("a")).unwrap(), Some(two.clone()));
    assert_eq!(test.store.image_untag(&reference("a")).unwrap(), None);
    let missing = ImageId::from(Digest::of(b"missing"));
    assert!(matches!(test.store.image_tag(&reference("a"), &missing), Err(Error::NoSuchImage(_))));
    let with_digest = reference("a").with_digest(Digest::of(b"x"));
    assert_eq!(
        test.store.image_tag(&with_digest, &one).unwrap_err().to_string(),
        "refusing to create a tag with a digest reference"
    );
    assert_eq!(
        test.store.image_tag(&reference("sha256:abc"), &one).unwrap_err().to_string(),
        "refusing to create an ambiguous tag using digest algorithm as name"
    );
    assert_eq!(test.store.images().unwrap().len(), 2);
}

#[test]
fn removing_takes_names_first() {
    let test = TestStore::new();
    let [one, two] = two(&test);
    let digest = Digest::of(b"manifest");
    for name in ["a:1", "a:2"] {
        test.store.image_tag(&reference(name), &one).unwrap();
    }
    test.store.image_add_repo_digest(&one, &reference("a").with_digest(digest.clone()), None).unwrap();
    assert_eq!(remove(&test.store, "a:1", false).unwrap(), ["Untagged: a:1"]);
    // The last tag of the repository: its digest goes too, and with it the image, but not the shared layer.
    let expected = [
        "Untagged: a:2".to_owned(),
        format!("Untagged: a@{digest}"),
        format!("Deleted: {}", one.short()),
        "Deleted: layer".into(),
    ];
    assert_eq!(remove(&test.store, "a:2", false).unwrap(), expected);
    assert_eq!(remove(&test.store, "a:2", false).unwrap_err(), "No such image: a:2");
    let expected = [format!("Deleted: {}", two.short()), "Deleted: layer".into(), "Deleted: layer".into()];
    assert_eq!(remove(&test.store, two.short(), false).unwrap(), expected);
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

#[test]
fn conflicts_in_dockers_words() {
    let test = TestStore::new();
    let [one, two] = two(&test);
    let short = one.short().to_owned();
    for name in ["a:1", "b:1"] {
        test.store.image_tag(&reference(name), &one).unwrap();
    }
    assert_eq!(
        remove(&test.store, &short, false).unwrap_err(),
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories")
    );
    let running = |_: &ImageId| ImageUsers { running: Some("c".repeat(64)), stopped: None };
    let stopped = |_: &ImageId| ImageUsers { running: None, stopped: Some("c".repeat(64)) };
    let fails = |name: &str, force, users: &dyn Fn(&ImageId) -> ImageUsers| {
        test.store.image_remove(name, force, true, users).unwrap_err().to_string()
    };
    assert_eq!(
        fails(&short, true, &running),
        format!(
            "conflict: unable to delete {short} (cannot be forced) - image is being used by running container cccccccccccc"
        )
    );
    // With two names, one may go whoever uses the image.
    test.store.image_remove("b:1", false, true, &running).unwrap();
    assert_eq!(
        fails("a:1", false, &running),
        format!(
            "conflict: unable to remove repository reference \"a:1\" (must force) - container cccccccccccc is using its referenced image {short}"
        )
    );
    assert_eq!(
        fails(&short, false, &stopped),
        format!(
            "conflict: unable to delete {short} (must be forced) - image is being used by stopped container cccccccccccc"
        )
    );
    // Forced, the name goes and the image stays for the running container.
    let removed = test.store.image_remove("a:1", true, true, &running).unwrap();
    assert_eq!(printed(&removed), ["Untagged: a:1"]);
    assert!(test.store.image(&one).unwrap().is_dangling());
    test.store.image_remove(&short, true, true, &stopped).unwrap();
    assert!(matches!(test.store.image(&one), Err(Error::NoSuchImage(_))));
    assert!(test.store.image(&two).is_ok());
}

#[test]
fn parents_and_history() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let layers: Vec<Digest> =
        (0..2).map(|n| test.layer(&lease, &Tar::new().file("f", &vec![1; n + 1]).done()).diff_id).collect();
    let make = |count: usize, parent: Option<ImageId>| {
        let mut image: oci::ImageConfig = serde_json::from_slice(&config(layers[..count].to_vec(), "")).unwrap();
        let step = |text: &str, empty| oci::image_config::History {
            created_by: text.into(),
            empty_layer: empty,
            ..Default::default()
        };
        image.history = vec![step("ADD", false), step("ENV", true), step("RUN", false)];
        image.history.truncate(count * 2 - 1);
        test.store.image_create(&lease, NewImage { config: image.to_bytes(), parent, ..NewImage::default() }).unwrap()
    };
    let parent = make(1, None);
    let child = make(2, Some(parent.clone()));
    test.store.image_tag(&reference("child"), &child).unwrap();
    assert_eq!(test.store.image_children(&parent).unwrap(), std::slice::from_ref(&child));
    let history = test.store.image_history(&child).unwrap();
    let shown: Vec<_> = history.iter().map(|item| (item.id.clone(), item.created_by.as_str(), item.size)).collect();
    assert_eq!(shown, [(Some(child.clone()), "RUN", 2), (Some(parent.clone()), "ENV", 0), (None, "ADD", 1)]);
    assert_eq!(history[0].tags, [reference("child:latest")]);
    assert_eq!(
        remove(&test.store, parent.short(), true).unwrap_err(),
        format!("conflict: unable to delete {} (cannot be forced) - image has dependent child images", parent.short())
    );
    // The parent has no name of its own and goes with its child.
    let removed = remove(&test.store, "child", false).unwrap();
    let expected = [
        "Untagged: child:latest".to_owned(),
        format!("Deleted: {}", child.short()),
        "Deleted: layer".into(),
        format!("Deleted: {}", parent.short()),
        "Deleted: layer".into(),
    ];
    assert_eq!(removed, expected);
}

#[test]
fn what_a_container_uses_stays() {
    let test = TestStore::new();
    let image = test.image(&[Tar::new().file("f", b"f").done()]);
    test.store.snapshot_create("c", Some(&image), store::SnapshotOptions::default()).unwrap();
    let removed = remove(&test.store, image.short(), true).unwrap();
    assert_eq!(removed, [format!("Deleted: {}", image.short())]);
    let test = test.reopen();
    let mount = test.store.snapshot_mount("c").unwrap();
    assert_eq!(std::fs::read(support::path_of(&mount).join("f")).unwrap(), b"f");
    drop(mount);
    test.store.snapshot_remove("c").unwrap();
    test.store.collect_garbage().unwrap();
    assert_eq!(test.leftovers(), Vec::<String>::new());
}

#[test]
fn what_came_goes_out_bit_for_bit() {
    let test = TestStore::new();
    let lease = test.store.lease();
    let tar = Tar::new().file("f", b"f").done();
    let blob = support::gzip(&tar);
    let layer = test.pull(&lease, &blob, &Digest::of(&tar)).unwrap();
    let config = config(vec![layer.diff_id.clone()], "");
    let manifest = br#"{ "schemaVersion": 2,  "spaces": "odd" }"#;
    let index = b"an index";
    let digest = test.store.blob_put(&lease, manifest).unwrap();
    let index_digest = test.store.blob_put(&lease, index).unwrap();
    let id = test
        .store
        .image_create(
            &lease,
            NewImage {
                config: config.clone(),
                manifest: Some(Descriptor::of(media_type::OCI_MANIFEST, manifest)),
                tags: vec![reference("x:1")],
                repo_digests: vec![reference("x").with_digest(index_digest.clone())],
                documents: vec![index_digest.clone()],
                ..NewImage::default()
            },
        )
        .unwrap();
    drop(lease);
    let test = test.reopen();
    let image = test.store.image(&id).unwrap();
    assert_eq!(image.manifest.unwrap().digest, digest);
    assert_eq!(image.last_tagged_ns, None);
    assert_eq!(test.store.blob_read(&digest, 1000).unwrap(), manifest);
    assert_eq!(test.store.blob_read(&index_digest, 1000).unwrap(), index);
    assert_eq!(test.store.image_config_bytes(&id).unwrap(), config);
    assert_eq!(test.store.blob_read(id.digest(), 10_000).unwrap(), config);
    let again = test.store.lease();
    assert_eq!(test.store.layer_blob(&again, &layer.diff_id, |_, _| {}).unwrap().digest, Digest::of(&blob));
    assert!(matches!(test.store.blob_read(&digest, 3), Err(Error::TooLarge { .. })));
    assert!(matches!(test.store.blob_read(&Digest::of(b"no"), 3), Err(Error::NoSuchBlob(_))));
    drop(again);
    remove(&test.store, "x:1", false).unwrap();
    assert_eq!(test.leftovers(), Vec::<String>::new());
    assert_eq!(test.store.blob_size(&digest).unwrap(), None);
}

/// What came in zstd is compressed once for registries that take gzip, and kept beside it as long as the image.
#[test]
fn nothing_is_compressed_twice() {
    let test = TestStore::new();
    let tar = Tar::new().file("f", &[7; 300_000]).done();
    let blob = zstd::encode_all(&tar[..], 3).unwrap();
    let lease = test.store.lease();
    let descriptor = Descriptor::of(media_type::OCI_LAYER_ZSTD, &blob);
    let mut ingest = test.store.layer_ingest(&lease, &descriptor, &Digest::of(&tar)).unwrap();
    std::io::Write::write_all(&mut ingest, &blob).unwrap();
    let layer = ingest.finish().unwrap();
    test.image_of(&lease, vec![layer.diff_id.clone()], "");
    drop(lease);
    let gzip = |test: &TestStore| {
        let mut made = 0;
        let lease = test.store.lease();
        (test.store.layer_blob(&lease, &layer.diff_id, |bytes, _| made += bytes.len()).unwrap(), made)
    };
    let (first, made) = gzip(&test);
    assert_eq!((first.media_type.as_str(), made as u64), (media_type::DOCKER_LAYER_GZIP, first.size));
    let test = test.reopen();
    assert_eq!(gzip(&test), (first.clone(), 0));
    for (digest, size) in [(&first.digest, first.size), (&descriptor.digest, descriptor.size)] {
        assert_eq!(test.store.blob_size(digest).unwrap(), Some(size));
    }
}

#[test]
fn garbage_goes_with_its_lease() {
    let test = TestStore::new();
    let tar = Tar::new().file("f", b"f").done();
    let lease = test.store.lease();
    let layer = test.layer(&lease, &tar);
    test.store.blob_put(&lease, b"document").unwrap();
    let mut ingest = test.store.ingest(&lease).unwrap();
    std::io::Write::write_all(&mut ingest, b"blob").unwrap();
    assert_eq!(ingest.finish().unwrap(), (Digest::of(b"blob"), 4));
    let announced = oci::Descriptor::of("any/type", b"other");
    for (bytes, is_longer) in [(&b"blobs"[..], false), (&b"blob"[..], true)] {
        let mut bad = test.store.blob_ingest(&lease, &announced).unwrap();
        std::io::Write::write_all(&mut bad, bytes).unwrap();
        let error = bad.finish().unwrap_err();
        assert!(matches!(error, Error::WrongSize { .. }) == is_longer, "{error}");
        assert!(matches!(error, Error::WrongDigest { .. }) != is_longer, "{error}");
    }
    assert_eq!(test.leftovers().len(), 2);
    let second = test.store.lease();
    assert!(test.store.layer_hold(&second, &layer.diff_id).unwrap().is_some());
    drop(lease);
    assert_eq!(test.leftovers().len(), 1);
    drop(second);
    assert_eq!(test.leftovers(), Vec::<String>::new());
    assert!(matches!(
        test.store.image_create(
            &test.store.lease(),
            NewImage { config: config(vec![layer.diff_id], ""), ..NewImage::default() }
        ),
        Err(Error::NoSuchLayer(_))
    ));
}

#[test]
fn one_process_at_a_time() {
    let test = TestStore::new();
    assert!(matches!(Store::open(test.root()), Err(Error::Locked(_))));
}

#[test]
fn damaged_databases_are_reported() {
    let test = TestStore::new();
    let root = test.root();
    let dir = {
        let TestStore { store, dir } = test;
        drop(store);
        dir
    };
    std::fs::write(root.join("gantry.redb"), b"this is no database at all").unwrap();
    let error = Store::open(&root).unwrap_err().to_string();
    assert!(error.contains("database") || error.contains("gantry.redb"), "{error}");
    drop(dir);
}
