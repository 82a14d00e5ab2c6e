//! Who may come in, and what for: passwords, tokens, rights, quotas, TLS; and what is told about it.

mod support;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use oci::Digest;
use oci::media_type::OCI_MANIFEST;
use std::path::Path;
use std::process::Command;
use support::image::{manifest, noise};
use support::{Answer, Server};

/// A file of users whose passwords are their names, twice.
fn users(dir: &Path, names: &[&str]) -> String {
    let line = |name: &&str| format!("{name}:{}\n", bcrypt::hash(format!("{name}{name}"), 4).unwrap());
    let path = dir.join("htpasswd");
    std::fs::write(&path, names.iter().map(line).collect::<String>()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn basic(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{user}{user}")))
}

/// A request of a user, or of somebody with this value of `Authorization`.
fn by(server: &Server, who: &str, method: &str, path: &str, body: &[u8]) -> Answer {
    let value = if who.is_empty() || who.contains(' ') { who.to_owned() } else { basic(who) };
    let headers: &[(&str, &str)] = &[("Authorization", &value), ("Content-Type", OCI_MANIFEST)];
    server.send(method, path, if who.is_empty() { &headers[1..] } else { headers }, body)
}

/// Pushes an image as somebody; the status of the last step.
fn push(server: &Server, who: &str, name: &str) -> u16 {
    for bytes in [b"layer".as_slice(), b"{}"] {
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(bytes));
        let answer = by(server, who, "POST", &path, bytes);
        if answer.status != 201 {
            return answer.status;
        }
    }
    by(server, who, "PUT", &format!("/v2/{name}/manifests/v1"), &manifest(&[b"layer"], b"{}")).status
}

#[test]
fn passwords_and_rights() {
    let dir = tempfile::tempdir().unwrap();
    let users = users(dir.path(), &["alice", "bob", "root"]);
    let rules = ["--allow", "root:*:*", "--allow", "alice:team/*:pull,push", "--allow", "*:shared/*:pull"];
    let public = ["--allow", "anonymous:public/*:pull", "--htpasswd", &users];
    let server = Server::start(&[&rules[..], &public[..]].concat());
    let base = by(&server, "", "GET", "/v2/", b"");
    assert_eq!((base.status, base.code().as_str()), (401, "UNAUTHORIZED"));
    assert_eq!(base.header("www-authenticate"), "Basic realm=\"gantry registry\"");
    assert_eq!(by(&server, "alice", "GET", "/v2/", b"").status, 200);
    assert_eq!(by(&server, "nobody", "GET", "/v2/", b"").status, 401);
    assert_eq!(by(&server, "Basic x", "GET", "/v2/", b"").status, 401);
    assert_eq!(by(&server, "Digest x", "GET", "/v2/", b"").status, 401);

    for name in ["team/app", "shared/app", "public/app", "secret"] {
        assert_eq!(push(&server, "root", name), 201);
    }
    let path = |name: &str| format!("/v2/{name}/manifests/v1");
    for (who, name, status) in [
        ("alice", "team/app", 200),
        ("bob", "team/app", 403),
        ("bob", "shared/app", 200),
        ("", "shared/app", 401),
        ("", "public/app", 200),
        ("bob", "public/app", 200),
        ("alice", "secret", 403),
    ] {
        assert_eq!(by(&server, who, "GET", &path(name), b"").status, status, "{who} {name}");
    }
    assert_eq!(push(&server, "alice", "team/other"), 201);
    assert_eq!(push(&server, "alice", "shared/other"), 403);
    let refused = by(&server, "alice", "DELETE", &path("team/app"), b"");
    assert_eq!((refused.status, refused.code().as_str()), (403, "DENIED"));
    assert_eq!(by(&server, "root", "DELETE", &path("team/other"), b"").status, 202);
    // A blob is not mounted from where one may not read: the upload begins instead.
    let digest = Digest::of(b"layer");
    let mount = |from: &str| {
        by(&server, "alice", "POST", &format!("/v2/team/x/blobs/uploads/?mount={digest}&from={from}"), b"").status
    };
    assert_eq!((mount("secret"), mount("shared/app")), (202, 201));
    let anywhere = by(&server, "alice", "POST", &format!("/v2/team/y/blobs/uploads/?mount={digest}"), b"");
    assert_eq!(anywhere.status, 202);
    // Everybody sees what they may pull.
    assert_eq!(by(&server, "bob", "GET", "/v2/_catalog", b"").list("repositories"), ["public/app", "shared/app"]);
    assert_eq!(by(&server, "root", "GET", "/v2/_catalog?n=2", b"").list("repositories").len(), 2);
    assert_eq!(by(&server, "", "GET", "/v2/_catalog", b"").status, 401);
}

#[test]
fn tokens_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let users = users(dir.path(), &["alice", "root"]);
    let rules = ["--allow", "root:*:*", "--allow", "alice:team/*:pull,push", "--allow", "anonymous:public/*:pull"];
    let server = Server::start(&[&rules[..], &["--htpasswd", &users, "--token-service"]].concat());
    assert_eq!(push(&server, "root", "public/app"), 201);
    let refused = by(&server, "", "GET", "/v2/team/app/tags/list", b"");
    assert_eq!(
        refused.header("www-authenticate"),
        "Bearer realm=\"http://registry/token\",service=\"gantry-registry\",scope=\"repository:team/app:pull\""
    );
    let token = |who: &str, query: &str| {
        let answer = by(&server, who, "GET", &format!("/token?service=gantry-registry{query}"), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["expires_in"], 300);
        format!("Bearer {}", answer.json()["token"].as_str().unwrap())
    };
    let team = "&scope=repository:team/app:pull,push,delete";
    let alice = token("alice", team);
    assert_eq!(push(&server, &alice, "team/app"), 201);
    // A token is good for what it was made for, and for what its owner may.
    assert_eq!(by(&server, &alice, "GET", "/v2/", b"").status, 200);
    let other = by(&server, &alice, "GET", "/v2/team/other/manifests/v1", b"");
    assert!(
        other.header("www-authenticate").ends_with("scope=\"repository:team/other:pull\",error=\"insufficient_scope\"")
    );
    assert_eq!(by(&server, &alice, "DELETE", "/v2/team/app/manifests/v1", b"").status, 401);
    let nobody = token("", &format!("{team}&scope=repository:public/app:pull"));
    assert_eq!(by(&server, &nobody, "GET", "/v2/team/app/manifests/v1", b"").status, 401);
    assert_eq!(by(&server, &nobody, "GET", "/v2/public/app/manifests/v1", b"").status, 200);
    assert_eq!(by(&server, "stranger", "GET", "/token", b"").status, 401);
    let two = token("root", "&scope=repository:team/app:pull%20repository:public/app:*");
    assert_eq!(by(&server, &two, "DELETE", "/v2/public/app/manifests/v1", b"").status, 202);
    assert_eq!(by(&server, &two, "GET", "/v2/_catalog", b"").list("repositories"), ["public/app", "team/app"]);
    // The same by a form.
    let form = "grant_type=password&username=alice&password=alicealice&scope=repository:team/app:pull";
    let post = |form: &str| {
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        server.send("POST", "/token", &headers, form.as_bytes())
    };
    let by_form = format!("Bearer {}", post(form).json()["access_token"].as_str().unwrap());
    assert_eq!(by(&server, &by_form, "GET", "/v2/team/app/manifests/v1", b"").status, 200);
    assert_eq!(post(&form.replace("alicealice", "wrong")).status, 401);
    assert_eq!(post("grant_type=refresh_token&refresh_token=x").code(), "UNSUPPORTED");
    // Changed by one letter, or made without a signature, it is worth nothing.
    let (head, signature) = alice.rsplit_once('.').unwrap();
    let none =
        format!("Bearer {}.{}.", BASE64_URL_SAFE_NO_PAD.encode("{\"alg\":\"none\"}"), head.rsplit_once('.').unwrap().1);
    for bad in [format!("{head}.A{}", &signature[1..]), none, "Bearer x".to_owned()] {
        assert!(bad != alice);
        let answer = by(&server, &bad, "GET", "/v2/team/app/manifests/v1", b"");
        assert!(answer.header("www-authenticate").ends_with("error=\"invalid_token\""), "{answer:?}");
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is on PATH");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A token that somebody else signs with a key of openssl.
fn signed(dir: &Path, key: &str, algorithm: &str, kid: Option<&str>, claims: &serde_json::Value) -> String {
    let encode = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    let header = serde_json::json!({"alg": algorithm, "typ": "JWT", "kid": kid});
    let message = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let (input, output) = (dir.join("message"), dir.join("signature"));
    std::fs::write(&input, &message).unwrap();
    openssl(&["dgst", "-sha256", "-sign", key, "-out", output.to_str().unwrap(), input.to_str().unwrap()]);
    let signature = std::fs::read(output).unwrap();
    format!("Bearer {message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn tokens_of_an_issuer_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (key, public, modulus) = (file("key.pem"), file("public.pem"), file("modulus"));
    openssl(&["genrsa", "-out", &key, "2048"]);
    openssl(&["rsa", "-in", &key, "-pubout", "-out", &public]);
    let hex = Command::new("openssl").args(["rsa", "-in", &key, "-noout", "-modulus"]).output().unwrap().stdout;
    let hex = String::from_utf8(hex).unwrap().trim().trim_start_matches("Modulus=").to_owned();
    let n: Vec<u8> = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let n = BASE64_URL_SAFE_NO_PAD.encode(n);
    let set =
        serde_json::json!({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "n": n, "e": "AQAB"}]});
    std::fs::write(&modulus, set.to_string()).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let good = serde_json::json!({
        "iss": "https://issuer.example", "aud": "images", "sub": "ci", "exp": now + 300, "nbf": now - 10,
        "access": [{"type": "repository", "name": "a", "actions": ["pull", "push"]}],
    });
    for keys in [&public, &modulus] {
        let options = ["--token-issuer", "https://issuer.example", "--token-issuer-keys", keys];
        let place = ["--token-audience", "images", "--token-realm", "https://issuer.example/token"];
        let server = Server::start(&[&options[..], &place[..]].concat());
        let refused = by(&server, "", "GET", "/v2/", b"");
        let challenge = "Bearer realm=\"https://issuer.example/token\",service=\"images\"";
        assert_eq!(refused.header("www-authenticate"), challenge);
        assert_eq!(push(&server, &signed(dir.path(), &key, "RS256", Some("k1"), &good), "a"), 201);
        for (field, value) in [
            ("iss", "https://other.example".into()),
            ("aud", "other".into()),
            ("exp", (now - 300).into()),
            ("nbf", (now + 300).into()),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let answer = by(&server, &signed(dir.path(), &key, "RS256", Some("k1"), &bad), "GET", "/v2/", b"");
            assert_eq!((answer.status, answer.code().as_str()), (401, "UNAUTHORIZED"), "{field}");
        }
        // Somebody elsewhere knows who that is, and said nothing of rights: there are none.
        let mut bare = good.clone();
        bare.as_object_mut().unwrap().remove("access");
        let bare = signed(dir.path(), &key, "RS256", Some("k1"), &bare);
        assert_eq!(by(&server, &bare, "GET", "/v2/_catalog", b"").list("repositories").len(), 0);
        assert_eq!(by(&server, &bare, "GET", "/v2/a/tags/list", b"").status, 401);
        assert_eq!(by(&server, &bare, "GET", "/metrics", b"").status, 401);
        let granted = |name: &str| {
            let mut claims = good.clone();
            claims["access"] = serde_json::json!([{"type": "registry", "name": name, "actions": ["*"]}]);
            signed(dir.path(), &key, "RS256", Some("k1"), &claims)
        };
        assert_eq!(by(&server, &granted("catalog"), "GET", "/v2/_catalog", b"").list("repositories"), ["a"]);
        assert_eq!(by(&server, &granted("metrics"), "GET", "/metrics", b"").status, 200);
        // The public key is no shared secret.
        let confused = signed(dir.path(), &key, "HS256", Some("k1"), &good);
        assert_eq!(by(&server, &confused, "GET", "/v2/", b"").status, 401);
        assert_eq!(by(&server, "", "GET", "/token", b"").status, 404);
    }
    // With users of its own as well: a name elsewhere is not the user of that name here.
    let users = users(dir.path(), &["ci"]);
    let both = ["--htpasswd", &users, "--token-service", "--token-audience", "images"];
    let issuer = ["--token-issuer", "https://issuer.example", "--token-issuer-keys", &public];
    let server = Server::start(&[&both[..], &issuer].concat());
    assert_eq!(push(&server, "ci", "b"), 201);
    let foreign = signed(dir.path(), &key, "RS256", Some("k1"), &good);
    assert_eq!(by(&server, &foreign, "GET", "/v2/_catalog", b"").list("repositories").len(), 0);
    let exchange = by(&server, &foreign, "GET", "/token?scope=repository:b:pull", b"");
    assert_eq!(exchange.status, 401, "{exchange:?}");
}

#[test]
fn tls_and_new_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("cert.pem"), file("key.pem"));
    let make = |days: &str| {
        let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"];
        let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        openssl(&[&kind[..], &subject[..], &["-days", days, "-keyout", &key, "-out", &certificate]].concat());
    };
    make("1");
    let server = Server::start(&["--tls-cert", &certificate, "--tls-key", &key]);
    let curl = |arguments: &[&str]| {
        let output =
            Command::new("curl").args(["-sS", "--fail", "--cacert", &certificate]).args(arguments).output().unwrap();
        (output.status.success(), output.stdout)
    };
    let bytes = noise(1, 5_000_000);
    let content = file("content");
    std::fs::write(&content, &bytes).unwrap();
    let digest = Digest::of(&bytes);
    let at = |path: &str| format!("https://127.0.0.1:{}{path}", server.port);
    let upload = at(&format!("/v2/a/blobs/uploads/?digest={digest}"));
    assert!(curl(&["--data-binary", &format!("@{content}"), &upload]).0);
    let (fine, found) = curl(&[&at(&format!("/v2/a/blobs/{digest}"))]);
    assert!(fine && found == bytes);
    // A new certificate is read when the process is told so; until then, clients that trust it alone refuse the old one.
    make("2");
    assert!(!curl(&[&at("/v2/")]).0);
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(server.pid() as i32).unwrap(),
        rustix::process::Signal::HUP,
    )
    .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !server.log.lock().unwrap().iter().any(|line| line.ends_with("certificates were read again")) {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert!(curl(&[&at("/v2/")]).0);
}

#[test]
fn quotas() {
    let quotas = ["--quota", "team/*=10k", "--quota", "total=20k"];
    let server = Server::start(&quotas);
    let push = |name: &str, seed: u64| {
        let bytes = noise(seed, 6_000);
        let answer =
            server.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={}", Digest::of(&bytes)), &[], &bytes);
        (answer.status, if answer.status == 201 { String::new() } else { answer.code() })
    };
    assert_eq!(push("team/a", 1).0, 201);
    assert_eq!(push("team/b", 2), (403, "DENIED".into()));
    // What is there already adds nothing; other repositories have their own limits.
    assert_eq!(push("team/a", 1).0, 201);
    assert_eq!(push("other", 2).0, 201);
    assert_eq!(push("other", 3).0, 201);
    assert_eq!(push("other", 4), (403, "DENIED".into()));
    // A stream of unknown length is looked at too, and so is a mount.
    let place = server.upload("team/c");
    let mut connection = server.connect();
    connection.head("PATCH", &place, &[("Transfer-Encoding", "chunked")]);
    connection.chunk(&noise(5, 6_000));
    connection.chunk(b"");
    let answer = connection.answer("PATCH");
    let digest = Digest::of(&noise(5, 6_000));
    let finished = server.send("PUT", &format!("{place}?digest={digest}"), &[], b"");
    assert_eq!((answer.status, finished.status), (202, 403), "{finished:?}");
    let digest = Digest::of(&noise(2, 6_000));
    let mount = format!("/v2/team/d/blobs/uploads/?mount={digest}&from=other");
    assert_eq!(server.send("POST", &mount, &[], b"").code(), "DENIED");
    assert_eq!(server.get(&format!("/v2/team/d/blobs/{digest}")).code(), "BLOB_UNKNOWN");
}

/// Whoever was told that a blob is stored finds it, however many push the same one where there is room for one.
#[test]
fn a_quota_takes_nothing_back_that_somebody_relies_on() {
    let limits: Vec<String> = (0..30).map(|n| format!("r{n}=10k")).collect();
    let options: Vec<&str> = limits.iter().flat_map(|limit| ["--quota", limit.as_str()]).collect();
    let server = Server::start(&options);
    for round in 0..30_u64 {
        let bytes = noise(round, 6_000);
        let digest = Digest::of(&bytes);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (server, bytes, digest) = (&server, &bytes, &digest);
                scope.spawn(move || {
                    let path = format!("/v2/r{round}/blobs/uploads/?digest={digest}");
                    let answer = server.send("POST", &path, &[], bytes);
                    assert_eq!(answer.status, 201, "{answer:?}");
                    assert_eq!(server.get(&format!("/v2/r{round}/blobs/{digest}")).status, 200);
                });
            }
        });
    }
}

#[test]
fn quotas_count_all_that_is_stored() {
    let server = Server::start(&["--quota", "few=10k", "--quota", "total=64k"]);
    server.blob("few", b"{}");
    // Manifests, and what is written of them for their subjects.
    let subject = Digest::of(b"subject").to_string();
    let statuses: Vec<u16> = (0..12)
        .map(|n| {
            let mut bytes: serde_json::Value =
                serde_json::from_slice(&support::image::artifact("x/y", &subject, 9)).unwrap();
            bytes["annotations"]["n"] = format!("{n}{}", "x".repeat(1000)).into();
            let bytes = bytes.to_string();
            let path = format!("/v2/few/manifests/{}", Digest::of(bytes.as_bytes()));
            server.send("PUT", &path, &[("Content-Type", OCI_MANIFEST)], bytes.as_bytes()).status
        })
        .collect();
    let taken = statuses.iter().filter(|status| **status == 201).count();
    assert!((3..=6).contains(&taken) && statuses.iter().all(|status| matches!(status, 201 | 403)), "{statuses:?}");
    // Uploads that nobody finishes.
    let statuses: Vec<u16> = (0..12)
        .map(|n| {
            let answer = server.send("POST", "/v2/many/blobs/uploads/", &[], b"");
            if answer.status != 202 {
                return answer.status;
            }
            server.send("PATCH", answer.header("location"), &[], &noise(n, 10_000)).status
        })
        .collect();
    let taken = statuses.iter().filter(|status| **status == 202).count();
    assert!((4..=6).contains(&taken) && statuses.iter().all(|status| matches!(status, 202 | 403)), "{statuses:?}");
}

#[test]
fn what_happens_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let server = Server::start(&["--access-log", log.to_str().unwrap()]);
    let digest = server.blob("team/app", b"content");
    let headers = [("User-Agent", "test/1")];
    server.send("GET", &format!("/v2/team/app/blobs/{digest}"), &headers, b"");
    server.send("GET", "/v2/team/app/manifests/no", &[], b"");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    for line in [
        "gantry_registry_requests_total{route=\"blob\",method=\"GET\",status=\"200\"} 1",
        "gantry_registry_requests_total{route=\"manifest\",method=\"GET\",status=\"404\"} 1",
        "gantry_registry_received_bytes_total 7",
        "gantry_registry_request_seconds_count{route=\"upload\"} 1",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line}\n{metrics}");
    }
    assert!(metrics.ends_with("# EOF\n"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let lines: Vec<serde_json::Value> = loop {
        let text = std::fs::read_to_string(&log).unwrap();
        if text.lines().count() >= 4 && text.ends_with('\n') {
            break text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        assert!(std::time::Instant::now() < deadline, "{text}");
        std::thread::yield_now();
    };
    let get = &lines[1];
    assert_eq!((&get["method"], &get["status"], &get["sent"]), (&"GET".into(), &200.into(), &7.into()));
    assert_eq!(
        (&get["repository"], &get["route"], &get["agent"]),
        (&"team/app".into(), &"blob".into(), &"test/1".into())
    );
    assert_eq!((&lines[0]["received"], &lines[2]["code"]), (&7.into(), &"MANIFEST_UNKNOWN".into()));
    assert!(get["time"].as_str().unwrap().ends_with('Z') && get["ms"].is_u64());
}

#[test]
fn who_leaves_is_told_of_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("access.log");
    let server = Server::start(&["--access-log", log.to_str().unwrap()]);
    let place = server.upload("a");
    let mut connection = server.connect();
    connection.head("PATCH", &place, &[("Content-Length", "10")]);
    connection.write(b"01234");
    drop(connection);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        if metrics.contains("active_requests 1\n") && text.contains("\"method\":\"PATCH\"") {
            assert!(text.lines().any(|line| line.contains("PATCH") && line.contains("\"received\":5,")), "{text}");
            assert!(metrics.contains("route=\"upload\",method=\"PATCH\""), "{metrics}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{metrics}\n{text}");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// An engine that says where it is, and then nothing any more.
#[test]
fn who_leaves_while_it_is_waited_for_an_engine_is_told_of_as_well() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let (log, socket) = (dir.path().join("access.log"), dir.path().join("engine.sock"));
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let (asked, asking) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n{\"DockerRootDir\":\"/nope\"}").unwrap();
        let (waiting, _) = listener.accept().unwrap();
        asked.send(waiting).unwrap();
    });
    let (log_text, socket) = (log.to_str().unwrap(), socket.to_str().unwrap());
    let options = ["--from-engine", "--engine-socket", socket, "--access-log", log_text];
    let server = Server::serve(&options, &[]);
    let mut connection = server.connect();
    connection.head("GET", "/v2/a/tags/list", &[]);
    let _engine = asking.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    drop(connection);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !std::fs::read_to_string(&log).unwrap().contains("\"path\":\"/v2/a/tags/list\"") {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("active_requests 1\n") && metrics.contains("status=\"499\""), "{metrics}");
}

#[test]
fn methods_that_somebody_makes_up_are_one() {
    let server = Server::start(&[]);
    for n in 0..5 {
        assert_eq!(server.send(&format!("MADEUP{n}"), "/v2/", &[], b"").status, 405);
    }
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("route=\"base\",method=\"other\",status=\"405\"} 5\n"), "{metrics}");
    assert!(!metrics.contains("MADEUP"), "{metrics}");
}

#[test]
fn settings_that_make_no_sense_are_refused_by_name() {
    for (options, reason) in [
        (&["--allow", "a:*:pull"][..], "there are no users without --htpasswd"),
        (&["--token-service"], "there are no users without --htpasswd"),
        (&["--token-realm", "https://x"], "there are tokens only with --token-service or --token-issuer"),
        (&["--tls-cert", "/x"], "--tls-key is missing"),
        (&["--token-issuer", "x"], "--token-issuer-keys is missing"),
        (&["--htpasswd", "/nonexistent"], "users: /nonexistent: No such file"),
        (&["--quota", "x"], "pattern=size is meant"),
        (&["--grace", "1m", "--settle", "1m"], "grace is not four times as long as settle"),
        (&["--storage", "ftp://x"], "unknown scheme"),
        (&["--nonsense"], "unexpected argument '--nonsense'"),
        (&["--token-issuer", "x", "--token-issuer-keys", "/x", "--token-key", "/x"], "--token-key"),
        (&["--token-issuer", "x", "--token-issuer-keys", "/x", "--token-expiry", "1m"], "--token-expiry"),
        (&["--pull-through", "docker.io", "--pull-through-expiry", "1h"], "--pull-through-expiry"),
        (
            &["--pull-through", "docker.io", "--pull-through-expiry", "9d", "--gc-interval", "0s"],
            "--pull-through-expiry",
        ),
        (&["--from-engine", "--gc-interval", "1h"], "--gc-interval"),
        (&["--from-engine", "--grace", "48h"], "--grace"),
        (&["--from-engine", "--settle", "1s"], "--settle"),
        (&["--from-engine", "--chunk-min-length", "2m"], "--chunk-min-length"),
        (&["--from-engine", "--max-uploads", "1"], "--max-uploads"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let storage = ["--listen", "127.0.0.1:0", "--storage", dir.path().to_str().unwrap()];
        let place_is_said = options.contains(&"--storage") || options.contains(&"--from-engine");
        let all = if place_is_said { options.to_vec() } else { [&storage[..], options].concat() };
        let said = Server::refused(&all);
        assert!(said.contains(reason), "{options:?}: {said}");
    }
}
