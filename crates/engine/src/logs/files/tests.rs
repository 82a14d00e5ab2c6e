use super::*;
use std::io::Write;

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn append(&self, text: &str) {
        let mut file = File::options().append(true).create(true).open(self.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// `log.1` becomes `log.2`, `log` becomes `log.1`.
    fn rotate(&self) {
        let name = |number: u32| self.directory.path().join(format!("log.{number}"));
        let _ = std::fs::rename(name(1), name(2));
        std::fs::rename(self.path(), name(1)).unwrap();
    }

    fn open(&self, tail: Option<u64>, follow: bool) -> Files {
        Files::open(&self.path(), tail, follow).unwrap()
    }
}

fn read(files: &mut Files) -> String {
    let mut lines = Vec::new();
    while files.lines(|line| lines.push(String::from_utf8(line.to_vec()).unwrap())).unwrap() {}
    files.rest();
    lines.join(" ")
}

#[test]
fn a_log_that_does_not_exist_is_empty() {
    assert_eq!(read(&mut Scratch::new().open(Some(5), false)), "");
}

#[test]
fn the_oldest_file_comes_first() {
    let scratch = Scratch::new();
    for text in ["a\nb\n", "c\nd\n", "e\nf\nunfinished"] {
        scratch.append(text);
        if !text.starts_with('e') {
            scratch.rotate();
        }
    }
    assert_eq!(read(&mut scratch.open(None, false)), "a b c d e f");
    for (tail, expected) in
        [(0, ""), (1, "f"), (2, "e f"), (3, "d e f"), (5, "b c d e f"), (6, "a b c d e f"), (99, "a b c d e f")]
    {
        assert_eq!(read(&mut scratch.open(Some(tail), false)), expected, "tail {tail}");
    }
}

#[test]
fn what_is_written_later_is_read_by_followers_alone() {
    let scratch = Scratch::new();
    scratch.append("a\nb");
    let (mut once, mut follower) = (scratch.open(None, false), scratch.open(None, true));
    assert_eq!(read(&mut follower), "a");
    scratch.append("c\nd\n");
    assert_eq!(read(&mut once), "a");
    assert_eq!(read(&mut follower), "bc d");
    assert_eq!(read(&mut follower), "");
}

#[test]
fn followers_go_along_with_rotation() {
    let scratch = Scratch::new();
    scratch.append("a\n");
    let mut follower = scratch.open(Some(0), true);
    assert_eq!(read(&mut follower), "");
    scratch.append("b\n");
    scratch.rotate();
    assert_eq!(read(&mut follower), "b");
    scratch.append("c\n");
    scratch.rotate();
    scratch.append("d\n");
    assert_eq!(read(&mut follower), "c d");
    // Emptied instead of renamed.
    File::create(scratch.path()).unwrap();
    assert_eq!(read(&mut follower), "");
    scratch.append("e\n");
    assert_eq!(read(&mut follower), "e");
}

#[test]
fn a_follower_may_be_there_before_the_log() {
    let scratch = Scratch::new();
    let mut follower = scratch.open(None, true);
    assert_eq!(read(&mut follower), "");
    scratch.append("a\n");
    assert_eq!(read(&mut follower), "a");
}

#[test]
fn long_lines_and_long_files() {
    let scratch = Scratch::new();
    let line = "x".repeat(100_000);
    for number in 0..30 {
        scratch.append(&format!("{number}{line}\n"));
    }
    scratch.append(&("y".repeat(3 * MAX_LINE) + "\nend\n"));
    let text = read(&mut scratch.open(None, false));
    let numbers: Vec<_> = text.split(' ').map(|l| l.trim_end_matches('x').to_owned()).collect();
    let expected: Vec<_> = (0..30).map(|n| n.to_string()).chain(["end".to_owned()]).collect();
    assert_eq!(numbers, expected, "what is too long to be a line is left out");
    let tail = read(&mut scratch.open(Some(3), false));
    assert!(tail.starts_with("29x") && tail.ends_with(" end"));
}
