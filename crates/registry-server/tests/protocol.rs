//! The distribution protocol over HTTP: each way in and out, and each refusal.

mod support;

use oci::media_type::{
    DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST,
};
use oci::{Descriptor, Digest};
use serde_json::json;
use support::image::{artifact, manifest, noise};
use support::{Answer, Server};

/// A blob comes back as it went in.
fn comes_back(server: &Server, name: &str, digest: &str, bytes: &[u8]) {
    let answer = server.get(&format!("/v2/{name}/blobs/{digest}"));
    assert_eq!((answer.status, answer.header("docker-content-digest")), (200, digest));
    assert!(answer.body == bytes, "{} bytes instead of {}", answer.body.len(), bytes.len());
}

#[test]
fn every_way_to_push_a_blob() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/v2/").header("docker-distribution-api-version"), "registry/2.0");
    let bytes = noise(1, 3_000_000);
    let digest = Digest::of(&bytes).to_string();

    // In one request, by one hash function or the other.
    assert_eq!(server.blob("one", &bytes), digest);
    comes_back(&server, "one", &digest, &bytes);
    let mut digester = oci::digest::Digester::new(oci::digest::Algorithm::Sha512);
    digester.update(&bytes);
    let sha512 = digester.finish().to_string();
    let place = server.upload("sha512");
    assert_eq!(server.send("PUT", &format!("{place}?digest={sha512}"), &[], &bytes).status, 201);
    comes_back(&server, "sha512", &sha512, &bytes);

    // In chunks, with a look at how far it is.
    let place = server.upload("chunked");
    let (mut sent, chunk) = (0, 1 << 20);
    for piece in bytes.chunks(chunk) {
        let range = format!("{sent}-{}", sent + piece.len() - 1);
        let headers = [("Content-Range", range.as_str()), ("Content-Type", "application/octet-stream")];
        let answer = server.send("PATCH", &place, &headers, piece);
        sent += piece.len();
        assert_eq!((answer.status, answer.header("range")), (202, format!("0-{}", sent - 1).as_str()));
        let looked = server.get(&place);
        assert_eq!((looked.status, looked.header("range")), (204, answer.header("range")));
    }
    let answer = server.send("PUT", &format!("{place}?digest={digest}"), &[], b"");
    assert_eq!((answer.status, answer.header("location")), (201, format!("/v2/chunked/blobs/{digest}").as_str()));
    comes_back(&server, "chunked", &digest, &bytes);
    assert_eq!(server.get(&place).code(), "BLOB_UPLOAD_UNKNOWN");

    // As a stream of unknown length, finished by a last piece in the PUT.
    let place = server.upload("streamed");
    let mut connection = server.connect();
    connection.head("PATCH", &place, &[("Transfer-Encoding", "chunked")]);
    bytes[..2_000_000].chunks(300_001).for_each(|piece| connection.chunk(piece));
    connection.chunk(b"");
    assert_eq!(connection.answer("PATCH").header("range"), "0-1999999");
    let answer = connection.send("PUT", &format!("{place}?digest={digest}"), &[], &bytes[2_000_000..]);
    assert_eq!(answer.status, 201);
    comes_back(&server, "streamed", &digest, &bytes);

    // What was given up is gone.
    let place = server.upload("given-up");
    assert_eq!(server.send("DELETE", &place, &[], b"").status, 204);
    assert_eq!(server.send("DELETE", &place, &[], b"").code(), "BLOB_UPLOAD_UNKNOWN");
    // Nothing is a blob as well.
    comes_back(&server, "empty", &server.blob("empty", b""), b"");
}

#[test]
fn chunks_come_in_order() {
    let server = Server::start(&["--chunk-min-length", "5m"]);
    let answer = server.send("POST", "/v2/a/blobs/uploads/", &[], b"");
    assert_eq!(answer.header("oci-chunk-min-length"), "5242880");
    let place = answer.header("location").to_owned();
    assert_eq!(server.send("PATCH", &place, &[("Content-Range", "0-3")], b"abcd").status, 202);
    for range in ["5-8", "0-3", "3-6"] {
        let answer = server.send("PATCH", &place, &[("Content-Range", range)], b"efgh");
        assert_eq!((answer.status, answer.header("range"), answer.header("location")), (416, "0-3", place.as_str()));
        assert_eq!(answer.code(), "BLOB_UPLOAD_INVALID");
    }
    assert_eq!(server.send("PATCH", &place, &[("Content-Range", "4-9")], b"efgh").code(), "SIZE_INVALID");
    assert_eq!(server.send("PATCH", &place, &[("Content-Range", "x")], b"efgh").code(), "BLOB_UPLOAD_INVALID");
    assert_eq!(server.send("PATCH", &place, &[("Content-Range", "4-7")], b"efgh").status, 202);
    let digest = Digest::of(b"abcdefgh").to_string();
    assert_eq!(server.send("PUT", &format!("{place}?digest={digest}"), &[], b"").status, 201);
    comes_back(&server, "a", &digest, b"abcdefgh");
    let none = Server::start(&["--chunk-min-length", "0"]);
    assert!(!none.send("POST", "/v2/a/blobs/uploads/", &[], b"").headers.contains_key("oci-chunk-min-length"));
}

#[test]
fn blobs_are_seen_where_they_were_pushed_or_mounted() {
    let server = Server::start(&[]);
    let digest = server.blob("from", b"content");
    let path = |name: &str| format!("/v2/{name}/blobs/{digest}");
    assert_eq!(server.get(&path("into")).code(), "BLOB_UNKNOWN");
    let mount = |from: &str| server.send("POST", &format!("/v2/into/blobs/uploads/?mount={digest}{from}"), &[], b"");
    // What is not there begins an upload, as if nobody had asked for more.
    for from in ["&from=nowhere", "&from=NO"] {
        let answer = mount(from);
        assert_eq!(answer.status, 202);
        assert!(answer.header("location").starts_with("/v2/into/blobs/uploads/"));
    }
    let answer = mount("&from=from");
    assert_eq!((answer.status, answer.header("location")), (201, path("into").as_str()));
    assert_eq!(server.send("HEAD", &path("into"), &[], b"").header("content-length"), "7");
    // From wherever it is, since everybody may see everything here.
    let anywhere = server.send("POST", &format!("/v2/any/blobs/uploads/?mount={digest}"), &[], b"");
    assert_eq!((anywhere.status, anywhere.header("location")), (201, path("any").as_str()));
    // Deleted in one repository, it stays in the other.
    assert_eq!(server.send("DELETE", &path("from"), &[], b"").status, 202);
    assert_eq!(server.send("DELETE", &path("from"), &[], b"").code(), "BLOB_UNKNOWN");
    assert_eq!(server.send("HEAD", &path("from"), &[], b"").status, 404);
    comes_back(&server, "into", &digest, b"content");
}

#[test]
fn ranges() {
    let server = Server::start(&[]);
    let bytes = noise(2, 2_500_000);
    let place = server.upload("a");
    for piece in bytes.chunks(1_000_000) {
        assert_eq!(server.send("PATCH", &place, &[], piece).status, 202);
    }
    let digest = Digest::of(&bytes).to_string();
    assert_eq!(server.send("PUT", &format!("{place}?digest={digest}"), &[], b"").status, 201);
    let path = format!("/v2/a/blobs/{digest}");
    let mut connection = server.connect();
    for (range, start, end) in [
        ("bytes=0-0", 0, 1),
        ("bytes=999990-1000010", 999_990, 1_000_011),
        ("bytes=10-2400000", 10, 2_400_001),
        ("bytes=2000000-", 2_000_000, 2_500_000),
        ("bytes=-5", 2_499_995, 2_500_000),
    ] {
        let answer = connection.send("GET", &path, &[("Range", range)], b"");
        assert_eq!(answer.status, 206);
        assert_eq!(answer.header("content-range"), format!("bytes {start}-{}/2500000", end - 1));
        assert!(answer.body == bytes[start..end], "{range}");
    }
    let outside = connection.send("GET", &path, &[("Range", "bytes=2500000-")], b"");
    assert_eq!((outside.status, outside.header("content-range")), (416, "bytes */2500000"));
    assert_eq!(outside.code(), "UNSUPPORTED");
    let etag = connection.send("HEAD", &path, &[], b"").header("etag").to_owned();
    assert_eq!(connection.send("GET", &path, &[("If-None-Match", &etag)], b"").status, 304);
    assert!(connection.send("GET", &path, &[], b"").body == bytes);
}

#[test]
fn manifests_and_tags() {
    let server = Server::start(&[]);
    let digest = server.image("team/app", "v1", 1);
    let by_tag = server.get("/v2/team/app/manifests/v1");
    assert_eq!(
        (by_tag.header("docker-content-digest"), by_tag.header("content-type")),
        (digest.as_str(), OCI_MANIFEST)
    );
    let by_digest = server.get(&format!("/v2/team/app/manifests/{digest}"));
    assert_eq!(by_digest.body, by_tag.body);
    let head = server.send("HEAD", "/v2/team/app/manifests/v1", &[], b"");
    assert_eq!(head.header("content-length"), by_tag.body.len().to_string());

    for tag in ["v3", "v2", "latest", "v10"] {
        server.manifest("team/app", tag, OCI_MANIFEST, &by_tag.body);
    }
    let all = ["latest", "v1", "v10", "v2", "v3"];
    assert_eq!(server.get("/v2/team/app/tags/list").list("tags"), all);
    let mut seen = Vec::new();
    let mut page = Some("/v2/team/app/tags/list?n=2".to_owned());
    while let Some(path) = page {
        let answer = server.get(&path);
        assert!(answer.list("tags").len() <= 2);
        seen.extend(answer.list("tags"));
        page = answer.next();
    }
    assert_eq!(seen, all);
    assert_eq!(server.get("/v2/team/app/tags/list?n=0").list("tags").len(), 0);
    assert_eq!(server.get("/v2/team/app/tags/list?last=v10").list("tags"), ["v2", "v3"]);
    let no_number = server.get("/v2/team/app/tags/list?n=x");
    assert_eq!((no_number.status, no_number.code().as_str()), (400, "UNSUPPORTED"));
    assert_eq!(server.get("/v2/team/tags/list").code(), "NAME_UNKNOWN");

    // A tag goes alone, a manifest with all of its tags.
    assert_eq!(server.send("DELETE", "/v2/team/app/manifests/v2", &[], b"").status, 202);
    assert_eq!(server.get("/v2/team/app/manifests/v2").code(), "MANIFEST_UNKNOWN");
    assert_eq!(server.get("/v2/team/app/manifests/v3").status, 200);
    let other = server.image("team/app", "other", 2);
    assert_eq!(server.send("DELETE", &format!("/v2/team/app/manifests/{digest}"), &[], b"").status, 202);
    assert_eq!(server.get("/v2/team/app/tags/list").list("tags"), ["other"]);
    assert_eq!(server.get("/v2/team/app/manifests/other").header("docker-content-digest"), other);
}

#[test]
fn catalog() {
    let server = Server::start(&[]);
    assert_eq!(server.get("/v2/_catalog").list("repositories").len(), 0);
    let names = ["a", "a/b/c", "a-b", "b", "b/c", "z/y/x"];
    for (seed, name) in names.iter().enumerate() {
        server.image(name, "v1", seed as u64);
    }
    server.blob("only/a/blob", b"x");
    assert_eq!(server.get("/v2/_catalog").list("repositories"), names);
    for size in 1..=names.len() {
        let (mut seen, mut page) = (Vec::new(), Some(format!("/v2/_catalog?n={size}")));
        while let Some(path) = page {
            let answer = server.get(&path);
            seen.extend(answer.list("repositories"));
            page = answer.next();
        }
        assert_eq!(seen, names);
    }
}

#[test]
fn docker_and_oci_manifests() {
    let server = Server::start(&[]);
    let (config, layer) = (b"{}".as_slice(), b"layer".as_slice());
    server.blob("a", config);
    server.blob("a", layer);
    let layers = vec![Descriptor::of(DOCKER_LAYER_GZIP, layer)];
    let docker = oci::Manifest::docker(Descriptor::of(DOCKER_CONFIG, config), layers).to_bytes();
    let digest = server.manifest("a", "docker", DOCKER_MANIFEST, &docker);
    assert_eq!(server.get("/v2/a/manifests/docker").header("content-type"), DOCKER_MANIFEST);
    let platform = json!({"architecture": "amd64", "os": "linux"});
    let entry = json!({"mediaType": DOCKER_MANIFEST, "digest": digest, "size": docker.len(), "platform": platform});
    let list = json!({"schemaVersion": 2, "mediaType": DOCKER_MANIFEST_LIST, "manifests": [entry]}).to_string();
    let list_digest = server.manifest("a", "list", DOCKER_MANIFEST_LIST, list.as_bytes());
    let with = |accept: &str| server.send("GET", "/v2/a/manifests/list", &[("Accept", accept)], b"");
    assert_eq!(with(DOCKER_MANIFEST_LIST).header("docker-content-digest"), list_digest);
    assert_eq!(with("*/*").header("content-type"), DOCKER_MANIFEST_LIST);
    // A client from before lists gets the manifest of the usual platform.
    let old = with(DOCKER_MANIFEST);
    assert_eq!((old.header("docker-content-digest"), old.header("content-type")), (digest.as_str(), DOCKER_MANIFEST));
    // An OCI index need not say what it is: its shape does.
    let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    server.manifest("a", "index", OCI_INDEX, index.as_bytes());
    assert_eq!(server.get("/v2/a/manifests/index").header("content-type"), OCI_INDEX);
    // Blanks and unknown fields are kept: it is the bytes that have a digest.
    let odd = format!("{{ \"new\": 1,\n{}  \n", &String::from_utf8(manifest(&[layer], config)).unwrap()[1..]);
    server.manifest("a", "odd", OCI_MANIFEST, odd.as_bytes());
    assert_eq!(server.get("/v2/a/manifests/odd").body, odd.as_bytes());
    // What a publisher keeps to itself need not be here.
    let mut foreign: serde_json::Value = serde_json::from_slice(&docker).unwrap();
    foreign["layers"].as_array_mut().unwrap().push(json!({
        "mediaType": oci::media_type::DOCKER_FOREIGN_LAYER_GZIP, "size": 5, "digest": Digest::of(b"far"),
        "urls": ["https://publisher.example/layer"],
    }));
    server.manifest("a", "foreign", DOCKER_MANIFEST, foreign.to_string().as_bytes());
}

#[test]
fn referrers() {
    let server = Server::start(&[]);
    server.blob("a", b"{}");
    let subject = server.image("a", "v1", 1);
    let list = |query: &str| server.get(&format!("/v2/a/referrers/{subject}{query}"));
    let digests = |answer: &Answer| -> Vec<String> {
        let json = answer.json();
        json["manifests"].as_array().unwrap().iter().map(|m| m["digest"].as_str().unwrap().to_owned()).collect()
    };
    let none = list("");
    assert_eq!((none.status, none.header("content-type"), digests(&none).len()), (200, OCI_INDEX, 0));
    let put = |kind: &str| {
        let bytes = artifact(kind, &subject, 9);
        let digest = Digest::of(&bytes).to_string();
        let path = format!("/v2/a/manifests/{digest}");
        let answer = server.send("PUT", &path, &[("Content-Type", OCI_MANIFEST)], &bytes);
        assert_eq!((answer.status, answer.header("oci-subject")), (201, subject.as_str()));
        digest
    };
    let (sbom, signature) = (put("application/sbom"), put("application/signature"));
    let mut both = digests(&list(""));
    both.sort();
    let mut expected = vec![sbom.clone(), signature.clone()];
    expected.sort();
    assert_eq!(both, expected);
    let filtered = list("?artifactType=application/sbom");
    assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
    let entry = &filtered.json()["manifests"][0];
    assert_eq!((digests(&filtered), &entry["annotations"]["of"]), (vec![sbom.clone()], &json!("application/sbom")));
    // Pages.
    let first = list("?n=1");
    let mut paged = digests(&first);
    paged.extend(digests(&server.get(&first.next().unwrap())));
    assert_eq!(paged, expected);

    // An older client keeps an index under a tag as well. What has no such subject is not listed for it, and nothing twice.
    let bytes = manifest(&[], b"{}");
    let other = server.manifest("a", Digest::of(&bytes).as_str(), OCI_MANIFEST, &bytes);
    let sbom_bytes = artifact("application/sbom", &subject, 9);
    let entries: Vec<_> = [(&other, bytes.len()), (&sbom, sbom_bytes.len())]
        .iter()
        .map(|(digest, size)| json!({"mediaType": OCI_MANIFEST, "digest": digest, "size": size, "artifactType": "x/y"}))
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).to_string();
    server.manifest("a", &subject.replace(':', "-"), OCI_INDEX, index.as_bytes());
    let mut listed = digests(&list(""));
    listed.sort();
    assert_eq!(listed, expected);
    assert_eq!(digests(&list("?artifactType=x/y")).len(), 0);

    // Deleted, it is no longer named.
    assert_eq!(server.send("DELETE", &format!("/v2/a/manifests/{signature}"), &[], b"").status, 202);
    assert!(!digests(&list("")).contains(&signature));
    assert_eq!(server.get("/v2/a/referrers/sha256:x").code(), "DIGEST_INVALID");
}

#[test]
fn refusals_have_their_codes() {
    let server = Server::start(&[]);
    let digest = server.image("a", "v1", 1);
    let absent = Digest::of(b"absent");
    let place = server.upload("a");
    let mut connection = server.connect();
    let mut refused = |method: &str, path: &str, status: u16, code: &str| {
        let answer = connection.send(method, path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/json");
    };
    refused("GET", "/v2/A/manifests/v1", 400, "NAME_INVALID");
    // What cannot be a tag is not there; only who wants to make it is told that it cannot be.
    refused("GET", "/v2/a/manifests/.INVALID_MANIFEST_NAME", 404, "MANIFEST_UNKNOWN");
    refused("DELETE", "/v2/a/manifests/-x", 404, "MANIFEST_UNKNOWN");
    refused("PUT", "/v2/a/manifests/-x", 400, "MANIFEST_INVALID");
    refused("GET", "/v2/a/manifests/v2", 404, "MANIFEST_UNKNOWN");
    refused("GET", &format!("/v2/a/manifests/{absent}"), 404, "MANIFEST_UNKNOWN");
    refused("GET", &format!("/v2/b/manifests/{digest}"), 404, "MANIFEST_UNKNOWN");
    refused("GET", &format!("/v2/a/blobs/{absent}"), 404, "BLOB_UNKNOWN");
    refused("GET", "/v2/a/blobs/md5:0123456789abcdef0123456789abcdef", 400, "DIGEST_INVALID");
    refused("DELETE", &format!("/v2/a/manifests/{absent}"), 404, "MANIFEST_UNKNOWN");
    refused("POST", "/v2/a/blobs/uploads/?digest=x", 400, "DIGEST_INVALID");
    refused("PUT", &place, 400, "DIGEST_INVALID");
    refused("PATCH", "/v2/a/blobs/uploads/0123456789abcdef0123456789abcdef", 404, "BLOB_UPLOAD_UNKNOWN");
    refused("PATCH", "/v2/a/blobs/uploads/../../x", 404, "UNSUPPORTED");
    refused("PUT", "/v2/_catalog", 405, "UNSUPPORTED");
    refused("GET", "/v3/", 404, "UNSUPPORTED");
    assert_eq!(connection.send("HEAD", "/v2/a/manifests/.INVALID_MANIFEST_NAME", &[], b"").status, 404);
    // Some clients write the colon of a digest as the query of a URL has it.
    let encoded = digest.replace(':', "%3A");
    assert_eq!(connection.send("GET", &format!("/v2/a/manifests/{encoded}"), &[], b"").status, 200);
    let mut refused = |method: &str, path: &str, status: u16, code: &str| {
        let answer = connection.send(method, path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{method} {path}");
    };
    // An upload belongs to the repository that it was begun in.
    refused("PATCH", &place.replace("/v2/a/", "/v2/b/"), 404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn manifests_that_are_refused() {
    let server = Server::start(&[]);
    server.blob("a", b"{}");
    server.blob("a", b"layer");
    let good = String::from_utf8(manifest(&[b"layer"], b"{}")).unwrap();
    let put = |path: &str, media_type: &str, body: &str| {
        let answer = server.send("PUT", path, &[("Content-Type", media_type)], body.as_bytes());
        (answer.status, answer.code())
    };
    let absent = Digest::of(b"absent").to_string();
    let invalid = (400, "MANIFEST_INVALID".to_owned());
    assert_eq!(put("/v2/a/manifests/x", OCI_MANIFEST, "no json"), invalid);
    assert_eq!(put("/v2/a/manifests/x", DOCKER_MANIFEST, &good), invalid);
    assert_eq!(put("/v2/a/manifests/x", "application/vnd.example+json", &good), invalid);
    assert_eq!(put("/v2/a/manifests/x", oci::media_type::DOCKER_MANIFEST_V1_SIGNED, &good), invalid);
    assert_eq!(put("/v2/a/manifests/x", OCI_MANIFEST, &good.replace(":2,", ":1,")), invalid);
    assert_eq!(put("/v2/a/manifests/x", OCI_MANIFEST, &good.replace("\"size\":5", "\"size\":6")), invalid);
    assert_eq!(put(&format!("/v2/a/manifests/{absent}"), OCI_MANIFEST, &good), (400, "DIGEST_INVALID".into()));
    let unknown = (400, "MANIFEST_BLOB_UNKNOWN".to_owned());
    assert_eq!(put("/v2/b/manifests/x", OCI_MANIFEST, &good), unknown);
    let layer = Digest::of(b"layer").to_string();
    assert_eq!(put("/v2/a/manifests/x", OCI_MANIFEST, &good.replace(&layer, &absent)), unknown);
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": absent, "size": 1});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    assert_eq!(put("/v2/a/manifests/x", OCI_INDEX, &index), unknown);
    // What an index says of its children is looked at as well.
    let child = server.manifest("a", Digest::of(good.as_bytes()).as_str(), OCI_MANIFEST, good.as_bytes());
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": child, "size": good.len() + 1});
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).to_string();
    assert_eq!(put("/v2/a/manifests/x", OCI_INDEX, &index), invalid);
    assert_eq!(server.get("/v2/a/tags/list").list("tags").len(), 0);
}

#[test]
fn a_manifest_is_what_its_body_says() {
    let server = Server::start(&[]);
    server.blob("a", b"{}");
    server.blob("a", b"layer");
    let put = |tag: &str, media_type: &str, body: &str| {
        server.send("PUT", &format!("/v2/a/manifests/{tag}"), &[("Content-Type", media_type)], body.as_bytes())
    };
    let untyped = |bytes: &[u8]| {
        let mut value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        value.as_object_mut().unwrap().remove("mediaType");
        value.to_string()
    };
    // Sent as an index, neither of these is one to whoever reads it later, and nobody would have looked for its blobs.
    let absent = untyped(&manifest(&[b"absent"], b"absent too"));
    for (media_type, body) in
        [(OCI_INDEX, "{\"schemaVersion\":2}"), (OCI_INDEX, &absent), (OCI_MANIFEST, "{\"schemaVersion\":2}")]
    {
        let answer = put("x", media_type, body);
        assert_eq!((answer.status, answer.code().as_str()), (400, "MANIFEST_INVALID"), "{body}");
    }
    assert_eq!(server.get("/v2/a/manifests/x").code(), "MANIFEST_UNKNOWN");
    // The type may be left out where the shape says it.
    let image = untyped(&manifest(&[b"layer"], b"{}"));
    assert_eq!(put("image", OCI_MANIFEST, &image).status, 201);
    let entry = json!({"mediaType": OCI_MANIFEST, "digest": Digest::of(image.as_bytes()), "size": image.len()});
    for (tag, entries) in [("index", vec![entry]), ("empty", vec![])] {
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        assert_eq!(put(tag, OCI_INDEX, &index).status, 201);
        assert_eq!(server.get(&format!("/v2/a/manifests/{tag}")).header("content-type"), OCI_INDEX);
    }
    assert_eq!(server.get("/v2/a/manifests/image").header("content-type"), OCI_MANIFEST);
}

#[test]
fn a_page_of_referrers_is_no_larger_than_a_manifest() {
    let server = Server::start(&[]);
    server.blob("a", b"{}");
    let subject = server.image("a", "v1", 1);
    let mut expected: Vec<String> = (0..5)
        .map(|n| {
            let mut bytes: serde_json::Value = serde_json::from_slice(&artifact("x/y", &subject, 9)).unwrap();
            bytes["annotations"]["text"] = format!("{n}{}", "x".repeat(1_900_000)).into();
            let bytes = bytes.to_string();
            server.manifest("a", Digest::of(bytes.as_bytes()).as_str(), OCI_MANIFEST, bytes.as_bytes())
        })
        .collect();
    expected.sort();
    let (mut seen, mut page) = (Vec::new(), Some(format!("/v2/a/referrers/{subject}")));
    while let Some(path) = page {
        let answer = server.get(&path);
        assert!(answer.body.len() <= 4 << 20, "{}", answer.body.len());
        let manifests = answer.json()["manifests"].as_array().unwrap().clone();
        seen.extend(manifests.iter().map(|entry| entry["digest"].as_str().unwrap().to_owned()));
        page = answer.next();
    }
    assert_eq!(seen, expected);
}

#[test]
fn a_manifest_that_is_pushed_and_deleted_at_once_is_there_or_not() {
    let server = Server::start(&[]);
    server.blob("a", b"{}");
    let bytes = manifest(&[], b"{}");
    let digest = Digest::of(&bytes);
    for _ in 0..150 {
        std::thread::scope(|scope| {
            let (server, bytes, digest) = (&server, &bytes, &digest);
            scope.spawn(move || server.manifest("a", "v1", OCI_MANIFEST, bytes));
            scope.spawn(move || server.send("DELETE", &format!("/v2/a/manifests/{digest}"), &[], b""));
        });
        // Whichever came last: no tag stands for what is not there.
        let tags = server.get("/v2/a/tags/list").list("tags");
        let there = server.get(&format!("/v2/a/manifests/{digest}")).status;
        assert!(matches!((tags.len(), there), (0, _) | (1, 200)), "{tags:?} {there}");
    }
}

#[test]
fn read_only() {
    let server = Server::start(&[]);
    let digest = server.image("a", "v1", 1);
    let dir = server.into_dir();
    let server = Server::over(&dir.path().join("storage"), &["--read-only"]);
    let before = server.objects();
    assert_eq!(server.get("/v2/a/manifests/v1").header("docker-content-digest"), digest);
    for (method, path) in [
        ("POST", "/v2/a/blobs/uploads/".to_owned()),
        ("PUT", "/v2/a/manifests/v2".to_owned()),
        ("DELETE", format!("/v2/a/manifests/{digest}")),
    ] {
        let answer = server.send(method, &path, &[], b"");
        assert_eq!((answer.status, answer.code().as_str()), (405, "UNSUPPORTED"));
    }
    assert_eq!(server.objects(), before);
}
