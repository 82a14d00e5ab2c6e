//! Images that are made and kept here.

use crate::parity::observe::{Depth, Side};
use serde_json::{Value, json};

const IMPORTED: &str = "parity/imported";

pub(super) fn run(side: &mut Side) {
    imported(side);
    looked_at(side, "imported");
    tagged(side);
    committed(side);
    removed(side);
    unknown(side);
}

fn imported(side: &mut Side) {
    let archive = side.archive.clone();
    let headers = [("Content-Type", "application/x-tar")];
    side.at_the_end("DELETE", &format!("/images/{IMPORTED}:1?force=1"));
    let target = format!(
        "/images/create?fromSrc=-&repo={IMPORTED}&tag=1&message=imported%20here&changes=ENV%20A%3D1&changes=CMD%20sh"
    );
    let answer = side.send("POST", &target, &headers, &archive);
    side.note("import", &answer, Depth::Values);
    let bad = |query: &str| format!("/images/create?fromSrc=-&{query}");
    side.ask_raw("import no archive", "POST", &bad("repo=parity/bad"), &headers, b"this is no archive");
    side.ask_raw("import under a bad name", "POST", &bad("repo=UPPER"), &headers, &archive);
    side.ask_raw("import under a bad tag", "POST", &bad("repo=parity/bad&tag=-"), &headers, &archive);
    side.ask_raw("import with a bad change", "POST", &bad("repo=parity/bad&changes=NONSENSE%20x"), &headers, &archive);
    side.ask_raw("import with a forbidden change", "POST", &bad("repo=parity/bad&changes=RUN%20x"), &headers, &archive);
    side.ask("import from nowhere", "POST", "/images/create");
}

fn looked_at(side: &mut Side, state: &str) {
    side.ask(&format!("inspect: {state}"), "GET", &format!("/images/{IMPORTED}:1/json"));
    side.ask(&format!("history: {state}"), "GET", &format!("/images/{IMPORTED}:1/history"));
    let filters = format!("%7B%22reference%22:%5B%22{IMPORTED}%22%5D%7D");
    side.ask(&format!("list: {state}"), "GET", &format!("/images/json?filters={filters}"));
    side.ask(&format!("list with sizes: {state}"), "GET", &format!("/images/json?shared-size=1&filters={filters}"));
}

fn tagged(side: &mut Side) {
    let tag = |query: &str| format!("/images/{IMPORTED}:1/tag?{query}");
    side.at_the_end("DELETE", "/images/parity/tagged:2?force=1");
    side.ask("tag", "POST", &tag("repo=parity/tagged&tag=2"));
    side.ask("tag again", "POST", &tag("repo=parity/tagged&tag=2"));
    side.ask("tag with a bad name", "POST", &tag("repo=UPPER"));
    side.ask("tag with a bad tag", "POST", &tag("repo=parity/tagged&tag=-bad"));
    side.ask("tag with a tag in the name", "POST", &tag("repo=parity/tagged:2"));
    looked_at(side, "tagged");
}

fn committed(side: &mut Side) {
    let id = side
        .running("parity-commit", &json!({"Image": format!("{IMPORTED}:1"), "Cmd": ["sh", "-c", "echo x > /data/x"]}));
    side.wait(&id);
    side.at_the_end("DELETE", "/images/parity/committed:1?force=1");
    let target = format!(
        "/commit?container={id}&repo=parity/committed&tag=1&author=somebody&comment=a%20word&changes=LABEL%20a%3Db"
    );
    side.ask_with("commit", "POST", &target, &json!({"Env": ["B=2"], "Cmd": ["true"]}));
    side.ask("inspect: committed", "GET", "/images/parity/committed:1/json");
    side.ask("history: committed", "GET", "/images/parity/committed:1/history");
    side.ask("commit under a bad name", "POST", &format!("/commit?container={id}&repo=UPPER"));
    side.ask("commit with a bad change", "POST", &format!("/commit?container={id}&changes=NONSENSE"));
    side.ask_raw(
        "commit with a bad body",
        "POST",
        &format!("/commit?container={id}"),
        &[("Content-Type", "application/json")],
        b"{x",
    );
}

fn removed(side: &mut Side) {
    let id = side.container("parity-keeps", &json!({"Image": "parity/committed:1"}));
    let inspected = side.quietly("GET", "/images/parity/committed:1/json", &Value::Null);
    let image = inspected["Id"].as_str().unwrap_or("missing").to_owned();
    side.ask("remove an image in use", "DELETE", "/images/parity/committed:1");
    side.ask("remove an image in use by its id", "DELETE", &format!("/images/{image}"));
    side.quietly("DELETE", &format!("/containers/{id}"), &Value::Null);
    side.ask("remove", "DELETE", "/images/parity/committed:1");
    side.ask("remove again", "DELETE", "/images/parity/committed:1");
    let inspected = side.quietly("GET", &format!("/images/{IMPORTED}:1/json"), &Value::Null);
    let image = inspected["Id"].as_str().unwrap_or("missing").to_owned();
    side.quietly("DELETE", "/containers/parity-commit?force=1", &Value::Null);
    side.ask("remove by id with two names", "DELETE", &format!("/images/{image}"));
    side.ask("remove one of two names", "DELETE", "/images/parity/tagged:2");
    side.ask("prune what is not there", "POST", "/images/prune?filters=%7B%22label%22:%5B%22parity=nosuch%22%5D%7D");
    side.ask("remove the last name", "DELETE", &format!("/images/{IMPORTED}:1"));
}

fn unknown(side: &mut Side) {
    for (method, what) in
        [("GET", "/json"), ("GET", "/history"), ("POST", "/tag?repo=a"), ("DELETE", ""), ("GET", "/get")]
    {
        side.ask(&format!("no such image: {method} {what}"), method, &format!("/images/parity/nosuch:1{what}"));
        side.ask(&format!("bad reference: {method} {what}"), method, &format!("/images/%21%21{what}"));
        side.ask(&format!("no such id: {method} {what}"), method, &format!("/images/sha256:{}{what}", "0".repeat(64)));
    }
}
