//! A root file system small enough to import within milliseconds: busybox and links to it, as a tar archive.

use std::path::PathBuf;

/// Commands that the scenarios call.
const COMMANDS: &[&str] =
    &["sh", "sleep", "echo", "cat", "true", "false", "ls", "touch", "mkdir", "rm", "kill", "tty", "head", "id", "env"];

/// The archive.
pub(crate) fn archive() -> Result<Vec<u8>, String> {
    let busybox = program()?;
    let mut archive = Vec::new();
    for folder in ["bin/", "etc/", "tmp/", "data/"] {
        entry(&mut archive, folder, b'5', "", &[]);
    }
    entry(&mut archive, "bin/busybox", b'0', "", &busybox);
    for command in COMMANDS {
        entry(&mut archive, &format!("bin/{command}"), b'2', "busybox", &[]);
    }
    entry(&mut archive, "etc/passwd", b'0', "", b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n");
    entry(&mut archive, "etc/group", b'0', "", b"root:x:0:\nuser:x:1000:\n");
    entry(&mut archive, "data/file", b'0', "", b"a file\n");
    archive.resize(archive.len() + 1024, 0);
    Ok(archive)
}

/// The archive with one more file in it, which makes it a layer that no registry has seen.
pub(crate) fn with_file(archive: &[u8], name: &str, content: &str) -> Vec<u8> {
    let mut all = Vec::with_capacity(archive.len() + 1024);
    entry(&mut all, name, b'0', "", content.as_bytes());
    all.extend_from_slice(archive);
    all
}

/// A static busybox of this machine.
fn program() -> Result<Vec<u8>, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([PathBuf::from("/bin")]).map(|folder| folder.join("busybox"));
    let found = places.find(|place| place.is_file()).ok_or("busybox is not on PATH")?;
    std::fs::read(&found).map_err(|error| format!("{}: {error}", found.display()))
}

/// One entry in the ustar format. The time is fixed, so that both engines compute the same layer.
fn entry(archive: &mut Vec<u8>, name: &str, kind: u8, link: &str, content: &[u8]) {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000755\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", content.len()));
    put(136, "14717260000\0");
    put(157, link);
    put(257, "ustar\x0000");
    header[148..156].fill(b' ');
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend_from_slice(&header);
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}
