//! HTTP as clients see it: versions, headers, errors, bodies, connections that leave HTTP.

mod support;

use support::Daemon;

#[test]
fn daemon_process() {
    support::be_the_daemon();
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn every_answer_says_who_speaks() {
    let daemon = Daemon::start(&[]);
    let answer = daemon.ask("GET", "/_ping");
    for line in [
        "HTTP/1.1 200 OK\r\n",
        "Api-Version: 1.50\r\n",
        "Docker-Experimental: false\r\n",
        "Ostype: linux\r\n",
        "Server: Docker/",
        "Builder-Version: 2\r\n",
        "Cache-Control: no-cache, no-store, must-revalidate\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n",
    ] {
        assert!(answer.contains(line), "{line:?} is missing in {answer}");
    }
    assert_eq!(body(&answer), "OK");
    assert_eq!(body(&daemon.ask("HEAD", "/_ping")), "");
    assert!(daemon.ask("OPTIONS", "/anything").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn versions_are_negotiated_in_docker_s_words() {
    let daemon = Daemon::start(&[]);
    let message = |path: &str| body(&daemon.ask("GET", path)).trim().to_owned();
    assert_eq!(
        message("/v1.51/info"),
        r#"{"message":"client version 1.51 is too new. Maximum supported API version is 1.50"}"#
    );
    assert_eq!(
        message("/v1.23/info"),
        r#"{"message":"client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"}"#
    );
    for path in ["/nope", "/v1.45/nope", "/v1.x/info", "/v1.23/nope"] {
        assert_eq!(message(path), r#"{"message":"page not found"}"#, "{path}");
    }
    assert!(daemon.ask("GET", "/v1.24/version").starts_with("HTTP/1.1 200"));
    assert!(daemon.ask("GET", "//v1.45/info?a=b").contains("Location: /v1.45/info?a=b\r\n"));
}

#[test]
fn bodies_are_checked_before_anything_is_done() {
    let daemon = Daemon::start(&[]);
    let message = |kind: &str, text: &str| {
        let answer = daemon.send("POST", "/v1.50/containers/create", kind, text);
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        body(&answer).trim().trim_start_matches(r#"{"message":""#).trim_end_matches(r#""}"#).to_owned()
    };
    let json = "application/json";
    assert_eq!(message(json, ""), "invalid JSON: got EOF while reading request body");
    assert_eq!(message("text/plain", "{}"), "unsupported Content-Type header (text/plain): must be 'application/json'");
    assert_eq!(message(json, "{x"), "invalid JSON: invalid character 'x' looking for beginning of object key string");
    assert_eq!(message(json, "{} {}"), "unexpected content after JSON");
    assert_eq!(message(json, "{}"), "config cannot be empty in order to create a container");
    assert_eq!(
        message(json, r#"{"Image":3}"#),
        "invalid JSON: json: cannot unmarshal number into Go struct field CreateRequest.Config.Image of type string"
    );
}

#[test]
fn an_oversized_body_is_refused_without_being_kept() {
    let daemon = Daemon::start(&[]);
    let text = format!(r#"{{"Image":"{}"}}"#, "x".repeat(17 << 20));
    let answer = daemon.send("POST", "/v1.50/containers/create", "application/json", &text);
    assert!(answer.starts_with("HTTP/1.1 413 "), "{}", &answer[..answer.len().min(200)]);
    assert!(body(&answer).contains("request body too large"));
    assert!(daemon.ask("GET", "/_ping").starts_with("HTTP/1.1 200"));
}

#[test]
fn what_is_no_http_ends_one_connection_only() {
    let daemon = Daemon::start(&[]);
    for text in ["GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\0\0\0\0\r\n\r\n"] {
        let answer = daemon.raw(text);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20));
    assert!(!daemon.raw(&long).starts_with("HTTP/1.1 200"));
    assert!(daemon.ask("GET", "/_ping").starts_with("HTTP/1.1 200"));
}

#[test]
fn attach_to_nobody_has_left_http_already() {
    let daemon = Daemon::start(&[]);
    let answer = daemon.raw(
        "POST /v1.50/containers/nobody/attach?stream=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n",
    );
    assert_eq!(
        answer,
        "HTTP/1.1 404 Not Found\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\nNo such container: nobody\r\n"
    );
}

#[test]
fn the_docker_command_line_is_at_home() {
    let daemon = Daemon::start(&[]);
    let docker = |arguments: &[&str]| {
        let output = std::process::Command::new("docker")
            .args(arguments)
            .env("DOCKER_HOST", format!("unix://{}", daemon.path("sock").display()))
            .output()
            .expect("the docker command");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(docker(&["version", "--format", "{{.Server.APIVersion}} {{.Client.APIVersion}}"]).trim(), "1.50 1.50");
    assert_eq!(docker(&["ps", "-aq"]), "");
    assert_eq!(docker(&["images", "-q"]), "");
    assert_eq!(docker(&["info", "--format", "{{.Containers}} {{.OSType}}"]).trim(), "0 linux");
    assert_eq!(docker(&["network", "ls", "--format", "{{.Name}}"]).lines().count(), 3);
    assert_eq!(docker(&["volume", "create", "one"]).trim(), "one");
    assert_eq!(docker(&["events", "--since", "1", "--until", "2"]), "");
    assert!(docker(&["system", "df"]).contains("Local Volumes"));
}
