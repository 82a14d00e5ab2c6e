//! `docker cp`: archives of a path to and from a container, shaped so that the copy gets the name that the user means.
//!
//! The rules are those of `cp -a`: into a directory that exists, else under the name of the destination. A source that ends in `/.` means
//! what is inside it.

mod extract;
mod pack;

use crate::client::{Body, Client, Query, encode};
use crate::error::{Error, reason};
use crate::format::human;
use crate::options::volume;
use crate::{Invocation, terminal};
use api::container::PathStat;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::Method;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Pieces of an archive that wait for the other side.
const AHEAD: usize = 8;

/// Go's bits of `os.FileMode`.
const MODE_DIR: u32 = 1 << 31;
const MODE_SYMLINK: u32 = 1 << 27;
/// Devices, pipes, sockets and what Go calls irregular.
const MODE_SPECIAL: u32 = (1 << 26) | (1 << 25) | (1 << 24) | (1 << 21) | (1 << 19);

/// A side of the copy.
#[derive(Debug, Clone)]
struct Side {
    path: String,
    exists: bool,
    directory: bool,
}

/// How the entries of an archive are renamed: the first part of their names.
#[derive(Debug, Clone, PartialEq)]
struct Rename {
    from: String,
    to: String,
}

impl Rename {
    /// An entry's new name.
    fn apply(&self, name: &str) -> String {
        // The root directory is archived without a name of its own.
        let from = if self.from == "/" { "" } else { self.from.as_str() };
        name.replacen(from, &self.to, 1)
    }
}

/// `docker cp`.
pub(crate) async fn cp(call: Invocation) -> Result<u8, Error> {
    let (source, target) = (split(&call.words[0]), split(&call.words[1]));
    let quiet = if call.values.is_set("quiet") { call.values.on("quiet") } else { !terminal::output_is_terminal() };
    let copied = match (source, target) {
        ((Some(_), _), (Some(_), _)) => return Err(Error::plain("copying between containers is not supported")),
        ((None, _), (None, _)) => return Err(Error::plain("must specify at least one container source")),
        ((Some(container), path), (None, target)) => from_container(&call, container, path, target).await?,
        ((None, source), (Some(container), path)) => to_container(&call, container, source, path).await?,
    };
    if let Some((bytes, place)) = copied.filter(|_| !quiet) {
        terminal::print_error(&format!(
            "Successfully copied {} to {place}\n",
            human::size(i64::try_from(bytes).unwrap_or(i64::MAX))
        ));
    }
    Ok(0)
}

/// `CONTAINER:PATH` or a path here. A path that begins with `/` or `.` is never a container's name.
fn split(word: &str) -> (Option<&str>, &str) {
    match word.split_once(':') {
        Some((container, path)) if !word.starts_with('/') && !container.starts_with('.') => (Some(container), path),
        _ => (None, word),
    }
}

/// Directory and last part of a path, after cleaning; a final `/.` counts as a part.
pub(super) fn split_path(path: &str) -> (String, String) {
    let clean = volume::clean(path);
    if ends_in_dot(path) {
        return (clean, ".".into());
    }
    match clean.rsplit_once('/') {
        Some(("", "")) | None => ("/".into(), "/".into()),
        Some(("", name)) => ("/".into(), name.to_owned()),
        Some((directory, name)) => (directory.to_owned(), name.to_owned()),
    }
}

fn ends_in_dot(path: &str) -> bool {
    matches!(path, "" | ".") || path.ends_with("/.")
}

fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || ends_in_dot(path)
}

/// A path here made absolute, with what it says at its end kept.
fn absolute(path: &str) -> String {
    let mut full = volume::absolute(path);
    if ends_in_dot(path) {
        full.push_str(if full == "/" { "." } else { "/." });
    } else if path.ends_with('/') && full != "/" {
        full.push('/');
    }
    full
}

/// Where an archive of `source` is extracted so that it becomes `target`, and how its entries are renamed for that.
fn arrange(source: &Side, target: &Side) -> Result<(String, Option<Rename>), Error> {
    let (directory, name) = split_path(&target.path);
    let (_, from) = split_path(&source.path);
    let renamed = Some(Rename { from, to: name });
    match () {
        () if target.exists && target.directory => Ok((target.path.clone(), None)),
        () if target.exists && source.directory => Err(Error::plain("cannot copy directory")),
        () if target.exists || source.directory => Ok((directory, renamed)),
        () if asserts_directory(&target.path) => Err(Error::plain("no such directory")),
        () => Ok((directory, renamed)),
    }
}

/// What the engine says of a path in a container.
async fn stat(client: &Client, container: &str, path: &str) -> Result<PathStat, Error> {
    let query = Query::new().with("path", path);
    let target = format!("/containers/{}/archive", encode(container));
    let answer = client.send(Method::HEAD, &target, &query, Body::empty, &[]).await?;
    read_stat(answer.header("x-docker-container-path-stat").unwrap_or_default())
}

fn read_stat(header: &str) -> Result<PathStat, Error> {
    let wrong = |why: String| Error::Protocol(format!("unable to decode container path stat header: {why}"));
    let text = STANDARD.decode(header).map_err(|error| wrong(error.to_string()))?;
    api::json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

fn link_target(path: &str, target: &str) -> String {
    if target.starts_with('/') { target.to_owned() } else { volume::clean(&format!("{}/{target}", split_path(path).0)) }
}

type Copied = Option<(u64, String)>;

async fn from_container(call: &Invocation, container: &str, path: &str, target: &str) -> Result<Copied, Error> {
    let client = call.client()?;
    let to_stdout = target == "-";
    let target = if to_stdout { String::new() } else { absolute(target) };
    if !to_stdout {
        let (parent, _) = split_path(&target);
        if !Path::new(&parent).is_dir() {
            return Err(Error::plain(format!(
                "invalid output path: directory {} does not exist",
                crate::format::go::quote(&parent)
            )));
        }
    }
    let (mut path, mut rename) = (path.to_owned(), None);
    if call.values.on("follow-link")
        && let Ok(found) = stat(&client, container, &path).await
        && found.mode & MODE_SYMLINK != 0
    {
        let resolved = link_target(&path, &found.link_target);
        // The copy keeps the name of the link.
        rename = Some(Rename { from: split_path(&resolved).1, to: split_path(&path).1 });
        path = resolved;
    }
    let query = Query::new().with("path", &path);
    let mut answer = client.open(&format!("/containers/{}/archive", encode(container)), &query).await?;
    if to_stdout {
        while let Some(piece) = answer.chunk().await? {
            terminal::print_bytes(&piece);
        }
        return Ok(None);
    }
    let found = read_stat(answer.header("x-docker-container-path-stat").unwrap_or_default())?;
    let named = rename.as_ref().map_or_else(|| path.clone(), |rename: &Rename| format!("/{}", rename.to));
    let source = Side { path: named, exists: true, directory: found.mode & MODE_DIR != 0 };
    let side = local(&target);
    let (directory, second) = arrange(&source, &side)?;
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    let extracting = tokio::task::spawn_blocking(move || {
        let renames: Vec<Rename> = rename.into_iter().chain(second).collect();
        extract::extract(Pieces::new(pieces), Path::new(&directory), &renames)
    });
    let mut bytes = 0;
    while let Some(piece) = answer.chunk().await? {
        bytes += piece.len() as u64;
        // The extraction has failed when it takes no more; its error says why.
        if sender.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(sender);
    extracting
        .await
        .map_err(|error| Error::plain(error.to_string()))?
        .map_err(|error| Error::plain(error.to_string()))?;
    Ok(Some((bytes, target)))
}

/// What a path here is, links followed.
fn local(path: &str) -> Side {
    let found = std::fs::metadata(path);
    let resolved = std::fs::canonicalize(path).ok().filter(|_| !ends_in_dot(path));
    Side {
        path: resolved.map_or_else(|| path.to_owned(), |path| path.to_string_lossy().into_owned()),
        exists: found.is_ok(),
        directory: found.is_ok_and(|found| found.is_dir()),
    }
}

async fn to_container(call: &Invocation, container: &str, source: &str, path: &str) -> Result<Copied, Error> {
    let client = call.client()?;
    let mut target = Side { path: path.to_owned(), exists: false, directory: false };
    let mut found = stat(&client, container, path).await;
    if let Ok(link) = &found
        && link.mode & MODE_SYMLINK != 0
    {
        target.path = link_target(path, &link.link_target);
        found = stat(&client, container, &target.path).await;
    }
    if let Ok(found) = &found {
        if found.mode & MODE_SPECIAL != 0 {
            let kind = if found.mode & (1 << 26) != 0 { "got a device" } else { "got an irregular file" };
            return Err(Error::plain(format!(
                "destination \"{container}:{path}\" must be a directory or a regular file: {kind}"
            )));
        }
        target.exists = true;
        target.directory = found.mode & MODE_DIR != 0;
    }
    let counter = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (directory, body) = if source == "-" {
        if !target.directory {
            return Err(Error::plain(format!("destination \"{container}:{path}\" must be a directory")));
        }
        (target.path.clone(), super::transfer::stdin_body("application/x-tar")?)
    } else {
        let (source, base, rename) = local_source(source, call.values.on("follow-link"))?;
        let (directory, second) = arrange(&source, &target)?;
        let renames: Vec<Rename> = rename.into_iter().chain(second).collect();
        let (sender, pieces) = mpsc::channel(AHEAD);
        let count = std::sync::Arc::clone(&counter);
        std::thread::spawn(move || pack::pack(&base, &renames, &sender, &count));
        (directory, Body::stream(pieces, "application/x-tar"))
    };
    let mut query = Query::new().with("noOverwriteDirNonDir", "true").with("path", &directory);
    if call.values.on("archive") {
        query = query.with("copyUIDGID", "true");
    }
    let target_path = format!("/containers/{}/archive", encode(container));
    client.upload(Method::PUT, &target_path, &query, body, &[]).await?.finish().await?;
    let bytes = counter.load(std::sync::atomic::Ordering::Relaxed);
    Ok(Some((bytes, format!("{container}:{}", target.path))))
}

/// A source here: what it is, what to pack, and how to rename it when a link was followed.
fn local_source(path: &str, follow: bool) -> Result<(Side, pack::Source, Option<Rename>), Error> {
    let full = absolute(path);
    let failed = |error: io::Error| Error::plain(format!("lstat {}: {}", volume::clean(&full), reason(&error)));
    let mut side = Side { path: full.clone(), exists: true, directory: false };
    let mut rename = None;
    // A path that asserts a directory means what the link points at.
    let found = if follow || asserts_directory(&full) {
        let resolved = match std::fs::canonicalize(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Err(Error::plain("not a directory")),
            other => other.map_err(failed)?,
        };
        let (_, name) = split_path(&full);
        if follow && !asserts_directory(&full) {
            let real = resolved.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if real != name {
                rename = Some(Rename { from: real, to: name });
            }
            side.path = full.clone();
            let found = std::fs::metadata(&resolved).map_err(failed)?;
            let base = pack::Source::new(resolved);
            side.directory = found.is_dir();
            return Ok((side, base, rename));
        }
        std::fs::metadata(&full).map_err(failed)?
    } else {
        std::fs::symlink_metadata(&full).map_err(failed)?
    };
    side.directory = found.is_dir();
    let (directory, name) = split_path(&full);
    let base = if name == "." || name == "/" {
        pack::Source { path: PathBuf::from(&directory), name: name.replace('/', "") }
    } else if asserts_directory(&full) {
        pack::Source { path: std::fs::canonicalize(&full).map_err(failed)?, name }
    } else {
        pack::Source { path: PathBuf::from(&directory).join(&name), name }
    };
    Ok((side, base, rename))
}

/// A reader over pieces that arrive on a channel, for a thread.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Pieces {
    fn new(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces, rest: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.rest = piece?,
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(split("c:/a"), (Some("c"), "/a"));
        assert_eq!(split("/a:b"), (None, "/a:b"));
        assert_eq!(split("./a:b"), (None, "./a:b"));
        assert_eq!(split("-"), (None, "-"));
        assert_eq!(split_path("/a/b/"), ("/a".into(), "b".into()));
        assert_eq!(split_path("/a/b/."), ("/a/b".into(), ".".into()));
        assert_eq!(split_path("/"), ("/".into(), "/".into()));
        assert_eq!(split_path("/a"), ("/".into(), "a".into()));
    }

    #[test]
    fn arrangements() {
        let side = |path: &str, exists, directory| Side { path: path.into(), exists, directory };
        let rename = |from: &str, to: &str| Some(Rename { from: from.into(), to: to.into() });
        let file = side("/s/f", true, false);
        let directory = side("/s/d", true, true);
        assert_eq!(arrange(&file, &side("/t", true, true)).unwrap(), ("/t".into(), None));
        assert_eq!(arrange(&file, &side("/t/x", true, false)).unwrap(), ("/t".into(), rename("f", "x")));
        assert_eq!(arrange(&file, &side("/t/x", false, false)).unwrap(), ("/t".into(), rename("f", "x")));
        assert_eq!(arrange(&directory, &side("/t/x", false, false)).unwrap(), ("/t".into(), rename("d", "x")));
        assert_eq!(arrange(&directory, &side("/t/x", true, false)).unwrap_err().to_string(), "cannot copy directory");
        assert_eq!(arrange(&file, &side("/t/x/", false, false)).unwrap_err().to_string(), "no such directory");
        assert_eq!(Rename { from: ".".into(), to: "x".into() }.apply("./a"), "x/a");
        assert_eq!(Rename { from: "/".into(), to: "x/".into() }.apply("a"), "x/a");
    }
}
