//! An engine and Gantry's registry: what one pushes the other keeps, and what the one has the other serves.

mod support;

use serde_json::Value;
use support::Engine;

/// Copies an image to a directory, which verifies every digest; returns its manifest.
fn copied(engine: &Engine, name: &str, folder: &str) -> Value {
    let place = engine.path(folder);
    let output = engine
        .inside("skopeo")
        .args(["--insecure-policy", "copy", "--src-tls-verify=false", &format!("docker://{name}")])
        .arg(format!("dir:{}", place.display()))
        .output()
        .expect("skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(place.join("manifest.json")).expect("a manifest")).expect("JSON")
}

/// A page of the registry as JSON.
fn get(engine: &Engine, path: &str) -> Value {
    let output = engine.inside("curl").args(["-s", &format!("http://localhost:5000{path}")]).output().expect("curl");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn what_an_engine_pushes_comes_back() {
    let engine = Engine::start();
    engine.import_busybox();
    let storage = engine.path("registry").display().to_string();
    let _registry = engine.gantry_registry("127.0.0.1:5000", &["--storage", &storage]);
    engine.ok(&["tag", "busybox", "localhost:5000/team/base:1"]);
    engine.ok(&["push", "-q", "localhost:5000/team/base:1"]);
    let id = engine.inspect("busybox")["Id"].clone();
    engine.ok(&["rmi", "localhost:5000/team/base:1", "busybox"]);
    engine.ok(&["pull", "-q", "localhost:5000/team/base:1"]);
    assert_eq!(engine.inspect("localhost:5000/team/base:1")["Id"], id);
    assert_eq!(engine.ok(&["run", "--rm", "localhost:5000/team/base:1", "echo", "hello"]), "hello");
}

#[test]
fn an_engine_shares_its_images() {
    let engine = Engine::start();
    engine.import_busybox();
    engine.ok(&["tag", "busybox", "team/app:1"]);
    let socket = engine.path("sock").display().to_string();
    let flags = ["--from-engine", "--engine-socket", &socket];
    let registry = engine.gantry_registry("127.0.0.1:5000", &flags);
    let repositories = get(&engine, "/v2/_catalog");
    let repositories: Vec<&str> =
        repositories["repositories"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(repositories.contains(&"busybox") && repositories.contains(&"team/app"), "{repositories:?}");
    assert_eq!(get(&engine, "/v2/team/app/tags/list")["tags"], serde_json::json!(["1"]));
    // The layers come with the digests that they have in the engine.
    let manifest = copied(&engine, "localhost:5000/team/app:1", "one");
    assert_eq!(manifest["config"]["digest"], engine.inspect("busybox")["Id"]);
    assert_eq!(copied(&engine, "localhost:5000/library/busybox:latest", "two"), manifest);
    assert_eq!(get(&engine, "/v2/team/app/manifests/2")["errors"][0]["code"], "MANIFEST_UNKNOWN");
    let layer = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(get(&engine, &format!("/v2/none/blobs/{layer}"))["errors"][0]["code"], "BLOB_UNKNOWN");
    // A part of a layer, and of the configuration, which is no file in the store.
    let config = manifest["config"]["digest"].as_str().unwrap().to_owned();
    for digest in [layer, config] {
        let url = format!("http://localhost:5000/v2/team/app/blobs/{digest}");
        let output = engine.inside("curl").args(["-s", "-r", "5-44", &url]).output().unwrap().stdout;
        let hex = digest.split_once(':').unwrap().1;
        assert_eq!(output, std::fs::read(engine.path("one").join(hex)).unwrap()[5..45]);
    }
    let push = engine.inside("curl").args(["-s", "-X", "POST", "http://localhost:5000/v2/a/blobs/uploads/"]).output();
    assert!(String::from_utf8_lossy(&push.unwrap().stdout).contains("it takes no pushes"));
    // What was pulled goes out as it came.
    drop(registry);
    let storage = engine.path("registry").display().to_string();
    let other = engine.gantry_registry("127.0.0.1:5000", &["--storage", &storage]);
    engine.ok(&["tag", "busybox", "localhost:5000/team/base:1"]);
    engine.ok(&["push", "-q", "localhost:5000/team/base:1"]);
    let pushed = copied(&engine, "localhost:5000/team/base:1", "three");
    engine.ok(&["rmi", "-f", "localhost:5000/team/base:1", "busybox", "team/app:1"]);
    engine.ok(&["pull", "-q", "localhost:5000/team/base:1"]);
    drop(other);
    let _registry = engine.gantry_registry("127.0.0.1:5000", &flags);
    assert_eq!(copied(&engine, "localhost:5000/team/base:1", "four"), pushed);
    // And an engine takes its own image from there as any other would.
    engine.ok(&["rmi", "-f", "localhost:5000/team/base:1"]);
    assert!(engine.fails(&["pull", "-q", "localhost:5000/team/base:1"]).1.contains("manifest unknown"));
}
