//! Living beside `iptables-legacy`, whose table is made and set to drop through its own socket options.

mod lan;

use lan::{HOST, INTERNET, World, tcp};
use sys::xtables::XtablesSocket;

const FORWARD: usize = 2;
/// Offset of the verdict in an entry with the standard target.
const VERDICT: usize = 112 + 32;
const DROP: i32 = -1;

#[test]
fn a_legacy_forward_policy_of_drop() {
    let world = World::new();
    let socket = world.host.run(|| XtablesSocket::open().unwrap());
    // Reading makes the table.
    let mut table = socket.read("filter").unwrap();
    let policy = table.underflow[FORWARD] as usize + VERDICT;
    table.entries[policy..policy + 4].copy_from_slice(&DROP.to_ne_bytes());
    socket.replace("filter", &table, table.num_entries, &vec![[0; 16]; table.num_entries as usize]).unwrap();
    let before = socket.read("filter").unwrap();

    let net = world.open("legacy");
    let container = world.start(&net, &[tcp(80, "8080")]);
    assert_eq!(socket.read("filter").unwrap().num_entries, before.num_entries + 2);
    let served = world.internet.serve_tcp(443);
    container.place.talk_tcp((INTERNET, 443));
    served.join().unwrap();
    let served = container.place.serve_tcp(80);
    world.internet.talk_tcp((HOST, 8080));
    served.join().unwrap();

    drop(net);
    let net = world.open("legacy");
    assert_eq!(socket.read("filter").unwrap().num_entries, before.num_entries + 2, "not twice");
    world.host.run(|| net.detach(&container.attachment.endpoint.id)).unwrap();
    world.host.run(|| net.shutdown()).unwrap();
    let after = socket.read("filter").unwrap();
    assert_eq!((after.hook_entry, after.underflow), (before.hook_entry, before.underflow));
    assert_eq!(after.entries.len(), before.entries.len());
}

#[test]
fn no_legacy_table_is_made_where_there_is_none() {
    let world = World::new();
    let net = world.open("none");
    let names = world.host.run(|| std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default());
    assert!(!names.contains("filter"));
    world.host.run(|| net.shutdown()).unwrap();
}
