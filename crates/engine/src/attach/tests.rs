use super::*;

fn filter(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
    let mut filter = Filter::new(DetachKeys::parse("ctrl-p,ctrl-q").unwrap());
    let mut kept = Vec::new();
    for piece in pieces {
        let (bytes, detached) = filter.pass(&Bytes::copy_from_slice(piece));
        kept.extend_from_slice(&bytes);
        if detached {
            return (kept, true);
        }
    }
    (kept, false)
}

#[test]
fn keys_by_name() {
    assert_eq!(DetachKeys::parse("").unwrap().0, [16, 17]);
    assert_eq!(DetachKeys::parse("ctrl-a,x,Ctrl-[,DEL").unwrap().0, [1, b'x', 27, 127]);
    let error = DetachKeys::parse("ctrl-a,ctrl-!").unwrap_err();
    assert_eq!(error.message(), "Invalid detach keys (ctrl-a,ctrl-!) provided");
}

#[test]
fn the_sequence_is_held_back_until_it_is_known() {
    assert_eq!(filter(&[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
    assert_eq!(filter(&[b"ab\x10", b"\x11"]), (b"ab".to_vec(), true));
    assert_eq!(filter(&[b"ab\x10", b"x\x11"]), (b"ab\x10x\x11".to_vec(), false));
    assert_eq!(filter(&[b"\x11\x10"]), (b"\x11".to_vec(), false));
}

/// A shim's end of a session: answers an attach request and then carries bytes.
fn pair(tty: bool, stdin: bool) -> (AttachSession, StdStream) {
    let (ours, theirs) = StdStream::pair().unwrap();
    (AttachSession::from_connection(ours, b"early ".to_vec(), tty, stdin).unwrap(), theirs)
}

async fn text(output: Output) -> String {
    let pieces: Vec<_> = output.map(|piece| piece.unwrap()).collect().await;
    String::from_utf8(pieces.concat()).unwrap()
}

#[tokio::test]
async fn bytes_go_both_ways_and_input_ends_alone() {
    let (mut session, shim) = pair(false, true);
    let shim = std::thread::spawn(move || {
        let (mut shim, mut got) = (shim, String::new());
        io::Read::read_to_string(&mut shim, &mut got).unwrap();
        io::Write::write_all(&mut shim, format!("got {got}").as_bytes()).unwrap();
    });
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from("some")).await.unwrap();
    stdin.send(Bytes::from("thing")).await.unwrap();
    stdin.close().await.unwrap();
    drop(stdin);
    assert_eq!(text(session.output).await, "early got something");
    shim.join().unwrap();
}

#[tokio::test]
async fn keys_leave_a_terminal() {
    let (session, shim) = pair(true, true);
    let (told, hears) = std::sync::mpsc::channel();
    let mut session = session.detachable(DetachKeys::parse("").unwrap(), move || told.send(()).unwrap());
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from("l\x10")).await.unwrap();
    assert!(hears.try_recv().is_err());
    stdin.send(Bytes::from("\x11")).await.unwrap();
    hears.try_recv().unwrap();
    assert!(text(session.output).await.len() <= "early ".len());
    drop(stdin);
    let mut got = String::new();
    io::Read::read_to_string(&mut &shim, &mut got).unwrap();
    assert_eq!(got, "l");
}

#[tokio::test]
async fn who_waits_is_connected_or_let_go() {
    let waiting = Waiting::default();
    let receiver = waiting.add("c", Attach::default()).unwrap();
    waiting.give_up("c");
    assert!(receiver.await.is_err());

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("shim.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let shim = std::thread::spawn(move || {
        use std::io::{BufRead as _, Write as _};
        let (stream, _) = listener.accept().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(&stream).read_line(&mut line).unwrap();
        (&stream).write_all(b"\"done\"\nhello").unwrap();
        line
    });
    let receiver = waiting.add("c", Attach { stdout: true, ..Attach::default() }).unwrap();
    let waiting = std::sync::Arc::new(waiting);
    tokio::task::spawn_blocking(move || waiting.connect("c", &socket)).await.unwrap();
    let later = async move { Ok(receiver.await.ok()) };
    let session = AttachSession::later(later, false, true);
    assert_eq!(text(session.output).await, "hello");
    assert!(shim.join().unwrap().contains("\"stdout\":true"));
}
