//! Files in and out of containers: `cp` (archives of a path), `export`, `diff`.
//!
//! ```text
//!  container ──▶ view: a directory descriptor that is its root
//!                  running: /proc/PID/root, so everything that is mounted inside is seen
//!                  stopped: its overlay, mounted for this alone, with its binds and volumes
//!       blocking thread ──[bounded channel]──▶ stream of bytes         (get, export)
//!       stream of bytes ──[bounded channel]──▶ blocking thread         (put)
//! ```
//!
//! Whoever reads slowly slows the thread down; whoever goes away ends it.

pub(crate) mod flow;
mod view;

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use api::container::{Change, PathStat};
use bytes::Bytes;
use futures_util::Stream;
use store::archive::{self, ExtractOptions};

pub use self::flow::ByteStream;
use self::view::View;
use crate::container::record::Record;
use crate::container::root::open_inside;
use crate::container::transitions::Status;
use crate::container::user;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};

/// Largest /etc/passwd or /etc/group that is read, in bytes.
const MAX_FILE: u64 = 8 << 20;

/// How an archive is unpacked into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ArchivePutOptions {
    /// Fail rather than replace a directory by something else, or the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Give everything to the user that the container runs as.
    pub copy_uid_gid: bool,
}

impl Engine {
    /// What is at a path of a container; the last component is not followed.
    pub async fn archive_stat(&self, name: &str, path: &str) -> Result<PathStat> {
        let (container, wanted, asked) = (self.container(name)?, path.to_owned(), name.to_owned());
        let (store, share) = (self.store.clone(), container.share_root().await);
        self.blocking(move || {
            View::of(&store, &container, share)?.with(move |root| {
                archive::stat(root, &wanted).map(api_stat).map_err(|error| explain(error, &wanted, &asked))
            })
        })
        .await
    }

    /// An archive of what is at a path, with everything below it.
    pub async fn archive_get(&self, name: &str, path: &str) -> Result<(PathStat, ByteStream)> {
        let (container, wanted, asked) = (self.container(name)?, path.to_owned(), name.to_owned());
        let record = container.record();
        let (store, share) = (self.store.clone(), container.share_root().await);
        let (known, answer) = tokio::sync::oneshot::channel();
        let (mut writer, stream) = flow::outwards();
        tokio::task::spawn_blocking(move || {
            let opened = View::of(&store, &container, share);
            let mut known = Some(known);
            let packed = opened.and_then(|view| {
                view.with(|root| {
                    let stat = archive::stat(root, &archive::lexical(&wanted))
                        .map_err(|error| explain(error, &wanted, &asked));
                    let is_known = stat.is_ok();
                    // From here on an error can only cut the stream off.
                    if known.take().is_some_and(|known| known.send(stat.map(api_stat)).is_ok())
                        && is_known
                        && let Err(error) = archive::pack(root, &wanted, &mut writer)
                    {
                        writer.fail(&error);
                    }
                    Ok(())
                })
            });
            if let (Err(error), Some(known)) = (packed, known) {
                // The root could not be opened at all. Nobody may be there to hear it.
                let _ = known.send(Err(error));
            }
        });
        let stat = answer.await.map_err(|_| Error::system(format!("cannot open the root of container {name}")))??;
        self.container_event(&record, "archive-path", &[]);
        Ok((stat, stream))
    }

    /// Unpacks an archive into a directory of a container.
    pub async fn archive_put(
        &self,
        name: &str,
        path: &str,
        options: ArchivePutOptions,
        body: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
    ) -> Result<()> {
        let (container, wanted, asked) = (self.container(name)?, path.to_owned(), name.to_owned());
        let record = container.record();
        let (store, share) = (self.store.clone(), container.share_root().await);
        let (reader, feeding) = flow::inwards(body);
        let unpacked = self.blocking(move || {
            let record = container.record();
            View::of(&store, &container, share)?.with(move |root| {
                let target = archive::open_target(root, &wanted).map_err(|error| explain(error, &wanted, &asked))?;
                check_writable(&record, &target.path)?;
                let owner = if options.copy_uid_gid { owner(&record, root)? } else { None };
                let options = ExtractOptions { no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir, owner };
                archive::extract(target, reader, options).map_err(|error| explain(error, &wanted, &asked))
            })
        });
        let (unpacked, ()) = tokio::join!(unpacked, feeding);
        // Docker says so even if it failed.
        self.container_event(&record, "extract-to-dir", &[]);
        unpacked
    }

    /// A tar of a container's whole root file system, without what is mounted in it.
    pub async fn container_export(&self, name: &str) -> Result<ByteStream> {
        let container = self.container(name)?;
        let record = container.record();
        match record.state.status {
            Status::Dead => {
                return Err(Error::conflict(format!("You cannot export container {} which is Dead", record.id)));
            }
            Status::Removing => {
                return Err(Error::conflict(format!(
                    "You cannot export container {} which is being removed",
                    record.id
                )));
            }
            _ => {}
        }
        let (store, share) = (self.store.clone(), container.share_root().await);
        let opened = container.clone();
        let root = self.blocking(move || View::bare(&store, &opened, share)).await?;
        let (mut writer, stream) = flow::outwards();
        tokio::task::spawn_blocking(move || {
            let packed = archive::export(root.as_fd(), &mut writer);
            if let Err(error) = packed {
                writer.fail(&error);
            }
        });
        self.container_event(&record, "export", &[]);
        Ok(stream)
    }

    /// What a container changed since it was created.
    pub async fn container_changes(&self, name: &str) -> Result<Vec<Change>> {
        let container = self.container(name)?;
        let store = self.store.clone();
        self.blocking(move || {
            let changes = store.snapshot_changes(container.id())?;
            let api = |change: store::PathChange| Change {
                path: change.path.to_string_lossy().into_owned(),
                kind: change.kind as u8,
            };
            Ok(changes.into_iter().map(api).collect())
        })
        .await
    }
}

fn api_stat(stat: archive::PathStat) -> PathStat {
    let time = jiff::Timestamp::new(stat.mtime.0, i32::try_from(stat.mtime.1).unwrap_or_default());
    PathStat {
        name: stat.name,
        size: i64::try_from(stat.size).unwrap_or(i64::MAX),
        mode: PathStat::go_mode(stat.mode),
        mtime: time.map(|time| time.to_string()).unwrap_or_default(),
        link_target: stat.link_target,
    }
}

/// Docker's words: only a missing file is the caller's fault, everything else is an error of the system.
fn explain(error: store::Error, path: &str, container: &str) -> Error {
    let is_missing = matches!(error, store::Error::NoSuchPath(_))
        || matches!(&error, store::Error::Entry { source, .. } if source.kind() == io::ErrorKind::NotFound);
    if is_missing {
        return Error::not_found(format!("Could not find the file {path} in container {container}"));
    }
    Error::from(error).with_kind(Kind::System)
}

/// A volume may be read-only, and so may be what is not in a volume.
fn check_writable(record: &Record, path: &Path) -> Result<()> {
    let inside = record.mounts.iter().filter(|mount| path.starts_with(&mount.destination));
    match inside.max_by_key(|mount| mount.destination.len()) {
        Some(mount) if !mount.rw => Err(Error::system("mounted volume is marked read-only")),
        Some(_) => Ok(()),
        None if record.host_config.readonly_rootfs => Err(Error::system("container rootfs is marked read-only")),
        None => Ok(()),
    }
}

/// The user that the container runs as, from its own files; None if none was given.
fn owner(record: &Record, root: std::os::fd::BorrowedFd<'_>) -> Result<Option<(u32, u32)>> {
    use std::io::Read;
    if record.config.user.is_empty() {
        return Ok(None);
    }
    let read = |path: &str| {
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK;
        let mut text = Vec::new();
        if let Ok(file) = open_inside(root, path, flags) {
            // A file that cannot be read knows no names.
            let _ = std::fs::File::from(file).take(MAX_FILE).read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    };
    let user = user::resolve(&record.config.user, &read("/etc/passwd"), &read("/etc/group"))?;
    Ok(Some((user.uid, user.gid)))
}
