//! Images between registries, archives, engines and other tools, as a user moves them.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use support::{Engine, Terminal};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// What Gantry's own command line prints; it must succeed.
#[track_caller]
fn gantry(engine: &Engine, arguments: &[&str]) -> String {
    let output = engine.gantry(arguments);
    assert!(output.status.success(), "gantry {arguments:?}: {}\n{}", text(&output.stderr), engine.log());
    text(&output.stdout)
}

/// Its exit code and error text; it must fail.
#[track_caller]
fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    text(&output.stderr)
}

#[test]
fn copied_from_repository_to_repository() {
    let engine = Engine::start();
    engine.import_busybox();
    let _registry = engine.registry();
    engine.ok(&["tag", "busybox", "localhost:5000/a/b:1"]);
    engine.ok(&["push", "-q", "localhost:5000/a/b:1"]);
    let digest = text(&engine.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", "localhost:5000/a/b:1"]).stdout);
    let digest = digest.split('@').nth(1).expect("a digest").to_owned();
    engine.ok(&["rmi", "localhost:5000/a/b:1"]);
    let before = engine.ok(&["images", "-aq"]);

    let copied = gantry(&engine, &["image", "copy", "localhost:5000/a/b:1", "localhost:5000/c"]);
    let lines: Vec<&str> = copied.lines().collect();
    assert_eq!(lines[0], "Copying localhost:5000/a/b:1 to localhost:5000/c:1");
    assert!(lines.iter().any(|line| line.ends_with(": Mounted from a/b")), "{copied}");
    assert_eq!(lines.last().copied(), Some(format!("localhost:5000/c@{digest}").as_str()));
    let quiet = gantry(&engine, &["image", "copy", "-q", "localhost:5000/a/b:1", "localhost:5000/c:2"]);
    assert_eq!(quiet, format!("localhost:5000/c@{digest}"));
    assert_eq!(engine.ok(&["images", "-aq"]), before, "nothing of it stays here");
    assert_eq!(gantry(&engine, &["pull", "-q", "--all-platforms", "localhost:5000/c:2"]), "localhost:5000/c:2");
    assert_eq!(engine.ok(&["run", "--rm", "localhost:5000/c:2", "echo", "fine"]), "fine");

    let missing = refused(&engine.gantry(&["image", "copy", "localhost:5000/no:1", "localhost:5000/c"]));
    assert!(missing.contains("manifest for localhost:5000/no:1 not found"), "{missing}");
    // A command and a flag of ours: Docker's pages stay Docker's.
    let pages = |program: fn(&Engine, &[&str]) -> Output| {
        let page = |words: &[&str]| text(&program(&engine, words).stdout);
        (page(&["image", "--help"]).contains("  copy "), page(&["pull", "--help"]).contains("--all-platforms"))
    };
    assert_eq!(pages(Engine::gantry), (true, true));
}

#[test]
fn a_policy_is_kept_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("policy.toml");
    fs::write(&policy, "").expect("a policy");
    let engine = Engine::start_with(&["--policy-file", policy.to_str().expect("a path")]);
    engine.import_busybox();
    let _registry = engine.registry();
    for name in ["localhost:5000/team/good:1", "localhost:5000/other/bad:1"] {
        engine.ok(&["tag", "busybox", name]);
        engine.ok(&["push", "-q", name]);
    }
    let rules = "default = \"block\"\n\
                 [[rule]]\nname = \"ours\"\naction = \"allow\"\nregistry = \"localhost:5000\"\nrepository = \"team/*\"\n\
                 [[rule]]\nname = \"nothing else from there\"\naction = \"block\"\nregistry = \"localhost:5000\"\n";
    fs::write(&policy, rules).expect("a policy");
    engine.ok(&["pull", "-q", "localhost:5000/team/good:1"]);
    engine.ok(&["push", "-q", "localhost:5000/team/good:1"]);
    assert_eq!(engine.ok(&["run", "--rm", "localhost:5000/team/good:1", "echo", "fine"]), "fine");
    let rule = format!("is blocked by rule \"nothing else from there\" of {}", policy.display());
    for (arguments, what) in [
        (&["pull", "localhost:5000/other/bad:1"][..], "pull of"),
        (&["push", "localhost:5000/other/bad:1"], "push to"),
        (&["run", "localhost:5000/other/bad:1", "true"], "run of"),
    ] {
        let (_, error) = engine.fails(arguments);
        assert!(error.contains(&format!("{what} localhost:5000/other/bad {rule}")), "{arguments:?}: {error}");
    }
    let copy = ["image", "copy", "localhost:5000/other/bad:1", "localhost:5000/team/x"];
    assert!(refused(&engine.gantry(&copy)).contains(&rule));
    let copy = ["image", "copy", "localhost:5000/team/good:1", "localhost:5000/other/x"];
    assert!(refused(&engine.gantry(&copy)).contains("push to localhost:5000/other/x is blocked"));

    // By its id an image has all its names; when none of them may run, it may not.
    let id = engine.ok(&["inspect", "-f", "{{.Id}}", "busybox"]);
    assert_eq!(engine.ok(&["run", "--rm", &id, "echo", "fine"]), "fine");
    engine.ok(&["rmi", "localhost:5000/team/good:1", "busybox"]);
    let (_, error) = engine.fails(&["run", "--rm", &id, "true"]);
    assert!(error.contains("is blocked by rule"), "{error}");
    // What cannot be read allows nothing.
    fs::write(&policy, "defalt = \"allow\"").expect("a policy");
    let (_, error) = engine.fails(&["pull", "localhost:5000/team/good:1"]);
    assert!(error.contains("reading the policy") && error.contains("defalt"), "{error}");
}

/// Tools that know only the formats: what they write is read, and they read what we write.
#[test]
fn archives_of_other_tools() {
    let engine = Engine::start();
    engine.import_busybox();
    let _registry = engine.registry();
    engine.ok(&["tag", "busybox", "localhost:5000/a:1"]);
    engine.ok(&["push", "-q", "localhost:5000/a:1"]);
    let id = engine.ok(&["inspect", "-f", "{{.Id}}", "busybox"]);
    let path = |name: &str| engine.path(name).display().to_string();
    let skopeo = |arguments: &[&str]| {
        let mut command = engine.inside("skopeo");
        let output = command.arg("--insecure-policy").args(arguments).output().expect("skopeo");
        assert!(output.status.success(), "skopeo {arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    let registry = "docker://localhost:5000/a:1";
    skopeo(&["copy", "--src-tls-verify=false", registry, &format!("oci:{}:x:1", path("layout"))]);
    skopeo(&["copy", "--src-tls-verify=false", registry, &format!("docker-archive:{}:made:1", path("docker.tar"))]);
    let packed = Command::new("tar")
        .arg("-C")
        .arg(engine.path("layout"))
        .arg("-cf")
        .arg(engine.path("oci.tar"))
        .arg(".")
        .status();
    assert!(packed.expect("tar").success());
    for (file, name) in [("docker.tar", "made:1"), ("oci.tar", "x:1")] {
        let loaded = engine.ok(&["load", "-i", &path(file)]);
        assert_eq!(loaded, format!("Loaded image: {name}"), "{file}");
        assert_eq!(engine.ok(&["run", "--rm", "--net=none", name, "echo", "fine"]), "fine", "{file}");
    }
    // The other format has another configuration.
    assert_eq!(engine.ok(&["inspect", "-f", "{{.Id}}", "made:1"]), id);

    engine.ok(&["save", "-o", &path("saved.tar"), "busybox"]);
    let seen = skopeo(&["inspect", "--config", &format!("docker-archive:{}", path("saved.tar"))]);
    assert!(seen.contains("rootfs"), "{seen}");
    fs::create_dir(engine.path("unpacked")).expect("a folder");
    let unpacked =
        Command::new("tar").arg("-C").arg(engine.path("unpacked")).arg("-xf").arg(engine.path("saved.tar")).status();
    assert!(unpacked.expect("tar").success());
    let seen = skopeo(&["inspect", "--raw", &format!("oci:{}", path("unpacked"))]);
    assert!(seen.contains("application/vnd.oci.image.manifest.v1+json"), "{seen}");
    // Images in zstd come as well as in gzip.
    skopeo(&[
        "copy",
        "--src-tls-verify=false",
        "--dest-tls-verify=false",
        "--format=oci",
        "--dest-compress-format=zstd",
        &format!("oci:{}", path("unpacked")),
        "docker://localhost:5000/zstd:1",
    ]);
    engine.ok(&["pull", "-q", "localhost:5000/zstd:1"]);
    assert_eq!(engine.ok(&["run", "--rm", "localhost:5000/zstd:1", "echo", "fine"]), "fine");
}

/// A client whose passwords a helper program keeps: one entry, in the file that this returns.
fn with_helper(engine: &Engine) -> String {
    use std::os::unix::fs::PermissionsExt;
    let client = engine.path("client");
    fs::create_dir_all(&client).expect("the client's folder");
    fs::write(client.join("config.json"), "{\"credsStore\": \"test\"}").expect("its configuration");
    let kept = engine.path("kept").display().to_string();
    let helper = engine.path("bin").join("docker-credential-test");
    fs::create_dir_all(engine.path("bin")).expect("a folder");
    let script = format!(
        "#!/bin/sh\ncase $1 in store) cat >{kept};; erase) rm -f {kept};; get) cat {kept} 2>/dev/null || \
         {{ echo 'credentials not found in native keychain'; exit 1; }};; esac\n"
    );
    fs::write(&helper, script).expect("the helper");
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).expect("its mode");
    kept
}

/// A command of that client.
fn beside_helper(engine: &Engine, arguments: &[&str]) -> Command {
    let mut command = engine.client_command(support::GANTRY);
    command.env("PATH", format!("{}:{}", engine.path("bin").display(), std::env::var("PATH").unwrap_or_default()));
    command.args(arguments);
    command
}

/// A registry that wants a password, which is "secret", of the user "me".
fn guarded(engine: &Engine) -> support::Registry {
    let user = "me:$2b$04$Z0.hFHZ4bSlJAIghMwNPX.H6spHCJ8CvyFLU6yErUyW1L1vzHnBmG\n";
    fs::write(engine.path("htpasswd"), user).expect("the registry's users");
    engine.registry_with(&format!("auth: {{htpasswd: {{realm: x, path: {}}}}}\n", engine.path("htpasswd").display()))
}

/// `login` with a helper program that keeps the password, `logout`, and a registry that wants both.
#[test]
fn credentials_of_a_helper() {
    let engine = Engine::start();
    engine.import_busybox();
    let _registry = guarded(&engine);
    let kept = with_helper(&engine);
    let gantry = |arguments: &[&str]| beside_helper(&engine, arguments).output().expect("gantry");
    engine.ok(&["tag", "busybox", "localhost:5000/a:1"]);
    assert!(refused(&gantry(&["push", "localhost:5000/a:1"])).contains("no basic auth credentials"));
    let wrong = refused(&gantry(&["login", "-u", "me", "-p", "wrong", "localhost:5000"]));
    assert!(wrong.contains("unauthorized") || wrong.contains("401"), "{wrong}");
    let login = gantry(&["login", "-u", "me", "-p", "secret", "localhost:5000"]);
    assert!(login.status.success() && text(&login.stdout).ends_with("Login Succeeded"), "{}", text(&login.stderr));
    assert!(fs::read_to_string(&kept).expect("what the helper keeps").contains("\"Secret\":\"secret\""));
    let config = fs::read_to_string(engine.path("client").join("config.json")).expect("the configuration");
    assert!(config.contains("localhost:5000") && !config.contains("auth\":"), "{config}");
    let pushed = gantry(&["push", "-q", "localhost:5000/a:1"]);
    assert!(pushed.status.success(), "{}", text(&pushed.stderr));
    assert!(gantry(&["image", "copy", "-q", "localhost:5000/a:1", "localhost:5000/b"]).status.success());
    assert!(gantry(&["pull", "-q", "localhost:5000/b:1"]).status.success());
    assert!(gantry(&["logout", "localhost:5000"]).status.success());
    assert!(!Path::new(&kept).exists());
    assert!(refused(&gantry(&["pull", "localhost:5000/a:1"])).contains("no basic auth credentials"));
}

/// When the password has changed, the user is asked for the new one.
#[test]
fn stored_credentials_that_no_longer_hold() {
    let engine = Engine::start();
    let _registry = guarded(&engine);
    let kept = with_helper(&engine);
    let login = beside_helper(&engine, &["login", "-u", "me", "-p", "secret", "localhost:5000"]).output();
    assert!(login.expect("gantry").status.success());
    let stored = fs::read_to_string(&kept).expect("what the helper keeps");
    fs::write(&kept, stored.replace("\"secret\"", "\"old\"")).expect("an old password");
    let mut terminal = Terminal::spawn(beside_helper(&engine, &["login", "localhost:5000"]));
    terminal.expect("Authenticating with existing credentials...");
    // So the engine says it of a registry without a token server, as Docker's does.
    terminal.expect("Login did not succeed, error: Error response from daemon: login attempt to http://localhost:5000");
    terminal.expect("Username (me): ");
    terminal.send("\n");
    terminal.expect("Password: ");
    terminal.send("secret\n");
    terminal.expect("Login Succeeded");
    assert_eq!(terminal.wait(), 0);
    assert!(fs::read_to_string(&kept).expect("what the helper keeps").contains("\"Secret\":\"secret\""));
}

/// What the registry has under a name, for those whom it tells.
#[test]
fn a_name_is_looked_up_at_its_registry() {
    let engine = Engine::start();
    engine.import_busybox();
    let _registry = guarded(&engine);
    with_helper(&engine);
    for arguments in
        [&["login", "-u", "me", "-p", "secret", "localhost:5000"][..], &["push", "-q", "localhost:5000/a:1"]]
    {
        engine.ok(&["tag", "busybox", "localhost:5000/a:1"]);
        assert!(beside_helper(&engine, arguments).output().expect("gantry").status.success(), "{arguments:?}");
    }
    let ask = |auth: &str| {
        let mut curl = engine.inside("curl");
        curl.arg("-s").arg("--unix-socket").arg(engine.path("sock")).args(["-w", "\n%{http_code}", "-H"]);
        curl.arg(format!("X-Registry-Auth: {auth}")).arg("http://engine/v1.45/distribution/localhost:5000/a:1/json");
        text(&curl.output().expect("curl").stdout)
    };
    // {"username":"me","password":"secret"}
    let told = ask("eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQifQ==");
    let (body, status) = told.rsplit_once('\n').expect("two lines");
    let body: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {told}"));
    assert_eq!((status, &body["Platforms"][0]["os"]), ("200", &serde_json::json!("linux")), "{told}");
    let digest = body["Descriptor"]["digest"].as_str().expect("a digest");
    let known = engine.ok(&["inspect", "-f", "{{.RepoDigests}}", "localhost:5000/a:1"]);
    assert!(known.contains(digest), "{known}");
    // {"username":"me","password":"wrong"}
    let wrong = ask("eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJ3cm9uZyJ9");
    assert!(wrong.ends_with("\n401"), "{wrong}");
}

/// A small disk: pulls and loads fail with the kernel's reason and leave nothing but what the next attempt goes on with.
#[test]
fn a_full_disk_while_images_come() {
    let small = Engine::start_on_small_disk(24 << 20);
    let _registry = small.registry();
    let large = Engine::start();
    // One byte over and over is nothing on the way and much on the disk.
    fs::create_dir_all(large.path("sevens")).expect("a folder");
    fs::write(large.path("sevens/file"), vec![7; 60 << 20]).expect("a large file");
    let tar = large.path("sevens.tar").display().to_string();
    let packed = Command::new("tar").arg("-C").arg(large.path("sevens")).args(["-cf", &tar, "."]).status();
    assert!(packed.expect("tar").success());
    large.ok(&["import", &tar, "localhost:5000/sevens:1"]);
    let archive = large.path("saved.tar").display().to_string();
    large.ok(&["save", "-o", &archive, "localhost:5000/sevens:1"]);
    // The registry is the small engine's neighbour, so the image goes there through skopeo.
    let mut skopeo = small.inside("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]);
    let copied = skopeo.arg(format!("docker-archive:{archive}")).arg("docker://localhost:5000/sevens:1").output();
    let copied = copied.expect("skopeo");
    assert!(copied.status.success(), "{}", text(&copied.stderr));
    for arguments in [&["pull", "localhost:5000/sevens:1"][..], &["load", "-i", &archive]] {
        let (_, error) = small.fails(arguments);
        assert!(error.to_lowercase().contains("no space left on device"), "{arguments:?}: {error}");
        assert_eq!(small.ok(&["images", "-q"]), "");
        for folder in ["data/layers/unpacking", "data/blobs/ingest", "data/blobs/sha256"] {
            let remains = fs::read_dir(small.path(folder)).map_or(0, Iterator::count);
            assert_eq!(remains, 0, "something remains in {folder} after {arguments:?}");
        }
    }
    small.import_busybox();
    assert_eq!(small.ok(&["run", "--rm", "--net=none", "busybox", "echo", "still good"]), "still good");
}

/// A push that has to compress a layer first needs room for it.
#[test]
fn a_full_disk_while_an_image_goes() {
    let small = Engine::start_on_small_disk(32 << 20);
    let _registry = small.registry();
    // What no compression shrinks: as large again as a blob.
    fs::create_dir(small.path("noise")).expect("a folder");
    let mut noise = vec![0; 8 << 20];
    let mut state = 1u64;
    for byte in &mut noise {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    fs::write(small.path("noise/file"), noise).expect("a file");
    let tar = small.path("noise.tar").display().to_string();
    let packed = Command::new("tar").arg("-C").arg(small.path("noise")).args(["-cf", &tar, "."]).status();
    assert!(packed.expect("tar").success());
    small.ok(&["import", &tar, "localhost:5000/noise:1"]);
    let fill = small.path("data/fill");
    let mut file = fs::File::create(&fill).expect("a file");
    while std::io::Write::write_all(&mut file, &[1; 64 << 10]).is_ok() {}
    let (_, error) = small.fails(&["push", "localhost:5000/noise:1"]);
    assert!(error.to_lowercase().contains("no space left on device"), "{error}");
    for folder in ["data/blobs/ingest", "data/blobs/sha256"] {
        assert_eq!(fs::read_dir(small.path(folder)).map_or(0, Iterator::count), 0, "something remains in {folder}");
    }
    drop(file);
    fs::remove_file(fill).expect("room");
    small.ok(&["push", "-q", "localhost:5000/noise:1"]);
}
