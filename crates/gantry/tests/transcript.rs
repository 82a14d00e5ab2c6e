//! The five lines that Docker was introduced with, by the unmodified docker command line and a terminal.

mod support;

use support::{Engine, Terminal};

/// `docker run -t -i ubuntu bash`
#[test]
fn a_shell_on_a_terminal() {
    let engine = Engine::start();
    engine.import_busybox();
    for program in ["docker", support::GANTRY] {
        let mut command = engine.client_command(program);
        command.args(["run", "--rm", "-t", "-i", "--hostname", "box", "busybox", "sh"]);
        let mut terminal = Terminal::spawn(command);
        terminal.expect("/ # ");
        terminal.send("echo pid=$$ host=$(hostname)\n");
        terminal.expect("pid=1 host=box");
        terminal.send("stty size\n");
        terminal.expect("24 80");
        terminal.resize(132, 43);
        terminal.send("until stty size | grep -q '43 132'; do :; done; echo resized''-to-fit\n");
        terminal.expect("resized-to-fit");
        terminal.send("exit 7\n");
        assert_eq!(terminal.wait(), 7, "{program}");
    }
    assert_eq!(engine.ok(&["ps", "-aq"]), "");
}

/// `docker run -d …`, `docker inspect`: an IP address and ports.
#[test]
fn a_daemon_with_an_address_and_ports() {
    let engine = Engine::start();
    engine.import_busybox();
    let script = "mkdir /www; echo served >/www/index.html; exec httpd -f -p 80 -h /www";
    let id = engine.ok(&["run", "-d", "-p", "8080:80", "--name", "web", "busybox", "sh", "-c", script]);
    assert_eq!(id.len(), 64);
    let web = engine.inspect("web");
    let settings = &web["NetworkSettings"];
    let address = settings["IPAddress"].as_str().expect("an address").to_owned();
    assert_eq!(settings["Networks"]["bridge"]["IPAddress"], address.as_str());
    assert_eq!(settings["Ports"]["80/tcp"][0]["HostPort"], "8080");
    assert_eq!(engine.ok(&["port", "web", "80/tcp"]).lines().next(), Some("0.0.0.0:8080"));
    // The server needs a moment to listen; wget in a container retries, bounded, over the bridge.
    let fetch = |url: &str| format!("for i in $(seq 100); do wget -q -O - {url} && exit; usleep 50000; done; exit 1");
    assert_eq!(engine.ok(&["run", "--rm", "busybox", "sh", "-c", &fetch(&format!("http://{address}/"))]), "served");
    for place in ["127.0.0.1:8080", &format!("{address}:80")] {
        let output = engine.inside("busybox").args(["wget", "-q", "-O", "-", &format!("http://{place}/")]).output();
        assert_eq!(output.expect("wget").stdout, b"served\n", "{place}");
    }
    engine.ok(&["rm", "-f", "web"]);
    assert_eq!(engine.leftovers(), Vec::<String>::new());
}

/// `docker pull`, `docker commit`, `docker push`; what was pulled is pushed back with the same digest.
#[test]
fn images_travel() {
    let engine = Engine::start();
    let _registry = engine.registry();
    engine.import_busybox();
    engine.ok(&["run", "--name", "changed", "busybox", "sh", "-c", "echo mine >/mine; rm /etc/group"]);
    assert_eq!(engine.ok(&["diff", "changed"]), "C /etc\nD /etc/group\nA /mine");
    let change = ["commit", "--author", "Dave", "--message", "my file", "--change", "CMD [\"cat\", \"/mine\"]"];
    engine.ok(&[&change[..], &["changed", "localhost:5000/dave/mine:1"]].concat());
    let pushed = engine.ok(&["push", "-q", "localhost:5000/dave/mine:1"]);
    assert_eq!(pushed, "localhost:5000/dave/mine:1");
    engine.ok(&["rm", "changed"]);
    engine.ok(&["rmi", "localhost:5000/dave/mine:1"]);

    let pulled = engine.ok(&["pull", "localhost:5000/dave/mine:1"]);
    let digest = pulled.lines().find_map(|l| l.strip_prefix("Digest: ")).expect("a digest").to_owned();
    assert_eq!(engine.ok(&["run", "--rm", "localhost:5000/dave/mine:1"]), "mine");
    let image = engine.inspect("localhost:5000/dave/mine:1");
    assert_eq!((&image["Author"], &image["Comment"]), (&"Dave".into(), &"my file".into()));

    engine.ok(&["tag", "localhost:5000/dave/mine:1", "localhost:5000/oscar/theirs:2"]);
    let push = engine.ok(&["push", "localhost:5000/oscar/theirs:2"]);
    assert!(push.contains(&format!("2: digest: {digest} size: ")), "{push}");
}
