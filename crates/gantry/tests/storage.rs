//! What is on the disk: looked into, checked, counted, and kept within a budget.

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::Engine;

/// What a command of Gantry's own prints; it must succeed.
#[track_caller]
fn ok(engine: &Engine, arguments: &[&str]) -> String {
    let output = engine.gantry(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Commits a container that ran this script in an image.
fn layer(engine: &Engine, from: &str, script: &str, name: &str) {
    engine.ok(&["run", "--name", "step", from, "sh", "-c", script]);
    engine.ok(&["commit", "step", name]);
    engine.ok(&["rm", "step"]);
}

#[test]
fn layers_show_their_files_and_what_is_wasted() {
    let engine = Engine::start();
    engine.import_busybox();
    layer(&engine, "busybox", "head -c 300000 /dev/zero >/big; echo a >/etc/motd", "one");
    layer(&engine, "one", "rm /big; echo bb >/etc/motd; mkdir /opt; echo c >/opt/c", "two");
    let rows = ok(
        &engine,
        &[
            "image",
            "layers",
            "--format",
            "{{.Number}} {{.Size}} {{.Wasted}} {{.Added}} {{.Changed}} {{.Removed}}",
            "two",
        ],
    );
    let rows: Vec<&str> = rows.lines().collect();
    assert_eq!(rows.len(), 3);
    // In the second layer the directory /etc has changed too; its looks have not.
    assert_eq!(rows[1..], ["2 300kB 300kB 2 0 0", "3 5B 0B 2 1 1"]);
    let table = ok(&engine, &["image", "layers", "two"]);
    assert!(table.starts_with("LAYER"), "{table}");
    assert!(table.contains("wasted\n300kB     layer 2   /big"), "{table}");
    let wasted = ok(&engine, &["image", "layers", "--wasted", "two"]);
    assert!(wasted.contains("A  -rw-r--r--  0:0  300kB  wasted  /big"), "{wasted}");
    let files = ok(&engine, &["image", "layers", "--files", "two"]);
    let line = |path: &str| files.lines().rfind(|line| line.ends_with(path)).unwrap_or_default().to_owned();
    assert!(line(" /big").starts_with("D  -"), "{files}");
    assert!(line(" /etc/motd").starts_with("C  -rw-r--r--"), "{files}");
    assert!(line(" /opt").starts_with("A  drwxr-xr-x"), "{files}");
    // As one layer it is as large as it looks.
    let id = ok(&engine, &["image", "squash", "--from", "busybox", "two", "squashed:1"]);
    assert_eq!(engine.inspect("squashed:1")["Id"], id);
    let rows = ok(&engine, &["image", "layers", "--format", "{{.Size}} {{.Wasted}}", "squashed:1"]);
    assert_eq!(rows.lines().collect::<Vec<_>>()[1..], ["5B 0B"]);
    assert_eq!(
        engine.ok(&["run", "--rm", "squashed:1", "sh", "-c", "cat /etc/motd /opt/c; ls /big 2>&1 | wc -l"]),
        "bb\nc\n1"
    );
    assert_eq!(
        engine.ok(&["history", "--format", "{{.Comment}}", "squashed:1"]).lines().next(),
        Some(&*format!("squashed 2 layers of {}", engine.inspect("two")["Id"].as_str().unwrap()))
    );
    let refused = engine.gantry(&["image", "squash", "--from", "two", "busybox"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.ends_with("busybox was not made from two: its lowest layers are others\n"), "{text}");
    let missing = engine.gantry(&["image", "layers", "none"]);
    assert_eq!(String::from_utf8_lossy(&missing.stderr), "Error response from daemon: No such image: none:latest\n");
}

#[test]
fn verification_names_what_is_damaged() {
    let engine = Engine::start();
    engine.import_busybox();
    let text = ok(&engine, &["system", "verify"]);
    assert!(text.ends_with(": all as they should be"), "{text}");
    let layer = engine.inspect("busybox")["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    let hex = layer.strip_prefix("sha256:").unwrap();
    fs::write(engine.path(&format!("data/layers/{hex}/fs/etc/group")), "root:x:0:evil\n").unwrap();
    let output = engine.gantry(&["system", "verify", "--quiet"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with(&format!("layer {layer} (busybox:latest): ")), "{text}");
}

#[test]
fn the_sum_of_df_is_that_of_du() {
    let engine = Engine::start();
    engine.import_busybox();
    engine.ok(&[
        "run",
        "--name",
        "writer",
        "-v",
        "vol:/v",
        "busybox",
        "sh",
        "-c",
        "head -c 700000 /dev/urandom | tee /f >/v/f",
    ]);
    let sum: f64 = ok(&engine, &["system", "df", "--format", "{{.Size}}"]).lines().map(bytes).sum();
    let du = Command::new("du").args(["-s", "--block-size=1"]).arg(engine.path("data")).output().unwrap();
    let du: f64 = String::from_utf8_lossy(&du.stdout).split_whitespace().next().unwrap().parse().unwrap();
    // The client rounds to four digits, and the directories that hold all of it are nobody's.
    let difference = du - sum;
    assert!((-20_000.0..100_000.0).contains(&difference), "du {du}, df {sum}");
}

/// `1.23MB` as bytes.
fn bytes(text: &str) -> f64 {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[number.len()..] {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        other => panic!("unit {other}"),
    };
    number.parse::<f64>().unwrap() * unit
}

#[test]
fn a_disk_budget_removes_what_was_not_used_for_longest() {
    let engine = Engine::start_with(&["--disk-budget", "16m", "--disk-budget-high", "100", "--disk-budget-low", "70"]);
    engine.import_busybox();
    engine.ok(&["create", "--name", "user", "busybox"]);
    let mut events = engine
        .client_command("docker")
        .args(["events", "--filter", "type=image", "--filter", "event=delete", "--format", "{{.ID}}"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ids = Vec::new();
    let import = |name: &str, seed: u8| {
        let folder = engine.path(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("file"), vec![seed; 3 << 20]).unwrap();
        let tar = Command::new("tar").arg("-C").arg(&folder).args(["-cf", "-", "."]).output().unwrap().stdout;
        let path = engine.path(&format!("{name}.tar"));
        fs::write(&path, tar).unwrap();
        engine.ok(&["import", &path.display().to_string(), name])
    };
    for (name, seed) in [("first", 1), ("second:keep", 2), ("third", 3), ("fourth", 4)] {
        ids.push(import(name, seed));
        if name == "third" {
            ok(&engine, &["image", "pin", "third"]);
        }
    }
    // 2 + 4 × 3 MB are within the budget; the fifth is not.
    import("fifth", 5);
    let mut gone = String::new();
    BufReader::new(events.stdout.as_mut().unwrap()).read_line(&mut gone).unwrap();
    assert_eq!(gone.trim_end(), ids[0]);
    events.kill().unwrap();
    events.wait().unwrap();
    let images = engine.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    for kept in ["second:keep", "third:latest", "fifth:latest", "busybox:latest"] {
        assert!(images.contains(kept), "{kept} is gone: {images}");
    }
    assert!(!images.contains("first"), "{images}");
    let refused = engine.gantry(&["image", "unpin", "none"]);
    assert!(!refused.status.success());
    ok(&engine, &["image", "unpin", "third"]);
}

/// A file system on which overlay cannot work gets copies, and nobody notices but by what `info` says.
#[test]
fn containers_without_overlay() {
    let engine = Engine::start_with(&["--storage-driver", "vfs"]);
    engine.import_busybox();
    assert_eq!(engine.ok(&["info", "--format", "{{.Driver}}"]), "vfs");
    layer(&engine, "busybox", "rm -r /home; mkdir /opt; echo a >/opt/a; ln /opt/a /opt/b; chmod 700 /tmp", "one");
    let text = engine.ok(&[
        "run",
        "--rm",
        "one",
        "sh",
        "-c",
        "cat /opt/b; stat -c %a /tmp; ls -d /home 2>&1 | wc -l; stat -c %h /opt/a",
    ]);
    assert_eq!(text, "a\n700\n1\n2");
    engine.ok(&["run", "--name", "user", "--user", "nobody", "--workdir", "/var", "one", "id", "-un"]);
    assert_eq!(engine.ok(&["logs", "user"]), "nobody");
    assert_eq!(engine.ok(&["diff", "user"]), "");
    assert_eq!(engine.inspect("user")["GraphDriver"], serde_json::json!({"Data": null, "Name": "vfs"}));
    engine.ok(&["cp", "user:/opt/a", &engine.path("a").display().to_string()]);
    engine.ok(&["cp", &engine.path("a").display().to_string(), "user:/opt/new"]);
    assert_eq!(engine.ok(&["diff", "user"]), "C /opt\nA /opt/new");
    engine.ok(&["rm", "user"]);
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

/// A registry without a search is looked through by its catalog.
#[test]
fn repositories_are_found() {
    let engine = Engine::start();
    engine.import_busybox();
    let _registry = engine.registry();
    engine.ok(&["tag", "busybox", "localhost:5000/team/tool"]);
    engine.ok(&["push", "-q", "localhost:5000/team/tool"]);
    let found = ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"];
    for client in ["docker", support::GANTRY] {
        let output = engine.client_command(client).args(["search", "localhost:5000/tool"]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap_or_default().split_whitespace().collect::<Vec<_>>(), found, "{client}");
        assert!(lines.next().is_some_and(|line| line.starts_with("localhost:5000/team/tool ")), "{text}");
    }
    let (_, error) = engine.fails(&["search", "--limit", "101", "localhost:5000/tool"]);
    assert!(error.ends_with("limit 101 is outside the range of [1, 100]"), "{error}");
    let (_, error) = engine.fails(&["search", "--filter", "foo=bar", "localhost:5000/tool"]);
    assert!(error.ends_with("invalid filter 'foo'"), "{error}");
}

/// Whatever the size of a layer, what the engine needs for it is the same: 5 GiB of zeros come in, are compressed and
/// sent to a registry, and are pulled again.
#[test]
fn memory_does_not_grow_with_a_layer() {
    use std::io::{Read, Write};
    const SIZE: u64 = 5 << 30;
    const MOST: u64 = 100 << 10;
    let engine = Engine::start();
    let _registry = engine.registry();
    let name = "localhost:5000/zeros:1";
    let mut import = engine.client_command("docker");
    let mut import = import.args(["import", "-", name]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stream = import.stdin.take().unwrap();
    // A tar of one file (POSIX, ustar), whose length is an octal number, and whose sum counts itself as blanks.
    let mut header = [0; 512];
    for (at, text) in
        [(0, "zeros"), (100, "0000644"), (124, "50000000000"), (148, "        "), (156, "0"), (257, "ustar")]
    {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    stream.write_all(&header).unwrap();
    std::io::copy(&mut std::io::repeat(0).take(SIZE + 1024), &mut stream).unwrap();
    drop(stream);
    assert!(import.wait().unwrap().success());
    assert_eq!(engine.inspect(name)["Size"], SIZE);
    engine.ok(&["push", "-q", name]);
    engine.ok(&["rmi", name]);
    engine.ok(&["pull", "-q", name]);
    assert_eq!(engine.inspect(name)["Size"], SIZE);
    let pid = std::fs::read_to_string(engine.path("pid")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).unwrap();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    assert!(peak.is_some_and(|peak| peak < MOST), "at most {MOST} KiB of memory, but it was {peak:?}");
}
